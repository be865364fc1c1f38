"""mount(2), umount2(2), pivot_root(2), and what is mounted (proc(5), mountinfo)."""

from __future__ import annotations

import errno
import os
import struct

from rdock.linux.libc import SYS_mount_setattr, SYS_move_mount, SYS_open_tree, SYS_pivot_root, check, libc, syscall
from rdock.values import Value

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24

MNT_DETACH = 2

# Of open_tree(2), move_mount(2), mount_setattr(2).
_OPEN_TREE_CLONE = 1
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40
_ATTRIBUTES = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC  # MOUNT_ATTR_* has the same values for these

# What a mount may have been given by a more privileged user namespace; a remount that leaves one of
# these out is refused with EPERM (mount_namespaces(7)).
_STICKY = (
    (os.ST_RDONLY, MS_RDONLY),
    (os.ST_NOSUID, MS_NOSUID),
    (os.ST_NODEV, MS_NODEV),
    (os.ST_NOEXEC, MS_NOEXEC),
    (os.ST_NOATIME, MS_NOATIME),
    (os.ST_NODIRATIME, MS_NODIRATIME),
    (os.ST_RELATIME, MS_RELATIME),
)


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError with the target's name."""
    check(
        libc.mount(
            os.fsencode(source), os.fsencode(target), os.fsencode(fstype) or None, flags, os.fsencode(data) or None
        ),
        target,
    )


def umount(target: str, flags: int = 0) -> None:
    check(libc.umount2(os.fsencode(target), flags), target)


def bind(source: str, target: str, flags: int = 0, *, recursive: bool = True) -> None:
    """Bind-mount; other flags need a `remount_bind` afterwards, the kernel ignores them here."""
    mount(source, target, "", MS_BIND | (MS_REC if recursive else 0) | flags)


def remount_bind(target: str, flags: int) -> None:
    """Add mount flags to the one mount at `target`, keeping those it may not lose."""
    have = os.statvfs(target).f_flag
    kept = sum(flag for there, flag in _STICKY if have & there)
    mount("", target, "", MS_REMOUNT | MS_BIND | kept | flags)


def bind_with(source: int, target: int, flags: int, propagation: int, *, recursive: bool) -> bool:
    """Bind one descriptor's place on another's, with flags and propagation in force from the first moment on.

    `recursive` takes the mounts below along, and gives them the same. False where that cannot be had (the
    kernel is older than Linux 5.12): then bind, and remount whatever lies at the target by then. Raises OSError.
    """
    if flags & ~_ATTRIBUTES:
        return False
    below = _AT_RECURSIVE if recursive else 0
    try:
        how = _OPEN_TREE_CLONE | _AT_EMPTY_PATH | os.O_CLOEXEC | below
        tree = syscall(SYS_open_tree, source, b"", how, name="open_tree")
        try:
            attributes = struct.pack("=QQQQ", flags, 0, propagation & ~MS_REC, 0)
            syscall(SYS_mount_setattr, tree, b"", _AT_EMPTY_PATH | below, attributes, len(attributes))
            how = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
            syscall(SYS_move_mount, tree, b"", target, b"", how, name="move_mount")
        finally:
            os.close(tree)
    except OSError as e:
        if e.errno == errno.ENOSYS:
            return False
        raise
    return True


def detached(place: int) -> int:
    """A copy of the one mount in which a descriptor lies, from there on, that is mounted nowhere; for `move`."""
    how = _OPEN_TREE_CLONE | _AT_EMPTY_PATH | os.O_CLOEXEC
    return syscall(SYS_open_tree, place, b"", how, name="open_tree")


def move(tree: int, target: int, flags: int) -> None:
    """Mount what `detached` has made, once, with further flags."""
    attributes = struct.pack("=QQQQ", flags, 0, MS_PRIVATE, 0)
    syscall(SYS_mount_setattr, tree, b"", _AT_EMPTY_PATH, attributes, len(attributes))
    how = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    syscall(SYS_move_mount, tree, b"", target, b"", how, name="move_mount")


def protect(path: str) -> None:
    """Make a file or directory read-only where it is, for this mount namespace and those copied from it.

    In one that belongs to another user namespace nobody can take that back (mount_namespaces(7)).
    """
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not bind_with(fd, fd, MS_RDONLY, MS_SLAVE, recursive=False):
            bind(path, path, recursive=False)
            remount_bind(path, MS_RDONLY)
    finally:
        os.close(fd)


def set_propagation(target: str, propagation: int, *, recursive: bool = True) -> None:
    """MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE, for all mounts below as well."""
    mount("", target, "", propagation | (MS_REC if recursive else 0))


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2); with "." for both the old root lies stacked below the new one."""
    syscall(SYS_pivot_root, os.fsencode(new), os.fsencode(old), name=new)


def through(fd: int) -> str:
    """The path that mount(2) needs for a descriptor: what was resolved safely is not resolved again."""
    return f"/proc/self/fd/{fd}"


class MountPoint(Value):
    """One line of mountinfo."""

    mount_id: int
    root: str
    target: str
    options: str
    fstype: str
    source: str
    super_options: str


def mountinfo(path: str = "/proc/self/mountinfo") -> list[MountPoint]:
    """All mounts in the mount namespace of a process, in the order in which they cover each other."""
    found = []
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, separator, right = line.partition(" - ")
            head, tail = left.split(" "), right.rstrip("\n").split(" ")
            if not separator or len(head) < 6 or len(tail) < 3:
                continue
            found.append(
                MountPoint(
                    int(head[0]), _unescape(head[3]), _unescape(head[4]), head[5], tail[0], _unescape(tail[1]), tail[2]
                )
            )
    return found


def _unescape(text: str) -> str:
    """Undo the octal escapes of proc(5): blank, tab, newline and backslash."""
    if "\\" not in text:
        return text
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
