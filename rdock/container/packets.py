"""What a container's monitor and those who are attached to it say to each other.

Packets over a SOCK_SEQPACKET unix socket, whose bounds the kernel keeps: one letter for the kind, then the
payload. Who connects says first what for: `a`, `n`, or a request.

    to the client    o, e   output and error output        to the monitor   a   attach me
                     s      started, and why there is no way out; attached  n   I only wait for the end
                     f      failed, JSON                                    q   part of a request
                     x      exited, JSON; the last one                      Q   the last part: JSON
                     i      one packet of input is through                  i   input
                     a      the answer to a request, JSON                   c   end of input
                                                                            w   window size, JSON
                                                                            k   signal number
                                                                            p   o or e leads nowhere

The monitor's half is in stdio.py, that of a command in attach.py.
"""

from __future__ import annotations

from rdock.linux import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
else:
    from _collections import deque  # the same, without all else of collections, which is 2 ms

PACKET = 32768
"""Bytes of output or input in one packet at most."""
CREDIT = 16
"""How many packets of input a client may have under way."""


class Client:
    """One who has connected, as the monitor sees him."""

    def __init__(self, connection: sockets.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.waiting: deque[bytes] = deque()
        self.size = 0
        self.is_attached = False
        self.is_leaving = False
        """It has had its last packet, and goes when it has read it."""
        self.input_under_way = 0
        self.request = b""
        """The parts of it that have come."""
        self.on_leave: Callable[[], None] | None = None

    def send(self, packet: bytes) -> None:
        self.waiting.append(packet)
        self.size += len(packet)
        self.flush()

    def flush(self) -> None:
        """Send as much as goes. Raises OSError when the client is gone."""
        while self.waiting:
            try:
                self.connection.send(self.waiting[0])
            except BlockingIOError:
                return
            self.size -= len(self.waiting.popleft())
