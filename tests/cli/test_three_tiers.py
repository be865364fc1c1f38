"""A web application of real programs from Debian's packages on two networks: nginx, Python, redis."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.cli.conftest import wait_for
from tests.cli.test_bridge import address, kill
from tests.cli.test_network import free_port
from tests.program import Rdock

PACKAGES = "nginx-light redis-server python3"
INSTALL = f"apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {PACKAGES}"
# Counts its visitors in redis, with nothing but sockets; the server is looked up anew each time.
APP = """
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
class Counter(BaseHTTPRequestHandler):
    def do_GET(self):
        with socket.create_connection(("store", 6379), timeout=3) as store:
            store.sendall(b"INCR visits\\r\\n")
            count = store.recv(100).decode().strip(":\\r\\n")
        body = f"visit {count} of {self.headers['X-Real-IP']}\\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
HTTPServer(("0.0.0.0", 8000), Counter).serve_forever()
"""
# With the name server of the container, and a name that is looked up for each request.
NGINX = """
daemon off; error_log stderr;
events {}
http {
    access_log off;
    server {
        listen 80;
        location / {
            resolver RESOLVER valid=1s ipv6=off;
            set $app http://app:8000;
            proxy_pass $app;
            proxy_set_header X-Real-IP $remote_addr;
        }
    }
}
"""


@pytest.mark.slow
def test_three_tiers(fresh_rdock: Rdock, debian_tree: Path) -> None:
    rdock = fresh_rdock
    rdock.ok("import", str(debian_tree), "debian:12")
    rdock.ok("run", "--name", "install", "debian:12", "sh", "-c", INSTALL, timeout=400)
    rdock.ok("commit", "-q", "install", "tiers")
    rdock.ok("rm", "install")
    rdock.ok("network", "create", "front")
    rdock.ok("network", "create", "--internal", "back")
    port = free_port()

    redis = ("redis-server", "--bind", "0.0.0.0", "--protected-mode", "no")
    rdock.ok("run", "-d", "--name", "redis", "--network", "back", "--network-alias", "store", "tiers", *redis)
    rdock.ok("run", "-d", "--name", "python", "--network", "name=front,alias=app", "--network", "back",
             "tiers", "python3", "-c", APP)  # fmt: skip
    resolver = "$(awk '/^nameserver/{print $2}' /etc/resolv.conf)"
    script = f"printenv CONFIG | sed s/RESOLVER/{resolver}/ >/etc/nginx/nginx.conf; exec nginx"
    rdock.ok("run", "-d", "--name", "nginx", "--network", "front", "-p", f"{port}:80", "-e", f"CONFIG={NGINX}",
             "tiers", "sh", "-c", script)  # fmt: skip

    def visit() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return str(answer.read().decode())
        except (OSError, urllib.error.URLError):
            return ""

    wait_for(visit, "a visit", seconds=30)
    first = int(visit().split()[1])
    assert int(visit().split()[1]) == first + 1

    # The front cannot reach the store, nor the store the world.
    assert rdock("exec", "nginx", "getent", "hosts", "store").code != 0
    assert "default" not in rdock.ok("exec", "redis", "cat", "/proc/net/route")

    # The application goes off its network, and comes back with another address.
    rdock.ok("network", "disconnect", "front", "python")
    assert not visit()
    rdock.ok("network", "connect", "--alias", "app", "front", "python")
    wait_for(visit, "a visit after it was connected again")

    for title in ("rdock-network", "slirp4netns", "rdock-ports"):
        kill(rdock, title)
        wait_for(visit, f"a visit after {title} was killed")
    rdock.ok("exec", "python", "apt-get", "update", timeout=120)

    # The store is replaced by another one, under the same alias.
    rdock.ok("rm", "-f", "redis")
    rdock.ok("run", "-d", "--name", "other", "--network", "name=back,alias=store", "tiers", *redis)
    wait_for(visit, "a visit with another store")
    assert int(visit().split()[1]) <= 10 and address(rdock, "other", "back")
