"""load, import, images, tag, rmi and image inspect, as a user types them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear, store
from tests.conftest import STARTER
from tests.payload import image_archives as made
from tests.payload.tars import directory, end, file
from tests.program import Rdock
from tests.registry.servers import free_port

HEADINGS = "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An archive of an image called app:1."""
    path = tmp_path / "app.tar"
    path.write_bytes(made.docker_archive((made.simple(), ["app:1"])))
    return path


def test_load_list_tag_inspect_and_remove(fresh_rdock: Rdock, app: Path) -> None:
    rdock, found = fresh_rdock, made.simple()
    assert rdock("images").out == HEADINGS
    result = rdock("load", "-i", str(app))
    assert (result.code, result.out, result.err) == (0, "Loaded image: app:1\n", "")
    rdock.ok("tag", "app:1", "localhost:5000/other")
    lines = rdock.ok("images").splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["app", "1", found.id[:12]],
        ["localhost:5000/other", "latest", found.id[:12]],
    ]
    assert rdock.ok("images", "-q", "--no-trunc", "app") == f"sha256:{found.id}"
    assert rdock.ok("images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}", "a*") == "app:1 11B"
    assert json.loads(rdock.ok("images", "--format", "json", "-f", "reference=app"))["ID"] == found.id[:12]
    assert rdock.ok("images", "-q", "-f", "dangling=true") == ""
    (about,) = json.loads(rdock.ok("image", "inspect", "app:1"))
    assert (about["Id"], about["RepoTags"]) == (f"sha256:{found.id}", ["app:1", "localhost:5000/other:latest"])
    assert about["Config"]["Cmd"] == ["sh"] and len(about["RootFS"]["Layers"]) == 2
    assert rdock.ok("rmi", "app:1") == "Untagged: app:1"
    lines = rdock.ok("rmi", found.id[:12]).splitlines()
    assert lines[:2] == ["Untagged: localhost:5000/other:latest", f"Deleted: sha256:{found.id}"] and len(lines) == 4
    assert rdock("images").out == HEADINGS


def test_load_from_a_pipe_and_import(fresh_rdock: Rdock, tmp_path: Path) -> None:
    rdock = fresh_rdock
    tree = tmp_path / "tree.tar"
    tree.write_bytes(directory(b"./") + file(b"./hello", b"x" * 2_000_000, uid=7) + end())
    said = rdock.ok("import", "-c", 'CMD ["/hello"]', "-m", "mine", str(tree), "tree:v1")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", said)
    assert rdock.ok("inspect", "-f", "{{json .Config.Cmd}} {{.Comment}}", "tree:v1") == '["/hello"] mine'
    assert rdock.ok("images", "--format", "{{.Size}}") == "2MB"


@pytest.mark.parametrize(
    ("words", "code", "words_of_error"),
    [
        (["load", "-i", "/nonexistent"], 1, "open /nonexistent: no such file or directory"),
        (["load", "-i", "/etc/passwd"], 1, "cannot load /etc/passwd: invalid tar archive: not a tar header"),
        (["load", "-i", "/etc"], 1, "not an image archive"),
        (["import", "/nonexistent"], 1, "open /nonexistent: no such file or directory"),
        (["import", "/etc/passwd", "BAD"], 1, "must be lowercase"),
        (["import", "/etc/passwd"], 1, "invalid tar archive"),
        (["import", "http://127.0.0.1:1/x.tar"], 1, "connection refused"),
        (["import"], 1, "requires at least 1 argument"),
        (["tag", "nosuch", "x"], 1, "No such image: nosuch:latest"),
        (["tag", "nosuch"], 1, "requires 2 arguments"),
        (["rmi", "nosuch"], 1, "No such image: nosuch:latest"),
        (["rmi"], 1, "requires at least 1 argument"),
        (["image", "inspect", "nosuch"], 1, "No such "),
        (["images", "--filter", "color=red"], 1, "invalid filter 'color'"),
        (["images", "--format", "{{.Nope}}"], 1, "can't evaluate field Nope"),
        (["images", "--frob"], 125, "unknown flag: --frob"),
    ],
)
def test_refusals(rdock: Rdock, words: list[str], code: int, words_of_error: str) -> None:
    if not rdock.ok("images", "-q", STARTER):  # a template is evaluated only if there is an image
        rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    before = store(rdock)
    result = rdock(*words)
    assert result.code == code, str(result)
    assert words_of_error in result.err and "Traceback" not in result.err
    assert len(result.err.splitlines()) <= 6
    assert store(rdock) == before


def _store(rdock: Rdock) -> list[str]:
    found = []
    for name in ("staging", "layers", "images/blobs/sha256"):
        path = rdock.home.data / name
        found += [f"{name}/{entry}" for entry in os.listdir(path)] if path.exists() else []
    return sorted(found)


def test_an_image_in_use_is_kept(fresh_rdock: Rdock) -> None:
    rdock = fresh_rdock
    rdock.ok("run", "-d", "--name", "user", "--network", "none", "rdock/starter", "sleep", "100")
    result = rdock("rmi", "rdock/starter")
    assert result.code == 1 and "conflict: unable to remove repository reference" in result.err
    image = rdock.ok("images", "-q")
    result = rdock("rmi", "-f", image)
    assert result.code == 1 and f"conflict: unable to delete {image} (cannot be forced)" in result.err
    rdock.ok("rm", "-f", "user")
    assert "Deleted: sha256:" in rdock.ok("rmi", "rdock/starter")


def test_a_killed_load_is_cleared_away(fresh_rdock: Rdock, tmp_path: Path) -> None:
    rdock = fresh_rdock
    path = tmp_path / "big.tar"
    layers = [file(b"f%d" % number, os.urandom(1 << 20) * 8) + end() for number in range(5)]
    path.write_bytes(made.docker_archive((made.image(*layers), ["big"])))
    rdock("images")
    for delay in (0.05, 0.12, 0.2, 0.3):
        process = subprocess.Popen(
            rdock.argv("load", "-i", str(path)), env=rdock.environment(), stdin=subprocess.DEVNULL
        )
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        rdock.ok("images")
        assert not [name for name in _store(rdock) if name.startswith("staging")]
    assert rdock.ok("load", "-i", str(path)) == "Loaded image: big:latest"


def test_an_image_that_is_not_here(fresh_rdock: Rdock, app: Path) -> None:
    """It is named in full, and so are those that may have been meant."""
    rdock = fresh_rdock
    rdock.ok("load", "-i", str(app))
    # No registry is in reach of the tests but those they make.
    base = f"localhost:{free_port()}"
    result = rdock("run", f"{base}/nosuch", "true")
    assert result.err.splitlines()[0] == f"Unable to find image '{base}/nosuch:latest' locally"
    assert result.code == 125 and is_clear(result.err) and "connection refused" in result.err
    rdock.ok("tag", "app:1", f"{base}/app:1")
    result = rdock("run", f"{base}/app", "true")
    assert result.code == 125
    assert result.err.splitlines()[2] == f"there is app:1, {base}/app:1"
    # podman's archives call what was built there localhost/…, a registry to Docker
    rdock.ok("tag", "app:1", "localhost/built:latest")
    assert rdock("run", f"{base}/built", "true").err.splitlines()[2] == "there is localhost/built:latest"
    result = rdock("run", "--pull", "always", f"{base}/app:1", "true")
    assert result.code == 125 and is_clear(result.err) and "Unable" not in result.err, str(result)
    assert rdock("run", "--pull", "never", "app", "true").err == "rdock: No such image: app:latest\n"
