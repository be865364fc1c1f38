"""Every storage driver with every OCI runtime, and every way to be root of a small world, runs a container."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear, wait_for
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


def fake_runtime(directory: Path, create: str) -> str:
    """A runtime whose process 1 is a `sleep` of the host. `create` is done when that runs, with its pid in $pid."""
    path = directory / "fake"
    path.write_text(
        f"""#!/bin/sh
pid_file= console= operation=
while test $# -gt 0; do
    case $1 in
        --pid-file) pid_file=$2; shift;;
        --console-socket) console=$2; shift;;
        create|start|delete) operation=$1;;
    esac
    shift
done
case $operation in
    create)
        sleep 9876 &
        pid=$!
        echo $pid >{directory}/pid
        {create};;
    delete)
        echo deleted >{directory}/deleted
        kill -9 $(cat {directory}/pid);;
esac
"""
    )
    path.chmod(0o755)
    return str(path)


NO_DESCRIPTOR = (
    'echo $pid >$pid_file; python3 -c "import socket, sys; s = socket.socket(socket.AF_UNIX); '
    "s.connect(sys.argv[1]); s.send(b'x')\" $console"
)


@pytest.mark.parametrize(
    "create, terminal, error",
    [
        (":", False, "wrote no pid"),
        (": >$pid_file", False, "cannot read the pid"),
        ("echo many >$pid_file", False, "cannot read the pid"),
        ("echo 0 >$pid_file", False, "wrote 0 for the pid"),
        ("echo $pid >$pid_file", True, "did not hand the container's terminal over in time"),
        (NO_DESCRIPTOR, True, "handed no terminal over"),
    ],
    ids=["no pid", "empty pid", "no number", "pid 0", "no console", "no descriptor"],
)
def test_runtime_that_breaks_its_word(rdock: Rdock, tmp_path: Path, create: str, terminal: bool, error: str) -> None:
    options = ["--runtime", fake_runtime(tmp_path, create), "--network", "none", *(["-t"] if terminal else [])]
    result = rdock("run", "--rm", *options, STARTER, "true", timeout=60)
    assert result.code == 125 and error in result.err and is_clear(result.err), str(result)
    assert (tmp_path / "deleted").exists()
    process = Path("/proc", (tmp_path / "pid").read_text().strip())
    wait_for(lambda: not process.exists(), "its process 1 is gone")
    assert rdock.ok("ps", "-aq") == ""


def test_runtime_that_cannot_delete(rdock: Rdock, tmp_path: Path) -> None:
    """Its process 1 is ended without it."""
    runtime = Path(fake_runtime(tmp_path, NO_DESCRIPTOR))
    runtime.write_text(runtime.read_text().replace("kill -9 ", "false "))
    result = rdock("run", "--rm", "--runtime", str(runtime), "--network", "none", "-t", STARTER, "true", timeout=60)
    assert result.code == 125 and is_clear(result.err), str(result)
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
