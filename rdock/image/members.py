"""The members of an image archive, whatever their order.

An archive that can be sought in is indexed once and read in place. A pipe, or a compressed file, is
written member by member to staging, hashed on the way, so that a blob only has to be renamed into the
store afterwards. Names are looked up here and never become paths.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat

from rdock.errors import DataLoss, SystemFailure, reason
from rdock.image import blobs, compression
from rdock.image.extract import components
from rdock.image.manifest import MAX_DOCUMENT
from rdock.image.tar import HARD_LINK, REGULAR, SYMLINK, Entry, Reader, Stream, invalid
from rdock.storage import staging
from rdock.storage.space import check_space
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAX_MEMBERS = 100_000
_MAX_LINKS = 8
_INDEX_CHUNK = 32 << 10
_SPACE_INTERVAL = 32 << 20


class Members:
    """What an archive holds by name; `small` and `chunks` read it. Raises DataLoss for what is not there."""

    def __init__(self) -> None:
        self._links: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return self._has(self._follow(name))

    def small(self, name: str) -> bytes:
        """The content of a member that is a JSON document."""
        data = b""
        for chunk in self.chunks(name):
            data += chunk
            if len(data) > MAX_DOCUMENT:
                raise DataLoss(f"invalid image archive: {name}: larger than {MAX_DOCUMENT >> 20} MiB")
        return data

    def chunks(self, name: str) -> Iterator[bytes]:
        target = self._follow(name)
        if not self._has(target):
            raise DataLoss(f"invalid image archive: {name} is missing")
        return self._chunks(target)

    def digest(self, name: str) -> str:
        """The digest of a member if it is known without reading it; else empty."""
        return ""

    def move_to_store(self, name: str) -> bool:
        """Make a member whose digest is known a blob; False where it has to be copied."""
        return False

    def _has(self, name: str) -> bool:
        raise NotImplementedError

    def _chunks(self, name: str) -> Iterator[bytes]:
        raise NotImplementedError

    def _follow(self, name: str) -> str:
        """Links between members, which old docker wrote for layers that occur twice."""
        for _ in range(_MAX_LINKS):
            if name not in self._links:
                break
            name = self._links[name]
        return name

    def _read(self, reader: Reader) -> Iterator[tuple[str, Entry]]:
        """The names of all regular members; links are noted."""
        count = 0
        while (entry := reader.next()) is not None:
            count += 1
            if count > _MAX_MEMBERS:
                raise DataLoss(f"invalid image archive: more than {_MAX_MEMBERS} members")
            name = _name(entry.name)
            self._links.pop(name, None)
            if entry.kind == REGULAR and entry.extents is None:
                yield name, entry
            elif entry.kind == SYMLINK:
                self._links[name] = _name(name.rpartition("/")[0].encode() + b"/" + entry.link)
            elif entry.kind == HARD_LINK:
                self._links[name] = _name(entry.link)


def _name(raw: bytes) -> str:
    try:
        return b"/".join(components(raw)).decode("utf-8", "backslashreplace")
    except OSError as e:
        raise invalid(reason(e)) from None
    except DataLoss:
        raise invalid(f"a member's name leads outside: {raw[:200]!r}") from None


class _Place(Value):
    start: int
    size: int


class SeekableMembers(Members):
    """An uncompressed archive in a file."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.fd = fd
        self._places: dict[str, _Place] = {}
        stream = _SeekableStream(fd)
        for name, entry in self._read(Reader(stream, strict_end=True)):
            self._places[name] = _Place(stream.base + stream.position, entry.size)

    def _has(self, name: str) -> bool:
        return name in self._places

    def _chunks(self, name: str) -> Iterator[bytes]:
        place = self._places[name]
        start, left = place.start, place.size
        try:
            while left:
                chunk = os.pread(self.fd, min(left, blobs.CHUNK), start)
                if not chunk:
                    raise invalid("unexpected end")
                start, left = start + len(chunk), left - len(chunk)
                yield chunk
        except OSError as e:
            raise SystemFailure(f"cannot read image archive: {reason(e)}") from e


class _SeekableStream(Stream):
    """A stream that passes over the content of members without reading it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.base = os.lseek(fd, 0, os.SEEK_CUR)
        self.end = os.fstat(fd).st_size - self.base
        super().__init__(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        try:
            while chunk := os.read(self.fd, _INDEX_CHUNK):
                yield chunk
        except OSError as e:
            raise SystemFailure(f"cannot read image archive: {reason(e)}") from e

    def skip(self, size: int) -> int:
        size = min(size, self.end - self.position)
        buffered = len(self._buffer) - self._start
        if size <= buffered:
            self._start += size
        else:
            self._consumed = self.position + size
            self._buffer, self._start = b"", 0
            os.lseek(self.fd, self.base + self._consumed, os.SEEK_SET)
        return size


class _Stored(Value):
    file: str
    size: int
    digest: str


class SpooledMembers(Members):
    """An archive that can be read only once; its members lie in a staging directory."""

    def __init__(self, chunks: Iterable[bytes], entry: staging.Entry) -> None:
        super().__init__()
        self.entry = entry
        self._stored: dict[str, _Stored] = {}
        # Reading and decompressing run beside hashing and writing.
        source = compression.in_thread(compression.open_stream(chunks)[1])
        try:
            stream = Stream(source)
            reader = Reader(stream, strict_end=True)
            for number, (name, _) in enumerate(self._read(reader)):
                self._stored[name] = self._store(str(number), reader)
            stream.drain()
        finally:
            source.close()

    def digest(self, name: str) -> str:
        stored = self._stored.get(self._follow(name))
        return stored.digest if stored else ""

    def move_to_store(self, name: str) -> bool:
        stored = self._stored.get(self._follow(name))
        if stored is not None and not blobs.exists(stored.digest):
            blobs.place(self.entry.fd, stored.file, stored.digest)
        return stored is not None

    def _store(self, file: str, reader: Reader) -> _Stored:
        digest, size, unchecked = hashlib.sha256(), 0, 0
        try:
            fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=self.entry.fd)
            try:
                check_space(fd, "the image archive")
                for piece in reader.data():
                    digest.update(piece)
                    size += len(piece)
                    unchecked += len(piece)
                    while piece:
                        piece = piece[os.write(fd, piece) :]
                    if unchecked > _SPACE_INTERVAL:
                        check_space(fd, "the image archive")
                        unchecked = 0
            finally:
                os.close(fd)
        except OSError as e:
            raise SystemFailure(f"cannot write to {self.entry.path}: {reason(e)}") from e
        return _Stored(file, size, "sha256:" + digest.hexdigest())

    def _has(self, name: str) -> bool:
        return name in self._stored

    def _chunks(self, name: str) -> Iterator[bytes]:
        stored = self._stored[name]
        # Once it is in the store the file is there, and no longer here.
        if blobs.exists(stored.digest):
            yield from blobs.chunks(stored.digest)
            return
        fd = os.open(stored.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.entry.fd)
        try:
            yield from blobs.read_chunks(fd)
        finally:
            os.close(fd)


class DirectoryMembers(Members):
    """An image layout, or an unpacked archive, in a directory. Links in it are not followed, wherever they lead."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.fd = fd

    def _has(self, name: str) -> bool:
        try:
            os.close(self._open(name))
        except OSError:
            return False
        return True

    def _chunks(self, name: str) -> Iterator[bytes]:
        try:
            fd = self._open(name)
        except OSError as e:
            raise SystemFailure(f"cannot read {name}: {reason(e)}") from e
        try:
            yield from blobs.read_chunks(fd)
        finally:
            os.close(fd)

    def _open(self, name: str) -> int:
        """A regular file below the directory, open for reading. Raises OSError."""
        fd = os.dup(self.fd)
        try:
            for part in _name(name.encode("utf-8", "surrogateescape")).split("/"):
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                inner = os.open(part, flags, dir_fd=fd)
                os.close(fd)
                fd = inner
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
        except BaseException:
            os.close(fd)
            raise
        return fd


def can_seek(fd: int) -> bool:
    """Whether an archive can be read in place: a regular file that is not compressed."""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        return not compression.detect(os.pread(fd, 8, os.lseek(fd, 0, os.SEEK_CUR)))
    except OSError:
        return False
