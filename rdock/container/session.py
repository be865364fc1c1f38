"""A session of exec: one more process in a running container, seen from where it is started and carried.

Mostly that is a fork of the container's monitor, which is in its place in the tree of control groups and
has all modules at hand; the command, if the monitor cannot be reached (exec.py). It outlives a client that
goes away, as in Docker.
"""

from __future__ import annotations

import errno
import os

from rdock import launch
from rdock.container import background, capability_sets, containers, events, filters, owners, spec, stdio, users
from rdock.container.config import merge_env
from rdock.container.containers import Container, State
from rdock.container.exec import Request
from rdock.container.pipes import Pipes
from rdock.errors import NotRunning, RdockError, SystemFailure, printable, system_failure
from rdock.linux import namespaces, process, sockets
from rdock.linux.inroot import O_PATH
from rdock.runtime import join
from rdock.runtime.channel import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def run(container: Container, state: State, request: Request, connection: sockets.socket) -> NoReturn:
    """The life of a session, in a process of its own: `s` or `f` on the connection, the streams, `x`."""
    try:
        background.leave_the_caller("rdock-exec", container.id, {connection.fileno()})
        connection.setblocking(True)
        _Session(container, state, request).run(connection)
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


def _linked(container: Container) -> list[str]:
    if not container.host_config.links:
        return []
    from rdock.container import linking

    return linking.environment_now(container)


class _Session:
    def __init__(self, container: Container, state: State, request: Request) -> None:
        self.container, self.state, self.request = container, state, request
        self.child = 0

    def run(self, connection: sockets.socket) -> None:
        request = self.request
        root = os.open(f"/proc/{self.state.pid}/root", O_PATH | os.O_DIRECTORY)
        fds = namespaces.open_all(self.state.pid, join.KINDS)
        if not self.state.process.is_alive():
            raise NotRunning(self.container.id)  # what was opened may be that of another with its pid
        what = self._process(root)
        server = stdio.Server(log=None, on_signal=self._kill, kept=False, stdin_once=request.stdin)
        pipes = Pipes(request.terminal, request.stdin)
        try:
            if self.container.owners:
                who = what["user"]
                pipes.give(*owners.maps(self.container).owner_outside(who["uid"], who["gid"]))
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
        command = printable(" ".join(request.args))
        self.container = containers.as_it_is(self.container)
        events.note(self.container, f"exec_create: {command}")
        events.note(self.container, f"exec_start: {command}")
        server.run(os.pidfd_open(self.child))
        code = launch.wait(self.child)
        if self.container.host_config.own:
            from rdock.container import handing_over

            handing_over.after_exec(self.container, self.state.pid)
        events.note(self.container, "exec_die", exitCode=str(code))
        server.announce(b"x", {"code": code})
        server.finish()

    def _kill(self, number: int) -> None:
        os.kill(self.child, number)

    def _process(self, root: int) -> dict[str, Any]:
        """The OCI process object: the container's own identity unless the request has another."""
        container, request = self.container, self.request
        try:
            user = users.resolve(root, request.user or container.config.user, container.host_config.group_add)
            maps = owners.maps(container)
            users.check_mapped(user, maps.uids, maps.gids)
        finally:
            os.close(root)
        host = container.host_config
        privileged = request.privileged or host.privileged
        return spec.process(
            container,
            user=user,
            args=request.args,
            env=merge_env(_linked(container), container.config.env, request.env),
            cwd=request.directory or container.config.working_dir or "/",
            terminal=request.terminal,
            capabilities=capability_sets.resolve(host.cap_add, host.cap_drop, privileged),
            console_size=request.console_size,
        )

    def _filter(self) -> bytes | None:
        """The container's own, also with `--privileged`, which is about capabilities, as in Docker."""
        return filters.saved(self.container.directory)
