"""Owners that files cannot have where there is one id only, remembered beside them.

In the id mode `single` every file is the one user's, whoever it belongs to in the image. The owner is kept in an
extended attribute, `user.rdock.owner` with the value `UID:GID`, of what can have one: regular files and directories.
Overlayfs, fuse-overlayfs and a copy take it along when a container changes such a file. For all else, and on a file
system without attributes, a file `owners` beside the layer tells them. Root's files have neither.

Not `user.containers.override_stat` of fuse-overlayfs and containers/storage: a fuse-overlayfs that finds that on a
layer shows the owners in the container, where they are no ids; nobody could write to such a file. And what a chown is
to change is the inode's, which they hide.

An image can neither set nor see the attribute (image/layer.py, union.py). What is root in a container can set it on
its own files: then it has lied about whom they belong to in what is committed or exported of it, which in another id
mode it could have done by chown.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock.errors import DataLoss
from rdock.storage.copytree import OWNER
from rdock.storage.union import Directory, Union

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TypeAlias

Owner: TypeAlias = "tuple[int, int]"
Parts: TypeAlias = "tuple[bytes, ...]"
_Index: TypeAlias = "dict[bytes, dict[bytes, Owner]]"
"""By directory and name."""

INDEX = "owners"
"""The name of the file beside a layer."""
ROOT = (0, 0)
_NOBODY = 0xFFFFFFFF
_PIECE = 1 << 16


# -- attributes ------------------------------------------------------------------------------------


def attach(fd: int, owner: Owner) -> bool:
    """Remember whom an open file or directory belongs to, in its attribute; False if it cannot have one."""
    if owner == ROOT:
        return forget(fd)
    try:
        os.setxattr(fd, OWNER, b"%d:%d" % owner)
    except OSError:
        return False  # not on this file system, or there is no room beside the file's other attributes
    return True


def forget(fd: int) -> bool:
    """Take the attribute away, if there is one; always True."""
    try:
        os.removexattr(fd, OWNER)
    except OSError as e:
        if e.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    return True


def parse(value: bytes) -> Owner | None:
    """The owner that such an attribute tells; None if it is none, for a container can write what it likes."""
    uid, colon, gid = value.partition(b":")
    if not colon or len(value) > 21 or not (uid.isdigit() and gid.isdigit()):
        return None
    owner = int(uid), int(gid)
    return owner if max(owner) < _NOBODY else None


# -- the file beside a layer -----------------------------------------------------------------------


def write(place: int, layer: int, by_inode: Mapping[int, Owner]) -> None:
    """Write the file into the directory `place` for the unpacked `layer`, both open; none if nothing is to be told.

    Its records end in NUL: `/PATH` for a directory, and `UID:GID NAME` for each thing that is to be told of in it.
    Names in a layer may be many and long, so neither writing nor reading makes paths of them. Raises OSError.
    """
    if not by_inode:
        return
    fd = os.open(INDEX, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=place)
    with open(fd, "wb", _PIECE) as file:
        for record in _records(layer, by_inode):
            file.write(record + b"\0")


def _records(layer: int, by_inode: Mapping[int, Owner]) -> Iterator[bytes]:
    for path, names, fd in _directories(layer):
        told = False
        for name in names:
            owner = by_inode.get(os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino, ROOT)
            if owner != ROOT:
                if not told:
                    yield b"/" + path
                    told = True
                yield b"%d:%d %s" % (*owner, name)
    root = by_inode.get(os.fstat(layer).st_ino, ROOT)
    if root != ROOT:
        yield b"/"
        yield b"%d:%d ." % root


def _directories(layer: int) -> Iterator[tuple[bytes, list[bytes], int]]:
    """Each directory of a layer with the names in it, in an order that follows from them."""
    waiting = [b""]
    while waiting:
        path = waiting.pop()
        try:
            fd = os.open(path or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=layer)
        except OSError as e:
            if e.errno == errno.ENAMETOOLONG:
                continue  # of what lies so deep nothing is ever read (differences.py)
            raise
        try:
            with os.scandir(fd) as entries:
                found = sorted((os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries)
            yield path, [name for name, _ in found], fd
        finally:
            os.close(fd)
        waiting += [path + b"/" * bool(path) + name for name, is_directory in reversed(found) if is_directory]


def _read(path: str) -> _Index:
    """What the file beside a layer says, whose directory is named. Raises DataLoss, OSError."""
    try:
        with open(os.path.join(os.path.dirname(path), INDEX), "rb") as file:
            records = file.read().split(b"\0")
    except FileNotFoundError:
        return {}
    index: _Index = {}
    names: dict[bytes, Owner] = {}
    for record in records[:-1]:
        if record.startswith(b"/"):
            names = index.setdefault(record[1:], {})
            continue
        value, _, name = record.partition(b" ")
        owner = parse(value)
        if owner is None or not name:
            raise DataLoss(f"the owners of layer {path} are damaged")
        names[name] = owner
    return index


# -- looking ---------------------------------------------------------------------------------------


class Owners:
    """Whom the files of a root belong to in the terms of its image. Use in a `with`.

    `image` are the layers' directories, topmost first, as the storage driver stacks them; `above` is where in the root
    the paths begin that are asked for. Raises OSError, DataLoss.
    """

    def __init__(self, image: Sequence[str] = (), *, marks: bool = False, above: Parts = ()) -> None:
        self.above = above
        self._indexes = [_read(path) for path in image]
        self._has_any = any(self._indexes)
        self._image = Union(image if self._has_any else (), marks=marks)
        self._near: tuple[Parts, Directory | None] = ((b"/",), None)

    def __enter__(self) -> Owners:
        return self

    def __exit__(self, *_: object) -> None:
        self._go_to((b"/",), None)
        self._image.close()

    def of(self, parts: Parts, found: os.stat_result, xattrs: Mapping[str, bytes], link: bytes = b"") -> Owner:
        """The owner of what is found there, with these attributes; `link` is where a symbolic link leads.

        What a container has brought there is its root's. What it has only changed in some way, or what was copied for
        it, is as in the image.
        """
        owner = parse(xattrs[OWNER]) if OWNER in xattrs else None
        if owner is None and self._has_any:
            owner = self._of_image((*self.above, *parts), found, link)
        return owner or (found.st_uid, found.st_gid)

    def _of_image(self, parts: Parts, found: os.stat_result, link: bytes) -> Owner | None:
        directory, name = (b"/".join(parts[:-1]), parts[-1]) if parts else (b"", b".")
        if not any(name in index.get(directory, ()) for index in self._indexes):
            return None
        if not parts:
            return self._indexes[0].get(b"", {}).get(b".")
        if self._near[0] != parts[:-1]:
            self._go_to(parts[:-1], self._image.open(parts[:-1]))
        near = self._near[1]
        there = near.find(name) if near is not None else None
        if near is None or there is None or stat.S_IFMT(there.stat.st_mode) != stat.S_IFMT(found.st_mode):
            return None
        if stat.S_ISLNK(found.st_mode) and there.inode != (found.st_dev, found.st_ino):
            # A new link in the place of the image's is told by its time, which a copy keeps.
            target = os.readlink(name, dir_fd=near.parts[there.layer])
            if target != link or there.stat.st_mtime_ns != found.st_mtime_ns:
                return None
        return self._indexes[there.layer].get(directory, {}).get(name)

    def _go_to(self, parts: Parts, directory: Directory | None) -> None:
        if self._near[1] is not None:
            self._near[1].close()
        self._near = (parts, directory)
