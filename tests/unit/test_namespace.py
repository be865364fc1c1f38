"""The tests' own way into a user namespace."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_is_root_of_all_ids(in_namespace: Callable[..., Any], tmp_path: Path) -> None:
    def probe() -> tuple[int, int]:
        os.chown(tmp_path, 1000, 65535)
        found = os.stat(tmp_path)
        os.chown(tmp_path, 0, 0)
        return found.st_uid, found.st_gid

    assert in_namespace(probe) == (1000, 65535)


def test_failure_and_skip_come_back(in_namespace: Callable[..., Any]) -> None:
    def fails() -> None:
        raise ValueError("why it failed")

    with pytest.raises(AssertionError, match="why it failed"):
        in_namespace(fails)
    with pytest.raises(pytest.skip.Exception, match="why it was skipped"):
        in_namespace(lambda: pytest.skip("why it was skipped"))
