"""mount(2), umount2(2), pivot_root(2), and what is mounted (proc(5), mountinfo)."""

from __future__ import annotations

import os
from typing import NamedTuple

from rdock.linux.libc import SYS_pivot_root, check, libc, syscall

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


def set_propagation(target: str, propagation: int, *, recursive: bool = True) -> None:
    """MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE, for all mounts below as well."""
    mount("", target, "", propagation | (MS_REC if recursive else 0))


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2); with "." for both the old root lies stacked below the new one."""
    syscall(SYS_pivot_root, os.fsencode(new), os.fsencode(old), name=new)


def through(fd: int) -> str:
    """The path that mount(2) needs for a descriptor: what was resolved safely is not resolved again."""
    return f"/proc/self/fd/{fd}"


class MountPoint(NamedTuple):
    """One line of mountinfo."""

    mount_id: int
    root: str
    target: str
    options: str
    fstype: str
    source: str
    super_options: str


def mountinfo(pid: int | str = "self") -> list[MountPoint]:
    """All mounts in the mount namespace of a process."""
    found = []
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            head, tail = left.split(" "), right.rstrip("\n").split(" ")
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
