"""Blobs and documents from servers that break off, damage, drip or never end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from rdock.errors import DataLoss, NotFound, RegistryUnavailable
from rdock.image import reference
from rdock.image.manifest import OCI_MANIFEST, Descriptor, Manifest, encode
from rdock.registry import answer as answers
from rdock.registry import lists, receiving
from rdock.registry.client import Client, Cut
from tests.registry.servers import MANIFEST, Authority, Content, Fake, Reply, Request, digest_of
from tests.registry.test_evil_registry import BLOB, BODY, GOOD

Make = Callable[..., Fake]
Set = Callable[..., None]
SMALL = b'{"architecture": "amd64"}' * 10
BIG, CONFIG = Descriptor("", digest_of(BLOB), len(BLOB)), Descriptor("", digest_of(SMALL), len(SMALL))
BOTH = Content({BIG.digest: BLOB, CONFIG.digest: SMALL}, GOOD.manifests)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "PAUSE", 0.001)


def cutting(part: str, after: Iterator[int]) -> Callable[[Request], Reply]:
    """A server that breaks off what has this in its path, after so many bytes each time."""

    def answer(request: Request) -> Reply:
        reply = BOTH(request)
        if part in request.path:
            reply.cut_after = next(after, None)
        return reply

    return answer


def damaged(request: Request) -> Reply:
    """A server whose blobs are of the right size, and wrong."""
    reply = BOTH(request)
    if "/blobs/" in request.path:
        reply.body = b"#" + reply.body[1:]
    return reply


def blobs_asked(server: Fake) -> list[str]:
    """The first byte that was asked for, with each request for a blob."""
    return [r.headers.get("range", "bytes=0-")[6:-1] for r in server.asked("/v2/app/blobs")]


def whole(reader: Client, blob: Descriptor) -> bytes:
    return b"".join(receiving.pieces(reader, blob, 0, time.sleep))


# -- cuts ----------------------------------------------------------------------------------------


def test_a_config_is_taken_up_again_after_a_cut(fake: Make) -> None:
    server = fake(cutting("/blobs/", iter((10, 0))))
    assert receiving.document(Client(server.host, "app"), CONFIG) == SMALL
    assert blobs_asked(server) == ["0", "10", "10"]


def test_a_config_that_is_always_cut(fake: Make) -> None:
    server = fake(cutting("/blobs/", iter([0] * 99)))
    with pytest.raises(RegistryUnavailable, match=f"^blob {CONFIG.digest}: the connection broke again and again: Get"):
        receiving.document(Client(server.host, "app"), CONFIG)
    assert len(blobs_asked(server)) == receiving.FRUITLESS


def test_a_cut_is_an_error_that_is_told() -> None:
    assert isinstance(Cut("x"), RegistryUnavailable) and Cut("x").message == "x" and Cut("x").transient


def test_a_manifest_is_asked_for_again_after_a_cut(fake: Make) -> None:
    server = fake(cutting("/manifests/", iter((10, 0))))
    assert Client(server.host, "app").manifest("v1").content == BODY
    assert len(server.asked("/v2/app/manifests")) == 3
    with pytest.raises(RegistryUnavailable, match=r"unexpected EOF$"):
        Client(fake(cutting("/manifests/", iter([3] * 99))).host, "app").manifest("v1")


@pytest.mark.parametrize("after", [1, receiving.ENOUGH - 1])
def test_a_few_bytes_from_each_connection_are_no_progress(fake: Make, after: int) -> None:
    server = fake(cutting("/blobs/", iter([after] * 99)))
    with pytest.raises(RegistryUnavailable, match="broke again and again"):
        whole(Client(server.host, "app"), BIG)
    assert blobs_asked(server) == [str(after * i) for i in range(receiving.FRUITLESS)]


def test_many_connections_that_each_bring_enough(fake: Make) -> None:
    server = fake(cutting("/blobs/", iter([receiving.ENOUGH] * 99)))
    assert whole(Client(server.host, "app"), BIG) == BLOB
    assert len(blobs_asked(server)) > 2 * receiving.FRUITLESS


# -- damage --------------------------------------------------------------------------------------


def test_what_mirrors_damage_comes_from_the_registry(fake: Make, settings: Set) -> None:
    mirrors, itself = [fake(damaged), fake(damaged)], fake(BOTH)
    settings(registries={itself.host: {"mirrors": [f"http://{mirror.host}" for mirror in mirrors]}})
    assert receiving.document(Client(itself.host, "app"), CONFIG) == SMALL
    assert [blobs_asked(server) for server in (*mirrors, itself)] == [["0"]] * 3


def test_where_the_registry_itself_is_damaged_the_digest_is_told(fake: Make, settings: Set) -> None:
    mirror, itself = fake(damaged), fake(damaged)
    settings(registries={itself.host: {"mirrors": [f"http://{mirror.host}"]}})
    with pytest.raises(DataLoss, match=f"^blob {CONFIG.digest}: content has the digest sha256:[0-9a-f]+$"):
        receiving.document(Client(itself.host, "app"), CONFIG)
    assert [blobs_asked(server) for server in (mirror, itself)] == [["0"]] * 2


def test_of_a_mixture_only_the_mirror_is_distrusted(fake: Make, settings: Set) -> None:
    """It broke off after its damaged beginning, the registry gave the end: then it is asked for all."""

    def answer(request: Request) -> Reply:
        reply = damaged(request)
        reply.cut_after = 10 if "/blobs/" in request.path else None
        return reply

    mirror, itself = fake(answer), fake(BOTH)
    settings(registries={itself.host: {"mirrors": [f"http://{mirror.host}"]}})
    assert receiving.document(Client(itself.host, "app"), CONFIG) == SMALL
    assert (blobs_asked(mirror), blobs_asked(itself)) == (["0"], ["10", "0"])


def test_a_mirror_that_answers_with_another_range(fake: Make, settings: Set) -> None:
    cut = iter((10,))

    def answer(request: Request) -> Reply:
        if "range" in request.headers:
            return Reply(206, SMALL[5:], {"Content-Range": f"bytes 5-{len(SMALL) - 1}/{len(SMALL)}"})
        reply = BOTH(request)
        reply.cut_after = next(cut, None) if "/blobs/" in request.path else None
        return reply

    mirrors, itself = [fake(answer), fake(answer)], fake(BOTH)
    settings(registries={itself.host: {"mirrors": [f"http://{mirror.host}" for mirror in mirrors]}})
    assert receiving.document(Client(itself.host, "app"), CONFIG) == SMALL


# -- by the clock --------------------------------------------------------------------------------


def dripping(content: bytes, seconds: float) -> Iterator[bytes]:
    for i in range(len(content)):
        yield content[i : i + 1]
        time.sleep(seconds)


def beyond(raw: Callable[[], Iterator[bytes]]) -> Callable[[Request], Reply]:
    """A server that sends such bytes for all that is asked beyond `/v2/`."""
    return lambda request: BOTH(request) if request.path == "/v2/" else Reply(raw=raw())


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_head_that_drips_is_given_up(
    fake: Make, authority: Authority, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    monkeypatch.setattr(answers, "TIME", 0.3)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: " + b"x" * 300
    server = fake(beyond(lambda: dripping(head, 0.02)), authority if encrypted else None)
    begin = time.monotonic()
    with pytest.raises(RegistryUnavailable, match=r'^Get "https?://.*/v2/app/manifests/v1": too slow$'):
        Client(server.host, "app").manifest("v1")
    assert time.monotonic() - begin < 3
    assert len(server.asked("/v2/app")) == 1


def test_a_slow_head_that_comes_in_time(fake: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    server = fake(beyond(lambda: iter([*dripping(b"HTTP/1.1 100 Continue\r\n\r\n", 0.01), head, BODY])))
    monkeypatch.setattr(answers, "TIME", 3)
    assert Client(server.host, "app").manifest("v1").content == BODY


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000 + b"HTTP/1.1 200 OK\r\n",
     b"HTTP/1.1 200 OK\r\n" + (b"X: " + b"x" * 60_000 + b"\r\n") * 90],
    ids=["interim responses", "headers"],
)  # fmt: skip
def test_heads_without_end_are_not_read(fake: Make, start: bytes) -> None:
    """There is a good answer at their end, for who reads so far."""
    head = f"Content-Type: {MANIFEST}\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    server = fake(beyond(lambda: iter([start, head, BODY])))
    with pytest.raises(RegistryUnavailable, match=r'^Get "http://.*/v2/app/manifests/v1": malformed HTTP response$'):
        Client(server.host, "app").manifest("v1")


@pytest.mark.parametrize("length", ["-5", "x", "5, -5", "1e3", "\u0665"])
def test_a_length_that_is_none(fake: Make, length: str) -> None:
    """The connection stays open, so who would read to its end waits."""
    headers = {"Content-Type": MANIFEST, "Content-Length": length.encode().decode("latin-1")}
    server = fake(lambda request: BOTH(request) if request.path == "/v2/" else Reply(200, BODY, headers))
    begin = time.monotonic()
    with pytest.raises(RegistryUnavailable, match=r"malformed HTTP response$"):
        Client(server.host, "app").manifest("v1")
    assert time.monotonic() - begin < 5


def test_a_blob_that_is_not_there_is_told_as_one(fake: Make) -> None:
    """Though the server says no more than 404."""
    server = fake(lambda request: BOTH(request) if request.path == "/v2/" else Reply(404, b"<html>"))
    with pytest.raises(NotFound, match=f"^blob for {server.host}/app@{BIG.digest} not found"):
        next(Client(server.host, "app").blob(BIG.digest))


def test_a_list_takes_a_manifest_along_as_what_it_is(fake: Make) -> None:
    """Not as what the server calls it, under which the other repository would refuse it."""
    content = encode(Manifest(OCI_MANIFEST, CONFIG, ()).to_json() | {"mediaType": None})
    digest = digest_of(content)

    def answer(request: Request) -> Reply:
        if request.method == "PUT":
            return Reply(201, headers={"Docker-Content-Digest": digest})
        if "/from/manifests/" in request.path:
            return Reply(200, content, {"Content-Type": "application/json"})
        return BOTH(request) if "/manifests/" not in request.path else Reply(404)

    server = fake(answer)
    entry = {"Ref": f"{server.host}/from:1", "Descriptor": {"digest": digest}}
    lists._send(entry, reference.parse(f"{server.host}/to:1"), Client(server.host, "to", push=True))
    assert [r.headers["content-type"] for r in server.requests if r.method == "PUT"] == [OCI_MANIFEST]


def test_trailers_without_end_are_given_up(fake: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "TIME", 0.3)
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"

    def raw() -> Iterator[bytes]:
        yield start
        for _ in range(200):
            yield b"X: y\r\n"
            time.sleep(0.03)

    begin = time.monotonic()
    with pytest.raises(Cut):
        list(Client(fake(beyond(raw)).host, "app").blob(BIG.digest))
    assert time.monotonic() - begin < 3


def test_a_proxys_answer_is_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "TIME", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n")
                for _ in range(200):
                    try:
                        connection.sendall(b"X: y\r\n")
                    except OSError:
                        return
                    time.sleep(0.03)

        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{listener.getsockname()[1]}")
        begin = time.monotonic()
        with pytest.raises(RegistryUnavailable, match=r'"https://registry.invalid/v2/": too slow$'):
            Client("registry.invalid", "app").manifest("v1")
        assert time.monotonic() - begin < 3
