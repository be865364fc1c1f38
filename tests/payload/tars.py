"""Tar archives made byte by byte, honest and hostile, so that tests need neither a tar program nor tarfile."""

from __future__ import annotations

from collections.abc import Mapping

BLOCK = 512


def number(value: int, width: int) -> bytes:
    """A numeric field: octal where it fits, else base-256."""
    text = b"%0*o" % (width - 1, value) if value >= 0 else b"-"
    if value < 0 or len(text) >= width:
        raw = (value & ((1 << (8 * width)) - 1)).to_bytes(width, "big")
        return bytes([raw[0] | 0x80]) + raw[1:]
    return text + b"\0"


def header(
    name: bytes,
    kind: bytes = b"0",
    size: int | bytes = 0,
    *,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 1_600_000_000,
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    device: tuple[int, int] = (0, 0),
    prefix: bytes = b"",
    tail: bytes | None = None,
    checksum: bytes | None = None,
) -> bytes:
    """One header block. Numbers given as bytes are put in as they are; `tail` replaces all after the link name."""

    def field(value: int | bytes, width: int) -> bytes:
        return (value if isinstance(value, bytes) else number(value, width))[:width].ljust(width, b"\0")

    start = name[:100].ljust(100, b"\0") + field(mode, 8) + field(uid, 8) + field(gid, 8) + field(size, 12)
    start += field(mtime, 12)
    rest = kind + link[:100].ljust(100, b"\0")
    if tail is None:
        rest += magic.ljust(8, b"\0") + b"root".ljust(32, b"\0") * 2
        rest += field(device[0], 8) + field(device[1], 8) + prefix[:155].ljust(155, b"\0")
    else:
        rest += tail
    rest = rest.ljust(BLOCK - 156, b"\0")
    total = sum(start) + 8 * 32 + sum(rest)
    return start + (b"%06o\0 " % total if checksum is None else checksum) + rest


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes, data: bytes = b"", **fields: object) -> bytes:
    return header(name, b"0", len(data), **fields) + padded(data)  # type: ignore[arg-type]


def directory(name: bytes, mode: int = 0o755, **fields: object) -> bytes:
    return header(name, b"5", mode=mode, **fields)  # type: ignore[arg-type]


def symlink(name: bytes, target: bytes) -> bytes:
    return header(name, b"2", link=target, mode=0o777)


def hardlink(name: bytes, target: bytes) -> bytes:
    return header(name, b"1", link=target)


def record(key: str, value: bytes) -> bytes:
    body = b" %s=%s\n" % (key.encode(), value)
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def pax(records: Mapping[str, bytes] | bytes, kind: bytes = b"x") -> bytes:
    data = records if isinstance(records, bytes) else b"".join(record(k, v) for k, v in records.items())
    return header(b"pax", kind, len(data)) + padded(data)


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    return header(b"././@LongLink", kind, len(name) + 1, magic=b"ustar  \0") + padded(name + b"\0")


def gnu_sparse(name: bytes, extents: list[tuple[int, int]], real_size: int, data: bytes) -> bytes:
    """A sparse file in the old GNU format."""

    def places(some: list[tuple[int, int]], count: int) -> bytes:
        return b"".join(number(a, 12) + number(b, 12) for a, b in some).ljust(24 * count, b"\0")

    first, more = extents[:4], extents[4:]
    tail = b"ustar  \0".ljust(129, b"\0") + places(first, 4) + (b"\1" if more else b"\0") + number(real_size, 12)
    blocks = b""
    while more:
        some, more = more[:21], more[21:]
        blocks += (places(some, 21) + (b"\1" if more else b"\0")).ljust(BLOCK, b"\0")
    return header(name, b"S", len(data), tail=tail) + blocks + padded(data)


def end() -> bytes:
    return bytes(2 * BLOCK)
