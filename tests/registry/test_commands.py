"""login, logout and search as a user gives them, against real servers; with skopeo and podman as neighbours."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rdock.errors import RdockError
from rdock.registry import login as logins
from rdock.registry.credentials import Credentials
from tests.cli.conftest import is_clear
from tests.cli.terminal import Terminal
from tests.program import Rdock
from tests.registry.servers import PASSWORD, USER, Authority, Fake, Reply, Request, basic, error
from tests.registry.test_evil_registry import Tokens

Make = Callable[..., Fake]
LOGIN = ("login", "-u", USER, "--password-stdin")


def config_of(program: Rdock) -> Path:
    return program.home.root / "home" / ".docker" / "config.json"


def has_secret(text: str) -> bool:
    return PASSWORD in text or basic().removeprefix("Basic ") in text


def trust(program: Rdock, authority: Authority, host: str) -> None:
    directory = program.home.root / "config" / "rdock" / "certs.d" / host
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(authority.ca.read_bytes())


def test_login_and_logout(fresh_rdock: Rdock, guarded: str) -> None:
    done = fresh_rdock("-D", *LOGIN, guarded, input=PASSWORD + "\n")
    assert (done.code, done.out) == (0, "Login Succeeded\n"), str(done)
    assert f"stored unencrypted in '{config_of(fresh_rdock)}'" in done.err
    assert not has_secret(done.err)
    assert stat.S_IMODE(config_of(fresh_rdock).stat().st_mode) == 0o600
    assert fresh_rdock.ok("login", guarded) == "Authenticating with existing credentials...\nLogin Succeeded"
    assert fresh_rdock.ok("logout", f"https://{guarded}/v2/") == f"Removing login credentials for {guarded}"
    assert fresh_rdock.ok("logout", guarded) == f"Not logged in to {guarded}"
    assert fresh_rdock.ok("logout") == "Not logged in to https://index.docker.io/v1/"


def test_dockers_options_for_where_logins_are(fresh_rdock: Rdock, guarded: str, tmp_path: Path) -> None:
    fresh_rdock.ok("--config", str(tmp_path / "one"), *LOGIN, guarded, input=PASSWORD)
    fresh_rdock.variables["DOCKER_CONFIG"] = str(tmp_path / "two")
    fresh_rdock.ok(*LOGIN, guarded, input=PASSWORD)
    assert not config_of(fresh_rdock).exists()
    assert all(guarded in (tmp_path / name / "config.json").read_text() for name in ("one", "two"))


def test_a_wrong_password_is_not_kept(fresh_rdock: Rdock, guarded: str) -> None:
    done = fresh_rdock("--debug", *LOGIN, guarded, input="wrong-one")
    assert done.code == 1 and done.out == ""
    assert done.err.endswith(f"rdock: login attempt to http://{guarded}/v2/ failed with status: 401 Unauthorized\n")
    assert "wrong-one" not in done.err
    assert not config_of(fresh_rdock).exists()
    # Nor does it take the place of a good one.
    fresh_rdock.ok(*LOGIN, guarded, input=PASSWORD)
    before = config_of(fresh_rdock).read_bytes()
    assert fresh_rdock(*LOGIN, guarded, input="wrong-one").code == 1
    assert config_of(fresh_rdock).read_bytes() == before


@pytest.mark.parametrize(
    ("words", "input", "complaint"),
    [
        (("--password-stdin",), "x", "Must provide --username with --password-stdin"),
        (("-u", "a", "-p", "b", "--password-stdin"), "x", "--password and --password-stdin are mutually exclusive"),
        ((), "", "Cannot perform an interactive login from a non TTY device"),
        (("-u", "a"), "x", "Cannot perform an interactive login from a non TTY device"),
        (("-u", "a", "--password-stdin"), "x" * 70_000, "the password on stdin is larger than 65536 bytes"),
    ],
)
def test_what_login_refuses(fresh_rdock: Rdock, words: tuple[str, ...], input: str, complaint: str) -> None:
    done = fresh_rdock("login", *words, "127.0.0.1:1", input=input)
    assert (done.code, done.err) == (1, f"rdock: {complaint}\n")


@pytest.mark.parametrize("server", ["a b", "https://", "x/../y z:", "-x.y:z"])
def test_what_is_no_registry(fresh_rdock: Rdock, server: str) -> None:
    done = fresh_rdock(*LOGIN, "--", server, input="x")
    assert done.code == 1 and is_clear(done.err)


def test_a_registry_that_is_not_there(fresh_rdock: Rdock) -> None:
    done = fresh_rdock(*LOGIN, "127.0.0.1:1", input="x")
    assert done.code == 1
    assert done.err == 'rdock: Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused\n'


def test_password_in_the_arguments_is_warned_of(fresh_rdock: Rdock, guarded: str) -> None:
    done = fresh_rdock("login", "-u", USER, "-p", PASSWORD, guarded)
    assert done.code == 0
    assert done.err.startswith("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n")


def test_name_and_password_are_asked_for_at_a_terminal(fresh_rdock: Rdock, guarded: str) -> None:
    with Terminal(fresh_rdock, "login", guarded) as terminal:
        terminal.await_text("Username: ")
        terminal.type(f"{USER}\n")
        terminal.await_text("Password: ")
        terminal.type(f"{PASSWORD}\n")
        terminal.await_text("Login Succeeded")
        assert terminal.end() == 0
        assert PASSWORD.encode() not in terminal.seen
        assert terminal.settings() == terminal.before


def test_a_private_authority(fresh_rdock: Rdock, encrypted: int, authority: Authority) -> None:
    host = f"{socket.gethostname()}:{encrypted}"
    done = fresh_rdock(*LOGIN, host, input=PASSWORD)
    assert done.code == 1
    assert done.err == (
        f'rdock: Get "https://{host}/v2/": tls: failed to verify certificate: '
        "x509: certificate signed by unknown authority\n"
    )
    done = fresh_rdock("search", f"{host}/x")
    assert done.code == 1 and "certificate signed by unknown authority" in done.err
    trust(fresh_rdock, authority, host)
    fresh_rdock.ok(*LOGIN, host, input=PASSWORD)
    assert fresh_rdock.ok("search", f"{host}/x").startswith("NAME ")


def test_an_identity_token_is_kept_in_place_of_the_password(fresh_rdock: Rdock, fake: Make) -> None:
    tokens = Tokens()

    def answer(request: Request) -> Reply:
        if request.path.startswith("/token") and request.method == "GET":
            if request.authorization != basic():
                return error(401, "UNAUTHORIZED")
            assert "offline_token=true" in request.path
            return Reply(200, json.dumps({"token": "t", "refresh_token": "identity"}).encode())
        return tokens(request)

    host = fake(answer).host
    done = fresh_rdock(*LOGIN, host, input="wrong")
    assert (done.code, done.err) == (
        1, f'rdock: Get "http://{host}/v2/": unauthorized: incorrect username or password\n'
    )  # fmt: skip
    done = fresh_rdock(*LOGIN, host, input=PASSWORD)
    assert (done.code, done.out, done.err) == (0, "Login Succeeded\n", "")
    assert json.loads(config_of(fresh_rdock).read_text())["auths"][host]["identitytoken"] == "identity"
    assert not has_secret(config_of(fresh_rdock).read_text())
    assert "Login Succeeded" in fresh_rdock.ok("login", host)


# -- neighbours ----------------------------------------------------------------------------------

NEIGHBOURS = pytest.mark.parametrize("tool", ["skopeo", "podman"])


def neighbour(program: Rdock, *words: str, input: str = "") -> subprocess.CompletedProcess[str]:
    if shutil.which(words[0]) is None:
        pytest.skip(f"no {words[0]}")
    done = subprocess.run(words, env=program.environment(), input=input, capture_output=True, text=True, timeout=60)
    pause = program.home.runtime / "libpod" / "tmp" / "pause.pid"
    if pause.exists():  # podman's, which would stay
        os.kill(int(pause.read_text()), signal.SIGKILL)
        pause.unlink()
    return done


@NEIGHBOURS
def test_their_login_is_ours(fresh_rdock: Rdock, guarded: str, tool: str) -> None:
    done = neighbour(fresh_rdock, tool, "login", "--tls-verify=false", "-u", USER, "--password-stdin", guarded,
                     input=PASSWORD)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not config_of(fresh_rdock).exists()
    assert fresh_rdock.ok("search", f"{guarded}/").startswith("NAME")
    assert fresh_rdock.ok("login", guarded).startswith("Authenticating with existing credentials...")
    assert fresh_rdock.ok("logout", guarded).startswith("Removing")
    assert neighbour(fresh_rdock, tool, "login", "--get-login", guarded).returncode != 0


@NEIGHBOURS
@pytest.mark.parametrize("named", [False, True])
def test_our_login_is_theirs(fresh_rdock: Rdock, guarded: str, tool: str, named: bool) -> None:
    if named:
        fresh_rdock.variables["REGISTRY_AUTH_FILE"] = str(fresh_rdock.home.root / "auth.json")
    fresh_rdock.ok(*LOGIN, guarded, input=PASSWORD)
    done = neighbour(fresh_rdock, tool, "login", "--get-login", guarded)
    assert (done.returncode, done.stdout) == (0, f"{USER}\n"), done.stderr
    if tool == "skopeo":
        done = neighbour(fresh_rdock, "skopeo", "list-tags", "--tls-verify=false", f"docker://{guarded}/nothing")
        assert "404" in done.stderr, done.stderr  # and not 401


# -- search --------------------------------------------------------------------------------------


def test_search_in_a_registry_of_ones_own(fresh_rdock: Rdock, plain: str) -> None:
    from rdock.registry.client import Client
    from tests.registry.test_client import push

    for name in ("found/one", "found/two", "other"):
        client = Client(plain, name, push=True)
        for tag in ("v1", "v2"):
            push(client, b"content", tag)
    lines = fresh_rdock.ok("search", f"{plain}/found").splitlines()
    assert [line.split() for line in lines] == [
        ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"], [f"{plain}/found/one", "0"], [f"{plain}/found/two", "0"]
    ]  # fmt: skip
    assert fresh_rdock.ok("search", "--limit", "1", "--format", "{{.Name}}", f"{plain}/found") == f"{plain}/found/one"
    assert fresh_rdock.ok("search", "--filter", "stars=1", "--format", "{{.Name}}", f"{plain}/found") == ""
    lines = fresh_rdock.ok("search", "--list-tags", f"{plain}/found/one").splitlines()
    assert [line.split() for line in lines] == [["NAME", "TAG"], *([f"{plain}/found/one", tag] for tag in ("v1", "v2"))]
    done = fresh_rdock("search", "--list-tags", f"{plain}/nothing")
    assert done.code == 1 and done.err.startswith(f"rdock: repository {plain}/nothing not found: name unknown")


@pytest.fixture
def hub(fresh_rdock: Rdock, fake: Make, authority: Authority) -> Iterator[Fake]:
    """A server that is Docker Hub for the program, by way of a proxy; what it answers is the test's."""
    server = fake(lambda request: Reply(404), authority)
    proxy = socket.create_server(("127.0.0.1", 0))

    def relay(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                client, _ = proxy.accept()
            except OSError:
                return
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            # "proxy user:p@ss"
            known = b"proxy-authorization: Basic cHJveHkgdXNlcjpwQHNz\r\n" in head.replace(b"Proxy-A", b"proxy-a")
            if not (known and head.startswith(b"CONNECT ") and b".docker.io:443 " in head):
                client.close()
                continue
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            there = socket.create_connection(("127.0.0.1", server.port))
            for pair in ((client, there), (there, client)):
                threading.Thread(target=relay, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    for host in ("index.docker.io", "registry-1.docker.io", "auth.docker.io"):
        trust(fresh_rdock, authority, host)
    fresh_rdock.variables["HTTPS_PROXY"] = f"http://proxy%20user:p%40ss@127.0.0.1:{proxy.getsockname()[1]}"
    yield server
    proxy.shutdown(socket.SHUT_RDWR)
    proxy.close()


RESULTS = [
    {"name": "busybox", "description": "Busybox base image.", "star_count": 3000, "is_official": True},
    {"name": "some/busybox", "description": "x" * 60 + "\n\x1b[31mred", "star_count": 3, "is_automated": True},
]


def test_search_at_docker_hub(fresh_rdock: Rdock, hub: Fake) -> None:
    hub.answer = lambda request: Reply(200, json.dumps({"num_results": 2, "results": RESULTS}).encode())
    assert fresh_rdock.ok("search", "library/busybox").splitlines() == [
        "NAME           DESCRIPTION                                     STARS     OFFICIAL",
        "busybox        Busybox base image.                             3000      [OK]",
        f"some/busybox   {'x' * 44}…   3         ",
    ]
    assert hub.requests[0].path == "/v1/search?q=busybox&n=25"
    assert hub.requests[0].headers["host"] == "index.docker.io"
    assert not hub.requests[0].authorization
    whole = fresh_rdock.ok("search", "--no-trunc", "--filter", "stars=3", "--filter", "is-official=false", "busybox")
    assert "x" * 60 + " \\x1b[31mred" in whole and "Busybox base" not in whole
    first = fresh_rdock.ok("search", "--format", "json", "--limit", "1", "busybox")
    assert json.loads(first) == {
        "Description": "Busybox base image.", "IsAutomated": "false", "IsOfficial": "true", "Name": "busybox",
        "StarCount": "3000",
    }  # fmt: skip
    assert fresh_rdock.ok("search", "--format", "table {{.Name}}\t{{.StarCount}}", "x").splitlines()[0].split() == [
        "NAME", "STARS"
    ]  # fmt: skip


@pytest.mark.parametrize("proxy", ["socks5://x", "http://", "http://u:secret@h:x", "http://u:secret@[h"])
def test_a_proxy_that_is_none(fresh_rdock: Rdock, proxy: str) -> None:
    fresh_rdock.variables["HTTPS_PROXY"] = proxy
    done = fresh_rdock("search", "x")
    assert (done.code, done.err) == (1, "rdock: the proxy that the environment names is not http(s)://HOST[:PORT]\n")


def test_login_at_docker_hub(fresh_rdock: Rdock, hub: Fake) -> None:
    hub.answer = Tokens("https://auth.docker.io/token")
    fresh_rdock.ok(*LOGIN, input=PASSWORD)
    assert list(json.loads(config_of(fresh_rdock).read_text())["auths"]) == ["https://index.docker.io/v1/"]
    asked = hub.asked("/token")[0]
    assert (asked.headers["host"], asked.authorization) == ("auth.docker.io", basic())
    assert [r.authorization for r in hub.asked("/v2/")] == ["", "Bearer t1"]
    assert fresh_rdock.ok("logout") == "Removing login credentials for https://index.docker.io/v1/"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"results": 5}', b'{"results": [{}]}', b'{"results": [{"name": "x", "star_count": "y"}]}']
)
def test_an_answer_that_is_none(fresh_rdock: Rdock, hub: Fake, body: bytes) -> None:
    hub.answer = lambda request: Reply(200, body)
    done = fresh_rdock("search", "x")
    assert (done.code, done.err) == (1, "rdock: https://index.docker.io/v1/search: the answer is not one of a search\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--limit", "0", "x"), "limit 0 is outside the range of [1, 100]"),
        (("--limit", "101", "x"), "limit 101 is outside the range of [1, 100]"),
        (("--filter", "stars=x", "x"), "invalid filter 'stars=x'"),
        (("--filter", "nope=x", "x"), "invalid filter 'nope'"),
        (("https://x",), "invalid repository name: repository name (https://x) should not have a scheme"),
        (("--list-tags", "busybox:1"), "invalid repository name: 'busybox:1' has a tag or a digest"),
    ],
)
def test_what_search_refuses(fresh_rdock: Rdock, words: tuple[str, ...], complaint: str) -> None:
    done = fresh_rdock("search", *words)
    assert (done.code, done.err) == (1, f"rdock: {complaint}\n")


def test_login_at_what_is_no_registry(fake: Callable[..., Fake]) -> None:
    """A web server that knows no /v2/ gets no password kept for it."""
    server = fake(lambda request: Reply(404, b"nothing here"))
    with pytest.raises(RdockError):
        logins.authenticate(server.host, Credentials("user", "secret"))
