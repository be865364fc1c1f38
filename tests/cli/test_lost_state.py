"""What a logout, a login and a reboot take away: the runtime directory, processes, or both."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import wait_for, write_settings
from tests.conftest import STARTER
from tests.program import Rdock


def started(rdock: Rdock, *options: str) -> str:
    return rdock.ok("run", "-d", *options, "--network", "none", STARTER, "sleep", "1000")


def run_directory(rdock: Rdock) -> Path:
    return rdock.home.runtime / "rdock"


def state(rdock: Rdock, container: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((rdock.home.data / "containers" / container / "state.json").read_text())
    return found


def kill_monitor(rdock: Rdock, container: str) -> None:
    """End a container that no command can reach any more."""
    pid = state(rdock, container)["MonitorPid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)


def kill_all(rdock: Rdock) -> None:
    """Everything of rdock's at once, as a power cut would."""
    while found := rdock.home.processes():
        for line in found:
            try:
                os.kill(int(line.split()[0]), signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)


def test_containers_outlive_the_runtime_directory(own_rdock: Rdock, runtime: str) -> None:
    """A logout without lingering removes it, while what runs lives on."""
    rdock = own_rdock
    one = started(rdock)
    shutil.rmtree(run_directory(rdock))
    assert rdock.ok("ps", "-q") == one[:12]
    assert rdock.ok("exec", one, "echo", "reached") == "reached"
    two = started(rdock, "--rm")
    for container in (one, two):
        assert rdock.ok("exec", container, "hostname") == container[:12]
    assert rdock("rm", one).code == 1
    waiting = rdock.start("wait", one)
    rdock.ok("stop", "-t", "0", one, two)
    assert waiting.communicate(timeout=30)[0] == b"137\n"
    assert rdock.ok("ps", "-aq") == one[:12]
    rdock.ok("rm", one)


def test_another_login_while_something_runs(own_rdock: Rdock, tmp_path: Path) -> None:
    """The directory that the session before had is kept to, and left when nothing is in it any more."""
    (tmp_path / "session").mkdir(mode=0o700)
    later = Rdock(own_rdock.home, variables={"XDG_RUNTIME_DIR": str(tmp_path / "session")})
    one = started(own_rdock)
    two = started(later)
    for rdock in (own_rdock, later):
        assert rdock.ok("exec", one, "hostname") == one[:12]
        assert rdock.ok("exec", two, "hostname") == two[:12]
    waiting = own_rdock.start("wait", two)
    later.ok("rm", "-f", one, two)
    assert waiting.communicate(timeout=30)[0] == b"137\n"
    assert not (tmp_path / "session" / "rdock" / "containers").exists()
    three = started(later)
    assert (tmp_path / "session" / "rdock" / "containers" / three).is_dir()
    assert own_rdock.ok("exec", three, "hostname") == three[:12]
    later.ok("rm", "-f", three)


@pytest.mark.parametrize("lost", [True, False], ids=["without the runtime directory", "with it"])
def test_after_a_power_cut(own_rdock: Rdock, runtime: str, lost: bool) -> None:
    rdock = own_rdock
    kept, temporary = started(rdock, "--name", "kept"), started(rdock, "--rm", "--name", "temporary")
    kill_all(rdock)
    if lost:
        shutil.rmtree(run_directory(rdock))
    path = rdock.home.data / "containers" / kept / "state.json"
    path.write_text(json.dumps({**state(rdock, kept), "Boot": "another"}))
    assert rdock.ok("ps", "-a", "--format", "{{.Names}} {{.State}}") == "kept exited"
    assert rdock.ok("inspect", "-f", "{{.State.ExitCode}}", "kept") == "137"
    assert not (rdock.home.data / "containers" / temporary).exists()
    assert not list((rdock.home.data / "containers" / ".locks").iterdir())
    started(rdock, "--rm", "--name", "temporary")
    rdock.ok("rm", "-f", "kept", "temporary")


def test_a_holder_that_was_killed(own_rdock: Rdock) -> None:
    """The next one joins the user namespace in which containers run on."""
    one = started(own_rdock)
    (record,) = (own_rdock.home.data / "holders").glob("*/*.json")
    os.kill(json.loads(record.read_text())["Pid"], signal.SIGKILL)
    two = started(own_rdock)
    for container in (one, two):
        assert own_rdock.ok("exec", container, "hostname") == container[:12]
    own_rdock.ok("rm", "-f", one, two)


def test_holders_of_earlier_boots_are_forgotten(own_rdock: Rdock) -> None:
    old = own_rdock.home.data / "holders" / "00000000-0000-0000-0000-000000000000"
    old.mkdir(parents=True, mode=0o700)
    own_rdock.home.data.chmod(0o700)
    for name in ("auto.json", "auto.lock"):
        (old / name).write_text("{}")
    own_rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    assert not old.exists()


def test_temporary_files_of_killed_writers(own_rdock: Rdock) -> None:
    own_rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    cache = own_rdock.home.root / "cache" / "rdock"
    left = [
        own_rdock.home.data / "images" / "repositories.json.12345.tmp",
        cache / "probes.json.12345.tmp",
        cache / "seccomp" / "0123.12345.tmp",
    ]
    for path in left:
        path.write_text("half")
    own_rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    assert not [path for path in left if path.exists()]


@pytest.mark.parametrize("force", [True, False])
def test_rm_of_a_container_that_is_being_started(own_rdock: Rdock, tmp_path: Path, force: bool) -> None:
    """rm waits for the start, not for the end."""
    slow = tmp_path / "crun"
    crun = shutil.which("crun")
    if crun is None:
        pytest.skip("crun is not installed")
    slow.write_text(f'#!/bin/sh\ncase "$*" in *--bundle*) touch {tmp_path}/begun; sleep 2;; esac\nexec {crun} "$@"\n')
    slow.chmod(0o755)
    starting = own_rdock.start(
        "run", "-d", "--name", "slow", "--runtime", str(slow), "--network", "none", STARTER, "sleep", "60"
    )
    wait_for(lambda: (tmp_path / "begun").exists())
    begin = time.monotonic()
    result = own_rdock("rm", *(["-f"] if force else []), "slow")
    assert time.monotonic() - begin < 30
    out, err = starting.communicate(timeout=30)
    # It may be killed in the very moment in which it is to start.
    assert starting.returncode == 0 or (force and b"is not running" in err), (out, err)
    if force:
        assert (result.code, result.out) == (0, "slow\n"), str(result)
        assert own_rdock.ok("ps", "-aq") == ""
    else:
        assert result.code == 1 and "stop the container before removing or force remove" in result.err
        own_rdock.ok("rm", "-f", "slow")


@pytest.mark.parametrize("field", ["Pid", "Boot", "Finished", "Ports"])
def test_state_of_another_type(own_rdock: Rdock, field: str) -> None:
    """A record that is damaged so is reported as one, and its container can be removed."""
    container = own_rdock.ok("run", "-d", "--network", "none", STARTER, "true")
    own_rdock.ok("wait", container)
    path = own_rdock.home.data / "containers" / container / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: None}))
    assert own_rdock.ok("ps", "-aq") == container[:12]
    assert "cannot read" in own_rdock.ok("inspect", "-f", "{{.State.Error}}", container)
    own_rdock.ok("rm", container)


@pytest.mark.parametrize("place, value", [("Id", 3), ("Config", []), ("HostConfig", {"Binds": "x"}), ("Created", None)])
def test_record_of_another_type(own_rdock: Rdock, place: str, value: object) -> None:
    container = own_rdock.ok("run", "-d", "--network", "none", STARTER, "true")
    own_rdock.ok("wait", container)
    path = own_rdock.home.data / "containers" / container / "container.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), place: value}))
    result = own_rdock("inspect", container)
    assert result.code == 1 and f"cannot read {path}" in result.err, str(result)
    assert len(result.err.splitlines()) <= 2
    own_rdock.ok("rm", "-f", container)


def test_monitor_that_is_killed_when_the_runtime_has_created(own_rdock: Rdock, tmp_path: Path) -> None:
    """Its process 1 is in no record yet; the next command ends it all the same."""
    crun = shutil.which("crun")
    if crun is None:
        pytest.skip("crun is not installed")
    wrapper = tmp_path / "crun"
    kill = "read -r _ _ _ monitor _ </proc/$PPID/stat; grep -q rdock-monitor /proc/$monitor/comm && kill -9 $monitor"
    wrapper.write_text(f'#!/bin/sh\n{crun} "$@" || exit\ncase "$*" in *--bundle*) {kill};; esac\n')
    wrapper.chmod(0o755)
    result = own_rdock("run", "--name", "one", "--runtime", str(wrapper), "--network", "none", STARTER, "sleep", "60")
    assert result.code == 125 and "monitor ended" in result.err, str(result)
    wrapper.write_text(f'#!/bin/sh\nexec {crun} "$@"\n')
    assert own_rdock.ok("ps", "-a", "--format", "{{.Names}} {{.State}}") == "one created"
    wait_for(lambda: not own_rdock.home.processes(), "no process is left")
    own_rdock.ok("rm", "one")


def unknown_boot(rdock: Rdock) -> Path:
    """Move the holder's directory to the name of another boot, as if it were that of another machine."""
    (place,) = (rdock.home.data / "holders").iterdir()
    return place.rename(place.with_name("11111111-1111-1111-1111-111111111111"))


def test_holders_of_other_machines_are_left_alone(own_rdock: Rdock) -> None:
    one = started(own_rdock)
    place = unknown_boot(own_rdock)
    two = started(own_rdock)
    assert place.is_dir()
    assert own_rdock.ok("exec", two, "hostname") == two[:12]
    own_rdock.ok("rm", "-f", two)
    kill_monitor(own_rdock, one)


def test_a_holder_takes_only_its_own_record_away(own_rdock: Rdock) -> None:
    write_settings(own_rdock, '{"holder-linger": 1}')
    one = started(own_rdock)
    shutil.rmtree(own_rdock.home.data / "holders")
    two = started(own_rdock)
    own_rdock.ok("kill", "-s", "KILL", two)
    wait_for(lambda: own_rdock.ok("ps", "-q") == one[:12])
    three = started(own_rdock)
    kill_monitor(own_rdock, one)
    time.sleep(2.5)
    assert own_rdock.ok("exec", three, "hostname") == three[:12]
    own_rdock.ok("rm", "-f", three)


def test_nothing_of_a_holder_stays(own_rdock: Rdock) -> None:
    own_rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    holders = own_rdock.home.data / "holders"
    wait_for(lambda: not list(holders.iterdir()))


@pytest.mark.parametrize("text", ['{"Pid": "x"}', "[]", "", '{"Pid": 1, "Start": 1, "Boot": "", "Mode": 7}'])
def test_a_holders_record_that_is_damaged(own_rdock: Rdock, text: str) -> None:
    one = started(own_rdock)
    (record,) = (own_rdock.home.data / "holders").glob("*/*.json")
    record.write_text(text)
    two = started(own_rdock)
    assert own_rdock.ok("exec", two, "hostname") == two[:12]
    own_rdock.ok("rm", "-f", two)
    kill_monitor(own_rdock, one)


def test_from_another_pid_namespace(own_rdock: Rdock) -> None:
    """It has a holder of its own, and what runs outside is not its to remove."""
    one = started(own_rdock)
    outer = ["unshare", "--user", "--map-root-user", "--map-auto", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*outer, "true"], capture_output=True).returncode:
        pytest.skip("no pid namespace can be made")
    done = subprocess.run(
        [*outer, *own_rdock.argv("rm", "-f", one)],
        env=own_rdock.environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and "in use by another machine" in done.stderr, done.stderr
    assert own_rdock.ok("exec", one, "hostname") == one[:12]
    own_rdock.ok("rm", "-f", one)


def test_a_directory_that_somebody_else_has_put_in_place(own_rdock: Rdock, tmp_path: Path) -> None:
    """The note of the last runtime directory is trusted only while that is the user's own."""
    own_rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    (own_rdock.home.data / "runtime").write_text("/proc/1/task")
    assert own_rdock.ok("run", "--rm", "--network", "none", STARTER, "echo", "works") == "works"


def test_bundles_without_a_lock_are_removed(own_rdock: Rdock) -> None:
    container = own_rdock.ok("create", "--network", "none", STARTER, "true")
    left = run_directory(own_rdock) / "containers" / container
    left.mkdir(parents=True)
    own_rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    assert not left.exists()


def test_two_stores_with_one_runtime_directory(own_rdock: Rdock, tmp_path: Path) -> None:
    """What the containers of one have there is no rubbish to the other."""
    rdock = own_rdock
    container = rdock.ok("run", "-d", "--network", "none", STARTER, "sleep", "1000")
    other = {"XDG_DATA_HOME": str(tmp_path / "other")}
    for words in (
        ("run", "--rm", "--network", "none", STARTER, "true"),
        ("system", "check"),
        ("system", "check", "--repair"),
    ):
        for _ in range(2):
            result = rdock(*words, env=other)
            assert result.code == 0, str(result)
    assert rdock("system", "check", env=other).out == "no problems found\n"
    assert rdock.ok("pause", container) == container
    assert rdock.ok("unpause", container) == container
    assert rdock.ok("exec", container, "echo", "in") == "in"
    rdock.ok("unshare", "rm", "-rf", str(tmp_path / "other"))
