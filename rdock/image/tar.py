"""Reading tar archives from a stream: ustar, GNU, pax, sparse files of all four kinds.

Archives are hostile: numbers are checked before they are used, every loop consumes input, and what a
header may make us hold in memory is limited. The standard tarfile is not used for it is several times
slower and repairs or skips what had better be refused. Names stay bytes, since an archive has no
encoding. Nothing is written here; `extract` does that.
"""

from __future__ import annotations

import zlib

from rdock.errors import DataLoss

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

BLOCK = 512
REGULAR, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"

# What a long name or a pax header may take; Go's archive/tar has the same limit.
_MAX_SPECIAL = 1 << 20
_MAX_SPARSE = 1 << 20
_MAX_SIZE = 1 << 62
_NO_DATA = frozenset((HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))
_ZEROS = bytes(BLOCK)

Extents: TypeAlias = "list[tuple[int, int]]"


class Stream:
    """The bytes of an iterator of pieces, taken in the portions a parser wants."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = b""
        self._start = 0
        self._consumed = 0

    @property
    def position(self) -> int:
        return self._consumed + self._start

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end."""
        end = self._start + size
        while end > len(self._buffer):
            more = next(self._chunks, b"")
            if not more:
                break
            self._consumed += self._start
            self._buffer = self._buffer[self._start :] + more
            self._start, end = 0, size
        data = self._buffer[self._start : end]
        self._start += len(data)
        return data

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes without copying; fewer at the end."""
        while size:
            available = len(self._buffer) - self._start
            if not available:
                more = next(self._chunks, b"")
                if not more:
                    return
                self._consumed += self._start
                self._buffer, self._start, available = more, 0, len(more)
            count = min(size, available)
            piece = memoryview(self._buffer)[self._start : self._start + count]
            self._start += count
            size -= count
            yield piece

    def skip(self, size: int) -> int:
        """Pass over bytes; how many there were."""
        return sum(map(len, self.pieces(size)))

    def drain(self) -> None:
        """Read to the end, so that whoever hashes the stream has seen all of it."""
        self._consumed += len(self._buffer)
        self._buffer, self._start = b"", 0
        for chunk in self._chunks:
            self._consumed += len(chunk)


class Entry:
    """One member: its header with all extensions applied. `size` is what is stored, `real_size` what it becomes."""

    __slots__ = ("extents", "gid", "kind", "link", "major", "minor", "mode", "mtime", "name", "real_size", "size",
                 "uid", "xattrs")  # fmt: skip

    def __init__(self) -> None:
        self.xattrs: dict[str, bytes] | None = None
        self.extents: Extents | None = None
        self.name: bytes
        self.link: bytes
        self.kind: bytes
        self.mode: int
        self.uid: int
        self.gid: int
        self.size: int
        self.real_size: int
        self.mtime: int
        """In nanoseconds since 1970; may be negative."""
        self.major: int
        self.minor: int

    @property
    def text(self) -> str:
        """The name for messages: short and harmless on a terminal."""
        return printable(self.name)


def printable(name: bytes) -> str:
    text = name.decode("utf-8", "replace")
    if len(text) > 200:
        text = text[:200] + "…"
    return text if text.isprintable() else ascii(text)[1:-1]


def invalid(problem: str) -> DataLoss:
    return DataLoss(f"invalid tar archive: {problem}")


class Reader:
    """The members of an archive in order: `next()`, then `data()` for the content of that one.

    With `strict_end` the end mark must be there, without it an archive may just stop between members, as
    some tools write it. Raises DataLoss.
    """

    def __init__(self, stream: Stream, *, strict_end: bool = False) -> None:
        self.stream = stream
        self.strict_end = strict_end
        self._left = 0
        self._padding = 0
        self._seen = False

    def next(self) -> Entry | None:
        """The header of the next member; None at the end."""
        self._finish_member()
        extended: dict[str, bytes] = {}
        sparse: list[tuple[str, bytes]] = []
        long_name = long_link = b""
        special = False
        while True:
            block = self._header(special)
            if block is None:
                return None
            kind = block[156:157]
            if kind == b"x":
                extended, sparse = _pax_records(self._special(block))
            elif kind == b"L":
                long_name = self._special(block).split(b"\0", 1)[0]
            elif kind == b"K":
                long_link = self._special(block).split(b"\0", 1)[0]
            elif kind == b"g":
                # Docker passes over global headers, too; git archive writes one.
                self._special(block)
                continue
            else:
                return self._entry(block, kind, extended, sparse, long_name, long_link)
            special = True

    def data(self) -> Iterator[memoryview]:
        """The stored content of the current member. Raises DataLoss when it is cut off."""
        for piece in self.stream.pieces(self._left):
            self._left -= len(piece)
            yield piece
        if self._left:
            raise invalid("unexpected end")

    def read(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes of the current member's content."""
        size = min(size, self._left)
        for piece in self.stream.pieces(size):
            self._left -= len(piece)
            size -= len(piece)
            yield piece
        if size:
            raise invalid("unexpected end")

    def _finish_member(self) -> None:
        rest = self._left + self._padding
        if rest and self.stream.skip(rest) < rest:
            raise invalid("unexpected end")
        self._left = self._padding = 0

    def _header(self, special: bool) -> bytes | None:
        block = self.stream.take(BLOCK)
        if len(block) == BLOCK and block != _ZEROS:
            _check_sum(block, first=not self._seen)
            self._seen = True
            return block
        if special:
            raise invalid("unexpected end after an extended header")
        if not block:
            if self.strict_end:
                raise invalid("unexpected end" if self._seen else "it is empty")
            return None
        if len(block) < BLOCK:
            raise invalid("unexpected end" if self._seen else "too short")
        # The end mark is two blocks of zeros; a single one at the very end is common and harmless.
        second = self.stream.take(BLOCK)
        if second and second != _ZEROS[: len(second)]:
            raise invalid("data after the end mark")
        return None

    def _special(self, block: bytes) -> bytes:
        size = _number(block[124:136], "size")
        if not 0 <= size <= _MAX_SPECIAL:
            raise invalid(f"extended header of {size} bytes")
        data = self.stream.take(size)
        padding = -size % BLOCK
        if len(data) < size or self.stream.skip(padding) < padding:
            raise invalid("unexpected end")
        return data

    def _entry(
        self,
        block: bytes,
        kind: bytes,
        extended: dict[str, bytes],
        sparse: list[tuple[str, bytes]],
        long_name: bytes,
        long_link: bytes,
    ) -> Entry:
        entry = Entry()
        magic = block[257:263]
        name = block[:100].split(b"\0", 1)[0]
        if magic == b"ustar\0" and block[345]:
            name = block[345:500].split(b"\0", 1)[0] + b"/" + name
        entry.name = long_name or name
        entry.link = long_link or block[157:257].split(b"\0", 1)[0]
        entry.mode = _number(block[100:108], "mode") & 0o7777
        entry.uid = _number(block[108:116], "uid")
        entry.gid = _number(block[116:124], "gid")
        entry.size = _number(block[124:136], "size")
        entry.mtime = _number(block[136:148], "mtime") * 1_000_000_000
        entry.major = entry.minor = 0
        if kind in (CHARACTER, BLOCK_DEVICE):
            entry.major = _number(block[329:337], "device number")
            entry.minor = _number(block[337:345], "device number")
        if extended:
            _apply_pax(entry, extended)
        if kind in (b"0", b"\0", b"7", b"S"):
            # Before POSIX a directory was a file whose name ends with a slash.
            entry.kind = DIRECTORY if entry.name.endswith(b"/") and kind != b"S" else REGULAR
        else:
            entry.kind = kind
        if entry.kind in _NO_DATA:
            entry.size = 0
        if not 0 <= entry.size < _MAX_SIZE:
            raise invalid(f"{entry.text}: impossible size {entry.size}")
        if not (0 <= entry.uid < 0xFFFFFFFF and 0 <= entry.gid < 0xFFFFFFFF):
            raise invalid(f"{entry.text}: impossible owner {entry.uid}:{entry.gid}")
        self._left = entry.real_size = entry.size
        self._padding = -entry.size % BLOCK
        if kind == b"S":
            entry.extents, entry.real_size = self._gnu_sparse(block)
        elif sparse or "GNU.sparse.major" in extended or "GNU.sparse.map" in extended:
            self._pax_sparse(entry, extended, sparse)
        if entry.extents is not None:
            _check_extents(entry, self._left)
        return entry

    # -- sparse files (GNU tar manual, "Storing Sparse Files") -------------------------------------

    def _gnu_sparse(self, block: bytes) -> tuple[Extents, int]:
        """The map of the old GNU format: four places in the header, 21 more in each block that follows it."""
        extents: Extents = []
        _read_places(block[386:482], extents)
        real_size = _number(block[483:495], "sparse size")
        more = block[482]
        while more:
            block = self.stream.take(BLOCK)
            if len(block) < BLOCK:
                raise invalid("unexpected end")
            _read_places(block[:504], extents)
            more = block[504]
        return extents, real_size

    def _pax_sparse(self, entry: Entry, extended: dict[str, bytes], sparse: list[tuple[str, bytes]]) -> None:
        if "GNU.sparse.major" in extended:
            if (extended["GNU.sparse.major"], extended.get("GNU.sparse.minor")) != (b"1", b"0"):
                raise invalid(f"{entry.text}: unknown sparse format")
            numbers = self._stored_map()
        elif "GNU.sparse.map" in extended:
            numbers = [_decimal(part) for part in extended["GNU.sparse.map"].split(b",")]
        else:
            numbers = [_decimal(value) for _, value in sparse]
        if len(numbers) % 2:
            raise invalid(f"{entry.text}: odd sparse map")
        entry.extents = list(zip(numbers[::2], numbers[1::2], strict=True))
        entry.name = extended.get("GNU.sparse.name", entry.name)
        real_size = extended.get("GNU.sparse.realsize", extended.get("GNU.sparse.size"))
        entry.real_size = _decimal(real_size) if real_size is not None else entry.size

    def _stored_map(self) -> list[int]:
        """The map of format 1.0: decimal lines at the beginning of the content, padded to a block."""
        numbers: list[int] = []
        text = b""
        wanted = 1
        while len(numbers) < wanted:
            block = b"".join(self.read(BLOCK))
            if len(block) < BLOCK:
                raise invalid("sparse map is cut off")
            *lines, text = (text + block).split(b"\n")
            numbers += [_decimal(line) for line in lines[: wanted - len(numbers)]]
            if wanted == 1 and numbers:
                if numbers[0] > _MAX_SPARSE:
                    raise invalid("sparse map is too large")
                wanted = 1 + 2 * numbers[0]
                numbers += [_decimal(line) for line in lines[1:wanted]]
            if len(text) > BLOCK:
                raise invalid("sparse map is not a list of numbers")
        return numbers[1:]


def _check_sum(block: bytes, *, first: bool) -> None:
    """The header's sum counts its own eight bytes as blanks; adler32's lower half is a fast sum modulo 65521."""
    try:
        stored = _number(block[148:156], "checksum")
    except DataLoss:
        stored = -1
    blanked = block[:148] + b"        " + block[156:]
    if 0 <= stored <= BLOCK * 255 and (zlib.adler32(blanked) & 0xFFFF) == (stored + 1) % 65521:
        return
    # Some old implementations summed signed characters.
    if stored != sum(blanked) - 256 * sum(byte > 127 for byte in blanked):
        raise invalid("not a tar header" if first else "damaged header")


def _number(field: bytes, what: str) -> int:
    """A numeric field: octal digits, or with the top bit set a base-256 number."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        # The next bit is the sign.
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        if abs(value) >= 1 << 63:
            raise invalid(f"{what} out of range")
        return value
    digits = field.split(b"\0", 1)[0].strip()
    if not digits:
        return 0
    try:
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise invalid(f"{what} is not a number: {printable(digits)}")


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 19:
        raise invalid(f"not a number: {printable(digits[:40])}")
    return int(digits)


def _pax_records(data: bytes) -> tuple[dict[str, bytes], list[tuple[str, bytes]]]:
    """The records of a pax header, and apart from them those of the oldest sparse format, which repeat keys."""
    records: dict[str, bytes] = {}
    sparse: list[tuple[str, bytes]] = []
    start = 0
    while start < len(data):
        blank = data.find(b" ", start, start + 20)
        length = data[start:blank] if blank > 0 else b""
        if not length.isdigit():
            raise invalid("damaged pax header")
        end = start + int(length)
        key, equals, value = data[blank + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= blank + 1 or data[end - 1 : end] != b"\n" or not equals or not key:
            raise invalid("damaged pax header")
        name = key.decode("utf-8", "surrogateescape")
        if name in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
            if name.endswith("offset") == bool(len(sparse) % 2):
                raise invalid("damaged sparse map")
            sparse.append((name, value))
        else:
            records[name] = value
        start = end
    return records, sparse


def _apply_pax(entry: Entry, records: dict[str, bytes]) -> None:
    for key, value in records.items():
        if key.startswith("SCHILY.xattr."):
            if entry.xattrs is None:
                entry.xattrs = {}
            entry.xattrs[key[13:]] = value
        elif not value:
            # An empty value takes the extension back.
            continue
        elif key in ("path", "linkpath", "GNU.sparse.name"):
            if b"\0" in value:
                raise invalid(f"NUL byte in a name: {printable(value)}")
            if key == "path":
                entry.name = value
            elif key == "linkpath":
                entry.link = value
        elif key in ("size", "uid", "gid"):
            setattr(entry, key, _decimal(value))
        elif key == "mtime":
            entry.mtime = _nanoseconds(value)


def _nanoseconds(text: bytes) -> int:
    sign = -1 if text.startswith(b"-") else 1
    whole, _, fraction = text.lstrip(b"-").partition(b".")
    if fraction and not fraction.isdigit():
        raise invalid(f"not a time: {printable(text[:40])}")
    return sign * (_decimal(whole or b"0") * 1_000_000_000 + int(fraction[:9].ljust(9, b"0")))


def _read_places(places: bytes, extents: Extents) -> None:
    for start in range(0, len(places) - 23, 24):
        if not places[start] and not places[start + 12]:
            break
        offset = _number(places[start : start + 12], "sparse offset")
        extents.append((offset, _number(places[start + 12 : start + 24], "sparse length")))
    if len(extents) > _MAX_SPARSE:
        raise invalid("sparse map is too large")


def _check_extents(entry: Entry, stored: int) -> None:
    """The pieces of a sparse file must be in order, inside the file, and just what is stored."""
    end = 0
    for offset, length in entry.extents or ():
        if length < 0 or offset < end:
            raise invalid(f"{entry.text}: sparse map is not in order")
        end = offset + length
    if end > entry.real_size or not 0 <= entry.real_size < _MAX_SIZE:
        raise invalid(f"{entry.text}: sparse map is larger than the file")
    if sum(length for _, length in entry.extents or ()) != stored:
        raise invalid(f"{entry.text}: sparse map does not fit the stored data")
