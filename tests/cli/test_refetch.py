"""What is damaged or missing of an image comes again from its registry: that and no more, and containers stay."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.conftest import is_clear
from tests.cli.test_pull_push import Faulty, load, noise
from tests.conftest import STARTER
from tests.payload.image_archives import docker_archive, image
from tests.payload.tars import end, file
from tests.program import Rdock
from tests.registry.servers import docker_registry

CLEAN = "no problems found"
DIFFERENT = "its content has the digest"


class Registry(NamedTuple):
    """Debian's, with what it was asked for in its log."""

    host: str
    directory: Path

    def asked(self) -> list[str]:
        """The digests of all blobs and manifests that were got until now."""
        log = (self.directory / "registry.log").read_text()
        return [line.split('"')[1].split()[1].rpartition("/")[2] for line in log.splitlines() if '"GET /v2/' in line]

    def blob(self, digest: str) -> Path:
        digits = digest.removeprefix("sha256:")
        return self.directory / "store/docker/registry/v2/blobs/sha256" / digits[:2] / digits / "data"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    directory = tmp_path_factory.mktemp("registry")
    with docker_registry(directory) as port:
        yield Registry(f"localhost:{port}", directory)


class Parts(NamedTuple):
    """The digests of an image in a store, and where its blobs are."""

    name: str
    id: str
    manifest: str
    layers: list[str]
    place: Path

    def blob(self, digest: str) -> Path:
        return self.place / digest.removeprefix("sha256:")


def parts_of(rdock: Rdock, name: str) -> Parts:
    image_id, manifest = rdock.ok("image", "inspect", "-f", "{{.Id}} {{.Descriptor.digest}}", name).split()
    place = rdock.home.data / "images/blobs/sha256"
    found = json.loads((place / manifest.removeprefix("sha256:")).read_text())
    return Parts(name, image_id, manifest, [layer["digest"] for layer in found["layers"]], place)


def pulled(rdock: Rdock, registry: Registry, repository: str) -> Parts:
    """An image of three layers, a program among them, that came from the registry."""
    name = f"{registry.host}/{repository}:1"
    rdock.ok("run", "--name", "made", "--network", "none", STARTER, "sh", "-c", "echo one >/one")
    rdock.ok("commit", "made", "middle")
    rdock.ok("rm", "made")
    rdock.ok("run", "--name", "made", "--network", "none", "middle", "sh", "-c", "echo two >/two")
    rdock.ok("commit", "made", name)
    rdock.ok("rm", "made")
    rdock.ok("push", "-q", name)
    rdock.ok("rmi", "-f", "middle", name, STARTER)
    rdock.ok("pull", "-q", name)
    return parts_of(rdock, name)


def test_only_what_is_damaged_is_fetched(own_rdock: Rdock, registry: Registry) -> None:
    rdock = own_rdock
    parts = pulled(rdock, registry, "main")
    assert len(parts.layers) == 3
    script = "cat one two; [ ! -e mine ] || cat mine; echo x >>mine"
    rdock.ok("run", "--name", "box", "--network", "none", parts.name, "sh", "-c", script)
    rdock.ok("run", "-d", "--name", "runs", "--network", "none", parts.name, "sleep", "1000")
    # One layer's blob has another byte, one is gone, and the config is cut off.
    changed, gone = parts.blob(parts.layers[1]), parts.blob(parts.layers[2])
    data = changed.read_bytes()
    changed.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    gone.unlink()
    config = parts.blob(parts.id)
    config.write_bytes(config.read_bytes()[:-9])
    result = rdock("system", "check", "--images")
    assert result.code == 1 and f"blob {parts.id}: {DIFFERENT}" in result.out, result
    assert f"blob {parts.layers[1]}: {DIFFERENT}" in result.out, result
    before = registry.asked()
    result = rdock("system", "check", "--repair", "--images")
    assert result.code == 0 and result.out.splitlines()[-1] == CLEAN, result
    assert f"repaired: blob {parts.layers[1]}: {DIFFERENT}" in result.out
    got = [what for what in registry.asked()[len(before) :] if what]  # without the question for the version
    assert sorted(got) == sorted([parts.id, parts.layers[1], parts.layers[2]])
    assert sorted(result.err.splitlines()) == sorted(
        f"{digest.removeprefix('sha256:')[:12]}: Fetched again" for digest in got
    )
    assert rdock.ok("system", "check", "--images") == CLEAN
    assert changed.read_bytes() == data
    # It has its own files still, and one that runs has not noticed.
    assert rdock("start", "-a", "box").out.split() == ["one", "two", "x"]
    assert rdock.ok("exec", "runs", "cat", "one", "two").split() == ["one", "two"]
    assert parts_of(rdock, parts.name) == parts


def test_without_reading_everything(own_rdock: Rdock, registry: Registry) -> None:
    """What a look at the store tells is repaired without a look at all contents: documents, sizes, what is missing."""
    rdock = own_rdock
    parts = pulled(rdock, registry, "quick")
    with parts.blob(parts.layers[0]).open("ab") as blob:
        blob.write(b"more")
    parts.blob(parts.manifest).unlink()
    for path in (rdock.home.data / "layers").iterdir():
        (path / "layer.json").unlink()
    assert rdock("run", "--rm", "--network", "none", parts.name, "true").code == 125
    before = registry.asked()
    result = rdock("system", "check", "--repair")
    assert result.code == 0 and result.out.splitlines()[-1] == CLEAN, result
    got = [what for what in registry.asked()[len(before) :] if what]
    assert sorted(got) == sorted([parts.manifest, parts.layers[0]])
    assert rdock.ok("run", "--rm", "--network", "none", parts.name, "cat", "one", "two").split() == ["one", "two"]
    assert rdock.ok("system", "check", "--images") == CLEAN


def test_a_registry_that_is_away_or_has_lost_it(own_rdock: Rdock, registry: Registry) -> None:
    rdock = own_rdock
    parts = pulled(rdock, registry, "lost")
    lost = parts.blob(parts.layers[0])
    data = lost.read_bytes()
    lost.unlink()
    there = registry.blob(parts.layers[0])
    there.rename(there.with_name("away"))
    here = f"{registry.host}/lost"
    help_ = f"rdock pull {here}@{parts.manifest}"
    result = rdock("system", "check", "--repair")
    assert (result.code, result.err) == (1, ""), result
    missing, why, what_to_do = result.out.splitlines()
    assert missing == f"image {parts.id[7:19]}: blob {parts.layers[0]} of a layer is missing"
    assert why.startswith(
        f"image {parts.id[7:19]}: cannot be fetched from {here}: blob for {here}@{parts.layers[0]} not"
    )
    assert "cannot be repaired: the data of a layer is lost" in what_to_do and help_ in what_to_do
    refused = rdock("pull", "-q", parts.name)
    assert refused.code == 1 and is_clear(refused.err) and "cannot be fetched from" in refused.err, refused
    # What is not what it claims to be is not taken.
    there.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    result = rdock("system", "check", "--repair")
    assert result.code == 1 and not lost.exists(), result
    assert f"cannot be fetched from {here}: blob {parts.layers[0]}: content has the digest" in result.out
    there.unlink()
    there.with_name("away").rename(there)
    # And what was told helps.
    rdock.ok(*help_.split()[1:])
    assert lost.read_bytes() == data and rdock.ok("system", "check", "--images") == CLEAN


def test_a_pull_brings_what_an_image_lacks(own_rdock: Rdock, registry: Registry) -> None:
    rdock = own_rdock
    parts = pulled(rdock, registry, "again")
    parts.blob(parts.layers[2]).unlink()
    parts.blob(parts.id).write_bytes(b"{}")
    before = registry.asked()
    lines = rdock.ok("pull", parts.name).splitlines()
    assert sum(line.endswith(": Fetched again") for line in lines) == 2 and "Image is up to date" in lines[-2], lines
    assert sorted(registry.asked()[len(before) :])[-2:] == sorted([parts.id, parts.layers[2]])
    assert rdock.ok("system", "check", "--images") == CLEAN


def test_a_pushed_image_whose_layers_are_compressed_there(own_rdock: Rdock, registry: Registry, tmp_path: Path) -> None:
    """It gets the registry's manifest, since the layer that was here is nowhere any more."""
    rdock, name = own_rdock, f"{registry.host}/pushed:1"
    layers = [file(b"first", noise(1, 100_000)) + end(), file(b"second", b"2" * 100_000) + end()]
    load(rdock, docker_archive((image(*layers, Cmd=["sh"]), [name])), tmp_path)
    rdock.ok("push", "-q", name)
    parts = parts_of(rdock, name)
    rdock.ok("create", "--name", "box", "--network", "none", name)
    parts.blob(parts.layers[1]).unlink()
    result = rdock("system", "check", "--repair")
    assert result.code == 0 and result.out.splitlines()[-1] == CLEAN, result
    after = parts_of(rdock, name)
    assert (after.id, len(after.layers)) == (parts.id, 2) and after.manifest != parts.manifest
    assert not set(after.layers) & set(parts.layers)
    assert rdock.ok("system", "check", "--images") == CLEAN
    exported = subprocess.run(rdock.argv("export", "box"), env=rdock.environment(), capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(exported.stdout)) as tar:
        assert tar.extractfile("second").read() == b"2" * 100_000  # type: ignore[union-attr]
    assert rdock.ok("image", "inspect", "-f", "{{index .RepoDigests 0}}", name) == f"{name[:-2]}@{after.manifest}"


def test_an_image_that_is_at_no_registry(own_rdock: Rdock, tmp_path: Path) -> None:
    archive = docker_archive((image(file(b"f", b"x") + end()), ["local:1"]))
    load(own_rdock, archive, tmp_path)
    parts = parts_of(own_rdock, "local:1")
    parts.blob(parts.layers[0]).unlink()
    result = own_rdock("system", "check", "--repair")
    assert result.code == 1 and result.err == "", result
    assert result.out.splitlines()[1:] == [
        f"image {parts.id[7:19]} (local:1) cannot be repaired: the data of a layer is lost; load it again"
    ]
    load(own_rdock, archive, tmp_path)
    assert own_rdock.ok("system", "check", "--images") == CLEAN


def test_a_connection_that_breaks(own_rdock: Rdock) -> None:
    server = Faulty("")
    try:
        own_rdock.ok("pull", "-q", server.name)
        parts = parts_of(own_rdock, server.name)
        lost = parts.blob(server.last)
        lost.unlink()
        server.fault = "cut always"
        result = own_rdock("system", "check", "--repair")
        assert result.code == 1 and "the connection broke again and again" in result.out, result
        assert not lost.exists()
        server.fault, server.cuts = "cut", 0
        del server.asked[:]
        result = own_rdock("system", "check", "--repair")
        assert result.code == 0 and result.out.splitlines()[-1] == CLEAN, result
        ranges = [wanted for path, wanted in server.asked if server.last in path]
        assert ranges == ["", "bytes=300000-", "bytes=900000-", "bytes=1800000-"]
    finally:
        server.server.shutdown()
        server.server.server_close()
