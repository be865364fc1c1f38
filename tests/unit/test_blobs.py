"""The content store and the staging directory, used from several processes."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rdock import paths
from rdock.errors import DataLoss, InvalidParameter, NotFound
from rdock.image import blobs
from rdock.storage import staging

HELLO = b"hello" * 1000
DIGEST = "sha256:" + hashlib.sha256(HELLO).hexdigest()


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(paths, "_home", {})
    yield tmp_path / "rdock"


def test_a_blob_has_its_name_only_when_it_is_whole(store: Path) -> None:
    with blobs.Writer(DIGEST, len(HELLO)) as writer:
        writer.write(HELLO[:100])
        assert not blobs.exists(DIGEST)
        writer.write(HELLO[100:])
        assert not blobs.exists(DIGEST)
        assert writer.commit() == DIGEST
    assert blobs.read(DIGEST) == b"".join(blobs.chunks(DIGEST)) == HELLO
    assert (store / "images/blobs/sha256" / DIGEST[7:]).read_bytes() == HELLO
    assert (store / "images/oci-layout").read_text() == '{"imageLayoutVersion":"1.0.0"}'
    assert os.listdir(store / "staging") == []


@pytest.mark.parametrize(
    ("digest", "size", "data"),
    [(DIGEST, None, HELLO[:-1]), (DIGEST, len(HELLO), HELLO[:-1]), (DIGEST, len(HELLO), HELLO + b"x"),
     (DIGEST, None, b""), ("", 3, b"ab"), ("", 3, b"abcd")],
)  # fmt: skip
def test_a_blob_that_is_not_what_it_should_be(store: Path, digest: str, size: int | None, data: bytes) -> None:
    with pytest.raises(DataLoss), blobs.Writer(digest, size) as writer:
        writer.write(data)
        writer.commit()
    assert os.listdir(store / "staging") == []
    assert not (store / "images").exists()


def test_a_large_blob_survives_being_written_behind(store: Path) -> None:
    piece = os.urandom(1 << 20)
    with blobs.Writer() as writer:
        for _ in range(40):
            writer.write(piece)
        digest = writer.commit()
    assert digest == "sha256:" + hashlib.sha256(piece * 40).hexdigest()
    assert hashlib.sha256(b"".join(blobs.chunks(digest))).hexdigest() == digest[7:]


@pytest.mark.parametrize("digest", ["sha256:../../x", "../x", "sha256:", f"sha256:{DIGEST[7:].upper()}", ""])
def test_no_digest_becomes_a_path_unchecked(digest: str) -> None:
    for function in (blobs.exists, blobs.read, blobs.open_blob, blobs.remove, blobs.size):
        with pytest.raises(InvalidParameter):
            function(digest)


def test_damage_and_absence_are_noticed(store: Path) -> None:
    with pytest.raises(NotFound, match=f"no such blob: {DIGEST}"):
        blobs.read(DIGEST)
    assert blobs.put(HELLO) == DIGEST
    Path(blobs.blob_path(DIGEST)).write_bytes(HELLO[:-1] + b"x")
    with pytest.raises(DataLoss, match="damaged"):
        blobs.read(DIGEST)


# -- staging -------------------------------------------------------------------------------------


def _killed_at_work() -> None:
    """A process that holds a staging entry with something in it, and is killed."""
    ready, wait = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        with staging.entry() as entry:
            os.makedirs(os.path.join(entry.path, "a/b"))
            os.chmod(os.path.join(entry.path, "a"), 0o500)
            os.write(ready[1], b"x")
            os.read(wait[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    staging.sweep()
    assert len(os.listdir(paths.staging())) == 1, "it is being worked on"
    assert not staging.is_anything_left()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for fd in (*ready, *wait):
        os.close(fd)


def test_sweeping_takes_only_what_nobody_works_on(store: Path) -> None:
    _killed_at_work()
    assert staging.is_anything_left()
    (store / "staging" / "stray").write_text("x")
    (store / "staging" / "link").symlink_to("/etc/passwd")
    staging.sweep()
    assert os.listdir(store / "staging") == []


def test_a_journal_stays_until_it_is_dealt_with(store: Path) -> None:
    _killed_at_work()
    (name,) = os.listdir(store / "staging")
    journal = store / "staging" / name / staging.JOURNAL
    journal.write_text("blob x\n")
    staging.sweep()
    staging.sweep(lambda path: False)
    assert journal.exists()
    seen: list[str] = []
    staging.sweep(lambda path: seen.append(path) is None)
    assert seen == [str(journal)] and os.listdir(store / "staging") == []


def test_many_processes_make_entries_while_others_sweep(store: Path) -> None:
    children = []
    for number in range(6):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for _ in range(100):
                    if number % 2:
                        staging.sweep()
                    else:
                        with staging.entry() as entry:
                            Path(entry.path, "x").write_text("1")
                            assert Path(entry.path, "x").exists()
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 6
    staging.sweep()
    assert os.listdir(store / "staging") == []


def test_a_very_deep_tree_is_discarded(store: Path) -> None:
    top = store / "deep"
    paths.make_private(str(store))
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    staging.discard(str(top))
    assert not top.exists() and os.listdir(store / "staging") == []
    staging.discard(str(top))
