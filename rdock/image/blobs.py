"""The content store: blobs by digest, in the form of an OCI image layout.

A blob is written to staging, hashed and measured on the way, and only then renamed to its digest, so
whatever has a name here is what its name says. Blobs are kept as they came, compressed or not: save
and push give back the digests that were loaded and pulled. What refers to blobs is in `images`.

Durability: the content of a blob is on disk before it gets its name, and the names are before an image
is recorded that needs them (`flush`). A power cut thus never leaves a recorded image whose blobs are
missing or damaged; unpacked layers are not forced to disk, for they can be made again from blobs.
"""

from __future__ import annotations

import os

from rdock import paths
from rdock.errors import DataLoss, NotFound, SystemFailure, reason
from rdock.image.manifest import MAX_DOCUMENT, digest_of
from rdock.image.reference import digest_hex
from rdock.state import record
from rdock.storage import staging
from rdock.storage.space import check_space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 1 << 20
# How many bytes are written between two looks at the free space.
_SPACE_INTERVAL = 32 << 20

# sync_file_range(2): write the dirty pages of a range to disk, without the metadata.
SYNC_FILE_RANGE_WRITE = 2
_WRITE_AND_WAIT = 1 | SYNC_FILE_RANGE_WRITE | 4
_WINDOW = 8 << 20


class Writer:
    """A blob being written. Use in a `with`; without `commit` nothing stays.

    `digest` and `size` are what it must turn out to be; without them it is what it is. Raises DataLoss
    as soon as more comes than announced, SystemFailure when the disk is full.
    """

    def __init__(self, digest: str = "", size: int | None = None) -> None:
        self.expected = digest and "sha256:" + digest_hex(digest)
        self.expected_size = size
        self.size = 0
        import hashlib

        self._hash = hashlib.sha256()
        self._next_check = 0
        self._behind = 0
        self._entry = staging.entry()
        self._staged = self._entry.__enter__()
        try:
            self.fd = os.open("blob", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._staged.fd)
        except OSError as e:
            self._entry.__exit__(None, None, None)
            raise SystemFailure(f"cannot write to {paths.staging()}: {reason(e)}") from e

    def write(self, data: bytes | memoryview) -> None:
        if self.size >= self._next_check:
            check_space(self.fd, "the image store")
            self._next_check = self.size + _SPACE_INTERVAL
        self._hash.update(data)
        self.size += len(data)
        if self.expected_size is not None and self.size > self.expected_size:
            raise DataLoss(f"blob {self.expected or ''}: larger than the {self.expected_size} bytes announced")
        try:
            written = os.write(self.fd, data)
            while written < len(data):
                data = memoryview(data)[written:]
                written = os.write(self.fd, data)
            if self.size - self._behind > 2 * _WINDOW:
                self._write_behind()
        except OSError as e:
            raise SystemFailure(f"cannot write to the image store: {reason(e)}") from e

    def _write_behind(self) -> None:
        """Start the disk on what has just come, and drop what is on it from memory: a blob is seldom read again.

        Otherwise a big blob would fill the page cache, to the cost of everybody, and make `commit` long.
        """
        # Who looks images up does without.
        from rdock.linux.foreign import c_int64
        from rdock.linux.libc import libc

        libc.sync_file_range(self.fd, c_int64(self._behind + _WINDOW), c_int64(_WINDOW), SYNC_FILE_RANGE_WRITE)
        libc.sync_file_range(self.fd, c_int64(self._behind), c_int64(_WINDOW), _WRITE_AND_WAIT)
        os.posix_fadvise(self.fd, self._behind, _WINDOW, os.POSIX_FADV_DONTNEED)
        self._behind += _WINDOW

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()

    def check(self) -> str:
        """The digest, which is the expected one. Raises DataLoss."""
        found = self.digest
        if self.expected_size is not None and self.size != self.expected_size:
            raise DataLoss(
                f"blob {self.expected or found}: {self.size} bytes instead of the {self.expected_size} announced"
            )
        if self.expected and found != self.expected:
            raise DataLoss(f"blob {self.expected}: content has the digest {found}")
        return found

    def commit(self) -> str:
        """Put the blob into the store and give its digest. Raises DataLoss, SystemFailure."""
        digest = self.check()
        place(self._staged.fd, "blob", digest)
        return digest

    def close(self) -> None:
        os.close(self.fd)
        self._entry.__exit__(None, None, None)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def place(directory: int, name: str, digest: str) -> None:
    """Move a file of staging, whose digest has been verified, into the store. Raises SystemFailure."""
    path = blob_path(digest)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)
        prepare()
        os.rename(name, path, src_dir_fd=directory)
    except OSError as e:
        raise SystemFailure(f"cannot write {path}: {reason(e)}") from e


def flush() -> None:
    """Force the names of all blobs to disk, before something is recorded that refers to them."""
    try:
        fd = os.open(paths.blobs(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as e:
        raise SystemFailure(f"cannot write {paths.blobs()}: {reason(e)}") from e


def put(data: bytes) -> str:
    """Store a small blob, such as a config; its digest."""
    digest = digest_of(data)
    if not exists(digest):
        with Writer(digest, len(data)) as writer:
            writer.write(data)
            writer.commit()
    return digest


def blob_path(digest: str) -> str:
    return os.path.join(paths.blobs(), digest_hex(digest))


def exists(digest: str) -> bool:
    return os.path.exists(blob_path(digest))


def size(digest: str) -> int:
    """The size of a blob, 0 if there is none."""
    try:
        return os.stat(blob_path(digest)).st_size
    except OSError:
        return 0


def open_blob(digest: str) -> int:
    """A descriptor to read a blob from. Raises NotFound."""
    path = blob_path(digest)
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"no such blob: {digest}") from None
    except OSError as e:
        raise SystemFailure(f"cannot read {path}: {reason(e)}") from e


def read_chunks(fd: int) -> Iterator[bytes]:
    """The rest of an open file, piece by piece. Raises SystemFailure."""
    try:
        while chunk := os.read(fd, CHUNK):
            yield chunk
    except OSError as e:
        raise SystemFailure(f"cannot read image data: {reason(e)}") from e


def chunks(digest: str) -> Iterator[bytes]:
    """The content of a blob, piece by piece."""
    fd = open_blob(digest)
    try:
        yield from read_chunks(fd)
    finally:
        os.close(fd)


def read(digest: str) -> bytes:
    """The content of a small blob, verified. Raises NotFound, DataLoss."""
    fd = open_blob(digest)
    try:
        data = os.read(fd, MAX_DOCUMENT + 1)
    finally:
        os.close(fd)
    if digest_of(data) != digest:
        raise DataLoss(f"blob {digest} is damaged")
    return data


def remove(digest: str) -> None:
    record.remove(blob_path(digest))


def prepare() -> None:
    """Make the image layout if it is not there yet."""
    if os.path.isdir(paths.blobs()):
        return
    paths.make_private(paths.data())
    paths.make_private(paths.images())
    os.makedirs(paths.blobs(), mode=0o700, exist_ok=True)
    record.write_text(os.path.join(paths.images(), "oci-layout"), '{"imageLayoutVersion":"1.0.0"}', durable=True)
