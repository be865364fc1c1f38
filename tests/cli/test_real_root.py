"""Started by the machine's root, whose files and devices a container's root has the id of.

scripts/test starts these apart, in surroundings where the devices are the tests' own.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import STARTER
from tests.program import Rdock

pytestmark = pytest.mark.as_root

NAMES = ("null", "zero", "full", "random", "urandom", "tty")


def devices() -> dict[str, tuple[int, int, int]]:
    found = {name: os.stat(f"/dev/{name}") for name in NAMES}
    return {name: (status.st_mode, status.st_uid, status.st_mtime_ns) for name, status in found.items()}


# Each line a way to the inode of a device, then what a program does with devices.
ATTACK = """
cd /dev; chmod 600 null zero full random urandom tty; chown 1 null zero full random urandom tty
touch -d 2001-02-03 null zero full random urandom tty
for fd in 0 1 2; do chmod 600 /proc/self/fd/$fd; done
chmod 600 /proc/timer_list /proc/kcore /proc/keys
echo thrown away >/dev/null && test "$(head -c 3 /dev/zero | wc -c)" = 3 && ! echo full 2>&- >/dev/full && echo used
"""


def test_this_is_root() -> None:
    assert os.getuid() == 0
    assert Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


@pytest.mark.parametrize("options", [(), ("-i",), ("--cap-add", "ALL"), ("--privileged",)], ids=" ".join)
def test_devices_of_the_machine_cannot_be_changed(rdock: Rdock, runtime: str, options: tuple[str, ...]) -> None:
    before = devices()
    remount = "for name in null zero full random urandom tty; do mount -o remount,rw,bind /dev/$name; done\n"
    result = rdock("run", "--rm", "--network", "none", *options, STARTER, "sh", "-c", remount + ATTACK)
    assert result.code == 0 and result.out == "used\n", str(result)
    assert devices() == before, str(result)
    container = rdock.ok("run", "-d", "--network", "none", *options, STARTER, "sleep", "1000")
    result = rdock("exec", container, "sh", "-c", remount + ATTACK)
    assert result.out == "used\n", str(result)
    assert devices() == before, str(result)


def test_remounting_would_have_worked(rdock: Rdock, tmp_path: Path) -> None:
    """What the attack above relies on works where it may: on a mount of the container's own."""
    script = "touch /v/f 2>&- && exit 9; mount -o remount,rw,bind /v && touch /v/f && echo written"
    result = rdock("run", "--rm", "--privileged", "-v", f"{tmp_path}:/v:ro", STARTER, "sh", "-c", script)
    assert result.out == "written\n", str(result)


def test_ids(rdock: Rdock) -> None:
    """Others than root are ids that nobody on the machine has."""
    container = rdock.ok("run", "-d", "--network", "none", STARTER, "sleep", "1000")
    pid = rdock.ok("inspect", "-f", "{{.State.Pid}}", container)
    lines = Path(f"/proc/{pid}/uid_map").read_text().splitlines()
    assert lines[0].split() == ["0", "0", "1"]
    first, outside, size = (int(field) for field in lines[1].split())
    assert first == 1 and outside >= 100000 and size >= 65535


def test_what_is_in_a_volume_belongs_to_root(rdock: Rdock, tmp_path: Path) -> None:
    rdock.ok("run", "--rm", "-v", f"{tmp_path}:/v", STARTER, "touch", "/v/made")
    assert (tmp_path / "made").stat().st_uid == 0


def test_the_kernels_settings_cannot_be_changed(rdock: Rdock) -> None:
    script = "echo x >/proc/sys/kernel/core_pattern; echo 0 >/sys/kernel/mm/ksm/run; echo end"
    result = rdock("run", "--rm", STARTER, "sh", "-c", script)
    assert result.out == "end\n" and result.err.count("Read-only file system") == 2, str(result)
