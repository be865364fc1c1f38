"""Writing a tree below one directory from names that a stranger chose.

Every object is made by its last component in a directory that is held open, and directories are opened
component by component without following links; where a link leads on, openat2 resolves it inside the
root. So no name, link or order of entries reaches anything outside, and metadata is set on descriptors
or with AT_SYMLINK_NOFOLLOW. Knows nothing of tar or of layers; raises OSError.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock.errors import DataLoss
from rdock.linux.inroot import open_in_root
from rdock.linux.tree import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Well below the usual limit of 1024 open files.
_MAX_OPEN = 256

# The kernel stores 34 bits of seconds at most on the usual file systems.
_MIN_TIME, _MAX_TIME = -(1 << 31) * 10**9, ((1 << 34) - 1) * 10**9

# PATH_MAX of Linux: no program could have made, or could use, a longer one in one piece.
MAX_NAME = 4096

Owner: TypeAlias = "tuple[int, int] | None"


def components(name: bytes) -> list[bytes]:
    """The components of a name relative to the root; a leading slash means the root. Raises DataLoss for `../x`."""
    if len(name) > MAX_NAME:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    if b".." not in name:
        return [part for part in name.split(b"/") if part and part != b"."]
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise DataLoss("name leads outside of the root")
            parts.pop()
        elif part and part != b".":
            parts.append(part)
    return parts


class Tree:
    """The directory that is being filled, with a cache of open directories inside it."""

    def __init__(self, root: int) -> None:
        self.root = root
        self._open: dict[bytes, int] = {}
        self._times: dict[bytes, int] = {}

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    # -- directories -------------------------------------------------------------------------------

    def parent(self, parts: list[bytes]) -> int:
        """The directory in which the last component lies, made with its parents if missing."""
        return self.directory(parts[:-1]) if len(parts) > 1 else self.root

    def directory(self, parts: list[bytes]) -> int:
        """An open directory inside the root. Raises OSError if something else is in the way."""
        found = self._open.get(b"/".join(parts))
        if found is not None:
            return found
        if len(self._open) >= _MAX_OPEN:
            self.close()
        depth = len(parts) - 1
        while depth and b"/".join(parts[:depth]) not in self._open:
            depth -= 1
        fd = self._open[b"/".join(parts[:depth])] if depth else self.root
        passing = -1
        try:
            for index in range(depth, len(parts)):
                fd = self._step(fd, parts[: index + 1])
                if passing >= 0:
                    os.close(passing)
                    passing = -1
                # Of a very deep path only the last directories are kept open.
                if index < len(parts) - 8:
                    passing = fd
                else:
                    self._open[b"/".join(parts[: index + 1])] = fd
        except BaseException:
            if passing >= 0:
                os.close(passing)
            raise
        return fd

    def _step(self, above: int, parts: list[bytes]) -> int:
        try:
            return os.open(parts[-1], _DIRECTORY, dir_fd=above)
        except FileNotFoundError:
            os.mkdir(parts[-1], 0o700, dir_fd=above)
        except OSError as e:
            # What O_NOFOLLOW says of a symbolic link is ELOOP, with O_DIRECTORY it is ENOTDIR.
            if e.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            return open_in_root(self.root, b"/".join(parts), _DIRECTORY & ~os.O_NOFOLLOW)
        fd = os.open(parts[-1], _READ | os.O_DIRECTORY, dir_fd=above)
        try:
            os.fchmod(fd, 0o755)
            return os.open(parts[-1], _DIRECTORY, dir_fd=above)
        finally:
            os.close(fd)

    def make_directory(self, parts: list[bytes]) -> bool:
        """Make a directory, or keep the one that is there; whether it is new."""
        parent = self.parent(parts)
        try:
            os.mkdir(parts[-1], 0o700, dir_fd=parent)
            return True
        except FileExistsError:
            if self.kind(parts) == stat.S_IFDIR:
                return False
            self.remove(parts)
            os.mkdir(parts[-1], 0o700, dir_fd=self.parent(parts))
            return True

    def open_directory(self, parts: list[bytes]) -> int:
        """A directory that is there, to set something on; the caller closes it."""
        if not parts:
            return os.dup(self.root)
        return os.open(parts[-1], _READ | os.O_DIRECTORY, dir_fd=self.parent(parts))

    def set_directory(
        self, parts: list[bytes], mode: int, owner: Owner, mtime: int, xattrs: Mapping[str, bytes]
    ) -> list[str]:
        """Owner, mode and attributes now; the time at the end, since what is made in it still changes that."""
        fd = self.open_directory(parts)
        try:
            failed = _set_metadata(fd, mode, owner, xattrs)
        finally:
            os.close(fd)
        self._times[b"/".join(parts)] = mtime
        return failed

    def set_directory_times(self) -> None:
        for path, mtime in self._times.items():
            parts = path.split(b"/")
            if path:
                os.utime(parts[-1], ns=_times(mtime), dir_fd=self.parent(parts), follow_symlinks=False)
            else:
                os.utime(self.root, ns=_times(mtime))

    # -- what is there -----------------------------------------------------------------------------

    def kind(self, parts: list[bytes]) -> int:
        """The file type bits of what has this name; 0 if nothing has."""
        try:
            return stat.S_IFMT(os.stat(parts[-1], dir_fd=self.parent(parts), follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return 0

    def remove(self, parts: list[bytes]) -> None:
        """Remove what has this name, so that another thing can take it."""
        path = b"/".join(parts)
        remove_tree(self.parent(parts), parts[-1])
        # Directories that were reached through it, be it a directory or a link, are others from now on.
        self.close()
        below = path + b"/"
        for known in [known for known in self._times if known == path or known.startswith(below)]:
            del self._times[known]

    # -- other objects -----------------------------------------------------------------------------

    def create_file(self, parts: list[bytes]) -> int:
        """A new empty file, open for writing, in the place of whatever was there."""
        try:
            return os.open(parts[-1], _CREATE, 0o600, dir_fd=self.parent(parts))
        except FileExistsError:
            self.remove(parts)
            return os.open(parts[-1], _CREATE, 0o600, dir_fd=self.parent(parts))

    def finish_file(self, fd: int, mode: int, owner: Owner, mtime: int, xattrs: Mapping[str, bytes]) -> list[str]:
        failed = _set_metadata(fd, mode, owner, xattrs)
        os.utime(fd, ns=_times(mtime))
        return failed

    def make_symlink(self, parts: list[bytes], target: bytes, owner: Owner, mtime: int) -> None:
        """A symbolic link, whose target is kept as it is: it means something inside the container only."""
        try:
            os.symlink(target, parts[-1], dir_fd=self.parent(parts))
        except FileExistsError:
            self.remove(parts)
            os.symlink(target, parts[-1], dir_fd=self.parent(parts))
        parent = self.parent(parts)
        if owner is not None:
            os.chown(parts[-1], *owner, dir_fd=parent, follow_symlinks=False)
        os.utime(parts[-1], ns=_times(mtime), dir_fd=parent, follow_symlinks=False)

    def make_link(self, parts: list[bytes], target: list[bytes]) -> None:
        """A hard link to what `target` is, which if it is a symbolic link is the link itself."""
        # A descriptor of our own, since the cache may be emptied while the other directory is looked up.
        source = open_in_root(self.root, b"/".join(target[:-1]), os.O_PATH | os.O_DIRECTORY)
        try:
            before = os.stat(target[-1], dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(before.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            try:
                os.link(target[-1], parts[-1], src_dir_fd=source, dst_dir_fd=self.parent(parts), follow_symlinks=False)
            except FileExistsError:
                there = os.stat(parts[-1], dir_fd=self.parent(parts), follow_symlinks=False)
                if (there.st_dev, there.st_ino) == (before.st_dev, before.st_ino):
                    return
                self.remove(parts)
                os.link(target[-1], parts[-1], src_dir_fd=source, dst_dir_fd=self.parent(parts), follow_symlinks=False)
        finally:
            os.close(source)

    def make_fifo(self, parts: list[bytes], mode: int, owner: Owner, mtime: int) -> None:
        try:
            os.mkfifo(parts[-1], 0o600, dir_fd=self.parent(parts))
        except FileExistsError:
            self.remove(parts)
            os.mkfifo(parts[-1], 0o600, dir_fd=self.parent(parts))
        fd = os.open(parts[-1], _READ, dir_fd=self.parent(parts))
        try:
            _set_metadata(fd, mode, owner, {})
            os.utime(fd, ns=_times(mtime))
        finally:
            os.close(fd)

    def make_whiteout(self, parts: list[bytes]) -> bool:
        """A character device 0:0, overlayfs's mark for a removed name; False where the kernel refuses it."""
        try:
            os.mknod(parts[-1], stat.S_IFCHR, 0, dir_fd=self.parent(parts))
        except PermissionError:
            return False
        return True

    def set_attributes(self, parts: list[bytes], xattrs: Mapping[str, bytes]) -> list[str]:
        """Set extended attributes of a directory, made if missing; those that the file system refuses."""
        fd = os.open(b".", _READ | os.O_DIRECTORY, dir_fd=self.directory(parts))
        try:
            return _set_xattrs(fd, xattrs)
        finally:
            os.close(fd)


def _set_metadata(fd: int, mode: int, owner: Owner, xattrs: Mapping[str, bytes]) -> list[str]:
    # The owner first: a change of owner takes setuid bits and capabilities away.
    if owner is not None:
        os.fchown(fd, *owner)
    os.fchmod(fd, mode)
    return _set_xattrs(fd, xattrs) if xattrs else []


def _set_xattrs(fd: int, xattrs: Mapping[str, bytes]) -> list[str]:
    failed = []
    for name, value in xattrs.items():
        try:
            os.setxattr(fd, name, value)
        except OSError as e:
            if e.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            failed.append(name)
    return failed


def _times(mtime: int) -> tuple[int, int]:
    bounded = max(_MIN_TIME, min(mtime, _MAX_TIME))
    return bounded, bounded
