"""Taking over a tree: what foreign ids of one's own namespace have written becomes root's, who is the caller outside.

Other processes may be at work in the tree, and be hostile: directories are opened one component at a time, from
descriptors, by openat2(2), which follows no link and enters no other mount; and what changes hands is what a
descriptor refers to, not what has its name by then.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock.linux import idmap
from rdock.linux.inroot import O_PATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, open_in_root
from rdock.linux.libc import check, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH = 0x100, 0x1000
_KEEP = 0xFFFFFFFF
"""(uid_t) -1: as it is."""
_RESOLVE = RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
# Descriptors that are held open along one branch, and bytes of path that are opened in one step.
_MAX_OPEN, _MAX_PATH = 64, 2048


class Taking:
    """What is changed since a moment (`since`, in nanoseconds since 1970, as st_ctime_ns) and belongs to foreign ids.

    Those are the ids of this user namespace but for 0 and those of users in `spared`. Directories in `passed` (device
    and inode) are not entered. Modes stay; the kernel takes set-id bits and file capabilities away, as it must: a
    program that ran as somebody else is not to run as the caller.
    """

    def __init__(
        self, since: int, *, passed: Collection[tuple[int, int]] = (), spared: Collection[int] = frozenset()
    ) -> None:
        self.since, self.passed, self.spared = since, frozenset(passed), frozenset(spared)
        self.taken = self.failed = 0
        self._uids, self._gids = idmap.read_map("uid"), idmap.read_map("gid")
        # Files with several names, not all of which have been met: how many have. One outside of the tree would
        # change hands as well.
        self._names: dict[tuple[int, int], int] = {}

    def take(self, source: int) -> None:
        """Go through a directory and all below it, or see to a single file; `source` is its O_PATH descriptor.

        Never fails: what cannot be taken, or goes away, is left out and counted.
        """
        found = os.fstat(source)
        if self._is_foreign(found) and (not self._has_other_names(found) or self._is_complete(found)):
            self._give(source, found)
        if stat.S_ISDIR(found.st_mode) and (found.st_dev, found.st_ino) not in self.passed:
            _Branch(self, source).walk()

    def look(self, directory: int, name: str, found: os.stat_result) -> None:
        """See to one entry, of which `found` was said a moment ago."""
        if not self._is_foreign(found):
            return
        if self._has_other_names(found) and not self._is_complete(found):
            return
        try:
            fd = open_in_root(directory, name, O_PATH | os.O_NOFOLLOW, 0, _RESOLVE)
        except OSError:
            return  # it has gone, or something is mounted there
        try:
            now = os.fstat(fd)
            if (now.st_dev, now.st_ino) == (found.st_dev, found.st_ino) and self._is_foreign(now):
                self._give(fd, now)
        finally:
            os.close(fd)

    def _is_foreign(self, found: os.stat_result) -> bool:
        if found.st_ctime_ns < self.since or found.st_uid in self.spared:
            return False
        return (found.st_uid != 0 and idmap.contains(self._uids, found.st_uid)) or (
            found.st_gid != 0 and idmap.contains(self._gids, found.st_gid)
        )

    @staticmethod
    def _has_other_names(found: os.stat_result) -> bool:
        return found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode)

    def _is_complete(self, found: os.stat_result) -> bool:
        """Count one more name of a file; whether that was the last one."""
        inode = (found.st_dev, found.st_ino)
        self._names[inode] = self._names.get(inode, 0) + 1
        return self._names[inode] >= found.st_nlink

    def _give(self, fd: int, found: os.stat_result) -> None:
        uid = 0 if found.st_uid != 0 and idmap.contains(self._uids, found.st_uid) else _KEEP
        gid = 0 if found.st_gid != 0 and idmap.contains(self._gids, found.st_gid) else _KEEP
        try:
            try:
                _chown(fd, uid, gid)
            except PermissionError:
                if uid == _KEEP:
                    raise
                _chown_as_owner(fd, found.st_uid)
            self.taken += 1
        except OSError:
            # 65534 may be an id of the namespace or stand for one that does not exist in it, as that of another user
            # of the machine does: the kernel knows which, and denies it.
            self.failed += 1


def _chown(fd: int, uid: int, gid: int) -> None:
    check(libc.fchownat(fd, b"", uid, gid, _AT_EMPTY_PATH | _AT_SYMLINK_NOFOLLOW))


def _chown_as_owner(fd: int, owner: int) -> None:
    """Take what has a group that does not exist in this namespace, as a set-group-ID bit of a shared folder gives it.

    Over such a file root has no rights (capable_wrt_inode_uidgid in the kernel). Its owner may give it to a group that
    he is in, and the process is in the caller's.
    """
    libc.setfsuid(owner)
    try:
        _chown(fd, _KEEP, 0)
    finally:
        libc.setfsuid(0)
    _chown(fd, 0, _KEEP)


class _Level:
    def __init__(self, name: str, fd: int, names: list[str]) -> None:
        self.name, self.fd, self.names = name, fd, names


class _Branch:
    """The directories from the source to where the walk is. However deep they are, few are open."""

    def __init__(self, taking: Taking, source: int) -> None:
        self.taking, self.source = taking, source
        self.levels: list[_Level] = []

    def walk(self) -> None:
        try:
            self._enter(self.source, ".")
            while self.levels:
                level = self.levels[-1]
                if not level.names:
                    self._leave()
                    continue
                name = level.names.pop()
                fd = self._reopened(len(self.levels) - 1)
                if fd < 0:
                    level.names.clear()
                else:
                    self._enter(fd, name)
        finally:
            while self.levels:
                self._leave()

    def _leave(self) -> None:
        level = self.levels.pop()
        if level.fd >= 0:
            os.close(level.fd)

    def _enter(self, above: int, name: str) -> None:
        """Open a directory and see to its entries; the directories among them come later."""
        try:
            fd = open_in_root(above, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, 0, _RESOLVE)
        except OSError:
            return
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) in self.taking.passed:
            os.close(fd)
            return
        inner = []
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    try:
                        about = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    self.taking.look(fd, entry.name, about)
                    if stat.S_ISDIR(about.st_mode):
                        inner.append(entry.name)
        except OSError:
            self.taking.failed += 1
        self.levels.append(_Level(name, fd, inner))
        if len(self.levels) > _MAX_OPEN:
            early = self.levels[-1 - _MAX_OPEN]
            if early.fd >= 0:
                os.close(early.fd)
                early.fd = -1

    def _reopened(self, number: int) -> int:
        """The descriptor of a level; -1 if it is not where it was."""
        level = self.levels[number]
        if level.fd >= 0:
            return level.fd
        fd = os.dup(self.source)
        try:
            names = [passed.name for passed in self.levels[1 : number + 1]]
            while names:
                length, count = len(os.fsencode(names[0])), 1
                while count < len(names) and length + len(os.fsencode(names[count])) < _MAX_PATH:
                    length += len(os.fsencode(names[count])) + 1
                    count += 1
                path = "/".join(names[:count])
                inner = open_in_root(fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, 0, _RESOLVE)
                os.close(fd)
                fd, names = inner, names[count:]
        except OSError as e:
            os.close(fd)
            if e.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV):
                self.taking.failed += 1
            return -1
        level.fd = fd
        return fd
