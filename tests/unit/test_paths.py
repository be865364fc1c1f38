"""Where rdock puts what it owns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rdock import paths


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The answers are remembered for the life of a process."""
    monkeypatch.setattr(paths, "_home", {})
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_runtime_directory_of_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert paths.runtime() == f"{tmp_path}/rdock"


def test_one_that_somebody_else_has_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory in /tmp is passed over if it is not the user's; anybody can make it."""
    stranger = 1_900_000_000 + os.getpid()
    assert paths._runtime_without_login(stranger) == f"/tmp/rdock-{stranger}"
    place = Path(f"/tmp/rdock-{stranger}")
    place.mkdir()
    try:
        assert paths._runtime_without_login(stranger) == f"{tmp_path}/.local/share/rdock/run"
    finally:
        place.rmdir()
    place.symlink_to("/nonexistent")
    try:
        assert paths._runtime_without_login(stranger) == f"{tmp_path}/.local/share/rdock/run"
    finally:
        place.unlink()


def test_relative_values_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, "somewhere")
    assert paths.data() == f"{tmp_path}/.local/share/rdock"
    assert "somewhere" not in paths.runtime()
