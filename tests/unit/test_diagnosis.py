"""What `rdock doctor` finds out by looking at files."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdock.container import diagnosis


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
