"""Network namespaces for a test that runs in `tests.namespace.in_namespace`, and their independent witnesses."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from typing import Any

import pytest

from rdock.linux import links
from rdock.linux.namespaces import CLONE_NEWNET, setns, unshare
from rdock.linux.netlink import Netlink

PATIENCE = 5.0
# What is dropped is known by silence. An answer takes less than a hundredth of this; only of the first packets of a
# new namespace some are lost and come again after a second, so who waits for an answer has more patience.
SILENCE = 0.4


class Space:
    """A new network namespace, where the process then is; it may not go back to the machine's.

    `route` is a netlink socket of it.
    """

    def __init__(self) -> None:
        unshare(CLONE_NEWNET)
        self.fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.route = Netlink()

    def enter(self) -> None:
        setns(self.fd)

    def settle(self) -> None:
        """Wait until the pairs that are up carry frames, which the kernel sees to in its own time."""
        end = time.monotonic() + PATIENCE
        while not all(link.running for link in links.list_links(self.route) if link.kind == "veth"):
            assert time.monotonic() < end, links.list_links(self.route)
            time.sleep(0.002)

    def run(self, *command: str) -> str:
        """What a program prints in there; the test is skipped if it is not installed, fails if it does."""
        path = shutil.which(command[0], path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
        if path is None:
            pytest.skip(f"{command[0]} is not installed, the witness of this test")
        self.enter()
        return subprocess.run([path, *command[1:]], capture_output=True, text=True, check=True).stdout

    def ip(self, *arguments: str) -> list[dict[str, Any]]:
        """What `ip -j` says."""
        return json.loads(self.run("ip", "-j", *arguments) or "[]")

    def socket(self, kind: int, address: str = "", port: int = 0) -> socket.socket:
        """A socket in there, bound if an address is given, of the family of that ("" for IPv4)."""
        self.enter()
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        made.settimeout(PATIENCE)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address:
            made.bind((address, port))
        return made


def tcp(
    client: Space, server: Space, address: str, port: int = 8080, *, at: str = "", within: float = PATIENCE
) -> str | None:
    """Connect to a listener of the server's; as whom it saw the client, None if nothing got through.

    It listens there, or `at` another address.
    """
    everything = "::" if ":" in address else "0.0.0.0"
    listener, asking = (
        server.socket(socket.SOCK_STREAM, everything, port),
        client.socket(socket.SOCK_STREAM, everything),
    )
    with listener, asking:
        listener.listen()
        return talk(asking, listener, (address, port), within)


def talk(
    connection: socket.socket, listener: socket.socket, target: tuple[str, int], within: float = PATIENCE
) -> str | None:
    """Connect and have a word sent back; as whom the listener saw it, None if nothing got through in time."""
    connection.settimeout(within)
    try:
        connection.connect(target)
    except (TimeoutError, ConnectionRefusedError):
        return None
    accepted, peer = listener.accept()
    with accepted:
        connection.sendall(b"ask")
        accepted.settimeout(PATIENCE)
        accepted.sendall(accepted.recv(10) + b"ed")
        connection.settimeout(PATIENCE)
        assert connection.recv(10) == b"asked"
    return str(peer[0])


def udp(
    client: Space, server: Space, address: str, port: int = 8080, *, at: str = "", within: float = PATIENCE
) -> str | None:
    """As `tcp`, with one datagram there and one back."""
    everything = "::" if ":" in address else "0.0.0.0"
    waiting, asking = (
        server.socket(socket.SOCK_DGRAM, at or address, port),
        client.socket(socket.SOCK_DGRAM, everything),
    )
    with waiting, asking:
        return exchange(asking, waiting, (address, port), within)


def exchange(
    asking: socket.socket, waiting: socket.socket, target: tuple[str, int], within: float = PATIENCE
) -> str | None:
    """Send a datagram and have one sent back; as whom it was seen, None if nothing got through."""
    asking.sendto(b"ask", target)
    waiting.settimeout(within)
    try:
        data, peer = waiting.recvfrom(10)
    except TimeoutError:
        return None
    waiting.sendto(data + b"ed", peer)
    assert asking.recv(10) == b"asked"
    return str(peer[0])
