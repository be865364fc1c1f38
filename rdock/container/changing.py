"""Changing a container that exists: its name, its labels, its restart policy."""

from __future__ import annotations

import os

from rdock import paths
from rdock.container import containers, events
from rdock.container.containers import Container
from rdock.errors import InvalidParameter, NoSuchContainer, RdockError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def rename(container: Container, name: str) -> Container:
    """Give a container another name. Raises InvalidParameter and Conflict in Docker's words."""
    if not name:
        raise InvalidParameter("Neither old nor new names may be empty")
    containers.check_name(name)
    with containers.names_lock() as lock:
        container = containers.load(container.id)
        if name == container.name:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        # Killed from here on it has two names, and never none, until the next command finds this note.
        os.pwrite(lock.fd, container.id.encode(), 0)
        try:
            containers.link_name(name, container.id)
            try:
                renamed = containers.rewrite(container.id, name=name)
            except BaseException:
                containers.unlink_name(name, container.id)
                raise
            containers.unlink_name(container.name, container.id)
        finally:
            os.ftruncate(lock.fd, 0)
    events.note(renamed, "rename", oldName=f"/{container.name}")
    return renamed


def finish_rename() -> None:
    """Bring a rename that was killed to its end: the name on record is the one that stays. Never fails."""
    lock = containers.names_lock()
    try:
        if not os.path.getsize(lock.path) or not lock.acquire(wait=False):
            return
        container = containers.load(os.pread(lock.fd, containers.ID_LENGTH, 0).decode())
        for name in os.listdir(paths.names()):
            if name != container.name:
                containers.unlink_name(name, container.id)
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
    with containers.names_lock():  # of two updates at once the second is to know the first
        container = containers.load(container.id)
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
