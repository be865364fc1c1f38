"""Logins, as docker, podman and skopeo keep them."""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from rdock import paths
from rdock.errors import InvalidParameter, RdockError, Unavailable
from rdock.registry import credentials
from rdock.registry.credentials import HUB_KEY, Credentials, erase, lookup, store

WHO = Credentials("me", "sécret:with:colons")
HELPER = """#!/bin/sh
# A credential helper that keeps each secret in a file, and notes how it was called.
echo "$0 $*" >>{log}
server=$(cat)
case $1 in
store)
    name=$(printf %s "$server" | sed 's/.*"ServerURL":"\\([^"]*\\)".*/\\1/' | tr / _)
    printf %s "$server" >"{kept}/$name" ;;
get)
    name=$(printf %s "$server" | tr / _)
    if [ -e "{kept}/$name" ]; then
        cat "{kept}/$name"
    else
        echo 'credentials not found in native keychain'
        exit 1
    fi ;;
erase) name=$(printf %s "$server" | tr / _); rm -f "{kept}/$name" ;;
esac
"""


def docker_file() -> Path:
    return Path(paths.docker_config())


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def entry(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A helper named `test`, on PATH; its log."""
    kept, log = tmp_path / "kept", tmp_path / "log"
    kept.mkdir()
    program = tmp_path / "bin" / "docker-credential-test"
    write(program, HELPER.format(log=log, kept=kept))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return log


def test_a_login_is_kept_and_forgotten() -> None:
    path = store("localhost:5000", WHO)
    assert path == str(docker_file())
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert lookup("localhost:5000") == WHO
    assert erase("localhost:5000")
    assert not lookup("localhost:5000")
    assert not erase("localhost:5000")


def test_docker_hub_is_kept_under_dockers_name() -> None:
    store("docker.io", WHO)
    assert list(json.loads(docker_file().read_text())["auths"]) == [HUB_KEY]
    assert lookup("registry-1.docker.io") == lookup("docker.io") == WHO
    assert erase("docker.io")
    assert not lookup("registry-1.docker.io")


@pytest.mark.parametrize("key", [HUB_KEY, "docker.io", "index.docker.io", "https://registry-1.docker.io/v2/"])
def test_all_spellings_of_docker_hub_are_understood(key: str) -> None:
    write(docker_file(), {"auths": {key: entry("a", "b")}})
    assert lookup("registry-1.docker.io") == Credentials("a", "b")


def test_what_others_have_in_the_file_stays() -> None:
    other = {"psFormat": "x", "auths": {"other": entry("a", "b") | {"email": "a@b"}}, "plugins": {"x": {"y": "ü"}}}
    write(docker_file(), other)
    store("localhost:5000", WHO)
    erase("localhost:5000")
    assert json.loads(docker_file().read_text()) == other


def test_a_link_to_the_file_stays_one(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "docker.json"
    write(real, "{}")
    docker_file().parent.mkdir()
    docker_file().symlink_to(real)
    store("localhost:5000", WHO)
    assert docker_file().is_symlink()
    assert "localhost:5000" in real.read_text()


def test_logins_at_the_same_time_are_all_kept() -> None:
    threads = [threading.Thread(target=store, args=(f"host{n}", WHO)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert all(lookup(f"host{n}") == WHO for n in range(8))


def test_where_logins_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    write(
        tmp_path / "run" / "containers" / "auth.json", {"auths": {"one": entry("run", "x"), "two": entry("run", "x")}}
    )
    assert lookup("one").username == "run"
    write(docker_file(), {"auths": {"one": entry("docker", "x")}})
    assert lookup("one").username == "docker"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "named.json"))
    write(tmp_path / "named.json", {"auths": {"one": entry("named", "x")}})
    assert lookup("one").username == "named"
    assert store("three", WHO) == str(tmp_path / "named.json")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    assert store("one", WHO) == str(tmp_path / "docker" / "config.json")
    assert lookup("one") == WHO
    assert lookup("two").username == "run"
    # Forgotten is forgotten everywhere.
    assert erase("one")
    assert not lookup("one")


@pytest.mark.parametrize(
    "key",
    ["registry.example.com.attacker.test", "attacker.test/registry.example.com", "registry.example.com:5000",
     "user@registry.example.com", "xregistry.example.com", "example.com", "https://registry.example.com.x/v1/",
     "https://x/registry.example.com"],
)  # fmt: skip
def test_nothing_but_the_whole_name_is_the_same_registry(key: str) -> None:
    """CVE-2026-59891, in both directions."""
    write(docker_file(), {"auths": {key: entry("a", "b")}})
    assert not lookup("registry.example.com")
    write(docker_file(), {"auths": {"registry.example.com": entry("a", "b")}})
    assert not lookup(key)


def test_a_login_for_a_part_of_a_registry() -> None:
    table = {"quay.io": entry("all", "x"), "quay.io/team": entry("team", "x"), "quay.io/team/app": entry("app", "x")}
    write(docker_file(), {"auths": table})
    assert lookup("quay.io", "team/app").username == "app"
    assert lookup("quay.io", "team/other/x").username == "team"
    assert lookup("quay.io", "teamster/app").username == "all"


def test_an_identity_token_is_kept_without_the_password() -> None:
    store("localhost:5000", Credentials("me", "password", "token"))
    assert json.loads(docker_file().read_text())["auths"]["localhost:5000"] == {
        "auth": base64.b64encode(b"me:").decode(), "identitytoken": "token"
    }  # fmt: skip
    assert lookup("localhost:5000") == Credentials("me", "", "token")


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"auths": []}', '{"auths": {"h": {"auth": "?"}}}', '{"auths": {"h": {"auth": "bm9jb2xvbg=="}}}',
     '{"auths": {"h": 1}}', '{"credsStore": "../x"}', '{"credHelpers": [1]}', '{"credsStore": 1}', "[" * 100_000],
)  # fmt: skip
def test_a_broken_file_is_told_of_and_left_alone(content: str) -> None:
    write(docker_file(), content)
    with pytest.raises(InvalidParameter, match=r"config\.json") as told:
        lookup("h")
    assert "bm9j" not in str(told.value)
    if not content.startswith('{"auths": {'):
        with pytest.raises(RdockError):
            store("h", WHO)
        assert docker_file().read_text() == content


# -- helpers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{"credsStore": "test"}, {"credsStore": "none", "credHelpers": {"h:1": "test"}}])
def test_a_helper_keeps_a_login(helper: Path, config: dict[str, Any], tmp_path: Path) -> None:
    write(docker_file(), config)
    assert not lookup("h:1")
    assert store("h:1", WHO) == ""
    assert json.loads(docker_file().read_text())["auths"] == {"h:1": {}}
    kept = json.loads((tmp_path / "kept" / "h:1").read_text())
    assert kept == {"ServerURL": "h:1", "Username": "me", "Secret": WHO.password}
    assert lookup("h:1") == WHO
    assert erase("h:1")
    assert not lookup("h:1")
    assert json.loads(docker_file().read_text()) == config
    assert WHO.password not in helper.read_text()


def test_a_helper_keeps_an_identity_token(helper: Path) -> None:
    write(docker_file(), {"credsStore": "test"})
    store("docker.io", Credentials("me", "", "token"))
    assert lookup("registry-1.docker.io") == Credentials("", "", "token")


@pytest.mark.parametrize("script", [None, "#!/bin/sh\nexit 1\n", "#!/bin/sh\necho nonsense\n", "#!/bin/sh\ncat\n"])
def test_a_helper_that_does_not_work(script: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2021-41092: it is told of, and the login goes nowhere else."""
    if script is not None:
        program = tmp_path / "bin" / "docker-credential-bad"
        write(program, script)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    write(docker_file(), {"credsStore": "bad"})
    with pytest.raises(Unavailable, match="docker-credential-bad"):
        lookup("h")
    if script is None or "exit 1" in script:
        with pytest.raises(Unavailable) as told:
            store("h", WHO)
        assert WHO.password not in str(told.value)
        assert WHO.password not in docker_file().read_text()
        assert json.loads(docker_file().read_text()) == {"credsStore": "bad"}


def test_secrets_are_not_shown() -> None:
    assert "sécret" not in repr(WHO) and "token" not in repr(Credentials("a", "", "token"))
    assert "sécret" not in f"{credentials.Credentials(*('me', 'sécret'))}"
