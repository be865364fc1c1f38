"""The two halves of `cp` that are about a tar archive: one that is streamed out of a container, one unpacked into it.

An archive may be hostile, and so may be the container that it is unpacked into meanwhile: names are resolved one
component at a time below the directory that was named, whose links lead nowhere out of it (image/extract.py). What is
there is replaced by moby's rules: a directory never by something else, nor the reverse.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock.container import owners, roots
from rdock.container.copying import Source
from rdock.container.places import Place
from rdock.errors import Conflict, DataLoss, InvalidParameter, NoSuchImage, RdockError, SystemFailure, reason
from rdock.image import compression, images
from rdock.image.extract import Owner, Tree, components
from rdock.image.layer import allowed_xattrs
from rdock.image.packing import pack_directory, pack_one
from rdock.image.tar import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMLINK,
    Entry,
    Reader,
    Stream,
    printable,
)
from rdock.linux import idmap
from rdock.scope import scope
from rdock.storage import layers, remembered
from rdock.storage.differences import Parts, compare
from rdock.storage.placing import mount_id
from rdock.storage.union import Union

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rdock.linux.idmap import Maps

_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def stream(place: Place, source: Source, note: Callable[[str], None]) -> Iterator[bytes]:
    """The archive of what was named, in pieces. Raises SystemFailure, InvalidParameter."""
    name = os.fsencode(source.name)
    maps = owners.recorded(place.container)
    with _remembered(place, source) as known:
        if not source.is_directory:
            if stat.S_ISSOCK(os.fstat(source.fd).st_mode):
                raise InvalidParameter(f"cannot copy {source.path}: it is a socket")
            yield from pack_one(name, source.fd, note=note, owners=maps, known=known)
            return
        here, root = os.fstat(source.fd), os.fstat(place.root)
        is_root = (here.st_dev, here.st_ino) == (root.st_dev, root.st_ino)
        hidden = [(part,) for part in (b"proc", b"sys", b"dev")] if is_root and place.kernels else []
        with Union([f"/proc/self/fd/{source.fd}"], owners=maps) as union:
            yield from pack_directory(name, compare(union, None, hidden=hidden), union, note=note, known=known)


@scope
def _remembered(place: Place, source: Source) -> Iterator[remembered.Owners | None]:
    """Who knows the owners of what is streamed. A link that a volume got from the image is as in the image, too."""
    below: list[str] = []
    above = _path_inside(place.root, source.fd) if layers.remember_owners() else None
    if above is not None and not place.container.rootfs:
        try:
            below = images.root_directories(images.lookup(place.container.image))
        except NoSuchImage:
            pass  # the container runs on without it
    with roots.remembered_owners(place.container, below, above or ()) as known:
        yield known


def _path_inside(root: int, fd: int) -> Parts | None:
    """Where something is below a root, as the kernel tells; None if it cannot."""
    top, path = (os.readlink(b"/proc/self/fd/%d" % handle) for handle in (root, fd))
    if path == top:
        return ()
    top = top.rstrip(b"/") + b"/"
    return tuple(path[len(top) :].split(b"/")) if path.startswith(top) else None


def unpack(chunks: Iterable[bytes], directory: int, maps: Maps, *, archive: bool, note: Callable[[str], None]) -> int:
    """Unpack an archive, compressed or not, into a directory of a container that has `maps`; how many bytes it had.

    Files belong to whom it says, who has to be there with `archive`; without, those of others are root's. Raises
    DataLoss, Conflict, InvalidParameter, SystemFailure; what was unpacked until then stays.

    With one id only `archive` has the owners of files and directories remembered, where their file system can.
    """
    # Opened anew, since nothing can be set on an O_PATH descriptor.
    root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    source = compression.in_thread(compression.open_stream(chunks)[1])
    unpacking = _Unpacking(root, maps, archive, note)
    try:
        members = Stream(source)
        unpacking.run(Reader(members))
        # Whoever writes it is to get rid of all of it; and only at its end a compressed one is known to be whole.
        members.drain()
    finally:
        source.close()
        unpacking.tree.close()
        os.close(root)
    return unpacking.size


class _Target(Tree):
    """A directory in which nothing is replaced that Docker does not."""

    def make_directory(self, parts: list[bytes]) -> bool:
        try:
            os.mkdir(parts[-1], 0o700, dir_fd=self.parent(parts))
            return True
        except FileExistsError:
            if self.kind(parts) == stat.S_IFDIR:
                return False
        shown = printable(b"/".join(parts))
        raise Conflict(f'cannot overwrite non-directory "{shown}" with directory "{shown}"')

    def remove(self, parts: list[bytes]) -> None:
        try:
            handle = os.open(parts[-1], _HANDLE, dir_fd=self.parent(parts))
        except FileNotFoundError:
            return
        try:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                shown = printable(b"/".join(parts))
                raise Conflict(f'cannot overwrite directory "{shown}" with non-directory "{shown}"')
            if mount_id(handle) != mount_id(self.parent(parts)):
                # To remove it would take the mount away from the container.
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        finally:
            os.close(handle)
        super().remove(parts)


class _Unpacking:
    def __init__(self, root: int, maps: Maps, archive: bool, note: Callable[[str], None]) -> None:
        self.tree = _Target(root)
        self.maps = maps
        self.archive, self.note = archive, note
        self.size = 0
        self.has_one_id = min(sum(m.size for m in maps.uids), sum(m.size for m in maps.gids)) == 1
        self.remembers = archive and layers.remember_owners()

    def run(self, reader: Reader) -> None:
        while (entry := reader.next()) is not None:
            try:
                self._unpack(entry, reader)
            except OSError as e:
                raise _explain(entry, e) from e
            except (InvalidParameter, DataLoss) as e:
                raise type(e)(f"cannot unpack {entry.text}: {e.message}", e.hint) from None
        try:
            self.tree.set_directory_times()
        except OSError as e:
            raise SystemFailure(f"cannot set the times of directories: {reason(e)}") from e

    def _unpack(self, entry: Entry, reader: Reader) -> None:
        parts = components(entry.name)
        if not parts and entry.kind != DIRECTORY:
            raise DataLoss("the root is not a directory")
        if not parts:
            return  # the directory itself, which stays as it is
        kind = entry.kind
        if kind == REGULAR:
            self._file(entry, parts, reader)
        elif kind == DIRECTORY:
            self.tree.make_directory(parts)
            failed = self.tree.set_directory(
                parts, entry.mode, self._owner(entry), entry.mtime, allowed_xattrs(entry)
            )  # fmt: skip
            self._tell(entry, failed)
            if self.remembers:
                fd = self.tree.open_directory(parts)
                try:
                    remembered.attach(fd, (entry.uid, entry.gid))
                finally:
                    os.close(fd)
        elif kind == SYMLINK:
            self.tree.make_symlink(parts, entry.link, self._owner(entry), entry.mtime)
        elif kind == HARD_LINK:
            self._hard_link(entry, parts)
        elif kind == FIFO:
            self.tree.make_fifo(parts, entry.mode, self._owner(entry), entry.mtime)
        elif kind in (CHARACTER, BLOCK_DEVICE):
            self.note(f"left out the device {entry.text}")
        else:
            raise DataLoss(f"unknown type {printable(kind)} of tar entry")

    def _owner(self, entry: Entry) -> Owner:
        if self.has_one_id:
            return None
        if idmap.contains(self.maps.uids, entry.uid) and idmap.contains(self.maps.gids, entry.gid):
            return self.maps.owner_outside(entry.uid, entry.gid)
        if self.archive:
            raise InvalidParameter(
                f"its owner {entry.uid}:{entry.gid} is not among the ids of this user",
                hint="give the user more ids in /etc/subuid and /etc/subgid",
            )
        return self.maps.owner_outside(0, 0)

    def _file(self, entry: Entry, parts: list[bytes], reader: Reader) -> None:
        fd = self.tree.create_file(parts)
        try:
            if entry.extents is not None:
                for offset, length in entry.extents:
                    os.lseek(fd, offset, os.SEEK_SET)
                    _write(fd, reader.read(length))
                os.ftruncate(fd, entry.real_size)
            elif entry.size:
                _write(fd, reader.data())
            self.size += entry.real_size
            failed = self.tree.finish_file(fd, entry.mode, self._owner(entry), entry.mtime, allowed_xattrs(entry))
            self._tell(entry, failed)
            if self.remembers:
                remembered.attach(fd, (entry.uid, entry.gid))
        except BaseException:
            try:
                os.unlink(parts[-1], dir_fd=self.tree.parent(parts))
            except OSError:
                pass  # somebody else was quicker
            raise
        finally:
            os.close(fd)

    def _hard_link(self, entry: Entry, parts: list[bytes]) -> None:
        target = components(entry.link)
        if not target:
            raise DataLoss("hard link to the directory itself")
        try:
            self.tree.make_link(parts, target)
        except FileNotFoundError:
            raise DataLoss(f"hard link to {printable(entry.link)}, which is not there") from None

    def _tell(self, entry: Entry, failed: list[str]) -> None:
        for key in failed:
            self.note(f"cannot set attribute {key} of {entry.text}")


def _write(fd: int, pieces: Iterable[memoryview]) -> None:
    for piece in pieces:
        written = os.write(fd, piece)
        while written < len(piece):
            piece = piece[written:]
            written = os.write(fd, piece)


def _explain(entry: Entry, error: OSError) -> RdockError:
    return SystemFailure(f"cannot unpack {entry.text}: {reason(error)}")
