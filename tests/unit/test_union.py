"""Files of a tree that somebody else may change, and hold on to."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from pathlib import Path

import pytest

from rdock.storage import union


def test_a_file_with_a_lease_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "leased").write_text("content")
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    holder = os.open(tmp_path / "leased", os.O_RDWR)
    handler = signal.signal(signal.SIGIO, signal.SIG_IGN)  # by which the kernel asks for the lease
    found: list[int | OSError] = []

    def open_it() -> None:
        try:
            found.append(union.open_file(directory, b"leased"))
        except OSError as e:
            found.append(e)

    try:
        try:
            fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            pytest.skip("no leases on this file system")
        opening = threading.Thread(target=open_it)
        opening.start()
        opening.join(5)
        was_waiting = opening.is_alive()
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        opening.join()
        assert not was_waiting and isinstance(found[0], BlockingIOError)
        fd = union.open_file(directory, b"leased")
        assert os.read(fd, 100) == b"content"
        os.close(fd)
    finally:
        for each in (holder, directory):
            os.close(each)
        signal.signal(signal.SIGIO, handler)
