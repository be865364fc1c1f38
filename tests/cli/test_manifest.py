"""manifest inspect, create, annotate, push, rm: with Debian's registry, and skopeo to look at what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import is_clear
from tests.payload.image_archives import docker_archive, simple
from tests.program import Rdock
from tests.registry.servers import docker_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as port:
        yield f"localhost:{port}"


@pytest.fixture
def two(own_rdock: Rdock, registry: str, tmp_path: Path) -> tuple[str, str]:
    """Two images in one repository and in another."""
    names = (f"{registry}/app:one", f"{registry}/other:two")
    archive = tmp_path / "two.tar"
    archive.write_bytes(docker_archive((simple(b"one"), [names[0]]), (simple(b"two"), [names[1]])))
    own_rdock.ok("load", "-i", str(archive))
    for name in names:
        own_rdock.ok("push", "-q", name)
    return names


def raw(name: str) -> Any:
    argv = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"]
    with tempfile.TemporaryDirectory() as directory:  # where skopeo looks for logins need not be readable
        environment = {**os.environ, "XDG_RUNTIME_DIR": directory}
        return json.loads(subprocess.run(argv, check=True, capture_output=True, timeout=60, env=environment).stdout)


def test_inspect(own_rdock: Rdock, two: tuple[str, str]) -> None:
    shown = own_rdock.ok("manifest", "inspect", two[0])
    assert json.loads(shown) == raw(two[0])
    assert shown.splitlines()[1].startswith('\t"schemaVersion"')
    whole = json.loads(own_rdock.ok("manifest", "inspect", "-v", two[0]))
    assert whole["Ref"] == two[0] and whole["Descriptor"]["platform"]["os"] == "linux"
    assert raw(two[0]) in whole.values()


def test_a_list_is_made_annotated_pushed_and_pulled(own_rdock: Rdock, registry: str, two: tuple[str, str]) -> None:
    rdock, name = own_rdock, f"{registry}/app:list"
    assert rdock.ok("manifest", "create", name, *two) == f"Created manifest list {name}"
    result = rdock("manifest", "create", name, two[0])
    assert result.code == 1 and is_clear(result.err) and "--amend" in result.err
    rdock.ok("manifest", "create", "--amend", name, two[0])
    rdock.ok("manifest", "annotate", "--arch", "arm64", "--variant", "v8", name, two[1])
    digest = rdock.ok("manifest", "push", "--purge", name)
    pushed = raw(name)
    platforms = [entry["platform"] for entry in pushed["manifests"]]
    assert [platform["architecture"] for platform in platforms] == ["amd64", "arm64"]
    assert platforms[1]["variant"] == "v8"
    assert json.loads(rdock.ok("manifest", "inspect", f"{registry}/app@{digest}")) == pushed
    assert len(json.loads(rdock.ok("manifest", "inspect", "-v", name))) == 2
    # what the list needs of another repository is in its own by now
    rdock.ok("rmi", *two)
    rdock.ok("pull", "-q", "--platform", "linux/arm64", name)
    rdock.ok("pull", "-q", name)
    result = rdock("manifest", "push", name)
    assert result.code == 1 and "No such manifest" in result.err


def test_changes_at_the_same_time_are_all_kept(own_rdock: Rdock, registry: str, two: tuple[str, str]) -> None:
    rdock, name = own_rdock, f"{registry}/app:crowd"
    rdock.ok("manifest", "create", name, two[0])
    changes = {"--arch": "arm64", "--os": "linux", "--os-version": "1", "--variant": "v7", "--os-features": "x"}
    commands = [rdock.argv("manifest", "annotate", *change, name, two[0]) for change in changes.items()]
    commands.append(rdock.argv("manifest", "create", "--amend", name, two[1]))
    running = [subprocess.Popen(command, env=rdock.environment(), stdout=subprocess.DEVNULL) for command in commands]
    assert [process.wait(60) for process in running] == [0] * len(commands)
    first, _ = json.loads(rdock.ok("manifest", "inspect", name))["manifests"]
    assert first["platform"] == {
        "architecture": "arm64", "os": "linux", "os.version": "1", "variant": "v7", "os.features": ["x"],
    }  # fmt: skip


def test_refusals(own_rdock: Rdock, registry: str, two: tuple[str, str]) -> None:
    rdock, name = own_rdock, f"{registry}/app:refused"
    rdock.ok("manifest", "create", name, two[0])
    for words, says in (
        (("annotate", name, two[1]), "does not exist in"),
        (("inspect", name, two[1]), "does not exist in"),
        (("create", f"{registry}/new:1", f"{registry}/nosuch:1"), "manifest unknown"),
        (("rm", f"{registry}/nosuch:1"), "No such manifest"),
        (("inspect", f"{registry}/nosuch:1"), "manifest unknown"),
        (("push", "elsewhere.invalid/a:1"), "No such manifest"),
    ):
        result = rdock("manifest", *words)
        assert result.code == 1 and is_clear(result.err) and says in result.err, str(result)
    rdock.ok("manifest", "create", "localhost:1/elsewhere:1", two[0])
    result = rdock("manifest", "push", "localhost:1/elsewhere:1")
    assert result.code == 1 and is_clear(result.err)
    rdock.ok("manifest", "rm", name, "localhost:1/elsewhere:1")
