"""For the tests of registries: servers, and settings of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rdock import config, launch, paths
from rdock.registry import endpoints, http
from tests.registry import servers
from tests.registry.servers import Answer, Authority, Fake


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """settings(**keys): what rdock's config.json says; nothing of the machine's or the user's counts."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(paths, "_home", {})
    monkeypatch.setattr(paths, "docker_daemon_config", lambda: str(tmp_path / "daemon.json"))
    monkeypatch.setattr(paths, "containers_config", lambda: [str(tmp_path / "containers"), str(home / "containers")])
    monkeypatch.setattr(http, "FIRST_WAIT", 0.01)

    def set_up(**keys: Any) -> None:
        found = {key.replace("_", "-"): value for key, value in keys.items()}
        path = tmp_path / "config.json"
        path.write_text(json.dumps(found))
        monkeypatch.setattr(config, "_current", config.load(str(path)))
        forget()

    set_up()
    yield set_up
    forget()


def forget() -> None:
    """What is remembered for the life of a process."""
    for function in (endpoints._foreign, endpoints.is_insecure, endpoints.tls):
        function.cache_clear()
    launch._warned.clear()


@pytest.fixture
def fake() -> Iterator[Callable[..., Fake]]:
    """fake(answer): a server that answers so."""
    made: list[Fake] = []

    def make(answer: Answer, tls: Authority | None = None) -> Fake:
        made.append(Fake(answer, tls))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return servers.make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's registry, open to all, by http."""
    with servers.docker_registry(tmp_path_factory.mktemp("plain")) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's registry, which asks for a password."""
    with servers.docker_registry(tmp_path_factory.mktemp("guarded"), password=True) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="session")
def encrypted(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[int]:
    """Debian's registry by https, with a certificate of the private authority and a password: its port."""
    with servers.docker_registry(tmp_path_factory.mktemp("encrypted"), password=True, tls=authority) as port:
        yield port
