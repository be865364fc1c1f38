"""mount and unmount: a container's root, in a session."""

from __future__ import annotations

import os

from tests.conftest import STARTER
from tests.program import Rdock, Result


def session(rdock: Rdock, script: str) -> Result:
    """A script in a session, to which `R` is the program."""
    return rdock("unshare", "sh", "-c", f'R="{" ".join(rdock.argv())}"; cd /tmp; {script}')


def test_one_that_runs(rdock: Rdock, storage: str) -> None:
    """It is seen as it changes, and goes on when it is unmounted, or the session ends."""
    script = "echo one >/one; rm /etc/group; sleep 1000"
    box = rdock.ok("run", "-d", "--name", "box", "--network", "none", STARTER, "sh", "-c", script)
    result = session(
        rdock,
        """
        set -e
        m=$($R mount box); test $PWD = /tmp
        while [ ! -e $m/one ] || [ -e $m/etc/group ]; do sleep 0.1; done; cat $m/one
        $R exec box sh -c 'echo two >/two'; cat $m/two
        ! touch $m/new 2>/dev/null
        test $($R container mount -l) = $m; $R mount | wc -l; $R mount --no-trunc
        $R umount box; test ! -e $m; ! $R unmount box; $R unmount -a
        $R mount box >/dev/null""",
    )
    assert (result.code, result.err) == (0, f"rdock: container {box[:12]} is not mounted\n"), str(result)
    *lines, listed, unmounted = result.out.splitlines()
    assert lines == ["one", "two", "1"] and listed.startswith(f"{box}  /") and unmounted == box
    assert rdock.ok("exec", "box", "cat", "/two") == "two"
    assert not os.listdir(rdock.home.runtime / "rdock" / "roots")
    rdock.ok("restart", "-t", "0", "box")


def test_one_that_does_not(rdock: Rdock, storage: str) -> None:
    rdock.ok("run", "--name", "box", "--network", "none", STARTER, "sh", "-c", "echo one >/one; rm /etc/group")
    result = session(rdock, "m=$($R mount box) || exit 3; cat $m/one; ls $m/etc/group; touch $m/new; $R unmount -l")
    if storage == "fuse-overlayfs":
        assert result.code == 3 and "fuse-overlayfs that does not run cannot be mounted" in result.err, str(result)
        return
    assert result.code == 0 and result.out.startswith("one\n") and len(result.err.splitlines()) == 2, str(result)
    assert "No such file" in result.err and "Read-only file system" in result.err
    rdock.ok("start", "box")


def test_outside_of_a_session(rdock: Rdock) -> None:
    rdock.ok("create", "--name", "box", STARTER)
    for verb in ("mount", "unmount"):
        result = rdock(verb, "box")
        assert result.code == 1
        assert result.err.startswith(f"rdock: cannot {verb} a container where nobody would see it\n"), str(result)
    result = session(rdock, "$R mount nosuch; $R unmount; $R mount box && $R unmount -a")
    assert result.err == "rdock: No such container: nosuch\nrdock: you must provide at least one name or id\n"
