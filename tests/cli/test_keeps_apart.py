"""What belongs to one container, or to the host, does not get into another (CVE-2020-14370, CVE-2022-1227)."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import STARTER
from tests.program import Rdock, run_many

QUIET = ("--network", "none")


def test_environments_of_many_made_at_once(rdock: Rdock) -> None:
    names = [f"env{number}" for number in range(30)]
    codes = run_many(
        [rdock.start("create", "--name", name, *QUIET, "-e", f"OWN_{name}=1", STARTER, "true") for name in names]
    )
    assert codes == [0] * len(names)
    for item in json.loads(rdock.ok("inspect", *names)):
        own = [entry for entry in item["Config"]["Env"] if entry.startswith("OWN_")]
        assert own == [f"OWN_{item['Name'][1:]}=1"]


def test_no_program_of_the_image_looks_at_the_container(rdock: Rdock, tmp_path: Path) -> None:
    """An image's own ps, sh and id may say and do anything: they are not asked."""
    tmp_path.chmod(0o777)
    trap = tmp_path / "trap"
    trap.write_text("#!/bin/busybox sh\n/bin/busybox touch /seen/sprung\n")
    trap.chmod(0o755)
    hostile = [word for name in ("ps", "id", "sh", "cat") for word in ("-v", f"{trap}:/usr/local/bin/{name}:ro")]
    rdock.ok("run", "-d", "--name", "box", *QUIET, "-v", f"{tmp_path}:/seen", *hostile, STARTER, "sleep", "100")
    rdock.ok("run", "--rm", *QUIET, "-v", f"{tmp_path}:/seen", *hostile, STARTER, "ps")
    assert (tmp_path / "sprung").exists()  # it does spring
    (tmp_path / "sprung").unlink()
    rows = rdock.ok("top", "box").splitlines()
    assert rows[0].split()[:3] == ["UID", "PID", "PPID"] and rows[1].endswith("sleep 100") and len(rows) == 2
    for command in (
        ("port", "box"),
        ("inspect", "-s", "box"),
        ("pause", "box"),
        ("unpause", "box"),
        ("stop", "-t0", "box"),
    ):
        rdock.ok(*command)
    assert not (tmp_path / "sprung").exists()
