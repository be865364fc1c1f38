"""The embedded starter image: what is in it, and that building it again gives the same."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
STARTER = CHECKOUT / "rdock" / "starter" / "starter.tar.gz"


@pytest.fixture(scope="module")
def members() -> dict[str, bytes]:
    """The files of the archive."""
    with tarfile.open(STARTER) as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


@pytest.fixture(scope="module")
def config(members: dict[str, bytes]) -> Any:
    return json.loads(members[json.loads(members["manifest.json"])[0]["Config"]])


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_starter", CHECKOUT / "packaging" / "starter" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_names_and_digests_hold(members: dict[str, bytes], config: Any) -> None:
    docker = json.loads(members["manifest.json"])[0]
    assert docker["RepoTags"] == ["rdock/starter:latest"]
    described = json.loads(members["index.json"])["manifests"][0]
    manifest = json.loads(members[f"blobs/{described['digest'].replace(':', '/')}"])
    for blob in (described, manifest["config"], *manifest["layers"]):
        content = members[f"blobs/{blob['digest'].replace(':', '/')}"]
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == blob["digest"]
        assert len(content) == blob["size"]
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    assert config["config"]["Cmd"] == ["sh"]


def test_layer_has_all_a_shell_needs_and_the_licence(members: dict[str, bytes]) -> None:
    layer = members[json.loads(members["manifest.json"])[0]["Layers"][0]]
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        found = {member.name: member for member in archive}
    assert found["bin/sh"].linkname == "busybox"
    assert found["usr/bin/env"].linkname == "../../bin/busybox"
    assert found["tmp"].mode == 0o1777
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}
    assert {"GPL-2", "LGPL-2.1", "SOURCE", "copyright"} <= {Path(name).name for name in found}


def test_building_again_gives_the_same_bytes(builder: ModuleType, config: Any, tmp_path: Path) -> None:
    installed = ["dpkg-query", "--show", "--showformat=${Version}", "busybox-static"]
    if not shutil.which("dpkg-query") or subprocess.run(installed, capture_output=True).returncode != 0:
        pytest.skip("Debian's busybox-static is not installed")
    facts = builder.package()
    kept = config["config"]["Labels"]["org.opencontainers.image.version"]
    if (facts["version"], facts["architecture"]) != (kept, config["architecture"]):
        pytest.skip(f"built from busybox-static {kept}; here is {facts['version']} ({facts['architecture']})")
    builder.build(tmp_path / "first.tar.gz")
    builder.build(tmp_path / "second.tar.gz")
    assert (tmp_path / "first.tar.gz").read_bytes() == (tmp_path / "second.tar.gz").read_bytes()
    # another zlib may compress otherwise; what is compressed must be the same
    assert gzip.decompress((tmp_path / "first.tar.gz").read_bytes()) == gzip.decompress(STARTER.read_bytes())
