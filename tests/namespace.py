"""Run a function of a test as root of a user namespace, with the full range of ids or with one id only."""

from __future__ import annotations

import ctypes
import os
import pickle
import pwd
import shutil
import subprocess
import traceback
from collections.abc import Callable
from typing import Any

import pytest

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000


def in_namespace(function: Callable[..., Any], *args: Any) -> Any:
    """Call function(*args) in a child that is uid 0 of new user and mount namespaces; return what it returns.

    The child has 65536 ids, as an ordinary user with subordinate ids gets them. A failed assertion comes back
    as an AssertionError with the child's traceback, a skip as a skip. The test is skipped where there are no such
    ids. The value must be one that pickle can carry.
    """
    uids, gids = _range("/etc/subuid"), _range("/etc/subgid")
    if uids is None or gids is None or not shutil.which("newuidmap"):
        pytest.skip("this user has no subordinate ids, or newuidmap is not installed")

    def give_range(pid: int) -> None:
        subprocess.run(["newuidmap", str(pid), "0", str(os.getuid()), "1", "1", *uids], check=True)
        subprocess.run(["newgidmap", str(pid), "0", str(os.getgid()), "1", "1", *gids], check=True)

    return _call(function, args, give_range)


def with_one_id(function: Callable[..., Any], *args: Any) -> Any:
    """The same in a namespace of one id, as a user without subordinate ids has it."""

    def give_one(pid: int) -> None:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {os.getuid()} 1"),
            ("gid_map", f"0 {os.getgid()} 1"),
        ):
            with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
                file.write(text)

    return _call(function, args, give_one)


def _call(function: Callable[..., Any], args: tuple[Any, ...], give_ids: Callable[[int], None]) -> Any:
    ready, mapped, answer = os.pipe(), os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os._exit(_child(function, args, ready[1], mapped[0], answer[1]))
    for end in (ready[1], mapped[0], answer[1]):
        os.close(end)
    try:
        problem = os.read(ready[0], 100)
        if problem == b"ready":
            give_ids(pid)
            os.write(mapped[1], b"x")
        os.close(mapped[1])
        with open(answer[0], "rb") as pipe:
            text = pipe.read()
    finally:
        os.close(ready[0])
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if problem != b"ready":
        pytest.skip(f"no user namespace can be made: {problem.decode()}")
    assert text, f"the function ended its process with {status}"
    outcome, value = pickle.loads(text)
    if outcome == "skipped":
        pytest.skip(value)
    assert outcome == "returned", value
    return value


def _child(function: Callable[..., Any], args: tuple[Any, ...], ready: int, mapped: int, answer: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0:
        os.write(ready, os.strerror(ctypes.get_errno()).encode())
        return 1
    os.write(ready, b"ready")
    if os.read(mapped, 1) != b"x":
        return 1
    outcome: tuple[str, Any]
    try:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        with open("/proc/self/setgroups", encoding="ascii") as file:
            if file.read() == "allow\n":
                os.setgroups([])
        outcome = ("returned", function(*args))
    except pytest.skip.Exception as e:
        outcome = ("skipped", str(e))
    except BaseException:
        outcome = ("failed", traceback.format_exc())
    try:
        text = pickle.dumps(outcome)
    except Exception:
        text = pickle.dumps(("failed", f"cannot be pickled: {outcome[1]!r}"))
    with open(answer, "wb") as pipe:
        pipe.write(text)
    return 0


def _range(path: str) -> tuple[str, str] | None:
    """First and number of the subordinate ids in a file, by the user's name or number."""
    names = {str(os.getuid()), pwd.getpwuid(os.getuid()).pw_name}
    try:
        lines = [line.strip().split(":") for line in open(path)]
    except OSError:
        return None
    return next(((first, count) for name, first, count in (ln for ln in lines if len(ln) == 3) if name in names), None)
