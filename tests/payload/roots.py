"""Images for hostile roots: the starter's files with a layer on top that replaces some, and a witness outside."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.payload.image_archives import docker_archive, image
from tests.payload.tars import end, header, padded
from tests.program import CHECKOUT, Rdock

Entry = bytes
STARTER = CHECKOUT / "rdock" / "starter" / "starter.tar.gz"


def compiled(source: str, *options: str) -> bytes:
    """A program from tests/payload, built by gcc. The test is skipped where that is not possible."""
    compiler = shutil.which("gcc")
    if not compiler:
        pytest.skip("gcc is not installed, so the program that makes the calls cannot be built")
    with tempfile.TemporaryDirectory() as directory:
        target = os.path.join(directory, "program")
        path = str(CHECKOUT / "tests" / "payload" / source)
        subprocess.run([compiler, "-O1", *options, path, "-o", target], check=True)
        return Path(target).read_bytes()


def base_layer() -> bytes:
    """The layer of the starter image: busybox and a few directories."""
    with tarfile.open(STARTER) as archive:
        members = {member.name: member for member in archive.getmembers()}

        def read(name: str) -> bytes:
            found = archive.extractfile(members[name])
            assert found is not None
            return found.read()

        (listed,) = json.loads(read("manifest.json"))
        return read(listed["Layers"][0])


def fifo(name: bytes) -> Entry:
    return header(name, b"6", mode=0o666)


def program(name: bytes, content: bytes, mode: int = 0o755) -> Entry:
    return header(name, b"0", len(content), mode=mode) + padded(content)


def gone(name: bytes) -> Entry:
    """A whiteout: the file of that name in the layers below is not there."""
    parent, _, last = name.rpartition(b"/")
    return header(parent + b"/.wh." + last if parent else b".wh." + last, b"0", 0)


def sparse(name: bytes, size: int) -> Entry:
    """A file of that size without any data, in the old GNU format."""
    places = b"".join(b"%011o\0%011o\0" % place for place in ((size, 0),)).ljust(96, b"\0")
    tail = b"ustar  \0".ljust(129, b"\0") + places + b"\0" + b"%011o\0" % size
    return header(name, b"S", 0, tail=tail)


class Store:
    """Images that a module's tests share, loaded once into a store and removed at the end."""

    def __init__(self, rdock: Rdock, prefix: str) -> None:
        self.rdock, self.prefix = rdock, prefix
        self.names: list[str] = []
        self._base = base_layer()

    def load(self, roots: Mapping[str, Iterable[Entry]], configs: Mapping[str, dict[str, Any]] | None = None) -> None:
        """Load one image for each root; `configs` are what images say beside their files."""
        images = []
        for number, (name, entries) in enumerate(roots.items()):
            layer = b"".join(entries)
            # Equal layers would make equal images, and those have one id.
            layer += header(b"number", b"0", 0, mtime=number + 1) + end()
            config = {"Cmd": ["sh"], **(configs or {}).get(name, {})}
            images.append((image(self._base, layer, **config), [self.name(name)]))
            self.names.append(self.name(name))
        self.rdock.ok("load", input=docker_archive(*images))

    def name(self, name: str) -> str:
        return f"{self.prefix}/{name}:latest"

    def remove(self) -> None:
        if self.names:
            self.rdock("rmi", "-f", *self.names)


class Canary:
    """A tree outside of all containers that must stay as it is. It belongs to the user, so it could be changed."""

    def __init__(self, directory: Path) -> None:
        self.path = directory
        directory.mkdir()
        for name in ("secret", "hosts", "passwd", "null", "console", "core_pattern"):
            (directory / name).write_text(f"canary {name}\n")
        for name in ("sub", "pts", "shm", "etc", "sys", "mqueue", "fs", "cgroup"):
            (directory / name).mkdir()
            (directory / name / "inner").write_text("canary\n")
        os.chmod(directory / "secret", 0o600)
        (directory / "link").symlink_to("secret")
        for path in [directory, *directory.rglob("*")]:
            os.utime(path, (1_500_000_000, 1_500_000_000), follow_symlinks=False)
        self._before = self._look()

    def _look(self) -> dict[str, tuple[Any, ...]]:
        found = {}
        for path in [self.path, *self.path.rglob("*")]:
            info = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
            found[str(path)] = (info.st_mode, info.st_uid, info.st_gid, info.st_nlink, info.st_mtime_ns, content)
        return found

    def check(self) -> None:
        assert self._look() == self._before, "something outside of the container was changed"
