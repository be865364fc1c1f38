"""An external OCI runtime (crun, runc) in the place of rdock's own: the same bundle, the same monitor.

The runtime's command line is the one that runc has and others follow (create, start, delete, exec).
Its `create` makes the container's process 1 and ends; as a subreaper the monitor becomes its parent.
"""

from __future__ import annotations

import os

from rdock import launch
from rdock.errors import CannotExecute, CommandNotFound, SystemFailure
from rdock.linux import namespaces, process, signals, sockets
from rdock.runtime.channel import Channel
from rdock.runtime.parent import Created, Meanwhile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

# Seconds for a runtime to hand the terminal over, once its `create` has ended; it has mostly done so by then.
_PATIENCE = 20.0


class External:
    """One invocation of another runtime for each operation."""

    def __init__(self, name: str) -> None:
        self._program = launch.program(name)
        self._id = self._command = ""
        self._root: list[str] = []
        self._options: list[str] | None = None

    def create(
        self,
        container_id: str,
        bundle: str,
        spec: dict[str, Any],
        stdio: tuple[int, int, int],
        *,
        program: bytes | None,
        join_cgroup: Callable[[int], None],
        meanwhile: Meanwhile,
    ) -> Created:
        process.adopt_orphans()
        self._id, self._command = container_id, spec["process"]["args"][0]
        self._root = _state(bundle)
        pid_file, log = os.path.join(bundle, "pid"), os.path.join(bundle, "runtime.log")
        arguments = ["create", "--bundle", bundle, "--pid-file", pid_file]
        console = _Console(bundle) if spec["process"].get("terminal") else None
        if console:
            arguments += ["--console-socket", console.path]
        # In the container's group from the start, so that its cgroup namespace begins there.
        self._call(log, [*arguments, container_id], stdio, join_cgroup)
        process.adopt_orphans(adopt=False)  # it is ours by now; others are for who reaps them
        pid = 0
        try:
            pid = self._read_pid(pid_file)
            terminal = self._receive(console) if console else -1
            fds = namespaces.open_all(pid, ("user", "network"))
            try:
                meanwhile(fds)
            finally:
                for fd in fds.values():
                    os.close(fd)
        except BaseException:
            self.delete(container_id, bundle)
            if pid:
                _reap(pid)
            raise
        ours, theirs = Channel.pair()
        theirs.close()
        return Created(pid, ours, terminal)

    def _read_pid(self, path: str) -> int:
        try:
            with open(path, encoding="ascii") as file:
                pid = int(file.read())
        except FileNotFoundError:
            raise SystemFailure(f"{self._program} wrote no pid of the container's process 1") from None
        except (OSError, ValueError) as e:
            raise SystemFailure(f"cannot read the pid that {self._program} wrote: {e}") from e
        if pid <= 0:
            raise SystemFailure(f"{self._program} wrote {pid} for the pid of the container's process 1")
        return pid

    def _receive(self, console: _Console) -> int:
        try:
            return console.receive()
        except TimeoutError as e:
            raise SystemFailure(f"{self._program} did not hand the container's terminal over in time") from e
        except (OSError, IndexError) as e:
            raise SystemFailure(f"{self._program} handed no terminal over on its console socket") from e

    def start(self, created: Created) -> None:
        created.channel.close()
        self._call("", ["start", self._id], None)

    def adopt(self, pid: int, kinds: tuple[str, ...]) -> None:
        """Go on with a container that was started elsewhere: the runtime itself remembers what it has to."""

    def delete(self, container_id: str, bundle: str) -> None:
        launch.run([self._program, *_state(bundle), "delete", "--force", container_id])

    def _cgroup_options(self) -> list[str]:
        """The group is rdock's to make. crun must be told to leave groups alone; runc does, where it may not."""
        if self._options is None:
            self._options = ["--cgroup-manager=disabled"] if _is_crun(self._program) else []
        return self._options

    def _call(
        self,
        log: str,
        arguments: list[str],
        stdio: tuple[int, int, int] | None,
        join_cgroup: Callable[[int], None] = lambda pid: None,
    ) -> None:
        """Run one operation. The runtime's errors come in its log, its streams are the container's."""
        options = [*self._root, *(["--log", log] if log else []), *self._cgroup_options()]
        if stdio is None:
            status, text = launch.run([self._program, *options, *arguments])
        else:
            pid = os.fork()
            if pid == 0:
                _in_group([self._program, *options, *arguments], stdio, join_cgroup)
            status = launch.wait(pid)
            text = _last_line(log)
        if status:
            raise explain(text, self._command)


def _reap(pid: int) -> None:
    """End and reap a process 1, also where the runtime's own `delete` failed. What is no child of ours is let be."""
    try:
        if os.waitpid(pid, os.WNOHANG)[0] == 0:
            os.kill(pid, signals.SIGKILL)
            os.waitpid(pid, 0)
    except ChildProcessError:
        pass


def _is_crun(program: str) -> bool:
    """By its name, or its own word where a path hides that."""
    name = os.path.basename(program)
    return name == "crun" or (name != "runc" and launch.run([program, "--version"])[1].startswith("crun "))


def _state(bundle: str) -> list[str]:
    """Where a runtime keeps its own record of a container."""
    return ["--root", os.path.join(bundle, "runtime")]


def _in_group(argv: list[str], stdio: tuple[int, int, int], join_cgroup: Callable[[int], None]) -> NoReturn:
    """A go-between that runs a program in the container's control group, and ends with its status."""
    status = 1
    try:
        join_cgroup(os.getpid())
        status = launch.wait(launch.spawn(argv, stdin=stdio[0], stdout=stdio[1], stderr=stdio[2]))
    finally:
        os._exit(status)


def explain(text: str, command: str) -> Exception:
    """The error behind a runtime's message, which is all that it gives."""
    words = text.lower()
    quoted = text if command in text else f'exec: "{command}": {text}'
    if ("executable file" in words and "not found" in words) or ("no such file" in words and "exec" in words):
        return CommandNotFound(quoted)
    reasons = ("permission denied", "is a directory", "exec format error", "open executable")
    if any(known in words for known in reasons):
        return CannotExecute(quoted)
    return SystemFailure(f"cannot start the container: {text or 'the runtime said nothing'}")


def _last_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(65536).strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


class _Console:
    """The socket on which a runtime hands the master of the container's terminal over."""

    def __init__(self, bundle: str) -> None:
        self._place = os.open(bundle, os.O_PATH | os.O_DIRECTORY)
        os.set_inheritable(self._place, True)
        self.path = f"/proc/self/fd/{self._place}/console.sock"
        self._listener = sockets.listen(bundle, "console.sock", sockets.SOCK_STREAM)

    def receive(self) -> int:
        """The master. Raises OSError, TimeoutError, and IndexError for a message without a descriptor."""
        self._listener.settimeout(_PATIENCE)
        try:
            connection = sockets.accept(self._listener)
            connection.settimeout(_PATIENCE)
            try:
                _, fds = sockets.receive_fds(connection, 4096, 1)
            finally:
                connection.close()
            return fds[0]
        finally:
            self._listener.close()
            os.close(self._place)
