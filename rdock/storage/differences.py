"""What differs between two roots, in the terms of Docker's `diff`: A (added), C (changed), D (deleted).

The rules are moby's (pkg/archive, changes.go): of a directory that is no longer one only that is told, a directory
is changed if something in it is, its own time does not count. Where moby trusts size and time, content and attributes
are compared. The same for all storage drivers, since what is compared is what a container sees. The order is that
of the names' bytes, a directory before its content.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock.storage.union import Directory, Found, Union, kept_xattrs, open_file
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import TypeAlias

Parts: TypeAlias = "tuple[bytes, ...]"

# Descriptors that are held open at most, unless a single directory has more parts.
_MAX_OPEN = 256
_CHUNK = 1 << 20
_NO_DATA = 1 << 63
# No program could use a longer path in one piece, and no layer can hold it (image/extract.py).
PATH_MAX = 4096
_PLACEHOLDER = (0o755, 0, 0)


class Change(Value):
    """One difference. Its descriptor is good until the next one is asked for."""

    kind: str
    parts: Parts
    stat: os.stat_result | None
    """None of what is deleted."""
    fd: int = -1
    """The directory in which it lies; of what is a directory itself, none."""
    xattrs: dict[str, bytes] = {}
    """Of a directory, with the remembered owner."""

    @property
    def path(self) -> bytes:
        return b"/".join(self.parts)


def compare(new: Union, base: Union | None, *, hidden: Collection[Parts] = (), since: int = 0) -> Iterator[Change]:
    """The differences from `base` to `new`; all that is there if there is no base.

    `hidden` are places of mounts: where there was nothing for them, what was made to mount on is not told, nor are the
    directories that were made on the way. `since` (nanoseconds since 1970, as in st_ctime_ns): files of `new` that
    were not touched since then, and have the size and time of those of `base`, are taken for equal. Raises OSError.
    """
    yield from _Comparison(new, base, hidden, since).run()


class _Level:
    """A directory on the way to where the comparison is."""

    def __init__(self, parts: Parts, new: Directory, base: Directory | None, untold: Change | None) -> None:
        self.parts = parts
        self.new: Directory | None = new
        self.base = base
        self.untold = untold
        """The change of the directory itself, if it is told only once there is one inside."""
        self.found = new.entries()
        self.before = base.entries() if base else {}
        self.names = sorted({*self.found, *self.before}, reverse=True)
        self.has_base = base is not None

    def close(self) -> None:
        for directory in (self.new, self.base):
            if directory is not None:
                directory.close()
        self.new = self.base = None

    @property
    def open_parts(self) -> int:
        return sum(len(directory.parts) for directory in (self.new, self.base) if directory is not None)


class _Comparison:
    def __init__(self, new: Union, base: Union | None, hidden: Collection[Parts], since: int) -> None:
        self.new, self.base, self.since = new, base, since
        self.hidden = frozenset(hidden)
        self.on_the_way = {parts[:length] for parts in hidden for length in range(1, len(parts))}
        self.levels: list[_Level] = []

    def run(self) -> Iterator[Change]:
        try:
            root = self.new.open()
            assert root is not None
            self.levels.append(_Level((), root, self.base.open() if self.base else None, None))
            while self.levels:
                level = self.levels[-1]
                if not level.names or not self._reopen(level):
                    level.close()
                    self.levels.pop()
                    continue
                change = self._next(level, level.names.pop())
                if change is not None:
                    yield from self._tell_of_directories()
                    yield change
        finally:
            for level in self.levels:
                level.close()

    def _tell_of_directories(self) -> Iterator[Change]:
        for level in self.levels:
            if level.untold is not None:
                change, level.untold = level.untold, None
                yield change

    def _next(self, level: _Level, name: bytes) -> Change | None:
        found, before = level.found.get(name), level.before.get(name)
        parts = (*level.parts, name)
        if sum(map(len, parts)) + len(parts) > PATH_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), b"/".join(parts))
        if found is None:
            return Change("D", parts, None)
        if before is None and parts in self.hidden:
            return None
        if found.is_directory:
            return self._enter(level, parts, before)
        assert level.new is not None
        fd = level.new.parts.get(found.layer, -1)
        if fd < 0 or (before is not None and self._is_same(level, name, found, before)):
            return None
        return Change("A" if before is None else "C", parts, found.stat, fd)

    def _enter(self, level: _Level, parts: Parts, before: Found | None) -> Change | None:
        """Go on with what is in a directory; its own change, if that is to be told at once."""
        assert level.new is not None
        new = level.new.child(parts[-1])
        if new is None:
            return None  # it has just gone
        base = level.base.child(parts[-1]) if level.base is not None and before and before.is_directory else None
        if base is not None and new.inodes == base.inodes:
            new.close()
            base.close()
            return None
        about = new.stat
        change = Change("A" if before is None else "C", parts, about, -1, new.xattrs())
        if base is not None:
            is_told = _identity(about) != _identity(base.stat) or change.xattrs != base.xattrs()
        else:
            is_told = before is not None or parts not in self.on_the_way or _identity(about) != _PLACEHOLDER
        inner = _Level(parts, new, base, None if is_told else change)
        self._make_room(inner)
        self.levels.append(inner)
        return change if is_told else None

    # -- descriptors -------------------------------------------------------------------------------

    def _make_room(self, inner: _Level) -> None:
        """Close directories farther up, if there are too many; they are opened anew on the way back."""
        count = inner.open_parts + sum(level.open_parts for level in self.levels)
        for level in self.levels[:-1]:
            if count <= _MAX_OPEN:
                break
            count -= level.open_parts
            level.close()

    def _reopen(self, level: _Level) -> bool:
        """Whether the directory of a level is open, again if need be; False if it has gone meanwhile."""
        if level.new is None:
            level.new = self.new.open(level.parts)
            if level.has_base and self.base is not None:
                level.base = self.base.open(level.parts)
        return level.new is not None

    # -- what is not a directory -------------------------------------------------------------------

    def _is_same(self, level: _Level, name: bytes, found: Found, before: Found) -> bool:
        if found.inode == before.inode:
            return True
        ours, theirs = found.stat, before.stat
        if _identity(ours) != _identity(theirs) or stat.S_IFMT(ours.st_mode) != stat.S_IFMT(theirs.st_mode):
            return False
        if (ours.st_mtime_ns, ours.st_size, ours.st_rdev) != (theirs.st_mtime_ns, theirs.st_size, theirs.st_rdev):
            return False
        if ours.st_ctime_ns < self.since:
            return True
        assert level.new is not None
        fd, base = level.new.parts[found.layer], level.base.parts.get(before.layer, -1) if level.base else -1
        try:
            if stat.S_ISREG(ours.st_mode):
                return _have_same_content(fd, base, name)
            if stat.S_ISLNK(ours.st_mode):
                return os.readlink(name, dir_fd=fd) == os.readlink(name, dir_fd=base)
        except FileNotFoundError:
            return False  # it is another thing by now
        return True


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def _have_same_content(fd: int, base: int, name: bytes) -> bool:
    ours = open_file(fd, name)
    try:
        theirs = open_file(base, name)
        try:
            if kept_xattrs(ours, owner=True) != kept_xattrs(theirs, owner=True):
                return False
            place = 0
            while (place := min(_next_data(ours, place), _next_data(theirs, place))) < _NO_DATA:
                chunk = os.pread(ours, _CHUNK, place)
                if chunk != os.pread(theirs, _CHUNK, place):
                    return False
                if not chunk:
                    break
                place += len(chunk)
            return True
        finally:
            os.close(theirs)
    finally:
        os.close(ours)


def _next_data(fd: int, place: int) -> int:
    """Where a file goes on that is not a hole, from a place on: holes may be larger than any disk."""
    try:
        return os.lseek(fd, place, os.SEEK_DATA)
    except OSError as e:
        if e.errno == errno.ENXIO:
            return _NO_DATA
        if e.errno == errno.EINVAL:  # the file system knows no holes
            return place
        raise
