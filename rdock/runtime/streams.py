"""Standard input, output and error of a program that is about to be executed in a container.

Pipes that the monitor made, or a pseudo-terminal of the container's own devpts, whose master goes to
the monitor. Runs in the container's namespaces; imports at the top only.
"""

from __future__ import annotations

import os
import stat

from rdock.linux import tty
from rdock.linux.inroot import RESOLVE_NO_SYMLINKS, open_in_root
from rdock.runtime.channel import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def connect(stdio: tuple[int, int, int], user: dict[str, Any]) -> None:
    """Put pipes at 0, 1, 2 and give them to the container's user.

    A program that is not root opens /dev/stdout anew, which needs its ownership.
    """
    for number, fd in enumerate(stdio):
        os.dup2(fd, number, inheritable=True)
        # Never /dev/null, which is the host's, and root's own where the container's root is the host's.
        if stat.S_ISFIFO(os.fstat(number).st_mode):
            try:
                os.fchown(number, user["uid"], user["gid"])
            except OSError:
                pass  # an id that does not exist; taking the identity will say so


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
    slave = tty.open_pty(master)
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
