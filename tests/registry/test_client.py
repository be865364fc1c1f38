"""The client with a real registry, and with skopeo as the witness of what is in it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rdock.errors import DataLoss, InvalidParameter, NotFound, Unauthorized
from rdock.registry import credentials, upload
from rdock.registry.client import Client
from rdock.registry.credentials import Credentials
from tests.registry import servers
from tests.registry.servers import MANIFEST, PASSWORD, USER, TokenServer, digest_of


def source(content: bytes, size: int = 100_000) -> Callable[[int], Iterator[bytes]]:
    """Content as upload_blob wants it."""
    return lambda offset: iter([content[i : i + size] for i in range(offset, len(content), size)])


def push(client: Client, content: bytes, tag: str) -> str:
    """A whole image of one layer, whose content is not looked at."""
    configuration = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}})
    for blob in (content, configuration.encode()):
        client.upload_blob(digest_of(blob), len(blob), source(blob))
    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": f"{kind}.config.v1+json", "digest": digest_of(configuration.encode()),
                   "size": len(configuration)},
        "layers": [{"mediaType": f"{kind}.layer.v1.tar", "digest": digest_of(content), "size": len(content)}],
    }  # fmt: skip
    return client.put_manifest(tag, MANIFEST, json.dumps(manifest).encode())


def test_what_is_pushed_can_be_pulled(plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "PART", 1_000_000)
    content = os.urandom(3_500_001)
    writer, reader = Client(plain, "team/app", push=True), Client(plain, "team/app")
    assert writer.has_blob(digest_of(content)) == -1
    assert reader.head("nope") == ""
    digest = push(writer, content, "v1")
    assert writer.has_blob(digest_of(content)) == len(content)
    assert reader.head("v1") == digest
    for reference in ("v1", digest):
        found = reader.manifest(reference)
        assert (found.digest, found.media_type, digest_of(found.content)) == (digest, MANIFEST, digest)
    assert b"".join(reader.blob(digest_of(content))) == content
    assert b"".join(reader.blob(digest_of(content), 2_000_000)) == content[2_000_000:]
    assert list(reader.blob(digest_of(content), len(content))) == []
    assert max(map(len, reader.blob(digest_of(content)))) <= 1 << 20
    assert list(reader.tags()) == ["v1"]


@pytest.mark.parametrize("size", [0, 1, 2])
def test_small_blobs(plain: str, size: int) -> None:
    client = Client(plain, "small", push=True)
    content = b"x" * size
    client.upload_blob(digest_of(content), size, source(content))
    assert client.has_blob(digest_of(content)) == size
    assert b"".join(client.blob(digest_of(content))) == content


def test_a_blob_of_another_repository(plain: str) -> None:
    content = os.urandom(1000)
    Client(plain, "one", push=True).upload_blob(digest_of(content), 1000, source(content))
    other = Client(plain, "two", push=True)
    assert not other.mount_blob(digest_of(b"no such blob"), "one")
    assert other.mount_blob(digest_of(content), "one")
    assert other.has_blob(digest_of(content)) == 1000


def test_what_is_not_there_is_told_in_dockers_words(plain: str) -> None:
    Client(plain, "there", push=True).upload_blob(digest_of(b""), 0, source(b""))
    with pytest.raises(NotFound, match=rf"^manifest for {plain}/there:no not found: manifest unknown: manifest unkno"):
        Client(plain, "there").manifest("no")
    with pytest.raises(NotFound, match=rf"^manifest for {plain}/there@sha256:0+ not found: manifest unknown"):
        Client(plain, "there").manifest("sha256:" + "0" * 64)
    with pytest.raises(NotFound, match=rf"^repository {plain}/nowhere not found: name unknown: "):
        list(Client(plain, "nowhere").tags())
    with pytest.raises(NotFound, match=r"^blob for"):
        next(Client(plain, "there").blob("sha256:" + "0" * 64))


def test_content_of_another_digest_is_not_stored(plain: str) -> None:
    client = Client(plain, "wrong", push=True)
    with pytest.raises(InvalidParameter, match="digest did not match"):
        client.upload_blob(digest_of(b"right"), 5, source(b"wrong"))
    with pytest.raises(DataLoss, match="ends before"):
        client.upload_blob(digest_of(b"right"), 5, source(b"rig"))
    assert client.has_blob(digest_of(b"right")) == -1


@pytest.mark.parametrize(
    "reference",
    ["", "../x", "a/b", "sha256:../../x", "sha256:" + "A" * 64, "sha256:" + "0" * 63, "md5:" + "0" * 32, "a?b", "a b"],
)
def test_no_request_with_a_malformed_reference(fake: Callable[..., servers.Fake], reference: str) -> None:
    server = fake(servers.Content())
    client = Client(server.host, "x", push=True)
    for ask in (
        client.manifest, client.head, client.has_blob, lambda r: next(client.blob(r)),
        lambda r: client.put_manifest(r, MANIFEST, b"{}"), lambda r: client.mount_blob(r, "y"),
        lambda r: client.upload_blob(r, 1, source(b"x")),
    ):  # fmt: skip
        if ask in (client.manifest, client.head) or reference not in ("",):
            with pytest.raises(InvalidParameter):
                ask(reference)
    assert not server.requests


def test_a_registry_with_a_password(guarded: str) -> None:
    client = Client(guarded, "team/app", push=True)
    with pytest.raises(Unauthorized, match="no basic auth credentials") as refused:
        client.manifest("latest")
    assert refused.value.hint == f"rdock login {guarded}"
    credentials.store(guarded, Credentials(USER, "wrong"))
    with pytest.raises(Unauthorized):
        Client(guarded, "team/app").manifest("latest")
    with pytest.raises(Unauthorized, match=r"pull access denied for .*, repository does not exist or may require"):
        Client(guarded, "team/app").manifest("latest")
    credentials.store(guarded, Credentials(USER, PASSWORD))
    digest = push(Client(guarded, "team/app", push=True), b"content", "latest")
    assert Client(guarded, "team/app").manifest("latest").digest == digest


def test_a_registry_with_a_token_server(tmp_path: Path) -> None:
    tokens = TokenServer(tmp_path)
    try:
        with servers.docker_registry(tmp_path, token=tokens.settings()) as port:
            host = f"127.0.0.1:{port}"
            with pytest.raises(Unauthorized):
                push(Client(host, "team/app", push=True), b"content", "v1")
            credentials.store(host, Credentials(USER, PASSWORD))
            digest = push(Client(host, "team/app", push=True), b"content", "v1")
            other = Client(host, "team/other", push=True)
            assert other.mount_blob(digest_of(b"content"), "team/app")
            credentials.erase(host)
            before = len(tokens.fake.requests)
            client = Client(host, "team/app")
            assert client.manifest("v1").digest == digest
            assert b"".join(client.blob(digest_of(b"content"))) == b"content"
            # One token for all requests of one scope, and nobody's name in it.
            assert len(tokens.fake.requests) == before + 1
            assert not tokens.fake.requests[-1].authorization
    finally:
        tokens.fake.close()


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="no skopeo")
def test_skopeo_sees_the_same(plain: str, tmp_path: Path) -> None:
    digest = push(Client(plain, "peer/app", push=True), hashlib.sha256(b"").digest(), "v1")
    image = f"docker://{plain}/peer/app"
    # Without one it looks for logins in /run/containers, which a root's podman may have closed to others.
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"{image}:v1"],
        check=True,
        capture_output=True,
        env=environment,
    ).stdout
    assert digest_of(raw) == digest
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", f"{image}:v1",
         f"{image}:v2"], check=True, capture_output=True, env=environment
    )  # fmt: skip
    assert Client(plain, "peer/app").manifest("v2").digest == digest
    assert sorted(Client(plain, "peer/app").tags()) == ["v1", "v2"]
