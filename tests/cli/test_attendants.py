"""Those who see to a container, the keeper and the monitor, in rough weather: orphans, nonsense, lost helpers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import wait_for
from tests.conftest import STARTER
from tests.program import Rdock

QUIET = ("--network", "none")


def record(rdock: Rdock, name: str) -> dict[str, object]:
    container = rdock.ok("inspect", "-f", "{{.Id}}", name)
    found: dict[str, object] = json.loads((rdock.home.data / "containers" / container / "state.json").read_text())
    return found


def pid_of(rdock: Rdock, name: str, whose: str = "MonitorPid") -> int:
    pid = record(rdock, name)[whose]
    assert isinstance(pid, int)
    return pid


def children(parent: int) -> list[tuple[int, str, str]]:
    """pid, state and name of each."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        if int(rest.split()[1]) == parent:
            found.append((int(head.split()[0]), rest.split()[0], head.partition("(")[2]))
    return found


def test_orphans_of_a_container_with_the_pids_of_the_host(rdock: Rdock) -> None:
    rdock.ok("run", "-d", "--name", "many", *QUIET, "--pid", "host", STARTER, "sh", "-c",
             'for i in 1 2 3 4 5 6; do (sh -c "sleep 0.2" &); done; sleep 0.1; echo made; exec sleep 100')  # fmt: skip
    wait_for(lambda: "made" in rdock.ok("logs", "many"), "they are made")
    attendants = [pid_of(rdock, "many", whose) for whose in ("MonitorPid", "KeeperPid")]
    time.sleep(0.5)
    wait_for(lambda: not [c for pid in attendants for c in children(pid) if c[1] == "Z"], "all are reaped")


def test_nonsense_harms_no_monitor(rdock: Rdock) -> None:
    rdock.ok("run", "-d", "--name", "box", *QUIET, STARTER, "sleep", "100")
    monitor = pid_of(rdock, "box")
    bundle = rdock.home.runtime / "rdock" / "containers" / rdock.ok("inspect", "-f", "{{.Id}}", "box")
    for packet in (
        b'Q"x"',
        b"Q5",
        b"Qnull",
        b"Q[]",
        b"Q{}",
        b'Q{"do":7}',
        b'Q{"do":"exec"}',
        b'Q{"do":"exec","args":5}',
    ):
        place = os.open(bundle, os.O_PATH)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(f"/proc/self/fd/{place}/attach.sock")
            client.settimeout(10)
            client.send(packet)
            assert client.recv(1000)[:1] in (b"", b"f")
        os.close(place)
    assert rdock.ok("exec", "box", "echo", "well") == "well"
    assert pid_of(rdock, "box") == monitor


def test_a_log_that_was_rotated_goes_on_with_the_next_monitor(rdock: Rdock) -> None:
    rdock.ok("run", "-d", "--name", "talks", *QUIET, "--log-opt", "max-size=1k", STARTER, "sh", "-c",
             "for i in $(seq 40); do echo early $i; done; until test -e /go; do sleep 0.05; done; echo late; "
             "sleep 100")  # fmt: skip
    wait_for(lambda: "early 40" in rdock.ok("logs", "talks"), "the log is rotated")
    monitor = pid_of(rdock, "talks")
    os.kill(monitor, signal.SIGKILL)
    wait_for(lambda: pid_of(rdock, "talks") != monitor, "there is another monitor")
    rdock.ok("exec", "--detach", "talks", "touch", "/go")
    wait_for(lambda: rdock.ok("logs", "talks").endswith("late"), "it goes on")


def test_what_is_left_with_the_pids_of_the_host_ends_with_the_container(rdock: Rdock) -> None:
    rdock.ok("run", "-d", "--name", "left", *QUIET, "--pid", "host", STARTER, "sh", "-c", "sleep 77777 & sleep 100")
    processes = lambda: [line for line in rdock.home.processes() if "sleep 77777" in line]  # noqa: E731
    wait_for(processes, "it runs")
    for whose in ("KeeperPid", "MonitorPid"):
        os.kill(pid_of(rdock, "left", whose), signal.SIGKILL)
    assert rdock.ok("inspect", "-f", "{{.State.ExitCode}}", "left") == "137"
    wait_for(lambda: not processes(), "it has ended")


def test_a_slirp4netns_that_is_killed_has_a_successor(rdock: Rdock) -> None:
    if shutil.which("slirp4netns", path="/usr/bin:/usr/sbin:/bin") is None:
        pytest.skip("no slirp4netns")
    httpd = (STARTER, "httpd", "-f", "-p", "8080", "-h", "/etc")
    rdock.ok("run", "-d", "--name", "web", "--network", "slirp4netns", "-p", "8080", *httpd)
    port = rdock.ok("port", "web", "8080").rpartition(":")[2]

    def answers() -> bool:
        url = f"http://127.0.0.1:{port}/hostname"
        return subprocess.run(["curl", "-s", "-m", "2", "-o", "/dev/null", url]).returncode == 0

    wait_for(answers, "it serves")
    (slirp,) = [pid for pid, _, name in children(pid_of(rdock, "web")) if name == "slirp4netns"]
    os.kill(slirp, signal.SIGKILL)
    wait_for(answers, "it serves again")
    # What was started anew also outlives a monitor.
    monitor = pid_of(rdock, "web")
    os.kill(monitor, signal.SIGKILL)
    wait_for(lambda: pid_of(rdock, "web") != monitor, "there is another monitor")
    wait_for(answers, "it still serves")
    # And the next monitor, whose child it is not, replaces it too.
    (slirp,) = [int(line.split()[0]) for line in rdock.home.processes() if "slirp4netns" in line.split()[1]]
    os.kill(slirp, signal.SIGKILL)
    wait_for(answers, "it serves once more")
    rdock.ok("rm", "-f", "web")
    assert not answers()


def test_a_slow_reader_does_not_keep_those_who_follow(rdock: Rdock) -> None:
    command = rdock.start("run", "--name", "slow", *QUIET, STARTER, "sh", "-c", "yes | head -c 2000000; echo end",
                          stdin=subprocess.DEVNULL)  # fmt: skip
    wait_for(lambda: rdock("logs", "--tail", "1", "slow").out.endswith("y\n"), "it has begun")
    follower = rdock.start("logs", "-f", "--tail", "1", "slow", stdin=subprocess.DEVNULL)
    assert command.stdout
    # Enough is read that the container can end; the rest waits for a reader who takes his time.
    left = 2000000 - (1 << 19)
    while left > 0:
        left -= len(os.read(command.stdout.fileno(), min(left, 65536)))
    out, _ = follower.communicate(timeout=20)
    assert out.endswith(b"end\n") and follower.returncode == 0
    assert rdock.ok("wait", "slow") == "0"
    command.communicate(timeout=20)
    assert command.returncode == 0


def test_stop_where_the_monitor_cannot_be_told(rdock: Rdock) -> None:
    """As after a logout that took the run directory away: no restart policy brings it back."""
    rdock.ok("run", "-d", "--name", "cut", *QUIET, "--restart", "always", STARTER, "sleep", "100")
    bundle = rdock.home.runtime / "rdock" / "containers" / rdock.ok("inspect", "-f", "{{.Id}}", "cut")
    (bundle / "attach.sock").unlink()
    rdock.ok("stop", "-t", "0", "cut")
    assert rdock.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", "cut") == "exited 137 "
    rdock.ok("start", "cut")
    assert rdock.ok("exec", "cut", "echo", "again") == "again"


def test_a_detached_start_that_fails_tells_the_id(rdock: Rdock) -> None:
    result = rdock("run", "-d", *QUIET, STARTER, "nosuch")
    assert result.code == 127 and len(result.out.strip()) == 64
    assert rdock.ok("rm", result.out.strip()) == result.out.strip()


def test_processes_say_whose_they_are(rdock: Rdock) -> None:
    container = rdock.ok("run", "-d", "--name", "box", *QUIET, "-e", "SECRET=x", STARTER, "sleep", "100")
    for whose, name in (("MonitorPid", "rdock-monitor"), ("KeeperPid", "rdock-keeper")):
        shown = Path(f"/proc/{pid_of(rdock, 'box', whose)}/cmdline").read_bytes()
        assert shown.rstrip(b"\0") == f"{name} {container[:12]}".encode()


def test_exec_in_a_directory_that_is_not_there(rdock: Rdock) -> None:
    rdock.ok("run", "-d", "--name", "box", *QUIET, STARTER, "sleep", "100")
    result = rdock("exec", "-w", "/nope", "box", "pwd")
    assert (result.code, result.err) == (126, 'rdock: chdir to cwd ("/nope"): no such file or directory\n')


def test_a_monitor_killed_before_the_program_runs_leaves_nothing(rdock: Rdock, tmp_path: Path) -> None:
    runtime = tmp_path / "hangs"
    runtime.write_text(f'#!/bin/sh\ncase "$*" in *--bundle*) touch {tmp_path}/begun; sleep 3;; esac\nexit 1\n')
    runtime.chmod(0o755)
    rdock.ok("create", "--name", "half", *QUIET, "--runtime", str(runtime), STARTER, "true")
    client = rdock.start("start", "half", stdin=subprocess.DEVNULL)
    wait_for((tmp_path / "begun").exists, "the start has begun")
    os.kill(pid_of(rdock, "half"), signal.SIGKILL)
    _, err = client.communicate(timeout=20)
    assert client.returncode == 1 and b"monitor ended before the container was started" in err
    wait_for(lambda: not os.listdir(rdock.home.runtime / "rdock" / "containers"), "the run directory is gone")
    assert rdock.ok("system", "check") == "no problems found"
    assert rdock.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "half") == "created 137"
