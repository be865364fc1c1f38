"""The packed program does what the source does: a container run, left running, entered, its output read."""

from __future__ import annotations

import glob
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator

import pytest

from tests.program import CHECKOUT, Home, Rdock


def not_installed() -> list[str]:
    """What PyInstaller needs and this machine lacks."""
    library = f"libpython{sys.version_info[0]}.{sys.version_info[1]}"
    places = [
        sysconfig.get_config_var("LIBDIR") or "/usr/lib",
        "/usr/lib/*",
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
    ]
    found = {
        "pyinstaller": importlib.util.find_spec("PyInstaller"),
        "binutils": shutil.which("objdump"),
        library: any(glob.glob(f"{place}/{library}.so*") for place in places),
    }
    return [name for name, there in found.items() if not there]


@pytest.fixture(scope="module")
def frozen() -> Iterator[Rdock]:
    """The packed program of the present source, in a store of its own."""
    built = subprocess.run([CHECKOUT / "scripts" / "build"], capture_output=True, text=True, timeout=600)
    if built.returncode and (lacking := not_installed()):
        pytest.skip(f"the packed program cannot be built without {', '.join(lacking)}")
    assert built.returncode == 0, built.stderr
    program = Rdock(Home(), path=str(CHECKOUT / "dist" / "rdock" / "rdock"))
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
