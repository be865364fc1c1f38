"""network connect, network disconnect: a container's networks change, whether it runs or not."""

from __future__ import annotations

import os

from rdock import paths
from rdock.container import changing, containers, control, lifecycle
from rdock.container.containers import Container
from rdock.errors import Forbidden, InvalidParameter, system_failure
from rdock.network import modes, networks, wanted
from rdock.network.networks import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def connect(container: Container, network: Network, settings: dict[str, Any]) -> None:
    """Put a container on a network, at once if it runs; `settings` are Docker's EndpointSettings.

    Raises InvalidParameter, Forbidden and Conflict in Docker's words, and SystemFailure; then nothing has changed.
    """
    _check(container, network)
    wanted.check(network, settings)
    if network.name in container.networks:
        raise Forbidden(f"endpoint with name {container.name} already exists in network {network.name}")
    _change(
        container,
        lambda: control.connect(container, network.name, settings),
        lambda: changing.set_networks(container, {network.name: settings}, ()),
    )
    networks.note(network, "connect", container=container.id)


def disconnect(container: Container, network: Network, *, force: bool = False) -> None:
    """Take a container off a network. Raises InvalidParameter and Forbidden in Docker's words, and SystemFailure."""
    if network.driver == "host":
        raise Forbidden("container cannot be disconnected from host network - container must be created in host mode")
    if network.name not in container.networks:
        if force:
            return
        raise InvalidParameter(f"container {container.id} is not connected to network {network.name}")
    _change(
        container,
        lambda: control.disconnect(container, network.name),
        lambda: changing.set_networks(container, {}, (network.name,)),
    )
    networks.note(network, "disconnect", container=container.id)


def _change(container: Container, ask: Callable[[], None], note: Callable[[], None]) -> None:
    """Have the monitor of a container that runs do it, or note it for the next start of one that does not.

    One that is just being started, or is coming to its end, is awaited.
    """
    try:
        os.makedirs(paths.container_locks(), mode=0o700, exist_ok=True)
        lock = containers.run_lock(container.id)
        patience = lifecycle.PATIENCE
        while True:
            state = container.state()
            if state.is_running:
                ask()
                return
            if lock.acquire(wait=False):
                break
            if state.monitor_pid and not state.is_attended and patience <= 0:
                raise lifecycle.in_use_elsewhere(container, "change")
            patience -= lifecycle.await_step(state, container.id)
    except OSError as e:
        raise system_failure(f"cannot change container {container.name}", e) from e
    try:
        note()
    finally:
        lock.remove()


def _check(container: Container, network: Network) -> None:
    mode = container.host_config.network_mode
    if network.driver == "host":
        raise Forbidden(
            "container cannot be connected to host network - container must be created in host network mode"
        )
    if network.driver == "null" or mode == "none":
        raise Forbidden(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )
    if mode == "host" or mode.startswith("container:"):
        raise Forbidden(
            "container sharing network namespace with another container or host cannot be connected to any other "
            "network"
        )
    if modes.kind(mode) in modes.MODES:
        raise Forbidden(
            f"a container with a private {modes.kind(mode)} network cannot be on others",
            hint=f"create it with --network {networks.DEFAULT}",
        )
