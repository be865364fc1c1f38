"""A tree of its own made from layers, for machines where nothing can stack them.

Layers are applied bottom up, whiteouts and opaque directories as overlayfs would show them. File
content is shared with the layer by a clone (FICLONE: btrfs, xfs, bcachefs) or, in a root that is
mounted read-only, by a hard link; else it is copied. Works on directory descriptors throughout.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from rdock.linux.tree import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rdock.linux.idmap import Maps

_FICLONE = 0x40049409
OPAQUE = ("user.overlay.opaque", "user.fuseoverlayfs.opaque", "trusted.overlay.opaque")
OWNER = "user.rdock.owner"
"""The attribute by which rdock remembers an owner; see remembered.py."""
_PRIVATE = ("user.overlay.", "user.fuseoverlayfs.", "trusted.")


def merge(layers: Sequence[str], target: str, *, share: bool, owners: Maps | None = None) -> None:
    """Build `target` (an existing directory) from `layers`, topmost first. `share` allows hard links.

    With `owners` each file gets the owner that this id map makes of its own, and none is shared. Raises OSError.
    """
    there = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for layer in reversed(layers):
            here = os.open(layer, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _Merge(share and owners is None, owners).directory(here, there)
            finally:
                os.close(here)
    finally:
        os.close(there)


class _Merge:
    """One layer laid over what is there."""

    def __init__(self, share: bool, owners: Maps | None) -> None:
        self.share = share
        self.owners = owners
        # A file with several names: where its first copy lies.
        self.links: dict[tuple[int, int], tuple[int, str]] = {}
        self.open_directories: list[int] = []

    def directory(self, here: int, there: int) -> None:
        try:
            self._contents(here, there)
        finally:
            for fd in self.open_directories:
                os.close(fd)

    def _contents(self, here: int, there: int) -> None:
        for name in os.listdir(here):
            found = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                remove_tree(there, name)
            elif stat.S_ISDIR(found.st_mode):
                self._directory(here, there, name, found)
            else:
                remove_tree(there, name)
                self._entry(here, there, name, found)
        _remove_attributes(here, there)
        self._copy_metadata(here, there, os.fstat(here))

    def _directory(self, here: int, there: int, name: str, found: os.stat_result) -> None:
        source = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        try:
            if not _is_directory(there, name) or _is_opaque(source):
                remove_tree(there, name)
                os.mkdir(name, 0o700, dir_fd=there)
            target = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=there)
            kept = len(self.links)
            self._contents(source, target)
            if len(self.links) > kept:
                self.open_directories.append(target)
            else:
                os.close(target)
        finally:
            os.close(source)

    def _entry(self, here: int, there: int, name: str, found: os.stat_result) -> None:
        if stat.S_ISREG(found.st_mode):
            self._file(here, there, name, found)
        elif stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
            os.chown(name, *self._owner(found), dir_fd=there, follow_symlinks=False)
            os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=there, follow_symlinks=False)
        elif stat.S_ISFIFO(found.st_mode):
            os.mkfifo(name, 0o600, dir_fd=there)
            os.chown(name, *self._owner(found), dir_fd=there, follow_symlinks=False)
            # By the umask, and by a change of owner, it would lose some.
            os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=there)
            os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=there, follow_symlinks=False)
        # Sockets and devices cannot be in a layer that rdock has unpacked.

    def _file(self, here: int, there: int, name: str, found: os.stat_result) -> None:
        if self.share:
            os.link(name, name, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
            return
        key = (found.st_dev, found.st_ino)
        if key in self.links:
            directory, first = self.links[key]
            os.link(first, name, src_dir_fd=directory, dst_dir_fd=there, follow_symlinks=False)
            return
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        try:
            target = os.open(
                name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=there
            )
            try:
                _copy_content(source, target, found.st_size)
                self._copy_metadata(source, target, found)
            finally:
                os.close(target)
        finally:
            os.close(source)
        if found.st_nlink > 1:
            self.links[key] = (there, name)

    def _copy_metadata(self, source: int, target: int, found: os.stat_result) -> None:
        os.fchown(target, *self._owner(found))
        os.fchmod(target, stat.S_IMODE(found.st_mode))
        copy_attributes(source, target)
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))

    def _owner(self, found: os.stat_result) -> tuple[int, int]:
        return self.owners.owner_outside(found.st_uid, found.st_gid) if self.owners else (found.st_uid, found.st_gid)


def _is_directory(directory: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _is_opaque(directory: int) -> bool:
    return any(name in OPAQUE for name in os.listxattr(directory))


def _copy_content(source: int, target: int, size: int) -> None:
    try:
        fcntl.ioctl(target, _FICLONE, source)
        return
    except OSError as e:
        if e.errno not in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM):
            raise
    os.ftruncate(target, size)
    offset = 0
    while offset < size:
        try:
            data = os.lseek(source, offset, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:  # nothing but a hole to the end
                return
            raise
        end = os.lseek(source, data, os.SEEK_HOLE)
        if not _copy_range(source, target, data, end):
            return
        offset = end


def _copy_range(source: int, target: int, start: int, end: int) -> bool:
    """Copy these bytes; False if the file has become shorter. In the kernel, wherever the two files are."""
    while start < end:
        try:
            copied = os.copy_file_range(source, target, end - start, start, start)
        except OSError as e:
            # From an overlay to what lies below it, since Linux 5.19.
            if e.errno not in (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL):
                raise
            os.lseek(target, start, os.SEEK_SET)
            copied = os.sendfile(target, source, start, end - start)
        if copied == 0:
            return False
        start += copied
    return True


def _remove_attributes(source: int, target: int) -> None:
    """Take those away that a directory has from the layers below: the topmost one that has it tells them all."""
    ours = _names_of_attributes(target)
    if ours:
        kept = _names_of_attributes(source)
        for name in ours:
            if name not in kept and name.startswith(("user.", "security.capability")):
                os.removexattr(target, name)


def _names_of_attributes(file: int | str) -> list[str]:
    try:
        return os.listxattr(file)
    except OSError as e:
        if e.errno != errno.EOPNOTSUPP:
            raise
        return []


def copy_attributes(source: int | str, target: int | str) -> None:
    """Give a file or directory those attributes of another that belong to what is in the root."""
    for name in _names_of_attributes(source):
        if not name.startswith(_PRIVATE) and name.startswith(("user.", "security.capability")):
            try:
                os.setxattr(target, name, os.getxattr(source, name))
            except OSError as e:
                # What a tmpfs older than Linux 6.6 cannot remember it forgets.
                if name != OWNER or e.errno != errno.EOPNOTSUPP:
                    raise
