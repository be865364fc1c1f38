"""What is left of a container without a pid namespace of its own, when its process 1 has ended.

With one, the kernel ends all that is in it. Where the container has a control group, that ends them too;
this is for the rest, and finds them by the container's own namespaces, which are held open meanwhile so
that their numbers mean nothing else.
"""

from __future__ import annotations

import fcntl
import os
import time

from rdock.linux import namespaces, signals

_NS_GET_PARENT = 0xB702
# Seconds for processes that make others as fast as they are killed.
_PATIENCE = 5.0


def end(own: dict[str, int]) -> None:
    """Kill every process in one of these namespaces (kind → descriptor), or in a user namespace below."""
    until = time.monotonic() + _PATIENCE
    wanted = {kind: _identity(fd) for kind, fd in own.items()}
    while time.monotonic() < until:
        found = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _belongs(pid, wanted)]
        if not found:
            return
        for pid in found:
            _kill(pid, wanted)
        time.sleep(0.002)


def _kill(pid: int, wanted: dict[str, tuple[int, int]]) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _belongs(pid, wanted):  # still, and so the descriptor's process does
            signals.pidfd_send_signal(pidfd, signals.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(pidfd)


def _belongs(pid: int, wanted: dict[str, tuple[int, int]]) -> bool:
    for kind, identity in wanted.items():
        try:
            fd = os.open(namespaces.file_of(kind, pid), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # gone, a zombie, or nothing of ours
        try:
            if _identity(fd) == identity or (kind == "user" and _is_below(fd, identity)):
                return True
        finally:
            os.close(fd)
    return False


def _is_below(fd: int, identity: tuple[int, int]) -> bool:
    above = os.dup(fd)
    try:
        while True:
            parent = fcntl.ioctl(above, _NS_GET_PARENT)
            os.close(above)
            above = parent
            if _identity(above) == identity:
                return True
    except OSError:
        return False  # above our own
    finally:
        os.close(above)


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
