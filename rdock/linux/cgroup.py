"""Control groups, version 2 only (cgroups(7), Documentation/admin-guide/cgroup-v2.rst in the kernel tree).

`probe` finds the place below which this process may make groups, if there is one: a delegated subtree
(by systemd, a CI system, an outer container). A container's group serves to freeze and to kill it, and
to count what it uses; where a controller is enabled for the place, also to limit. Without delegation
there is None, and everything else must work. Version 1 is not used: it cannot be delegated safely.
"""

from __future__ import annotations

import errno
import os
import select
import time

from rdock.linux import kernelfile, signals
from rdock.linux.mount import mountinfo
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# The leaf into which `enable` moves processes that stand in the way.
LEAF = "rdock-leaf"
PROBE = "rdock-probe-"


class Delegation(Value):
    """A directory below which groups can be made and processes moved, and what works there."""

    parent: str
    controllers: tuple[str, ...]
    can_freeze: bool
    can_kill: bool


class Statistics(Value):
    """What a group uses now; None where no controller counts it. Times are in microseconds."""

    memory: int | None
    memory_limit: int | None
    pids: int | None
    cpu: int | None
    cpu_user: int | None
    cpu_system: int | None


# -- where ---------------------------------------------------------------------------------------


def probe(process: str = "self", proc: str = "/proc") -> Delegation | None:
    """The place where this process may make groups; None where it may not.

    A group is made for a moment to be sure. The place is the process's own group or one above it:
    moving a process takes write permission to a common ancestor. One that already passes controllers on
    to its children comes first, then the nearest.
    """
    for candidate in _candidates(process, proc):
        found = _try(candidate)
        if found:
            return found
    return None


def _candidates(process: str = "self", proc: str = "/proc") -> Iterator[str]:
    """The directories that may be such a place, best first."""
    own = own_path(process, proc)
    if own is None:
        return
    for root, mount_point in mounts(proc):
        writable = [c for c in _ancestors(root, mount_point, own) if _may_write(c) and not _is_managed(c)]
        yield from sorted(writable, key=lambda c: not _words(f"{c}/cgroup.subtree_control"))


def make(name: str) -> Cgroup | None:
    """Make a group of this name in the best place that takes it; None without delegation.

    The name is the caller's alone: what is there of it was left by a process that was killed, and is ended.
    """
    for candidate in _candidates():
        try:
            try:
                group = Cgroup.create(candidate, name)
            except FileExistsError:
                Cgroup(os.path.join(candidate, name)).end()
                group = Cgroup.create(candidate, name)
        except OSError:
            continue
        if _read(f"{group.path}/cgroup.type").strip() == "domain":
            return group
        group.remove()
    return None


def find(name: str) -> Cgroup | None:
    """The group of this name that `make` has made, if it is still there."""
    paths = (os.path.join(candidate, name) for candidate in _candidates())
    return next((Cgroup(path) for path in paths if os.path.isdir(path)), None)


def own_path(process: str = "self", proc: str = "/proc") -> str | None:
    """The path of a process's group within the hierarchy, as its cgroup namespace shows it."""
    for line in _read(f"{proc}/{process}/cgroup").splitlines():
        if line.startswith("0::/"):
            # Of a group that was removed meanwhile.
            return line[3:].removesuffix(" (deleted)")
    return None


def mounts(proc: str = "/proc") -> list[tuple[str, str]]:
    """The mounts of the v2 hierarchy: which group each shows as its top, and where (proc(5), mountinfo).

    Of several at one place only the last is visible. One below /sys/fs/cgroup/unified is of a hybrid
    system, as good as any other if it may be written to.
    """
    found: dict[str, str] = {}
    for mounted in mountinfo(f"{proc}/self/mountinfo"):
        found.pop(mounted.target, None)
        if mounted.fstype == "cgroup2":
            found[mounted.target] = mounted.root
    return [(root, mount_point) for mount_point, root in found.items()]


def _ancestors(root: str, mount_point: str, own: str) -> list[str]:
    """The directories of a group and of those above it, nearest first, as far as this mount shows them."""
    top = root.rstrip("/")
    if own != root and not own.startswith(top + "/"):
        return []
    below = [part for part in own[len(top) :].split("/") if part]
    if ".." in below:  # outside of this cgroup namespace
        return []
    return ["/".join([mount_point.rstrip("/"), *below[:n]]) for n in range(len(below), -1, -1)]


def _is_managed(directory: str) -> bool:
    """Whether systemd alone makes groups here, whoever owns the directory, and may turn controllers off again.

    Its single-writer rule (CGROUP_DELEGATION.md) leaves to others what is below a service or scope.
    """
    name = os.path.basename(directory)
    return name.endswith(".slice") or (name.startswith("user@") and name.endswith(".service"))


def _may_write(directory: str) -> bool:
    return os.access(directory, os.W_OK | os.X_OK) and os.access(f"{directory}/cgroup.procs", os.W_OK)


def _try(parent: str) -> Delegation | None:
    _sweep(parent)
    try:
        # The pid alone is not unique: others may come from another pid namespace.
        group = Cgroup.create(parent, f"{PROBE}{os.getpid()}-{time.monotonic_ns()}")
    except OSError:
        return None
    try:
        # A threaded parent makes children that take no processes: "domain invalid".
        if _read(f"{group.path}/cgroup.type").strip() != "domain":
            return None
        return Delegation(
            parent,
            tuple(_words(f"{parent}/cgroup.subtree_control")),
            os.access(f"{group.path}/cgroup.freeze", os.W_OK),
            os.access(f"{group.path}/cgroup.kill", os.W_OK),
        )
    finally:
        group.remove()


def _sweep(parent: str) -> None:
    """Remove the groups of probes that were killed in the middle, which nobody else would."""
    try:
        for entry in os.scandir(parent):
            if entry.name.startswith(PROBE) and time.time() - entry.stat().st_ctime > 60:
                os.rmdir(entry.path)
    except OSError:
        pass


def enable(parent: str, controllers: Iterable[str]) -> tuple[str, ...]:
    """Pass these controllers on to the groups below `parent`; those that are passed on afterwards.

    A group that does may have no processes of its own, so those it has move into a leaf beside the
    containers' groups. For some controllers the kernel would take it with processes too, but then make
    all groups below threaded ones, of no use for containers. Raises OSError; controllers that are not
    there are passed over.
    """
    there, enabled = (_words(f"{parent}/cgroup.{name}") for name in ("controllers", "subtree_control"))
    text = " ".join(f"+{name}" for name in controllers if name in there and name not in enabled)
    if text:
        is_root = not os.path.exists(f"{parent}/cgroup.type")
        if not is_root and (pids := Cgroup(parent).own_pids()):
            leaf = Cgroup.create(parent, LEAF, exist_ok=True)
            for pid in pids:
                leaf.add(pid)
        kernelfile.write(f"{parent}/cgroup.subtree_control", text)
    return tuple(_words(f"{parent}/cgroup.subtree_control"))


# -- a group -------------------------------------------------------------------------------------


class Cgroup:
    """A group, by its directory. All methods raise OSError with the file's name."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def create(cls, parent: str, name: str, *, exist_ok: bool = False) -> Cgroup:
        """Make a group; a process may be in `parent` as long as no controllers are passed on there."""
        path = os.path.join(parent, name)
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            if not exist_ok:
                raise
        return cls(path)

    def exists(self) -> bool:
        return os.path.isdir(self.path)

    def add(self, pid: int) -> None:
        """Move a process, with all its threads, into the group; its later children are born there."""
        kernelfile.write(f"{self.path}/cgroup.procs", str(pid))

    def own_pids(self) -> list[int]:
        """The processes in the group itself; those of a pid namespace that is not visible here are left out."""
        return [int(word) for word in _words(f"{self.path}/cgroup.procs") if word.isdigit() and word != "0"]

    def pids(self) -> list[int]:
        """The processes in the group and in those that were made below it."""
        return [pid for group in [*self._below(), self] for pid in group.own_pids()]

    def set(self, file: str, value: str) -> None:
        """Write an interface file, such as `memory.max`."""
        kernelfile.write(f"{self.path}/{file}", value)

    def populated(self) -> bool:
        """Whether a live process is in the group or below."""
        return self._event("populated") == "1"

    def frozen(self) -> bool:
        return self._event("frozen") == "1"

    def freeze(self, timeout: float = 10) -> None:
        """Stop all processes, and return when they have stopped.

        TimeoutError if one does not, as in an uninterruptible wait; the group is thawed then.
        """
        self.set("cgroup.freeze", "1")
        if not self._await("frozen", "1", timeout):
            self.set("cgroup.freeze", "0")
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), self.path)

    def thaw(self, timeout: float = 10) -> None:
        """Let them go on. TimeoutError if a group above is frozen too."""
        self.set("cgroup.freeze", "0")
        if not self._await("frozen", "0", timeout):
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), self.path)

    def kill(self) -> None:
        """SIGKILL to every process in the group and below, also to those being born meanwhile; not awaited."""
        try:
            self.set("cgroup.kill", "1")
            return
        except FileNotFoundError:
            if not self.exists():
                raise
        self._kill_each()

    def _kill_each(self) -> None:
        """Before Linux 5.14: frozen, they cannot fork, so the list of them is complete, and yet they die.

        They are waited for, unlike with `cgroup.kill`: of a group thawed while those below it die, the kernel
        now and then says "frozen" for good.
        """
        self.set("cgroup.freeze", "1")
        try:
            self._await("frozen", "1", 1)
            for pid in self.pids():
                try:
                    os.kill(pid, signals.SIGKILL)
                except ProcessLookupError:
                    pass
            self._await("populated", "0", 1)
        finally:
            self.set("cgroup.freeze", "0")

    def wait_empty(self, timeout: float) -> bool:
        """Whether no live process is left in the group or below, after at most `timeout` seconds."""
        return self._await("populated", "0", timeout)

    def remove(self, timeout: float = 2) -> None:
        """Remove the group with those made below it; that it is gone already is no error.

        Waits for processes that are just ending; OSError (EBUSY) if one is left. Nothing is killed here.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                for group in [*self._below(), self]:
                    try:
                        os.rmdir(group.path)
                    except FileNotFoundError:
                        pass
                return
            except OSError as e:
                # "populated 0" comes a moment before the last process has really left, hence the pause.
                left = deadline - time.monotonic()
                if e.errno != errno.EBUSY or left <= 0 or not self.wait_empty(left):
                    raise
                time.sleep(0.002)

    def end(self, timeout: float = 10) -> None:
        """Kill whatever is left in the group, and remove it; what is gone, or no longer ours, is no error."""
        try:
            if self.populated():
                self.kill()
                self.wait_empty(timeout)
            self.remove()
        except OSError:
            pass

    def statistics(self) -> Statistics:
        """What the group uses, with those below it."""
        cpu = dict(line.split(" ", 1) for line in _read(f"{self.path}/cpu.stat").splitlines() if " " in line)
        return Statistics(
            _number(_read(f"{self.path}/memory.current")),
            _number(_read(f"{self.path}/memory.max")),
            _number(_read(f"{self.path}/pids.current")),
            *(_number(cpu.get(key, "")) for key in ("usage_usec", "user_usec", "system_usec")),
        )

    def _below(self) -> list[Cgroup]:
        """The groups below, deepest first; a container with a cgroup namespace can make some."""
        return [Cgroup(path) for path, _, _ in os.walk(self.path, topdown=False) if path != self.path]

    def _event(self, key: str) -> str:
        return _field(_read(f"{self.path}/cgroup.events"), key)

    def _await(self, key: str, value: str, timeout: float) -> bool:
        """Wait until cgroup.events says so: the kernel reports each change of the file as POLLPRI.

        A group that is gone has nothing in it.
        """
        deadline = time.monotonic() + timeout
        try:
            fd = os.open(f"{self.path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return value == "0"
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            while True:
                # Reading is also what arms the next report, so it comes before the wait.
                try:
                    text = os.pread(fd, 4096, 0).decode("ascii")
                except OSError as e:
                    if e.errno != errno.ENODEV:
                        raise
                    return value == "0"
                left = deadline - time.monotonic()
                if _field(text, key) == value:
                    return True
                if left <= 0:
                    return False
                poll.poll(left * 1000)
        finally:
            os.close(fd)


# -- interface files -----------------------------------------------------------------------------


def _field(text: str, key: str) -> str:
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return value
    return ""


def _read(path: str) -> str:
    """The content of a file; empty if it is not there, as of a controller that is not enabled."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _words(path: str) -> list[str]:
    return _read(path).split()


def _number(text: str) -> int | None:
    word = text.strip()
    return int(word) if word.isdigit() else None  # "max" is no limit
