"""scripts/rdock: the first use sets up, later uses only start the program."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.program import CHECKOUT, Home


@pytest.fixture
def home() -> Iterator[Home]:
    home = Home()
    yield home
    home.remove()


def environment(home: Home) -> dict[str, str]:
    """A home's variables and what pip was told about this machine's network."""
    return home.environment() | {k: v for k, v in os.environ.items() if k.startswith("PIP_") or k.endswith("_proxy")}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout in which nothing has been set up; its version command is enough to see it work."""
    copy = tmp_path / "checkout"
    for part in ("rdock", "scripts"):
        shutil.copytree(CHECKOUT / part, copy / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(CHECKOUT / "setup.cfg", copy)
    return copy


def version(checkout: Path, home: Home, *wrapper: str) -> str:
    """Standard error of `scripts/rdock version`, which must succeed."""
    command = [*wrapper, str(checkout / "scripts" / "rdock"), "version"]
    done = subprocess.run(
        command, env=environment(home), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Version:" in done.stdout, done.stdout
    return done.stderr


def traced(checkout: Path, home: Home, calls: str) -> list[str]:
    """The system calls of the given kinds that a run makes."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    trace = home.root / "trace"
    version(checkout, home, "strace", "-f", "-o", str(trace), "-e", f"trace={calls}")
    return [line for line in trace.read_text().splitlines() if "(" in line]


def test_first_use_sets_up_and_the_second_only_starts(checkout: Path, home: Home) -> None:
    assert "making the Python environment" in version(checkout, home)
    assert version(checkout, home) == ""
    assert traced(checkout, home, "fork,vfork,clone,clone3") == []
    assert [line for line in traced(checkout, home, "open,openat") if ".pyc" in line and "O_CREAT" in line] == []


def test_setup_cfg_changed_and_checkout_moved(checkout: Path, home: Home, tmp_path: Path) -> None:
    version(checkout, home)
    os.utime(checkout / "setup.cfg")
    assert version(checkout, home) == "", "the same requirements need no new environment"
    settings = (checkout / "setup.cfg").read_text()
    (checkout / "setup.cfg").write_text(settings.replace("docopt-ng >= 0.9", "docopt-ng >= 0.8"))
    assert "making the Python environment" in version(checkout, home)
    moved = checkout.rename(tmp_path / "moved")
    assert version(moved, home) == ""


def test_checkout_that_cannot_be_written_to(checkout: Path, home: Home) -> None:
    for folder, _, _ in os.walk(checkout):
        os.chmod(folder, 0o555)
    try:
        assert "making the Python environment" in version(checkout, home)
        assert version(checkout, home) == ""
        assert traced(checkout, home, "fork,vfork,clone,clone3") == []
        assert [line for line in traced(checkout, home, "open,openat") if ".pyc" in line and "O_CREAT" in line] == []
        assert not list(checkout.rglob("__pycache__")) and not (checkout / ".venv").exists()
    finally:
        for folder, _, _ in os.walk(checkout):
            os.chmod(folder, 0o755)


@pytest.mark.slow
def test_two_at_once_and_killed_half_way(checkout: Path, home: Home) -> None:
    command = [str(checkout / "scripts" / "rdock"), "version"]
    for seconds in (0.2, 1.0, 2.5):
        killed = subprocess.Popen(
            command,
            env=environment(home),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(seconds)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    both = [subprocess.Popen(command, env=environment(home), stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(300) for process in both] == [0, 0]
    assert version(checkout, home) == ""


def test_missing_helpers_are_told_in_one_line(home: Home) -> None:
    """Where nothing may be installed: the line to give to whoever may, and what each package is for."""
    script = """
        set -eu
        . "$root/scripts/lib/setup.sh"
        need_python
        may_install() { return 1; }
        has_venv() { return 1; }
        has_library() { return 0; }
        has_program() { [ "$1" = slirp4netns ]; }
        install_helpers
    """
    done = subprocess.run(
        ["sh", "-c", script], env=environment(home) | {"root": str(CHECKOUT)}, capture_output=True, text=True
    )
    first, *others = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert first == "rdock: missing: sudo apt-get install uidmap fuse-overlayfs python3-venv"
    assert [line.split()[1:3] for line in others] == [
        ["uidmap", "(required):"], ["fuse-overlayfs", "(optional):"], ["python3-venv", "(optional):"],
    ]  # fmt: skip
