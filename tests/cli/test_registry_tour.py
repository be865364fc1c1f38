"""What the README's tour does with a registry, and what a user with a private one does in a day."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear, write_settings
from tests.payload.image_archives import docker_archive, simple
from tests.program import Rdock
from tests.registry.servers import PASSWORD, USER, docker_registry, make_authority


@pytest.fixture
def private(own_rdock: Rdock, tmp_path: Path) -> Iterator[str]:
    """A registry that is reached by TLS of a company's own authority, with an account."""
    authority = make_authority(tmp_path)
    (tmp_path / "private").mkdir()
    with docker_registry(tmp_path / "private", password=True, tls=authority) as port:
        host = f"localhost:{port}"
        place = own_rdock.home.root / "config" / "rdock" / "certs.d" / host
        place.mkdir(parents=True)
        (place / "ca.crt").write_bytes(authority.ca.read_bytes())
        yield host


def login(rdock: Rdock, host: str) -> None:
    words = ("login", "-u", USER, "--password-stdin", host)
    assert "Login Succeeded" in rdock.ok(*words, input=PASSWORD + "\n")


def test_a_day_with_a_private_registry(own_rdock: Rdock, private: str) -> None:
    rdock, first, second = own_rdock, f"{private}/team/app:1", f"{private}/team/app:2"
    rdock.ok("run", "--rm", "--network", "none", "rdock/starter", "true")
    rdock.ok("tag", "rdock/starter", first)
    # each step's failure is one line
    result = rdock("push", first)
    assert result.code == 1 and is_clear(result.err.splitlines()[-1]), str(result)
    assert "no basic auth credentials" in result.err or "denied" in result.err or "unauthorized" in result.err
    result = rdock("login", "-u", USER, "--password-stdin", private, input="wrong\n")
    assert result.code == 1 and is_clear(result.err) and "wrong" not in result.err.replace("unauthorized", "")
    login(rdock, private)
    rdock.ok("push", first)
    rdock.ok("rmi", first)
    change = ("sh", "-c", "echo changed >/etc/motd")
    assert rdock.ok("run", "--name", "work", "--network", "none", "-q", first, *change) == ""
    assert "A /etc/motd" in rdock.ok("diff", "work").splitlines()
    committed = rdock.ok("commit", "-m", "another greeting", "-c", "CMD cat /etc/motd", "work", second)
    assert committed.startswith("sha256:")
    pushed = rdock.ok("push", second).splitlines()
    digest = pushed[-1].split(" ")[2]
    assert sum("Layer already exists" in line for line in pushed) == 1 and sum("Pushed" in line for line in pushed) == 1
    assert json.loads(rdock.ok("manifest", "inspect", second))["layers"]
    rdock.ok("rm", "work")
    rdock.ok("image", "prune", "-a", "-f")
    assert rdock.ok("images", "-aq") == ""
    by_digest = f"{private}/team/app@{digest}"
    assert rdock.ok("run", "--rm", "--network", "none", "-q", by_digest) == "changed"
    assert rdock.ok("inspect", "--format", "{{.Id}}", by_digest) == committed
    assert rdock.ok("history", "--format", "{{.Comment}}", by_digest).splitlines()[0] == "another greeting"
    kept = rdock.home.root / "home" / ".docker" / "config.json"
    assert private in kept.read_text() and stat.S_IMODE(kept.stat().st_mode) == 0o600
    rdock.ok("logout", private)
    assert private not in kept.read_text()
    result = rdock("pull", first)
    assert result.code == 1 and is_clear(result.err)


def test_pull_through_a_mirror(own_rdock: Rdock, private: str, tmp_path: Path) -> None:
    """What the mirror has comes from it, without a login; what it lacks, and all when it is down, from the registry."""
    rdock = own_rdock
    (tmp_path / "mirror").mkdir()
    (tmp_path / "two.tar").write_bytes(
        docker_archive((simple(b"one"), ["localhost/one:1"]), (simple(b"two"), ["localhost/two:1"]))
    )
    rdock.ok("load", "-i", str(tmp_path / "two.tar"))
    with docker_registry(tmp_path / "mirror") as port:
        settings = {"holder-linger": 0, "registries": {private: {"mirrors": [f"http://localhost:{port}"]}}}
        for name in ("one", "two"):
            rdock.ok("tag", f"localhost/{name}:1", f"{private}/{name}:1")
        rdock.ok("tag", "localhost/one:1", f"localhost:{port}/one:1")
        rdock.ok("push", "-q", f"localhost:{port}/one:1")
        login(rdock, private)
        rdock.ok("push", "-q", f"{private}/two:1")
        rdock.ok("logout", private)
        rdock.ok("image", "prune", "-a", "-f")
        write_settings(rdock, json.dumps(settings))
        assert rdock.ok("pull", "-q", f"{private}/one:1") == f"{private}/one:1"
        result = rdock("pull", "-q", f"{private}/two:1")
        assert result.code == 1 and is_clear(result.err), str(result)
        login(rdock, private)
        rdock.ok("pull", "-q", f"{private}/two:1")
    rdock.ok("rmi", f"{private}/two:1")
    rdock.ok("pull", "-q", f"{private}/two:1")


def test_a_certificate_that_is_not_known(own_rdock: Rdock, tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    with docker_registry(tmp_path, tls=authority) as port:
        result = own_rdock("pull", f"registry.localhost:{port}/app")
        assert result.code == 1 and is_clear(result.err.splitlines()[-1])
