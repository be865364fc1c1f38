"""The rows of scripts/bench that need a registry: Debian's docker-registry on the loopback, served for the while."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench import Bench

_LAYERS = 5
_SIZE = 250_000_000


def pull(bench: Bench, compression: str) -> tuple[float, float]:
    """`pull` of an image of five layers and 250 MB, whose layers are compressed so."""
    with _serving(bench) as address:
        name = f"{address}/five:{compression}"
        _publish(bench, name, compression)
        bench.both("pull", "-q", name)
        try:
            return bench.times("pull", "-q", name, rounds=3, prepare=("rmi", "-f", name))
        finally:
            # nothing may be left of the layers, or the next row would find them
            bench.both("rmi", "-f", name)


def push(bench: Bench) -> tuple[float, float]:
    """`push` of the same image, with gzip, to a registry that has nothing of it."""
    with _serving(bench) as address:
        name = f"{address}/five:gzip"
        _publish(bench, name, "gzip")
        bench.both("pull", "-q", name)
        # The registry keeps all it has in files, and looks there each time.
        empty = f"rm -rf {shlex.quote(str(bench.directory / 'registry'))}/*"
        try:
            return bench.times("push", "-q", name, rounds=3, before=empty)
        finally:
            bench.both("rmi", "-f", name)


@contextlib.contextmanager
def _serving(bench: Bench) -> Iterator[str]:
    program = shutil.which("docker-registry")
    if program is None:
        raise bench.failed("docker-registry is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = bench.directory / "registry"
    store.mkdir()
    config = bench.directory / "registry.yml"
    config.write_text(
        json.dumps(
            {
                "version": "0.1",
                "log": {"level": "error"},
                "storage": {"filesystem": {"rootdirectory": str(store)}, "delete": {"enabled": True}},
                "http": {"addr": f"127.0.0.1:{port}"},
            }
        )
    )
    known = bench.directory / ".config" / "containers" / "registries.conf"
    known.write_text(f'[[registry]]\nlocation = "localhost:{port}"\ninsecure = true\n')
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([program, "serve", str(config)], stdout=quiet, stderr=quiet)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.05)
        yield f"localhost:{port}"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(store)
        known.unlink()


def _publish(bench: Bench, name: str, compression: str) -> None:
    """Have the image in the registry, sent by podman, and in neither store."""
    archive = bench.directory / "five.tar"
    _make(Path(bench.tree), archive)
    bench.run(bench.podman, "load", "-q", "-i", str(archive))
    archive.unlink()
    bench.run(
        bench.podman, "push", "-q", "--format", "oci", "--compression-format", compression, "localhost/five", name
    )
    bench.run(bench.podman, "rmi", "-f", "localhost/five")


def _make(tree: Path, archive: Path) -> None:
    """A docker-archive: the files of the tree spread over five layers, and half-random ones up to the size."""
    import hashlib
    import random

    paths = [archive.with_name(f"layer{number}.tar") for number in range(_LAYERS)]
    with contextlib.ExitStack() as stack:
        layers = [stack.enter_context(tarfile.open(path, "w")) for path in paths]
        source = stack.enter_context(tarfile.open(tree))
        total = 0
        for member in source:
            if member.isdir() or member.isreg() or member.issym():
                number = 0 if member.isdir() else hash_of(member.name) % _LAYERS
                layers[number].addfile(member, source.extractfile(member) if member.isreg() else None)
                total += member.size
        chance = random.Random(5)
        number = 0
        while total < _SIZE:
            content = chance.randbytes(300_000) + b"x" * 400_000
            member = tarfile.TarInfo(f"opt/data/file{number}")
            member.size = len(content)
            layers[number % _LAYERS].addfile(member, io.BytesIO(content))
            total, number = total + len(content), number + 1
    diff_ids = []
    for path in paths:
        with path.open("rb") as file:
            diff_ids.append("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    listed = [{"Config": "config.json", "RepoTags": ["localhost/five:latest"], "Layers": [path.name for path in paths]}]
    with tarfile.open(archive, "w") as tar:
        for path in paths:
            tar.add(path, path.name)
            path.unlink()
        for name, document in (("config.json", config), ("manifest.json", listed)):
            content = json.dumps(document).encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def hash_of(name: str) -> int:
    """The same in each run, unlike Python's own."""
    return sum(name.encode())
