"""Capabilities of this process: names, sets, and the two steps that give them up around setuid.

Sets are integers, bit n for capability number n (capabilities(7)); names are the kernel's, with the
CAP_ prefix, as in the OCI runtime spec. Which of them a container gets is decided elsewhere. The
caller is the process that will execute the container's program, after its namespaces are made.
"""

from __future__ import annotations

import errno
import struct

from rdock.linux.foreign import c_int, c_ulong, create_string_buffer
from rdock.linux.libc import SYS_capget, SYS_capset, check, libc, syscall
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# In the order of their numbers (include/uapi/linux/capability.h).
_BARE = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
NAMES = tuple("CAP_" + name for name in _BARE)
KNOWN = {name: number for number, name in enumerate(NAMES)}

PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_IS_SET = 1
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

# capget(2): version 3, two 32-bit words a set, for the calling thread (pid 0).
_HEADER = struct.pack("Ii", 0x20080522, 0)
_DATA = struct.Struct("6I")

_last_cap = -1


class Sets(Value):
    """The five sets of a process, each as a mask."""

    effective: int = 0
    permitted: int = 0
    inheritable: int = 0
    bounding: int = 0
    ambient: int = 0


# -- names and numbers ---------------------------------------------------------------------------


def last_cap() -> int:
    """The highest capability number of the running kernel, what /proc/sys/kernel/cap_last_cap holds.

    The bounding set answers EINVAL past the last one, so this works before /proc is mounted.
    """
    global _last_cap
    while _last_cap < 63:
        try:
            _prctl(PR_CAPBSET_READ, _last_cap + 1)
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
            break
        _last_cap += 1
    return _last_cap


def parse(text: str) -> str:
    """The kernel's name for a user's spelling: `net_admin` → `CAP_NET_ADMIN`; `all` → `ALL`.

    Raises ValueError for a name that no kernel has, with the name as it was looked up.
    """
    name = text.upper()
    if name == "ALL":
        return name
    if not name.startswith("CAP_"):
        name = "CAP_" + name
    if name not in KNOWN:
        raise ValueError(name)
    return name


def supported() -> list[str]:
    """The names that the running kernel knows; a newer kernel's additions have no name here and are left out."""
    return list(NAMES[: last_cap() + 1])


def mask(names: Iterable[str]) -> int:
    """The set of these names, in the kernel's spelling. Raises KeyError for one that is unknown."""
    result = 0
    for name in names:
        result |= 1 << KNOWN[name]
    return result


def names(mask: int) -> list[str]:
    """The names in a set, by number."""
    return [name for number, name in enumerate(NAMES) if mask >> number & 1]


# -- the sets of this process --------------------------------------------------------------------


def current() -> Sets:
    """The sets of the calling thread."""
    data = create_string_buffer(_DATA.size)
    syscall(SYS_capget, create_string_buffer(_HEADER), data, name="capget")
    low_e, low_p, low_i, high_e, high_p, high_i = _DATA.unpack(data.raw)
    bounding = ambient = 0
    for number in range(last_cap() + 1):
        bounding |= _prctl(PR_CAPBSET_READ, number) << number
        ambient |= _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, number) << number
    return Sets(low_e | high_e << 32, low_p | high_p << 32, low_i | high_i << 32, bounding, ambient)


def limit(bounding: int) -> None:
    """First step, before setuid: drop everything else from the bounding set, and keep the rest past setuid.

    Dropping needs CAP_SETPCAP, which setuid to another user takes away; the bounding set itself only
    matters at execve, so whatever the runtime still has to do is not hindered. Numbers for which this
    module has no name are dropped too.
    """
    for number in range(last_cap() + 1):
        if not bounding >> number & 1 and _prctl(PR_CAPBSET_READ, number):
            _prctl(PR_CAPBSET_DROP, number)
    # Without it, setuid away from 0 empties the permitted set and nothing is left to give to the user.
    _prctl(PR_SET_KEEPCAPS, 1)


def settle(*, effective: int, permitted: int, inheritable: int = 0, ambient: int = 0) -> None:
    """Second step, after setgroups, setresgid and setresuid: the final sets, from which there is no way back.

    Ambient capabilities must be permitted and inheritable (EPERM if not). What the kernel does at
    execve is the rest of the story: root gets the whole bounding set, other users the ambient set.
    """
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    low = [value & 0xFFFFFFFF for value in (effective, permitted, inheritable)]
    high = [value >> 32 for value in (effective, permitted, inheritable)]
    syscall(SYS_capset, _HEADER, _DATA.pack(*low, *high), name="capset")
    for number in range(last_cap() + 1):
        if ambient >> number & 1:
            _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)
    _prctl(PR_SET_KEEPCAPS, 0)


def apply(sets: Sets) -> None:
    """Both steps at once, where the user id stays as it is."""
    limit(sets.bounding)
    settle(effective=sets.effective, permitted=sets.permitted, inheritable=sets.inheritable, ambient=sets.ambient)


def set_no_new_privileges() -> None:
    """From now on no execve gives more than the process has: no setuid bits, no file capabilities."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def has_no_new_privileges() -> bool:
    return bool(_prctl(PR_GET_NO_NEW_PRIVS))


def _prctl(option: int, *arguments: int) -> int:
    # prctl is variadic and several options insist that unused arguments are 0, so all five are passed as longs.
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return check(libc.prctl(c_int(option), *[c_ulong(a) for a in padded]), "prctl")
