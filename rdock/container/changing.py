"""Changing a container that exists: its name, its labels, its restart policy."""

from __future__ import annotations

import os

from rdock import paths
from rdock.container import containers, events
from rdock.container.containers import Container
from rdock.errors import InvalidParameter, NoSuchContainer, RdockError
from rdock.launch import debug
from rdock.scope import scope
from rdock.state import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any


def rename(container: Container, name: str) -> Container:
    """Give a container another name. Raises InvalidParameter and Conflict in Docker's words."""
    if not name:
        raise InvalidParameter("Neither old nor new names may be empty")
    containers.check_name(name)
    with _changing(container.id) as container:
        if name == container.name:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        containers.link_name(name, container.id)
        try:
            renamed = containers.rewrite(container.id, name=name)
        except BaseException:
            containers.unlink_name(name, container.id)
            raise
        containers.unlink_name(container.name, container.id)
    if renamed.networks:
        _rename_endpoints(renamed)
    events.note(renamed, "rename", oldName=f"/{container.name}")
    return renamed


def _rename_endpoints(container: Container) -> None:
    """Have others find a container that runs under its new name. Never fails: the next start does it too."""
    from rdock.network import leases, networks

    try:
        with networks.locked():
            for name in container.networks:
                network = networks.find(name)
                if network is not None:
                    leases.rename(network.id, container.id, container.name)
    except RdockError as e:
        debug(f"rename: {e.message}")


@scope
def _changing(container_id: str) -> Iterator[Container]:
    """The container as it is now, which nobody else changes meanwhile. Whoever is killed at it leaves a note of it."""
    with containers.names_lock() as lock:
        container = containers.load(container_id)
        # From here on it may have two names, and a half-written record beside its own, until `finish` finds this.
        os.pwrite(lock.fd, container_id.encode(), 0)
        try:
            yield container
        finally:
            os.ftruncate(lock.fd, 0)


def set_networks(container: Container, added: dict[str, Any], removed: Iterable[str]) -> None:
    """Note that a container is on more networks, or on fewer, with Docker's EndpointSettings of the new ones."""
    with _changing(container.id) as container:
        kept = {name: settings for name, settings in container.networks.items() if name not in removed}
        containers.rewrite(container.id, networks={**kept, **added})


def drop_link(container: Container, alias: str) -> None:
    """Note that a container is not linked to another under this alias any more."""
    with _changing(container.id) as container:
        kept = [link for link in container.host_config.links if link.partition(":")[2] != alias]
        containers.rewrite(container.id, host_config=container.host_config._replace(links=kept))


def finish() -> None:
    """Bring a change that was killed to its end: the name on record is the one that stays. Never fails."""
    lock = containers.names_lock()
    try:
        if not os.path.getsize(lock.path) or not lock.acquire(wait=False):
            return
        container = containers.load(os.pread(lock.fd, containers.ID_LENGTH, 0).decode())
        for name in os.listdir(paths.names()):
            if name != container.name:
                containers.unlink_name(name, container.id)
        record.sweep(container.directory)
        os.ftruncate(lock.fd, 0)
    except NoSuchContainer:
        os.ftruncate(lock.fd, 0)  # it was removed, and its other name can be taken
    except (OSError, RdockError):
        pass  # its record cannot be read
    finally:
        lock.release()


def update(container: Container, labels: dict[str, str], restart_policy: dict[str, Any] | None) -> None:
    """Give a container more labels, or others of the same names, and another restart policy, if there is one.

    A monitor that is at work goes by what is on record when the container ends. Raises InvalidParameter.
    """
    with _changing(container.id) as container:  # of two updates at once the second is to know the first
        fields: dict[str, Any] = {}
        if labels:
            fields["config"] = container.config._replace(labels={**container.config.labels, **labels})
        if restart_policy is not None:
            if container.host_config.auto_remove and restart_policy["Name"] != "no":
                raise InvalidParameter(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container"
                )
            fields["host_config"] = container.host_config._replace(restart_policy=restart_policy)
        changed = containers.rewrite(container.id, **fields) if fields else None
    if changed is not None:
        events.note(changed, "update")
