"""Namespaces: their kinds, and how a process makes or enters them, or is born in them (namespaces(7))."""

from __future__ import annotations

import os

from rdock.linux import signals
from rdock.linux.foreign import c_long
from rdock.linux.libc import SYS_clone, check, fail, libc, locked_libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# The kinds by their OCI names, in the order in which they must be entered: the user namespace first,
# because it grants the capabilities for the others, the mount namespace last, because it takes away
# the /proc through which the others are found.
FLAGS = {
    "user": CLONE_NEWUSER,
    "cgroup": CLONE_NEWCGROUP,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "network": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "mount": CLONE_NEWNS,
}
_FILES = {"network": "net", "mount": "mnt"}


_clone = locked_libc.syscall
_clone.restype = c_long


def clone(flags: int) -> int:
    """fork(2) into new namespaces: 0 in the child, its pid in the parent.

    One clone(2) with CLONE_NEWUSER and others gives the others to the new user namespace. The
    interpreter is told as os.fork tells it; the caller must have one thread only.
    """
    locked_libc.PyOS_BeforeFork()
    pid = int(_clone(c_long(SYS_clone), c_long(flags | signals.SIGCHLD), None, None, None, None))
    if pid == 0:
        locked_libc.PyOS_AfterFork_Child()
        return 0
    error = fail("clone") if pid < 0 else None
    locked_libc.PyOS_AfterFork_Parent()
    if error:
        raise error
    return pid


def unshare(flags: int) -> None:
    """unshare(2). With CLONE_NEWUSER the process must have one thread only."""
    check(libc.unshare(flags), "unshare")


def setns(fd: int, flags: int = 0) -> None:
    """setns(2): enter the namespace that `fd` refers to."""
    check(libc.setns(fd, flags), "setns")


def set_domain_name(name: str) -> None:
    """setdomainname(2), for the UTS namespace that the caller is in."""
    encoded = name.encode()
    check(libc.setdomainname(encoded, len(encoded)), "setdomainname")


def file_of(kind: str, pid: int | str = "self") -> str:
    """The /proc file of a process's namespace, by its OCI name."""
    return f"/proc/{pid}/ns/{_FILES.get(kind, kind)}"


def same(kind: str, pid: int) -> bool:
    """Whether a process is in our own namespace of this kind."""
    ours, theirs = os.stat(file_of(kind)), os.stat(file_of(kind, pid))
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def open_all(pid: int, kinds: Iterable[str]) -> dict[str, int]:
    """Descriptors of a process's namespaces, those left out that are already ours.

    Entering one's own user namespace is refused by the kernel, hence the comparison.
    """
    return {
        kind: os.open(file_of(kind, pid), os.O_RDONLY | os.O_CLOEXEC)
        for kind in FLAGS
        if kind in kinds and not same(kind, pid)
    }


def enter(fds: dict[str, int]) -> None:
    """Enter namespaces opened by `open_all`, in the right order, and close them.

    A pid namespace is entered by the children of the caller only. Entering a mount namespace moves
    the current directory to its root.
    """
    for kind, flag in FLAGS.items():
        if kind in fds:
            setns(fds[kind], flag)
    for fd in fds.values():
        os.close(fd)
