"""Applying a layer: a changeset in tar form becomes a directory (image spec, "Layer Filesystem Changeset").

What the layer removes stays in the unpacked directory as overlayfs understands it: a character device
0:0 for a name, an extended attribute for a directory that hides what is below it. A layer decides
nothing else about the overlay: attributes of that kind in an image are dropped. Device nodes cannot be
made without real root and are left out, outside of /dev with a note.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat

from rdock.errors import DataLoss, InvalidParameter, RdockError, SystemFailure, reason
from rdock.image import compression
from rdock.image.extract import Owner, Tree, components
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
from rdock.storage import remembered
from rdock.storage.layers import Content
from rdock.storage.space import check_space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_OPAQUE_XATTRS = {"user.overlay.opaque": b"y", "user.fuseoverlayfs.opaque": b"y"}
# Attributes by which overlayfs, fuse-overlayfs, containers/storage and rdock steer themselves.
_RESERVED_XATTRS = ("user.overlay.", "user.fuseoverlayfs.", "user.containers.", "user.rdock.")
_MAX_NOTES = 5
_MAX_NAMES = 8
# Of an image that makes noise on purpose.
_MAX_NOTED = 1000
_SPACE_BYTES = 16 << 20
_SPACE_ENTRIES = 256


def apply(chunks: Iterable[bytes], root: int, *, strict_end: bool = False, whiteouts: bool = True) -> Content:
    """Unpack a layer, compressed or not, into the empty directory `root`, and say what it is.

    Reads the stream to its very end, for the DiffID. `strict_end` refuses a tar archive without end
    mark, where no digest would tell that it is cut off. Without `whiteouts` names that look like such are names like
    others. Raises DataLoss, InvalidParameter, SystemFailure.
    """
    digest = hashlib.sha256()

    def content() -> Iterator[bytes]:
        for chunk in compression.open_stream(chunks)[1]:
            digest.update(chunk)
            yield chunk

    source = compression.in_thread(content())
    changeset = _Changeset(root, whiteouts=whiteouts)
    try:
        stream = Stream(source)
        changeset.unpack(Reader(stream, strict_end=strict_end))
        stream.drain()
    finally:
        source.close()
        changeset.tree.close()
    return Content(
        "sha256:" + digest.hexdigest(), changeset.size, changeset.opaque, changeset.foreign, changeset.all_notes(),
        changeset.owners,
    )  # fmt: skip


class _Ids:
    """Which owners can be kept under the id map of this process."""

    def __init__(self) -> None:
        self.uids, self.gids = idmap.read_map("uid"), idmap.read_map("gid")
        self.single = min(sum(m.size for m in self.uids), sum(m.size for m in self.gids)) == 1
        self._known: set[tuple[int, int]] = set()

    def check(self, uid: int, gid: int) -> None:
        """Raise InvalidParameter unless both ids are mapped."""
        if (uid, gid) in self._known:
            return
        for kind, value, mapped in (("uid", uid, self.uids), ("gid", gid, self.gids)):
            if not idmap.contains(mapped, value):
                raise InvalidParameter(
                    f"its owner ({kind} {value}) is not among the {sum(m.size for m in mapped)} ids of this user",
                    hint="give the user more ids in /etc/subuid and /etc/subgid",
                )
        self._known.add((uid, gid))


class _Changeset:
    """The state of one unpacking."""

    def __init__(self, root: int, *, whiteouts: bool) -> None:
        self.root = root
        self.knows_whiteouts = whiteouts
        self.tree = Tree(root)
        self.ids = _Ids()
        self.size = 0
        self.foreign = 0
        self.owners: dict[int, tuple[int, int]] = {}
        """By inode number, those that files cannot carry themselves."""
        self.opaque = False
        self._notes: list[str] = []
        self._devices: list[str] = []
        self._whiteouts: set[tuple[bytes, ...]] = set()
        self._unchecked = 0

    def unpack(self, reader: Reader) -> None:
        count = 0
        while (entry := reader.next()) is not None:
            if count % _SPACE_ENTRIES == 0:
                check_space(self.root, "the layer")
            count += 1
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

    def all_notes(self) -> tuple[str, ...]:
        """What could not be kept, in few lines."""
        notes = self._notes[:_MAX_NOTES]
        if len(self._notes) > _MAX_NOTES:
            notes.append(f"and {len(self._notes) - _MAX_NOTES} more of the kind")
        if self._devices:
            names = ", ".join(self._devices[:_MAX_NAMES]) + (", …" if len(self._devices) > _MAX_NAMES else "")
            notes.insert(0, f"left out {len(self._devices)} device nodes, which take real root to make: {names}")
        return tuple(notes)

    def _note(self, text: str) -> None:
        if len(self._notes) < _MAX_NOTED:
            self._notes.append(text)

    def _unpack(self, entry: Entry, reader: Reader) -> None:
        parts = components(entry.name)
        if not parts:
            if entry.kind != DIRECTORY:
                raise DataLoss("the root is not a directory")
            self._directory(entry, parts)
            return
        if self.knows_whiteouts and b"/.wh." in b"/" + entry.name and self._is_mark(parts):
            return
        kind = entry.kind
        if kind == REGULAR:
            self._file(entry, parts, reader)
        elif kind == DIRECTORY:
            self._directory(entry, parts)
        elif kind == SYMLINK:
            self.tree.make_symlink(parts, entry.link, self._owner(entry), entry.mtime)
            self._note_owner(entry, parts)
        elif kind == HARD_LINK:
            self._hard_link(entry, parts)
        elif kind == FIFO:
            self.tree.make_fifo(parts, entry.mode, self._owner(entry), entry.mtime)
            self._note_owner(entry, parts)
        elif kind in (CHARACTER, BLOCK_DEVICE):
            # A container has a /dev of its own, which hides the image's.
            if parts[0] != b"dev" and len(self._devices) < _MAX_NOTED:
                self._devices.append(printable(b"/".join(parts)))
        else:
            raise DataLoss(f"unknown type {printable(kind)} of tar entry")

    def _owner(self, entry: Entry) -> Owner:
        """Whom the file shall belong to; None: to us, as every new file does."""
        if self.ids.single:
            self.foreign += bool(entry.uid or entry.gid)
            return None
        self.ids.check(entry.uid, entry.gid)
        return entry.uid, entry.gid

    def _remember(self, entry: Entry, fd: int, *, new: bool) -> None:
        """Whom an open file or directory belongs to, where it cannot be given to them."""
        owner = (entry.uid, entry.gid)
        if self.owners:
            # What was removed may have had the same number.
            self.owners.pop(os.fstat(fd).st_ino, None)
        if (not new or owner != remembered.ROOT) and not remembered.attach(fd, owner):
            self.owners[os.fstat(fd).st_ino] = owner

    def _note_owner(self, entry: Entry, parts: list[bytes]) -> None:
        """The same for what has no attributes."""
        owner = (entry.uid, entry.gid)
        if self.ids.single and (self.owners or owner != remembered.ROOT):
            inode = os.stat(parts[-1], dir_fd=self.tree.parent(parts), follow_symlinks=False).st_ino
            self.owners.pop(inode, None)
            if owner != remembered.ROOT:
                self.owners[inode] = owner

    # -- objects -----------------------------------------------------------------------------------

    def _file(self, entry: Entry, parts: list[bytes], reader: Reader) -> None:
        owner = self._owner(entry)
        fd = self.tree.create_file(parts)
        try:
            if entry.extents is not None:
                for offset, length in entry.extents:
                    os.lseek(fd, offset, os.SEEK_SET)
                    self._write(fd, reader.read(length))
                os.ftruncate(fd, entry.real_size)
            elif entry.size:
                self._write(fd, reader.data())
            self.size += entry.real_size
            self._note_failed(entry, self.tree.finish_file(fd, entry.mode, owner, entry.mtime, allowed_xattrs(entry)))
            if self.ids.single:
                self._remember(entry, fd, new=True)
        finally:
            os.close(fd)

    def _write(self, fd: int, pieces: Iterable[memoryview]) -> None:
        for piece in pieces:
            written = os.write(fd, piece)
            while written < len(piece):
                piece = piece[written:]
                written = os.write(fd, piece)
            self._unchecked += len(piece)
            if self._unchecked > _SPACE_BYTES:
                check_space(fd, "the layer")
                self._unchecked = 0

    def _directory(self, entry: Entry, parts: list[bytes]) -> None:
        owner = self._owner(entry)
        new = bool(parts) and self.tree.make_directory(parts)
        xattrs = allowed_xattrs(entry)
        if new and self._whiteouts and tuple(parts) in self._whiteouts:
            # Removed and made anew in one layer: what the layers below have in it is gone.
            xattrs = {**xattrs, **_OPAQUE_XATTRS}
        self._note_failed(entry, self.tree.set_directory(parts, entry.mode, owner, entry.mtime, xattrs))
        if self.ids.single and (self.owners or entry.uid or entry.gid or not new):
            fd = self.tree.open_directory(parts)
            try:
                self._remember(entry, fd, new=new)
            finally:
                os.close(fd)

    def _hard_link(self, entry: Entry, parts: list[bytes]) -> None:
        target = components(entry.link)
        if not target:
            raise DataLoss("hard link to the root")
        try:
            self.tree.make_link(parts, target)
        except FileNotFoundError:
            raise DataLoss(f"hard link to {printable(entry.link)}, which is not in the layer") from None

    def _note_failed(self, entry: Entry, xattrs: list[str]) -> None:
        for name in xattrs:
            if name not in _OPAQUE_XATTRS:
                self._note(f"cannot set attribute {name} of {entry.text}")

    # -- whiteouts ---------------------------------------------------------------------------------

    def _is_mark(self, parts: list[bytes]) -> bool:
        """Handle a name that begins with `.wh.`; False if none of the names does after all."""
        if any(part.startswith(_WHITEOUT) for part in parts[:-1]):
            raise DataLoss("a whiteout cannot be a directory")
        name = parts[-1]
        if name == _OPAQUE:
            self._make_opaque(parts[:-1])
        elif name.startswith(b".wh..wh."):
            # Left by aufs; means nothing to anybody else.
            pass
        elif name.startswith(_WHITEOUT):
            self._whiteout([*parts[:-1], name[len(_WHITEOUT) :]])
        else:
            return False
        return True

    def _make_opaque(self, parts: list[bytes]) -> None:
        if not parts:
            # Overlayfs does not look for the mark on the root of a layer, so it is kept in the record.
            self.opaque = True
            return
        self.tree.set_attributes(parts, _OPAQUE_XATTRS)

    def _whiteout(self, parts: list[bytes]) -> None:
        """Mark a name as removed from the layers below. What this layer itself has under that name stays."""
        if parts[-1] in (b"", b".", b".."):
            raise DataLoss("invalid whiteout")
        self._whiteouts.add(tuple(parts))
        kind = self.tree.kind(parts)
        if kind == stat.S_IFDIR:
            self._make_opaque(parts)
        elif not kind and not self.tree.make_whiteout(parts):
            os.close(self.tree.create_file([*parts[:-1], _WHITEOUT + parts[-1]]))


def allowed_xattrs(entry: Entry) -> dict[str, bytes]:
    """The attributes that an image may set."""
    if entry.xattrs is None:
        return {}
    return {
        name: value
        for name, value in entry.xattrs.items()
        if name == "security.capability"
        or (name.startswith("user.") and not name.startswith(_RESERVED_XATTRS) and "\0" not in name)
    }


def _explain(entry: Entry, error: OSError) -> RdockError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SystemFailure(f"no space left for the layer: {reason(error)}")
    return SystemFailure(f"cannot unpack {entry.text}: {reason(error)}")
