"""The content of one file into another: shared with it where the file system can, copied by the kernel if possible.

Holes are kept. What is possible depends on what both files lie on, so what was refused once is not tried again.
"""

from __future__ import annotations

import errno
import fcntl
import os

_FICLONE = 0x40049409
_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
# Below this one read and one write are the fastest.
_SMALL = 256 << 10
# What a kernel or a file system says that does not do it, for these two files or at all.
_NOT_POSSIBLE = (
    errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.ENOSYS, errno.EISDIR, errno.EBADF,
)  # fmt: skip


class ContentCopier:
    """Copies files, and remembers between which file systems there is no short way."""

    def __init__(self) -> None:
        self._no_clone: set[tuple[int, int]] = set()
        self._no_range: set[tuple[int, int]] = set()

    def copy(self, source: int, target: int, found: os.stat_result) -> int:
        """Fill the empty file `target` from `source`, of which `found` tells; how many bytes it has then.

        No more is copied than the file had when `found` was asked for, so that one that grows without an end does
        not keep us. A file of the kernel's, that tells of no size, is read until its end. Raises OSError.
        """
        size = found.st_size
        if size <= _SMALL:
            return _read_and_write(source, target, size)
        pair = (found.st_dev, os.fstat(target).st_dev)
        if pair not in self._no_clone:
            try:
                fcntl.ioctl(target, _FICLONE, source)
                return os.fstat(target).st_size
            except OSError as e:
                if e.errno not in _NOT_POSSIBLE:
                    raise
                self._no_clone.add(pair)
        if found.st_blocks * 512 >= size:
            return self._piece(source, target, 0, size, pair)
        return self._sparse(source, target, size, pair)

    def _sparse(self, source: int, target: int, size: int, pair: tuple[int, int]) -> int:
        place = 0
        while place < size:
            try:
                start = os.lseek(source, place, os.SEEK_DATA)
                end = min(os.lseek(source, start, os.SEEK_HOLE), size)
            except OSError as e:
                if e.errno == errno.ENXIO:  # nothing but a hole to the end
                    break
                if e.errno != errno.EINVAL:  # the file system knows no holes
                    raise
                start, end = place, size
            if start >= size:
                break
            if (start, end) == (0, size):
                return self._without_zeros(source, target, size)
            place = self._piece(source, target, start, end, pair)
            if place < end:
                break  # it has become shorter
        os.ftruncate(target, size)
        return size

    def _without_zeros(self, source: int, target: int, size: int) -> int:
        """Where a file has holes and the file system does not tell of them (FUSE): what is zero is left out."""
        place = 0
        while place < size:
            chunk = os.pread(source, min(_CHUNK, size - place), place)
            if not chunk:
                break
            if chunk != _ZEROS[: len(chunk)]:
                os.lseek(target, place, os.SEEK_SET)
                _write(target, chunk)
            place += len(chunk)
        os.ftruncate(target, size)
        return size

    def _piece(self, source: int, target: int, start: int, end: int, pair: tuple[int, int]) -> int:
        """Copy from `start` to `end`; where it came to, which is before `end` only if the file ends there."""
        if pair not in self._no_range:
            try:
                while start < end:
                    done = os.copy_file_range(source, target, end - start, start, start)
                    if not done:
                        return start
                    start += done
                return start
            except OSError as e:
                if e.errno not in _NOT_POSSIBLE:
                    raise
                self._no_range.add(pair)
        os.lseek(source, start, os.SEEK_SET)
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            chunk = os.read(source, min(_CHUNK, end - start))
            if not chunk:
                break
            _write(target, chunk)
            start += len(chunk)
        return start


def _read_and_write(source: int, target: int, size: int) -> int:
    done = 0
    while True:
        chunk = os.read(source, size - done if size else _CHUNK)
        if not chunk:
            return done
        _write(target, chunk)
        done += len(chunk)
        if done == size:
            return done


def _write(target: int, chunk: bytes) -> None:
    written = os.write(target, chunk)
    while written < len(chunk):
        chunk = chunk[written:]
        written = os.write(target, chunk)
