"""The rows of the table that are about what programs in a container do to files: on its root, and on a volume."""

from __future__ import annotations

import json
import statistics
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_files

IMAGE = "rdock/starter"
NAME = "works"
# The machine's fio and tar, inside the starter image.
PROGRAMS = [word for path in ("/usr", "/lib", "/lib64") for word in ("-v", f"{path}:{path}:ro")]
SECONDS = 2
WRITES = 100_000
ROUNDS = 4


def unpack_root(bench: Any) -> tuple[float, float]:
    return _in_containers(bench, lambda: _unpack(bench, "/place"))


def unpack_volume(bench: Any) -> tuple[float, float]:
    return _in_containers(bench, lambda: _unpack(bench, "/volume"))


def write_root(bench: Any) -> tuple[float, float]:
    return _in_containers(bench, lambda: _write(bench, "/place"))


def write_volume(bench: Any) -> tuple[float, float]:
    return _in_containers(bench, lambda: _write(bench, "/volume"))


def _in_containers(bench: Any, measure: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    archive: Path = bench.directory / "source.tar"
    if not archive.exists():
        with tarfile.open(archive, "w") as made:
            made.add(bench_files.tree(bench), "tree")
    mounts = (*PROGRAMS, "-v", f"{archive}:/source.tar:ro", "-v", "works:/volume")
    bench.both("run", "-d", "--name", NAME, "--network", "none", *mounts, IMAGE, "sleep", "1000")
    bench.both("exec", NAME, "mkdir", "/place")
    try:
        return measure()
    finally:
        bench.remove((NAME, NAME))
        bench.both("volume", "rm", "works")


def _unpack(bench: Any, place: str) -> tuple[float, float]:
    """Seconds for an archive of 2,000 files."""
    script = f"d=$(mktemp -d {place}/aside.XXXXXX); [ ! -e {place}/tree ] || mv {place}/tree $d"
    aside = ("exec", NAME, "sh", "-c", script)
    times: tuple[float, float] = bench.times(
        "exec", NAME, "/usr/bin/tar", "-xf", "/source.tar", "-C", place, rounds=6, prepare=aside
    )
    return times


def _write(bench: Any, place: str) -> tuple[float, float]:
    """Seconds for a hundred thousand writes of 4 kB all over a file, the median of each program's turns."""
    command = (
        "/usr/bin/fio", "--name=w", f"--filename={place}/file", "--size=64M", "--bs=4k", "--rw=randwrite",
        "--ioengine=psync", "--time_based", f"--runtime={SECONDS}", "--randseed=1", "--output-format=json",
    )  # fmt: skip
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for program, collected in zip((bench.rdock, bench.podman), times, strict=True):
            report = json.loads(bench.run(program, "exec", NAME, *command))
            collected.append(WRITES / report["jobs"][0]["write"]["iops"])
    return statistics.median(times[0]), statistics.median(times[1])
