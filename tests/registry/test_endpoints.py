"""Which servers are asked, by rdock's own settings and those of the machine's other tools."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rdock.errors import Forbidden, InvalidParameter
from rdock.registry import endpoints
from tests.registry.conftest import forget

Set = Callable[..., None]


def asked(domain: str, repository: str = "team/app", *, push: bool = False) -> list[str]:
    """The URLs of a repository in the order in which they are asked; without a scheme where both are tried."""
    found = endpoints.of_registry(domain, repository, push=push)
    return [f"{e.scheme}://{e.host}{e.path}/v2/{e.repository}".removeprefix("://") for e in found]


def registries(tmp_path: Path, text: str, name: str = "registries.conf") -> None:
    path = tmp_path / "containers" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    forget()


def test_without_settings() -> None:
    assert asked("docker.io", "library/alpine") == ["registry-1.docker.io/v2/library/alpine"]
    assert asked("localhost:5000") == ["localhost:5000/v2/team/app"]


def test_own_mirrors(settings: Set) -> None:
    settings(registry_mirrors=["https://one/path/", "http://two:5000", "three"], registries={
        "quay.io": {"mirrors": ["https://four"]}})  # fmt: skip
    assert asked("docker.io", "library/alpine") == [
        "https://one/path/v2/library/alpine", "http://two:5000/v2/library/alpine", "three/v2/library/alpine",
        "registry-1.docker.io/v2/library/alpine",
    ]  # fmt: skip
    assert asked("quay.io") == ["https://four/v2/team/app", "quay.io/v2/team/app"]
    assert asked("localhost:5000") == ["localhost:5000/v2/team/app"]
    assert asked("quay.io", push=True) == ["quay.io/v2/team/app"]


@pytest.mark.parametrize(
    "mirror", ["ftp://x", "https://u:p@x", "https://x?q", "https://", "https://x:y", "https://[", "a b"]
)
def test_malformed_mirrors(settings: Set, mirror: str) -> None:
    settings(registry_mirrors=[mirror])
    with pytest.raises(InvalidParameter, match=r"config\.json: invalid mirror: "):
        asked("docker.io")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"registry-mirrors": "x"}', "registry-mirrors: not a list of strings"),
        ('{"insecure-registries": [1]}', "insecure-registries: not a list of strings"),
        ('{"registries": []}', "registries: not an object of objects"),
        ('{"registries": {"h": {"mirror": []}}}', "registries: h: unknown setting: mirror"),
        ('{"registries": {"h": {"insecure": "yes"}}}', "registries: h: insecure: not true or false"),
        ('{"registries": {"h": {"mirrors": "x"}}}', "registries: h: mirrors: not a list of strings"),
        ('{"registry_mirrors": []}', "unknown setting: registry_mirrors"),
    ],
)
def test_malformed_settings(settings: Set, text: str, complaint: str) -> None:
    with pytest.raises(InvalidParameter, match=complaint):
        settings(**json.loads(text)) if "_m" not in text else _load(text)


def _load(text: str) -> None:
    import tempfile

    from rdock import config

    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        config.load(file.name)


def test_dockers_daemon_json_counts_where_nothing_else_is_said(settings: Set, tmp_path: Path) -> None:
    (tmp_path / "daemon.json").write_text(
        json.dumps({"registry-mirrors": ["https://theirs"], "insecure-registries": ["reg:5000", "10.0.0.0/8"], "x": 1})
    )
    forget()
    assert asked("docker.io") == ["https://theirs/v2/team/app", "registry-1.docker.io/v2/team/app"]
    assert [endpoints.is_insecure(h) for h in ("reg:5000", "reg", "10.1.1.1:5", "11.1.1.1")] == [
        True,
        False,
        True,
        False,
    ]
    settings(registry_mirrors=["https://ours"])
    assert asked("docker.io") == ["https://ours/v2/team/app", "registry-1.docker.io/v2/team/app"]


def test_registries_conf(tmp_path: Path) -> None:
    registries(tmp_path, """
        unqualified-search-registries = ["evil.example"]
        [[registry]]
        prefix = "example.com/foo"
        location = "internal:5000/bar"
        insecure = true
        [[registry.mirror]]
        location = "mirror-1"
        [[registry.mirror]]
        location = "mirror-2/pre/fix"
        pull-from-mirror = "digest-only"
        [[registry]]
        location = "example.com/foo/bad"
        blocked = true
        [[registry]]
        prefix = "*.wild.example"
        location = "wild.internal/sub"
    """)  # fmt: skip
    assert asked("example.com", "foo/app") == [
        "mirror-1/v2/app", "mirror-2/v2/pre/fix/app", "internal:5000/v2/bar/app"
    ]  # fmt: skip
    assert [e.only for e in endpoints.of_registry("example.com", "foo/app")] == ["", "digest-only", ""]
    assert asked("example.com", "foo/app", push=True) == ["internal:5000/v2/bar/app"]
    assert asked("example.com", "foobar") == ["example.com/v2/foobar"]
    assert asked("a.wild.example", "team/app") == ["wild.internal/v2/sub/team/app"]
    assert asked("docker.io", "library/alpine") == ["registry-1.docker.io/v2/library/alpine"]
    assert endpoints.is_insecure("internal:5000") and not endpoints.is_insecure("example.com")
    with pytest.raises(Forbidden, match=r"registry example\.com/foo/bad is blocked in .*registries\.conf"):
        asked("example.com", "foo/bad/app")


def test_drop_ins_come_after(tmp_path: Path) -> None:
    registries(tmp_path, '[[registry]]\nlocation = "a"\nblocked = true\n[aliases]\nfedora = "x/y"\n')
    registries(tmp_path, '[[registry]]\nlocation = "a"\n', "registries.conf.d/50-more.conf")
    registries(tmp_path, "not toml", "registries.conf.d/60-left.txt")
    assert asked("a") == ["a/v2/team/app"]
    assert endpoints.alias("fedora") == "x/y"


@pytest.mark.parametrize(
    "text",
    [
        "[[registry",
        "[[registry]]\ninsecure = 1\n",
        "[[registry]]\n",
        "registry = 5",
        '[[registry]]\nlocation="x"\n[[registry.mirror]]\n',
        "aliases = 1",
        "\0",
    ],
)
def test_a_broken_file_is_told_of_once_and_left_out(
    tmp_path: Path, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    registries(tmp_path, text)
    (tmp_path / "daemon.json").write_text("{")
    assert asked("docker.io") == ["registry-1.docker.io/v2/team/app"]
    assert asked("x") == ["x/v2/team/app"]
    told = capfd.readouterr().err.splitlines()
    files = sorted(line.split(" is left out")[0].rpartition("/")[2] for line in told)
    assert files == ["daemon.json", "registries.conf"]


@pytest.mark.parametrize(
    ("host", "insecure"),
    [("localhost", True), ("localhost:5000", True), ("127.0.0.1:5000", True), ("127.9.9.9", True), ("[::1]:5000", True),
     ("localhost.example.com", False), ("127.0.0.1.example.com", False), ("example.com", False), ("128.0.0.1", False)],
)  # fmt: skip
def test_what_is_of_this_machine(host: str, insecure: bool) -> None:
    assert endpoints.is_insecure(host) == insecure


def test_certificates(tmp_path: Path) -> None:
    directory = tmp_path / "containers" / "certs.d" / "localhost:5000"
    directory.mkdir(parents=True)
    for name in ("ca.crt", "client.cert", "client.key", "README"):
        (directory / name).touch()
    found = endpoints.tls("localhost:5000")
    assert found.authorities == (f"{directory}/ca.crt",)
    assert found.certificates == ((f"{directory}/client.cert", f"{directory}/client.key"),)
    # Who gives an authority wants it to be asked, also of what could do without.
    assert found.verify
    assert not endpoints.tls("localhost:5001").verify
    assert endpoints.tls("..").authorities == ()
