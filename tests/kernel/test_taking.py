"""Taking over trees in a real user namespace: all that should, and nothing else, changes hands."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdock.linux import kernelfile, mount, namespaces
from rdock.linux.taking import Taking

InNamespace = Callable[..., Any]


@pytest.fixture
def in_tree(tmp_path: Path, in_namespace: InNamespace) -> Any:
    """Call a function with an empty directory, as root of a namespace; all in it is removed from there as well."""

    def call(function: Callable[..., Any], *args: Any) -> Any:
        return in_namespace(_within, str(tmp_path), function, *args)

    return call


def _within(path: str, function: Callable[..., Any], *args: Any) -> Any:
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mount.mount("tmpfs", path, "tmpfs")
    return function(Path(path), *args)


def take(path: Path, since: int = 0, **options: Any) -> Taking:
    taking = Taking(since, **options)
    fd = os.open(path, os.O_PATH)
    taking.take(fd)
    os.close(fd)
    return taking


def given(path: Path, uid: int = 70, gid: int = 71) -> Path:
    os.chown(path, uid, gid, follow_symlinks=False)
    return path


def owner(path: Path) -> tuple[int, int]:
    return path.lstat().st_uid, path.lstat().st_gid


def made(path: Path, *ids: int) -> Path:
    path.touch()
    return given(path, *ids)


def every_kind(top: Path) -> None:
    (top / "d").mkdir()
    made(top / "d" / "file").chmod(0o640)
    made(top / "program").chmod(0o6755)
    (top / "link").symlink_to("/etc/passwd")
    os.mkfifo(top / "fifo")
    made(top / "user", 70, 0)
    made(top / "group", 0, 71)
    made(top / "mine", 0, 0)
    made(top / "nobody", 65534, 65534)
    made(top / "\udcff\n").chmod(0o600)
    for name in ("d", "link", "fifo"):
        given(top / name)
    (top / "d").chmod(0o2750)
    taking = take(given(top))
    found = {path: owner(path) for path in (top, *top.rglob("*"))}
    assert set(found.values()) == {(0, 0)}, found
    assert (taking.taken, taking.failed) == (10, 0)
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in top.rglob("*") if not path.is_symlink()}
    assert modes["d"] == 0o2750 and modes["file"] == 0o640 and modes["program"] == 0o755 and modes["\udcff\n"] == 0o600
    assert owner(Path("/etc/passwd")) == (65534, 65534)


def test_every_kind(in_tree: Any) -> None:
    in_tree(every_kind)


def what_is_left_alone(top: Path) -> None:
    made(top / "early")
    time.sleep(0.05)
    since = time.time_ns() - 20_000_000
    for name in ("passed", "mounted"):
        (top / name).mkdir()
        made(top / name / "x")
    mount.mount("tmpfs", str(top / "mounted"), "tmpfs")
    made(top / "mounted" / "y")
    made(top / "spared", 80, 0)
    made(top / "late")
    about = (top / "passed").stat()
    taking = take(top, since, passed=[(about.st_dev, about.st_ino)], spared=[80])
    assert owner(top / "late") == (0, 0) and taking.taken == 1
    for name in ("early", "passed/x", "mounted/y"):
        assert owner(top / name) == (70, 71), name
    assert owner(top / "spared") == (80, 0)


def test_what_is_left_alone(in_tree: Any) -> None:
    in_tree(what_is_left_alone)


def names_of_one_file(top: Path) -> None:
    for name in ("tree/a/b", "tree/c", "outside"):
        (top / name).mkdir(parents=True)
    whole, half = made(top / "tree" / "a" / "whole"), made(top / "tree" / "half")
    os.link(whole, top / "tree" / "a" / "b" / "whole")
    os.link(whole, top / "tree" / "c" / "whole")
    os.link(half, top / "tree" / "c" / "half")
    os.link(half, top / "outside" / "half")
    single = made(top / "single")
    assert take(top / "tree").taken == 1
    assert owner(whole) == (0, 0) and owner(half) == (70, 71)
    # A single file that is bound.
    assert take(half).taken == 0 and take(single).taken == 1 and owner(single) == (0, 0)


def test_names_of_one_file(in_tree: Any) -> None:
    in_tree(names_of_one_file)


def deep_and_wide(top: Path) -> None:
    """Deeper than a path can be long, and than descriptors can be open; and with branches at each depth."""
    import resource

    fd = os.open(top, os.O_RDONLY)
    for _ in range(400):
        for name in ("n" * 100, "side"):
            os.mkdir(name, dir_fd=fd)
            os.close(os.open(f"{name}/file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
            for path in (f"{name}/file", name):
                os.chown(path, 70, 71, dir_fd=fd)
        inner = os.open("n" * 100, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 80, before + 80))
    taking = take(top)
    assert (taking.taken, taking.failed) == (1600, 0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_deep_and_wide(in_tree: Any) -> None:
    in_tree(deep_and_wide)


def a_group_that_does_not_exist(top: Path) -> None:
    """In a namespace inside, with fewer ids, as a group of the user's that no container has."""
    shared = top / "shared"
    shared.mkdir()
    given(shared, 0, 60)
    shared.chmod(0o2777)
    file, link = made(shared / "file", 5, -1), shared / "link"
    link.symlink_to("file")
    given(link, 5, -1)
    strangers = made(shared / "strangers", 200, 60)
    assert owner(file) == owner(link) == (5, 60)
    ready, mapped = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        os.close(mapped[1])
        try:
            namespaces.unshare(namespaces.CLONE_NEWUSER)
            os.write(ready[1], b"x")
            assert os.read(mapped[0], 1)
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            taking = take(shared)
            status = 0 if (taking.taken, taking.failed) == (2, 1) and os.geteuid() == 0 else 2
        finally:
            os._exit(status)
    os.close(ready[1])
    assert os.read(ready[0], 1)
    kernelfile.write(f"/proc/{pid}/uid_map", "0 0 1\n1 1 99\n65534 65534 1\n")
    kernelfile.write(f"/proc/{pid}/gid_map", "0 0 1\n1 1 49\n")
    os.write(mapped[1], b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert owner(file) == owner(link) == (0, 0) and owner(strangers) == (200, 60) and owner(shared) == (0, 60)


def test_a_group_that_does_not_exist(in_tree: Any) -> None:
    in_tree(a_group_that_does_not_exist)
