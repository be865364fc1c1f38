"""pull and push against a real registry, and against one of ours where a real one would have to misbehave."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import is_clear, store, wait_for, write_settings
from tests.payload.image_archives import Image, descriptor, docker_archive, encode, image, oci_archive, simple
from tests.payload.tars import end, file
from tests.program import Rdock
from tests.registry.servers import docker_registry

OCI = "application/vnd.oci.image."
MANIFEST, CONFIG, LAYER = f"{OCI}manifest.v1+json", f"{OCI}config.v1+json", f"{OCI}layer.v1.tar+gzip"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as port:
        yield f"localhost:{port}"


def load(rdock: Rdock, archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive.tar").write_bytes(archive)
    rdock.ok("load", "-i", str(tmp_path / "archive.tar"))


def oci(found: Image, name: str, suffix: str = "+gzip") -> bytes:
    return oci_archive(found, {"io.containerd.image.name": name}, media_type=f"{OCI}layer.v1.tar{suffix}")


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


# -- a real registry -----------------------------------------------------------------------------


def test_push_pull_and_run(own_rdock: Rdock, registry: str) -> None:
    rdock, name = own_rdock, f"{registry}/lib/starter:1"
    rdock.ok("run", "--rm", "rdock/starter", "true")
    before = rdock.ok("inspect", "--format", "{{.Id}}", "rdock/starter")
    rdock.ok("tag", "rdock/starter", name)
    pushed = rdock.ok("push", name).splitlines()
    assert pushed[0] == f"The push refers to repository [{registry}/lib/starter]"
    assert [line.partition(": ")[2] for line in pushed[1:4]] == ["Preparing", "Compressing", "Pushed"]
    assert len(pushed) == 5
    digest = pushed[4].removeprefix("1: digest: ").split(" ")[0]
    again = rdock.ok("push", name).splitlines()
    assert again[2].endswith(": Layer already exists") and again[3] == pushed[4]
    assert f"{registry}/lib/starter@{digest}" in rdock.ok("inspect", "--format", "{{.RepoDigests}}", name)
    rdock.ok("rmi", "-f", before)
    assert rdock.ok("images", "-q") == ""
    pulled = rdock.ok("pull", name).splitlines()
    layer = pulled[1].split(":")[0]
    assert pulled == [
        "1: Pulling from lib/starter", f"{layer}: Pulling fs layer", f"{layer}: Download complete",
        f"{layer}: Pull complete", f"Digest: {digest}", f"Status: Downloaded newer image for {name}", name,
    ]  # fmt: skip
    assert rdock.ok("pull", name).splitlines() == [
        "1: Pulling from lib/starter", f"Digest: {digest}", f"Status: Image is up to date for {name}", name,
    ]  # fmt: skip
    assert rdock.ok("inspect", "--format", "{{.Id}} {{index .RepoDigests 0}}", name) == (
        f"{before} {registry}/lib/starter@{digest}"
    )
    assert rdock.ok("run", "--rm", "--network", "none", name, "echo", "hi") == "hi"
    # by digest, after everything is gone
    rdock.ok("rmi", "-f", before)
    by_digest = f"{registry}/lib/starter@{digest}"
    assert rdock.ok("pull", "-q", by_digest) == by_digest
    assert rdock.ok("run", "--rm", "--network", "none", by_digest, "echo", "hi") == "hi"


def test_run_pulls_what_is_missing(own_rdock: Rdock, registry: str, tmp_path: Path) -> None:
    rdock, name = own_rdock, f"{registry}/missing:latest"
    load(rdock, docker_archive((simple(), [name])), tmp_path)
    rdock.ok("push", "-q", name)
    rdock.ok("rmi", name)
    result = rdock("create", "--network", "none", f"{registry}/missing", "true")
    assert result.code == 0 and len(result.out.strip()) == 64
    lines = result.err.splitlines()
    assert lines[:2] == [f"Unable to find image '{name}' locally", "latest: Pulling from missing"]
    assert lines[-1] == f"Status: Downloaded newer image for {name}"
    result = rdock("create", "--pull", "always", "--network", "none", f"{registry}/missing", "true")
    assert "Status: Image is up to date" in result.err and "Unable" not in result.err
    assert rdock("create", "-q", "--pull", "always", "--network", "none", f"{registry}/missing", "true").err == ""
    assert (
        rdock("create", "--pull", "never", f"{registry}/other").err
        == f"rdock: No such image: {registry}/other:latest\n"
    )
    result = rdock("run", f"{registry}/other", "true")
    assert result.code == 125
    assert result.err.splitlines() == [
        f"Unable to find image '{registry}/other:latest' locally",
        f"rdock: manifest for {registry}/other:latest not found: manifest unknown: manifest unknown",
    ]


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
def test_kinds_of_layers(own_rdock: Rdock, registry: str, tmp_path: Path, kind: str) -> None:
    import zstandard

    rdock, name = own_rdock, f"{registry}/kinds:{kind}"
    layers = [file(b"a", noise(1, 3 << 20)) + end(), file(b"b", b"b" * 100000) + end(), file(b"c") + end()]
    pack = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress, "none": bytes}[kind]
    found = image(*layers, stored=[pack(layer) for layer in layers], Cmd=["x"])
    load(rdock, oci(found, name, {"gzip": "+gzip", "zstd": "+zstd", "none": ""}[kind]), tmp_path)
    digests = rdock.ok("images", "--digests", "--format", "{{.ID}} {{.Digest}}", "--no-trunc")
    rdock.ok("push", "-q", name)
    rdock.ok("rmi", name)
    assert rdock.ok("pull", "-q", name) == name
    assert rdock.ok("images", "--format", "{{.ID}}", "--no-trunc") in digests
    assert rdock.ok("system", "check", "--images") == "no problems found"


def test_plain_layers_are_compressed_on_their_way(own_rdock: Rdock, registry: str, tmp_path: Path) -> None:
    """Those of imports and of docker-archives; the image is the same one, and a second push sends nothing."""
    rdock, name = own_rdock, f"{registry}/plain:1"
    load(rdock, docker_archive((image(file(b"a", b"a" * (3 << 20)) + end(), Cmd=["x"]), [name])), tmp_path)
    before = rdock.ok("inspect", "--format", "{{.Id}}", name)
    pushed = rdock.ok("push", name).splitlines()
    assert pushed[2].endswith(": Compressing") and pushed[3].endswith(": Pushed")
    (layer,) = json.loads(rdock.ok("manifest", "inspect", name))["layers"]
    assert layer["mediaType"] == LAYER and layer["size"] < 100_000
    again = rdock.ok("push", name).splitlines()
    assert again[2].endswith(": Layer already exists") and again[-1] == pushed[-1]
    assert f"Status: Image is up to date for {name}" in rdock.ok("pull", name)
    rdock.ok("rmi", "-f", before)
    rdock.ok("pull", "-q", name)
    assert rdock.ok("inspect", "--format", "{{.Id}}", name) == before
    assert rdock.ok("system", "check", "--images") == "no problems found"


def test_all_tags(own_rdock: Rdock, registry: str, tmp_path: Path) -> None:
    rdock, name = own_rdock, f"{registry}/many"
    for tag in ("one", "two"):
        load(rdock, docker_archive((simple(tag.encode()), [f"{name}:{tag}"])), tmp_path)
    lines = rdock.ok("push", "--all-tags", name).splitlines()
    assert [line.split(" ")[0] for line in lines if "digest" in line] == ["one:", "two:"]
    rdock.ok("rmi", f"{name}:one", f"{name}:two")
    assert rdock.ok("pull", "-a", name).splitlines()[-1] == name
    assert sorted(rdock.ok("images", "--format", "{{.Tag}}").split()) == ["one", "two"]
    assert is_clear(rdock("pull", "-a", f"{name}:one").err)
    assert is_clear(rdock("push", "-a", f"{name}:one").err)


def test_a_tag_that_moves(own_rdock: Rdock, registry: str, tmp_path: Path) -> None:
    """The old image stays, without its name."""
    rdock, name = own_rdock, f"{registry}/moving:1"
    for text in (b"old", b"new"):
        load(rdock, docker_archive((simple(text), [name])), tmp_path)
        rdock.ok("push", "-q", name)
        if text == b"old":
            rdock.ok("rmi", name)
            rdock.ok("pull", "-q", name)
            old = rdock.ok("inspect", "--format", "{{.Id}}", name)
            rdock.ok("tag", name, "kept")
    rdock.ok("tag", "kept", name)
    assert "Status: Downloaded newer image" in rdock.ok("pull", name)
    assert rdock.ok("inspect", "--format", "{{.Id}}", name) != old
    assert rdock.ok("inspect", "--format", "{{.Id}}", "kept") == old


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("pull", "{r}/nosuch:1"), "manifest for {r}/nosuch:1 not found: manifest unknown: manifest unknown"),
        (("pull", "{r}/UPPER"), "repository name (UPPER) must be lowercase"),
        (("pull", "{r}/a@sha256:123"), "invalid reference format"),
        (("pull", "--platform", "linux/s390x", "{r}/platforms"), "no matching manifest for linux/s390x"),
        (("push", "{r}/nosuch"), "An image does not exist locally with the tag: {r}/nosuch"),
        (("push", "-a", "{r}/nosuch"), "An image does not exist locally with the tag: {r}/nosuch"),
        (("pull", "localhost:1/x"), "connection refused"),
        (("pull", "no-such-host.invalid/x"), "no such host"),
    ],
)
def test_refusals(own_rdock: Rdock, registry: str, args: tuple[str, ...], says: str) -> None:
    if "s390x" in " ".join(args):
        put_index(registry, "platforms")
    before = store(own_rdock)
    result = own_rdock(*(arg.format(r=registry) for arg in args))
    last = result.err.splitlines()[-1]
    assert result.code == 1 and is_clear(last) and says.format(r=registry) in last, str(result)
    assert {path for path in store(own_rdock) if "blobs/sha256/" in path} == {
        path for path in before if "blobs/sha256/" in path
    }


def put_index(registry: str, repository: str) -> None:
    """An index of nothing for this machine, by hand."""
    import urllib.request

    config = encode({"os": "linux", "architecture": "arm64", "rootfs": {"type": "layers", "diff_ids": []}})
    manifest = encode({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config), "layers": []})
    entry = descriptor(MANIFEST, manifest) | {"platform": {"os": "linux", "architecture": "arm64"}}
    index = encode({"schemaVersion": 2, "mediaType": f"{OCI}index.v1+json", "manifests": [entry]})

    def ask(method: str, url: str, data: bytes = b"", kind: str = "application/octet-stream") -> Any:
        request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
        return urllib.request.urlopen(request, timeout=20)

    base = f"http://{registry}/v2/{repository}"
    place = ask("POST", f"{base}/blobs/uploads/").headers["Location"]
    ask("PUT", f"{place}&digest={digest_of(config)}", config)
    ask("PUT", f"{base}/manifests/{digest_of(manifest)}", manifest, MANIFEST)
    ask("PUT", f"{base}/manifests/latest", index, f"{OCI}index.v1+json")


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_chooses_the_platform(own_rdock: Rdock, registry: str) -> None:
    put_index(registry, "foreign")
    own_rdock.ok("pull", "--platform", "linux/arm64", f"{registry}/foreign")
    assert own_rdock.ok("inspect", "--format", "{{.Architecture}}", f"{registry}/foreign") == "arm64"
    result = own_rdock("create", "--platform", "linux/amd64", f"{registry}/foreign", "x")
    assert result.code != 0 and is_clear(result.err)


# -- a registry that misbehaves ------------------------------------------------------------------


class Faulty:
    """Serves one image, with one fault; what was asked of it is in `asked`."""

    def __init__(self, fault: str) -> None:
        self.fault, self.asked = fault, list[tuple[str, str]]()
        layers = [file(b"first", noise(1, 2 << 20)) + end(), file(b"second", noise(2, 2 << 20)) + end()]
        # The same bytes from all of these servers, so that one can be another's mirror.
        blobs = [gzip.compress(layer, mtime=0) for layer in layers]
        diff_ids = [digest_of(layer) for layer in layers]
        if fault == "diff id":
            diff_ids.reverse()
        if fault == "bomb":
            diff_ids.pop()
        config = encode(
            {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        )
        listed = [descriptor(LAYER, blob) for blob in blobs]
        if fault == "foreign":
            listed[0]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        if fault == "size":
            listed[1]["size"] = 100
        kind = "application/vnd.cncf.helm.config.v1+json" if fault == "artifact" else CONFIG
        self.manifest = encode(
            {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(kind, config), "layers": listed}
        )
        self.blobs = {digest_of(blob): blob for blob in (*blobs, config)}
        self.first, self.last = map(digest_of, blobs)
        if fault == "content":
            self.blobs[self.last] = blobs[1][:-100] + bytes(100)
        if fault == "damage":
            self.blobs[self.last] = blobs[1][: 1 << 20] + bytes(100) + blobs[1][(1 << 20) + 100 :]
        self.config = digest_of(config)
        if fault == "config":
            self.blobs[self.config] = config.replace(b"linux", b"Linux")
        self.cuts = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{self.server.server_address[1]}/faulty:1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path, wanted = request.path, request.headers.get("Range", "")
        self.asked.append((path, wanted))
        if path == "/v2/":
            self.send(request, 200, b"{}")
        elif "/manifests/" in path:
            self.send(request, 200, self.manifest, MANIFEST)
        elif self.fault == "cut config" and path.endswith(self.config):
            self.send(request, 200, self.blobs[self.config], cut=True)
        elif (digest := path.rpartition("/")[2]) in self.blobs:
            self.blob(request, digest, wanted)
        else:
            self.send(request, 404, b"{}")

    def blob(self, request: http.server.BaseHTTPRequestHandler, digest: str, wanted: str) -> None:
        data, code = self.blobs[digest], 200
        if self.fault == "one fails" and digest == self.last:
            time.sleep(0.5)
            self.send(request, 404, b"{}")
            return
        if (self.fault == "silent" and digest == self.last) or (self.fault == "one fails" and digest == self.first):
            request.send_response(200)
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            request.wfile.write(data[: 1 << 20])
            request.wfile.flush()
            time.sleep(30)
            return
        if wanted and self.fault != "cut, no range":
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            data, code = data[start:], 206
        if self.fault.startswith("cut") and digest == self.last and (self.fault == "cut always" or self.cuts < 3):
            self.cuts += 1
            request.send_response(code)
            request.send_header("Content-Length", str(len(data)))
            if code == 206:
                total = len(self.blobs[digest])
                request.send_header("Content-Range", f"bytes {total - len(data)}-{total - 1}/{total}")
            request.end_headers()
            request.wfile.write(data[: 0 if self.fault == "cut always" else 300_000 * self.cuts])
            request.wfile.flush()
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send(request, code, data, start=len(self.blobs[digest]) - len(data), total=len(self.blobs[digest]))

    def send(
        self, request: http.server.BaseHTTPRequestHandler, code: int, data: bytes,
        kind: str = "application/octet-stream", start: int = 0, total: int = 0, cut: bool = False,
    ) -> None:  # fmt: skip
        request.send_response(code)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(data)))
        if code == 206:
            request.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data[: 5 if cut else None])
        if cut:
            request.wfile.flush()
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Faulty:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize("fault", ["none", "cut", "cut, no range"])
def test_a_broken_connection_is_taken_up_again(own_rdock: Rdock, fault: str) -> None:
    with Faulty(fault) as faulty:
        assert own_rdock.ok("pull", "-q", faulty.name) == faulty.name
        ranges = [wanted for path, wanted in faulty.asked if path.endswith(faulty.last)]
        assert len(ranges) == (1 if fault == "none" else 4)
        assert all(ranges[1:])
    assert own_rdock.ok("system", "check", "--images") == "no problems found"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("content", "content has the digest"),
        ("size", "larger than the 100 bytes announced"),
        ("diff id", "content has the digest"),
        ("bomb", "2 layers in the manifest for 1 in the image config"),
        ("foreign", "foreign layers are not fetched"),
        ("artifact", "unsupported media type application/vnd.cncf.helm.config.v1+json"),
        ("cut always", "the connection broke again and again"),
        ("cut config", "the connection broke again and again"),
        ("damage", "blob sha256:"),
        ("config", "content has the digest"),
    ],
)
def test_faults_leave_nothing(own_rdock: Rdock, fault: str, says: str) -> None:
    own_rdock.ok("images")
    before = store(own_rdock)
    with Faulty(fault) as faulty:
        result = own_rdock("pull", "-q", faulty.name)
    assert result.code == 1 and is_clear(result.err) and says in result.err, str(result)
    assert own_rdock.ok("images", "-aq") == ""
    left = {path for path in store(own_rdock) - before if "blobs/sha256/" in path or path.startswith("layers/")}
    assert not left


@pytest.mark.parametrize("fault", ["content", "damage", "size of blob", "config"])
def test_what_a_mirror_damages_comes_from_the_registry(own_rdock: Rdock, fault: str) -> None:
    with Faulty(fault) as mirror, Faulty("none") as itself:
        if fault == "size of blob":
            mirror.blobs[mirror.last] += b"more"
        host = itself.name.partition("/")[0]
        mirrors = [f"http://{mirror.name.partition('/')[0]}"]
        write_settings(own_rdock, json.dumps({"registries": {host: {"mirrors": mirrors}}}))
        assert own_rdock.ok("pull", "-q", itself.name) == itself.name
        wrong = itself.config if fault == "config" else itself.last
        for server in (mirror, itself):
            assert [path.rpartition("/")[2] for path, _ in server.asked].count(wrong) == 1
        assert not [path for path, _ in itself.asked if path.endswith(itself.first)]
    assert own_rdock.ok("system", "check", "--images") == "no problems found"


@pytest.mark.parametrize("then", ["go on", "damage", "other"])
def test_what_a_killed_pull_has_brought(own_rdock: Rdock, then: str) -> None:
    """The next pull of the image goes on with it, if it is what it should be; else the next command clears it away."""
    with Faulty("silent") as faulty:
        process = own_rdock.start("pull", faulty.name)
        begun = lambda: [p for p in own_rdock.home.data.glob("staging/*/blob") if p.stat().st_size > 500_000]  # noqa: E731
        done = lambda: own_rdock.home.data.joinpath("images/blobs/sha256", faulty.first[7:]).exists()  # noqa: E731
        wait_for(lambda: done() and len(begun()) == 1 and _is_unpacked(own_rdock))
        process.kill()
        process.wait(20)
        (left,) = begun()
        had = left.stat().st_size
        if then == "damage":
            with left.open("r+b") as file:
                file.seek(1000)
                file.write(bytes(1000))
        faulty.fault = "none"
        faulty.asked.clear()
        if then == "other":
            own_rdock("rmi", "nosuch")
            assert not begun() and not done()
        lines = own_rdock.ok("pull", faulty.name).splitlines()
        fetched = [(path.rpartition("/")[2], wanted) for path, wanted in faulty.asked if "/blobs/sha256:" in path]
        first, last = faulty.first, faulty.last
        if then == "other":
            assert {(first, ""), (last, "")} <= set(fetched)
        else:
            assert f"{first[7:19]}: Already exists" in lines and first not in dict(fetched)
            assert (last, f"bytes={had}-") in fetched and ((last, "") in fetched) == (then == "damage")
        assert f"{last[7:19]}: Pull complete" in lines
    assert own_rdock.ok("system", "check", "--images") == "no problems found"
    assert not list(own_rdock.home.data.glob("staging/*"))


def _is_unpacked(rdock: Rdock) -> bool:
    return bool(list(rdock.home.data.glob("layers/*/layer.json")))


def test_a_failure_is_told_while_another_layer_does_not_come(own_rdock: Rdock) -> None:
    with Faulty("one fails") as faulty:
        began = time.monotonic()
        result = own_rdock("pull", "-q", faulty.name)
        assert time.monotonic() - began < 15
    assert result.code == 1 and is_clear(result.err), str(result)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(own_rdock: Rdock, number: signal.Signals) -> None:
    """In the middle of a layer that does not come: at once, and nothing is left."""
    with Faulty("silent") as faulty:
        process = own_rdock.start("pull", "-q", faulty.name)
        deadline = time.monotonic() + 20
        while not any(path.endswith(faulty.last) for path, _ in faulty.asked):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(number)
        began = time.monotonic()
        code = process.wait(20)
        assert time.monotonic() - began < 8
        assert code == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert own_rdock.ok("images", "-aq") == ""
    own_rdock("rmi", "nosuch")  # whatever changes images clears away first
    assert not [
        path for path in store(own_rdock) if "blobs/sha256/" in path or path.startswith(("layers/", "staging/"))
    ]


def test_several_pulls_at_once(own_rdock: Rdock, registry: str, tmp_path: Path) -> None:
    """Of images that share layers; all are whole afterwards, and removing some harms no other."""
    rdock = own_rdock
    shared = file(b"shared", noise(7, 4 << 20)) + end()
    names = [f"{registry}/crowd:{number}" for number in range(6)]
    for number, name in enumerate(names):
        own = file(b"own", noise(number, 1 << 20)) + end()
        both = [shared, own]
        load(rdock, oci(image(*both, stored=[*map(gzip.compress, both)], Cmd=["x"]), name), tmp_path)
        rdock.ok("push", "-q", name)
    rdock.ok("rmi", *names)
    running = [rdock.start("pull", "-q", name) for name in names + names[:2]]
    assert [process.wait(120) for process in running] == [0] * len(running)
    running = [rdock.start("rmi", name) for name in names[:3]] + [rdock.start("pull", "-q", name) for name in names[3:]]
    assert [process.wait(120) for process in running] == [0] * len(running)
    assert sorted(rdock.ok("images", "--format", "{{.Tag}}").split()) == ["3", "4", "5"]
    assert rdock.ok("system", "check", "--images") == "no problems found"


def test_peak_memory(own_rdock: Rdock, registry: str, tmp_path: Path) -> None:
    """Of a pull, whatever the size: 120 MB at most."""
    rdock, name = own_rdock, f"{registry}/big:1"
    layers = [file(b"f%d" % number, noise(number, 40 << 20)) + end() for number in range(4)]
    stored = [gzip.compress(layer, 1) for layer in layers]
    load(rdock, oci(image(*layers, stored=stored, Cmd=["x"]), name), tmp_path)
    rdock.ok("push", "-q", name)
    rdock.ok("rmi", name)
    # Through a small process: what a program began as counts too, and that would be a fork of this one.
    measure = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
        "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    argv = [sys.executable, "-I", "-c", measure, *rdock.argv("pull", "-q", name)]
    done = subprocess.run(argv, env=rdock.environment(), capture_output=True, text=True, check=True, timeout=120)
    code, kilobytes = map(int, done.stdout.split()[-2:])
    assert code == 0 and kilobytes < 120 * 1024


def test_manifest_is_kept_byte_for_byte(own_rdock: Rdock) -> None:
    """What it says of the image counts by its digest, so nothing may write it anew."""
    with Faulty("none") as faulty:
        spaced = json.dumps(json.loads(faulty.manifest), indent=3).encode()
        faulty.manifest = spaced
        own_rdock.ok("pull", "-q", faulty.name)
        shown = own_rdock.ok("images", "--digests", "--format", "{{.Digest}}")
        assert shown == digest_of(spaced)
