"""A whole distribution at work: a Debian tree is imported, installs a server, serves it, and is asked from the host."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest

from tests.program import Rdock

SERVER = (
    "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y redis-server "
    "&& exec redis-server --bind 0.0.0.0 --protected-mode no"
)


def ask(port: int, text: bytes) -> bytes:
    """One exchange with a redis server; empty if it does not answer yet."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(text)
            return connection.recv(4096)
    except OSError:
        return b""


@pytest.mark.slow
def test_debian_installs_and_serves_redis(rdock: Rdock, storage: str, debian_tree: Path) -> None:
    rdock.ok("import", str(debian_tree), "debian:12")
    rdock.ok("run", "-d", "--name", "redis", "-p", "6379", "debian:12", "sh", "-c", SERVER)
    ports = json.loads(rdock.ok("inspect", "-f", "{{json .NetworkSettings.Ports}}", "redis"))
    port = int(ports["6379/tcp"][0]["HostPort"])
    deadline = time.monotonic() + 240
    while ask(port, b"PING\r\n") != b"+PONG\r\n":
        assert time.monotonic() < deadline, rdock("logs", "redis")
        assert rdock.ok("inspect", "-f", "{{.State.Running}}", "redis") == "true", rdock("logs", "redis")
        time.sleep(1)
    assert ask(port, b"SET key value\r\n") == b"+OK\r\n"
    assert ask(port, b"GET key\r\n") == b"$5\r\nvalue\r\n"
    assert rdock.ok("exec", "redis", "stat", "-c", "%U", "/var/lib/redis") == "redis"
    assert "Ready to accept connections" in rdock("logs", "redis").out
    rdock.ok("stop", "redis")
    assert rdock.ok("inspect", "-f", "{{.State.ExitCode}}", "redis") == "0"


@pytest.mark.slow
def test_debian_runs_with_one_id(fresh_rdock: Rdock, debian_tree: Path) -> None:
    fresh_rdock.options += ["--id-mode", "single"]
    fresh_rdock.ok("import", str(debian_tree), "debian:12")
    script = "id -u && apt-get -o APT::Sandbox::User=root update >/dev/null && dpkg --version | head -n 1"
    lines = fresh_rdock.ok("run", "--rm", "debian:12", "sh", "-c", script).splitlines()
    assert lines[0] == "0" and "dpkg" in lines[-1]
