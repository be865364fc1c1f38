"""The holder: one process per user that keeps the user's own user and mount namespaces alive.

Every command that needs to be root of its small world enters these two namespaces in place, which
costs three system calls; only the first one pays for making them. All containers' user namespaces
are children of this one, so what they share (layers, later bridges) has one owner.

Who uses the holder has a shared flock on its lock file, from before it reads the holder's record
until the process ends, and children inherit it. The holder itself sleeps in flock(LOCK_EX): the
kernel wakes it when the last user is gone, however that one ended. It lingers for a few seconds, so
that a loop of short containers does not pay each time, and goes. Nothing polls, nothing is counted.
"""

from __future__ import annotations

import os
import time

from rdock import paths
from rdock.errors import DataLoss, SystemFailure, Unavailable, reason
from rdock.linux import idmap, namespaces, prctl, process, signals
from rdock.linux import mount as m
from rdock.linux.tree import remove_path
from rdock.state import record
from rdock.state.record import Lock
from rdock.values import Value

KINDS = ("user", "mount")


class Holder(Value):
    """The record of a holder."""

    pid: int
    start: int
    boot: str
    mode: str
    """How its ids came about: subids, direct or single."""
    namespace: str
    """Its user namespace, as a link in /proc shows it."""
    maps: list[str]
    """Its id maps, of users and of groups."""

    @property
    def identity(self) -> process.Identity:
        return process.Identity(self.pid, self.start, self.boot)


class Entered(Value):
    """The small world this process is root of."""

    mode: str
    """How its ids came about: subids, direct or single."""
    uid: int
    """The caller's id on the host; 0 inside."""
    gid: int
    """The caller's group on the host."""
    in_session: bool = False
    """Whether the process was there from its start, as below `unshare`, with a mount namespace of its caller's."""


_entered: Entered | None = None
_record_path = ""
"""Of the holder whose namespaces this process is in."""
# Kept open, and so locked, until the process and all its children have ended.
_use: Lock | None = None


def entered() -> Entered:
    """What `enter` found. Only for code that runs after it."""
    assert _entered is not None
    return _entered


def enter(mode: str, linger: float, *, keep_groups: bool = False) -> Entered:
    """Become root of the user's own user and mount namespaces, making them if need be.

    `mode` is a key of the settings: auto, subids, direct, single. The current directory is kept. With `keep_groups`
    so are the caller's supplementary groups, by which files of the host may be within reach.
    The process must have one thread only. Raises Unavailable or SystemFailure with the reason why
    this machine does not allow it.
    """
    global _entered, _use, _record_path
    if _entered is not None:
        return _entered
    paths.settle()
    paths.make_private(paths.data())
    _note_runtime(paths.make_private(paths.runtime()))
    directory = _current_directory()
    boot = process.boot_id()
    around = _session(boot)
    if around is not None:
        name, found = around
        _record_path = paths.holder(boot, name)
        if mode not in ("auto", found.mode):
            raise Unavailable(f"this session is one of the id mode {found.mode}: leave it for another one")
        _use = _lock(paths.holder_lock(boot, name))
        ids = [idmap.outside(idmap.read_map(kind), 0) or 0 for kind in ("uid", "gid")]
        _entered = Entered(found.mode, ids[0], ids[1], in_session=True)
        return _entered
    name = mode + _surroundings()
    record_path, lock_path = paths.holder(boot, name), paths.holder_lock(boot, name)
    uid, gid = os.getuid(), os.getgid()
    _record_path = record_path
    try:
        _use = _lock(lock_path)
        found, fds = _find(mode, linger, record_path, lock_path)
        namespaces.enter(fds)
    except OSError as e:
        raise SystemFailure(f"cannot enter the namespaces of this user: {reason(e)}", hint=_why_denied()) from e
    try:
        os.chdir(directory)
    except OSError:
        os.chdir("/")
    if found.mode != "single" and not keep_groups:
        os.setgroups(())
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _entered = Entered(found.mode, uid, gid)
    return _entered


def _session(boot: str) -> tuple[str, Holder] | None:
    """The name and the record of the holder in whose user namespace the caller lives already."""
    if os.getuid() != 0 or os.stat(namespaces.file_of("user")).st_ino == dict(_INITIAL)["user"]:
        return None
    around = os.readlink(namespaces.file_of("user")), [idmap.map_text(idmap.read_map(kind)) for kind in ("uid", "gid")]
    directory = os.path.dirname(paths.holder(boot, "any"))
    for file in os.listdir(directory) if os.path.isdir(directory) else ():
        name = file.removesuffix(".json")
        found = _recorded(os.path.join(directory, file)) if name != file else None
        if found is not None and found.boot == boot and (found.namespace, found.maps) == around:
            return name, found
    return None


def _find(mode: str, linger: float, record_path: str, lock_path: str) -> tuple[Holder, dict[str, int]]:
    """The record of the holder, who is made if there is none, and its namespaces."""
    deadline = time.monotonic() + 5
    while True:
        found = _living(record_path)
        if found is None:
            with Lock(record_path + ".lock"):
                found = _living(record_path) or _create(mode, linger, record_path, lock_path)
        try:
            return found, namespaces.open_all(found.pid, KINDS)
        except (FileNotFoundError, ProcessLookupError):
            # It was just killed: its namespaces go before it is seen to be dead.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


# PROC_USER_INIT_INO, PROC_PID_INIT_INO of Linux.
_INITIAL = (("user", 0xEFFFFFFD), ("pid", 0xEFFFFFFC))


def _surroundings() -> str:
    """A suffix for the holder's name: who lives in another user or pid namespace has another holder, in one home."""
    inodes = [(os.stat(namespaces.file_of(kind)).st_ino, initial) for kind, initial in _INITIAL]
    return "".join(f"-{inode}" for inode, initial in inodes if inode != initial)


def _current_directory() -> str:
    """The caller's; the root directory if it was removed meanwhile."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def _lock(path: str) -> Lock:
    """The lock of those who use the holder's namespaces, owned."""
    lock = Lock(path, shared=True)
    while True:
        try:
            lock.acquire()
            return lock
        except FileNotFoundError:
            # The last holder took its directory away, perhaps just now.
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            _forget_other_boots()


def _forget_other_boots() -> None:
    """Remove what holders of earlier boots left, but not those of another machine that shares the home."""
    for boot in os.listdir(paths.holders()):
        place = os.path.join(paths.holders(), boot)
        if boot == process.boot_id():
            continue
        # Alone, since those who use a holder share its lock.
        locks = [Lock(os.path.join(place, name)) for name in os.listdir(place) if name.endswith(".lock")]
        try:
            if all(lock.acquire(wait=False) for lock in locks):
                remove_path(place)
        finally:
            for lock in locks:
                lock.release()


def _recorded(path: str) -> Holder | None:
    """The record of a holder. A damaged one is as good as none: it is made anew."""
    try:
        found = record.read(path)
        return record.from_json(Holder, found, path) if found else None
    except DataLoss:
        return None


def held() -> set[int]:
    """The descriptors by which this process keeps the namespaces in use."""
    return {_use.fd} - {-1} if _use else set()


def leave_own_mounts() -> None:
    """Go back to the holder's mount namespace from one of one's own, for a process that outlives what that is for.

    Else it would keep a container's mounts after all others are gone. Without a holder, or with one who is not in
    our user namespace, it stays where it is; so it does below `unshare`, where the session's mounts may hide ours.
    Raises OSError.
    """
    found = None if _entered is None or _entered.in_session else _living(_record_path)
    if found is None or found.namespace != os.readlink(namespaces.file_of("user")):
        return
    fds = namespaces.open_all(found.pid, ("mount",))
    if not found.identity.is_alive():
        # The pid may be another's by now, and so what was opened.
        for fd in fds.values():
            os.close(fd)
        return
    namespaces.enter(fds)


def _note_runtime(directory: str) -> None:
    """Remember where what runs has its sockets; see paths.runtime."""
    note = paths.runtime_note()
    try:
        with open(note, encoding="utf-8", errors="surrogateescape") as file:
            if file.read(4096) == directory:
                return
    except OSError:
        pass
    record.write_text(note, directory, durable=False)


def _living(path: str) -> Holder | None:
    found = _recorded(path)
    return found if found and found.identity.is_alive() else None


def _create(mode: str, linger: float, record_path: str, lock_path: str) -> Holder:
    """Start a holder, give it its id maps, and record it."""
    from rdock.runtime import mapping

    old = _recorded(record_path)
    survivor = _survivor(old) if old else None
    plan = mapping.id_map(mode) if survivor is None else None
    to_holder, from_holder = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    middle = os.fork()
    if middle == 0:
        try:
            # Forked twice: the holder outlives this command and must not become its zombie.
            if os.fork() == 0:
                _hold(survivor, to_holder, from_holder, record_path, lock_path, linger)
        finally:
            os._exit(0)
    os.waitpid(middle, 0)
    if survivor is not None:
        os.close(survivor)
    os.close(to_holder[0])
    os.close(from_holder[1])
    try:
        pid = int(_hear(from_holder[0]))
        if plan:
            mapping.write_maps(pid, plan)
        os.write(to_holder[1], b"go\n")
        _hear(from_holder[0])
    finally:
        os.close(to_holder[1])
        os.close(from_holder[0])
    known = plan or old
    assert known is not None
    made = Holder(
        pid=pid, start=process.start_time(pid), boot=process.boot_id(), mode=known.mode,
        namespace=os.readlink(namespaces.file_of("user", pid)), maps=_maps_of(pid),
    )  # fmt: skip
    record.write(record_path, record.to_json(made), durable=False)
    return made


def _hear(fd: int) -> str:
    """A line from the holder: its word, or `!errno step` when a step failed."""
    line = os.read(fd, 256).decode().strip()
    if not line:
        raise SystemFailure("cannot make the namespaces of this user: the holder ended")
    if line.startswith("!"):
        number, _, step = line[1:].partition(" ")
        raise Unavailable(f"cannot {step}: {os.strerror(int(number)).lower()}", hint=_why_denied())
    return line


def _hold(
    survivor: int | None,
    to_holder: tuple[int, int],
    from_holder: tuple[int, int],
    record_path: str,
    lock_path: str,
    linger: float,
) -> None:
    """The holder's life. Never returns."""
    orders, reports = to_holder[0], from_holder[1]
    step = "make a user namespace"
    try:
        os.setsid()
        signals.reset()
        signals.signal(signals.SIGHUP, signals.SIG_IGN)
        process.set_name("rdock-holder")
        prctl.set_arguments("rdock-holder")
        process.close_all_but({orders, reports} | ({survivor} if survivor is not None else set()))
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        os.chdir("/")
        if survivor is not None:
            namespaces.enter({"user": survivor})
            namespaces.unshare(namespaces.CLONE_NEWNS)
        else:
            namespaces.unshare(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS)
        os.write(reports, f"{os.getpid()}\n".encode())
        if not os.read(orders, 16):
            os._exit(1)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        step = "set up a mount namespace"
        # Mounts of the host still arrive here, none of ours ever gets out.
        m.set_propagation("/", m.MS_SLAVE)
        _protect_devices()
        os.write(reports, b"ready\n")
        os.close(orders)
        os.close(reports)
        _linger(record_path, lock_path, linger)
    except OSError as e:
        try:
            os.write(reports, f"!{e.errno} {step}\n".encode())
        except OSError:
            pass
    finally:
        os._exit(0)


def _protect_devices() -> None:
    """Let nobody in these namespaces change the mode, owner or times of the host's devices.

    Root of a container is the caller, and real root owns them. What is written to a device is not
    subject to its mount; in the containers' own user namespaces it cannot be made writable again.
    """
    from rdock.runtime import rootfs

    for name in rootfs.DEVICES:
        path = f"/dev/{name}"
        # One that is missing is missed by who wants it.
        if os.path.exists(path) and os.stat(path).st_uid == 0:
            m.protect(path)


def _linger(record_path: str, lock_path: str, linger: float) -> None:
    """Sleep until nobody uses the namespaces, wait a little, and take record and locks away."""
    lock = Lock(lock_path)
    while True:
        lock.acquire()
        lock.release()
        time.sleep(linger)
        if lock.acquire(wait=False):
            break
    # Whoever finds the lock's file gone makes a new one, and a holder of its own. That may have happened before,
    # if somebody has removed the files; then the record is another's.
    found = _recorded(record_path)
    if found and found.pid == os.getpid():
        record.remove(record_path)
        record.remove(record_path + ".lock")
        record.remove(lock_path)
        try:
            os.rmdir(os.path.dirname(lock_path))
        except OSError:
            pass  # there are others


def _why_denied() -> str:
    from rdock.runtime import denial  # few machines need it

    return denial.why()


def _survivor(old: Holder) -> int | None:
    """The user namespace of a holder that was killed, if a process of rdock's lives in it: a descriptor.

    Containers may still run there. The new holder joins them, so that their files, and they
    themselves, stay within reach. The namespace's number alone says little: it is given anew when a
    namespace has ended, to whatever program makes the next one.
    """
    if old.boot != process.boot_id():
        return None
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                fd = os.open(namespaces.file_of("user", name), os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            if _is_ours(fd, int(name), old):
                return fd
            os.close(fd)
    return None


def _is_ours(fd: int, pid: int, old: Holder) -> bool:
    try:
        same = f"user:[{os.fstat(fd).st_ino}]" == old.namespace
        return same and process.name_of(pid).startswith("rdock-") and _maps_of(pid) == old.maps
    except OSError:
        return False


def _maps_of(pid: int) -> list[str]:
    return [idmap.map_text(idmap.read_map(kind, str(pid))) for kind in ("uid", "gid")]
