"""Roots as archives: what is written is read back the same, from trees that are hostile and that change meanwhile."""

from __future__ import annotations

import io
import os
import socket
import stat
import struct
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdock.errors import SystemFailure
from rdock.image import layer, packing
from rdock.linux.tree import remove_path
from rdock.storage.copytree import merge
from rdock.storage.differences import compare
from rdock.storage.union import Union

InNamespace = Callable[..., Any]

# A version 2 file capability: cap_net_raw, effective.
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


def archive(*stack: Path, base: tuple[Path, ...] | None = None, is_layer: bool = False) -> tuple[bytes, list[str]]:
    """The archive of a stack, or of what it has that the base has not, and what was left out."""
    notes: list[str] = []
    with Union([str(path) for path in stack]) as now, Union([str(path) for path in base or ()]) as before:
        changes = compare(now, before if base is not None else None)
        was = before if base else None
        return b"".join(packing.pack(changes, now, is_layer=is_layer, note=notes.append, was=was)), notes


def unpack(data: bytes, target: Path) -> None:
    target.mkdir()
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        layer.apply([data[start : start + 65536] for start in range(0, len(data), 65536)], fd, strict_end=True)
    finally:
        os.close(fd)


def snapshot(root: Path) -> dict[str, Any]:
    """All about what is in a tree, with the names of one file known by the first of them."""
    found: dict[str, Any] = {}
    first: dict[int, str] = {}
    below = [Path(base, name) for base, directories, files in os.walk(root) for name in directories + files]
    for path in sorted(below, key=os.fsencode):
        about = path.lstat()
        if stat.S_ISSOCK(about.st_mode):
            continue
        name = str(path.relative_to(root))
        content: Any = os.readlink(path) if path.is_symlink() else None
        if stat.S_ISREG(about.st_mode):
            content = path.read_bytes() if about.st_size < 1 << 24 else about.st_size
        names = os.listxattr(path, follow_symlinks=False)
        xattrs = {key: os.getxattr(path, key, follow_symlinks=False) for key in names}
        same = first.setdefault(about.st_ino, name)
        time = about.st_mtime_ns // 10**9
        found[name] = (about.st_mode, about.st_uid, about.st_gid, time, content, xattrs, same)
    return found


def make_odd(root: Path) -> None:
    """A tree of all that is hard to keep."""
    root.mkdir()
    for name in ("a\nb", " ", "-", "ö", "n" * 255, "é" * 127, "\udcff\udcfe", "GNUSparseFile.0", "x" * 100, "y" * 101):
        (root / name).write_bytes(os.fsencode(name))
    deep = root
    for number in range(14):
        deep = deep / f"{number:0>240}"
        deep.mkdir()
    (deep / "end").write_text("deep")
    (root / "d").mkdir(mode=0o1777)
    (root / "d" / ("z" * 255)).mkdir()
    os.link(root / "ö", root / "d" / "other")
    for target, name in (("/etc/passwd", "absolute"), ("../../..", "up"), ("l" * 300, "long"), ("ö\n", "odd")):
        (root / name).symlink_to(target)
    os.link(root / "up", root / "d" / "up", follow_symlinks=False)
    os.mkfifo(root / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(root)
        server.bind("socket")
        os.chdir(here)
    program = root / "program"
    program.write_bytes(b"x" * 1000)
    os.chown(program, 1000, 65535)
    program.chmod(0o6755)
    os.setxattr(program, "security.capability", CAPABILITY)
    os.setxattr(program, "user.mine", b"binary\0\n=")
    os.setxattr(root / "d", "user.of a directory", b"")
    os.chown(root / "absolute", 5, 6, follow_symlinks=False)
    with open(root / "sparse", "wb") as file:
        for place in (0, 1 << 30, 5 << 30):
            file.seek(place)
            file.write(b"data" * 1024)
        file.truncate(100 << 30)
    with open(root / "hole", "wb") as file:
        file.truncate(3 << 20)
    os.utime(root / "d", ns=(0, 1_500_000_000_999_999_999))
    os.utime(root / "-", ns=(0, -(10**18)))
    os.utime(root / "fifo", ns=(0, (1 << 33) * 10**9))


def test_a_round_trip(in_namespace: InNamespace, tmp_path: Path) -> None:
    def check() -> None:
        make_odd(tmp_path / "odd")
        data, notes = archive(tmp_path / "odd")
        assert len(data) < 1 << 20 and notes == []
        unpack(data, tmp_path / "again")
        before, after = snapshot(tmp_path / "odd"), snapshot(tmp_path / "again")
        assert before == after
        sparse = os.stat(tmp_path / "again" / "sparse")
        assert sparse.st_size == 100 << 30 and sparse.st_blocks * 512 < 1 << 20
        assert archive(tmp_path / "again")[0] == data
        # Python's reader agrees, which has nothing in common with ours.
        with tarfile.open(fileobj=io.BytesIO(data)) as found:
            assert {member.name for member in found} == set(before)
            assert found.getmember("program").pax_headers["SCHILY.xattr.user.mine"] == "binary\0\n="

    in_namespace(check)


def test_changes_as_a_layer(in_namespace: InNamespace, tmp_path: Path) -> None:
    """What is applied to the base gives the new tree, whatever has become of what."""

    def check() -> None:
        base, new = tmp_path / "base", tmp_path / "new"
        make_odd(base)
        (base / "socket").unlink()
        (base / "was_directory").mkdir()
        (base / "was_directory" / "x").write_text("x")
        (base / "was_file").write_text("x")
        (base / "was_link").symlink_to("was_directory")
        new.mkdir()
        merge([str(base)], str(new), share=False)
        assert archive(new, base=(base,), is_layer=True)[0] == bytes(1024)
        (new / "was_directory" / "x").unlink()
        (new / "was_directory").rmdir()
        (new / "was_directory").write_text("now a file")
        (new / "was_file").unlink()
        (new / "was_file").mkdir()
        (new / "was_file" / "y").write_text("y")
        (new / "was_link").unlink()
        (new / "was_link").mkdir()
        (new / ("n" * 255)).unlink()
        os.chown(new / "d", 7, 8)
        os.setxattr(new / "program", "user.mine", b"other")
        (new / "d" / "fresh").symlink_to("/")
        times = (new / "ö").stat()
        (new / "ö").write_bytes(b"\0\0")
        os.utime(new / "ö", ns=(times.st_atime_ns, times.st_mtime_ns))
        data, _ = archive(new, base=(base,), is_layer=True)
        with tarfile.open(fileobj=io.BytesIO(data)) as found:
            names = found.getnames()
        assert ".wh." + "n" * 255 in names and "was_directory" in names and "was_directory/.wh.x" not in names
        unpack(data, tmp_path / "layer")
        merged = tmp_path / "merged"
        merged.mkdir()
        merge([str(tmp_path / "layer"), str(base)], str(merged), share=False)
        expected, got = snapshot(new), snapshot(merged)
        # A link between a file of the base and one of the layer is not kept, as by an overlay.
        assert {name: about[:6] for name, about in expected.items()} == {name: about[:6] for name, about in got.items()}
        # A stack shows the same as the merged tree.
        with Union([str(tmp_path / "layer"), str(base)]) as stacked, Union([str(merged)]) as whole:
            assert [change.path for change in compare(stacked, whole)] == []
            assert [change.path for change in compare(whole, stacked)] == []

    in_namespace(check)


def test_a_merged_fifo_keeps_its_mode(in_namespace: InNamespace, tmp_path: Path) -> None:
    def check() -> None:
        for name in ("source", "copy"):
            (tmp_path / name).mkdir()
        for mode in (0o4755, 0o2711, 0o666, 0):
            path = tmp_path / "source" / f"{mode:o}"
            os.mkfifo(path)
            os.chown(path, 1000, 1000)
            path.chmod(mode)
        os.umask(0o027)
        merge([str(tmp_path / "source")], str(tmp_path / "copy"), share=False)
        assert snapshot(tmp_path / "copy") == snapshot(tmp_path / "source")

    in_namespace(check)


def test_files_that_change_while_they_are_read(in_namespace: InNamespace, tmp_path: Path) -> None:
    """Swapped for links, FIFOs and directories, cut off, removed: the archive is well-formed, nothing is followed."""

    def check() -> None:
        root, secret = tmp_path / "root", tmp_path / "secret"
        secret.write_text("SECRET" * 10000)
        for directory in ("a", "b"):
            (root / directory).mkdir(parents=True)
            for number in range(60):
                (root / directory / f"{number}").write_bytes(b"x" * 3000 * number)
        stop = threading.Event()

        def swap() -> None:
            number = 0
            while not stop.is_set():
                number = (number + 7) % 60
                one = root / "b" / str(number)
                for make in (
                    lambda path: path.symlink_to(secret),
                    os.mkfifo,
                    os.mkdir,
                    lambda path: path.write_bytes(b"short"),
                    lambda path: path.symlink_to(tmp_path),
                    lambda path: path.write_bytes(b"x" * 100_000),
                ):
                    try:
                        if one.is_dir() and not one.is_symlink():
                            one.rmdir()
                        else:
                            one.unlink()
                        make(one)
                        os.truncate(root / "a" / str(number), number)
                    except OSError:
                        continue

        worker = threading.Thread(target=swap)
        worker.start()
        try:
            for _ in range(40):
                data, _ = archive(root)
                assert b"SECRET" not in data
                with tarfile.open(fileobj=io.BytesIO(data)) as found:
                    assert {"a", "b", "a/0", "a/59"} <= set(found.getnames())
        finally:
            stop.set()
            worker.join()

    in_namespace(check)


def test_a_path_that_is_too_long(in_namespace: InNamespace, tmp_path: Path) -> None:
    """It was made step by step, and no archive could be unpacked that had it: refused, in bounded memory."""

    def check() -> None:
        (tmp_path / "root").mkdir()
        here = os.getcwd()
        os.chdir(tmp_path / "root")
        for _ in range(3000):
            os.mkdir("d")
            os.chdir("d")
        os.chdir(here)
        with pytest.raises(SystemFailure, match="file name too long"):
            archive(tmp_path / "root")
        remove_path(str(tmp_path / "root"))  # which is too deep for pytest

    in_namespace(check)


def test_many_levels_with_few_descriptors(in_namespace: InNamespace, tmp_path: Path) -> None:
    def check() -> None:
        import resource

        upper, lower = tmp_path / "upper", tmp_path / "lower"
        for root in (upper, lower):
            path = root
            for _ in range(400):
                path = path / "d"
            path.mkdir(parents=True)
            (path / f"in {root.name}").write_text("x")
            (root / "z").mkdir()
        (upper / "z" / "last").write_text("x")
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
        data, _ = archive(upper, lower)
        with tarfile.open(fileobj=io.BytesIO(data)) as found:
            names = found.getnames()
        assert len(names) == 404 and names[-1] == "z/last" and sum(name.endswith("er") for name in names) == 2

    in_namespace(check)
