"""SIGKILL of a container's monitor, of its keeper, of both, of process 1, of the command: what goes on, and how.

What is guaranteed when a monitor is killed: the container does not notice, and its exit code is right. Of its
output each line is in the log once, but for at most one piece of 32 KiB that the monitor had read from the pipe
and not yet written. Who is attached misses what was under way to him.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import is_clear, wait_for
from tests.cli.terminal import Terminal
from tests.conftest import STARTER
from tests.program import Rdock

PLAIN = ("--network", "none")
SERVICE = ("sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done")


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """A pipe that nobody closes is a failure, not a hang."""

    def complain(*_: object) -> None:
        raise TimeoutError("the test hangs")

    signal.signal(signal.SIGALRM, complain)
    signal.alarm(40)
    yield
    signal.alarm(0)


def record(rdock: Rdock, container: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((rdock.home.data / "containers" / container / "state.json").read_text())
    return found


def full_id(rdock: Rdock, name: str) -> str:
    return rdock.ok("inspect", "-f", "{{.Id}}", name)


def kill_monitor(rdock: Rdock, container: str) -> None:
    """Kill it and wait until another has taken its place."""
    found = record(rdock, container)
    os.kill(found["MonitorPid"], signal.SIGKILL)
    wait_for(lambda: record(rdock, container)["MonitorPid"] != found["MonitorPid"], "a successor")


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def started(rdock: Rdock, *options: str, words: tuple[str, ...] = SERVICE) -> str:
    container = rdock.ok("run", "-d", *PLAIN, *options, STARTER, *words)
    if "echo up" in words[-1]:
        wait_for(lambda: "up" in rdock.ok("logs", container))
    return container


def status(rdock: Rdock, container: str) -> str:
    return rdock.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", container)


def nothing_left(rdock: Rdock, container: str) -> None:
    """No process of the container, its monitor and keeper, no run directory, no lock, no control group."""
    short = [line for line in rdock.home.processes() if "rdock-holder" not in line]
    wait_for(lambda: not [line for line in rdock.home.processes() if is_of_a_container(line)], f"gone: {short}")
    wait_for(lambda: not os.listdir(rdock.home.runtime / "rdock/containers"), "the run directory is gone")
    assert not os.path.exists(rdock.home.data / "containers/.locks" / container)
    assert rdock.home.mounts() == []


def comm_of(line: str) -> str:
    try:
        return Path(f"/proc/{line.split()[0]}/comm").read_text().strip()
    except OSError:
        return ""


def is_of_a_container(line: str) -> bool:
    return comm_of(line) not in ("", "rdock-holder")


# -- the monitor -----------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 3])
def test_while_idle(rdock: Rdock, runtime: str, times: int) -> None:
    container = started(rdock)
    pid = record(rdock, container)["Pid"]
    for _ in range(times):
        kill_monitor(rdock, container)
        assert record(rdock, container)["Pid"] == pid
        assert status(rdock, container) == "running 0"
        assert rdock.ok("exec", container, "echo", "reached") == "reached"
    assert rdock.ok("stop", container) == container
    assert status(rdock, container) == "exited 5"
    rdock.ok("start", container)
    wait_for(lambda: rdock.ok("logs", container).split() == ["up", "up"])
    rdock.ok("rm", "-f", container)
    nothing_left(rdock, container)


def test_that_removes_itself_and_has_ports(rdock: Rdock) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    container = rdock.ok("run", "-d", "--rm", "-p", f"127.0.0.1:{port}:80", STARTER, *SERVICE)
    kill_monitor(rdock, container)
    assert rdock.ok("port", container, "80") == f"127.0.0.1:{port}"
    waiting = rdock.start("wait", container, stdin=subprocess.DEVNULL)
    time.sleep(0.3)
    rdock.ok("stop", container)
    assert waiting.communicate(timeout=20)[0] == b"5\n"
    assert rdock.ok("ps", "-aq") == ""
    with socket.socket() as again:
        again.bind(("127.0.0.1", port))
    nothing_left(rdock, container)


def test_while_output_flows(rdock: Rdock) -> None:
    """Numbers come in order; of three kills each costs at most one piece that was on its way to the log."""
    script = (
        "n=0; while [ $n -lt 30000 ]; do echo $n; n=$((n+1)); done; "
        "until test -e /go; do sleep 0.05; done; echo end; exit 3"
    )
    container = started(rdock, words=("sh", "-c", script))
    for _ in range(3):
        time.sleep(0.05)
        if rdock.ok("inspect", "-f", "{{.State.Running}}", container) == "true":
            kill_monitor(rdock, container)
    rdock.ok("exec", "--detach", container, "touch", "/go")
    assert rdock.ok("wait", container) == "3"
    *lines, last = rdock.ok("logs", container).splitlines()
    numbers = [int(line) for line in lines if line.isdigit()]
    assert len(lines) - len(numbers) <= 3
    assert last == "end" and len(numbers) == len(set(numbers))
    missing = sum(len(f"{number}\n") for number in set(range(30000)) - set(numbers))
    assert missing <= 3 * (32768 + 20)
    # A number that is torn at a kill may be any; the rest rises.
    falls = [n for n in range(1, len(numbers)) if numbers[n] < numbers[n - 1]]
    assert len(falls) <= 6, falls
    lost = 30000 - len(numbers)
    assert lost * 6 <= 3 * 32768 + 100, f"{lost} lines are lost"


def test_slow_output_is_complete(rdock: Rdock) -> None:
    """What is written while nobody is there waits in the pipe."""
    container = started(rdock, words=("sh", "-c", "n=0; while [ $n -lt 60 ]; do echo $n; n=$((n+1)); sleep 0.03; done"))
    for _ in range(4):
        time.sleep(0.2)
        kill_monitor(rdock, container)
    assert rdock.ok("wait", container) == "0"
    lines = rdock.ok("logs", container).split()
    missing = set(map(str, range(60))) - set(lines)
    assert len(missing) <= 4 and len(lines) == len(set(lines)), (missing, lines)


@pytest.mark.parametrize("options", [(), ("-i",), ("--rm",), ("--rm", "-i")], ids=" ".join)
def test_under_a_run_without_terminal(rdock: Rdock, options: tuple[str, ...]) -> None:
    script = "echo up; read line; echo got $line; exit 6" if "-i" in options else "echo up; sleep 1; echo got; exit 6"
    client = rdock.start("run", *options, "--name", "under", *PLAIN, STARTER, "sh", "-c", script, bufsize=0)
    assert client.stdin and client.stdout and client.stderr and client.stdout.readline() == b"up\n"
    container = full_id(rdock, "under")
    kill_monitor(rdock, container)
    time.sleep(0.2)
    client.stdin.write(b"word\n")
    assert client.stdout.readline() == (b"got word\n" if "-i" in options else b"got\n")
    assert client.wait(20) == 6
    assert client.stderr.read() == b""
    if "--rm" in options:
        assert rdock.ok("ps", "-aq") == ""
    nothing_left(rdock, container)


def test_end_of_input_that_was_said_to_the_dead(rdock: Rdock) -> None:
    """The client says again to the next monitor that its input has ended."""
    client = rdock.start("run", "-i", "--name", "eof", *PLAIN, STARTER, "sh", "-c", "echo up; cat; echo end; exit 4",
                         bufsize=0)  # fmt: skip
    assert client.stdin and client.stdout and client.stdout.readline() == b"up\n"
    container = full_id(rdock, "eof")
    found = record(rdock, container)
    os.kill(found["MonitorPid"], signal.SIGSTOP)
    client.stdin.close()
    time.sleep(0.3)
    os.kill(found["MonitorPid"], signal.SIGKILL)
    assert client.stdout.readline() == b"end\n"
    assert client.wait(20) == 4


def test_end_of_input_that_was_heard(rdock: Rdock) -> None:
    client = rdock.start("run", "-i", "--name", "eof", *PLAIN, STARTER, "sh", "-c", "cat; echo end; sleep 1; exit 4",
                         bufsize=0)  # fmt: skip
    assert client.stdin and client.stdout
    client.stdin.close()
    assert client.stdout.readline() == b"end\n"
    kill_monitor(rdock, full_id(rdock, "eof"))
    assert client.wait(20) == 4


def test_output_under_way_to_a_client(rdock: Rdock) -> None:
    """A client that is told of a reset while output still waits for it takes that first."""
    script = "echo up; sleep 0.5; seq 1 2000; sleep 2; echo last; exit 3"
    client = rdock.start("run", "-i", "--name", "late", *PLAIN, STARTER, "sh", "-c", script, bufsize=0)
    assert client.stdin and client.stdout and client.stdout.readline() == b"up\n"
    container = full_id(rdock, "late")
    os.kill(client.pid, signal.SIGSTOP)
    wait_for(lambda: "2000" in rdock.ok("logs", container).split())
    # Something that the monitor has not read when it dies, which makes its end a reset.
    os.kill(record(rdock, container)["MonitorPid"], signal.SIGSTOP)
    client.stdin.write(b"unread\n")
    os.kill(client.pid, signal.SIGCONT)
    time.sleep(0.3)
    os.kill(record(rdock, container)["MonitorPid"], signal.SIGKILL)
    out = client.stdout.read().split()
    assert out == [b"%d" % n for n in range(1, 2001)] + [b"last"], out[-5:]
    assert client.wait(20) == 3


def test_reset_before_output_is_taken(rdock: Rdock) -> None:
    script = "echo up; sleep 0.5; seq 1 2000; sleep 2; echo last; exit 3"
    client = rdock.start("run", "-i", "--name", "late", *PLAIN, STARTER, "sh", "-c", script, bufsize=0)
    assert client.stdin and client.stdout and client.stdout.readline() == b"up\n"
    container = full_id(rdock, "late")
    found = record(rdock, container)
    os.kill(found["MonitorPid"], signal.SIGSTOP)
    client.stdin.write(b"unread\n")
    time.sleep(0.2)
    os.kill(client.pid, signal.SIGSTOP)
    os.kill(found["MonitorPid"], signal.SIGKILL)
    wait_for(lambda: record(rdock, container)["MonitorPid"] != found["MonitorPid"], "a successor")
    os.kill(client.pid, signal.SIGCONT)
    assert client.stdout.read().split()[-1] == b"last"
    assert client.wait(20) == 3


@pytest.mark.parametrize("options", [("-t",), ("-it",), ("--rm", "-it")], ids=" ".join)
def test_under_a_run_with_terminal(rdock: Rdock, options: tuple[str, ...]) -> None:
    script = "echo up; read line; echo got-$line; stty size; exit 6" if "-it" in options else "echo up; sleep 1; exit 6"
    with Terminal(rdock, "run", *options, "--name", "under", *PLAIN, STARTER, "sh", "-c", script) as terminal:
        terminal.await_text("up")
        container = full_id(rdock, "under")
        kill_monitor(rdock, container)
        terminal.resize(30, 90)
        time.sleep(0.3)
        if "-it" in options:
            terminal.type("word\n")
            terminal.await_text("got-word")
            terminal.await_text("30 90")
        assert terminal.end() == 6
        assert terminal.settings() == terminal.before
    nothing_left(rdock, container)


def test_under_exec(rdock: Rdock) -> None:
    container = started(rdock)
    session = rdock.start("exec", "-i", container, "sh", "-c", "echo in; read word; echo $word; exit 9", bufsize=0)
    assert session.stdin and session.stdout and session.stdout.readline() == b"in\n"
    kill_monitor(rdock, container)
    session.stdin.write(b"through\n")
    assert session.stdout.readline() == b"through\n"
    assert session.wait(20) == 9
    rdock.ok("stop", container)
    assert status(rdock, container) == "exited 5"
    nothing_left(rdock, container)


def test_exec_session_killed(rdock: Rdock, runtime: str) -> None:
    """Its program becomes an orphan, which somebody has to reap: process 1 cannot end before that."""
    container = started(rdock)
    session = rdock.start("exec", container, "sh", "-c", "echo in; exec sleep 0.7", stdin=subprocess.DEVNULL, bufsize=0)
    assert session.stdout and session.stdout.readline() == b"in\n"
    (pid,) = (int(line.split()[0]) for line in rdock.home.processes() if comm_of(line) == "rdock-exec")
    os.kill(pid, signal.SIGKILL)
    assert session.wait(20) == 1
    time.sleep(1)
    assert rdock("rm", "-f", container, timeout=10).code == 0
    nothing_left(rdock, container)


def test_while_paused(rdock: Rdock) -> None:
    container = started(rdock, words=("sh", "-c", "echo up; n=0; while :; do echo $n; n=$((n+1)); sleep 0.01; done"))
    rdock.ok("pause", container)
    kill_monitor(rdock, container)
    assert status(rdock, container) == "paused 0"
    before = rdock.ok("logs", container)
    time.sleep(0.3)
    assert rdock.ok("logs", container) == before
    rdock.ok("unpause", container)
    wait_for(lambda: len(rdock.ok("logs", container)) > len(before))
    rdock.ok("pause", container)
    kill_monitor(rdock, container)
    rdock.ok("rm", "-f", container)
    nothing_left(rdock, container)


def test_while_others_wait_and_follow(rdock: Rdock) -> None:
    container = started(rdock)
    waiting = [rdock.start("wait", container, stdin=subprocess.DEVNULL) for _ in range(3)]
    follower = rdock.start("logs", "-f", container, stdin=subprocess.DEVNULL, bufsize=0)
    time.sleep(0.4)
    kill_monitor(rdock, container)
    kill_monitor(rdock, container)
    rdock.ok("stop", container)
    assert [each.communicate(timeout=20)[0] for each in waiting] == [b"5\n"] * 3
    assert follower.communicate(timeout=20)[0] == b"up\n"


@pytest.mark.parametrize("policy", ["no", "always"])
def test_while_it_is_being_stopped(rdock: Rdock, policy: str) -> None:
    script = "trap 'sleep 1; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    container = started(rdock, "--restart", policy, words=("sh", "-c", script))
    stopping = rdock.start("stop", container, stdin=subprocess.DEVNULL)
    time.sleep(0.4)
    kill_monitor(rdock, container)
    assert stopping.wait(20) == 0
    time.sleep(0.3)
    assert status(rdock, container) == "exited 5"
    nothing_left(rdock, container)


def test_before_it_has_heard_of_the_stop(rdock: Rdock) -> None:
    """The command says it again to the next, or the policy would bring back what was stopped."""
    container = started(rdock, "--restart", "always")
    found = record(rdock, container)
    os.kill(found["MonitorPid"], signal.SIGSTOP)
    stopping = rdock.start("stop", container, stdin=subprocess.DEVNULL)
    time.sleep(0.4)
    os.kill(found["MonitorPid"], signal.SIGKILL)
    assert stopping.wait(20) == 0
    time.sleep(0.5)
    assert status(rdock, container) == "exited 5"


def test_before_a_restart_that_keeps_it(rdock: Rdock) -> None:
    """`restart` of a container with --rm; its monitor is killed between the word of it and the end."""
    script = "trap 'sleep 1; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    container = started(rdock, "--rm", words=("sh", "-c", script))
    command = rdock.start("restart", container, stdin=subprocess.DEVNULL)
    time.sleep(0.5)
    kill_monitor(rdock, container)
    assert command.wait(20) == 0, command.stderr and command.stderr.read()
    wait_for(lambda: rdock.ok("logs", container).split() == ["up", "up"])
    rdock.ok("stop", container)
    assert rdock.ok("ps", "-aq") == ""


def test_between_two_runs(rdock: Rdock) -> None:
    container = rdock.ok("run", "-d", "--restart", "always", *PLAIN, STARTER, "sh", "-c", "echo run; exit 3")
    wait_for(lambda: record(rdock, container)["RestartCount"] >= 3)
    wait_for(lambda: record(rdock, container)["Restarting"])
    kill_monitor(rdock, container)
    count = record(rdock, container)["RestartCount"]
    wait_for(lambda: record(rdock, container)["RestartCount"] >= count + 2, "it goes round")
    lines = rdock.ok("logs", container).split()
    rdock.ok("stop", container)
    assert set(lines) == {"run"} and status(rdock, container) == "exited 3"
    nothing_left(rdock, container)


def test_after_the_first_restart(rdock: Rdock) -> None:
    """The run that a monitor has begun itself is left to the next as well."""
    container = started(rdock, "--restart", "always", words=("sh", "-c", "echo up; exec sleep 1000"))
    kill_monitor(rdock, container)
    for count in (1, 2):
        os.kill(record(rdock, container)["Pid"], signal.SIGKILL)
        wait_for(lambda n=count: record(rdock, container)["RestartCount"] == n)  # type: ignore[misc]
        wait_for(lambda: record(rdock, container)["Pid"])
        kill_monitor(rdock, container)
        assert rdock.ok("exec", container, "echo", "in") == "in"
    rdock.ok("rm", "-f", container)
    nothing_left(rdock, container)


def test_at_the_same_time_as_process_1(rdock: Rdock) -> None:
    for first in ("MonitorPid", "Pid"):
        container = started(rdock, words=("sh", "-c", "echo up; exec sleep 1000"))
        found = record(rdock, container)
        os.kill(found[first], signal.SIGKILL)
        os.kill(found["Pid" if first == "MonitorPid" else "MonitorPid"], signal.SIGKILL)
        assert rdock.ok("wait", container) == "137"
        assert status(rdock, container) == "exited 137"
        nothing_left(rdock, container)


def test_exit_code_of_an_end_that_no_monitor_saw(rdock: Rdock) -> None:
    """Process 1 ends while its monitor hangs, which is then killed: the kernel has kept the code."""
    container = started(rdock, words=("sh", "-c", "echo up; sleep 0.6; exit 42"))
    found = record(rdock, container)
    os.kill(found["MonitorPid"], signal.SIGSTOP)
    time.sleep(1)
    os.kill(found["MonitorPid"], signal.SIGKILL)
    assert rdock.ok("wait", container) == "42"
    assert status(rdock, container) == "exited 42"
    nothing_left(rdock, container)


def test_again_and_again(rdock: Rdock) -> None:
    """More often than a keeper bears in a minute: then it ends the container, and says that it was killed."""
    container = started(rdock)
    waiting = rdock.start("wait", container, stdin=subprocess.DEVNULL)
    for _ in range(10):
        kill_monitor(rdock, container)
    os.kill(record(rdock, container)["MonitorPid"], signal.SIGKILL)
    assert waiting.communicate(timeout=20)[0] == b"137\n"
    assert status(rdock, container) == "exited 137"
    nothing_left(rdock, container)


# -- the keeper, and both --------------------------------------------------------------------------


def test_keeper_killed(rdock: Rdock, runtime: str) -> None:
    container = started(rdock)
    os.kill(record(rdock, container)["KeeperPid"], signal.SIGKILL)
    time.sleep(0.2)
    assert status(rdock, container) == "running 0"
    assert rdock.ok("exec", container, "echo", "reached") == "reached"
    client = rdock.start("attach", container, stdin=subprocess.DEVNULL, bufsize=0)
    time.sleep(0.4)
    rdock.ok("stop", container)
    client.communicate(timeout=20)
    assert client.returncode == 5 and status(rdock, container) == "exited 5"
    nothing_left(rdock, container)


def test_monitor_and_later_its_keeper(rdock: Rdock) -> None:
    """It goes on, and is served; only how it ended nobody can tell who was not its parent: 255."""
    container = started(rdock)
    kill_monitor(rdock, container)
    os.kill(record(rdock, container)["KeeperPid"], signal.SIGKILL)
    assert rdock.ok("exec", container, "echo", "reached") == "reached"
    waiting = rdock.start("wait", container, stdin=subprocess.DEVNULL)
    time.sleep(0.3)
    rdock.ok("stop", container)
    assert waiting.communicate(timeout=20)[0] == b"255\n"
    assert status(rdock, container) == "exited 255"
    nothing_left(rdock, container)


def test_keeper_killed_under_a_run(rdock: Rdock) -> None:
    client = rdock.start("run", "--rm", "--name", "under", *PLAIN, STARTER, "sh", "-c", "echo up; sleep 1; exit 6",
                         stdin=subprocess.DEVNULL, bufsize=0)  # fmt: skip
    assert client.stdout and client.stdout.readline() == b"up\n"
    container = full_id(rdock, "under")
    os.kill(record(rdock, container)["KeeperPid"], signal.SIGKILL)
    assert client.wait(20) == 6
    nothing_left(rdock, container)


@pytest.mark.parametrize("first", ["KeeperPid", "MonitorPid"])
@pytest.mark.parametrize("options", [(), ("--rm",), ("--restart", "always")], ids=" ".join)
def test_both_killed(rdock: Rdock, options: tuple[str, ...], first: str) -> None:
    container = started(rdock, *options)
    found = record(rdock, container)
    others = {"KeeperPid", "MonitorPid"} - {first}
    for name in (first, *others):
        os.kill(found[name], signal.SIGKILL)
    time.sleep(0.2)
    if record(rdock, container)["MonitorPid"] != found["MonitorPid"]:
        return  # the keeper was quicker than the test
    if "--rm" in options:
        assert rdock.ok("ps", "-aq") == ""
    else:
        assert status(rdock, container) == "exited 137"
        assert rdock.ok("wait", container) == "137"
    wait_for(lambda: not is_there(found["Pid"]), "process 1 is gone")
    nothing_left(rdock, container)


def test_both_killed_under_a_run(rdock: Rdock) -> None:
    client = rdock.start("run", "--name", "under", *PLAIN, STARTER, "sh", "-c", "echo up; sleep 100",
                         stdin=subprocess.DEVNULL, bufsize=0)  # fmt: skip
    assert client.stdout and client.stderr and client.stdout.readline() == b"up\n"
    container = full_id(rdock, "under")
    found = record(rdock, container)
    os.kill(found["KeeperPid"], signal.SIGKILL)
    os.kill(found["MonitorPid"], signal.SIGKILL)
    _, err = client.communicate(timeout=20)
    assert client.returncode == 125 and is_clear(err.decode()), err
    assert status(rdock, container) == "exited 137"
    nothing_left(rdock, container)


# -- the command, at each stage --------------------------------------------------------------------


@pytest.mark.parametrize("delay", [n * 0.015 for n in range(12)])
def test_command_killed(rdock: Rdock, delay: float) -> None:
    """`run -d` that is killed: there is a container that can be used, or none."""
    command = rdock.start("run", "-d", "--name", "half", *PLAIN, STARTER, "sleep", "1000",
                          stdin=subprocess.DEVNULL)  # fmt: skip
    time.sleep(delay)
    command.kill()
    command.communicate()
    wait_for(lambda: status_or_none(rdock, "half") in ("running", "created", None))
    if status_or_none(rdock, "half") == "created":
        time.sleep(0.5)  # it may be about to run
        rdock.ok("start", "half")
    if status_or_none(rdock, "half") is not None:
        assert rdock.ok("exec", "half", "echo", "in") == "in"
        rdock.ok("rm", "-f", "half")
    rdock.ok("run", "--rm", "--name", "half", *PLAIN, STARTER, "true")
    nothing_left(rdock, "half")


def status_or_none(rdock: Rdock, name: str) -> str | None:
    result = rdock("inspect", "--type", "container", "-f", "{{.State.Status}}", name)
    return result.out.strip() if result.code == 0 else None


# -- after a reboot --------------------------------------------------------------------------------


@pytest.fixture
def reboot(rdock: Rdock) -> Iterator[Any]:
    """reboot(container): as if the machine had gone down while it ran: its processes gone, its record not."""

    def down(container: str) -> None:
        found = record(rdock, container)
        for name in ("KeeperPid", "MonitorPid", "Pid"):
            os.kill(found[name], signal.SIGKILL)
        for name in ("KeeperPid", "MonitorPid", "Pid"):
            wait_for(lambda n=name: not is_there(found[n]))  # type: ignore[misc]
        found["Boot"] = "00000000-0000-0000-0000-000000000000"
        # The pids are those of others by now.
        found |= {"MonitorPid": os.getpid(), "KeeperPid": os.getpid(), "Pid": os.getpid()}
        (rdock.home.data / "containers" / container / "state.json").write_text(json.dumps(found))

    yield down


def test_after_a_reboot(rdock: Rdock, reboot: Any) -> None:
    container = started(rdock, "--name", "back")
    reboot(container)
    assert rdock.ok("ps", "-q") == ""
    assert rdock.ok("ps", "-a", "--format", "{{.Status}}").startswith("Exited (137) ")
    assert status(rdock, container) == "exited 137"
    assert rdock.ok("wait", container) == "137"
    assert rdock("exec", container, "true").err == f"rdock: container {container} is not running\n"
    assert rdock.ok("stop", container) == container
    assert rdock.ok("start", container) == container
    wait_for(lambda: rdock.ok("logs", container).split() == ["up", "up"])
    assert status(rdock, container) == "running 0"
    rdock.ok("stop", container)
    reboot_of_stopped = record(rdock, container) | {"Boot": "0"}
    (rdock.home.data / "containers" / container / "state.json").write_text(json.dumps(reboot_of_stopped))
    assert status(rdock, container) == "exited 5"
    rdock.ok("rm", container)


def test_after_a_reboot_one_that_removes_itself_is_gone(rdock: Rdock, reboot: Any) -> None:
    container = started(rdock, "--rm")
    reboot(container)
    assert rdock.ok("ps", "-aq") == ""
    nothing_left(rdock, container)


@pytest.mark.slow
def test_kills_at_random_under_everything(rdock: Rdock) -> None:
    """Every monitor is killed once in a while, while ten containers are used: all exit codes are right."""
    containers = [started(rdock, "--name", f"c{n}") for n in range(6)]
    over = threading.Event()

    def killer() -> None:
        for _ in range(8):
            for container in containers:
                if over.wait(0.4):
                    return
                try:
                    os.kill(record(rdock, container)["MonitorPid"], signal.SIGKILL)
                except (OSError, ValueError):
                    pass

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        for _ in range(5):
            for container in containers:
                result = rdock("exec", container, "echo", "in")
                assert result.out == "in\n" or result.code != 0, result
                rdock.ok("pause", container)
                rdock.ok("unpause", container)
    finally:
        over.set()
        thread.join()
    for container in containers:
        rdock.ok("stop", container)
        assert status(rdock, container) == "exited 5"


# strace kills it at the Nth message to its keeper: log pipes (1, 2), the end of a run (3), what the next one would need
# (4), that this one has begun (5).
@pytest.mark.parametrize("message", [2, 3, 4, 5])
def test_between_two_runs_of_a_restart_policy(rdock: Rdock, message: int) -> None:
    """Wherever it is killed: the policy goes on."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    container = started(rdock, "--restart", "always", words=("sh", "-c", "echo up; exec sleep 1000"))
    found = record(rdock, container)
    kill = f"inject=sendmsg:signal=SIGKILL:when={message}"
    argv = ["strace", "-p", str(found["MonitorPid"]), "-e", "trace=sendmsg", "-e", kill]
    tracer = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr and "attached" in tracer.stderr.readline()
    os.kill(found["Pid"], signal.SIGKILL)
    assert tracer.wait(20) is not None and "killed by SIGKILL" in tracer.stderr.read()

    def runs_anew() -> bool:
        now = record(rdock, container)
        return now["RestartCount"] and now["Pid"] not in (0, found["Pid"]) and now["MonitorPid"] != found["MonitorPid"]

    wait_for(runs_anew, "another run, and another monitor")
    wait_for(lambda: rdock("exec", container, "echo", "in").out == "in\n")
    rdock.ok("rm", "-f", container)
    nothing_left(rdock, container)
