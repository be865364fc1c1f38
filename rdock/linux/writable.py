"""How much a stream takes without blocking, for those that are shared with other processes."""

from __future__ import annotations

import fcntl
import os
import select
import stat
import termios

# What a pipe takes without blocking when poll calls it writable; terminals and sockets mostly have as much room.
_PIPE_BUF = 4096
_MOST = 1 << 20
_NOTHING = bytes(4)  # as FIONREAD tells it


def room(fd: int) -> int:
    """How much can be written to a stream now without blocking, 0 if nothing.

    The stream is the caller's, and shared with other processes: it cannot be made not to block. One that is
    about to fail has room, so that writing tells why.
    """
    try:
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(fd))):
            return _MOST  # a file or /dev/null, which does not stall
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            return _MOST
        # One byte in each of its pages is enough to fill a pipe. Only of an empty one the room is known.
        if stat.S_ISFIFO(mode) and fcntl.ioctl(fd, termios.FIONREAD, _NOTHING) == _NOTHING:
            return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except OSError:
        return _MOST
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return _PIPE_BUF if poll.poll(0) else 0
