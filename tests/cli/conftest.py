"""For the tests of commands: a store of one's own that is gone quickly, and looks at what is in it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.packed import build
from tests.conftest import _close
from tests.program import Home, Rdock

Waiting = Callable[[Callable[[], object]], None]


@pytest.fixture
def own_rdock() -> Iterator[Rdock]:
    """The program with a store of its own; what its containers share goes at once with the last of them."""
    program = Rdock(Home())
    write_settings(program, '{"holder-linger": 0}')
    yield program
    _close(program)


@pytest.fixture(scope="session")
def packed() -> Path:
    """The packed program, built once for all tests."""
    return build()


def write_settings(program: Rdock, text: str) -> None:
    directory = program.home.root / "config" / "rdock"
    directory.mkdir(mode=0o700, exist_ok=True)
    (directory / "config.json").write_text(text)


def wait_for(condition: Callable[[], object], what: str = "", seconds: float = 20) -> None:
    """Wait until something is so. Fails the test when it does not become so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"in {seconds} seconds it did not come about: {what}"
        time.sleep(0.05)


def listing(directory: Path) -> set[str]:
    """All paths below a directory with their kinds and sizes, but for what other commands may change at any time."""
    found = set()
    for base, directories, files in os.walk(directory):
        for name in directories + files:
            path = Path(base, name)
            # Any command may note of a layer that it is on disk by now.
            sized = name in files and name != "layer.json"
            found.add(f"{path.relative_to(directory)} {path.lstat().st_size if sized else ''}")
    return found


def store(program: Rdock) -> set[str]:
    """What is in the store: the containers, names, layers, images and half-made things.

    The files of a container that is gone may take a moment to be deleted, its lock is given back last; after that
    they count.
    """
    deadline = time.monotonic() + 5
    while _is_something_going(program.home.data) and time.monotonic() < deadline:
        time.sleep(0.02)
    return {
        path
        for part in ("containers", "layers", "images", "staging")
        for path in (f"{part}/{name}" for name in listing(program.home.data / part))
        if not path.split(" ")[0].endswith(".lock")
    }


def _is_something_going(data: Path) -> bool:
    def names(path: str) -> set[str]:
        return set(os.listdir(data / path)) if (data / path).is_dir() else set()

    return bool(names("staging") or names("containers/.locks") - names("containers"))


def is_clear(error: str, lines: int = 2) -> bool:
    """Whether an error is one line of what was wrong and perhaps one with the fix, and no traceback.

    That an image has to be pulled is said before, as Docker says it.
    """
    if error.startswith("Unable to find image '"):
        error = error.partition("\n")[2]
    found = error.splitlines()
    return error.startswith("rdock: ") and len(found) <= lines and "Traceback" not in error and "Errno" not in error
