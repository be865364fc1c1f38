"""Every command that the README shows is run, in its order and in one store, and prints what the README says."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

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


@pytest.mark.parametrize("block", [b for b in SHOWN if not b.not_run], ids=lambda block: f"line-{block.line}")
def test_commands_shown(reader: Rdock, block: Block) -> None:
    environment = reader.environment()
    environment["PATH"] = f"{CHECKOUT / 'scripts'}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", block.script],
        cwd=CHECKOUT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{block.script}\n{done.stdout}\n{done.stderr}"
    assert block.matches(done.stdout), f"{block.script}\nprints\n{done.stdout}"


def test_blocks_are_found_with_what_they_print() -> None:
    page = "a\n```sh\necho x\n```\n\n```text\nx…\n```\n<!-- not run: why -->\n```sh\nfalse\n```\n"
    first, second = blocks(page)
    assert (first.line, first.script, first.prints, first.not_run) == (2, "echo x\n", "x…\n", "")
    assert first.matches("xyz\n") and not first.matches("yxz")
    assert (second.prints, second.not_run) == (None, "why")
