"""Seccomp filters: from the `linux.seccomp` object of the OCI runtime spec to a BPF program, and into the kernel.

libseccomp does the translation. It takes tens of milliseconds, so the caller keeps the
program under `cache_key` and the library is not needed for a start. What a profile should allow is
decided elsewhere. Two things are fixed here for every profile: the x32 calls of x86_64, which every
process could make by setting one bit, are always refused, and so is an architecture that the profile
does not name; both with ENOSYS, as a kernel without them would.
"""

from __future__ import annotations

import errno
import os
import struct

# The one in hashlib is the same, but comes with OpenSSL, whose load takes 4 ms of a start.
from _blake2 import blake2b

from rdock.linux.foreign import (
    POINTER,
    Library,
    Structure,
    addressof,
    c_char_p,
    c_int,
    c_uint,
    c_uint32,
    c_uint64,
    c_void_p,
    create_string_buffer,
)
from rdock.linux.libc import SYS_seccomp, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any

LIBRARY = "libseccomp.so.2"

# linux/seccomp.h
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_GET_ACTION_AVAIL = 2
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}
BPF_MAXINSNS = 4096
INSTRUCTION = 8  # struct sock_filter

ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_TAKES_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
OPERATORS = {
    name: number
    for number, name in enumerate(
        (
            "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
            "SCMP_CMP_MASKED_EQ",
        ),
        start=1,
    )
}  # fmt: skip

# enum scmp_filter_attr
_ATTR_ACT_BADARCH = 2
_ATTR_CTL_OPTIMIZE = 8
_UNKNOWN_SYSCALL = -1  # __NR_SCMP_ERROR

# Raised when compile_profile makes something else of the same profile.
_REVISION = 1

_loaded: Library | None = None


class _Compare(Structure):
    """struct scmp_arg_cmp"""

    _fields_ = [
        ("arg", c_uint),
        ("op", c_int),
        ("datum_a", c_uint64),
        ("datum_b", c_uint64),
    ]


class _Version(Structure):
    _fields_ = [("major", c_uint), ("minor", c_uint), ("micro", c_uint)]


# -- the kernel ----------------------------------------------------------------------------------


def available() -> bool:
    """Whether the kernel takes filters that answer with an errno."""
    try:
        syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, struct.pack("I", ACTIONS["SCMP_ACT_ERRNO"]))
    except OSError:
        return False
    return True


def flag_bits(names: Collection[str]) -> int:
    """The bits of the OCI names of filter flags. Raises ValueError for one that is unknown."""
    for name in names:
        if name not in FLAGS:
            raise ValueError(f"unknown seccomp flag: {name}")
    return sum(FLAGS[name] for name in set(names))


def install(program: bytes, flags: int = FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]) -> None:
    """Put a compiled filter on the calling thread, for good; its children and what they execute inherit it.

    SPEC_ALLOW is what Linux 5.16 made the default: a filter no longer slows the whole process down with
    the mitigation of speculative store bypass. `flag_bits` makes other flags of a profile.

    Needs no_new_privs or CAP_SYS_ADMIN in the user namespace (seccomp(2)), else PermissionError. From
    here on the caller itself has only the calls that the filter allows.
    """
    count = len(program) // INSTRUCTION
    code = create_string_buffer(program, len(program))
    # struct sock_fprog: a 16-bit length, padding, a pointer.
    fprog = struct.pack("@HP", count, addressof(code))
    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, fprog, name="seccomp")


# -- the library ---------------------------------------------------------------------------------


def library_version() -> str:
    """The version of libseccomp, `2.5.4`. Raises FileNotFoundError with the library's name if there is none."""
    version = _library().seccomp_version().contents
    return f"{version.major}.{version.minor}.{version.micro}"


def cache_key(profile: Mapping[str, Any]) -> str:
    """A name for the program of this profile on this machine, fit for a file name.

    The library's version counts, because a newer one knows more names of system calls.
    """
    # A profile is made in one order always; repr tells values of different types apart.
    text = repr([_REVISION, library_version(), os.uname().machine, profile])
    return str(blake2b(text.encode(), digest_size=16).hexdigest())


def compile_profile(profile: Mapping[str, Any]) -> bytes:
    """The BPF program (struct sock_filter, one after the other) of an OCI seccomp object.

    Names of system calls that the library does not know are left out, so that the default action
    applies to them. Raises ValueError if the profile is not well formed, OSError if the library is
    missing or refuses, with the system call's name as the filename.
    """
    library = _library()
    default = _action(profile, "defaultAction", "defaultErrnoRet")
    context = library.seccomp_init(default)
    if not context:
        raise OSError(errno.EINVAL, "cannot make a seccomp filter with this default action", "seccomp_init")
    try:
        # x86_64's filter sends x32 calls this way too: they carry the same architecture token.
        refused = ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS
        _check(library.seccomp_attr_set(context, _ATTR_ACT_BADARCH, refused), "seccomp_attr_set")
        # A binary tree instead of a chain; versions before 2.5 have only the chain.
        library.seccomp_attr_set(context, _ATTR_CTL_OPTIMIZE, 2)
        _add_architectures(library, context, _list(profile, "architectures", str))
        for rule in _list(profile, "syscalls", dict):
            action = _action(rule, "action", "errnoRet")
            # libseccomp refuses a rule that says the same as the default (EACCES).
            if action != default:
                _add_rule(library, context, action, rule)
        return _export(library, context)
    finally:
        library.seccomp_release(context)


def _library() -> Library:
    global _loaded
    if _loaded is None:
        try:
            library = Library(LIBRARY)
        except OSError as e:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), LIBRARY) from e
        library.seccomp_init.restype = c_void_p
        library.seccomp_init.argtypes = [c_uint32]
        library.seccomp_release.argtypes = [c_void_p]
        library.seccomp_release.restype = None
        library.seccomp_attr_set.argtypes = [c_void_p, c_int, c_uint32]
        library.seccomp_arch_add.argtypes = [c_void_p, c_uint32]
        library.seccomp_arch_resolve_name.argtypes = [c_char_p]
        library.seccomp_arch_resolve_name.restype = c_uint32
        library.seccomp_syscall_resolve_name.argtypes = [c_char_p]
        library.seccomp_rule_add_array.argtypes = [
            c_void_p, c_uint32, c_int, c_uint, c_void_p,
        ]  # fmt: skip
        library.seccomp_export_bpf.argtypes = [c_void_p, c_int]
        library.seccomp_version.restype = POINTER(_Version)
        _loaded = library
    return _loaded


def _check(result: int, name: str) -> None:
    # libseccomp returns the negative errno and leaves errno itself alone.
    if result < 0:
        raise OSError(-result, os.strerror(-result), name)


def _add_architectures(library: Library, context: int, names: Sequence[str]) -> None:
    """The native one is there from the start."""
    for name in names:
        if name == "SCMP_ARCH_X32":
            continue
        token = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
        if not token:
            raise ValueError(f"unknown architecture: {name}")
        result = library.seccomp_arch_add(context, token)
        if result != -errno.EEXIST:
            _check(result, name)


def _add_rule(library: Library, context: int, action: int, rule: Mapping[str, Any]) -> None:
    compares = [_compare(argument) for argument in _list(rule, "args", dict)]
    # One rule cannot look at an argument twice. Where a profile does, each comparison is a rule of its
    # own, any of which suffices, as in runc.
    indexes = [c.arg for c in compares]
    together = [compares] if len(set(indexes)) == len(indexes) else [[c] for c in compares]
    for name in _list(rule, "names", str):
        number = library.seccomp_syscall_resolve_name(name.encode("ascii", "replace"))
        if number == _UNKNOWN_SYSCALL:
            continue
        for group in together:
            array = (_Compare * len(group))(*group)
            _check(library.seccomp_rule_add_array(context, action, number, len(group), array), name)


def _export(library: Library, context: int) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        _check(library.seccomp_export_bpf(context, fd), "seccomp_export_bpf")
        size = os.fstat(fd).st_size
        if size > BPF_MAXINSNS * INSTRUCTION:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG), "seccomp_export_bpf")
        return os.pread(fd, size, 0)
    finally:
        os.close(fd)


# -- reading a profile, which a user may have written --------------------------------------------


def _action(where: Mapping[str, Any], key: str, errno_key: str) -> int:
    name = where.get(key)
    if not isinstance(name, str) or name not in ACTIONS:
        raise ValueError(f"{key}: not a seccomp action that is supported: {name!r}")
    number = where.get(errno_key)
    if number is None:
        number = errno.EPERM
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 4096:
        raise ValueError(f"{errno_key}: not an error number: {number!r}")
    return ACTIONS[name] | (number if name in _TAKES_ERRNO else 0)


def _compare(argument: Mapping[str, Any]) -> _Compare:
    operator = argument.get("op")
    if operator not in OPERATORS:
        raise ValueError(f"op: not a comparison: {operator!r}")
    index = _number(argument, "index", 5)
    value = _number(argument, "value", 2**64 - 1)
    # For MASKED_EQ libseccomp wants the mask first, and so has OCI: `value` is the mask.
    return _Compare(index, OPERATORS[operator], value, _number(argument, "valueTwo", 2**64 - 1))


def _number(where: Mapping[str, Any], key: str, highest: int) -> int:
    value = where.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= highest:
        raise ValueError(f"{key}: not a number from 0 to {highest}: {value!r}")
    return value


def _list(where: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    found = where.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, kind) for item in found):
        raise ValueError(f"{key}: not a list of {'strings' if kind is str else 'objects'}")
    return found
