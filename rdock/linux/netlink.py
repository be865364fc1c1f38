"""Netlink: messages to the kernel and what it answers (netlink(7), linux/netlink.h).

A socket belongs to the network namespace that its process is in when it is made, and stays there
wherever the process goes. What the messages say is for links.py and nftables.py.
"""

from __future__ import annotations

import errno
import os
from struct import Struct, error

from rdock.linux import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Self

ROUTE = 0
NETFILTER = 12

# Flags of a request that makes something: it may be new; it must be.
CREATE = 0x400
EXCL = 0x200

_REQUEST, _MULTI, _ACK, _DUMP_INTERRUPTED, _DUMP = 0x1, 0x2, 0x4, 0x10, 0x300
_CAPPED, _ACK_TLVS = 0x100, 0x200
_NLMSG_ERROR, _NLMSG_DONE, _NLMSG_OVERRUN, _FIRST_REAL_TYPE = 2, 3, 4, 16
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_NLMSGERR_ATTR_MSG = 1
_NESTED, _TYPE_MASK = 0x8000, 0x3FFF

_HEADER = Struct("=IHHII")
_ATTRIBUTE = Struct("=HH")
_INT, _U32 = Struct("=i"), Struct("=I")

# The kernel fills at most 32 KiB of a datagram with a dump; an answer about one thing is far smaller.
_DATAGRAM = 65536
# More than thousands of links take; whoever fills a namespace must not fill our memory too.
_LARGEST_DUMP = 16 << 20
_DUMP_ATTEMPTS = 10
# The kernel answers while the request is being sent. Should an answer be lost, that is an error, not a wait for ever.
_PATIENCE = Struct("@ll").pack(30, 0)


class Netlink:
    """A netlink socket, closed by `close` or at the end of `with`. For one thread.

    Every failure is an OSError: errno and words are the kernel's, the name is what the caller said that it was about.
    """

    def __init__(self, protocol: int = ROUTE) -> None:
        """Raises OSError, e.g. EPROTONOSUPPORT if this kernel does not know the protocol."""
        self._socket = sockets.socket(sockets.AF_NETLINK, sockets.SOCK_RAW, protocol)
        self._sequence = 0
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVTIMEO, _PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def request(self, kind: int, body: bytes, flags: int = 0, about: str | None = None) -> list[bytes]:
        """Do one thing; the bodies of what came back before the acknowledgement."""
        self._sequence += 1
        self._socket.send(message(kind, _REQUEST | _ACK | flags, self._sequence, body))
        bodies: list[bytes] = []
        while True:
            for answer_kind, answer_flags, _, answer in self._receive(self._sequence, self._sequence):
                if answer_kind == _NLMSG_ERROR:
                    _raise_if_failed(answer_flags, answer, about)
                    return bodies
                bodies.append(answer)

    def dump(self, kind: int, body: bytes, about: str | None = None) -> list[bytes]:
        """The bodies of everything of a kind, asked for again if it changed meanwhile.

        Raises OSError: EBUSY if it goes on changing, EFBIG if there is no end of it; the socket is of no use then.
        """
        for _ in range(_DUMP_ATTEMPTS):
            bodies, whole = self._dump_once(kind, body, about)
            if whole:
                return bodies
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), about)

    def _dump_once(self, kind: int, body: bytes, about: str | None) -> tuple[list[bytes], bool]:
        self._sequence += 1
        self._socket.send(message(kind, _REQUEST | _DUMP, self._sequence, body))
        bodies: list[bytes] = []
        whole, size = True, 0
        while True:
            for answer_kind, flags, _, answer in self._receive(self._sequence, self._sequence):
                if flags & _DUMP_INTERRUPTED and answer_kind != _NLMSG_ERROR:
                    whole = False
                if answer_kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    if len(answer) >= _INT.size:
                        _raise_if_failed(flags, answer, about)
                    return bodies, whole
                bodies.append(answer)
                size += len(answer)
                if size > _LARGEST_DUMP:
                    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), about)
                if not flags & _MULTI:
                    return bodies, whole

    def batch(
        self, first: tuple[int, bytes], requests: Sequence[tuple[int, int, bytes]], last: tuple[int, bytes]
    ) -> None:
        """Send requests (kind, flags, body) in one datagram, framed by `first` and `last` (kind, body).

        Raises the error of the first of them that failed. Whether then none has been done is a matter of the
        protocol; it is so in nfnetlink.
        """
        if not requests:
            return
        start = self._sequence + 1
        end = self._sequence = start + len(requests)
        parts = [message(first[0], _REQUEST, start, first[1])]
        for number, (kind, flags, body) in enumerate(requests, start + 1):
            parts.append(message(kind, _REQUEST | flags | (_ACK if number == end else 0), number, body))
        parts.append(message(last[0], _REQUEST, end, last[1]))
        self._socket.send(b"".join(parts))
        failure: OSError | None = None
        while True:
            for kind, flags, sequence, answer in self._receive(start, end):
                if kind != _NLMSG_ERROR:
                    continue
                try:
                    _raise_if_failed(flags, answer, None)
                except OSError as e:
                    failure = failure or e
                # An error of the frame is the last word too: the rest has not been looked at, or not been kept.
                if sequence in (start, end):
                    if failure:
                        raise failure
                    return

    def _receive(self, first: int, last: int) -> Iterator[tuple[int, int, int, bytes]]:
        """The messages of one datagram (kind, flags, sequence, body) that answer requests first…last."""
        try:
            data, _, received, sender = self._socket.recvmsg(_DATAGRAM)
        except BlockingIOError:
            raise OSError(errno.ETIMEDOUT, "no answer from the kernel") from None
        if received & sockets.MSG_TRUNC:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        if sender[0] != 0:
            return  # another process's, not the kernel's
        for kind, flags, sequence, body in _split(data):
            # What is left of a request that was given up is behind us; nothing can be ahead.
            if sequence < first:
                continue
            if sequence > last:
                raise OSError(errno.EPROTO, f"answer {sequence} to request {last}")
            if kind == _NLMSG_OVERRUN:
                raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
            if kind >= _FIRST_REAL_TYPE or kind in (_NLMSG_ERROR, _NLMSG_DONE):
                yield kind, flags, sequence, body


def _split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages of a datagram: kind, flags, sequence, body. Raises OSError (EPROTO) if they do not fit into it."""
    at = 0
    while at < len(data):
        try:
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
        except error:
            length = 0
        if not _HEADER.size <= length <= len(data) - at:
            raise OSError(errno.EPROTO, "a message that is longer than its datagram")
        yield kind, flags, sequence, data[at + _HEADER.size : at + length]
        at += length + 3 & ~3


def _raise_if_failed(flags: int, answer: bytes, about: str | None) -> None:
    """Raise what struct nlmsgerr tells, with the kernel's own explanation if it has one."""
    number = -_INT.unpack_from(answer)[0]
    if number <= 0:
        return
    text = os.strerror(number)
    if flags & _ACK_TLVS:
        start = _INT.size + _HEADER.size
        if not flags & _CAPPED:
            start = _INT.size + (_U32.unpack_from(answer, _INT.size)[0] + 3 & ~3)
        words = attributes(answer, start).get(_NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode("utf-8", "replace")
        if words:
            text += f": {words}"
    raise OSError(number, text, about)


# -- messages and attributes ---------------------------------------------------------------------


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """struct nlmsghdr and a body, padded."""
    size = _HEADER.size + len(body)
    return _HEADER.pack(size, kind, flags, sequence, 0) + body + bytes(-size % 4)


def attribute(kind: int, value: bytes) -> bytes:
    """struct nlattr and its value, padded."""
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def nested(kind: int, inner: Iterable[bytes]) -> bytes:
    """An attribute that consists of attributes."""
    return attribute(kind | _NESTED, b"".join(inner))


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes((value,)))


def u32(kind: int, value: int) -> bytes:
    """In the byte order of the machine, as rtnetlink has its numbers."""
    return attribute(kind, _U32.pack(value))


def big_u32(kind: int, value: int) -> bytes:
    """In network byte order, as nfnetlink has its numbers; negative ones too."""
    return attribute(kind, (value & 0xFFFFFFFF).to_bytes(4, "big"))


def text(kind: int, value: str) -> bytes:
    """A string with its zero. Raises ValueError if there is one in it: the kernel would take what is before."""
    if "\0" in value:
        raise ValueError(f"a name with a zero in it: {value!r}")
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes, start: int = 0) -> dict[int, bytes]:
    """The attributes from a place in a body on, by kind; of several of a kind the last."""
    found = {}
    while start + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if not _ATTRIBUTE.size <= length <= len(data) - start:
            raise OSError(errno.EPROTO, "an attribute that is longer than its message")
        found[kind & _TYPE_MASK] = data[start + _ATTRIBUTE.size : start + length]
        start += length + 3 & ~3
    return found


def number(value: bytes | None) -> int | None:
    """The u32 of an attribute that may be missing."""
    return _U32.unpack_from(value)[0] if value is not None and len(value) >= _U32.size else None


def string(value: bytes | None) -> str:
    """The text of an attribute that may be missing."""
    return (value or b"").split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
