"""Answers by the clock: http.client's, of which each part has to come in time, and the head in few bytes.

The timeout of a socket is for each of its reads anew, and some of what http.client reads has no end but the one
that the server sets: heads that come a byte at a time, interim responses (RFC 9110, 15.2), trailers. A server
could thus hold a command for ever. So the bytes are counted where they come from the socket, below all parsing,
which takes no thread and is the same with TLS and through proxies.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any

# Seconds for the status line and the headers, from the request's end on, and for what one read of the body needs.
# The socket's own timeout comes on top, for who falls silent just before.
TIME = 60.0
# Bytes of all that comes before the body, interim responses among it. (Of the body's first bytes some may count.)
MAX_HEAD = 256 << 10


class Malformed(http.client.HTTPException):
    """The head is none, or has no end."""


class Late(TimeoutError):
    """It comes, but not in time."""


class Answer(http.client.HTTPResponse):
    """An HTTPResponse that raises Late and Malformed rather than read on."""

    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self._incoming = _Incoming(self.fp.detach())
        self.fp = io.BufferedReader(self._incoming)

    def begin(self) -> None:
        super().begin()
        self._incoming.limit = None
        # Otherwise it would be read until the server closes the connection (RFC 9112, 6.3: an error for good).
        length = self.headers.get("Content-Length", "0").strip()
        if not all(part.strip().isascii() and part.strip().isdecimal() for part in length.split(",")):
            raise Malformed(f"Content-Length: {length[:40]!r}")

    def read1(self, n: int = -1) -> bytes:
        self._incoming.end = time.monotonic() + TIME
        return super().read1(n)


class _Incoming(io.RawIOBase):
    """What comes from a socket, looked at on its way."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.end = time.monotonic() + TIME
        """The moment after which nothing is taken any more."""
        self.limit: int | None = MAX_HEAD

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self._raw.readinto(buffer)
        if count and time.monotonic() > self.end:
            raise Late("timed out")
        if self.limit is not None:
            self.limit -= count or 0
            if self.limit < 0:
                raise Malformed(f"more than {MAX_HEAD} bytes before the content")
        return int(count or 0)

    def close(self) -> None:
        self._raw.close()
        super().close()
