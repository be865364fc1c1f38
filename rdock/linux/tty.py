"""Terminals: window size, raw mode, and a process's controlling terminal (ioctl_tty(2))."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
# Of /dev/ptmx, and of all of devpts(5): Linux, Documentation/admin-guide/devices.txt.
_MASTER = os.makedev(5, 2)
_SLAVE_MAJORS = range(136, 144)


def window_size(fd: int) -> tuple[int, int]:
    """(rows, columns) of a terminal. Raises OSError if it is none."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    return rows, columns


def console_size() -> tuple[int, int] | None:
    """(rows, columns) of the terminal of this command, if it has one."""
    try:
        return window_size(0)
    except OSError:
        return None


def set_window_size(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0))


def settings(fd: int) -> list[Any]:
    """The terminal's settings, for `restore`."""
    return termios.tcgetattr(fd)


def make_raw(fd: int) -> list[Any]:
    """Bytes in, bytes out, no echo, no signals from keys; the former settings, for `restore`."""
    before = termios.tcgetattr(fd)
    raw = list(before)
    raw[0] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
        | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )  # fmt: skip
    raw[1] &= ~termios.OPOST
    raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    raw[6] = list(before[6])
    raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSADRAIN, raw)
    return before


def restore(fd: int, settings: list[Any]) -> None:
    try:
        termios.tcsetattr(fd, termios.TCSADRAIN, settings)
    except termios.error:
        pass  # the terminal is gone


def is_master(fd: int) -> bool:
    """Whether a descriptor is the master of a pseudo-terminal."""
    found = os.fstat(fd)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == _MASTER


def is_slave(fd: int) -> bool:
    found = os.fstat(fd)
    return stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) in _SLAVE_MAJORS


def open_pty(ptmx: int) -> int:
    """Unlock and open the slave of an open /dev/ptmx.

    TIOCGPTPEER opens the slave through the master itself, so no path of the container is trusted.
    """
    fcntl.ioctl(ptmx, _TIOCSPTLCK, struct.pack("i", 0))
    return fcntl.ioctl(ptmx, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def take_terminal(slave: int) -> None:
    """Make a terminal the controlling one of this (session leader) process."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
