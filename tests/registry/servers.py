"""Servers for the tests of registries: Debian's docker-registry, and one of our own that misbehaves on demand."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PROGRAM = shutil.which("docker-registry")
USER, PASSWORD = "tester", "s3cr3t-pässword"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


# -- certificates --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Authority:
    """A private authority: its certificate, and a server's certificate and key of it."""

    ca: Path
    cert: Path
    key: Path


def make_authority(directory: Path) -> Authority:
    """For all names under which a test may reach a server of this machine."""
    names = ["localhost", socket.gethostname(), "index.docker.io", "registry-1.docker.io", "auth.docker.io"]
    san = ",".join([*(f"DNS:{name}" for name in names), "IP:127.0.0.1"])
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-x509"]
    ca, ca_key, cert, key, request = (directory / n for n in ("ca.crt", "ca.key", "s.crt", "s.key", "s.csr"))
    run(*new, "-days", "30", "-subj", "/CN=test authority", "-keyout", str(ca_key), "-out", str(ca))
    run(*new[:-1], "-subj", "/CN=server", "-keyout", str(key), "-out", str(request))
    extensions = directory / "extensions"
    extensions.write_text(f"subjectAltName={san}\nbasicConstraints=CA:FALSE\n")
    run("openssl", "x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(ca_key), "-CAcreateserial",
        "-days", "30", "-extfile", str(extensions), "-out", str(cert))  # fmt: skip
    return Authority(ca, cert, key)


def run(*argv: str, input: bytes | None = None) -> bytes:
    return subprocess.run(argv, check=True, capture_output=True, input=input).stdout


# -- Debian's ------------------------------------------------------------------------------------


def htpasswd_line(user: str, password: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import crypt

        return f"{user}:{crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))}\n"


@contextmanager
def docker_registry(
    directory: Path, *, password: bool = False, tls: Authority | None = None, token: dict[str, str] | None = None
) -> Iterator[int]:
    """Debian's registry on a port of its own, which is the value."""
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    port = free_port()
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "store")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "x"},
    }
    if password:
        (directory / "htpasswd").write_text(htpasswd_line(USER, PASSWORD))
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
    if token:
        config["auth"] = {"token": token}
    if tls:
        config["http"] |= {"tls": {"certificate": str(tls.cert), "key": str(tls.key)}}  # type: ignore[operator]
    path = directory / "registry.yml"
    path.write_text(json.dumps(config))  # which is YAML
    with (directory / "registry.log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "serve", str(path)], stdout=log, stderr=log)
    try:
        _wait_for_port(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, "the registry does not start"
            time.sleep(0.03)


# -- our own -------------------------------------------------------------------------------------


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes of the body after which the connection is closed, though more were promised."""
    drip: float = 0
    """Seconds between the bytes of the body."""
    read: int | None = None
    """Bytes of the request's body after which the connection is closed."""
    raw: Iterable[bytes] | None = None
    """What is sent, as it is, in place of an answer, before the connection is closed."""


Answer = Callable[[Request], Reply]


class Fake:
    """A server that answers as a function says, and remembers what it was asked."""

    def __init__(self, answer: Answer, tls: Authority | None = None) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.received: dict[str, bytes] = {}
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, ssl.SSLError):
                    self.close_connection = True

            def serve(self) -> None:
                fake._serve(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.cert, tls.key)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def asked(self, start: str = "") -> list[Request]:
        return [request for request in self.requests if request.path.startswith(start)]

    def _serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        headers = {key.lower(): value for key, value in handler.headers.items()}
        request = Request(handler.command, handler.path, headers)
        self.requests.append(request)
        length = int(headers.get("content-length", "0"))
        # To be seen by the answer only if it does not break off in the middle.
        request.body = b"" if length > 1 << 20 else handler.rfile.read(length)
        reply = self.answer(request)
        if length > 1 << 20:
            request.body = handler.rfile.read(length if reply.read is None else reply.read)
        if reply.read is not None:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        if reply.raw is not None:
            handler.close_connection = True
            for piece in reply.raw:
                handler.wfile.write(piece)
            return
        handler.send_response(reply.status)
        sent = {"Content-Length": str(len(reply.body)), **reply.headers}
        for key, value in sent.items():
            handler.send_header(key, value)
        handler.end_headers()
        if request.method == "HEAD":
            return
        for i in range(len(reply.body) if reply.drip else 0):
            handler.wfile.write(reply.body[i : i + 1])
            handler.wfile.flush()
            time.sleep(reply.drip)
        if reply.drip:
            return
        handler.wfile.write(reply.body if reply.cut_after is None else reply.body[: reply.cut_after])
        if reply.cut_after is not None:
            handler.wfile.flush()
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)


class Content:
    """A well-behaved registry's answers, for one that goes wrong in one point: blobs and manifests from a table."""

    def __init__(self, blobs: dict[str, bytes] | None = None, manifests: dict[str, bytes] | None = None) -> None:
        self.blobs = blobs or {}
        self.manifests = manifests or {}

    def __call__(self, request: Request) -> Reply:
        path = request.path.partition("?")[0]
        if path == "/v2/":
            return Reply()
        name = path.rpartition("/")[2]
        if "/manifests/" in path and name in self.manifests:
            content = self.manifests[name]
            return Reply(200, content, {"Content-Type": MANIFEST, "Docker-Content-Digest": digest_of(content)})
        if "/blobs/" in path and name in self.blobs:
            return ranged(self.blobs[name], request)
        return error(404, "BLOB_UNKNOWN" if "/blobs/" in path else "MANIFEST_UNKNOWN")


def ranged(content: bytes, request: Request) -> Reply:
    asked = request.headers.get("range", "").removeprefix("bytes=").rstrip("-")
    if not asked:
        return Reply(200, content)
    start = int(asked)
    if start >= len(content):
        return Reply(416)
    headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
    return Reply(206, content[start:], headers)


def error(status: int, code: str, message: str = "", headers: dict[str, str] | None = None) -> Reply:
    body = json.dumps({"errors": [{"code": code, "message": message or code.lower().replace("_", " ")}]}).encode()
    return Reply(status, body, headers or {})


def basic(user: str = USER, password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# -- tokens that Debian's registry accepts -------------------------------------------------------


class TokenServer:
    """Gives out signed tokens (Docker Registry v2: JWT) for whom the password is right, and pull for all."""

    def __init__(self, directory: Path) -> None:
        self.key, self.cert = directory / "token.key", directory / "token.crt"
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-x509", "-days", "30", "-subj", "/CN=token",
            "-keyout", str(self.key), "-out", str(self.cert))  # fmt: skip
        self.fake = Fake(self)

    def settings(self) -> dict[str, str]:
        realm = f"http://{self.fake.host}/token"
        return {"realm": realm, "service": "test", "issuer": "test issuer", "rootcertbundle": str(self.cert)}

    def __call__(self, request: Request) -> Reply:
        from urllib.parse import parse_qs, urlsplit

        if request.authorization not in ("", basic()):
            return Reply(401)
        known = bool(request.authorization)
        access = []
        for scope in parse_qs(urlsplit(request.path).query).get("scope", []):
            kind, name, actions = scope.split(":")
            granted = [action for action in actions.split(",") if known or action == "pull"]
            access.append({"type": kind, "name": name, "actions": granted})
        return Reply(200, json.dumps({"token": self._sign(access), "expires_in": 300}).encode())

    def _sign(self, access: list[dict[str, object]]) -> str:
        der = "".join(self.cert.read_text().split("-----")[2].split())
        now = int(time.time())
        claims = {"iss": "test issuer", "aud": "test", "sub": USER, "exp": now + 300, "nbf": now - 10, "iat": now,
                  "jti": "1", "access": access}  # fmt: skip
        head = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        text = b".".join(_url64(json.dumps(part).encode()) for part in (head, claims))
        return (text + b"." + _url64(run("openssl", "dgst", "-sha256", "-sign", str(self.key), input=text))).decode()


def _url64(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
