"""The packed program of the present source."""

from __future__ import annotations

import glob
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.program import CHECKOUT


def build() -> Path:
    """Pack it: the path of the program. The test is skipped where that needs what is not installed."""
    built = subprocess.run([CHECKOUT / "scripts" / "build"], capture_output=True, text=True, timeout=600)
    if built.returncode and (lacking := _not_installed()):
        pytest.skip(f"the packed program cannot be built without {', '.join(lacking)}")
    assert built.returncode == 0, built.stderr
    return CHECKOUT / "dist" / "rdock" / "rdock"


def _not_installed() -> list[str]:
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
