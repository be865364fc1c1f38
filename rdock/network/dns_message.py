"""Messages of the domain name system (RFC 1035, RFC 6891): what a server reads and writes that forwards the most.

dnslib would do it, and takes 48 ms to import. Whoever sends a message may be hostile: nothing here recurses or follows
a pointer. A question's name cannot have one, since there is no name before it to point at; of names further on only
the length is wanted.
"""

from __future__ import annotations

import struct
from struct import Struct

from rdock.linux import sockets
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
IN = 1
# What became of a question; the last needs EDNS to be said.
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
UDP_SIZE, LARGEST = 512, 65535
"""Bytes of a datagram without EDNS, and of a message in a stream."""

_RESPONSE, _OPCODE, _AUTHORITATIVE, _TRUNCATED = 0x8000, 0x7800, 0x0400, 0x0200
_RECURSION_DESIRED, _RECURSION_AVAILABLE, _CHECKING_DISABLED, _RCODE = 0x0100, 0x0080, 0x0010, 0x000F
_HEADER, _PAIR, _RECORD, _LENGTH = Struct("!6H"), Struct("!HH"), Struct("!HHIH"), Struct("!H")
_TTL = 600
# What passes everywhere without being cut into fragments.
_OUR_UDP_SIZE = 1232
_QUESTIONS_NAME = b"\xc0\x0c"
# A question comes with an OPT record, and perhaps with a signature.
_MOST_RECORDS = 16


class Query(Value):
    """A question, as it came."""

    number: int
    flags: int
    fault: int = NOERROR
    """What it must be answered without being looked at, if anything; nothing of what follows is known then."""
    question: bytes = b""
    """In the form of the message: name, type and class."""
    name: str | None = None
    """In lower case, without the final dot; None if such a name cannot be written so."""
    kind: int = 0
    klass: int = 0
    size: int = UDP_SIZE
    """The largest datagram that the client takes."""
    edns: bool = False


def read(message: bytes) -> Query | None:
    """The question that a message asks; None for what must not be answered at all, lest two servers talk for ever."""
    if len(message) < _HEADER.size:
        return None
    number, flags, questions, *records = _HEADER.unpack_from(message)
    if flags & _RESPONSE:
        return None
    if flags & _OPCODE:
        return Query(number, flags, NOTIMP)
    try:
        if questions != 1:
            raise ValueError("not one question")
        labels, end = _read_name(message, _HEADER.size)
        kind, klass = _PAIR.unpack_from(message, end)
        size, version = _read_options(message, end + _PAIR.size, sum(records))
    except (ValueError, IndexError, struct.error):
        return Query(number, flags, FORMERR)
    question = message[_HEADER.size : end + _PAIR.size]
    fault = BADVERS if version else NOERROR
    largest = max(size or 0, UDP_SIZE)
    return Query(number, flags, fault, question, _text(labels), kind, klass, largest, size is not None)


def answer(
    query: Query, code: int = NOERROR, records: Sequence[bytes] = (), *, ours: bool = False, limit: int = LARGEST
) -> bytes:
    """An answer of as many bytes as are allowed; if that is too little for all the records, the bit TC says so.

    `ours`: for names that nobody knows better than we (AA).
    """
    # RA is set for whomever: glibc passes over a server that has neither this nor an answer.
    flags = _RESPONSE | _RECURSION_AVAILABLE | code & _RCODE | (_AUTHORITATIVE if ours else 0)
    flags |= query.flags & (_OPCODE | _RECURSION_DESIRED | _CHECKING_DISABLED)
    options = b"\0" + _RECORD.pack(OPT, _OUR_UDP_SIZE, code >> 4 << 24, 0) if query.edns else b""
    free = limit - _HEADER.size - len(query.question) - len(options)
    count = 0
    for record in records:
        free -= len(record)
        if free < 0:
            flags |= _TRUNCATED
            break
        count += 1
    header = _HEADER.pack(query.number, flags, bool(query.question), count, 0, bool(options))
    return b"".join((header, query.question, *records[:count], options))


def address_record(kind: int, address: str) -> bytes:
    """The record of an address (A, AAAA) for the name that was asked. Raises OSError if it is none of this kind."""
    packed = sockets.inet_pton(sockets.AF_INET if kind == A else sockets.AF_INET6, address)
    return _QUESTIONS_NAME + _RECORD.pack(kind, IN, _TTL, len(packed)) + packed


def name_record(name: str) -> bytes:
    """The record of a name (PTR) for the address that was asked. Raises ValueError if it cannot be a name."""
    labels = [label.encode() for label in name.removesuffix(".").split(".")]
    if not all(0 < len(label) < 64 for label in labels) or sum(len(label) + 1 for label in labels) > 254:
        raise ValueError(f"not a name: {name!r}")
    packed = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return _QUESTIONS_NAME + _RECORD.pack(PTR, IN, _TTL, len(packed)) + packed


def address_of(name: str) -> str | None:
    """The address that a name in in-addr.arpa or ip6.arpa stands for (RFC 1035 3.5, RFC 3596 2.5)."""
    labels = name.split(".")[::-1]
    if labels[:2] == ["arpa", "in-addr"] and len(labels) == 6:
        text, family = ".".join(labels[2:]), sockets.AF_INET
    elif labels[:2] == ["arpa", "ip6"] and len(labels) == 34 and all(len(label) == 1 for label in labels[2:]):
        digits = "".join(labels[2:])
        text, family = ":".join(digits[at : at + 4] for at in range(0, 32, 4)), sockets.AF_INET6
    else:
        return None
    try:
        return sockets.inet_ntop(family, sockets.inet_pton(family, text))
    except (OSError, ValueError):  # ValueError: a character that cannot be in C's strings
        return None


# -- answers of others ---------------------------------------------------------------------------


def renumbered(message: bytes, number: int) -> bytes:
    return _LENGTH.pack(number) + message[_LENGTH.size :]


def is_answer(message: bytes, number: int, question: bytes) -> bool:
    """Whether a message answers this question, asked with this number (RFC 5452 9.1).

    A server that did not understand it or will not answer may leave the question out.
    """
    if len(message) < _HEADER.size:
        return False
    got, flags, questions, *_ = _HEADER.unpack_from(message)
    if got != number or flags & (_RESPONSE | _OPCODE) != _RESPONSE:
        return False
    if questions == 0:
        return code_of(message) in (FORMERR, SERVFAIL, NOTIMP, REFUSED)
    echo, name = message[_HEADER.size : _HEADER.size + len(question)], slice(-_PAIR.size)
    # Lengths of labels are less than any letter, so they stay.
    return (
        questions == 1
        and echo[-_PAIR.size :] == question[-_PAIR.size :]
        and echo[name].lower() == question[name].lower()
    )


def code_of(message: bytes) -> int:
    """What became of the question, of an answer."""
    return message[3] & _RCODE


def shortened(message: bytes, query: Query, limit: int) -> bytes:
    """An answer, without its records and with the bit TC if it is longer than so many bytes."""
    if len(message) <= limit:
        return message
    number, flags, *_ = _HEADER.unpack_from(message)
    options = b"\0" + _RECORD.pack(OPT, _OUR_UDP_SIZE, 0, 0) if query.edns else b""
    return _HEADER.pack(number, flags | _TRUNCATED, 1, 0, 0, bool(options)) + query.question + options


# -- names ---------------------------------------------------------------------------------------


def _read_name(message: bytes, at: int) -> tuple[list[bytes], int]:
    """The labels of a name without pointers, and where it ends. Raises ValueError, IndexError."""
    start, labels = at, []
    while length := message[at]:
        if length > 63 or at + length - start > 253:
            raise ValueError("not a name")
        labels.append(message[at + 1 : at + 1 + length])
        at += 1 + length
    return labels, at + 1


def _skip_name(message: bytes, at: int) -> int:
    """Where a name ends, which perhaps ends with a pointer. Raises ValueError, IndexError."""
    start = at
    while length := message[at]:
        if length >= 0xC0:
            return at + 2
        if length > 63 or at + length - start > 253:
            raise ValueError("not a name")
        at += 1 + length
    return at + 1


def _read_options(message: bytes, at: int, count: int) -> tuple[int | None, int]:
    """Size and version that an OPT record tells, if there is one. Raises ValueError, IndexError, struct.error."""
    found: tuple[int | None, int] = None, 0
    if count > _MOST_RECORDS:
        raise ValueError("too many records")
    for _ in range(count):
        root = message[at] == 0
        at = _skip_name(message, at)
        kind, klass, ttl, length = _RECORD.unpack_from(message, at)
        at += _RECORD.size + length
        if at > len(message):
            raise ValueError("cut off")
        if kind == OPT:
            if not root or found[0] is not None:
                raise ValueError("not one OPT record")  # RFC 6891 6.1.1
            found = klass, ttl >> 16 & 0xFF
    return found


def _text(labels: list[bytes]) -> str | None:
    if any(b"." in label for label in labels):
        return None
    try:
        return b".".join(labels).lower().decode()
    except UnicodeDecodeError:
        return None
