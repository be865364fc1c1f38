"""What starting a container costs in imports: a module too many costs each start milliseconds."""

from __future__ import annotations

import subprocess
import sys

# What each is known to cost, with all that it brings: see rdock/values.py, jsontext.py, linux/signals.py.
TOO_DEAR = {
    "argparse", "asyncio", "dataclasses", "docopt", "email", "enum", "hashlib", "inspect", "json", "logging",
    "pathlib", "platform", "psutil", "pyroute2", "queue", "random", "re", "shutil", "signal", "socket", "subprocess",
    "tempfile", "threading", "typing", "urllib", "zstandard",
}  # fmt: skip


def test_run_and_exec_import_nothing_dear() -> None:
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from rdock.cli import main, container_run, container_reach\n"
        "from rdock.runtime import engines\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not TOO_DEAR & set(done.stdout.split())


def test_lists_import_nothing_dear() -> None:
    """What a prompt or a watch calls again and again."""
    code = "import sys; sys.path.insert(0, '.')\nfrom rdock.cli import main, container_list\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not TOO_DEAR & set(done.stdout.split())
