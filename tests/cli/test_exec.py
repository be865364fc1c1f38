"""exec: its flags, streams, exit codes, and what happens when the container is not there or ends meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear, wait_for
from tests.cli.terminal import Terminal
from tests.conftest import STARTER
from tests.program import Rdock

Start = Callable[..., str]


@pytest.fixture
def box(rdock: Rdock, runtime: str) -> str:
    """A running container, on each runtime."""
    return rdock.ok(
        "run", "-d", "--network", "none", "--hostname", "box", "-e", "OWN=1", "-w", "/srv", "-u", "33",
        STARTER, "sh", "-c", "while :; do sleep 1; done",
    )  # fmt: skip


def test_runs_in_the_containers_world(rdock: Rdock, box: str) -> None:
    script = "hostname; pwd; id -u; echo $OWN; cat /proc/1/comm; ls /proc/self/fd | tr '\\n' ' '; ls -A /sys/class/net"
    assert rdock.ok("exec", box, "sh", "-c", script).split() == "box /srv 33 1 sh 0 1 2 3 lo".split()
    for kind in ("user", "mnt", "pid", "net", "uts", "ipc", "cgroup"):
        link = f"/proc/1/ns/{kind}"
        own = rdock.ok("exec", box, "sh", "-c", f"readlink {link}; readlink /proc/self/ns/{kind}").split()
        assert own[0] == own[1], kind


def test_flags(rdock: Rdock, box: str, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("FILED=1\n")
    options = ("-u", "7:8", "-w", "/tmp", "-e", "GIVEN=a b", "--env-file", str(file), "-e", "COPIED")
    script = "echo $(id -u):$(id -g) $PWD $GIVEN $FILED $COPIED $OWN"
    result = rdock("exec", *options, box, "sh", "-c", script, env={"COPIED": "c"})
    assert (result.code, result.out) == (0, "7:8 /tmp a b 1 c 1\n"), str(result)
    assert rdock("exec", "-w", "relative", box, "true").code == 1


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0), (["sh", "-c", "exit 77"], 77), (["sh", "-c", "kill -KILL $$"], 137),
        (["/nonexistent"], 127), (["nonexistent"], 127), (["/etc"], 126), (["/etc/passwd"], 126),
    ],
)  # fmt: skip
def test_exit_codes(rdock: Rdock, box: str, command: list[str], code: int) -> None:
    result = rdock("exec", box, *command)
    assert result.code == code, str(result)
    if code in (126, 127):
        assert is_clear(result.err) and command[0] in result.err


def test_streams(rdock: Rdock, box: str) -> None:
    result = rdock("exec", box, "sh", "-c", "echo out; echo err >&2; cat")
    assert (result.out, result.err) == ("out\n", "err\n")
    data = os.urandom(3 << 20)
    done = subprocess.run(
        rdock.argv("exec", "-i", box, "cat"), input=data, env=rdock.environment(), capture_output=True, timeout=60
    )
    assert done.stdout == data
    # none of this is the container's own output
    assert rdock.ok("logs", box) == ""


def test_detached(rdock: Rdock, box: str) -> None:
    started = time.monotonic()
    assert rdock.ok("exec", "-d", "-u", "0", box, "sh", "-c", "sleep 0.5; echo done >/tmp/mark") == ""
    assert time.monotonic() - started < 3
    wait_for(lambda: rdock("exec", box, "cat", "/tmp/mark").out == "done\n")


def test_terminal(rdock: Rdock, box: str) -> None:
    script = "tty; stty size; read line; stty size; echo got $line; exit 5"
    with Terminal(rdock, "exec", "-it", box, "sh", "-c", script, rows=30, columns=100) as terminal:
        assert "/dev/pts/" in terminal.await_text("30 100")
        terminal.resize(31, 101)
        time.sleep(0.3)
        terminal.type("it\n")
        assert "31 101" in terminal.await_text("got it")
        assert terminal.end() == 5
        assert terminal.settings() == terminal.before
    result = rdock("exec", "-it", box, "true")
    assert (result.code, result.err) == (1, "rdock: the input device is not a TTY\n")


def test_privileged(rdock: Rdock, box: str) -> None:
    plain = rdock.ok("exec", "-u", "0", box, "grep", "CapEff", "/proc/self/status").split()[1]
    privileged = rdock.ok("exec", "-u", "0", "--privileged", box, "grep", "CapEff", "/proc/self/status").split()[1]
    assert int(plain, 16) != int(privileged, 16) and bin(int(privileged, 16)).count("1") > 35


def test_unknown_user(rdock: Rdock, box: str) -> None:
    result = rdock("exec", "-u", "nosuchuser", box, "true")
    assert result.code in (1, 126) and is_clear(result.err) and "nosuchuser" in result.err


def test_of_no_container(rdock: Rdock) -> None:
    result = rdock("exec", "nosuch", "true")
    assert (result.code, result.err) == (1, "rdock: No such container: nosuch\n")


def test_in_a_stopped_container(rdock: Rdock) -> None:
    container = rdock.ok("run", "-d", "--network", "none", STARTER, "true")
    rdock.ok("wait", container)
    result = rdock("exec", container, "true")
    assert (result.code, result.err) == (1, f"rdock: container {container} is not running\n")


def test_ends_with_the_container(rdock: Rdock, box: str) -> None:
    command = rdock.start("exec", box, "sh", "-c", "echo in; sleep 100", stdin=subprocess.DEVNULL, bufsize=0)
    assert command.stdout and command.stdout.readline() == b"in\n"
    rdock.ok("kill", box)
    command.communicate(timeout=20)
    assert command.returncode == 137


def test_goes_on_when_its_command_is_killed(rdock: Rdock, box: str) -> None:
    command = rdock.start(
        "exec", "-u", "0", box, "sh", "-c", "echo in; sleep 0.5; echo on >/tmp/on", stdin=subprocess.DEVNULL, bufsize=0
    )
    assert command.stdout and command.stdout.readline() == b"in\n"
    command.kill()
    command.communicate(timeout=20)
    wait_for(lambda: rdock("exec", box, "cat", "/tmp/on").out == "on\n")


def test_signals_are_passed_on(rdock: Rdock, box: str) -> None:
    script = "trap 'echo got; exit 3' TERM; echo in; while :; do sleep 0.05; done"
    command = rdock.start("exec", box, "sh", "-c", script, stdin=subprocess.DEVNULL, bufsize=0)
    assert command.stdout and command.stdout.readline() == b"in\n"
    command.send_signal(signal.SIGTERM)
    out, _ = command.communicate(timeout=20)
    assert (command.returncode, out) == (3, b"got\n")


def test_racing_with_the_end(rdock: Rdock) -> None:
    """At whatever instant the container ends: one of the documented answers, never a traceback."""
    codes = set()
    for number in range(12):
        container = rdock.ok("run", "-d", "--rm", "--network", "none", STARTER, "sleep", f"0.{number % 6}")
        result = rdock("exec", container, "sh", "-c", "exit 0")
        codes.add(result.code)
        assert result.code in (0, 137) or (result.code == 1 and is_clear(result.err)), str(result)
    killed = [rdock.ok("run", "-d", "--network", "none", STARTER, "sleep", "100") for _ in range(10)]
    for number, container in enumerate(killed):
        command = rdock.start("exec", container, "sleep", "100", stdin=subprocess.DEVNULL, bufsize=0)
        time.sleep(number * 0.012)
        rdock.ok("kill", container)
        _, err = command.communicate(timeout=30)
        assert command.returncode in (1, 137), err
        assert command.returncode == 137 or is_clear(err.decode()), err


def test_many_at_once(rdock: Rdock) -> None:
    container = rdock.ok("run", "-d", "--network", "none", STARTER, "sleep", "100")
    commands = [rdock.start("exec", container, "echo", str(n), stdin=subprocess.DEVNULL, bufsize=0) for n in range(20)]
    for number, command in enumerate(commands):
        out, err = command.communicate(timeout=60)
        assert (command.returncode, out) == (0, f"{number}\n".encode()), err
    assert rdock.ok("exec", container, "ls", "/proc").split().count("1") == 1


@pytest.mark.parametrize("options", [(), ("-t",), ("-i",)])
def test_ends_though_what_it_left_behind_goes_on_writing(rdock: Rdock, box: str, options: tuple[str, ...]) -> None:
    script = "trap '' HUP; for n in 1 2 3; do cat /dev/zero & done; exit 4"
    assert rdock("exec", *options, box, "sh", "-c", script, timeout=20).code == 4


def test_terminal_of_a_container_that_hides_its_own(rdock: Rdock) -> None:
    script = "mount --bind /dev/null /dev/pts/ptmx && echo up && sleep 100"
    command = rdock.start("run", "--name", "hides", "--privileged", "--network", "none", STARTER, "sh", "-c", script)
    assert command.stdout and command.stdout.readline() == b"up\n"
    with Terminal(rdock, "exec", "-it", "hides", "true") as terminal:
        assert "/dev/pts/ptmx" in terminal.await_text("no such device")
        assert terminal.end() != 0
    rdock.ok("rm", "-f", "hides")
    command.communicate(timeout=20)


def test_from_where_the_control_group_cannot_be_reached(rdock: Rdock) -> None:
    """As from a shell of an SSH session, whose scope is the system's, into a container of a scope of the user's."""
    container = rdock.ok("run", "-d", "--network", "none", STARTER, "sleep", "1000")
    path = rdock.home.data / "containers" / container / "state.json"
    state = json.loads(path.read_text())
    if not state["Cgroup"]:
        pytest.skip("no control group is delegated")
    path.write_text(json.dumps({**state, "Cgroup": "/sys/fs/cgroup"}))
    assert rdock.ok("exec", container, "hostname") == container[:12]
    path.write_text(json.dumps(state))
