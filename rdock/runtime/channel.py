"""The messages between the monitor and the process that becomes the container's process 1.

    monitor (parent.py)                          child (child.py)
        clone(new namespaces)  ───────────────▶  waits
        writes id maps, joins cgroup
        maps          ────────────────────────▶  builds hostname, mounts, pivots
        starts slirp4netns meanwhile
                      ◀──────────────── terminal + fd of the pty's master   (only with a terminal)
                      ◀──────────────────────────── ready
        (created; may wait for as long as it likes)
        start         ────────────────────────▶  takes identity, limits, filter; execve
                      ◀───────────────────── end of file: execve succeeded
    at any time       ◀──────── failed {step, errno, path}

One message is one packet of a SOCK_SEQPACKET pair, a JSON object, so lengths cannot be confused
(CVE-2021-43784). Errors travel with their errno: exit codes 126 and 127 follow from it, never from
text. Both ends are closed on exec; an end of file means the other side is gone. What the child says is
not trusted: it shares its namespaces with the container's processes.
"""

from __future__ import annotations

import errno
import os
import sys

from rdock import jsontext
from rdock.linux import sockets, tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

MAX_MESSAGE = 65536


class Failed(Exception):
    """A step of the other side failed."""

    def __init__(self, step: str, number: int, path: str) -> None:
        super().__init__(f"{step}: {path}: {os.strerror(number)}")
        self.step, self.errno, self.path = step, number, path


class Channel:
    """One end of the pair."""

    def __init__(self, end: sockets.socket) -> None:
        self._socket = end

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        left, right = sockets.packet_pair()
        return cls(left), cls(right)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, kind: str, *, fds: Sequence[int] = (), **fields: Any) -> None:
        """Send one message; that the other side is gone already is found out at the next receive."""
        data = jsontext.render({"kind": kind, **fields}).encode()
        try:
            if fds:
                sockets.send_fds(self._socket, data, fds)
            else:
                self._socket.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def send_failure(self, step: str, error: OSError) -> None:
        path = os.fsdecode(error.filename) if error.filename else ""
        self.send("failed", step=step, errno=error.errno or 0, path=path[:4096])

    def receive(self, *, terminal: bool = False) -> tuple[dict[str, Any] | None, int]:
        """The next message and the terminal's master that came with it, -1 if none did; None at the end of file.

        `terminal`: whether that may come now. Raises Failed when the message is a failure, or is none that
        could come.
        """
        data, fds = sockets.receive_fds(self._socket, MAX_MESSAGE, 4)
        master = -1
        try:
            message = _understand(data)
            if message and message["kind"] == "terminal":
                if not terminal or len(fds) != 1 or not tty.is_master(fds[0]):
                    raise Failed("unexpected terminal", 0, "")
                master = fds.pop()
            return message, master
        finally:
            for fd in fds:
                os.close(fd)

    def expect(self, kind: str) -> dict[str, Any]:
        """The next message, which has to be of this kind. Raises EOFError if the other side is gone."""
        message, _ = self.receive()
        if message is None or message["kind"] != kind:
            raise EOFError(f"expected {kind}, got {message and message['kind']}")
        return message


def _understand(data: bytes) -> dict[str, Any] | None:
    """The message in a packet; None if it is the end of file. Raises Failed for a failure, or what is no message."""
    if not data:
        return None
    if len(data) == 4:  # the trampoline's errno, see packaging/init/init.c
        raise Failed("exec", int.from_bytes(data, sys.byteorder, signed=True), "")
    try:
        message: dict[str, Any] = jsontext.parse(data)
        if message["kind"] != "failed":
            return message
        failure = Failed(str(message["step"]), int(message["errno"]), str(message["path"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        failure = Failed("malformed message", errno.EPROTO, "")
    raise failure
