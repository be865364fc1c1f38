"""Unpacking layers in a real user namespace: what honest ones become, and that hostile ones reach nothing outside."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from rdock.errors import DataLoss, InvalidParameter, RdockError, SystemFailure
from rdock.image import layer
from rdock.storage.layers import Content
from tests.payload import hostile_tar
from tests.payload.tars import (
    directory,
    end,
    file,
    gnu_sparse,
    hardlink,
    header,
    long_name,
    padded,
    pax,
    record,
    symlink,
)

InNamespace = Callable[..., Any]

BAITS = ("bait", "file", "l", "h", "f", "good", "d", "innocent")
TIME_LIMIT = 30


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty directory that root of the namespace can fill and, as an ordinary user, pytest can remove."""
    return tmp_path


def unpack(target: Path, chunks: Iterable[bytes], *, strict_end: bool = False) -> Content:
    """Unpack a layer into a new directory, within a time limit."""
    target.mkdir()
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    signal.alarm(TIME_LIMIT)
    try:
        return layer.apply(chunks, fd, strict_end=strict_end)
    finally:
        signal.alarm(0)
        os.close(fd)


def split(data: bytes, size: int = 1 << 20) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def snapshot(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything about everything below a directory, itself included."""
    found = {}
    for path in [root, *sorted(root.rglob("*"))]:
        about = path.lstat()
        content: Any = None
        if stat.S_ISREG(about.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(about.st_mode):
            content = os.readlink(path)
        names = os.listxattr(path, follow_symlinks=False)
        attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
        found[str(path.relative_to(root))] = (
            about.st_mode, about.st_uid, about.st_gid, about.st_nlink, about.st_ino, about.st_mtime_ns, content,
            attributes,
        )  # fmt: skip
    return found


def empty(root: Path) -> None:
    """Remove what belongs to ids that the user outside of the namespace may not touch."""
    from rdock.linux.tree import remove_path

    remove_path(str(root))


# -- hostile -------------------------------------------------------------------------------------


def _make_surroundings(base: Path) -> tuple[Path, Path]:
    """A tree that must stay as it is, and a working directory full of names that a wrong lookup would find."""
    outside, cwd = base / "outside", base / "cwd"
    (outside / "dir").mkdir(parents=True)
    cwd.mkdir()
    for path in [outside / "file", outside / "dir" / "file", *(cwd / name for name in BAITS)]:
        path.write_text("untouched")
        path.chmod(0o640)
    os.setxattr(outside / "file", "user.mark", b"mine")
    (outside / "link").symlink_to("file")
    for path in (outside / "file", outside / "dir", outside, cwd):
        os.utime(path, ns=(1_000_000_007, 1_000_000_007))
    return outside, cwd


def _run_hostile(base: str, name: str) -> str:
    """Unpack one hostile archive; what became of it."""
    root = Path(base)
    outside, cwd = _make_surroundings(root)
    before = snapshot(outside), snapshot(cwd)
    os.chdir(cwd)
    descriptors = len(os.listdir("/proc/self/fd"))
    try:
        content = unpack(root / "target", split(hostile_tar.cases(str(outside))[name]))
        outcome = f"made: {content}"
    except RdockError as e:
        assert e.message.isprintable() and len(e.message) < 1000, repr(e.message)
        outcome = f"refused: {e.message}"
    try:
        assert len(os.listdir("/proc/self/fd")) == descriptors, "descriptors leak"
        assert (snapshot(outside), snapshot(cwd)) == before
        assert sorted(os.listdir(root)) == ["cwd", "outside", "target"]
        _check_inside(root / "target")
    finally:
        empty(root / "target")
    return outcome


def _check_inside(target: Path) -> None:
    """Whatever has been made is made of harmless things."""
    # os.walk calls itself for every level.
    sys.setrecursionlimit(10_000)
    for directory_, names, files in os.walk(target):
        for path in [directory_, *(os.path.join(directory_, name) for name in names + files)]:
            about = os.lstat(path)
            kinds = (stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK, stat.S_ISFIFO)
            whiteout = stat.S_ISCHR(about.st_mode) and about.st_rdev == 0
            assert whiteout or any(is_kind(about.st_mode) for is_kind in kinds), f"{path}: {about.st_mode:o}"
            for attribute in os.listxattr(path, follow_symlinks=False):
                value = os.getxattr(path, attribute, follow_symlinks=False)
                mine = attribute in ("user.overlay.opaque", "user.fuseoverlayfs.opaque") and value == b"y"
                assert mine or not attribute.startswith(("user.overlay", "user.fuse", "user.containers", "trusted"))


@pytest.mark.parametrize("name", hostile_tar.NAMES)
def test_hostile_layer_reaches_nothing_outside(in_namespace: InNamespace, place: Path, name: str) -> None:
    outcome = in_namespace(_run_hostile, str(place), name)
    if name.startswith("mirror"):
        assert outcome.startswith("made: "), outcome
    if name in hostile_tar.REFUSED:
        assert outcome.startswith("refused: "), outcome


def _bomb(base: str) -> None:
    import subprocess

    small = Path(base) / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m,nr_inodes=3000", "none", str(small)], check=True)
    stream = hostile_tar.bomb(1 << 30)
    started = time.monotonic()
    with pytest.raises(SystemFailure, match="no space left for the layer"):
        unpack(small / "target", iter(lambda: stream.read(1 << 16), b""))
    assert os.statvfs(small).f_bavail * os.statvfs(small).f_frsize > 40 << 20, "the reserve has been used up"
    empty(small / "target")
    with pytest.raises(SystemFailure, match="no space left for the layer"):
        unpack(small / "target", (file(b"f%d" % number) for number in range(5_000_000)))
    assert os.statvfs(small).f_favail > 500
    assert time.monotonic() - started < TIME_LIMIT


def test_bomb_stops_before_the_disk_is_full(in_namespace: InNamespace, place: Path) -> None:
    in_namespace(_bomb, str(place))


# -- honest --------------------------------------------------------------------------------------


def _honest(base: str, data: bytes, check: Callable[[Path, Content], None]) -> None:
    target = Path(base) / "target"
    content = unpack(target, split(data, 1000))
    try:
        assert content.diff_id == "sha256:" + hashlib.sha256(data).hexdigest()
        check(target, content)
    finally:
        empty(target)


def _check_owners_and_modes(target: Path, _: Content) -> None:
    about = (target / "su").lstat()
    assert (stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid) == (0o6755, 33, 44)
    assert about.st_mtime_ns == 1_234_567_890_123_456_789
    about = (target / "high").lstat()
    assert (about.st_uid, about.st_gid) == (65536, 65536)
    about = (target / "tmp").lstat()
    assert stat.S_IMODE(about.st_mode) == 0o1777
    assert about.st_mtime == 1_500_000_000, "what is made in a directory must not change its time"
    assert (target / "l").lstat().st_uid == 7
    assert os.readlink(target / "l") == "/../../etc/passwd"
    about = (target / "fifo").lstat()
    assert stat.S_ISFIFO(about.st_mode) and stat.S_IMODE(about.st_mode) == 0o4620 and about.st_uid == 5
    assert stat.S_IMODE((target / "made" / "up").lstat().st_mode) == 0o755
    assert stat.S_IMODE(target.lstat().st_mode) == 0o711 and target.lstat().st_mtime == 1_400_000_000
    assert (target / "old").lstat().st_mtime_ns == -1_500_000_000


def test_owners_modes_and_times(in_namespace: InNamespace, place: Path) -> None:
    data = (
        directory(b"./", 0o711, mtime=1_400_000_000)
        + pax({"mtime": b"1234567890.123456789"})
        + file(b"su", b"x", mode=0o6755, uid=33, gid=44)
        + file(b"high", uid=65536, gid=65536)
        + directory(b"tmp/", 0o1777, mtime=1_500_000_000)
        + file(b"tmp/a", b"1")
        + header(b"l", b"2", link=b"/../../etc/passwd", uid=7)
        + header(b"fifo", b"6", mode=0o4620, uid=5)
        + file(b"made/up/path", b"x")
        + pax({"mtime": b"-1.5"})
        + file(b"old")
        + end()
    )
    in_namespace(_honest, str(place), data, _check_owners_and_modes)


def _check_links(target: Path, _: Content) -> None:
    assert (target / "d" / "b").lstat().st_ino == (target / "a").lstat().st_ino == (target / "c").lstat().st_ino
    assert (target / "through").lstat().st_ino == (target / "a").lstat().st_ino
    assert os.readlink(target / "h") == "nowhere"
    assert (target / "usr/lib/x").read_bytes() == b"merged" and (target / "lib").is_symlink()


def test_links_are_resolved_inside(in_namespace: InNamespace, place: Path) -> None:
    data = (
        file(b"a", b"x")
        + directory(b"d")
        + hardlink(b"d/b", b"a")
        # As kaniko writes it.
        + hardlink(b"c", b"/a")
        + symlink(b"up", b"/d/../..")
        + hardlink(b"through", b"up/a")
        + symlink(b"l", b"nowhere")
        + hardlink(b"h", b"l")
        + directory(b"usr/lib")
        + symlink(b"lib", b"usr/lib")
        + file(b"lib/x", b"merged")
        + end()
    )
    in_namespace(_honest, str(place), data, _check_links)


def _check_whiteouts(target: Path, content: Content) -> None:
    about = (target / "d" / "gone").lstat()
    assert stat.S_ISCHR(about.st_mode) and about.st_rdev == 0
    assert os.getxattr(target / "d" / "emptied", "user.overlay.opaque") == b"y"
    assert os.getxattr(target / "d" / "emptied", "user.fuseoverlayfs.opaque") == b"y"
    assert os.getxattr(target / "anew", "user.overlay.opaque") == b"y", "removed and made again in one layer"
    assert os.getxattr(target / "first", "user.overlay.opaque") == b"y"
    assert (target / "kept").read_bytes() == b"new"
    assert not content.opaque
    assert not [name for name in os.listdir(target) if name.startswith(".wh.")]


def test_whiteouts(in_namespace: InNamespace, place: Path) -> None:
    data = (
        file(b"d/.wh.gone")
        + file(b"d/emptied/.wh..wh..opq")
        + file(b"d/emptied/x", b"1")
        + file(b".wh.anew")
        + directory(b"anew")
        + directory(b"first")
        + file(b".wh.first")
        + file(b".wh.kept")
        + file(b"kept", b"new")
        + end()
    )
    in_namespace(_honest, str(place), data, _check_whiteouts)


def _check_opaque_root(_: Path, content: Content) -> None:
    assert content.opaque


def test_opaque_root_is_kept_in_the_record(in_namespace: InNamespace, place: Path) -> None:
    in_namespace(_honest, str(place), file(b"./.wh..wh..opq") + end(), _check_opaque_root)


def _check_attributes(target: Path, content: Content) -> None:
    assert os.getxattr(target / "f", "user.note") == b"a=b\nc"
    assert os.getxattr(target / "d", "user.note") == b"1"
    assert os.getxattr(target / "ping", "security.capability")[:1]
    assert len(content.notes) == 1 and "left out 2 device nodes" in content.notes[0], content.notes
    assert "srv/null, srv/sda" in content.notes[0]
    assert not (target / "dev" / "null").exists()


def test_attributes_and_devices(in_namespace: InNamespace, place: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    data = (
        pax({"SCHILY.xattr.user.note": b"a=b\nc"})
        + file(b"f")
        + pax({"SCHILY.xattr.user.note": b"1"})
        + directory(b"d")
        + pax({"SCHILY.xattr.security.capability": capability})
        + file(b"ping", b"x", mode=0o755)
        + header(b"dev/null", b"3", device=(1, 3))
        + header(b"srv/null", b"3", device=(1, 3))
        + header(b"srv/sda", b"4", device=(8, 0))
        + end()
    )
    in_namespace(_honest, str(place), data, _check_attributes)


def _check_sparse(target: Path, content: Content) -> None:
    expected = bytes(1000) + b"a" * 512 + bytes(5000) + b"b" * 100 + bytes(3388)
    for name in ("old", "pax00", "pax01", "pax10"):
        assert (target / name).read_bytes() == expected, name
    many = (target / "many").read_bytes()
    assert len(many) == 100_000 and many[::1000] == b"x" * 100
    assert (target / "after").read_bytes() == b"end"
    huge = (target / "huge").stat()
    assert huge.st_size == 1 << 40 and huge.st_blocks * 512 < 1 << 20
    assert content.size == 4 * 10_000 + 100_000 + (1 << 40) + 3


def test_sparse_files_of_all_kinds(in_namespace: InNamespace, place: Path) -> None:
    stored = b"a" * 512 + b"b" * 100
    places = [(1000, 512), (6512, 100), (10_000, 0)]
    flat = [number for place_ in places for number in place_]
    old_style = b"".join(
        record("GNU.sparse.offset", b"%d" % a) + record("GNU.sparse.numbytes", b"%d" % b) for a, b in places
    )
    text = b"%d\n" % len(places) + b"".join(b"%d\n" % number for number in flat)
    data = (
        gnu_sparse(b"old", places, 10_000, stored)
        + pax(record("GNU.sparse.size", b"10000") + record("GNU.sparse.numblocks", b"3") + old_style)
        + file(b"pax00", stored)
        + pax({"GNU.sparse.size": b"10000", "GNU.sparse.map": b",".join(b"%d" % n for n in flat),
               "GNU.sparse.name": b"pax01"})
        + file(b"GNUSparseFile.0/pax01", stored)
        + pax({"GNU.sparse.major": b"1", "GNU.sparse.minor": b"0", "GNU.sparse.name": b"pax10",
               "GNU.sparse.realsize": b"10000"})
        + file(b"GNUSparseFile.0/pax10", padded(text) + stored)
        + gnu_sparse(b"many", [(i * 1000, 1) for i in range(100)], 100_000, b"x" * 100)
        + gnu_sparse(b"huge", [(0, 512), (1 << 40, 0)], 1 << 40, bytes(512))
        + file(b"after", b"end")
        + end()
    )  # fmt: skip
    in_namespace(_honest, str(place), data, _check_sparse)


def _check_names(target: Path, _: Content) -> None:
    long = "d" * 200 + "/" + "e" * 250
    for kind in ("gnu", "pax"):
        assert (target / kind / long).read_text() == kind
    assert (target / ("p" * 90) / ("n" * 90)).read_bytes() == b"prefix"
    assert os.readlink(target / "l") == "t" * 3000
    assert os.path.exists(os.fsencode(target) + b"/\xff\n")
    assert (target / "slash").is_dir()


def test_long_and_strange_names(in_namespace: InNamespace, place: Path) -> None:
    long = b"d" * 200 + b"/" + b"e" * 250
    data = (
        long_name(b"gnu/" + long)
        + file(b"cut", b"gnu")
        + pax({"path": b"pax/" + long})
        + file(b"cut", b"pax")
        + file(b"n" * 90, b"prefix", prefix=b"p" * 90)
        + long_name(b"t" * 3000, b"K")
        + symlink(b"l", b"cut")
        + file(b"\xff\n", b"x")
        # A directory as tar wrote it before POSIX.
        + header(b"slash/", b"\0", magic=b"")
        + end()
    )
    in_namespace(_honest, str(place), data, _check_names)


def _check_replaced(target: Path, content: Content) -> None:
    assert (target / "a").read_bytes() == b"last"
    assert (target / "b").is_dir() and (target / "b" / "x").read_bytes() == b"1"
    assert (target / "c").is_symlink() and not (target / "c").exists()
    assert (target / "f").read_bytes() == b"data"
    assert sorted(os.listdir(target / "keep")) == ["one", "three", "two"]
    assert stat.S_IMODE((target / "keep").lstat().st_mode) == 0o700


def test_later_entries_replace_earlier_ones(in_namespace: InNamespace, place: Path) -> None:
    data = (
        directory(b"a")
        + file(b"a/deep/er", b"1")
        + file(b"a", b"first")
        + file(b"a", b"last")
        + symlink(b"b", b"/etc")
        + directory(b"b")
        + file(b"b/x", b"1")
        + directory(b"c")
        + file(b"c/y", b"1")
        + symlink(b"c", b"nowhere")
        + header(b"f", b"6")
        + file(b"f", b"data")
        + directory(b"keep")
        + file(b"keep/one")
        + directory(b"keep", 0o700)
        + file(b"keep/two")
        # A directory that was written to becomes a link to another one.
        + directory(b"r")
        + file(b"r/old")
        + symlink(b"r", b"keep")
        + file(b"r/three")
        + end()
    )
    in_namespace(_honest, str(place), data, _check_replaced)


def _compressed(base: str) -> None:
    zstandard = pytest.importorskip("zstandard")
    import bz2
    import lzma

    data = file(b"f", bytes(range(256)) * 20_000) + end() + b"trailing bytes count for the digest"
    half = len(data) // 2
    forms = {
        "gzip": gzip.compress(data),
        "gzip-members": gzip.compress(data[:half]) + gzip.compress(data[half:]) + bytes(100),
        "zstd": zstandard.ZstdCompressor().compress(data),
        "zstd-frames": zstandard.ZstdCompressor().compress(data[:half])
        + b"\x50\x2a\x4d\x18\x04\0\0\0skip"
        + zstandard.ZstdCompressor().compress(data[half:]),
        "xz": lzma.compress(data),
        "bzip2": bz2.compress(data),
        "plain": data,
    }
    for name, packed in forms.items():
        for size in (1, 1 << 20) if len(packed) < 100_000 else (977, 1 << 20):
            target = Path(base) / f"{name}-{size}"
            content = unpack(target, split(packed, size))
            assert content.diff_id == "sha256:" + hashlib.sha256(data).hexdigest(), name
            assert (target / "f").stat().st_size == 256 * 20_000, name
            empty(target)


def test_compressed_layers(in_namespace: InNamespace, place: Path) -> None:
    in_namespace(_compressed, str(place))


def _owner_outside(base: str) -> None:
    with pytest.raises(InvalidParameter, match=r"cannot unpack srv/f: its owner \(uid 70000\)"):
        unpack(Path(base) / "target", split(file(b"srv/f", uid=70000) + end()))


def test_owner_outside_of_the_map_is_named(in_namespace: InNamespace, place: Path) -> None:
    in_namespace(_owner_outside, str(place))


def _end_mark(base: str) -> None:
    unpack(Path(base) / "lenient", split(file(b"f", b"x")))
    with pytest.raises(DataLoss, match="unexpected end"):
        unpack(Path(base) / "strict", split(file(b"f", b"x")), strict_end=True)
    with pytest.raises(DataLoss, match="empty"):
        unpack(Path(base) / "nothing", [], strict_end=True)
    unpack(Path(base) / "one", split(file(b"f", b"x") + bytes(512)), strict_end=True)


def test_end_mark_is_wanted_where_no_digest_tells(in_namespace: InNamespace, place: Path) -> None:
    in_namespace(_end_mark, str(place))


def _like_gnu_tar(base: str, tree: str) -> None:
    import subprocess

    ours, theirs = Path(base) / "ours", Path(base) / "theirs"
    with open(tree, "rb") as archive:
        unpack(ours, iter(lambda: archive.read(1 << 20), b""))
    theirs.mkdir()
    subprocess.run(["tar", "-C", theirs, "-xpf", tree, "--numeric-owner", "--exclude=./dev/*"], check=True)
    found, wanted = {}, {}
    for root, into in ((ours, found), (theirs, wanted)):
        for path, about in snapshot(root).items():
            mode, uid, gid, links, _, mtime, content, attributes = about
            if not path.startswith("dev"):
                # Tar gives symbolic links and the nanoseconds of a time the same treatment only with pax headers.
                into[path] = (mode, uid, gid, 0 if stat.S_ISDIR(mode) else links, mtime, content, attributes)
    empty(ours)
    empty(theirs)
    assert found.keys() == wanted.keys()
    assert [path for path in found if found[path] != wanted[path]] == []


def test_debian_tree_is_unpacked_as_gnu_tar_does(in_namespace: InNamespace, place: Path, debian_tree: Path) -> None:
    in_namespace(_like_gnu_tar, str(place), str(debian_tree))


def _run_copied(base: str, name: str) -> str:
    """The same by what unpacks for `cp -`, into a directory that has something in it already."""
    from rdock.container import copy_archive, owners

    root = Path(base)
    outside, cwd = _make_surroundings(root)
    target = root / "target"
    (target / "dir").mkdir(parents=True)
    (target / "l").symlink_to(outside)
    before = snapshot(outside), snapshot(cwd)
    os.chdir(cwd)
    descriptors = len(os.listdir("/proc/self/fd"))
    fd = os.open(target, os.O_PATH | os.O_DIRECTORY)
    try:
        members = split(hostile_tar.cases(str(outside))[name])
        copy_archive.unpack(members, fd, owners.own(), archive=True, note=lambda _: None)
        outcome = "made"
    except RdockError as e:
        assert e.message.isprintable() and len(e.message) < 1000, repr(e.message)
        outcome = f"refused: {e.message}"
    finally:
        os.close(fd)
    try:
        assert len(os.listdir("/proc/self/fd")) == descriptors, "descriptors leak"
        assert (snapshot(outside), snapshot(cwd)) == before
        assert sorted(os.listdir(root)) == ["cwd", "outside", "target"]
        _check_inside(target)
    finally:
        empty(target)
    return outcome


# Marks that mean nothing outside of a layer.
FINE_WHEN_COPIED = {name for name in hostile_tar.REFUSED if "whiteout" in name or "opaque" in name}


@pytest.mark.parametrize("name", hostile_tar.NAMES)
def test_hostile_archive_of_cp_reaches_nothing_outside(in_namespace: InNamespace, place: Path, name: str) -> None:
    outcome = in_namespace(_run_copied, str(place), name)
    if name in hostile_tar.REFUSED - FINE_WHEN_COPIED:
        assert outcome.startswith("refused: "), outcome
