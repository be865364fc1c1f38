"""create: a container that waits to be started. And --cidfile, --replace, --platform, --rootfs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear, store
from tests.conftest import STARTER
from tests.program import Rdock

CREATE = ("create", "--network", "none")


def field(rdock: Rdock, container: str, template: str) -> str:
    return rdock.ok("inspect", "--type", "container", "-f", template, container)


def test_what_is_created_waits(rdock: Rdock) -> None:
    container = rdock.ok(*CREATE, "-e", "A=b", STARTER, "sh", "-c", "echo $A; exit 7")
    assert len(container) == 64
    assert field(rdock, container, "{{.State.Status}} {{.State.Running}} {{.State.Pid}}") == "created false 0"
    assert container[:12] not in rdock.ok("ps", "-q") and container[:12] in rdock.ok("ps", "-aq")
    for _ in range(2):
        result = rdock("start", "-a", container)
        assert (result.code, result.out) == (7, "b\n"), str(result)
    rdock.ok("rm", container)


def test_container_create_is_another_spelling(rdock: Rdock) -> None:
    container = rdock.ok("container", *CREATE, "--rm", "--name", "box-to-start", STARTER, "echo", "once")
    assert rdock.ok("start", "-a", "box-to-start") == "once"
    assert rdock("inspect", container).code == 1


def test_nothing_of_it_runs(own_rdock: Rdock) -> None:
    container = own_rdock.ok(*CREATE, STARTER, "true")
    assert not os.path.exists(own_rdock.home.runtime / "rdock" / "containers" / container)
    assert not os.listdir(own_rdock.home.data / "containers" / ".locks")
    own_rdock.ok("rm", container)


@pytest.mark.parametrize("option", ["-d", "--detach", "--sig-proxy", "--detach-keys=a"])
def test_options_of_run_alone(rdock: Rdock, option: str) -> None:
    result = rdock(*CREATE, option, STARTER, "true")
    assert result.code == 125 and "unknown" in result.err, str(result)


def test_cidfile(rdock: Rdock, tmp_path: Path) -> None:
    container = rdock(*CREATE, "--cidfile", "id", STARTER, "true", cwd=tmp_path).out.strip()
    path = tmp_path / "id"
    assert path.read_text() == container
    assert "id" in json.loads(rdock.ok("inspect", container))[0]["HostConfig"].values()
    before = store(rdock)
    result = rdock("run", "--cidfile", str(path), STARTER, "true")
    assert result.code == 125 and is_clear(result.err), str(result)
    assert f"container ID file found, make sure the other container isn't running or delete {path}" in result.err
    assert path.read_text() == container and store(rdock) == before
    rdock.ok("rm", container)


def test_cidfile_of_what_did_not_come_to_be(rdock: Rdock, tmp_path: Path) -> None:
    path = tmp_path / "id"
    for image, options in (("no-such-image", []), (STARTER, ["--platform", "linux/s390x"])):
        assert rdock("run", "--cidfile", str(path), *options, image, "true").code == 125
        assert not path.exists()


def test_cidfile_follows_no_link(rdock: Rdock, tmp_path: Path) -> None:
    """CVE-2026-53489."""
    (tmp_path / "link").symlink_to(tmp_path / "canary")
    result = rdock("run", "--cidfile", str(tmp_path / "link"), STARTER, "true")
    assert result.code == 125 and "container ID file found" in result.err
    assert not (tmp_path / "canary").exists()
    result = rdock("run", "--cidfile", str(tmp_path / "none" / "id"), STARTER, "true")
    assert result.code == 125 and "no such file or directory" in result.err and is_clear(result.err)


def test_replace(rdock: Rdock) -> None:
    first = rdock.ok("run", "-d", "--network", "none", "--name", "replaced", STARTER, "sleep", "600")
    assert rdock(*CREATE, "--name", "replaced", STARTER, "true").code == 125
    second = rdock.ok(*CREATE, "--name", "replaced", "--replace", STARTER, "true")
    assert rdock("inspect", first).code == 1 and field(rdock, "replaced", "{{.Id}}") == second
    third = rdock.ok("run", "-d", "--network", "none", "--name", "replaced", "--replace", STARTER, "sleep", "600")
    assert field(rdock, "replaced", "{{.Id}}") == third
    rdock.ok("rm", "-f", "replaced")
    result = rdock(*CREATE, "--replace", STARTER, "true")
    assert result.code == 125 and "cannot replace container without --name being set" in result.err


def test_replace_refuses_before_it_removes(rdock: Rdock) -> None:
    rdock.ok(*CREATE, "--name", "kept-one", STARTER, "true")
    assert rdock(*CREATE, "--name", "kept-one", "--replace", "no-such-image", "true").code == 125
    rdock.ok("rm", "kept-one")


@pytest.mark.parametrize("platform", ["linux", "linux/amd64", "amd64", "x86_64", "Linux/AMD64"])
def test_platform_of_this_machine(rdock: Rdock, platform: str) -> None:
    assert rdock.ok("run", "--rm", "--network", "none", "--platform", platform, STARTER, "echo", "here") == "here"


@pytest.mark.parametrize("platform", ["linux/arm64", "arm64", "windows/amd64", "linux/arm/v7"])
def test_platform_that_the_image_is_not_for(rdock: Rdock, platform: str) -> None:
    result = rdock("run", "--platform", platform, STARTER, "true")
    assert result.code == 125 and is_clear(result.err), str(result)
    assert f"image with reference {STARTER} was found but does not match the specified platform: wanted " in result.err
    assert "actual: linux/amd64" in result.err


@pytest.mark.parametrize("platform", ["a/b/c/d", "linux/", "linux/amd 64"])
def test_platform_that_is_none(rdock: Rdock, platform: str) -> None:
    result = rdock("run", "--platform", platform, STARTER, "true")
    assert result.code == 125 and "invalid" in result.err and is_clear(result.err), str(result)


@pytest.fixture
def root_directory(rdock: Rdock, tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    command = rdock.argv("run", "--rm", "--network", "none", STARTER, "cat", "/bin/busybox")
    done = subprocess.run(command, env=rdock.environment(), stdout=subprocess.PIPE, check=True)
    (root / "bin" / "busybox").write_bytes(done.stdout)
    (root / "bin" / "busybox").chmod(0o755)
    (root / "bin" / "sh").symlink_to("busybox")
    return root


def test_rootfs(rdock: Rdock, root_directory: Path) -> None:
    root = root_directory
    run = ("run", "--network", "none", "--rootfs")
    assert rdock.ok(*run, "--rm", str(root), "sh", "-c", "echo written > /file; pwd") == "/"
    assert (root / "file").read_text() == "written\n" and (root / "file").stat().st_uid == os.getuid()
    result = rdock(*run, "--rm", "--read-only", "root", "sh", "-c", "echo > /other", cwd=root.parent)
    assert result.code != 0 and not (root / "other").exists()
    container = rdock.ok("create", "--network", "none", "--rootfs", str(root), "sh", "-c", "exit 9")
    found = json.loads(rdock.ok("inspect", container))[0]
    assert found["Rootfs"] == str(root) and found["Image"] == ""
    assert container[:12] in rdock.ok("ps", "-as") and str(root) in rdock.ok("ps", "-a", "--no-trunc")
    assert [rdock("start", "-a", container).code for _ in range(2)] == [9, 9]
    rdock.ok("rm", container)
    assert (root / "file").exists() and (root / "bin" / "busybox").exists()


def test_rootfs_needs_a_directory_and_a_command(rdock: Rdock, root_directory: Path) -> None:
    for argument, says in (
        ("/nonexistent", "is no directory"),
        ("/etc/passwd", "is no directory"),
        ("/", "the host's"),
    ):
        result = rdock("run", "--rootfs", argument, "sh")
        assert result.code == 125 and says in result.err and is_clear(result.err), str(result)
    result = rdock("run", "--rootfs", str(root_directory))
    assert result.code == 125 and "no command specified" in result.err


def test_rootfs_with_links_stays_inside(rdock: Rdock, root_directory: Path, tmp_path: Path) -> None:
    """Nothing outside is chosen by what is in it."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (root_directory / "etc").symlink_to(canary)
    rdock.ok("run", "--rm", "--network", "none", "--rootfs", str(root_directory), "sh", "-c", "true")
    assert os.listdir(canary) == []


def test_grammar_of_create_is_that_of_run(rdock: Rdock) -> None:
    helps = [rdock.ok(command, "--help").splitlines() for command in ("run", "create")]
    options = [{line.split("--")[1].split(" ")[0] for line in text if line[6:8] == "--"} for text in helps]
    assert options[0] - options[1] == {"detach", "detach-keys", "sig-proxy"} and not options[1] - options[0]
