"""What registries must not be able to do, and what the client is to bear from them."""

from __future__ import annotations

import email.utils
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from rdock.errors import DataLoss, Forbidden, NotFound, RdockError, RegistryUnavailable, Unauthorized
from rdock.registry import auth, client, credentials, http, upload
from rdock.registry.client import Client, Cut
from rdock.registry.credentials import Credentials
from tests.registry.servers import (
    MANIFEST,
    PASSWORD,
    USER,
    Authority,
    Content,
    Fake,
    Reply,
    Request,
    basic,
    digest_of,
    error,
    make_authority,
    ranged,
)

Make = Callable[..., Fake]
Set = Callable[..., None]
BODY = b'{"schemaVersion":2,"mediaType":"' + MANIFEST.encode() + b'"}'
BLOB = os.urandom(3_000_000)
GOOD = Content({digest_of(BLOB): BLOB}, {"v1": BODY, digest_of(BODY): BODY})
SECRETS = (PASSWORD, basic().removeprefix("Basic "), "identity-secret")


def carries_secret(server: Fake) -> bool:
    texts = [repr((r.path, r.headers, r.body)) for r in server.requests]
    return any(secret in text for text in texts for secret in SECRETS)


def first(times: int, reply: Reply, then: Callable[[Request], Reply] = GOOD) -> Callable[[Request], Reply]:
    """A server that answers so for the first requests beyond `/v2/`."""
    left = [times]

    def answer(request: Request) -> Reply:
        if request.path == "/v2/" or not left[0]:
            return then(request)
        left[0] -= 1
        return reply

    return answer


def name(host: str) -> str:
    """A server of this machine under a name that is not known to be of this machine."""
    return f"{socket.gethostname()}:{host.rpartition(':')[2]}"


# -- patience ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(fake: Make, status: int) -> None:
    server = fake(first(2, Reply(status)))
    assert Client(server.host, "app").manifest("v1").content == BODY
    assert len(server.asked("/v2/app")) == 3


def test_a_connection_that_breaks_is_tried_again(fake: Make) -> None:
    server = fake(first(2, Reply(200, b"x" * 100, cut_after=0, read=0)))
    assert Client(server.host, "app").manifest("v1").content == BODY


def test_patience_ends(fake: Make) -> None:
    server = fake(first(99, error(503, "UNAVAILABLE", "service is down")))
    with pytest.raises(RegistryUnavailable, match="unavailable: service is down"):
        Client(server.host, "app").manifest("v1")
    assert len(server.asked("/v2/app")) == http.ATTEMPTS


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_heeded(fake: Make, as_date: bool) -> None:
    asked = email.utils.formatdate(time.time() + 2, usegmt=True) if as_date else "1"
    server = fake(first(1, Reply(429, headers={"Retry-After": asked})))
    begin = time.monotonic()
    Client(server.host, "app").manifest("v1")
    assert 0.9 < time.monotonic() - begin < 3


@pytest.mark.parametrize("asked", ["100000", "9" * 40, "Wed, 21 Oct 2090 07:28:00 GMT"])
def test_nobody_waits_for_hours(fake: Make, asked: str) -> None:
    server = fake(first(99, error(429, "TOOMANYREQUESTS", "pull rate limit", {"Retry-After": asked})))
    with pytest.raises(RegistryUnavailable, match="toomanyrequests: pull rate limit"):
        Client(server.host, "app").manifest("v1")
    assert len(server.asked("/v2/app")) == 1


@pytest.mark.parametrize("asked", ["soon", "-5", "1e9", "\u0661", "Wed, 99 Foo 2020"])
def test_a_malformed_retry_after_is_none(fake: Make, asked: str) -> None:
    headers = {"Retry-After": asked.encode().decode("latin-1")}
    assert Client(fake(first(1, Reply(429, headers=headers))).host, "app").manifest("v1").content == BODY


# -- blobs ---------------------------------------------------------------------------------------


def read_on(reader: Client, digest: str) -> tuple[bytes, int]:
    """The content as a puller reads it, taking it up again after each cut; and how many there were."""
    found, cuts = b"", 0
    while True:
        try:
            for piece in reader.blob(digest, len(found)):
                found += piece
            return found, cuts
        except Cut:
            cuts += 1
            assert cuts < 20


@pytest.mark.parametrize("ranges", [True, False])
def test_a_blob_is_taken_up_again_after_a_cut(fake: Make, ranges: bool) -> None:
    cut_at = iter((1_000_000, 1_500_000))

    def answer(request: Request) -> Reply:
        if "/blobs/" not in request.path:
            return GOOD(request)
        reply = ranged(BLOB, request) if ranges else Reply(200, BLOB)
        reply.cut_after = next(cut_at, None)
        return reply

    server = fake(answer)
    found, cuts = read_on(Client(server.host, "app"), digest_of(BLOB))
    assert found == BLOB
    assert cuts == 2
    assert "range" not in server.asked("/v2/app/blobs")[0].headers
    assert server.requests[-1].headers["range"].startswith("bytes=")


def test_a_server_that_drips_is_given_up(fake: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "WINDOW", 0.2)
    server = fake(first(9, Reply(200, b"x" * 1000, drip=0.02)))
    begin = time.monotonic()
    with pytest.raises(Cut, match="too slow"):
        list(Client(server.host, "app").blob(digest_of(BLOB)))
    with pytest.raises(RegistryUnavailable, match="too slow"):
        Client(server.host, "app").manifest("v1")
    assert time.monotonic() - begin < 5


def test_a_range_that_was_not_asked_for(fake: Make) -> None:
    def answer(request: Request) -> Reply:
        if "/blobs/" not in request.path:
            return GOOD(request)
        return Reply(206, BLOB[10:], {"Content-Range": f"bytes 10-{len(BLOB) - 1}/{len(BLOB)}"})

    with pytest.raises(DataLoss, match="another range"):
        next(Client(fake(answer).host, "app").blob(digest_of(BLOB), 5))


# -- digests and sizes ---------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["v1", digest_of(BODY)])
def test_a_manifest_of_another_digest_is_refused(fake: Make, reference: str) -> None:
    def answer(request: Request) -> Reply:
        headers = {"Content-Type": MANIFEST, "Docker-Content-Digest": digest_of(BODY)}
        return GOOD(request) if request.path == "/v2/" else Reply(200, BODY + b" ", headers)

    with pytest.raises(DataLoss, match="manifest verification failed for digest sha256:"):
        Client(fake(answer).host, "app").manifest(reference)


def test_a_huge_manifest_is_not_read(fake: Make) -> None:
    server = fake(first(9, Reply(200, b" " * (client.MAX_MANIFEST + 1), {"Content-Type": MANIFEST})))
    with pytest.raises(DataLoss, match="larger than"):
        Client(server.host, "app").manifest("v1")


def test_a_registry_that_stores_something_else_is_told_on(fake: Make) -> None:
    server = fake(first(1, Reply(201, headers={"Docker-Content-Digest": digest_of(b"else")})))
    with pytest.raises(DataLoss, match="stored"):
        Client(server.host, "app", push=True).put_manifest("v1", MANIFEST, BODY)


def test_a_list_that_goes_on_elsewhere_or_for_ever(fake: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    other = fake(GOOD)

    def answer(request: Request) -> Reply:
        page = int((parse_qs(urlsplit(request.path).query).get("p") or ["0"])[0])
        target = f"http://{other.host}/x" if page == 2 and "near" not in request.path else f"?n=1&p={page + 1}"
        link = {"Link": f'<{target}>; rel="next"'}
        return Reply(200, json.dumps({"tags": [f"t{page}"]}).encode(), link)

    found = []
    with pytest.raises(DataLoss, match="elsewhere"):
        for tag in Client(fake(answer).host, "app").tags():
            found.append(tag)
    assert found == ["t0", "t1", "t2"]
    assert not other.requests
    monkeypatch.setattr(client, "_MAX_PAGES", 20)
    with pytest.raises(DataLoss, match="does not end"):
        list(Client(fake(answer).host, "near").tags())


@pytest.mark.parametrize("page", [b"[]", b"{", b"[" * 100_000, b'{"tags": ["a/../b"]}', b'{"tags": [1]}'])
def test_a_list_that_is_none(fake: Make, page: bytes) -> None:
    with pytest.raises(DataLoss):
        list(Client(fake(first(9, Reply(200, page))).host, "app").tags())


# -- redirects -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_authorization_does_not_follow_to_another_server(fake: Make, status: int) -> None:
    other = fake(lambda request: ranged(BLOB, request))

    def answer(request: Request) -> Reply:
        if request.authorization != basic():
            return Reply(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return Reply(status, headers={"Location": f"http://localhost:{other.port}/there"})

    server = fake(answer)
    credentials.store(server.host, Credentials(USER, PASSWORD))
    # The other's own login is of no matter either: it has not asked for one.
    credentials.store(f"localhost:{other.port}", Credentials("other", "identity-secret"))
    assert b"".join(Client(server.host, "app").blob(digest_of(BLOB), 7)) == BLOB[7:]
    assert carries_secret(server)
    assert len(other.requests) == 1
    assert not carries_secret(other)
    assert other.requests[0].headers["range"] == "bytes=7-"


def test_an_upload_elsewhere_is_without_authorization(fake: Make) -> None:
    other = fake(lambda request: Reply(202 if request.method == "PATCH" else 201))

    def answer(request: Request) -> Reply:
        if request.authorization != basic():
            return Reply(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return Reply(202, headers={"Location": f"http://{other.host}/upload?state=1"})

    server = fake(answer)
    credentials.store(server.host, Credentials(USER, PASSWORD))
    Client(server.host, "app", push=True).upload_blob(digest_of(b"x"), 1, lambda offset: iter([b"x"]))
    assert [request.method for request in other.requests] == ["PATCH", "PUT"]
    assert not carries_secret(other)


def test_no_redirect_from_https_to_http(fake: Make, authority: Authority) -> None:
    other = fake(GOOD)
    server = fake(first(9, Reply(307, headers={"Location": f"http://{other.host}/v2/app/manifests/v1"})), authority)
    with pytest.raises(RegistryUnavailable, match="redirects from https to http"):
        Client(server.host, "app").manifest("v1")
    assert not other.requests


def test_redirects_end(fake: Make) -> None:
    server = fake(first(99, Reply(307, headers={"Location": "/v2/app/manifests/v1"})))
    with pytest.raises(RegistryUnavailable, match="stopped after"):
        Client(server.host, "app").manifest("v1")


@pytest.mark.parametrize(
    "where", ["file:///etc/passwd", "gopher://x/", "http://u:p@127.0.0.1/", "http://", "http://[x"]
)
def test_a_redirect_to_what_is_no_server(fake: Make, where: str) -> None:
    with pytest.raises(RegistryUnavailable):
        Client(fake(first(9, Reply(307, headers={"Location": where}))).host, "app").manifest("v1")


# -- tokens --------------------------------------------------------------------------------------


class Tokens:
    """A registry and its token server in one: tokens are numbered."""

    def __init__(self, realm: str = "/token", life: int = 300) -> None:
        self.realm, self.life, self.given = realm, life, 0
        self.accepted: Callable[[str], bool] = lambda token: True

    def __call__(self, request: Request) -> Reply:
        if request.path.startswith("/token"):
            self.given += 1
            return Reply(200, json.dumps({"token": f"t{self.given}", "expires_in": self.life}).encode())
        scheme, _, token = request.authorization.partition(" ")
        if scheme != "Bearer" or not self.accepted(token):
            realm = self.realm if "://" in self.realm else f"http://{request.headers['host']}{self.realm}"
            challenge = f'Bearer realm="{realm}",service="the \\"service\\"",scope="repository:app:pull"'
            return Reply(401, headers={"WWW-Authenticate": challenge})
        return GOOD(request)


def test_a_token_serves_until_it_is_refused_and_is_renewed_once(fake: Make) -> None:
    tokens = Tokens()
    server = fake(tokens)
    reader = Client(server.host, "app")
    reader.manifest("v1")
    reader.manifest("v1")
    assert tokens.given == 1
    query = parse_qs(urlsplit(server.asked("/token")[0].path).query)
    assert (query["service"], query["scope"]) == (['the "service"'], ["repository:app:pull"])
    tokens.accepted = lambda token: token == "t2"
    reader.manifest("v1")
    assert tokens.given == 2
    tokens.accepted = lambda token: False
    with pytest.raises(Unauthorized):
        reader.manifest("v1")
    assert tokens.given == 3


def test_an_old_token_is_renewed_before_it_is_refused(fake: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens()
    reader = Client(fake(tokens).host, "app")
    reader.manifest("v1")
    now = time.monotonic()
    monkeypatch.setattr(auth.time, "monotonic", lambda: now + 299)
    reader.manifest("v1")
    assert tokens.given == 2


def test_an_identity_token_goes_by_post_to_the_own_registry_alone(fake: Make) -> None:
    server = fake(Tokens())
    credentials.store(server.host, Credentials("u", "", "identity-secret"))
    Client(server.host, "app").manifest("v1")
    asked = server.asked("/token")[0]
    form = parse_qs(asked.body.decode())
    assert asked.method == "POST" and "identity-secret" not in asked.path
    assert (form["grant_type"], form["refresh_token"]) == (["refresh_token"], ["identity-secret"])
    assert form["scope"] == ["repository:app:pull"]


def test_only_the_registrys_own_login_goes_to_its_token_server(fake: Make) -> None:
    """One that names a stranger's, or another registry's, gets no secret but the one that was given to it."""
    other = fake(Tokens())
    server = fake(Tokens(f"http://{other.host}/token"))
    for host in (other.host, "docker.io", f"localhost:{server.port}", f"{server.host}0", f"x{server.host}"):
        credentials.store(host, Credentials(USER, PASSWORD))
    Client(server.host, "app").manifest("v1")
    assert other.asked("/token") and not carries_secret(other) and not carries_secret(server)


@pytest.mark.parametrize("secret", [True, False])
def test_a_token_server_that_sends_on_elsewhere_is_not_followed(fake: Make, secret: bool) -> None:
    """By which it would reach what `check_realm` keeps it from."""
    other = fake(Tokens())
    server = fake(Tokens())
    tokens = server.answer

    def answer(request: Request) -> Reply:
        if request.path.startswith("/token"):
            return Reply(307, headers={"Location": f"http://{other.host}/token?secret"})
        return tokens(request)

    server.answer = answer
    if secret:
        credentials.store(server.host, Credentials(USER, PASSWORD))
    refused = rf"^http://{server.host}/token: redirects to http://{other.host}/token, which is refused$"
    with pytest.raises(RegistryUnavailable, match=refused):
        Client(server.host, "app").manifest("v1")
    assert carries_secret(server) == secret and not other.requests


def test_a_token_server_may_send_on_to_itself(fake: Make) -> None:
    tokens = Tokens("/token/old")

    def answer(request: Request) -> Reply:
        if request.path.startswith("/token/old"):
            return Reply(307, headers={"Location": request.path.replace("/token/old", "/token/new")})
        return tokens(request)

    server = fake(answer)
    credentials.store(server.host, Credentials(USER, PASSWORD))
    assert Client(server.host, "app").manifest("v1").content == BODY
    assert [r.authorization for r in server.asked("/token/new")] == [basic()]


def test_a_token_server_in_clear_text_is_not_asked_for_a_registry_by_https(fake: Make, authority: Authority) -> None:
    other = fake(Tokens())
    server = fake(Tokens(f"http://{other.host}/token"), authority)
    credentials.store(server.host, Credentials(USER, PASSWORD))
    with pytest.raises(RegistryUnavailable, match="in clear text; this is refused"):
        Client(server.host, "app").manifest("v1")
    assert not other.requests


def test_a_token_servers_certificate_is_checked(fake: Make, authority: Authority) -> None:
    """CVE-2019-10214: though the registry itself may do without."""
    other = fake(Tokens(), authority)
    server = fake(Tokens(f"https://{name(other.host)}/token"))
    credentials.store(server.host, Credentials(USER, PASSWORD))
    with pytest.raises(RegistryUnavailable, match="certificate signed by unknown authority"):
        Client(server.host, "app").manifest("v1")
    assert not other.requests


@pytest.mark.parametrize(
    "realm",
    ["https://127.0.0.1/t", "https://localhost/t", "https://10.1.2.3/t", "https://169.254.169.254/t", "https://[::1]/t",
     "https://192.168.1.1/t", "https://[fe80::1]/t", "http://203.0.114.1/t", "https://203.0.114.1:8443/t",
     "https://user@203.0.114.1/t", "file:///etc/passwd", "", "https://[::ffff:127.0.0.1]/t"],
)  # fmt: skip
def test_realms_that_a_public_registry_may_not_name(realm: str) -> None:
    with pytest.raises(RegistryUnavailable):
        auth.check_realm(realm, "https://203.0.114.7/v2/", has_secret=True)


@pytest.mark.parametrize(
    ("realm", "registry"),
    [
        ("https://203.0.114.1/t", "https://203.0.114.7/v2/"),
        ("https://203.0.114.7/t", "https://203.0.114.7/v2/"),
        ("https://203.0.114.7:5000/t", "https://203.0.114.7:5000/v2/"),
        ("http://127.0.0.1:5001/t", "http://127.0.0.1:5000/v2/"),
        ("https://10.0.0.2:8443/t", "https://10.0.0.1/v2/"),
    ],
)
def test_realms_that_are_usual(realm: str, registry: str) -> None:
    auth.check_realm(realm, registry, has_secret=True)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\r\\nX: y"}', b"[" * 100_000,
                                  b" " * (2 << 20), b'{"token": "\\u00e9"}'])  # fmt: skip
def test_a_token_that_is_none(fake: Make, body: bytes) -> None:
    tokens = Tokens()
    server = fake(lambda request: Reply(200, body) if request.path.startswith("/token") else tokens(request))
    with pytest.raises(RdockError):
        Client(server.host, "app").manifest("v1")


def test_secrets_are_in_no_message(
    fake: Make, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rdock.launch.debugging", True)

    def answer(request: Request) -> Reply:
        if not request.path.startswith("/token"):
            return tokens(request)
        said = f"{request.authorization} {request.body.decode()}"
        return error(401, "DENIED", said)

    tokens = Tokens()
    for who in (Credentials(USER, PASSWORD), Credentials("u", "", "identity-secret")):
        server = fake(answer)
        credentials.store(server.host, who)
        with pytest.raises(Unauthorized) as refused:
            Client(server.host, "app").manifest("v1")
        assert carries_secret(server)
        told = f"{refused.value} {refused.value.hint} {who!r} {capfd.readouterr()}"
        assert "401" in told and not any(secret in told for secret in SECRETS)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('Bearer realm="https://a/t",service="s",scope="a:b:c d:e:f"',
         [("bearer", {"realm": "https://a/t", "service": "s", "scope": "a:b:c d:e:f"})]),
        ('Basic realm="a, \\"b\\"", Bearer realm=x', [("basic", {"realm": 'a, "b"'}), ("bearer", {"realm": "x"})]),
        ('Negotiate, Basic realm="x" , charset=UTF-8',
         [("negotiate", {}), ("basic", {"realm": "x", "charset": "UTF-8"})]),
        ("BEARER REALM = x", [("bearer", {"realm": "x"})]),
        ('Bearer realm="unfinished', [("bearer", {})]),
        ('Bearer realm="a",realm="b"', [("bearer", {"realm": "a"})]),
        ("realm=x", []), ("", []), (",,,", []), ('"', []), ("Bearer =x", []),
    ],
)  # fmt: skip
def test_challenges(line: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert [(challenge.scheme, challenge.parameters) for challenge in auth.parse([line])] == found


# -- TLS -----------------------------------------------------------------------------------------


def test_a_certificate_that_does_not_hold(fake: Make, authority: Authority, settings: Set, tmp_path: Path) -> None:
    server = fake(GOOD, authority)
    host = name(server.host)
    credentials.store(host, Credentials(USER, PASSWORD))
    with pytest.raises(RegistryUnavailable, match="tls: failed to verify certificate: x509: certificate signed by unk"):
        Client(host, "app").manifest("v1")
    assert not server.requests
    settings(insecure_registries=[host])
    assert Client(host, "app").manifest("v1").content == BODY
    settings()
    directory = tmp_path / "home" / "containers" / "certs.d" / host
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(authority.ca.read_bytes())
    assert Client(host, "app").manifest("v1").content == BODY


def test_who_has_a_false_certificate_is_not_spoken_to_in_clear_instead(
    fake: Make, authority: Authority, tmp_path: Path
) -> None:
    """Though it is on this machine, for its authority is known."""
    server = fake(GOOD, authority)
    directory = tmp_path / "home" / "containers" / "certs.d" / server.host
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(make_authority(tmp_path).ca.read_bytes())
    with pytest.raises(RegistryUnavailable, match=f'Get "https://{server.host}/v2/": tls: failed to verify'):
        Client(server.host, "app").manifest("v1")


def test_http_is_spoken_only_where_it_is_allowed(fake: Make, settings: Set) -> None:
    server = fake(GOOD)
    host = name(server.host)
    with pytest.raises(RegistryUnavailable, match="http: server gave HTTP response to HTTPS client"):
        Client(host, "app").manifest("v1")
    assert not server.requests
    settings(registries={host: {"insecure": True}})
    assert Client(host, "app").manifest("v1").content == BODY
    settings(insecure_registries=["127.0.0.0/8"])
    assert Client(host, "app").manifest("v1").content == BODY
    settings(registries={server.host: {"insecure": False}})
    with pytest.raises(RegistryUnavailable):
        Client(server.host, "app").manifest("v1")


# -- uploads -------------------------------------------------------------------------------------


class Uploads:
    """A registry that takes uploads, of which parts break off after so many bytes."""

    def __init__(self, breaks: Iterator[int], knows: bool = True) -> None:
        self.breaks, self.knows = breaks, knows
        self.content = b""
        self.last: Request | None = None
        self.begun = 0
        self.stored: dict[str, bytes] = {}

    def _settle(self) -> None:
        """Take what came of the last part, which may have broken off."""
        if self.last is not None:
            self.content += self.last.body
            self.last = None

    def __call__(self, request: Request) -> Reply:
        path, _, query = request.path.partition("?")
        self._settle()
        if path == "/v2/":
            return Reply()
        there = {"Location": "/v2/app/blobs/uploads/1?state=a", "Range": f"0-{max(0, len(self.content) - 1)}"}
        if request.method == "POST":
            self.begun += 1
            self.content = b""
            return Reply(202, headers={**there, "Range": "0-0"})
        if request.method == "GET":
            return Reply(204, headers=there) if self.knows else error(404, "BLOB_UPLOAD_UNKNOWN")
        if request.method == "PATCH":
            start, _, end = request.headers["content-range"].partition("-")
            if int(start) != len(self.content):
                return Reply(416, headers=there)
            self.last = request
            return Reply(202, headers={**there, "Range": f"0-{end}"}, read=next(self.breaks, None))
        digest = parse_qs(query)["digest"][0]
        if digest_of(self.content) != digest:
            return error(400, "DIGEST_INVALID")
        self.stored[digest] = self.content
        return Reply(201, headers={"Docker-Content-Digest": digest})


@pytest.mark.parametrize("knows", [True, False])
def test_an_upload_is_taken_up_again_after_a_cut(fake: Make, monkeypatch: pytest.MonkeyPatch, knows: bool) -> None:
    monkeypatch.setattr(upload, "PART", 2_000_000)
    uploads = Uploads(iter((1_200_000,)), knows)
    opened = []

    def open_at(offset: int) -> Iterator[bytes]:
        opened.append(offset)
        return iter([BLOB[i : i + 65536] for i in range(offset, len(BLOB), 65536)])

    server = fake(uploads)
    Client(server.host, "app", push=True).upload_blob(digest_of(BLOB), len(BLOB), open_at)
    assert uploads.stored == {digest_of(BLOB): BLOB}
    assert opened == ([0, 1_200_000] if knows else [0, 0])
    assert uploads.begun == (1 if knows else 2)


def test_a_token_that_ends_during_an_upload(fake: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "PART", 1_000_000)
    tokens, uploads = Tokens(), Uploads(iter(()))
    good = ["t1"]

    def answer(request: Request) -> Reply:
        reply = tokens(request)
        if reply.status == 401 or request.path.startswith("/token"):
            return reply
        reply = uploads(request)
        if request.method == "PATCH":
            good[0] = "t2"
        return reply

    tokens.accepted = lambda token: token == good[0]
    server = fake(answer)
    Client(server.host, "app", push=True).upload_blob(
        digest_of(BLOB), len(BLOB), lambda offset: iter([BLOB[i : i + 65536] for i in range(offset, len(BLOB), 65536)])
    )
    assert uploads.stored == {digest_of(BLOB): BLOB}
    assert tokens.given == 2


def test_several_threads_share_a_client(fake: Make) -> None:
    tokens = Tokens()
    server = fake(tokens)
    reader = Client(server.host, "app")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: b"".join(reader.blob(digest_of(BLOB))), range(16)))
    assert all(content == BLOB for content in found)
    assert tokens.given == 1
    assert len(server.asked("/v2/?") + [r for r in server.requests if r.path == "/v2/"]) == 1


def test_an_upload_that_never_comes_through_is_given_up(fake: Make) -> None:
    uploads = Uploads(iter([0] * 99))
    with pytest.raises(RegistryUnavailable):
        Client(fake(uploads).host, "app", push=True).upload_blob(digest_of(BLOB), len(BLOB), lambda o: iter([BLOB[o:]]))


def test_an_upload_that_gets_on_by_a_few_bytes_is_given_up(fake: Make) -> None:
    uploads = Uploads(iter([100] * 50))
    server = fake(uploads)
    with pytest.raises(RegistryUnavailable):
        Client(server.host, "app", push=True).upload_blob(digest_of(BLOB), len(BLOB), lambda o: iter([BLOB[o:]]))
    assert len([r for r in server.requests if r.method == "PATCH"]) == http.ATTEMPTS


def test_a_push_that_is_not_allowed(fake: Make) -> None:
    server = fake(first(9, error(403, "DENIED", "requested access to the resource is denied")))
    with pytest.raises(Forbidden, match=r"^denied: requested access to the resource is denied$"):
        Client(server.host, "app", push=True).upload_blob(digest_of(b"x"), 1, lambda offset: iter([b"x"]))


# -- mirrors -------------------------------------------------------------------------------------


def test_mirrors_are_asked_in_order_and_the_registry_last(fake: Make, settings: Set) -> None:
    down, without, good, itself = fake(first(99, Reply(503))), fake(Content()), fake(GOOD), fake(GOOD)
    settings(registries={itself.host: {"mirrors": [f"http://{s.host}" for s in (down, without, good)]}})
    reader = Client(itself.host, "app")
    assert reader.manifest("v1").content == BODY
    assert b"".join(reader.blob(digest_of(BLOB))) == BLOB
    assert without.requests and good.requests and not itself.requests
    # Who is down is not waited for again with each blob.
    assert len(down.asked("/v2/app")) == 2
    # Docker's mirrors are for reading.
    assert Client(itself.host, "app", push=True).has_blob(digest_of(BLOB)) == len(BLOB)
    assert itself.requests


def test_a_mirror_that_fails_half_way(fake: Make, settings: Set) -> None:
    def answer(request: Request) -> Reply:
        reply = GOOD(request)
        reply.cut_after = 1_000_000 if "/blobs/" in request.path else None
        return reply

    mirror, itself = fake(answer), fake(GOOD)
    settings(registries={itself.host: {"mirrors": [f"http://{mirror.host}"]}})
    assert read_on(Client(itself.host, "app"), digest_of(BLOB)) == (BLOB, 1)
    assert [r.headers["range"] for r in itself.asked("/v2/app/blobs")] == ["bytes=1000000-"]


def test_a_mirror_whose_content_is_wrong(fake: Make, settings: Set) -> None:
    mirror = fake(lambda r: Reply(200, b"something else", {"Content-Type": MANIFEST}) if "/app/" in r.path else Reply())
    itself = fake(GOOD)
    settings(registries={itself.host: {"mirrors": [f"http://{mirror.host}"]}})
    reader = Client(itself.host, "app")
    assert reader.manifest(digest_of(BODY)).content == BODY
    assert b"".join(reader.blob(digest_of(BLOB))) == b"something else"
    assert reader.distrust(digest_of(BLOB))
    assert b"".join(reader.blob(digest_of(BLOB))) == BLOB
    assert not reader.distrust(digest_of(BLOB))


def test_a_mirror_sees_no_secret_of_the_registry(fake: Make, settings: Set) -> None:
    mirror = fake(lambda request: Reply(401, headers={"WWW-Authenticate": 'Basic realm="give it to me"'}))
    itself = fake(GOOD)
    settings(registries={itself.host: {"mirrors": [f"http://{mirror.host}"]}})
    credentials.store(itself.host, Credentials(USER, PASSWORD))
    assert Client(itself.host, "app").manifest("v1").content == BODY
    assert mirror.requests and not carries_secret(mirror)


def test_where_all_fail_the_registrys_own_words_are_told(fake: Make, settings: Set) -> None:
    mirror, itself = fake(first(99, Reply(503))), fake(Content())
    settings(registries={itself.host: {"mirrors": [f"http://{mirror.host}"]}})
    with pytest.raises(NotFound, match=f"manifest for {itself.host}/app:v1 not found"):
        Client(itself.host, "app").manifest("v1")
