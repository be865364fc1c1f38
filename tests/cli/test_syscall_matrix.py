"""The default filter where it counts: system calls made in containers, by run and exec, on both runtimes.

The table is that of tests/kernel/test_seccomp.py, which holds the filter against the kernel's own answers. One
container makes all of the calls, each by a process of its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence

import pytest

from tests.kernel.test_seccomp import ALLOWED, REFUSED, X32, Call
from tests.payload.roots import Store, compiled, program
from tests.program import Rdock

FLAGS = ["-nostdlib", "-static", "-no-pie", "-fno-stack-protector", "-mno-red-zone", "-fcf-protection=none"]
FAMILIES = [family for family in range(64) if family not in (0, 1, 2, 10, 16, 17)]
# One line for each argument: what the payload printed, or how it ended.
SCRIPT = 'for call; do shown=$(/syscalls "$call") || shown=ended-$?; echo "$call ${shown:-0}"; done'


@pytest.fixture(scope="module")
def image(shared_rdock: Rdock) -> Iterator[str]:
    if os.uname().machine != "x86_64":
        pytest.skip("the payload is written for x86_64")
    store = Store(shared_rdock, "syscalls")
    store.load({"calls": [program(b"syscalls", compiled("syscalls.c", *FLAGS))]})
    yield store.name("calls")
    store.remove()


def seen(text: str) -> dict[str, str]:
    return dict(line.rsplit(" ", 1) for line in text.splitlines())


def texts(calls: Sequence[Call]) -> list[str]:
    return list(dict.fromkeys(call.text for call in calls))


def wrong(shown: dict[str, str], calls: Sequence[Call]) -> list[str]:
    return [f"{c.what} ({c.text}): {shown.get(c.text)}" for c in calls if shown.get(c.text) != str(c.filtered)]


SOCKETS = [
    Call(f"family {family}", f"{abi}:{number}:{family},{kind},0", errno.EAFNOSUPPORT)
    for family in FAMILIES
    for abi, number in (("64", 41), ("32", 359))
    for kind in (1, 2, 3)
]
CALLS = [*REFUSED, *ALLOWED, *(Call("x32", f"x32:{call}", errno.ENOSYS) for call in X32)]


@pytest.mark.parametrize(
    "options", [[], ["--security-opt", "no-new-privileges"], ["-u", "1000"]], ids=["", "nnp", "user"]
)
def test_default_filter(rdock: Rdock, runtime: str, image: str, options: list[str]) -> None:
    """As another user, and without new privileges, the filter is loaded at another moment."""
    container = rdock.ok("run", "-d", "--network", "none", *options, image, "sleep", "600")
    command = ["sh", "-c", SCRIPT, "sh", *texts(CALLS)]
    in_run = seen(rdock.ok("run", "--rm", "--network", "none", *options, image, *command))
    in_exec = seen(rdock.ok("exec", container, *command))
    rdock.ok("rm", "-f", container)
    if runtime == "crun":
        # it leaves x32 to libseccomp, which kills who makes such a call: as dead as with ENOSYS
        in_run |= {text: str(errno.ENOSYS) for text, shown in in_run.items() if shown == "ended-159" and text[0] == "x"}
    assert wrong(in_run, CALLS) == []
    assert wrong(in_exec, CALLS) == []


def test_every_family_but_six(rdock: Rdock, runtime: str, image: str) -> None:
    argument = [call.text for call in SOCKETS]
    container = rdock.ok("run", "-d", "--network", "none", image, "sleep", "600")
    for command in (["run", "--rm", "--network", "none", image], ["exec", container]):
        shown = rdock.ok(*command, "/syscalls", *argument).split()
        assert shown == [str(errno.EAFNOSUPPORT)] * len(argument)
    rdock.ok("rm", "-f", container)


def test_with_a_capability_and_without_a_filter(rdock: Rdock, runtime: str, image: str) -> None:
    """The witnesses: the same calls come to the kernel when they are meant to."""
    unshare, fsopen, keyctl, bad = "64:272:0x20000", "64:432:99,0,0", "64:250:0,0xfffffffd,1", "64:165:s,p,s,0,0"

    def run(*options: str) -> list[str]:
        shown = seen(rdock.ok("run", "--rm", "--network", "none", *options, image, "sh", "-c", SCRIPT, "sh", *calls))
        return [shown[call] for call in calls]

    calls = [unshare, fsopen, keyctl, bad]
    refused = str(errno.EPERM)
    assert run() == [refused] * 4
    assert run("--cap-add", "SYS_ADMIN") == ["0", str(errno.EBADF), refused, str(errno.ENOENT)]
    assert run("--privileged")[2] == run("--security-opt", "seccomp=unconfined")[2] == "0"
