"""start, restart, pause, rename, update, top, port, prune: what each does to a container in each of its states."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time

import pytest

from tests.cli.conftest import wait_for
from tests.conftest import STARTER
from tests.program import Rdock, run_many

PLAIN = ("--network", "none")
# Ends at once when it is asked to, which a shell as process 1 does only with a trap.
SERVICE = ("sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done")


def running(rdock: Rdock, *options: str, words: tuple[str, ...] = SERVICE) -> str:
    return rdock.ok("run", "-d", *PLAIN, *options, STARTER, *words)


def shown(rdock: Rdock, container: str, template: str) -> str:
    return rdock.ok("inspect", "-f", template, container)


def status(rdock: Rdock, container: str) -> str:
    return shown(rdock, container, "{{.State.Status}}")


def await_log(rdock: Rdock, container: str, text: str, count: int = 1) -> None:
    wait_for(lambda: rdock.ok("logs", container).count(text) >= count, f"{count} times {text!r} in the log")


# -- every state, every command --------------------------------------------------------------------


def make(rdock: Rdock, state: str) -> str:
    """A container called `it` in one of Docker's states: its id."""
    if state == "created":
        return rdock.ok("create", "--name", "it", *PLAIN, STARTER, *SERVICE)
    if state == "restarting":
        container = running(rdock, "--name", "it", "--restart", "always", words=("false",))
        # Until the wait between two runs is long enough for a command.
        wait_for(lambda: int(shown(rdock, container, "{{.RestartCount}}")) >= 4)
        wait_for(lambda: status(rdock, container) == "restarting")
        return container
    container = running(rdock, "--name", "it")
    await_log(rdock, container, "up")
    if state == "paused":
        rdock.ok("pause", "it")
    elif state == "exited":
        rdock.ok("stop", "it")
    return container


NOT_RUNNING = "container {id} is not running"
IS_RESTARTING = "container {id} is restarting, wait until the container is running"
RM = 'cannot remove container "it": container is '
HOW = ": stop the container before removing or force remove"
NO_ATTACH = "cannot attach to a stopped container, start it first"
# Command → state → what it says; nothing if it does what it is asked to.
REFUSALS = {
    ("start", "it"): {"paused": "cannot start a paused container, try unpause instead"},
    ("stop", "it"): {},
    ("restart", "-t", "1", "it"): {},
    ("kill", "it"): dict.fromkeys(("created", "exited"), "cannot kill container: it: " + NOT_RUNNING),
    ("pause", "it"): {
        "created": NOT_RUNNING,
        "exited": NOT_RUNNING,
        "paused": "container {id} is already paused",
        "restarting": IS_RESTARTING,
    },
    ("unpause", "it"): dict.fromkeys(("created", "running", "exited", "restarting"), "container {id} is not paused"),
    ("rename", "it", "other"): {},
    ("update", "--restart", "no", "it"): {},
    ("top", "it"): {"created": NOT_RUNNING, "exited": NOT_RUNNING, "restarting": IS_RESTARTING},
    ("port", "it"): {},
    ("logs", "it"): {},
    ("exec", "it", "true"): {
        "created": NOT_RUNNING,
        "exited": NOT_RUNNING,
        "paused": "container {id} is paused, unpause the container before exec",
        "restarting": IS_RESTARTING,
    },
    ("attach", "it"): {
        "created": NO_ATTACH,
        "exited": NO_ATTACH,
        "paused": "cannot attach to a paused container, unpause it first",
        "restarting": "cannot attach to a restarting container, wait until it is running",
    },
    ("rm", "it"): {
        "running": RM + "running" + HOW,
        "paused": RM + "paused and must be unpaused first",
        "restarting": RM + "restarting" + HOW,
    },
    ("rm", "-f", "it"): {},
}
STATES = ("created", "running", "paused", "exited", "restarting")
# The state after a command that was not refused, where it is another than before.
AFTER = {
    "start": {"created": "running", "exited": "running"},
    "stop": {"running": "exited", "paused": "exited", "restarting": "exited"},
    "kill": {"running": "exited", "paused": "exited", "restarting": "exited"},
    "restart": {"created": "running", "paused": "running", "exited": "running"},
    "pause": {"running": "paused"},
    "unpause": {"paused": "running"},
    "update": {"restarting": "exited"},
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("words", REFUSALS, ids=" ".join)
def test_every_command_in_every_state(rdock: Rdock, words: tuple[str, ...], state: str) -> None:
    if words[0] == "attach" and state == "running":
        return  # it would stay; test_attach.py
    container = make(rdock, state)
    refusal = REFUSALS[words].get(state)
    result = rdock(*words, timeout=20)
    if refusal is not None:
        assert (result.code, result.out) == (1, ""), result
        last = f"rdock: failed to start containers: {words[-1]}\n" if words[0] == "start" else ""
        assert result.err == f"rdock: {refusal.format(id=container)}\n{last}", result
        expected = {state}
    else:
        assert (result.code, result.err) == (0, ""), result
        expected = {AFTER.get(words[0], {}).get(state, state)}
    if words[0] == "rm" and refusal is None:
        assert rdock.ok("ps", "-aq") == ""
        return
    if state == "restarting":
        # It goes round between running and restarting unless it was ended.
        if "exited" in expected:
            wait_for(lambda: status(rdock, container) == "exited")
            time.sleep(0.3)
        else:
            expected |= {"running"}
    if words[0] == "kill" and refusal is None:
        rdock.ok("wait", container)
    assert status(rdock, container) in expected


# -- start and restart -----------------------------------------------------------------------------


def test_start_keeps_the_log_the_files_and_the_identity(rdock: Rdock) -> None:
    container = running(rdock, "--name", "kept", words=("sh", "-c", "echo line >>/log; wc -l </log; exit 3"))
    assert rdock.ok("wait", container) == "3"
    first = json.loads(rdock.ok("inspect", container))[0]
    for count in (2, 3):
        assert rdock.ok("start", "kept") == "kept"
        assert rdock.ok("wait", "kept") == "3"
        assert rdock.ok("logs", "kept").split() == [str(n) for n in range(1, count + 1)]
    again = json.loads(rdock.ok("inspect", container))[0]
    assert again["Id"] == first["Id"] and again["Created"] == first["Created"] and again["RestartCount"] == 0
    assert again["State"]["StartedAt"] > first["State"]["StartedAt"]


def test_start_of_a_running_one_is_no_error(rdock: Rdock) -> None:
    container = running(rdock)
    pid = shown(rdock, container, "{{.State.Pid}}")
    assert rdock.ok("start", container, container) == f"{container}\n{container}"
    assert shown(rdock, container, "{{.State.Pid}}") == pid


def test_starts_at_once_make_one_run(rdock: Rdock) -> None:
    container = rdock.ok("create", *PLAIN, STARTER, "sh", "-c", "echo run; exec sleep 100")
    assert run_many([rdock.start("start", container, stdin=subprocess.DEVNULL) for _ in range(6)]) == [0] * 6
    await_log(rdock, container, "run")
    time.sleep(0.3)
    assert rdock.ok("logs", container) == "run"


def test_start_attached(rdock: Rdock) -> None:
    rdock.ok("create", "--name", "said", *PLAIN, STARTER, "sh", "-c", "echo out; echo err >&2; exit 7")
    for _ in range(2):
        result = rdock("start", "-a", "said")
        assert (result.code, result.out, result.err) == (7, "out\n", "err\n"), result
    rdock.ok("create", "--name", "copy", "-i", *PLAIN, STARTER, "cat")
    assert rdock("start", "-ai", "copy", input="given\n").out == "given\n"
    result = rdock("start", "-a", "said", "copy")
    assert (result.code, result.err) == (1, "rdock: you cannot start and attach multiple containers at once\n")


def test_start_attached_passes_signals_on(rdock: Rdock) -> None:
    rdock.ok("create", "--name", "asked", *PLAIN, STARTER, *SERVICE)
    client = rdock.start("start", "-a", "asked", stdin=subprocess.DEVNULL, bufsize=0)
    assert client.stdout and client.stdout.readline() == b"up\n"
    client.send_signal(signal.SIGTERM)
    client.communicate(timeout=20)
    assert client.returncode == 5


def test_start_of_what_cannot_run(rdock: Rdock) -> None:
    container = rdock.ok("create", *PLAIN, STARTER, "nosuchprogram")
    for words, code in ((("start",), 1), (("start", "-a"), 127)):
        result = rdock(*words, container)
        assert result.code == code and "nosuchprogram" in result.err, result
    assert status(rdock, container) == "created"
    assert shown(rdock, container, "{{.State.ExitCode}}") == "127"
    good = rdock.ok("create", *PLAIN, STARTER, "true")
    result = rdock("start", "nosuch", container, good)
    assert (result.code, result.out) == (1, good + "\n"), result


def test_restart_of_one_that_goes_with_its_process(rdock: Rdock) -> None:
    container = running(rdock, "--rm")
    await_log(rdock, container, "up")
    pid = shown(rdock, container, "{{.State.Pid}}")
    assert rdock.ok("restart", container) == container
    await_log(rdock, container, "up", 2)
    assert status(rdock, container) == "running" and shown(rdock, container, "{{.State.Pid}}") != pid
    rdock.ok("stop", container)
    assert rdock.ok("ps", "-aq") == ""


def test_restart_stops_by_signal_and_grace(rdock: Rdock) -> None:
    script = "trap 'echo TERM' TERM; trap 'echo USR1; exit 0' USR1; echo up; while :; do sleep 0.05; done"
    container = running(rdock, words=("sh", "-c", script))
    await_log(rdock, container, "up")
    begin = time.monotonic()
    rdock.ok("restart", "-t", "1", container)
    assert 1 <= time.monotonic() - begin < 5
    await_log(rdock, container, "up", 2)
    rdock.ok("restart", "-s", "USR1", container)
    await_log(rdock, container, "up", 3)
    assert rdock.ok("logs", container).split() == ["up", "TERM", "up", "USR1", "up"]


def test_wait_over_restarts(rdock: Rdock) -> None:
    container = running(rdock)
    await_log(rdock, container, "up")
    waiting = rdock.start("wait", container, stdin=subprocess.DEVNULL)
    time.sleep(0.3)
    rdock.ok("restart", container)
    assert waiting.communicate(timeout=20)[0] == b"5\n"  # the end that was waited for is the first
    await_log(rdock, container, "up", 2)
    again = rdock.start("wait", container, stdin=subprocess.DEVNULL)
    time.sleep(0.3)
    rdock.ok("kill", container)
    assert again.communicate(timeout=20)[0] == b"137\n"


def test_ports_after_a_restart(rdock: Rdock) -> None:
    script = "mkdir -p /www; echo page >/www/index.html; exec httpd -f -p 8080 -h /www"
    container = rdock.ok("run", "-d", "-p", "127.0.0.1:0:8080", "--name", "web", STARTER, "sh", "-c", script)

    def fetch() -> bool:
        address = rdock.ok("port", "web", "8080")
        host, _, port = address.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return b"page" in b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError:
            return False

    wait_for(fetch, "an answer")
    rdock.ok("restart", "-t", "0", "web")
    wait_for(fetch, "an answer after a restart")
    assert rdock.ok("port", "web").startswith("8080/tcp -> 127.0.0.1:")
    result = rdock("port", "web", "9")
    assert (result.code, result.err) == (1, "rdock: no public port '9/tcp' published for web\n"), result
    rdock.ok("stop", "-t", "0", container)
    assert rdock.ok("port", "web") == ""


# -- pause -----------------------------------------------------------------------------------------


def test_pause_stops_everything(rdock: Rdock) -> None:
    container = running(rdock, words=("sh", "-c", "n=0; while :; do echo $n; n=$((n+1)); sleep 0.01; done"))
    await_log(rdock, container, "3")
    rdock.ok("pause", container)
    time.sleep(0.1)
    before = rdock.ok("logs", container)
    time.sleep(0.4)
    assert rdock.ok("logs", container) == before
    assert shown(rdock, container, "{{.State.Paused}} {{.State.Running}}") == "true true"
    assert rdock.ok("ps", "--format", "{{.Status}}").endswith("(Paused)")
    rdock.ok("unpause", container)
    wait_for(lambda: len(rdock.ok("logs", container)) > len(before), "it goes on")
    lines = rdock.ok("logs", container).split()
    assert lines == [str(n) for n in range(len(lines))]


@pytest.mark.parametrize("words,code", [(("stop", "-t", "5"), "5"), (("kill",), "137"), (("kill", "-s", "TERM"), "5")])
def test_ends_of_a_paused_one(rdock: Rdock, words: tuple[str, ...], code: str) -> None:
    container = running(rdock)
    await_log(rdock, container, "up")
    rdock.ok("pause", container)
    begin = time.monotonic()
    rdock.ok(*words, container)
    assert rdock.ok("wait", container) == code
    assert time.monotonic() - begin < 5
    assert shown(rdock, container, "{{.State.Status}} {{.State.Paused}}") == "exited false"


def test_process_that_forks_while_it_is_paused(rdock: Rdock) -> None:
    container = running(rdock, words=("sh", "-c", "while :; do sh -c 'sh -c true & true & wait'; done"))
    for _ in range(3):
        rdock.ok("pause", container)
        assert status(rdock, container) == "paused"
        rdock.ok("unpause", container)
    rdock.ok("rm", "-f", container)


# -- kill ------------------------------------------------------------------------------------------


def test_every_signal_by_number_and_name(rdock: Rdock) -> None:
    """Process 1 tells which it got; 9 and 19 cannot be caught, and 32 and 33 are the C library's."""
    caught = [n for n in range(1, 65) if n not in (9, 19, 17, 32, 33)]
    script = "".join(f"trap 'echo got-{n}-' {n};" for n in caught) + "echo up; while :; do sleep 0.02; done"
    container = running(rdock, "--stop-signal", "KILL", words=("sh", "-c", script))
    await_log(rdock, container, "up")
    names = {n: signal.Signals(n).name for n in caught if n < 32}
    names |= {n: f"RTMIN+{n - signal.SIGRTMIN}" if n > signal.SIGRTMIN else "SIGRTMIN" for n in caught if n > 33}
    spellings = [names[n] if n % 2 else str(n) for n in caught]
    for part in (spellings[::3], spellings[1::3], spellings[2::3]):
        commands = [rdock.start("kill", "-s", each, container, stdin=subprocess.DEVNULL) for each in part]
        assert run_many(commands) == [0] * len(part)
    everything = {f"got-{n}-" for n in caught}
    wait_for(lambda: everything <= set(rdock.ok("logs", container).split()), "every signal has come")
    for wrong in ("0", "65", "NOSUCH", "-1", "RTMIN+31", "RTMAX+1", "", "KILL+1"):
        result = rdock("kill", f"--signal={wrong}", container)
        assert result.code == 1 and result.err == f"rdock: invalid signal: {wrong}\n", result
    assert status(rdock, container) == "running"
    rdock.ok("kill", "-s", "sigkill", container)
    assert rdock.ok("wait", container) == "137"


# -- names, labels, policies -----------------------------------------------------------------------


def test_renames_to_one_name(rdock: Rdock) -> None:
    made = [rdock.ok("create", *PLAIN, STARTER, "true") for _ in range(5)]
    codes = run_many([rdock.start("rename", made[n % 5], "wanted", stdin=subprocess.DEVNULL) for n in range(20)])
    names = rdock.ok("ps", "-a", "--format", "{{.Names}}").split()
    assert names.count("wanted") == 1 and len(set(names)) == 5
    assert codes.count(0) == 1
    links = {entry.name: os.readlink(entry) for entry in os.scandir(rdock.home.data / "containers/.names")
             if entry.is_symlink()}  # fmt: skip
    assert set(links) == set(names) and set(links.values()) == set(made)


def test_rename_refusals(rdock: Rdock) -> None:
    one = rdock.ok("create", "--name", "one", *PLAIN, STARTER, "true")
    rdock.ok("create", "--name", "two", *PLAIN, STARTER, "true")
    taken = (
        f'Conflict. The container name "/one" is already in use by container "{one}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    for words, message in (
        (("two", "one"), taken),
        (("one", "one"), "Renaming a container with the same name as its current name"),
        (("one", ""), "Neither old nor new names may be empty"),
        (("one", "a b"), "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        (("nosuch", "new"), "No such container: nosuch"),
    ):
        result = rdock("rename", *words)
        assert result.code == 1 and message in result.err, result
    assert rdock.ok("rename", "one", "new") == ""
    assert rdock.ok("inspect", "-f", "{{.Name}}", "new") == "/new"
    assert rdock("inspect", "one").code == 1
    rdock.ok("create", "--name", "one", *PLAIN, STARTER, "true")  # the old name is free


def test_rename_that_was_killed(rdock: Rdock) -> None:
    """It has noted whose names it was changing; the next command that changes something looks at that."""
    container = rdock.ok("create", "--name", "recorded", *PLAIN, STARTER, "true")
    names = rdock.home.data / "containers/.names"
    half_written = rdock.home.data / "containers" / container / "container.json.99.tmp"
    half_written.write_text("{")
    (names / "half").symlink_to(container)
    (names / ".lock").write_text(container)
    rdock.ok("run", "--rm", *PLAIN, STARTER, "true")
    assert sorted(os.listdir(names)) == [".lock", "recorded"] and (names / ".lock").read_text() == ""
    assert not half_written.exists()
    rdock.ok("rename", "recorded", "half")
    rdock.ok("rm", "half")
    (names / ".lock").write_text(container)  # it was removed meanwhile
    rdock.ok("run", "--rm", *PLAIN, STARTER, "true")
    assert (names / ".lock").read_text() == ""


def test_rename_of_a_running_one(rdock: Rdock) -> None:
    container = running(rdock, "--rm", "--name", "before")
    await_log(rdock, container, "up")
    rdock.ok("rename", "before", "after")
    assert rdock.ok("exec", "after", "echo", "reached") == "reached"
    rdock.ok("stop", "after")
    assert rdock.ok("ps", "-aq") == ""
    assert not [name for name in os.listdir(rdock.home.data / "containers/.names") if name != ".lock"]


def labels_of(rdock: Rdock, container: str) -> dict[str, str]:
    """Without those of the image."""
    found: dict[str, str] = json.loads(shown(rdock, container, "{{json .Config.Labels}}"))
    return {name: value for name, value in found.items() if "." not in name}


def test_update(rdock: Rdock) -> None:
    container = running(rdock, "--label", "a=1", "--label", "b=2")
    assert rdock.ok("update", "--label", "b=3", "--restart", "on-failure:4", container) == container
    assert labels_of(rdock, container) == {"a": "1", "b": "3"}
    assert json.loads(shown(rdock, container, "{{json .HostConfig.RestartPolicy}}")) == {
        "Name": "on-failure", "MaximumRetryCount": 4,
    }  # fmt: skip
    rdock.ok("restart", "-t", "0", container)
    assert labels_of(rdock, container) == {"a": "1", "b": "3"}
    result = rdock("update", container)
    assert (result.code, result.err) == (1, "rdock: you must provide one or more flags when using this command\n")
    result = rdock("update", "--restart", "sometimes", container)
    assert result.code == 1 and "sometimes" in result.err
    passing = running(rdock, "--rm")
    result = rdock("update", "--restart", "always", passing)
    assert result.code == 1 and "AutoRemove is enabled" in result.err, result


def test_updates_at_once(rdock: Rdock) -> None:
    container = rdock.ok("create", *PLAIN, STARTER, "true")
    commands = [rdock.start("update", "--label", f"l{n}={n}", container, stdin=subprocess.DEVNULL) for n in range(12)]
    assert run_many(commands) == [0] * 12
    assert labels_of(rdock, container) == {f"l{n}": str(n) for n in range(12)}


def test_latest(rdock: Rdock) -> None:
    rdock.ok("create", "--name", "older", *PLAIN, STARTER, *SERVICE)
    newer = rdock.ok("create", "--name", "newer", *PLAIN, STARTER, *SERVICE)
    for words in (("start",), ("pause",), ("unpause",), ("restart", "-t", "0"), ("stop", "-t", "0")):
        if words[0] in ("pause", "unpause"):
            rdock.ok(*words, newer)
        else:
            assert rdock.ok(*words, "--latest") == newer
    assert shown(rdock, "newer", "{{.State.Status}}") == "exited"
    assert shown(rdock, "older", "{{.State.Status}}") == "created"
    result = rdock("start", "--latest", "older")
    assert result.code == 125 and "--latest and containers cannot be used together" in result.err


# -- top and prune ---------------------------------------------------------------------------------


def test_top(rdock: Rdock) -> None:
    container = running(rdock, words=("sh", "-c", "sleep 1000 & exec sleep 2000"))
    lines = rdock.ok("top", container).splitlines()
    assert lines[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert sorted(line.split(None, 7)[7].rstrip() for line in lines[1:]) == ["sleep 1000", "sleep 2000"]
    lines = rdock.ok("top", container, "-o", "pid,comm").splitlines()
    assert lines[0].split() == ["PID", "COMMAND"] and {line.split()[1] for line in lines[1:]} == {"sleep"}
    result = rdock("top", container, "-o", "comm")
    assert result.code == 1 and "Couldn't find PID field in ps output" in result.err
    rdock.ok("pause", container)
    assert len(rdock.ok("top", container).splitlines()) == 3


def test_prune(rdock: Rdock) -> None:
    runs = running(rdock)
    paused = running(rdock)
    rdock.ok("pause", paused)
    ended = running(rdock, "--label", "of=test", words=("sh", "-c", "head -c 100000 /dev/zero >/file"))
    rdock.ok("wait", ended)
    created = rdock.ok("create", *PLAIN, STARTER, "true")
    result = rdock("container", "prune", input="n\n")
    assert result.code == 0 and "WARNING! This will remove all stopped containers." in result.out, result
    assert len(rdock.ok("ps", "-aq").split()) == 4
    assert ended in rdock.ok("container", "prune", "-f", "--filter", "label=of=test")
    out = rdock.ok("container", "prune", "--force")
    assert out.splitlines() == ["Deleted Containers:", created, "", "Total reclaimed space: 0B"]
    assert set(rdock.ok("ps", "-aq", "--no-trunc").split()) == {runs, paused}
    assert rdock.ok("container", "prune", input="y\n").endswith("Total reclaimed space: 0B")
    result = rdock("container", "prune", "-f", "--filter", "name=x")
    assert result.code == 1 and "invalid filter 'name'" in result.err
