"""What `rdock doctor` finds out by looking at files."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdock.container import diagnosis
from rdock.linux.mount import mountinfo


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"unified/cgroup.controllers": "hugetlb misc\n", "memory/tasks": ""}, ["hugetlb", "misc"]),
        ({"unified/cgroup.controllers": "\n", "memory/tasks": ""}, []),
        ({"memory/tasks": ""}, []),
        ({"cgroup.controllers": "cpu memory\n"}, []),
    ],
)
def test_a_mixture_of_cgroups_that_crun_refuses(files: dict[str, str], found: list[str], tmp_path: Path) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert diagnosis._controllers_beside_v1(str(tmp_path)) == found


def test_file_system_of_a_path(tmp_path: Path) -> None:
    text = (
        "1 0 8:1 / / rw shared:1 - ext4 /dev/a rw\n2 1 0:5 / /home rw - nfs4 server:/ rw\n"
        "3 2 8:2 / /home/me/local\\040disk rw - xfs /dev/b rw\n4 1 0:6 / /data rw - ext4 c rw\n"
        "5 1 0:7 / /data rw - ceph d rw\n"
    )
    (tmp_path / "mountinfo").write_text(text)
    mounts = mountinfo(str(tmp_path / "mountinfo"))
    found = [
        diagnosis.file_system(path, mounts) for path in ("/x", "/home/me", "/home/me/local disk/x", "/homes", "/data")
    ]
    assert found == ["ext4", "nfs4", "xfs", "ext4", "ceph"]
