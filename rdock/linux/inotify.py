"""Waiting for a file to grow or a process to end, whichever comes first (inotify(7), pidfd_open(2))."""

from __future__ import annotations

import os
import select

from rdock.linux.libc import check, libc

_IN_MODIFY = 0x2
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_IN_CLOEXEC = os.O_CLOEXEC
_IN_NONBLOCK = os.O_NONBLOCK


class Inotify:
    """A watch on one file, or on the files of a directory and what comes to be one of them."""

    def __init__(self, path: str) -> None:
        self._fd = check(libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK), path)
        events = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE
        try:
            check(libc.inotify_add_watch(self._fd, os.fsencode(path), events), path)
        except OSError:
            os.close(self._fd)
            raise

    def close(self) -> None:
        os.close(self._fd)

    def ended(self, pidfd: int | None) -> bool:
        """Whether the process has ended by now; True without one."""
        return pidfd is None or self._poll(pidfd, 0)

    def wait(self, pidfd: int | None, seconds: float | None = None) -> None:
        """Sleep until something has been written, or the process has ended, or the time is over."""
        self._poll(pidfd, None if seconds is None else max(0, seconds) * 1000)
        try:
            os.read(self._fd, 65536)
        except BlockingIOError:
            pass

    def _poll(self, pidfd: int | None, timeout: float | None) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if pidfd is not None:
            poll.register(pidfd, select.POLLIN)
        return any(fd == pidfd for fd, _ in poll.poll(timeout))
