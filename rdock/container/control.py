"""What the monitor of a running container is asked to do: pause it, let it go on, know that it is being stopped."""

from __future__ import annotations

import errno
import time

from rdock.container import attach
from rdock.container.containers import Container, State
from rdock.errors import Conflict, NotRunning, SystemFailure
from rdock.scope import scope
from rdock.state import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


# Seconds. A monitor that is held up hears later what it was told; a signal is not to wait for that.
_PATIENCE = 1.0


def pause(container: Container) -> None:
    """Stop all processes of a container where they are. Raises Conflict in Docker's words."""
    state = container.state()
    if state.status == "paused":
        raise Conflict(f"container {container.id} is already paused")
    if state.status == "restarting":
        raise Conflict(f"container {container.id} is restarting, wait until the container is running")
    if not state.can_pause:
        raise NotRunning(container.id)
    _ask(container, {"do": "pause"}, lambda state: state.status == "paused")


def unpause(container: Container) -> None:
    """Let them go on. Raises Conflict in Docker's words."""
    if not container.state().can_unpause:
        raise Conflict(f"container {container.id} is not paused")
    _ask(container, {"do": "unpause"}, lambda state: state.status == "running")


def connect(container: Container, network: str, settings: dict[str, Any]) -> None:
    """Put a running container on a network. Raises RdockError."""
    _ask(container, {"do": "connect", "network": network, "settings": settings})


def disconnect(container: Container, network: str) -> None:
    """Take a running container off a network. Raises RdockError."""
    _ask(container, {"do": "disconnect", "network": network})


@scope
def held(container: Container, *, wanted: bool = True) -> Iterator[None]:
    """Have a container that runs pause until the `with` ends, or this process does, however that comes about.

    One that is paused already stays so, and is nobody's here. Several may hold it at once. Without `wanted`
    nothing is done.
    """
    if not wanted:
        yield
        return
    try:
        connection = attach.request_from(container.bundle, {"do": "hold"})
    except OSError as e:
        if container.state().is_running:
            raise _unreachable(container, e) from e
        yield
        return
    try:
        try:
            attach.answer_on(connection)
        except Conflict:
            pass  # it has just ended
        except OSError as e:
            if container.state().is_running:
                raise _unreachable(container, e) from e
        yield
    finally:
        connection.close()


def _ask(container: Container, request: dict[str, Any], is_done: Callable[[State], bool] = lambda _: False) -> None:
    """Have the monitor do something. One that is killed meanwhile has a successor soon, who is asked again."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            attach.ask(container.bundle, request)
            return
        except OSError as e:
            state = container.state()
            if not state.is_running:
                raise NotRunning(container.id) from None
            if is_done(state):
                return
            if not state.is_attended or time.monotonic() > until:
                raise _unreachable(container, e) from e
            time.sleep(0.01)


def _unreachable(container: Container, error: OSError) -> SystemFailure:
    return SystemFailure(f"the monitor of container {container.name} cannot be reached: {error.strerror or error}")


def announce_stop(container: Container, *, keep: bool = False) -> None:
    """Let the monitor know that the end to come is wanted, so that no restart policy brings the container back.

    `keep`: one that goes with its process stays this time. That there is no monitor is no error: then nobody
    restarts it.
    """
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        try:
            attach.ask(container.bundle, {"do": "stop", "keep": keep}, _PATIENCE)
            return
        except TimeoutError:
            return  # it hears it later
        except OSError as e:
            if not container.state().is_attended:
                return
            if e.errno == errno.ENOENT:  # no socket, as after a logout that removed the run directory
                _leave_mark(container)
                return
            time.sleep(0.01)  # it was killed: the next one is to hear it


def _leave_mark(container: Container) -> None:
    try:
        record.write_text(container.stop_mark, "", durable=False)
    except SystemFailure:
        pass  # it was removed meanwhile


def go_on_if_paused(container: Container, state: State) -> None:
    """What was signalled while it is paused is to get the signal."""
    if state.can_unpause:
        try:
            attach.ask(container.bundle, {"do": "unpause"}, _PATIENCE)
        except (OSError, Conflict):
            pass  # it has just ended, or somebody else was quicker
