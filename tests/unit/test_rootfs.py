"""Protections of a root, and its terminal, where what they are for is not what it should be."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rdock.runtime import streams
from rdock.runtime.channel import Channel
from rdock.runtime.rootfs import Mask, ReadOnly


@pytest.fixture
def root(tmp_path: Path) -> int:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "file").touch()
    (tmp_path / "proc" / "link").symlink_to("file")
    (tmp_path / "proc" / "away").symlink_to("/tmp")
    return os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)


@pytest.mark.parametrize("kind", [Mask, ReadOnly])
def test_what_this_kernel_does_not_have_is_passed_over(root: int, kind: type[Mask] | type[ReadOnly]) -> None:
    for path in ("/proc/none", "/none/none", "/proc/file/none"):
        kind(path).execute(root)


@pytest.mark.parametrize("kind", [Mask, ReadOnly])
@pytest.mark.parametrize("path", ["/proc/link", "/proc/away", "/proc/away/x", "/proc/" + "n" * 300])
def test_what_cannot_be_looked_at_stops_the_start(root: int, kind: type[Mask] | type[ReadOnly], path: str) -> None:
    with pytest.raises(OSError) as caught:
        kind(path).execute(root)
    assert caught.value.errno in (errno.ELOOP, errno.ENAMETOOLONG) and caught.value.filename == path


@pytest.mark.skipif(os.geteuid() == 0, reason="root may mount")
@pytest.mark.parametrize("kind", [Mask, ReadOnly])
def test_mount_that_fails_names_the_path(root: int, kind: type[Mask] | type[ReadOnly]) -> None:
    with pytest.raises(PermissionError) as caught:
        kind("/proc/file").execute(root)
    assert caught.value.filename == "/proc/file"


@pytest.mark.parametrize("made", ["file", "fifo", "link", "nothing"])
def test_terminal_is_opened_by_the_kernels_ptmx_only(root: int, tmp_path: Path, made: str) -> None:
    place = tmp_path / "dev" / "pts"
    place.mkdir(parents=True)
    if made == "file":
        (place / "ptmx").touch()
    elif made == "fifo":
        os.mkfifo(place / "ptmx")
    elif made == "link":
        (place / "ptmx").symlink_to("/dev/ptmx")
    ours, theirs = Channel.pair()
    with pytest.raises(OSError) as caught:
        streams.open_terminal(root, theirs, {"user": {"uid": os.getuid()}})
    wanted = {"link": errno.ELOOP, "nothing": errno.ENOENT}.get(made, errno.ENODEV)
    assert caught.value.errno == wanted and "ptmx" in str(caught.value.filename)
    theirs.close()
    assert ours.receive() == (None, -1)
