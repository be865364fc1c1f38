"""The default profile as a program: interpreted for calls that this machine's kernel cannot show.

And what compile_profile says to profiles that users write.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from rdock.container import seccomp_default
from rdock.container.capability_sets import DEFAULT
from rdock.linux import capabilities, seccomp

AUDIT_ARCH = {"64": 0xC000003E, "x32": 0xC000003E, "32": 0x40000003, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000

ALLOW = 0x7FFF0000


def answer(program: bytes, abi: str, number: int, *arguments: int) -> int:
    """What a filter answers to a call: an errno, or 0 if it is allowed. Classic BPF as in seccomp(2)."""
    if abi == "x32":
        number |= X32_BIT
    values = [a & 0xFFFFFFFFFFFFFFFF for a in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("<IIQ6Q", number, AUDIT_ARCH[abi], 0, *values)
    code = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        operation, if_true, if_false, k = code[at]
        at += 1
        if operation == 0x20:  # ld [k]
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif operation == 0x54:  # and #k
            accumulator &= k
        elif operation == 0x05:  # ja k
            at += k
        elif operation in (0x15, 0x25, 0x35):  # jeq, jgt, jge #k
            taken = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}[operation]
            at += if_true if taken else if_false
        elif operation == 0x06:  # ret #k
            assert k == ALLOW or k >> 16 == 5, hex(k)
            return 0 if k == ALLOW else k & 0xFFFF
        else:
            raise AssertionError(f"unexpected instruction {operation:#x}")


def compile_or_skip(profile: dict[str, Any]) -> bytes:
    try:
        return seccomp.compile_profile(profile)
    except FileNotFoundError:
        pytest.skip("libseccomp is not installed")


@pytest.fixture(scope="module")
def program() -> bytes:
    profile = seccomp_default.profile(DEFAULT)
    if profile["architectures"] != ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]:
        pytest.skip("numbers of system calls are written for x86_64")
    return compile_or_skip(profile)


# -- the table -----------------------------------------------------------------------------------


def names_by_action(profile: dict[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for rule in profile["syscalls"]:
        if "args" not in rule:
            found.setdefault(rule["action"], set()).update(rule["names"])
    return found


def test_no_name_is_in_the_table_twice() -> None:
    every = [name for rule in seccomp_default.profile([])["syscalls"] if "args" not in rule for name in rule["names"]]
    assert sorted(every) == sorted(set(every))


def test_capabilities_only_move_names_from_refused_to_allowed() -> None:
    none = names_by_action(seccomp_default.profile([]))
    every = names_by_action(seccomp_default.profile(capabilities.NAMES))
    moved = none["SCMP_ACT_ERRNO"] - every["SCMP_ACT_ERRNO"]
    assert every["SCMP_ACT_ALLOW"] - none["SCMP_ACT_ALLOW"] == moved | {"clone", "clone3"}
    assert {"mount", "bpf", "perf_event_open", "chroot", "open_by_handle_at", "reboot", "init_module"} <= moved
    assert {"keyctl", "userfaultfd", "kexec_load"} <= every["SCMP_ACT_ERRNO"]


@pytest.mark.parametrize("capability", capabilities.NAMES)
def test_each_capability_compiles(capability: str) -> None:
    assert compile_or_skip(seccomp_default.profile([capability]))


def test_size(program: bytes) -> None:
    assert len(program) // seccomp.INSTRUCTION < 1500


# -- the program ---------------------------------------------------------------------------------


def test_x32_is_refused_whatever_the_number(program: bytes) -> None:
    for number in (*range(600), 9999, X32_BIT - 1):
        assert answer(program, "x32", number) == errno.ENOSYS


def test_other_architectures_are_refused(program: bytes) -> None:
    for number in range(500):
        assert answer(program, "aarch64", number) == errno.ENOSYS


@pytest.mark.parametrize("upper", [0, 1 << 32, 0xFFFFFFFF << 32])
def test_families(program: bytes, upper: int) -> None:
    for family in (*range(300), 0xFFFF, 0x7FFFFFFF, 0x80000002, 0xFFFFFFFF):
        expected = 0 if family in (0, 1, 2, 10, 16, 17) else errno.EAFNOSUPPORT
        assert answer(program, "64", 41, upper | family, 1) == expected
        assert answer(program, "32", 359, family, 1) == expected
        assert (answer(program, "64", 53, upper | family, 1) == 0) == (family == 1)
    for operation in range(25):
        assert answer(program, "32", 102, operation) == errno.EPERM


@pytest.mark.parametrize("upper", [0, 1 << 32, 0xFFFFFFFF << 32])
def test_terminal_injection(program: bytes, upper: int) -> None:
    for command in (*range(0x5300, 0x5600), 0, 1, 0x80045430, 0xFFFFFFFF, 0x15412, 0x80005412):
        expected = errno.EPERM if command in (0x5412, 0x541C) else 0
        assert answer(program, "64", 16, 0, upper | command) == expected
        assert answer(program, "32", 54, 0, command) == expected


def test_clone_flags(program: bytes) -> None:
    namespaces = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
    thread = 0x003D0F00  # what pthread_create asks for
    assert answer(program, "64", 56, thread) == answer(program, "32", 120, thread) == 0
    for mask in range(1, 128):
        flags = sum(flag for bit, flag in enumerate(namespaces) if mask >> bit & 1)
        for others in (0, 17, thread, 1 << 32, 0x80000000):
            assert answer(program, "64", 56, flags | others) == errno.EPERM
            assert answer(program, "32", 120, (flags | others) & 0xFFFFFFFF) == errno.EPERM


def test_personality(program: bytes) -> None:
    for bit in range(32):
        value = 1 << bit
        assert (answer(program, "64", 135, value) == 0) == (value in (0x8, 0x20000))
    assert answer(program, "64", 135, 0xFFFFFFFFFFFFFFFF) == 0
    assert answer(program, "64", 135, 0x100040000) == errno.ENOSYS


@pytest.mark.parametrize("values", [[0], [0xFFFFFFFF], [1, 2], [0x5412, 0x541C, 0x80000000], list(range(16)), []])
def test_all_but_covers_each_other_value_once(values: list[int]) -> None:
    masks = seccomp_default._all_but(1, values)
    neighbours = {(v + d) & 0xFFFFFFFF for v in [*values, 0, 0x7FFFFFFF, 0xDEADBEEF] for d in range(-20, 21)}
    for value in neighbours | {value ^ 1 << bit for value in values for bit in range(32)} | set(values):
        hits = sum(value & m["value"] == m["valueTwo"] for m in masks)
        assert hits == (0 if value in values else 1) or not values


# -- profiles of users ---------------------------------------------------------------------------


def test_key_depends_on_the_content_alone() -> None:
    one = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}
    try:
        key = seccomp.cache_key(one)
    except FileNotFoundError:
        pytest.skip("libseccomp is not installed")
    assert key == seccomp.cache_key({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []})
    assert key != seccomp.cache_key({"defaultAction": "SCMP_ACT_LOG", "syscalls": []})
    assert key.isalnum()


def test_a_small_profile() -> None:
    program = compile_or_skip(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
            "flags": [],
            "syscalls": [
                {"names": ["getpid", "no_such_call"], "action": "SCMP_ACT_ERRNO"},
                {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7,
                 "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"},
                          {"index": 1, "value": 15, "op": "SCMP_CMP_EQ"}]},
                {"names": ["getuid"], "action": "SCMP_ACT_ALLOW"},
            ],
        }
    )  # fmt: skip
    assert answer(program, "64", 39) == errno.EPERM
    assert answer(program, "64", 102) == 0
    # Two comparisons of one argument: either suffices.
    assert [answer(program, "64", 62, 1, signal) for signal in (9, 15, 1)] == [7, 7, 0]
    assert answer(program, "x32", 102) == answer(program, "32", 24) == errno.ENOSYS


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"defaultAction": "ALLOW"},
        {"defaultAction": 1},
        {"defaultAction": "SCMP_ACT_NOTIFY"},
        {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096},
        {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": -1},
        {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": True},
        {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": "1"},
        {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_Z80"]},
        {"defaultAction": "SCMP_ACT_ALLOW", "architectures": "SCMP_ARCH_X86"},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": ["getpid"]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getpid"]}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": "getpid", "action": "SCMP_ACT_KILL"}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [1], "action": "SCMP_ACT_KILL"}]},
        *(
            {"defaultAction": "SCMP_ACT_ALLOW",
             "syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_KILL", "args": [argument]}]}
            for argument in ({"index": 6, "op": "SCMP_CMP_EQ"}, {"index": 0, "op": "=="}, {"index": 0},
                             {"index": 0, "op": "SCMP_CMP_EQ", "value": -1},
                             {"index": 0, "op": "SCMP_CMP_EQ", "value": 2**64},
                             {"index": 0, "op": "SCMP_CMP_EQ", "value": 1.5})
        ),
    ],
)  # fmt: skip
def test_malformed_profiles_are_refused(profile: dict[str, Any]) -> None:
    try:
        with pytest.raises(ValueError, match=":"):
            seccomp.compile_profile(profile)
    except FileNotFoundError:
        pytest.skip("libseccomp is not installed")


def test_odd_names_are_unknown_names() -> None:
    names = ["", "öffnen", "a" * 10000, "get\0pid", "-1"]
    program = compile_or_skip(
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": names, "action": "SCMP_ACT_KILL"}]}
    )
    assert len(program) // seccomp.INSTRUCTION < 12


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_loaded", None)
    monkeypatch.setattr(seccomp, "LIBRARY", "libnone.so.9")
    with pytest.raises(FileNotFoundError) as caught:
        seccomp.library_version()
    assert caught.value.filename == "libnone.so.9"


def test_flags() -> None:
    assert seccomp.flag_bits(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]) == 5
    assert seccomp.flag_bits([]) == 0
    with pytest.raises(ValueError, match="unknown seccomp flag: X"):
        seccomp.flag_bits(["X"])


def test_kernel_has_filters() -> None:
    assert seccomp.available()
