"""What starting a container costs in imports: a module too many costs each start milliseconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What each is known to cost, with all that it brings: see rdock/values.py, jsontext.py, scope.py, linux/signals.py,
# linux/foreign.py.
TOO_DEAR = {
    "argparse", "asyncio", "collections", "contextlib", "ctypes", "dataclasses", "docopt", "email", "enum", "functools",
    "hashlib", "importlib", "inspect", "json", "logging", "operator", "pathlib", "platform", "psutil", "pyroute2",
    "queue", "random", "re", "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "types", "typing",
    "urllib", "warnings", "zstandard",
}  # fmt: skip
# What takes the C library, and what goes into namespaces: exec asks the monitor, ps looks at files.
ROOTS_AFFAIR = {
    "_ctypes", "rdock.image.manifest", "rdock.linux.cgroup", "rdock.linux.idmap", "rdock.linux.libc",
    "rdock.linux.mount", "rdock.linux.seccomp", "rdock.runtime", "rdock.runtime.rootless",
}  # fmt: skip


def imported(*modules: str) -> set[str]:
    """Everything that is there after these were imported, in an interpreter started as scripts/rdock starts it."""
    code = f"import sys; sys.path.insert(0, '.')\nimport {', '.join(modules)}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["container_run", "container_create", "container_start", "container_manage", "container_reach"]
)
def test_commands_of_containers_import_nothing_dear(module: str) -> None:
    found = imported("rdock.bytecode", "rdock.cli.main", f"rdock.cli.{module}", "rdock.runtime.engines")
    assert not TOO_DEAR & found


@pytest.mark.parametrize("module", ["container_reach", "container_list"])
def test_exec_and_ps_do_without_what_is_for_root(module: str) -> None:
    found = imported("rdock.cli.main", f"rdock.cli.{module}")
    assert not (TOO_DEAR | ROOTS_AFFAIR) & found


def test_a_look_for_what_killed_processes_left_needs_nothing_more() -> None:
    """Whatever reads the store does this first."""
    found = imported("rdock.cli.main", "rdock.container.removal", "rdock.storage.staging", "rdock.image.catalog")
    assert not (TOO_DEAR | ROOTS_AFFAIR - {"rdock.image.manifest"}) & found


def test_the_modules_of_a_monitor_are_there_before_it() -> None:
    """It is forked from the command, and must not look for a module in a checkout that may be gone by then."""
    found = imported("rdock.container.keeper")
    assert found >= {
        "rdock.container.keeper", "rdock.container.monitor", "rdock.container.session", "rdock.container.spec",
        "rdock.container.seccomp_default", "rdock.container.seccomp_profile", "rdock.container.process_limits",
        "rdock.container.filters", "rdock.runtime.child", "rdock.runtime.parent", "rdock.runtime.join",
        "rdock.linux.cgroup",
    }  # fmt: skip


@pytest.mark.parametrize("module", ["container_create", "container_manage"])
def test_who_starts_nothing_does_without_monitors(module: str) -> None:
    assert "rdock.container.monitor" not in imported(f"rdock.cli.{module}")
