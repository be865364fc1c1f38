"""Directories stacked as overlayfs shows them, read without a mount.

What is at work in a container's root may change it at any moment, and is hostile: directories are opened one
component at a time, from descriptors, no link is followed, and nothing but directories is opened here at all. What is
mounted in a container is not seen. A single directory is a stack, too.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock.storage.copytree import OPAQUE, OWNER
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rdock.linux.idmap import Maps

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What a directory is told to be that has just been replaced by something else.
_NO_DIRECTORY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_MAX_LINKS = 40

MARK = b".wh."
_OPAQUE_MARK = b".wh..wh..opq"
# Attributes by which overlayfs, fuse-overlayfs and containers/storage steer themselves.
_RESERVED = ("user.overlay.", "user.fuseoverlayfs.", "user.containers.", "user.rdock.")


class Found(Value):
    """What has a name: in which directory of the stack it lies, and what it is."""

    layer: int
    stat: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def inode(self) -> tuple[int, int]:
        return self.stat.st_dev, self.stat.st_ino


class Directory:
    """One directory of the stack: its parts, by the number of the layer, topmost first. Must be closed."""

    def __init__(self, parts: dict[int, int], *, marks: bool, owners: Maps | None = None) -> None:
        self.parts = parts
        self.marks = marks
        self.owners = owners

    def close(self) -> None:
        for fd in self.parts.values():
            os.close(fd)
        self.parts = {}

    @property
    def inodes(self) -> list[tuple[int, int]]:
        """Which directories it is made of: the same ones show the same content."""
        return [(found.st_dev, found.st_ino) for found in map(os.fstat, self.parts.values())]

    @property
    def stat(self) -> os.stat_result:
        return self._seen(os.fstat(next(iter(self.parts.values()))))

    def _seen(self, found: os.stat_result) -> os.stat_result:
        return (
            found if self.owners is None else with_owner(found, *self.owners.owner_inside(found.st_uid, found.st_gid))
        )

    def xattrs(self) -> dict[str, bytes]:
        """Those that belong to the container, and the remembered owner."""
        return kept_xattrs(next(iter(self.parts.values())), owner=True)

    def entries(self) -> dict[bytes, Found]:
        """All that is in it, in no order."""
        found: dict[bytes, Found] = {}
        gone: set[bytes] = set()
        for layer, fd in self.parts.items():
            hidden = set()
            for text in os.listdir(fd):
                name = os.fsencode(text)
                if self.marks and name.startswith(MARK):
                    hidden.add(name[len(MARK) :])
                elif name not in found and name not in gone:
                    about = _stat(fd, name)
                    if about is None:
                        continue
                    if _is_whiteout(about):
                        hidden.add(name)
                    else:
                        found[name] = Found(layer, self._seen(about))
            # A mark and a thing of the same name in one layer: the mark is about those below.
            gone |= hidden
        return found

    def find(self, name: bytes) -> Found | None:
        """What has this name."""
        for layer, fd in self.parts.items():
            about = _stat(fd, name)
            if about is not None:
                hidden = _is_whiteout(about) or (self.marks and name.startswith(MARK))
                return None if hidden else Found(layer, self._seen(about))
            if self.marks and _stat(fd, MARK + name) is not None:
                return None
        return None

    def child(self, name: bytes) -> Directory | None:
        """The directory of this name, if it still is one."""
        parts: dict[int, int] = {}
        try:
            for layer, fd in self.parts.items():
                inner = _open(fd, name)
                if inner is not None:
                    parts[layer] = inner
                    if self._is_opaque(inner):
                        break
                elif _stat(fd, name) is not None:
                    break  # something else, which hides what is below
                if self.marks and _stat(fd, MARK + name) is not None:
                    break
        except BaseException:
            Directory(parts, marks=self.marks).close()
            raise
        return Directory(parts, marks=self.marks, owners=self.owners) if parts else None

    def _is_opaque(self, fd: int) -> bool:
        if self.marks and _stat(fd, _OPAQUE_MARK) is not None:
            return True
        return any(name in OPAQUE for name in _names_of_xattrs(fd))


class Union:
    """A stack of directories, topmost first, by their paths. Use in a `with`.

    `marks`: files whose names begin with `.wh.` are marks for removed names too, as fuse-overlayfs has it.
    `owners`: the files have the owners of this id map, and are told with those inside. Raises OSError.
    """

    def __init__(self, directories: Sequence[str], *, marks: bool = False, owners: Maps | None = None) -> None:
        self.marks = marks
        self.owners = owners
        self._roots: dict[int, int] = {}
        try:
            for number, path in enumerate(directories):
                self._roots[number] = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for fd in self._roots.values():
            os.close(fd)
        self._roots = {}

    def __enter__(self) -> Union:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, parts: Sequence[bytes] = ()) -> Directory | None:
        """A directory by its path from the root, if it is there; the root itself always is."""
        found: Directory | None = Directory(
            {number: _duplicate(fd) for number, fd in self._roots.items()}, marks=self.marks, owners=self.owners
        )
        for name in parts:
            if found is None:
                return None
            above, found = found, found.child(name)
            above.close()
        return found

    def find(self, parts: Sequence[bytes]) -> Found | None:
        directory = self.open(parts[:-1])
        if directory is None:
            return None
        try:
            return directory.find(parts[-1])
        finally:
            directory.close()

    def resolve(self, path: bytes) -> tuple[bytes, ...]:
        """Where a path leads inside the root, whether anything is there or not. Raises OSError (ELOOP)."""
        left = path.split(b"/")
        found: list[bytes] = []
        links = 0
        while left:
            name = left.pop(0)
            if name == b"..":
                found = found[:-1]
            if name in (b"", b".", b".."):
                continue
            target = self._link([*found, name])
            if target is None:
                found.append(name)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            found = [] if target.startswith(b"/") else found
            left = target.split(b"/") + left
        return tuple(found)

    def _link(self, parts: list[bytes]) -> bytes | None:
        directory = self.open(parts[:-1])
        if directory is None:
            return None
        try:
            found = directory.find(parts[-1])
            if found is None or not stat.S_ISLNK(found.stat.st_mode):
                return None
            return os.readlink(parts[-1], dir_fd=directory.parts[found.layer])
        except FileNotFoundError:
            return None
        finally:
            directory.close()


def with_owner(found: os.stat_result, uid: int, gid: int) -> os.stat_result:
    """The same as if it belonged to somebody else."""
    fields = list(found)
    fields[stat.ST_UID], fields[stat.ST_GID] = uid, gid
    # The times in these are whole seconds.
    names = [name for name in dir(found) if name.startswith("st_") and name not in ("st_uid", "st_gid")]
    return os.stat_result(fields, {name: getattr(found, name) for name in names})


def kept_xattrs(fd: int, *, owner: bool = False) -> dict[str, bytes]:
    """The extended attributes of a directory or regular file that belong to the container, sorted by name.

    With `owner` also that by which rdock remembers the owner, which is no attribute for anybody else.
    """
    found = {}
    for name in sorted(_names_of_xattrs(fd)):
        is_kept = name == "security.capability" or (name.startswith("user.") and not name.startswith(_RESERVED))
        if is_kept or (owner and name == OWNER):
            try:
                found[name] = os.getxattr(_path(fd), name)
            except OSError as e:
                # Removed meanwhile; or given by another user namespace, where it means something else.
                if e.errno not in (errno.ENODATA, errno.EOVERFLOW):
                    raise
    return found


def open_file(directory: int, name: bytes) -> int:
    """A regular file to read. Nothing else is opened, were it put in the place of one at this moment.

    Opening a FIFO would be noticed on the other side. Raises OSError: FileNotFoundError if it is no regular file,
    BlockingIOError if a process has a lease on it (fcntl(2)), for which the kernel would wait 45 s.
    """
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(handle)


def _names_of_xattrs(fd: int) -> list[str]:
    try:
        return os.listxattr(_path(fd))
    except OSError as e:
        if e.errno == errno.EOPNOTSUPP:
            return []
        raise


def _path(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _duplicate(fd: int) -> int:
    # Not dup(2), whose copies share one position for reading.
    return os.open(".", _DIRECTORY, dir_fd=fd)


def _stat(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as e:
        if e.errno == errno.ENAMETOOLONG:  # a mark for the longest of names cannot be
            return None
        raise


def _open(directory: int, name: bytes) -> int | None:
    try:
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except OSError as e:
        if e.errno in _NO_DIRECTORY:
            return None
        raise


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
