"""The rows of the table that are about files: what `cp` takes, into a container that runs and out of it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

IMAGE = "rdock/starter"
NAME = "copied"
FILES = 2_000
LARGE = 500


def tree_in(bench: Any) -> tuple[float, float]:
    return _with_container(bench, lambda: _into(bench, tree(bench), rounds=4))


def tree_out(bench: Any) -> tuple[float, float]:
    return _with_container(bench, lambda: _out_of(bench, tree(bench), rounds=4))


def file_in(bench: Any) -> tuple[float, float]:
    return _with_container(bench, lambda: _into(bench, _large(bench), rounds=3))


def file_out(bench: Any) -> tuple[float, float]:
    return _with_container(bench, lambda: _out_of(bench, _large(bench), rounds=3))


def _with_container(bench: Any, measure: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    bench.both("run", "-d", "--name", NAME, "--network", "none", IMAGE, "sleep", "1000")
    try:
        return measure()
    finally:
        bench.remove((NAME, NAME))


# What was copied before is put aside, not deleted: ext4 makes files more slowly for some seconds after many are gone.
_ASIDE = "d=$(mktemp -d {}/aside.XXXXXX); [ ! -e {}/new ] || mv {}/new $d"


def _into(bench: Any, source: Path, *, rounds: int) -> tuple[float, float]:
    prepare = ("exec", NAME, "sh", "-c", _ASIDE.replace("{}", "/tmp") if source.is_dir() else "rm -f /tmp/new")
    times: tuple[float, float] = bench.times("cp", str(source), f"{NAME}:/tmp/new", rounds=rounds, prepare=prepare)
    return times


def _out_of(bench: Any, source: Path, *, rounds: int) -> tuple[float, float]:
    bench.both("cp", str(source), f"{NAME}:/new")
    place = bench.directory / "copies"
    place.mkdir()
    before = _ASIDE.replace("{}", str(place)) if source.is_dir() else f"rm -f {place}/new"
    try:
        times: tuple[float, float] = bench.times(
            "cp", f"{NAME}:/new", f"{place}/new", rounds=rounds, before=before
        )  # fmt: skip
        return times
    finally:
        shutil.rmtree(place)


def tree(bench: Any) -> Path:
    """2,000 files of up to 9 kB in 40 directories, the same each time."""
    place: Path = bench.directory / "tree"
    content = random.Random(1)
    for number in range(FILES if not place.exists() else 0):
        directory = place / str(number // 50)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / str(number)).write_bytes(content.randbytes(number * 977 % 9000))
    return place


def _large(bench: Any) -> Path:
    path: Path = bench.directory / "large"
    if not path.exists():
        content = random.Random(1)
        with open(path, "wb") as file:
            for _ in range(LARGE):
                file.write(content.randbytes(1_000_000))
    return path
