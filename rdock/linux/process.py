"""Processes: identity beyond the pid, names, ends, descriptors.

A pid alone names nobody for long; a pid with its start time and the boot id does (proc(5), stat field
22). Nothing here polls: exits are awaited on a pidfd. What takes the C library is in prctl.py and
namespaces.py: every command needs this module, and few need those.
"""

from __future__ import annotations

import os
import select

from rdock.values import Value


def set_name(name: str) -> None:
    """The name that ps shows for this process, at most 15 bytes."""
    # That of the thread may be written to also where the process is hidden (prctl.set_dumpable).
    with open("/proc/thread-self/comm", "wb", buffering=0) as file:
        file.write(name.encode()[:15])


def name_of(pid: int) -> str:
    """Raises OSError if there is no such process."""
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().rstrip("\n")


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
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            _boot = file.read().strip()
    return _boot


def wait_exit(pidfd: int, seconds: float | None = None) -> bool:
    """Wait until the process behind a pidfd has ended; False if it has not in time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if seconds is None else max(0, seconds) * 1000))


def close_on_exec_all() -> None:
    """Keep descriptors that the caller left open from every program that is started."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:
                pass  # that of the list itself


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor except those given."""
    low = 0
    for fd in sorted(keep):
        if low < fd:  # an empty range means all to os.closerange
            os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 30)
