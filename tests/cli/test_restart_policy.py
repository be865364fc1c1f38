"""Restart policies: what starts a container again by itself, when, and what ends that for good."""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path

import pytest

from rdock.state import timestamp
from tests.cli.conftest import wait_for
from tests.conftest import STARTER
from tests.program import Rdock

PLAIN = ("--network", "none")
# Counts its runs where they can be read from outside.
COUNT = "echo run; sleep 0.02; exit {0}"


def policy(rdock: Rdock, restart: str, script: str, *options: str) -> str:
    return rdock.ok("run", "-d", "--restart", restart, *PLAIN, *options, STARTER, "sh", "-c", script)


def state(rdock: Rdock, container: str) -> tuple[str, int, int]:
    """Status, exit code, restart count."""
    text = rdock.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}", container)
    status, code, count = text.split()
    return status, int(code), int(count)


def runs(rdock: Rdock, container: str) -> int:
    return rdock.ok("logs", container).split().count("run")


def stays_ended(rdock: Rdock, container: str, seconds: float = 0.8) -> None:
    wait_for(lambda: state(rdock, container)[0] == "exited", "it has ended")
    before = runs(rdock, container)
    time.sleep(seconds)
    assert state(rdock, container)[0] == "exited" and runs(rdock, container) == before


def await_restarts(rdock: Rdock, container: str, count: int) -> None:
    wait_for(lambda: state(rdock, container)[2] >= count, f"{count} restarts")


def await_pause_between_runs(rdock: Rdock, container: str) -> None:
    """The fifth wait is of 1.6 seconds, which is enough for a command."""
    await_restarts(rdock, container, 4)
    wait_for(lambda: state(rdock, container)[0] == "restarting")


@pytest.mark.parametrize("name", ["always", "unless-stopped"])
@pytest.mark.parametrize("code", [0, 3])
def test_always(rdock: Rdock, name: str, code: int) -> None:
    container = policy(rdock, name, COUNT.format(code))
    await_restarts(rdock, container, 2)
    wait_for(lambda: runs(rdock, container) >= 3)
    wait_for(lambda: state(rdock, container)[0] == "restarting")
    assert state(rdock, container)[1] == code
    assert rdock.ok("ps", "--format", "{{.Status}}").startswith((f"Restarting ({code}) ", "Up "))
    rdock.ok("stop", container)
    stays_ended(rdock, container)


def test_on_failure(rdock: Rdock) -> None:
    good = policy(rdock, "on-failure", COUNT.format(0))
    bad = policy(rdock, "on-failure:2", COUNT.format(3))
    assert rdock.ok("wait", good, bad) == "0\n3"
    assert (state(rdock, good), runs(rdock, good)) == (("exited", 0, 0), 1)
    assert (state(rdock, bad), runs(rdock, bad)) == (("exited", 3, 2), 3)
    rdock.ok("start", bad)  # counts anew
    assert rdock.ok("wait", bad) == "3"
    assert (state(rdock, bad), runs(rdock, bad)) == (("exited", 3, 2), 6)


def test_on_failure_until_it_succeeds(rdock: Rdock) -> None:
    container = policy(rdock, "on-failure", "echo run >>/runs; test $(wc -l </runs) = 3")
    assert rdock.ok("wait", container) == "0"
    assert state(rdock, container) == ("exited", 0, 2)


def test_delay_grows(rdock: Rdock) -> None:
    container = policy(rdock, "always", "echo run")
    await_restarts(rdock, container, 4)
    rdock.ok("stop", container)
    stamps = [timestamp.to_ns(line.split()[0]) / 1e9 for line in rdock.ok("logs", "-t", container).splitlines()]
    gaps = [after - before for before, after in itertools.pairwise(stamps)]
    for gap, least in zip(gaps, (0.1, 0.2, 0.4, 0.8), strict=False):
        assert least <= gap < least + 0.6, gaps


def test_listed_between_two_runs(rdock: Rdock) -> None:
    container = policy(rdock, "always", "exit 3", "--name", "round")
    await_pause_between_runs(rdock, container)
    listed = rdock.ok("ps", "--format", "{{.Names}} {{.Status}}")
    assert listed.startswith("round Restarting (3) ") and listed.endswith(" ago"), listed
    found = json.loads(rdock.ok("inspect", container))[0]["State"]
    assert found["Status"] == "restarting" and found["Restarting"] and found["Running"] and not found["Paused"]
    assert found["Pid"] == 0 and found["ExitCode"] == 3
    assert rdock.ok("ps", "-q", "--filter", "status=restarting") == container[:12]


@pytest.mark.parametrize("words", [("stop",), ("kill",), ("rm", "-f")], ids=" ".join)
def test_ended_between_two_runs(rdock: Rdock, words: tuple[str, ...]) -> None:
    container = policy(rdock, "always", COUNT.format(1))
    await_pause_between_runs(rdock, container)
    begin = time.monotonic()
    assert rdock.ok(*words, container) == container
    assert time.monotonic() - begin < 1.2  # the wait itself is not waited for
    if words[0] == "rm":
        assert rdock.ok("ps", "-aq") == ""
    else:
        stays_ended(rdock, container, 1.8)


@pytest.mark.parametrize("words", [("stop", "-t", "0"), ("kill",), ("kill", "-s", "TERM"), ("rm", "-f")], ids=" ".join)
def test_ended_while_it_runs(rdock: Rdock, words: tuple[str, ...]) -> None:
    container = policy(rdock, "always", "trap 'exit 2' TERM; echo run; while :; do sleep 0.02; done")
    wait_for(lambda: runs(rdock, container) == 1)
    rdock.ok(*words, container)
    if words[0] == "rm":
        assert rdock.ok("ps", "-aq") == ""
    else:
        stays_ended(rdock, container)
        assert state(rdock, container)[2] == 0
        # A start is a new beginning: the policy is in force again.
        rdock.ok("start", container)
        pid = int(rdock.ok("inspect", "-f", "{{.State.Pid}}", container))
        wait_for(lambda: runs(rdock, container) == 2)
        os.kill(pid, 9)
        wait_for(lambda: runs(rdock, container) == 3, "it is started again")


def test_killed_from_outside_or_inside_is_a_failure(rdock: Rdock) -> None:
    container = policy(rdock, "on-failure", "echo run; exec sleep 1000")
    wait_for(lambda: runs(rdock, container) == 1)
    os.kill(int(rdock.ok("inspect", "-f", "{{.State.Pid}}", container)), 9)
    wait_for(lambda: runs(rdock, container) == 2)
    assert state(rdock, container)[2] == 1


def test_signal_that_is_not_the_stop_signal(rdock: Rdock) -> None:
    """Docker: one that has a stop signal of its own is ended for good by that and SIGKILL only."""
    container = policy(rdock, "always", "trap 'exit 2' USR1; echo run; while :; do sleep 0.02; done",
                       "--stop-signal", "TERM")  # fmt: skip
    wait_for(lambda: runs(rdock, container) == 1)
    rdock.ok("kill", "-s", "USR1", container)
    wait_for(lambda: runs(rdock, container) == 2, "it is started again")
    rdock.ok("kill", container)
    stays_ended(rdock, container)


def test_update_ends_and_begins_it(rdock: Rdock) -> None:
    container = policy(rdock, "always", COUNT.format(1))
    await_restarts(rdock, container, 1)
    rdock.ok("update", "--restart", "no", container)
    stays_ended(rdock, container, 1.0)
    held = rdock.ok("run", "-d", *PLAIN, STARTER, "sh", "-c", "echo run; exec sleep 1000")
    rdock.ok("update", "--restart", "always", held)
    wait_for(lambda: runs(rdock, held) == 1)
    os.kill(int(rdock.ok("inspect", "-f", "{{.State.Pid}}", held)), 9)
    wait_for(lambda: runs(rdock, held) == 2)


def test_ports_and_names_are_there_in_every_run(rdock: Rdock) -> None:
    container = rdock.ok("run", "-d", "--restart", "always", "-p", "127.0.0.1:0:80", "--name", "served", STARTER,
                         "sh", "-c", "echo run; exec sleep 1000")  # fmt: skip
    for count in (1, 2):
        wait_for(lambda n=count: runs(rdock, container) == n)  # type: ignore[misc]
        assert rdock.ok("port", "served", "80").startswith("127.0.0.1:")
        assert rdock.ok("exec", "served", "hostname") == container[:12]
        os.kill(int(rdock.ok("inspect", "-f", "{{.State.Pid}}", container)), 9)


def test_program_that_vanishes(rdock: Rdock) -> None:
    """A run that cannot begin ends it; Docker says why in State.Error."""
    container = rdock.ok("run", "-d", "--restart", "always", *PLAIN, STARTER, "sh", "-c",
                         "cp /bin/busybox /bb; rm /bin/sh; exec /bb sleep 0.2")  # fmt: skip
    wait_for(lambda: state(rdock, container)[0] == "exited")
    assert state(rdock, container)[1] == 127
    assert "sh" in rdock.ok("inspect", "-f", "{{.State.Error}}", container)


def test_refusals(rdock: Rdock) -> None:
    for text, says in (
        ("sometimes", "unknown policy 'sometimes'"),
        ("always:3", "maximum retry count can only be used with 'on-failure'"),
        ("on-failure:x", "maximum retry count must be an integer"),
        ("on-failure:-1", "maximum retry count cannot be negative"),
        (":3", "no policy provided before colon"),
    ):
        result = rdock("run", "--restart", text, STARTER, "true")
        assert result.code == 125 and says in result.err, result
    result = rdock("run", "--rm", "--restart", "always", STARTER, "true")
    assert result.code == 125 and "cannot specify both --restart and --rm" in result.err
    assert rdock.ok("ps", "-aq") == ""


@pytest.mark.slow
def test_many_restarts_leak_nothing(rdock: Rdock) -> None:
    """The monitor has as many descriptors, and no child more, after nine runs that others have ended."""
    container = policy(rdock, "always", "echo run; exec sleep 1000")

    def facts() -> tuple[int, int, int]:
        record = json.loads((rdock.home.data / "containers" / container / "state.json").read_text())
        found = []
        for pid in (record["MonitorPid"], record["KeeperPid"]):
            found.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        children = Path(f"/proc/{record['MonitorPid']}/task/{record['MonitorPid']}/children").read_text().split()
        return found[0], found[1], len(children)

    wait_for(lambda: runs(rdock, container) == 1)
    before = facts()
    for count in range(2, 10):
        os.kill(int(rdock.ok("inspect", "-f", "{{.State.Pid}}", container)), 9)
        wait_for(lambda n=count: runs(rdock, container) == n, seconds=60)  # type: ignore[misc]
    wait_for(lambda: facts() == before, f"{before} became {facts()}")
