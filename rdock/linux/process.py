"""Processes: fork with new namespaces, identity beyond the pid, signals by name, descriptors.

A pid alone names nobody for long; a pid with its start time and the boot id does (proc(5), stat field
22). Nothing here polls: exits are awaited on a pidfd.
"""

from __future__ import annotations

import ctypes
import os
import select

from rdock.linux import signals
from rdock.linux.libc import SYS_clone, SYS_close_range, SYS_keyctl, check, fail, libc, locked_libc, syscall
from rdock.values import Value

CLOSE_RANGE_CLOEXEC = 4
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36

_clone = locked_libc.syscall
_clone.restype = ctypes.c_long


def clone(flags: int) -> int:
    """fork(2) into new namespaces: 0 in the child, its pid in the parent.

    One clone(2) with CLONE_NEWUSER and others gives the others to the new user namespace. The
    interpreter is told as os.fork tells it; the caller must have one thread only.
    """
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(_clone(ctypes.c_long(SYS_clone), ctypes.c_long(flags | signals.SIGCHLD), None, None, None, None))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    error = fail("clone") if pid < 0 else None
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if error:
        raise error
    return pid


def prctl(option: int, value: int | bytes = 0) -> None:
    argument = value if isinstance(value, bytes) else ctypes.c_ulong(value)
    zero = ctypes.c_ulong(0)
    check(libc.prctl(option, argument, zero, zero, zero), "prctl")


def set_name(name: str) -> None:
    """The name that ps shows for this process, at most 15 bytes."""
    prctl(PR_SET_NAME, name.encode()[:15])


def name_of(pid: int) -> str:
    """Raises OSError if there is no such process."""
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().rstrip("\n")


def set_dumpable(dumpable: bool) -> None:
    """Whether others of the same uid may trace this process and open its /proc links.

    Off while rdock's own code runs inside a container's pid namespace: /proc/PID/exe and fd would
    lead out of it (CVE-2019-5736). execve turns it on again.
    """
    prctl(PR_SET_DUMPABLE, int(dumpable))


def wipe_arguments() -> None:
    """Empty the command line that ps shows for this process; unlike the environment anybody may read it."""
    with open("/proc/self/stat", "rb", buffering=0) as file:
        fields = file.read(1024).rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)


def die_with_parent(signum: int = signals.SIGKILL) -> None:
    prctl(PR_SET_PDEATHSIG, signum)


def adopt_orphans(*, adopt: bool = True) -> None:
    """Become the parent of descendants whose own parent ends (a subreaper), or leave that to others again."""
    prctl(PR_SET_CHILD_SUBREAPER, int(adopt))


def leave_session_keyring() -> None:
    """Have an empty session keyring of one's own instead of the caller's (session-keyring(7)).

    Raises OSError: ENOSYS in a kernel without keys, EDQUOT when the user has too many.
    """
    join_session_keyring = 1
    syscall(SYS_keyctl, join_session_keyring, 0, name="keyctl")


class Identity(Value):
    """Who a process is, for as long as a record of it may live."""

    pid: int
    start: int
    """Ticks since boot at which it started."""
    boot: str

    @classmethod
    def of(cls, pid: int) -> Identity:
        """Raises OSError (ESRCH, ENOENT) if there is no such process."""
        return cls(pid, start_time(pid), boot_id())

    def is_alive(self) -> bool:
        """Whether that very process exists and is not a zombie."""
        if self.pid <= 0 or self.boot != boot_id():
            return False
        try:
            state, start = _stat(self.pid)
        except OSError:
            return False
        return start == self.start and state not in "ZX"

    def open(self) -> int | None:
        """A pidfd of that very process, or None if it is gone."""
        try:
            fd = os.pidfd_open(self.pid)
        except OSError:
            return None
        if self.is_alive():
            return fd
        os.close(fd)
        return None


def _stat(pid: int) -> tuple[str, int]:
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        # The command name in the middle may hold spaces and parentheses.
        fields = file.read(1024).rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[19])


def start_time(pid: int) -> int:
    return _stat(pid)[1]


_boot = ""


def boot_id() -> str:
    global _boot
    if not _boot:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            _boot = file.read().strip()
    return _boot


def wait_exit(pidfd: int, seconds: float | None = None) -> bool:
    """Wait until the process behind a pidfd has ended; False if it has not in time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if seconds is None else max(0, seconds) * 1000))


def close_on_exec_all() -> None:
    """Keep descriptors that the caller left open from every program that is started."""
    try:
        syscall(SYS_close_range, 3, 0xFFFFFFFF, CLOSE_RANGE_CLOEXEC)
    except OSError:
        pass  # before Linux 5.11


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor except those given."""
    low = 0
    for fd in sorted(keep):
        if low < fd:  # an empty range means all to os.closerange
            os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 30)
