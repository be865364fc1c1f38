"""One file or directory into another directory, between places of which both may be at work and hostile.

Everything is reached from descriptors, one component at a time, and no link is followed: what has a name is opened
with O_PATH first, and only what turns out to be a regular file or a directory is opened for reading, through that very
descriptor. New files are made by their last component; one that replaces another takes its name when it is whole. So
no name, no link and no exchange of the two at any moment leads out of the source or out of the target.

The rules of what may replace what are those of moby's extraction (pkg/archive, NoOverwriteDirNonDir). Devices and
sockets are left out, since nobody but real root can make the ones, and the others mean nothing without their server.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock.errors import Conflict, InvalidParameter, RdockError, SystemFailure, printable, reason
from rdock.storage.content import ContentCopier
from rdock.storage.placing import CREATE, HANDLE, give_name, mount_id, new_file, place, put, remove
from rdock.storage.union import kept_xattrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TypeAlias

Owner: TypeAlias = "tuple[int, int] | None"
Inode: TypeAlias = "tuple[int, int]"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# What a name is told to be that has just been given to something else.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
# No program could use a longer path in one piece.
_PATH_MAX = 4096
# Files with several names that are kept open to give them their others.
_MAX_LINKS = 256
# As many levels as the usual limit of open files allows beside those.
_MAX_DEPTH = 200


class _Level:
    """A directory on the way to where the copying is."""

    __slots__ = ("found", "fresh", "names", "path", "source", "target")

    def __init__(self, source: int, target: int, path: str, found: os.stat_result | None, *, fresh: bool) -> None:
        self.source, self.target, self.path = source, target, path
        self.found = found
        """What the directory shall look like when it is filled; None if it stays as it is."""
        self.fresh = fresh
        """Whether it was made just now, so that hardly anybody has put anything there yet."""
        self.names = os.listdir(source)
        self.names.sort(reverse=True)

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)


class TreeCopy:
    """One act of copying, for a `with`.

    `owner` says whom a copy shall belong to, None: to who makes it; with `reowns` also directories that are there
    already. `hollow` are directories that are made without
    what is in them. `note` is told what is left out. With `privileges` file capabilities are copied too.
    `mode_bits` are those of a mode that anything but a directory may keep.
    """

    def __init__(
        self,
        *,
        owner: Callable[[os.stat_result], Owner],
        reowns: bool = False,
        note: Callable[[str], None],
        hollow: Collection[Inode] = (),
        privileges: bool = False,
        mode_bits: int = 0o7777,
    ) -> None:
        self.owner, self.reowns, self.note, self.mode_bits = owner, reowns, note, mode_bits
        self.hollow, self.privileges = frozenset(hollow), privileges
        self.size = 0
        """Bytes of content so far."""
        self._content = ContentCopier()
        self._links: dict[Inode, int] = {}
        self._made: Inode | None = None
        self._has_room = False

    def __enter__(self) -> TreeCopy:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._links.values():
            os.close(fd)
        self._links.clear()

    def copy(self, source: int, target: int, name: str, path: str) -> None:
        """Copy what the O_PATH descriptor `source` is to `name` in the directory `target`; `path` is for messages.

        Raises Conflict for a directory in the place of something else and the reverse, InvalidParameter for what
        cannot be copied, SystemFailure.
        """
        found = os.fstat(source)
        try:
            if not stat.S_ISDIR(found.st_mode):
                if not self._entry(source, found, target, name, path, fresh=False):
                    raise InvalidParameter(f"cannot copy {path}: it is a {_kind(found.st_mode)}")
                return
            level = self._enter(source, found, target, name, path)
            if level is not None:
                self._walk(level)
        except OSError as e:
            raise _failure(path, e) from e

    def fill(self, source: int, target: int, path: str) -> None:
        """Copy what is in the directory `source` to the directory `target`, which itself stays as it is."""
        here, there = os.fstat(source), os.fstat(target)
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
            raise InvalidParameter(f"cannot copy {path} into itself")
        try:
            self._made = (there.st_dev, there.st_ino)
            fd = os.open(".", _DIRECTORY, dir_fd=source)
            self._walk(_Level(fd, os.open(".", _DIRECTORY, dir_fd=target), path, None, fresh=False))
        except OSError as e:
            raise _failure(path, e) from e

    def _walk(self, level: _Level) -> None:
        levels = [level]
        try:
            while levels:
                level = levels[-1]
                if not level.names:
                    levels.pop()
                    try:
                        if level.found is not None:
                            is_owned = level.fresh or self.reowns
                            self._dress(level.target, level.source, level.found, level.path, is_owned=is_owned)
                    finally:
                        level.close()
                    continue
                inner = self._next(level, level.names.pop())
                if inner is not None:
                    levels.append(inner)
                    self._make_room(len(levels))
        finally:
            for level in levels:
                level.close()

    def _make_room(self, depth: int) -> None:
        """For one descriptor each of very many levels."""
        if depth > _MAX_DEPTH and not self._has_room:
            import resource  # rdock's other ways do without

            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            self._has_room = True

    def _next(self, level: _Level, name: str) -> _Level | None:
        """Copy one thing of a directory; if it is a directory itself, what to go on with."""
        path = f"{level.path}/{name}"
        try:
            if len(path) > _PATH_MAX:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            try:
                handle = os.open(name, HANDLE, dir_fd=level.source)
            except FileNotFoundError:
                return None  # it has just gone
            try:
                found = os.fstat(handle)
                if stat.S_ISDIR(found.st_mode):
                    return self._enter(handle, found, level.target, name, path)
                if not self._entry(handle, found, level.target, name, path, fresh=level.fresh):
                    self.note(f"left out the {_kind(found.st_mode)} {path}")
                return None
            finally:
                os.close(handle)
        except OSError as e:
            raise _failure(path, e) from e

    # -- directories -------------------------------------------------------------------------------

    def _enter(self, handle: int, found: os.stat_result, there: int, name: str, path: str) -> _Level | None:
        inode = (found.st_dev, found.st_ino)
        if inode == self._made:
            return None  # the target lies within the source
        fresh = True
        try:
            os.mkdir(name, 0o700, dir_fd=there)
        except FileExistsError:
            fresh = False
        try:
            target = os.open(name, _DIRECTORY, dir_fd=there)
        except OSError as e:
            if e.errno not in _GONE:
                raise
            raise Conflict(f'cannot overwrite non-directory "{name}" with directory "{path}"') from e
        try:
            if self._made is None:
                made = os.fstat(target)
                self._made = (made.st_dev, made.st_ino)
                if inode == self._made:
                    raise InvalidParameter(f"cannot copy {path} into itself")
            source = os.open(".", _DIRECTORY, dir_fd=handle)
            level = _Level(source, target, path, found, fresh=fresh)
        except BaseException:
            os.close(target)
            raise
        if inode in self.hollow:
            level.names = []
        return level

    def _dress(self, fd: int, source: int, found: os.stat_result, path: str, *, is_owned: bool = True) -> None:
        """Owner, mode, attributes and times of a file or directory; in this order, since each may undo the next."""
        owner = self.owner(found) if is_owned else None
        if owner is not None:
            os.fchown(fd, *owner)
        os.fchmod(fd, self._mode(found))
        if _has_xattrs(source):
            for key, value in kept_xattrs(source).items():
                if key == "security.capability" and not self.privileges:
                    continue
                try:
                    os.setxattr(fd, key, value)
                except OSError as e:
                    if e.errno in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    self.note(f"cannot set attribute {key} of {path}")
        os.utime(fd, ns=(found.st_atime_ns, found.st_mtime_ns))

    def _mode(self, found: os.stat_result) -> int:
        mode = stat.S_IMODE(found.st_mode)
        return mode if stat.S_ISDIR(found.st_mode) else mode & self.mode_bits

    # -- what is not a directory -------------------------------------------------------------------

    def _entry(self, handle: int, found: os.stat_result, there: int, name: str, path: str, *, fresh: bool) -> bool:
        """Copy something; False if it is of a kind that is not copied."""
        kind = stat.S_IFMT(found.st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO):
            return False
        inode = (found.st_dev, found.st_ino)
        if found.st_nlink > 1 and inode in self._links:
            first = self._links[inode]

            if self._is_linked(lambda new: give_name(first, there, new), there, name, path):
                return True
        if kind == stat.S_IFREG:
            source = os.open(f"/proc/self/fd/{handle}", _READ)
            try:
                self._file(source, there, name, path, fresh=fresh)
            finally:
                os.close(source)
        elif kind == stat.S_IFLNK:
            text = os.readlink("", dir_fd=handle)
            place(lambda new: os.symlink(text, new, dir_fd=there), there, name, path)
            self._dress_name(there, name, found, is_link=True)
        else:
            place(lambda new: os.mkfifo(new, 0o600, dir_fd=there), there, name, path)
            self._dress_name(there, name, found, is_link=False)
        if found.st_nlink > 1:
            self._remember(inode, there, name)
        return True

    def _is_linked(self, link: Callable[[str], None], there: int, name: str, path: str) -> bool:
        try:
            place(link, there, name, path)
        except OSError as e:
            if e.errno not in (errno.EXDEV, errno.EMLINK, errno.ENOENT, errno.EPERM):
                raise
            return False  # into another mount, or one name too many: then it is a copy
        return True

    def _remember(self, inode: Inode, there: int, name: str) -> None:
        if len(self._links) >= _MAX_LINKS:
            oldest = next(iter(self._links))
            os.close(self._links.pop(oldest))
        try:
            fd = os.open(name, HANDLE, dir_fd=there)
        except OSError:
            return  # somebody has removed it
        known = self._links.pop(inode, -1)
        if known >= 0:
            os.close(known)
        self._links[inode] = fd

    def _dress_name(self, there: int, name: str, found: os.stat_result, *, is_link: bool) -> None:
        """The same for what cannot be opened without a consequence."""
        handle = os.open(name, HANDLE, dir_fd=there)
        try:
            now = os.fstat(handle)
            if stat.S_IFMT(now.st_mode) != stat.S_IFMT(found.st_mode):
                return  # it is another thing by now
            owner = self.owner(found)
            if owner is not None and is_link:
                os.chown(name, *owner, dir_fd=there, follow_symlinks=False)
            elif owner is not None:
                os.chown(f"/proc/self/fd/{handle}", *owner)
            if is_link:
                os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=there, follow_symlinks=False)
            else:
                os.chmod(f"/proc/self/fd/{handle}", self._mode(found))
                os.utime(f"/proc/self/fd/{handle}", ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(handle)

    def _file(self, source: int, there: int, name: str, path: str, *, fresh: bool) -> None:
        found = os.fstat(source)
        if fresh:
            try:
                target = os.open(name, CREATE, 0o600, dir_fd=there)
            except FileExistsError:
                pass
            else:
                try:
                    self._fill(source, target, found, path)
                except BaseException:
                    remove(there, name)
                    raise
                finally:
                    os.close(target)
                return
        if self._is_in_place(source, found, there, name, path):
            return
        target, named = new_file(there)
        try:
            self._fill(source, target, found, path)
            if named:
                put(there, named, name, path)
                named = ""
            else:
                place(lambda new: give_name(target, there, new), there, name, path)
        finally:
            os.close(target)
            if named:
                remove(there, named)

    def _fill(self, source: int, target: int, found: os.stat_result, path: str) -> None:
        self.size += self._content.copy(source, target, found)
        self._dress(target, source, found, path)

    def _is_in_place(self, source: int, found: os.stat_result, there: int, name: str, path: str) -> bool:
        """Write into a file on which something is mounted, such as a bind of a single file; False if it is none.

        To give its name to another one would take the mount away from the container.
        """
        try:
            handle = os.open(name, HANDLE, dir_fd=there)
        except FileNotFoundError:
            return False
        try:
            now = os.fstat(handle)
            if stat.S_ISDIR(now.st_mode):
                raise Conflict(f'cannot overwrite directory "{name}" with non-directory "{path}"')
            if mount_id(handle) == mount_id(there):
                return False
            if not stat.S_ISREG(now.st_mode):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            if (now.st_dev, now.st_ino) == (found.st_dev, found.st_ino):
                raise InvalidParameter(f"cannot copy {path} onto itself")
            target = os.open(f"/proc/self/fd/{handle}", os.O_WRONLY | os.O_TRUNC | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                self.size += self._content.copy(source, target, found)
            finally:
                os.close(target)
            return True
        finally:
            os.close(handle)


def _has_xattrs(fd: int) -> bool:
    try:
        return bool(os.listxattr(fd))
    except OSError as e:
        if e.errno == errno.EOPNOTSUPP:
            return False
        raise


def _kind(mode: int) -> str:
    return "socket" if stat.S_ISSOCK(mode) else "device"


def _failure(path: str, error: OSError) -> RdockError:
    return SystemFailure(f"cannot copy {printable(path)}: {reason(error)}")
