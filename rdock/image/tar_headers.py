"""Writing tar archives: the header of a member, in ustar form with a pax header before it where that does not do.

As Docker writes them: no names of owners, times in whole seconds, nothing that depends on when or where it is
written. Equal arguments give equal bytes. POSIX.1-2017, pax; sparse files as GNU tar's format 1.0.
"""

from __future__ import annotations

from rdock.image.tar import BLOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

END = bytes(2 * BLOCK)
_NAME, _PREFIX, _LINK = 100, 155, 100
# Of a field of 8 and one of 12 bytes, the last of which is a NUL.
_MAX_SMALL, _MAX_LARGE = 0o7777777, 0o77777777777
# What a reader may refuse; see tar.py, which has it from Go's archive/tar.
_MAX_RECORDS = 1 << 20


def header(
    name: bytes,
    kind: bytes,
    *,
    mode: int = 0,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: Mapping[str, bytes] | None = None,
    sparse_size: int | None = None,
) -> bytes:
    """The header blocks of a member; `mtime` in seconds since 1970, `size` of what is stored.

    The name of a directory ends in a slash. With `sparse_size`, what a sparse file becomes, the stored content begins
    with `sparse_map`. Raises ValueError if the attributes are more than a header can hold.
    """
    records: dict[str, bytes] = {f"SCHILY.xattr.{key}": value for key, value in (xattrs or {}).items()}
    if sparse_size is not None:
        records |= {
            "GNU.sparse.major": b"1", "GNU.sparse.minor": b"0", "GNU.sparse.name": name,
            "GNU.sparse.realsize": b"%d" % sparse_size,
        }  # fmt: skip
        name = b"GNUSparseFile.0/" + name.rpartition(b"/")[2]
    prefix, short = _split(name)
    if short is None:
        records["path"] = name
        prefix, short = b"", name[:_NAME]
    if len(link) > _LINK:
        records["linkpath"] = link
    limits = (("uid", uid, _MAX_SMALL), ("gid", gid, _MAX_SMALL), ("size", size, _MAX_LARGE),
              ("mtime", mtime, _MAX_LARGE))  # fmt: skip
    numbers = []
    for key, value, most in limits:
        fits = 0 <= value <= most
        numbers.append(value if fits else 0)
        if not fits:
            records[key] = b"%d" % value
    block = _block(short, kind, (mode & 0o7777, *numbers), link[:_LINK], device, prefix)
    return (_pax(name, records) if records else b"") + block


def sparse_map(extents: Sequence[tuple[int, int]]) -> bytes:
    """What comes before the content of a sparse file: offset and length of each piece that is stored."""
    text = b"".join([b"%d\n" % len(extents), *(b"%d\n%d\n" % extent for extent in extents)])
    return text + padding(len(text))


def padding(size: int) -> bytes:
    """What fills the last block of content of this size."""
    return bytes(-size % BLOCK)


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """Prefix and name as ustar has them; None if it is too long."""
    if len(name) <= _NAME:
        return b"", name
    at = name.find(b"/", len(name) - _NAME - 1, len(name) - 1)
    return (name[:at], name[at + 1 :]) if 0 < at <= _PREFIX else (b"", None)


def _pax(name: bytes, records: Mapping[str, bytes]) -> bytes:
    data = b"".join(_record(key.encode("utf-8", "surrogateescape"), records[key]) for key in sorted(records))
    if len(data) > _MAX_RECORDS:
        raise ValueError("attributes of more than a megabyte")
    own = b"PaxHeaders.0/" + name.rstrip(b"/").rpartition(b"/")[2][: _NAME - 13]
    return _block(own, b"x", (0o644, 0, 0, len(data), 0)) + data + padding(len(data))


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE`, with a length that counts its own digits."""
    body = b" %s=%s\n" % (key, value)
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def _block(
    name: bytes,
    kind: bytes,
    numbers: tuple[int, ...],
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    prefix: bytes = b"",
) -> bytes:
    """One ustar header; `numbers` are mode, uid, gid, size and mtime."""
    start = name.ljust(_NAME, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % numbers
    rest = kind + link.ljust(_LINK, b"\0") + b"ustar\0" + b"00" + bytes(64)
    rest += b"%07o\0%07o\0" % (min(device[0], _MAX_SMALL), min(device[1], _MAX_SMALL))
    rest = (rest + prefix.ljust(_PREFIX, b"\0")).ljust(BLOCK - 156, b"\0")
    return start + b"%06o\0 " % (sum(start) + 8 * 32 + sum(rest)) + rest
