"""Every storage driver with every OCI runtime, and every way to be root of a small world, runs a container."""

from __future__ import annotations

import os

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
