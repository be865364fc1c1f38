"""Headers of members of tar archives, as our own reader and Python's understand them."""

from __future__ import annotations

import io
import tarfile

import pytest

from rdock.image.tar import DIRECTORY, REGULAR, SYMLINK, Reader, Stream
from rdock.image.tar_headers import END, header, padding, sparse_map


@pytest.mark.parametrize("length", [1, 99, 100, 101, 155, 156, 200, 255, 256, 257, 1000, 4000])
@pytest.mark.parametrize("shape", ["flat", "slashes", "late slash"])
def test_names_of_any_length(length: int, shape: str) -> None:
    name = b"n" * length
    if shape == "slashes":
        name = (b"ab/" * length)[: length - 1] + b"c"
    elif shape == "late slash" and length > 2:
        name = b"n" * (length - 2) + b"/x"
    data = header(name, REGULAR, size=3, link=b"") + b"abc" + padding(3) + END
    entry = Reader(Stream([data]), strict_end=True).next()
    assert entry is not None and (entry.name, entry.size) == (name, 3)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == [name.decode()]


@pytest.mark.parametrize("uid", [0, 65535, 0o7777777, 0o10000000, 0xFFFFFFFE])
@pytest.mark.parametrize("mtime", [-1, 0, 1_700_000_000, 0o77777777777, 0o100000000000])
def test_numbers_of_any_size(uid: int, mtime: int) -> None:
    size = 10 << 30 if uid else 0
    data = header(b"d/", DIRECTORY, mode=0o7777, uid=uid, gid=uid, mtime=mtime)
    data += header(b"big", REGULAR, uid=uid, size=size, xattrs={"user.x": b"\0=\n"})
    reader = Reader(Stream([data]))
    first, second = reader.next(), reader.next()
    assert first is not None and second is not None
    assert (first.uid, first.gid, first.mtime, first.mode) == (uid, uid, mtime * 10**9, 0o7777)
    assert (second.size, second.xattrs) == (size, {"user.x": b"\0=\n"})


def test_links_and_sparse_files() -> None:
    extents = [(0, 512), (1 << 40, 5), ((1 << 41), 0)]
    described = sparse_map(extents)
    name = b"s" * 120
    data = header(b"l", SYMLINK, link=b"t" * 300)
    data += header(name, REGULAR, size=len(described) + 517, sparse_size=1 << 41) + described + bytes(512) + b"hello"
    data += padding(517) + END
    reader = Reader(Stream([data]), strict_end=True)
    link, sparse = reader.next(), reader.next()
    assert link is not None and link.link == b"t" * 300
    assert sparse is not None and (sparse.name, sparse.real_size, sparse.extents) == (name, 1 << 41, extents)
    assert b"".join(map(bytes, reader.data())) == bytes(512) + b"hello" and reader.next() is None


def test_attributes_that_no_reader_would_take() -> None:
    with pytest.raises(ValueError, match="more than a megabyte"):
        header(b"x", REGULAR, xattrs={f"user.{number}": bytes(65536) for number in range(17)})


def test_equal_arguments_give_equal_bytes() -> None:
    attributes = {"user.b": b"2", "user.a": b"1"}
    assert header(b"x", REGULAR, xattrs=attributes) == header(b"x", REGULAR, xattrs=dict(reversed(attributes.items())))
