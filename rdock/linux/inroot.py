"""Paths inside a root that may be hostile: resolved by the kernel, never leaving it.

openat2(2) with RESOLVE_IN_ROOT treats a directory as the root for absolute paths, `..` and every
symbolic link on the way, without a race. Container content is only ever reached through here, on
directory file descriptors; a joined path string would be resolved by the host.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock.linux.foreign import Structure, byref, c_uint64, sizeof
from rdock.linux.libc import SYS_openat2, syscall

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10

O_PATH = os.O_PATH | os.O_CLOEXEC


class _OpenHow(Structure):
    _fields_ = [("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64)]


def open_in_root(root: int, path: str | bytes, flags: int = O_PATH, mode: int = 0, resolve: int = 0) -> int:
    """Open `path` as a process with `root` (a directory fd) as its root directory would see it.

    Symbolic links are followed inside the root, links of /proc that lead elsewhere never are. `resolve`
    adds RESOLVE_* flags. Returns a descriptor, closed on exec. Raises OSError; ENOSYS below Linux 5.6.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve)
    raw = os.fsencode(path) or b"."
    while True:
        try:
            return syscall(SYS_openat2, root, raw, byref(how), sizeof(how), name=os.fsdecode(path))
        except OSError as e:
            # EAGAIN: something on the way was renamed at that moment, so the kernel could not be sure.
            if e.errno != errno.EAGAIN:
                raise


def read_small_file(root: int, path: str, limit: int = 1 << 20) -> bytes | None:
    """The content of a regular file in the root, such as /etc/passwd; None if there is none.

    A FIFO, a device, a file of the kernel's, or one above `limit` bytes is as good as none: whoever made
    the image may want the reader to block or to run out of memory (CVE-2024-9676).
    """
    try:
        fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode) or os.fstat(fd).st_size > limit:
            return None
        return os.read(fd, limit)
    except OSError:
        return None  # /proc/kmsg, say, is a regular file to fstat(2)
    finally:
        os.close(fd)


def make_directory(root: int, path: str, mode: int = 0o755) -> int:
    """Make a directory and its parents inside the root; the O_PATH descriptor of it.

    What exists is kept. Symbolic links are followed inside the root, also those that lead to nothing yet.
    Raises OSError if there is something that is not a directory.
    """
    try:
        return open_in_root(root, path, O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        path = destination(root, path)
    parent, name = os.path.split(path)
    if not name:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)  # the root itself is gone
    above = make_directory(root, parent, mode)
    try:
        try:
            os.mkdir(name, mode, dir_fd=above)
        except FileExistsError:
            pass
        return open_in_root(root, path, O_PATH | os.O_DIRECTORY)
    finally:
        os.close(above)


def make_file(root: int, path: str, mode: int = 0o644) -> int:
    """Make an empty regular file, with parents, if nothing is there; the O_PATH descriptor of what is there.

    Symbolic links are followed as by `make_directory`.
    """
    try:
        return open_in_root(root, path, O_PATH)
    except FileNotFoundError:
        path = destination(root, path)
    parent, name = os.path.split(path)
    above = make_directory(root, parent)
    try:
        try:
            os.close(
                os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=above)
            )
        except FileExistsError:
            pass
        return open_in_root(root, path, O_PATH)
    finally:
        os.close(above)


def destination(root: int, path: str) -> str:
    """Where a path leads inside the root, whether or not anything is there yet: absolute, without links.

    For what is about to be made; whoever uses the answer resolves it anew below `root`, since it may be
    out of date. Raises OSError (ELOOP) for a circle of links.
    """
    left = path.split("/")
    found: list[str] = []
    links = 0
    while left:
        name = left.pop(0)
        if name == "..":
            found = found[:-1]
        if name in ("", ".", ".."):
            continue
        here = "/".join((*found, name))
        try:
            target = _link(root, here)
        except FileNotFoundError:
            target = None
        if target is None:
            found.append(name)
            continue
        links += 1
        if links > 40:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        found = [] if target.startswith("/") else found
        left = target.split("/") + left
    return "/" + "/".join(found)


def _link(root: int, path: str) -> str | None:
    """The text of a symbolic link, None if it is something else. `path` has no other links in it."""
    fd = open_in_root(root, path, O_PATH | os.O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS)
    try:
        return os.readlink("", dir_fd=fd) if stat.S_ISLNK(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)
