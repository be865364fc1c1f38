"""The packed program does what the source does: a container run, left running, entered, its output read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.program import Home, Rdock


@pytest.fixture(scope="module")
def frozen(packed: Path) -> Iterator[Rdock]:
    """The packed program, with a store of its own."""
    program = Rdock(Home(), path=str(packed))
    yield program
    program.remove_containers()
    left = program.home.leftovers()
    program.home.remove()
    assert not left, left


def test_runs_the_starter_image(frozen: Rdock) -> None:
    assert frozen.ok("run", "--rm", "rdock/starter", "echo", "hello") == "hello"


def test_detached_exec_and_logs(frozen: Rdock) -> None:
    container = frozen.ok("run", "-d", "rdock/starter", "sh", "-c", "echo started; exec sleep 1000")
    assert frozen.ok("exec", container, "cat", "/etc/hostname") == container[:12]
    deadline = time.monotonic() + 10
    while frozen.ok("logs", container) != "started":
        assert time.monotonic() < deadline, "the container's output did not reach the log"
        time.sleep(0.1)
    frozen.ok("rm", "-f", container)


def test_exit_code_and_unknown_command(frozen: Rdock) -> None:
    assert frozen("run", "--rm", "rdock/starter", "sh", "-c", "exit 42").code == 42
    assert frozen("run", "--rm", "rdock/starter", "/nonexistent").code == 127
    assert frozen("no-such-command").code != 0
