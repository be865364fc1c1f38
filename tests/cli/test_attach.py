"""attach: several at one container, its terminal and keys, its exit code; the caller's terminal on every way out."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import wait_for
from tests.cli.terminal import Terminal
from tests.conftest import STARTER
from tests.program import Rdock

PLAIN = ("--network", "none")
SERVICE = "trap 'exit 5' TERM; trap 'echo INT' INT; echo up; while :; do sleep 0.05; done"
# Answers each line, at a terminal or not.
ANSWERS = "echo up; while read line; do case $line in end) exit 3;; size) stty size;; *) echo got-$line;; esac; done"
KEYS = "\x10\x11"


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """A stream that nobody closes is a failure, not a hang."""

    def complain(*_: object) -> None:
        raise TimeoutError("the test hangs")

    signal.signal(signal.SIGALRM, complain)
    signal.alarm(60)
    yield
    signal.alarm(0)


def started(rdock: Rdock, script: str, *options: str) -> str:
    container = rdock.ok("run", "-d", "--name", "box", *PLAIN, *options, STARTER, "sh", "-c", script)
    if "echo up" in script:
        wait_for(lambda: "up" in rdock.ok("logs", container))
    return container


def record(rdock: Rdock, container: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((rdock.home.data / "containers" / container / "state.json").read_text())
    return found


def is_raw(terminal: Terminal) -> bool:
    return terminal.settings() != terminal.before


def await_attached(terminal: Terminal) -> None:
    wait_for(lambda: is_raw(terminal), "the terminal is raw")


# -- streams ---------------------------------------------------------------------------------------


def test_output_and_exit_code(rdock: Rdock) -> None:
    container = started(rdock, "echo up; sleep 0.8; echo out; echo err >&2; exit 7")
    result = rdock("attach", container)
    assert (result.code, result.out, result.err) == (7, "out\n", "err\n"), result


def test_several_at_once(rdock: Rdock) -> None:
    started(rdock, "echo up; sleep 1; seq 1 500; exit 4", "-i")
    clients = [rdock.start("attach", "box", stdin=subprocess.DEVNULL) for _ in range(5)]
    expected = b"".join(b"%d\n" % n for n in range(1, 501))
    for client in clients:
        assert client.communicate(timeout=20)[0] == expected
        assert client.returncode == 4


def test_input_piped_and_closed(rdock: Rdock) -> None:
    container = started(rdock, "echo up; cat; echo end; exit 2", "-i")
    client = rdock.start("attach", "box", bufsize=0)
    assert client.stdin and client.stdout
    client.stdin.write(b"one\n")
    assert client.stdout.readline() == b"one\n"
    client.stdin.close()
    assert client.stdout.read() == b"end\n" and client.wait(20) == 2
    assert rdock.ok("logs", container).split() == ["up", "one", "end"]


def test_no_stdin(rdock: Rdock) -> None:
    started(rdock, "echo up; while read line; do echo $line; done; echo end", "-i")
    client = rdock.start("attach", "--no-stdin", "box")
    out, _ = client.stdout, client.stdin and client.stdin.write(b"unheard\n")
    time.sleep(0.5)
    assert rdock("attach", "box", input="heard\n").out == "heard\nend\n"
    assert out and out.read() == b"heard\nend\n" and client.wait(20) == 0


def test_input_is_not_for_one_without(rdock: Rdock) -> None:
    """Without -i there is nowhere to put it; /dev/null ends at once."""
    container = started(rdock, "read line; echo up; sleep 0.7; echo got $line")
    assert rdock("attach", container, input="word\n").out == "got\n"


def test_a_mebibyte_both_ways(rdock: Rdock) -> None:
    data = os.urandom(1 << 20)
    container = started(rdock, "cat", "-i")
    result = subprocess.run(rdock.argv("attach", container), input=data, capture_output=True,
                            env=rdock.environment(), timeout=50)  # fmt: skip
    assert result.returncode == 0 and result.stderr == b""
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()


def test_refusals(rdock: Rdock) -> None:
    created = rdock.ok("create", *PLAIN, STARTER, "true")
    held = started(rdock, SERVICE)
    rdock.ok("pause", held)
    for words, says in (
        ((created,), "cannot attach to a stopped container, start it first"),
        ((held,), "cannot attach to a paused container, unpause it first"),
        (("nosuch",), "No such container: nosuch"),
        (("--detach-keys", "ctrl-", held), "Unknown character: 'ctrl-'"),
    ):
        result = rdock("attach", *words)
        assert (result.code, result.out) == (1, "") and says in result.err, result


# -- signals ---------------------------------------------------------------------------------------


def test_signals_are_for_the_container(rdock: Rdock) -> None:
    started(rdock, SERVICE)
    client = rdock.start("attach", "box", stdin=subprocess.DEVNULL, bufsize=0)
    time.sleep(0.4)
    client.send_signal(signal.SIGINT)
    assert client.stdout and client.stdout.readline() == b"INT\n"
    client.send_signal(signal.SIGTERM)
    assert client.wait(20) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_without_sig_proxy(rdock: Rdock, number: signal.Signals) -> None:
    container = started(rdock, SERVICE)
    client = rdock.start("attach", "--sig-proxy=false", "box", stdin=subprocess.DEVNULL)
    time.sleep(0.4)
    client.send_signal(number)
    assert client.wait(20) == (130 if number == signal.SIGINT else -number) or client.returncode == -number
    assert rdock.ok("inspect", "-f", "{{.State.Running}}", container) == "true"
    assert "INT" not in rdock.ok("logs", container)


# -- terminals -------------------------------------------------------------------------------------


def test_attach_detach_and_again(rdock: Rdock) -> None:
    started(rdock, ANSWERS, "-it")
    for word in ("one", "two"):
        with Terminal(rdock, "attach", "box") as terminal:
            await_attached(terminal)
            terminal.type(f"{word}\n")
            terminal.await_text(f"got-{word}")
            terminal.type(KEYS)
            assert terminal.end() == 1
            assert "read escape sequence" in terminal.seen.decode()
            assert not is_raw(terminal)
    with Terminal(rdock, "attach", "box") as terminal:
        await_attached(terminal)
        terminal.type("end\n")
        assert terminal.end() == 3


@pytest.mark.parametrize("command", ["run", "start", "attach", "exec"])
@pytest.mark.parametrize(("keys", "typed"), [("", KEYS), ("ctrl-a", "\x01"), ("q,ctrl-x,z", "q\x18z")])
def test_detach_keys(rdock: Rdock, command: str, keys: str, typed: str) -> None:
    option = ("--detach-keys", keys) if keys else ()
    if command == "run":
        words = ("run", "-it", *option, "--name", "box", *PLAIN, STARTER, "sh", "-c", ANSWERS)
    elif command == "start":
        rdock.ok("create", "-it", "--name", "box", *PLAIN, STARTER, "sh", "-c", ANSWERS)
        words = ("start", "-ai", *option, "box")
    else:
        started(rdock, ANSWERS, "-it")
        words = (
            ("attach", *option, "box") if command == "attach" else ("exec", "-it", *option, "box", "sh", "-c", ANSWERS)
        )
    with Terminal(rdock, *words) as terminal:
        await_attached(terminal)
        if command != "attach":
            terminal.await_text("up")
        terminal.type(typed[:1] + "a\n")  # the beginning of the keys, and then something else
        terminal.type("here\n")
        terminal.await_text("got-here")
        terminal.type(typed)
        # Docker: run and start end well, attach and exec say what has happened.
        assert terminal.end() == (0 if command in ("run", "start") else 1), terminal.seen
        assert ("read escape sequence" in terminal.seen.decode()) == (command in ("attach", "exec"))
        assert not is_raw(terminal)
    assert rdock.ok("inspect", "-f", "{{.State.Running}}", "box") == "true"


def test_keys_that_are_not_asked_for(rdock: Rdock) -> None:
    """With keys of one's own the default ones are input as any."""
    started(rdock, "echo up; stty raw; od -An -tx1 -N2; sleep 100", "-it")
    with Terminal(rdock, "attach", "--detach-keys", "ctrl-a", "box") as terminal:
        await_attached(terminal)
        terminal.type(KEYS)
        terminal.await_text("10 11")


def test_size_at_the_start_and_after_a_change(rdock: Rdock) -> None:
    started(rdock, ANSWERS, "-it")
    with Terminal(rdock, "attach", "box", rows=31, columns=101) as terminal:
        await_attached(terminal)
        terminal.type("size\n")
        terminal.await_text("31 101")
        terminal.resize(40, 120)
        time.sleep(0.3)
        terminal.type("size\n")
        terminal.await_text("40 120")


def test_two_terminals_see_the_same(rdock: Rdock) -> None:
    started(rdock, ANSWERS, "-it")
    with Terminal(rdock, "attach", "box") as one, Terminal(rdock, "attach", "box") as two:
        await_attached(one)
        await_attached(two)
        one.type("first\n")
        for each in (one, two):
            each.await_text("got-first")
        two.type("second\n")
        for each in (one, two):
            each.await_text("got-second")
        one.type("end\n")
        assert (one.end(), two.end()) == (3, 3)


def end_of_program(rdock: Rdock, terminal: Terminal, container: str) -> None:
    terminal.type("end\n")


def end_by_keys(rdock: Rdock, terminal: Terminal, container: str) -> None:
    terminal.type(KEYS)


def kill_client(number: signal.Signals) -> Any:
    def kill(rdock: Rdock, terminal: Terminal, container: str) -> None:
        terminal.process.send_signal(number)
        time.sleep(0.3)
        terminal.process.kill()  # a signal is for the container, and this one does not mind

    return kill


def kill_container(rdock: Rdock, terminal: Terminal, container: str) -> None:
    rdock.ok("kill", container)


def kill_process_1(rdock: Rdock, terminal: Terminal, container: str) -> None:
    os.kill(record(rdock, container)["Pid"], signal.SIGKILL)


def kill_monitor_and_keeper(rdock: Rdock, terminal: Terminal, container: str) -> None:
    found = record(rdock, container)
    os.kill(found["KeeperPid"], signal.SIGKILL)
    os.kill(found["MonitorPid"], signal.SIGKILL)


def remove(rdock: Rdock, terminal: Terminal, container: str) -> None:
    rdock.ok("rm", "-f", container)


@pytest.mark.parametrize(
    ("way", "code"),
    [
        (end_of_program, 3),
        (end_by_keys, 1),
        (kill_client(signal.SIGKILL), -9),
        (kill_client(signal.SIGTERM), None),
        (kill_client(signal.SIGINT), None),
        (kill_client(signal.SIGHUP), None),
        (kill_client(signal.SIGQUIT), None),
        (kill_container, 137),
        (kill_process_1, 137),
        (kill_monitor_and_keeper, 1),
        (remove, 137),
    ],
    ids=["end", "keys", "KILL", "TERM", "INT", "HUP", "QUIT", "kill", "process1", "monitor", "rm"],
)
@pytest.mark.parametrize("proxy", [True, False])
def test_terminal_is_put_back(rdock: Rdock, way: Any, code: int | None, proxy: bool) -> None:
    container = started(rdock, ANSWERS, "-it")
    with Terminal(rdock, "attach", f"--sig-proxy={str(proxy).lower()}", "box") as terminal:
        await_attached(terminal)
        way(rdock, terminal, container)
        ended = terminal.end()
        assert code is None or ended == code, terminal.seen
        wait_for(lambda: not is_raw(terminal), "the terminal is as before", 5)


@pytest.mark.parametrize("options", [("-it",), ("--rm", "-it")], ids=" ".join)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_terminal_of_run_is_put_back(rdock: Rdock, options: tuple[str, ...], number: signal.Signals) -> None:
    with Terminal(rdock, "run", *options, "--name", "box", *PLAIN, STARTER, "sh", "-c", ANSWERS) as terminal:
        terminal.await_text("up")
        await_attached(terminal)
        terminal.process.send_signal(number)
        time.sleep(0.3)
        terminal.process.kill()
        terminal.end()
        wait_for(lambda: not is_raw(terminal), "the terminal is as before", 5)


def test_terminal_that_is_closed(rdock: Rdock) -> None:
    """The window is gone: the client goes, with its guard, and the container stays."""
    container = started(rdock, ANSWERS, "-it")
    terminal = Terminal(rdock, "attach", "box")
    await_attached(terminal)
    os.close(terminal.slave)
    os.close(terminal.master)
    terminal.process.wait(20)
    assert rdock.ok("inspect", "-f", "{{.State.Running}}", container) == "true"
    wait_for(lambda: not names(rdock, "rdock-terminal"), "the guard has ended")


def names(rdock: Rdock, comm: str) -> list[int]:
    found = []
    for line in rdock.home.processes():
        try:
            if Path(f"/proc/{line.split()[0]}/comm").read_text().strip() == comm:
                found.append(int(line.split()[0]))
        except OSError:
            continue
    return found


def test_terminal_without_input(rdock: Rdock) -> None:
    """A terminal of the container's needs none of the caller's: what it shows is passed on as it is."""
    container = started(rdock, "echo up; sleep 1; echo shown; exit 2", "-t")
    result = rdock("attach", container)
    assert (result.code, result.out) == (2, "shown\r\n"), result


def test_run_that_restarts_under_an_attached_one(rdock: Rdock) -> None:
    """Docker's client ends with the run that it was attached to."""
    rdock.ok(
        "run", "-d", "--name", "box", "--restart", "always", *PLAIN, STARTER, "sh", "-c", "sleep 1; echo o; exit 8"
    )
    result = rdock("attach", "box")
    assert (result.code, result.out) == (8, "o\n"), result


# -- for long --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_thousand_times(rdock: Rdock) -> None:
    """The monitor has as many descriptors as before, and hardly more memory."""
    container = started(rdock, "echo up; while :; do echo tick; sleep 0.05; done", "-i")
    signal.alarm(400)

    def facts() -> tuple[int, int]:
        pid = record(rdock, container)["MonitorPid"]
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        memory = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
        return len(os.listdir(f"/proc/{pid}/fd")), memory

    def attach_often(count: int) -> None:
        for _ in range(count):
            client = rdock.start("attach", "box", stdin=subprocess.DEVNULL, bufsize=0)
            assert client.stdout and client.stdout.readline() == b"tick\n"
            client.kill()
            client.communicate()

    attach_often(20)
    wait_for(lambda: facts()[0] < 40)
    before = facts()
    threads = [threading.Thread(target=attach_often, args=(250,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: facts()[0] <= before[0], f"descriptors: {before} became {facts()}")
    assert facts()[1] < before[1] + 1024, (before, facts())
