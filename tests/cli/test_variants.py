"""Every storage driver with every OCI runtime, and every way to be root of a small world, runs a container."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import STARTER
from tests.program import Rdock


def test_runs_over_each_driver_with_each_runtime(rdock: Rdock, storage: str, runtime: str) -> None:
    script = "echo kept >/etc/motd && cat /etc/motd && rm /bin/busybox && ! test -e /bin/busybox"
    assert rdock.ok("run", "--rm", "--network", "none", STARTER, "sh", "-c", script) == "kept"
    # what the container did to its root is gone with it
    assert rdock.ok("run", "--rm", "--network", "none", STARTER, "cat", "/etc/hostname")


@pytest.mark.parametrize("mode", ["subids", "single"])
def test_runs_in_an_id_mode_that_is_forced(fresh_rdock: Rdock, mode: str) -> None:
    fresh_rdock.options += ["--id-mode", mode]
    lines = fresh_rdock.ok("run", "--rm", "--network", "none", STARTER, "cat", "/proc/self/uid_map").splitlines()
    total = sum(int(line.split()[2]) for line in lines)
    assert total == 1 if mode == "single" else total > 65000


@pytest.mark.noids
def test_runs_for_a_user_without_subordinate_ids(fresh_rdock: Rdock) -> None:
    with open("/etc/subuid") as file:
        assert not any(line.startswith(f"{os.environ['USER']}:") for line in file)
    result = fresh_rdock("run", "--rm", STARTER, "sh", "-c", "id -u; cat /proc/self/uid_map")
    assert result.code == 0, str(result)
    assert result.out.split()[0] == "0" and result.out.split()[-1] == "1"


def test_one_id_is_told_once_and_other_users_are_refused_plainly(fresh_rdock: Rdock) -> None:
    forced = Rdock(fresh_rdock.home, ["--id-mode", "single"], fresh_rdock.variables)
    refused = forced("run", "--rm", "--network", "none", "-u", "5", STARTER, "true")
    assert refused.code == 125
    assert refused.err.splitlines()[0] == "rdock: cannot run as user 5: containers have 1 id here"
    # who forces it knows; who has no other is told, the first time
    assert "note:" not in refused.err


@pytest.mark.noids
def test_a_user_without_ids_is_told_once(fresh_rdock: Rdock) -> None:
    first = fresh_rdock("run", "--rm", "--network", "none", STARTER, "true")
    second = fresh_rdock("run", "--rm", "--network", "none", STARTER, "true")
    assert first.code == second.code == 0
    assert "one user id only" in first.err and second.err == ""


def test_crun_by_another_name(rdock: Rdock, tmp_path: Path) -> None:
    crun = shutil.which("crun")
    if crun is None:
        pytest.skip("crun is not installed")
    (tmp_path / "another").symlink_to(crun)
    options = ["--runtime", str(tmp_path / "another"), "--network", "none"]
    assert rdock.ok("run", "--rm", *options, STARTER, "echo", "hello") == "hello"
