"""The tar reader against archives of other programs, and against thousands of damaged ones."""

from __future__ import annotations

import io
import random
import tarfile
import time
from collections.abc import Iterator

import pytest

from rdock.errors import DataLoss
from rdock.image.compression import detect, in_thread, open_stream
from rdock.image.tar import DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Entry, Reader, Stream
from tests.payload.tars import directory, end, file, gnu_sparse, hardlink, header, long_name, padded, pax, symlink


def members(data: bytes, chunk: int = 1 << 16) -> Iterator[tuple[Entry, bytes]]:
    reader = Reader(Stream(data[start : start + chunk] for start in range(0, len(data), chunk)))
    while (entry := reader.next()) is not None:
        yield entry, b"".join(reader.data())


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("chunk", [1, 511, 1 << 16])
def test_archives_of_pythons_tarfile(form: int, chunk: int) -> None:
    """An independent writer; names, links, numbers and times come out as they went in."""
    wanted = []
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for number, (name, kind) in enumerate(
            [("a", tarfile.REGTYPE), ("d" * 90 + "/" + "n" * 60, tarfile.REGTYPE), ("dir", tarfile.DIRTYPE),
             ("l", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE), ("x" * 99, tarfile.REGTYPE)]
            + ([] if form == tarfile.USTAR_FORMAT else [("y" * 300 + "/" + "z" * 300, tarfile.REGTYPE)])
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid, member.gid = kind, 0o4711, number * 1000, number
            member.mtime = 1_700_000_000 + number
            member.linkname = "target/of" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            content = bytes([number]) * number * 400 if kind == tarfile.REGTYPE else b""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            wanted.append((name, kind, number, member.linkname, content))
    found = list(members(buffer.getvalue(), chunk))
    assert len(found) == len(wanted)
    for (entry, data), (name, kind, number, link, content) in zip(found, wanted, strict=True):
        assert (entry.name.rstrip(b"/").decode(), entry.kind, entry.link.decode(), data) == (name, kind, link, content)
        assert (entry.mode, entry.uid, entry.gid) == (0o4711, number * 1000, number)
        assert entry.mtime == (1_700_000_000 + number) * 10**9


def test_numbers_beyond_octal() -> None:
    extended = pax({"uid": b"7", "mtime": b"-0.25"}) + header(b"b")
    (entry, _), (other, _) = members(header(b"a", uid=1 << 30, mtime=-5) + extended)
    assert (entry.uid, entry.mtime, other.uid, other.mtime) == (1 << 30, -5 * 10**9, 7, -250_000_000)


def test_kinds() -> None:
    found = [entry.kind for entry, _ in members(
        file(b"a") + directory(b"d") + symlink(b"l", b"a") + hardlink(b"h", b"a")
        + header(b"o/", b"\0") + header(b"c", b"7")
    )]  # fmt: skip
    assert found == [REGULAR, DIRECTORY, SYMLINK, HARD_LINK, DIRECTORY, REGULAR]


def test_signed_checksums_of_old_programs() -> None:
    block = header(b"\xff\xfe")
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])
    ((entry, _),) = members(block[:148] + b"%06o\0 " % signed + block[156:])
    assert entry.name == b"\xff\xfe"


def test_what_is_not_read_is_passed_over() -> None:
    reader = Reader(Stream([file(b"a", b"x" * 5000) + file(b"b", b"y") + end() + b"more"]))
    first, second = reader.next(), reader.next()
    assert first is not None and second is not None and (first.name, second.name) == (b"a", b"b")
    assert b"".join(reader.data()) == b"y"
    assert reader.next() is None
    reader.stream.drain()
    assert reader.stream.position == 512 * 11 + 512 * 2 + 1024 + 4


def _samples() -> list[bytes]:
    version = {"GNU.sparse.major": b"1", "GNU.sparse.minor": b"0"}
    sparse = pax({**version, "GNU.sparse.name": b"s", "GNU.sparse.realsize": b"99"})
    return [
        file(b"a", b"x" * 700) + directory(b"d") + symlink(b"l", b"a") + hardlink(b"h", b"a") + end(),
        long_name(b"n" * 200) + file(b"cut", b"1") + long_name(b"t" * 200, b"K") + symlink(b"l", b"") + end(),
        pax({"path": b"p" * 200, "mtime": b"1.5", "size": b"3", "uid": b"5", "SCHILY.xattr.user.a": b"1"})
        + header(b"x", size=3) + padded(b"abc") + end(),
        gnu_sparse(b"s", [(i * 10, 1) for i in range(40)], 400, b"y" * 40) + end(),
        sparse + file(b"f", padded(b"2\n0\n5\n90\n9\n") + b"z" * 14) + end(),
        pax({"GNU.sparse.map": b"0,1,50,2", "GNU.sparse.size": b"99"}) + file(b"s", b"abc") + end(),
    ]  # fmt: skip


def test_damaged_archives_give_an_error_and_nothing_else() -> None:
    chance = random.Random(1)
    started, refused = time.monotonic(), 0
    for sample in _samples():
        assert list(members(sample))
        for _ in range(1500):
            data = bytearray(sample)
            for _ in range(chance.randrange(1, 6)):
                place = chance.randrange(len(data))
                # Mostly in a header, with a right checksum, so that the damage is looked at.
                data[place] = chance.choice((0, 0x80, 0xFF, 0x30, 0x39, 0x2D, 0x20, 0x0A, chance.randrange(256)))
            for start in range(0, len(data) - 511, 512):
                if data[start + 257 : start + 262] == b"ustar":
                    data[start + 148 : start + 156] = b" " * 8
                    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
            if chance.random() < 0.2:
                del data[chance.randrange(len(data)) :]
            try:
                list(members(bytes(data), chance.choice((100, 512, 1 << 16))))
            except DataLoss as e:
                refused += 1
                assert e.message.startswith("invalid tar archive: ") and e.message.isprintable()
            except OSError:
                pytest.fail("the reader does no input or output")
    assert refused > 2000 and time.monotonic() - started < 60


@pytest.mark.parametrize("name", [b"BZh", b"BZh9", b"BZhello", b"BZh9" + b"x" * 90, b"BZ"])
def test_a_file_whose_name_begins_as_bzip2_does(name: bytes) -> None:
    import bz2

    data = file(name, b"content") + end()
    for kind, archive in (("", data), ("bzip2", bz2.compress(data)), ("bzip2", bz2.compress(b""))):
        found, content = open_stream([archive[:3], archive[3:]])
        assert (found, b"".join(content)) == (kind, data if archive != bz2.compress(b"") else b"")
    # Other tools look at three letters only, and are helped by a directory before it (image/packing.py).
    assert detect(name[:7]) == ("bzip2" if name != b"BZ" else "")


def test_damaged_compression_gives_an_error_and_nothing_else() -> None:
    import bz2
    import gzip
    import lzma

    chance = random.Random(2)
    content = bytes(range(256)) * 40
    samples = [gzip.compress(content), lzma.compress(content), bz2.compress(content)]
    try:
        import zstandard
    except ImportError:
        pass
    else:
        samples.append(zstandard.ZstdCompressor(write_checksum=True).compress(content))
    for sample in samples:
        assert b"".join(open_stream([sample])[1]) == content
        for _ in range(500):
            data = bytearray(sample)
            for _ in range(chance.randrange(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            try:
                list(open_stream([bytes(data)])[1])
            except DataLoss as e:
                assert "\n" not in e.message


def test_a_thread_hands_on_content_and_errors() -> None:
    assert list(in_thread([b"a", b"b"])) == [b"a", b"b"]

    def failing() -> Iterator[bytes]:
        yield b"a"
        raise DataLoss("broken")

    found = in_thread(failing())
    assert next(found) == b"a"
    with pytest.raises(DataLoss, match="broken"):
        next(found)


def test_an_abandoned_thread_ends() -> None:
    import threading

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    before = threading.active_count()
    found = in_thread(endless())
    next(found)
    found.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
