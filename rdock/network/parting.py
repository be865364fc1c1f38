"""Connections whose other half was reset: they are reset too, but not before their peer has what was sent to it.

To reset is to throw away what the kernel has still to send, the last words of who broke off among it: a server that
refuses a request before it has read all of it answers, and closes. A part of forwarder.py's process.
"""

from __future__ import annotations

import fcntl
import select
import termios
import time

from rdock.linux import sockets

# Seconds until a peer that takes nothing is reset all the same; between looks: doubled each time, up to the most.
_PATIENCE = 30.0
_FIRST_PAUSE, _MOST_PAUSE = 0.002, 0.5
# Closing a socket whose linger time is zero resets the connection.
_LINGER_ZERO = b"\x01\0\0\0\0\0\0\0"


def reset(connected: sockets.socket) -> None:
    """Close a connection as one that was refused or broken off."""
    try:
        connected.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, _LINGER_ZERO)
    except OSError:
        pass
    connected.close()


class Parting:
    """Those that are still to be reset. The kernel does not say when all is sent, so they are looked at."""

    def __init__(self) -> None:
        self._left: dict[sockets.socket, float] = {}
        self._pause = _FIRST_PAUSE
        self._look_at = 0.0

    def add(self, connected: sockets.socket) -> None:
        """Reset a connection as soon as its peer has all; it is nobody else's any more."""
        if _has_all(connected):
            reset(connected)
            return
        now = time.monotonic()
        self._left[connected] = now + _PATIENCE
        self._pause, self._look_at = _FIRST_PAUSE, now + _FIRST_PAUSE

    def timeout(self) -> float | None:
        """Seconds until `look` has something to do; None for never."""
        return max(0.0, self._look_at - time.monotonic()) if self._left else None

    def look(self) -> bool:
        """Reset those whose time has come; whether there were any."""
        now = time.monotonic()
        if not self._left or now < self._look_at:
            return False
        self._pause = min(2 * self._pause, _MOST_PAUSE)
        self._look_at = now + self._pause
        due = [each for each, until in self._left.items() if now >= until or _has_all(each)]
        for each in due:
            del self._left[each]
            reset(each)
        return bool(due)


def _has_all(connected: sockets.socket) -> bool:
    """Whether the peer has acknowledged all that was sent (SIOCOUTQ, tcp(7)), or is gone."""
    poll = select.poll()
    poll.register(connected.fileno(), 0)
    if poll.poll(0):
        return True
    try:
        return not any(fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, bytes(4)))
    except OSError:
        return True
