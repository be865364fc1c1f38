"""A root as a tar archive: all of it for `export`, what has changed in it as a layer (image spec, "Layer Filesystem
Changeset") for `commit`.

The tree may be at work and hostile: files are opened by descriptor without following links, and only regular ones; of
a file that shrinks or grows meanwhile as much is written as was announced, so the archive stays well-formed. Owners
are those that the container sees; where there is one id only (single mode) those that are remembered of the image's
files. Sockets are left out: they mean nothing without their server.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock.errors import SystemFailure, reason
from rdock.image import compression
from rdock.image.tar import BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, HARD_LINK, REGULAR, SYMLINK, printable
from rdock.image.tar_headers import END, header, padding, sparse_map
from rdock.launch import debug
from rdock.storage.copytree import OWNER
from rdock.storage.differences import Change, Parts
from rdock.storage.union import MARK, Union, kept_xattrs, open_file, with_owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import TypeAlias

    from rdock.linux.idmap import Maps
    from rdock.storage.remembered import Owner, Owners

    Note: TypeAlias = "Callable[[str], None]"

_PIECE = 256 << 10
_CHUNK = 1 << 20
# Holes are left out of the archive if they are this much together: other tools' readers cost less trouble without.
_MIN_HOLES = 1 << 20
# As many pieces of a sparse file as our own reader takes.
_MAX_EXTENTS = 1 << 20
_ZEROS = bytes(64 << 10)
_DEFAULT_ROOT = (0o755, 0, 0)
_KINDS = {
    stat.S_IFDIR: DIRECTORY, stat.S_IFREG: REGULAR, stat.S_IFLNK: SYMLINK, stat.S_IFIFO: FIFO,
    stat.S_IFCHR: CHARACTER, stat.S_IFBLK: BLOCK_DEVICE,
}  # fmt: skip


def pack(
    changes: Iterable[Change],
    root: Union,
    *,
    is_layer: bool,
    note: Note,
    was: Union | None = None,
    known: Owners | None = None,
) -> Iterator[bytes]:
    """The archive of these changes of `root`, in pieces; one without members if nothing has changed.

    A layer has whiteouts for what is deleted, and cannot hold names that look like such. `was` is what the changes are
    against. `note` is told what is left out. `known` says whom files belong to where they themselves do not tell.
    Raises SystemFailure.
    """
    return _archive(_Packer(is_layer, note, known).members(changes, _Root(root, was)))


def pack_directory(
    name: bytes, changes: Iterable[Change], root: Union, *, note: Note, known: Owners | None = None
) -> Iterator[bytes]:
    """The archive of a directory, and of all in it as `changes` tells, under a name; without one, of what is in it."""
    found, xattrs = _about_root(root)
    return _archive(_Packer(False, note, known).directory(name, found, xattrs, changes))


def pack_one(
    name: bytes, handle: int, *, note: Note, owners: Maps | None = None, known: Owners | None = None
) -> Iterator[bytes]:
    """The archive of one thing that is no directory, by its O_PATH descriptor; not of a socket.

    `owners`: it has the owner of this id map, and is told with the one inside.
    """
    return _archive(_Packer(False, note, known).one(name, handle, owners))


def _archive(members: Iterator[bytes]) -> Iterator[bytes]:
    try:
        pending = bytearray()
        for piece in members:
            pending += piece
            if len(pending) >= _PIECE:
                yield bytes(pending)
                pending.clear()
        yield bytes(pending + END)
    except OSError as e:
        path = os.fsdecode(e.filename) if e.filename else ""
        raise SystemFailure(f"cannot read /{printable(os.fsencode(path.lstrip('/')))}: {reason(e)}") from e


class _Root:
    """The root directory itself, which is a member only where it is not as every root is."""

    def __init__(self, root: Union, was: Union | None) -> None:
        self.stat, self.xattrs = _about_root(root)
        before = _about_root(was) if was else None
        self.has_changed = before is not None and (_identity(self.stat), self.xattrs) != (
            _identity(before[0]),
            before[1],
        )
        self.is_plain = _identity(self.stat) == _DEFAULT_ROOT and not self.xattrs


def _about_root(root: Union) -> tuple[os.stat_result, dict[str, bytes]]:
    directory = root.open()
    assert directory is not None
    try:
        return directory.stat, directory.xattrs()
    finally:
        directory.close()


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


class _Packer:
    def __init__(self, is_layer: bool, note: Note, known: Owners | None) -> None:
        self.is_layer, self.note, self.known = is_layer, note, known
        self.links: dict[tuple[int, int], tuple[bytes, Owner | None]] = {}
        """Where the first name of a file with several is in the archive, and whom it belongs to there."""

    def members(self, changes: Iterable[Change], root: _Root) -> Iterator[bytes]:
        is_first = True
        if root.has_changed:
            yield self._header(b"./", DIRECTORY, root.stat, root.xattrs, owner=self._owner((), root.stat, root.xattrs))
            is_first = False
        for change in changes:
            if self.is_layer and any(part.startswith(MARK) for part in change.parts):
                if not any(part.startswith(MARK) for part in change.parts[:-1]):
                    self.note(f"left out /{printable(change.path)}: in a layer the name means a deletion")
                continue
            if is_first and (not root.is_plain or compression.detect(change.path[:7])):
                # Also in front of a name by which the archive would be taken for a compressed one.
                owner = self._owner((), root.stat, root.xattrs)
                yield self._header(b"./", DIRECTORY, root.stat, root.xattrs, owner=owner)
            is_first = False
            if change.stat is None:
                if self.is_layer:
                    yield header(b"/".join((*change.parts[:-1], MARK + change.parts[-1])), REGULAR)
            else:
                yield from self._member(change.path, change, change.stat)

    def directory(
        self, name: bytes, found: os.stat_result, xattrs: dict[str, bytes], changes: Iterable[Change]
    ) -> Iterator[bytes]:
        yield self._header((name or b".") + b"/", DIRECTORY, found, xattrs, owner=self._owner((), found, xattrs))
        for change in changes:
            if change.stat is not None:
                yield from self._member(b"/".join((name, change.path)) if name else change.path, change, change.stat)

    def one(self, name: bytes, handle: int, owners: Maps | None) -> Iterator[bytes]:
        found = os.fstat(handle)
        if owners is not None:
            found = with_owner(found, *owners.owner_inside(found.st_uid, found.st_gid))
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), b"")
        if kind == REGULAR:
            fd = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                yield from self._file(fd, name, (), found)
            finally:
                os.close(fd)
        elif kind == SYMLINK:
            link = os.readlink(b"", dir_fd=handle)
            yield self._header(name, kind, found, {}, link=link, owner=self._owner((), found, {}, link))
        elif kind:
            yield self._header(name, kind, found, {}, owner=self._owner((), found, {}))
        else:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)

    def _owner(self, parts: Parts, found: os.stat_result, xattrs: dict[str, bytes], link: bytes = b"") -> Owner | None:
        """Whom it belongs to in the archive, unless it itself tells."""
        return self.known.of(parts, found, xattrs, link) if self.known is not None else None

    def _header(
        self,
        name: bytes,
        kind: bytes,
        found: os.stat_result,
        xattrs: dict[str, bytes],
        *,
        size: int = 0,
        link: bytes = b"",
        sparse_size: int | None = None,
        owner: Owner | None = None,
    ) -> bytes:
        uid, gid = owner if owner is not None else (found.st_uid, found.st_gid)
        if OWNER in xattrs:
            xattrs = {key: value for key, value in xattrs.items() if key != OWNER}
        if any("=" in key for key in xattrs):
            # The name of an attribute ends at the first one, in a header.
            self.note(f"left out attributes of /{printable(name)} with = in their names")
            xattrs = {key: value for key, value in xattrs.items() if "=" not in key}
        is_device = kind in (CHARACTER, BLOCK_DEVICE)
        number = (os.major(found.st_rdev), os.minor(found.st_rdev)) if is_device else (0, 0)

        def with_attributes(chosen: dict[str, bytes]) -> bytes:
            return header(
                name, kind, mode=stat.S_IMODE(found.st_mode), uid=uid, gid=gid, size=size,
                mtime=found.st_mtime_ns // 1_000_000_000, link=link, device=number, xattrs=chosen,
                sparse_size=sparse_size,
            )  # fmt: skip

        try:
            return with_attributes(xattrs)
        except ValueError:
            self.note(f"left out attributes of /{printable(name)}: they are too large")
            return with_attributes({})

    def _member(self, path: bytes, change: Change, found: os.stat_result) -> Iterator[bytes]:
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), b"")
        if kind == DIRECTORY:
            owner = self._owner(change.parts, found, change.xattrs)
            yield self._header(path + b"/", kind, found, change.xattrs, owner=owner)
            return
        if not kind:
            debug(f"left out the socket /{printable(path)}")
            return
        inode = (found.st_dev, found.st_ino)
        if inode in self.links:
            first, owner = self.links[inode]
            yield self._header(path, HARD_LINK, found, {}, link=first, owner=owner)
            return
        try:
            if kind == REGULAR:
                fd = open_file(change.fd, change.parts[-1])
                try:
                    owner = yield from self._file(fd, path, change.parts, found)
                finally:
                    os.close(fd)
            else:
                link = os.readlink(change.parts[-1], dir_fd=change.fd) if kind == SYMLINK else b""
                owner = self._owner(change.parts, found, {}, link)
                yield self._header(path, kind, found, {}, link=link, owner=owner)
        except FileNotFoundError:
            return  # it has gone, or is another thing by now
        except OSError as e:
            if e.errno == errno.EINVAL and kind == SYMLINK:
                return
            raise OSError(e.errno, e.strerror, path) from e
        if found.st_nlink > 1:
            self.links[inode] = (path, owner)

    # -- content -----------------------------------------------------------------------------------

    def _file(self, fd: int, path: bytes, parts: Parts, told: os.stat_result) -> Generator[bytes, None, Owner | None]:
        """`told`: of whom it is, in a root that has others than are to be told (container/owners.py)."""
        found = os.fstat(fd)
        if (found.st_uid, found.st_gid) != (told.st_uid, told.st_gid):
            found = with_owner(found, told.st_uid, told.st_gid)
        xattrs = kept_xattrs(fd, owner=True)
        owner = self._owner(parts, found, xattrs)
        extents = _extents(fd, found) if found.st_blocks * 512 + _MIN_HOLES <= found.st_size else None
        if extents is None:
            yield self._header(path, REGULAR, found, xattrs, size=found.st_size, owner=owner)
            yield from _content(fd, 0, found.st_size)
            yield padding(found.st_size)
            return owner
        described = sparse_map(extents)
        stored = sum(length for _, length in extents)
        size = len(described) + stored
        yield self._header(path, REGULAR, found, xattrs, size=size, sparse_size=found.st_size, owner=owner)
        yield described
        for start, length in extents:
            yield from _content(fd, start, length)
        yield padding(stored)
        return owner


def _extents(fd: int, found: os.stat_result) -> list[tuple[int, int]] | None:
    """The pieces of a file that are not holes; None if the holes are not worth it."""
    extents: list[tuple[int, int]] = []
    start, size = 0, found.st_size
    try:
        while start < size:
            data = os.lseek(fd, start, os.SEEK_DATA)
            start = min(os.lseek(fd, data, os.SEEK_HOLE), size)
            if data < start:
                extents.append((data, start - data))
            if len(extents) > _MAX_EXTENTS:
                raise SystemFailure("a sparse file of more than a million pieces")
    except OSError as e:
        if e.errno not in (errno.ENXIO, errno.EINVAL):  # nothing but a hole to the end; holes are not known here
            raise
        if e.errno == errno.EINVAL:
            return None
    if sum(length for _, length in extents) + _MIN_HOLES > size:
        return None
    # GNU tar tells of a hole at the end by a piece of no length.
    return extents if extents and sum(extents[-1]) == size else [*extents, (size, 0)]


def _content(fd: int, start: int, size: int) -> Iterator[bytes]:
    """Just so many bytes of a file; zeros where it has become shorter."""
    end = start + size
    while start < end:
        chunk = os.pread(fd, min(_CHUNK, end - start), start)
        if not chunk:
            break
        start += len(chunk)
        yield chunk
    while start < end:
        zeros = _ZEROS[: end - start]
        start += len(zeros)
        yield zeros
