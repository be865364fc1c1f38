"""wait, stop, kill, rm: how containers end and go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear, wait_for
from tests.conftest import STARTER
from tests.program import Rdock

TRAP = "trap 'echo {0}; exit 4' {0}; echo ready; while :; do sleep 0.05; done"


def started(rdock: Rdock, script: str, *options: str) -> str:
    container = rdock.ok("run", "-d", "--network", "none", *options, STARTER, "sh", "-c", script)
    if "ready" in script:
        wait_for(lambda: "ready" in rdock.ok("logs", container))
    return container


def exit_code(rdock: Rdock, container: str) -> int:
    return int(rdock.ok("inspect", "-f", "{{.State.ExitCode}}", container))


def test_wait(rdock: Rdock, runtime: str) -> None:
    one, two = started(rdock, "sleep 0.5; exit 3"), started(rdock, "exit 0")
    assert rdock.ok("wait", one, two) == "3\n0"
    assert rdock.ok("wait", one) == "3"
    result = rdock("wait", "nosuch", two)
    assert (result.code, result.out, result.err) == (1, "0\n", "rdock: No such container: nosuch\n")


def test_wait_for_a_container_that_removes_itself(rdock: Rdock) -> None:
    container = rdock.ok("run", "-d", "--rm", "--network", "none", STARTER, "sh", "-c", "sleep 0.7; exit 6")
    assert rdock.ok("wait", container) == "6"


def test_stop_asks_first(rdock: Rdock, runtime: str) -> None:
    container = started(rdock, TRAP.format("TERM"))
    assert rdock.ok("stop", container) == container
    assert exit_code(rdock, container) == 4
    assert rdock.ok("logs", container).endswith("TERM")
    assert rdock.ok("inspect", "-f", "{{.State.Status}}", container) == "exited"


def test_stop_kills_after_the_grace(rdock: Rdock, runtime: str) -> None:
    container = started(rdock, "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    begin = time.monotonic()
    rdock.ok("stop", "-t", "1", container)
    assert 1 <= time.monotonic() - begin < 5
    assert exit_code(rdock, container) == 137


def test_stop_timeout_and_signal_of_the_container(rdock: Rdock) -> None:
    container = started(rdock, TRAP.format("USR1"), "--stop-signal", "USR1")
    rdock.ok("stop", container)
    assert exit_code(rdock, container) == 4
    container = started(rdock, "trap '' TERM; echo ready; while :; do sleep 0.05; done", "--stop-timeout", "0")
    begin = time.monotonic()
    rdock.ok("stop", container)
    assert time.monotonic() - begin < 5 and exit_code(rdock, container) == 137


def test_stop_with_another_signal(rdock: Rdock) -> None:
    container = started(rdock, TRAP.format("HUP"))
    rdock.ok("stop", "--signal", "SIGHUP", container)
    assert exit_code(rdock, container) == 4


def test_stop_of_several_and_of_stopped(rdock: Rdock) -> None:
    one, two = (started(rdock, TRAP.format("TERM")) for _ in range(2))
    result = rdock("stop", one, "nosuch", two)
    assert (result.code, result.out.split()) == (1, [one, two])
    assert result.err == "rdock: No such container: nosuch\n"
    # stopping what does not run is no error
    assert rdock.ok("stop", one) == one
    assert exit_code(rdock, one) == 4


@pytest.mark.parametrize(("text", "name"), [("USR1", "USR1"), ("sigusr1", "USR1"), ("10", "USR1"), ("SIGINT", "INT")])
def test_kill_with_names_and_numbers(rdock: Rdock, text: str, name: str) -> None:
    container = started(rdock, TRAP.format(name))
    assert rdock.ok("kill", "-s", text, container) == container
    assert rdock.ok("wait", container) == "4"


def test_kill(rdock: Rdock, runtime: str) -> None:
    container = started(rdock, "echo ready; sleep 100")
    assert rdock.ok("kill", container) == container
    assert rdock.ok("wait", container) == "137"
    result = rdock("kill", container)
    says = f"rdock: cannot kill container: {container}: container {container} is not running\n"
    assert (result.code, result.err) == (1, says)


def test_kill_of_unknown_signals(rdock: Rdock) -> None:
    container = started(rdock, "echo ready; sleep 100")
    for text in ("NOSUCH", "0", "65", "-1", "SIG", "", "TERM+1"):
        result = rdock("kill", f"--signal={text}", container)
        assert result.code == 1 and is_clear(result.err) and "invalid signal" in result.err, str(result)
    assert rdock.ok("inspect", "-f", "{{.State.Running}}", container) == "true"


def test_rm(rdock: Rdock, runtime: str) -> None:
    container = started(rdock, "exit 0", "--name", "gone")
    rdock.ok("wait", container)
    assert rdock.ok("rm", "gone") == "gone"
    assert rdock("inspect", container).code == 1
    assert not os.path.exists(rdock.home.data / "containers" / container)
    result = rdock("rm", "gone")
    assert (result.code, result.err) == (1, "rdock: No such container: gone\n")


def test_rm_of_a_running_container(rdock: Rdock, runtime: str) -> None:
    container = started(rdock, "echo ready; sleep 100", "--name", "busy")
    result = rdock("rm", "busy")
    assert result.code == 1
    assert result.err == (
        'rdock: cannot remove container "busy": container is running: '
        "stop the container before removing or force remove\n"
    )
    assert rdock.ok("exec", "busy", "echo", "unharmed") == "unharmed"
    assert rdock.ok("rm", "-f", "busy") == "busy"
    assert rdock("inspect", container).code == 1


def test_rm_force_of_what_is_missing(rdock: Rdock) -> None:
    """As Docker since version 20.10: said, but no failure."""
    result = rdock("rm", "-f", "nosuch")
    assert (result.code, result.err) == (0, "rdock: No such container: nosuch\n")


def test_rm_of_files_nobody_may_write(rdock: Rdock, storage: str) -> None:
    script = "mkdir -p /a/b/c; touch /a/b/c/f; chown -R 33:33 /a; chmod 000 /a/b/c /a/b /a; chmod 000 /etc"
    container = rdock.ok("run", "-d", "--network", "none", STARTER, "sh", "-c", script)
    rdock.ok("wait", container)
    rdock.ok("rm", container)
    assert not os.path.exists(rdock.home.data / "containers" / container)
    staging = rdock.home.data / "staging"
    assert not staging.exists() or os.listdir(staging) == []


def test_rm_while_it_ends(rdock: Rdock) -> None:
    for number in range(10):
        container = rdock.ok("run", "-d", "--rm", "--network", "none", STARTER, "sleep", f"0.{number}")
        result = rdock("rm", "-f", container)
        assert result.code == 0, str(result)
        assert rdock("inspect", container).code == 1
    assert os.listdir(rdock.home.runtime / "rdock" / "containers") == []


def test_two_that_remove_the_same(rdock: Rdock) -> None:
    for _ in range(5):
        container = rdock.ok("run", "-d", "--network", "none", STARTER, "sleep", "100")
        commands = [rdock.start("rm", "-f", container, stdin=subprocess.DEVNULL, bufsize=0) for _ in range(4)]
        for command in commands:
            _, err = command.communicate(timeout=30)
            assert command.returncode == 0, err
            assert err == b"" or is_clear(err.decode())
        assert rdock("inspect", container).code == 1


def test_wait_for_one_that_writes_much(rdock: Rdock) -> None:
    """Who only waits does not slow the output down."""
    container = rdock.ok(
        "run", "-d", "--rm", "--network", "none", STARTER, "sh", "-c", "sleep 0.3; seq 1 200000; exit 2"
    )
    assert rdock.ok("wait", container) == "2"


def test_several_wait(rdock: Rdock, runtime: str) -> None:
    container = started(rdock, "sleep 0.5; exit 8")
    waiting = [rdock.start("wait", container, stdin=subprocess.DEVNULL, bufsize=0) for _ in range(5)]
    for command in waiting:
        assert command.communicate(timeout=30) == (b"8\n", b"")


def test_exec_while_it_ends(rdock: Rdock) -> None:
    """Whatever step of an exec meets the end of the container, it is told as that."""
    seen = set()
    for _ in range(12):
        container = started(rdock, "exec sleep 1000")
        commands = [rdock.start("exec", container, "true") for _ in range(4)]
        rdock.ok("kill", container)
        for command in commands:
            _, err = command.communicate(timeout=60)
            text = err.decode()
            if command.returncode == 0 or command.returncode == 137:
                continue
            assert text == f"rdock: cannot kill container: {container}: container {container} is not running\n", text
            seen.add(command.returncode)
    assert seen <= {1, 126}, seen


@pytest.mark.parametrize("command", [("stop", "-t", "0"), ("rm", "-f"), ("wait",)], ids=lambda words: words[0])
def test_a_client_that_does_not_read_is_not_waited_for(own_rdock: Rdock, command: tuple[str, ...]) -> None:
    """The monitor still has output for it, and lives on; the container has ended."""
    slow = own_rdock.start("run", "--name", "slow", "--network", "none", STARTER, "yes")
    wait_for(lambda: own_rdock.ok("ps", "-q"))
    time.sleep(1)
    if command == ("wait",):
        own_rdock.ok("kill", "slow")
    expected = "137" if command == ("wait",) else "slow"
    assert own_rdock.ok(*command, "slow", timeout=20) == expected
    out, _ = slow.communicate(timeout=60)
    assert out and slow.returncode == 137


def test_rm_while_the_monitor_is_held_up(own_rdock: Rdock) -> None:
    """rm waits for it, asleep; it does not ask again and again."""
    container = started(own_rdock, "exec sleep 100")
    found = json.loads((own_rdock.home.data / "containers" / container / "state.json").read_text())
    os.kill(found["MonitorPid"], signal.SIGSTOP)
    try:
        own_rdock.ok("kill", container)
        command = own_rdock.start("rm", "-f", container)
        time.sleep(2)
        assert command.poll() is None
        fields = Path(f"/proc/{command.pid}/stat").read_text().rpartition(")")[2].split()
        assert (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") < 0.7
    finally:
        os.kill(found["MonitorPid"], signal.SIGCONT)
    assert command.wait(20) == 0
    assert own_rdock.ok("ps", "-aq") == ""


def test_many_take_one_name(own_rdock: Rdock) -> None:
    """Of those who want a name at once one gets it, and the others hear so in Docker's words."""
    for _ in range(8):
        options = ("--rm", "--network", "none", "--name", "race")
        commands = [own_rdock.start("run", *options, STARTER, "true") for _ in range(4)]
        for command in commands:
            _, err = command.communicate(timeout=60)
            text = err.decode()
            assert (command.returncode, text) == (0, "") or (
                command.returncode == 125 and 'The container name "/race" is already in use by' in text
            ), text
    assert own_rdock.ok("ps", "-aq") == ""
    assert os.listdir(own_rdock.home.data / "containers" / ".names") == [".lock"]
