"""exec: one more process in a running container.

A session has a small monitor of its own, forked by the command, which carries its streams and reaps
it; so a session outlives a client that goes away, as in Docker, and `-d` needs nothing special.
"""

from __future__ import annotations

import errno
import os

from rdock import launch
from rdock.container import attach, background, capability_sets, filters, spec, stdio, users
from rdock.container.config import merge_env
from rdock.container.containers import Container, State
from rdock.errors import Conflict, NotRunning, RdockError, SystemFailure, system_failure
from rdock.linux import idmap, namespaces, process, sockets
from rdock.linux.inroot import O_PATH
from rdock.runtime import join
from rdock.runtime.channel import Failed
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class Request(Value):
    """What is to be executed."""

    args: list[str]
    env: list[str]
    user: str
    directory: str
    terminal: bool
    stdin: bool
    privileged: bool


def start(container: Container, request: Request, console_size: tuple[int, int] | None) -> tuple[sockets.socket, int]:
    """Start a session: the connection to its streams, and the pid of its monitor, a child of this process.

    Raises NotRunning, CannotExecute, CommandNotFound.
    """
    state = container.state()
    if state.status == "paused":
        raise Conflict(f"container {container.name} is paused, unpause the container before exec")
    pidfd = state.process.open() if state.is_running else None
    if pidfd is None:
        raise NotRunning(container.id)
    ours, theirs = sockets.packet_pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _run(container, state, request, console_size, theirs)
    os.close(pidfd)
    theirs.close()
    try:
        attach.await_start(ours)
    except BaseException:
        os.waitpid(pid, 0)
        raise
    return ours, pid


def _run(
    container: Container,
    state: State,
    request: Request,
    console_size: tuple[int, int] | None,
    connection: sockets.socket,
) -> NoReturn:
    """The session's monitor."""
    try:
        background.leave_the_caller("rdock-exec", {connection.fileno()})
        _Session(container, state, request, console_size).run(connection)
    except BaseException as e:
        launch.debug(f"exec: {type(e).__name__}: {e}")
        background.send_failure(connection, explain(e, container, request))
    finally:
        os._exit(0)


def explain(error: BaseException, container: Container, request: Request) -> RdockError:
    """What the user is told of a session that did not start."""
    if isinstance(error, RdockError):
        return error
    met_its_end = isinstance(error, OSError) or (isinstance(error, Failed) and error.step in join.ENTERING)
    if met_its_end and getattr(error, "errno", 0) in _OF_AN_END and _is_ending(container):
        return NotRunning(container.id)
    if isinstance(error, Failed):
        return background.explain_failure(error, request.args[0])
    if isinstance(error, OSError):
        return system_failure("cannot enter the container", error)
    return SystemFailure(f"the session failed: {type(error).__name__}: {error}")


# A process that exits has no root directory any more, its dying pid namespace no memory for another process, and
# its control group may be gone.
_OF_AN_END = (errno.ENOENT, errno.ESRCH, errno.ENOMEM, errno.ENODEV)


def _is_ending(container: Container) -> bool:
    pidfd = container.state().process.open()
    if pidfd is None:
        return True
    ended = process.wait_exit(pidfd, 1)
    os.close(pidfd)
    return ended


class _Session:
    def __init__(
        self, container: Container, state: State, request: Request, console_size: tuple[int, int] | None
    ) -> None:
        self.container, self.state, self.request, self.console_size = container, state, request, console_size
        self.child = 0

    def run(self, connection: sockets.socket) -> None:
        request = self.request
        root = os.open(f"/proc/{self.state.pid}/root", O_PATH | os.O_DIRECTORY)
        fds = namespaces.open_all(self.state.pid, join.KINDS)
        if not self.state.process.is_alive():
            raise NotRunning(self.container.id)  # what was opened may be that of another with its pid
        what = self._process(root)
        server = stdio.Server(log=None, on_signal=self._kill, kept=False, stdin_once=request.stdin)
        pipes = stdio.Pipes(request.terminal, request.stdin)
        try:
            joined = join.start(fds, what, pipes.theirs, self._filter(), self.state.cgroup)
        finally:
            pipes.close_theirs()
        self.child = joined.pid
        if request.terminal:
            server.use_terminal(joined.terminal)
        else:
            server.use_pipes(*pipes.ours)
        server.add_client(connection)
        server.broadcast(b"s")
        server.run(os.pidfd_open(self.child))
        code = launch.wait(self.child)
        server.announce(b"x", {"code": code})
        server.finish()

    def _kill(self, number: int) -> None:
        os.kill(self.child, number)

    def _process(self, root: int) -> dict[str, Any]:
        """The OCI process object: the container's own identity unless the request has another."""
        container, request = self.container, self.request
        try:
            user = users.resolve(root, request.user or container.config.user)
            users.check_mapped(user, idmap.read_map("uid"), idmap.read_map("gid"))
        finally:
            os.close(root)
        host = container.host_config
        privileged = request.privileged or host.privileged
        return spec.process(
            container,
            user=user,
            args=request.args,
            env=merge_env(container.config.env, request.env),
            cwd=request.directory or container.config.working_dir or "/",
            terminal=request.terminal,
            capabilities=capability_sets.resolve(host.cap_add, host.cap_drop, privileged),
            console_size=self.console_size,
        )

    def _filter(self) -> bytes | None:
        """The container's own, also with `--privileged`, which is about capabilities, as in Docker."""
        return filters.saved(self.container.directory)
