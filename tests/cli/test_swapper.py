"""A volume in which a directory and a link are exchanged, without a pause, while containers are started on it.

CVE-2021-30465, CVE-2024-45310, CVE-2025-31133: what was checked is not what is mounted on a moment later.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear
from tests.conftest import STARTER
from tests.payload.roots import compiled
from tests.program import Rdock

# What the link leads to. In the container an absolute one starts at its own root.
TARGETS = {"outside": "{canary}", "above": "../../../../../../..{canary}", "root": "/", "proc": "/proc", "sys": "/sys"}
REPORT = """
cut -d ' ' -f 4,5 /proc/self/mountinfo | grep ' /v'; cat /v/*/secret /v/*/inner/* 2>/dev/null
for path in /proc/kcore /proc/keys /proc/timer_list; do test ! -s $path || echo unmasked $path; done
{ echo >/proc/sys/kernel/core_pattern; } 2>/dev/null && echo writable; true
"""


@pytest.fixture(scope="module")
def swapper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("swapper") / "probe"
    path.write_bytes(compiled("probe.c", "-static"))
    path.chmod(0o755)
    return path


@pytest.fixture(params=TARGETS)
def volume(request: pytest.FixtureRequest, swapper: Path, tmp_path: Path) -> Iterator[Path]:
    """A directory whose `place` is now a directory, now a link."""
    canary, volume = tmp_path / "canary", tmp_path / "volume"
    for path in (canary, canary / "inner", volume, volume / "place", volume / "place" / "inner"):
        path.mkdir()
    (canary / "secret").write_text("of the host\n")
    (canary / "inner" / "secret").write_text("of the host\n")
    (volume / "other").symlink_to(TARGETS[request.param].format(canary=canary))
    process = subprocess.Popen([swapper, "swap", volume / "place", volume / "other"])
    yield volume
    assert process.poll() is None, "it swapped to the end"
    process.kill()
    process.wait()


@pytest.mark.parametrize("starts", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_nothing_is_mounted_or_made_outside(rdock: Rdock, volume: Path, tmp_path: Path, starts: int) -> None:
    canary, source = tmp_path / "canary", tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("of the source\n")
    before = sorted(os.walk(canary))
    kinds = (
        ["-v", f"{source}:/v/place/inner"], ["-v", f"{source}/file:/v/place/new/file"], ["--tmpfs", "/v/place/tmp"],
    )  # fmt: skip
    started = 0
    # What starts is chance; under load it may take long until something does.
    for number in range(10 * starts):
        if number >= starts and started:
            break
        options = ["--network", "none", "-v", f"{volume}:/v", *kinds[number % len(kinds)]]
        result = rdock("run", "--rm", *options, STARTER, "sh", "-c", REPORT)
        assert sorted(os.walk(canary)) == before, str(result)
        if result.code:
            assert result.code == 125 and is_clear(result.err), str(result)
            continue
        started += 1
        assert "of the host" not in result.out, str(result)
        assert "unmasked" not in result.out and "writable" not in result.out, str(result)
        for line in result.out.splitlines():
            root, _, target = line.partition(" /v")
            if target.startswith("/"):
                assert root == "/" or root.endswith(("/source", "/source/file")), str(result)
    assert started, f"no start came through, so nothing was tried: {result}"


@pytest.mark.parametrize("rounds", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_cp_reads_and_writes_nothing_outside(rdock: Rdock, volume: Path, tmp_path: Path, rounds: int) -> None:
    """CVE-2018-15664, CVE-2019-10152, CVE-2021-41089: in both directions, and with an archive."""
    canary, source, out = tmp_path / "canary", tmp_path / "source", tmp_path / "out"
    (source / "place" / "inner").mkdir(parents=True)
    (source / "place" / "inner" / "copied").write_text("copied\n")
    archive = subprocess.run(["tar", "-c", "-C", source, "place"], capture_output=True, check=True).stdout
    rdock.ok("run", "-d", "--name", "box", "--network", "none", "-v", f"{volume}:/v", STARTER, "sleep", "1000")
    before = [(path, path.lstat().st_mtime_ns, path.lstat().st_mode) for path in sorted(canary.rglob("*"))]
    outcomes = set()
    for number in range(rounds):
        # Of a round one way, in which nobody has been yet.
        words, given = (
            (("cp", f"{source}/place/inner/copied", f"box:/v/place/inner/c{number}"), b""),
            (("cp", str(source / "place"), "box:/v"), b""),
            (("cp", "-", "box:/v"), archive),
            (("cp", "box:/v/place", str(out)), b""),
            (("cp", "box:/v/place/secret", str(out)), b""),
            (("cp", "-L", "box:/v/place/inner", str(out)), b""),
            (("cp", "box:/v/.", str(out)), b""),
        )[number % 7]  # fmt: skip
        result = rdock(*words, input=given)
        if result.code:
            assert result.code == 1 and is_clear(result.err), str(result)
        outcomes.add((words[1], result.code))
        after = [(path, path.lstat().st_mtime_ns, path.lstat().st_mode) for path in sorted(canary.rglob("*"))]
        assert after == before, str(result)
        if out.is_symlink():
            out.unlink()  # the link itself, which is what it was at that moment
        for path in [out, *out.rglob("*")] if out.exists() else []:
            assert path.is_symlink() or path.is_dir() or path.read_text() != "of the host\n", str(result)
        subprocess.run(["rm", "-rf", out], check=True)
    assert any(code == 0 for _, code in outcomes), "nothing came through, so nothing was tried"
