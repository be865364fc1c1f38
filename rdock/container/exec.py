"""exec: one more process in a running container, as the command asks for it.

The container's monitor is asked, and forks the session (session.py): the command needs no namespaces for
that, and hardly any modules.
"""

from __future__ import annotations

import os

from rdock.container import attach
from rdock.container.containers import Container, State
from rdock.errors import Conflict, NotRunning, SystemFailure
from rdock.linux import sockets
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Request(Value):
    """What is to be executed."""

    args: list[str]
    env: list[str]
    user: str
    directory: str
    terminal: bool
    stdin: bool
    privileged: bool
    console_size: tuple[int, int] | None = None
    """Rows and columns."""

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Request:
        """Raises TypeError and its like for what is no request."""
        return cls(**found)


class MonitorAway(Exception):
    """The container runs, and its monitor cannot be reached, as after a logout that took the run directory away."""


def start(container: Container, request: Request) -> sockets.socket:
    """Start a session: the connection to its streams.

    Raises NotRunning, Conflict, CannotExecute, CommandNotFound; MonitorAway, then `start_here` may do.
    """
    try:
        connection = attach.request_from(container.bundle, {"do": "exec", **request._asdict()})
    except OSError:
        check(container, container.state())
        raise MonitorAway from None
    try:
        attach.await_start(connection)
    except (OSError, attach.MonitorGone):
        check(container, container.state())
        # Not tried again: it may have been executed, and is not to be twice.
        raise SystemFailure("the session was killed before it was started") from None
    return connection


def check(container: Container, state: State) -> None:
    """Raises Conflict in Docker's words if nothing can be executed in a container."""
    if state.status == "paused":
        raise Conflict(f"container {container.id} is paused, unpause the container before exec")
    if state.status == "restarting":
        raise Conflict(f"container {container.id} is restarting, wait until the container is running")
    if not state.can_exec or not state.process.is_alive():
        raise NotRunning(container.id)


def start_here(container: Container, request: Request) -> sockets.socket:
    """Start a session without the monitor, from this process, which is root of the user's namespaces."""
    from rdock.container import session

    state = container.state()
    check(container, state)
    ours, theirs = sockets.packet_pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        session.run(container, state, request, theirs)
    theirs.close()
    try:
        attach.await_start(ours)
    except BaseException:
        os.waitpid(pid, 0)
        raise
    return ours
