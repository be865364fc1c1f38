"""What a process sets of itself beyond what Python's os knows: prctl(2), its command line, its keyring."""

from __future__ import annotations

from rdock.linux.foreign import c_ulong, c_void_p
from rdock.linux.libc import SYS_keyctl, check, libc, syscall

PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36


def prctl(option: int, value: int | bytes = 0) -> None:
    argument = value if isinstance(value, bytes) else c_ulong(value)
    zero = c_ulong(0)
    check(libc.prctl(option, argument, zero, zero, zero), "prctl")


def set_dumpable(dumpable: bool) -> None:
    """Whether others of the same uid may trace this process and open its /proc links.

    Off while rdock's own code runs inside a container's pid namespace: /proc/PID/exe and fd would
    lead out of it (CVE-2019-5736). execve turns it on again.
    """
    prctl(PR_SET_DUMPABLE, int(dumpable))


def set_arguments(text: str = "") -> None:
    """Replace the command line that ps shows for this process, by nothing or by as much as has room.

    Unlike the environment anybody may read it, so what it was is not to stay.
    """
    with open("/proc/self/stat", "rb", buffering=0) as file:
        fields = file.read(1024).rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if 0 < start < end:
        content = text.encode()[: end - start - 1].ljust(end - start, b"\0")
        libc.memmove(c_void_p(start), content, c_ulong(end - start))


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends (a subreaper)."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def leave_session_keyring() -> None:
    """Have an empty session keyring of one's own instead of the caller's (session-keyring(7)).

    Raises OSError: ENOSYS in a kernel without keys, EDQUOT when the user has too many.
    """
    join_session_keyring = 1
    syscall(SYS_keyctl, join_session_keyring, 0, name="keyctl")
