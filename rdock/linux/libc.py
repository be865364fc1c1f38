"""The C library and the system calls it does not wrap; every failure is an OSError.

Nothing of rdock is used here but linux/ itself, which knows the kernel and no container.
os.unshare and os.setns come with Python 3.12; until that is the minimum, foreign.py serves.
"""

from __future__ import annotations

import os

from rdock.linux.foreign import Library, c_long, get_errno

libc = Library(None)
locked_libc = Library(None, locked=True)

# These numbers are from the table that all architectures share (asm-generic/unistd.h); x86_64 has
# its own for calls older than 424.
SYS_openat2 = 437
SYS_close_range = 436
SYS_open_tree = 428
SYS_move_mount = 429
SYS_mount_setattr = 442
SYS_pidfd_send_signal = 424
SYS_clone, SYS_seccomp, SYS_pivot_root, SYS_capset, SYS_capget, SYS_keyctl, SYS_renameat2 = {
    "x86_64": (56, 317, 155, 126, 125, 250, 316),
    "aarch64": (220, 277, 41, 91, 90, 219, 276),
    "riscv64": (220, 277, 41, 91, 90, 219, 276),
}.get(os.uname().machine, (220, 277, 41, 91, 90, 219, 276))


def fail(name: str | None = None) -> OSError:
    """The OSError for the errno that the last foreign call left."""
    number = get_errno()
    return OSError(number, os.strerror(number), name)


def check(result: int, name: str | None = None) -> int:
    """Pass a result on, or raise the OSError with errno, its text and the name that was tried."""
    if result < 0:
        raise fail(name)
    return result


def syscall(number: int, *arguments: object, name: str | None = None) -> int:
    """A raw system call. Pass pointers as bytes or objects of foreign.py, integers as int."""
    converted = [c_long(a) if isinstance(a, int) else a for a in arguments]
    return check(_syscall(c_long(number), *converted), name)


_syscall = libc.syscall
_syscall.restype = c_long
