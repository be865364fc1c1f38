"""Records that several write, read and sweep at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rdock.errors import DataLoss, SystemFailure
from rdock.state import record

SECONDS = 1.5


def in_child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def again_and_again(work: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            work()

    return run


def all_ended_well(pids: list[int]) -> bool:
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * len(pids)


def test_sweeping_takes_nothing_from_a_living_writer(tmp_path: Path) -> None:
    path = str(tmp_path / "record.json")
    writers = [in_child(again_and_again(lambda: record.write(path, {"value": 1}, durable=False))) for _ in range(2)]
    again_and_again(lambda: record.sweep(str(tmp_path)))()
    assert all_ended_well(writers)
    assert os.listdir(tmp_path) == ["record.json"]


def test_writers_of_one_pid_in_two_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their temporary files have one name."""
    path = str(tmp_path / "record.json")
    record.write(path, {"value": 0}, durable=False)
    monkeypatch.setattr(os, "getpid", lambda: 7)
    writers = [in_child(again_and_again(lambda: record.write(path, {"value": 1}, durable=False))) for _ in range(2)]

    def read() -> None:
        found = record.read(path)
        assert found and "value" in found

    again_and_again(read)()
    assert all_ended_well(writers)


def test_overwriting_in_place(tmp_path: Path) -> None:
    path = str(tmp_path / "record.json")
    with pytest.raises(SystemFailure):
        record.overwrite(path, {"value": 1})
    record.write(path, {"value": "a long text that goes"}, durable=False)
    record.overwrite(path, {"value": 2})
    assert record.read(path) == {"format": 1, "value": 2}


def test_what_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    assert record.read(str(path)) is None
    for text in ("", "[]", "{", '{"format": 99}'):
        path.write_text(text)
        with pytest.raises(DataLoss):
            record.read(str(path))


def test_lock_whose_file_its_owner_removes(tmp_path: Path) -> None:
    """A waiter finds the file gone and takes a new one, so there is one owner at a time."""
    path, counter = str(tmp_path / "lock"), tmp_path / "counter"
    counter.write_text("0")

    def work() -> None:
        for _ in range(200):
            lock = record.Lock(path)
            lock.acquire()
            counter.write_text(str(int(counter.read_text()) + 1))
            lock.remove()

    assert all_ended_well([in_child(work) for _ in range(4)])
    assert counter.read_text() == "800" and not os.path.exists(path)
    assert not record.is_locked(path)


def test_what_is_the_same_already_stays(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    record.write_text(str(path), "one\n", durable=False, mode=0o644)
    first = path.stat()
    record.write_text(str(path), "one\n", durable=False, mode=0o644)
    assert path.stat().st_ino == first.st_ino and path.stat().st_ctime_ns == first.st_ctime_ns
    record.write_text(str(path), "two\n", durable=False, mode=0o644)
    assert path.read_text() == "two\n"
    # what must be on the disk is written, whatever is there
    inode = path.stat().st_ino
    record.write_text(str(path), "two\n", durable=True, mode=0o644)
    assert path.stat().st_ino != inode


def test_what_somebody_has_changed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "hosts"

    def write() -> None:
        record.write_text(str(path), "one\n", durable=False, mode=0o644)

    write()
    path.chmod(0o666)
    write()
    assert path.stat().st_mode & 0o7777 == 0o644
    (tmp_path / "second").hardlink_to(path)
    write()
    assert path.stat().st_nlink == 1
    path.unlink()
    path.symlink_to(tmp_path / "second")
    write()
    assert not path.is_symlink() and path.read_text() == "one\n"
