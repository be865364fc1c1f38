"""Every command that the README shows is run, in its order and in one store, and prints what the README says."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.terminal import Terminal
from tests.program import CHECKOUT, Home, Rdock
from tests.readme import Block, blocks

SHOWN = blocks((CHECKOUT / "README.md").read_text())


@pytest.fixture(scope="module")
def reader() -> Iterator[Rdock]:
    """Somebody who follows the README from its top."""
    program = Rdock(Home())
    yield program
    program.remove_containers()
    left = program.home.leftovers()
    program.home.remove()
    assert not left, left


def marked(block: Block) -> Any:
    slow = [pytest.mark.slow] if block.how == "slow" else []
    return pytest.param(block, id=f"line-{block.line}", marks=slow)


@pytest.mark.parametrize("block", [marked(block) for block in SHOWN if not block.not_run])
def test_commands_shown(reader: Rdock, block: Block) -> None:
    environment = reader.environment()
    environment["PATH"] = f"{CHECKOUT / 'scripts'}:{environment['PATH']}"
    if block.how == "at a terminal":
        at_a_terminal(block.script, environment)
        return
    if "mmdebstrap" in block.script and not shutil.which("mmdebstrap"):
        pytest.skip("mmdebstrap is not installed")
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", block.script],
        cwd=CHECKOUT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    (CHECKOUT / "debian.tar").unlink(missing_ok=True)
    assert done.returncode == 0, f"{block.script}\n{done.stdout}\n{done.stderr}"
    assert block.matches(done.stdout), f"{block.script}\nprints\n{done.stdout}"


def at_a_terminal(script: str, environment: dict[str, str]) -> None:
    """Type something into what the command brings up, and leave it."""
    (words,) = (shlex.split(line) for line in script.splitlines())
    program = Rdock(Home(), variables=environment, path=str(CHECKOUT / "scripts" / words[0]))
    try:
        with Terminal(program, *words[1:]) as terminal:
            terminal.await_text("# ")
            terminal.type("echo $((6 * 7)); exit 5\r")
            terminal.await_text("42")
            assert terminal.end() == 5
    finally:
        program.home.remove()


def test_blocks_are_found_with_what_they_print() -> None:
    page = (
        "a\n```sh\necho x\n```\n\n```text\nx…\n```\n<!-- not run: why -->\n```sh\nfalse\n```\n"
        "<!-- slow -->\n```sh\nsleep 9\n```\n"
    )
    first, second, third = blocks(page)
    assert (first.how, second.how, third.how, third.not_run) == ("", "", "slow", "")
    assert (first.line, first.script, first.prints, first.not_run) == (2, "echo x\n", "x…\n", "")
    assert first.matches("xyz\n") and not first.matches("yxz")
    assert (second.prints, second.not_run) == (None, "why")
