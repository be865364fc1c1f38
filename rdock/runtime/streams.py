"""Standard input, output and error of a program that is about to be executed in a container.

Pipes that the monitor made, or a pseudo-terminal of the container's own devpts, whose master goes to
the monitor. Runs in the container's namespaces; imports at the top only.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock.linux import tty
from rdock.linux.inroot import RESOLVE_NO_SYMLINKS, open_in_root
from rdock.runtime.channel import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def connect(root: int, stdio: tuple[int, int, int], user: dict[str, Any]) -> None:
    """Put pipes at 0, 1, 2 and give them to the container's user, or its own /dev/null, which is nobody's.

    A program that is not root opens /dev/stdout anew, which needs its ownership.
    """
    null = -1
    for number, fd in enumerate(stdio):
        found = os.fstat(fd)
        if _is_null(found):
            null = _own_null(root, fd) if null < 0 else null
            fd = null
        os.dup2(fd, number, inheritable=True)
        if stat.S_ISFIFO(found.st_mode):
            try:
                os.fchown(number, user["uid"], user["gid"])
            except OSError:
                pass  # an id that does not exist; taking the identity will say so


def _is_null(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(1, 3)


def _own_null(root: int, given: int) -> int:
    """The container's /dev/null in the place of the one given, which leads to the host's mount of /dev.

    The given one if the container has none, or has made it something else.
    """
    try:
        null = open_in_root(root, "/dev/null", os.O_RDWR | os.O_NOCTTY, 0, RESOLVE_NO_SYMLINKS)
    except OSError:
        return given
    if _is_null(os.fstat(null)):
        return null
    os.close(null)
    return given


def open_terminal(root: int, channel: Channel, what: dict[str, Any]) -> int:
    """Make a new pty stdio and the controlling terminal of this session leader; the slave's descriptor.

    The master is opened in the container's devpts by descriptor, and the slave through the master, so
    no link in the image is followed (CVE-2025-52565).
    """
    pts = open_in_root(root, "/dev/pts", os.O_PATH | os.O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS)
    try:
        master = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=pts)
    finally:
        os.close(pts)
    if not tty.is_master(master):
        raise OSError(errno.ENODEV, "is not the device it should be", "/dev/pts/ptmx")
    slave = tty.open_pty(master)
    if not tty.is_slave(slave):
        raise OSError(errno.ENODEV, "opens no pseudo-terminal", "/dev/pts/ptmx")
    size = what.get("consoleSize")
    if size:
        tty.set_window_size(master, size["height"], size["width"])
    try:
        os.fchown(slave, what["user"]["uid"], -1)
    except PermissionError:
        pass  # the user has no id that the terminal could have
    channel.send("terminal", fds=[master])
    os.close(master)
    for number in range(3):
        os.dup2(slave, number, inheritable=True)
    tty.take_terminal(0)
    return slave
