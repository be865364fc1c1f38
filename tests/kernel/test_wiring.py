"""What a monitor has of its container's networks: whose namespace it enters, what it hears and hands over."""

from __future__ import annotations

import os
import signal
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from rdock.container.publishing import Publishing
from rdock.container.stdio import Server
from rdock.container.wiring import Wiring
from rdock.errors import NotRunning
from rdock.linux import process, sockets
from rdock.network.endpoint import PortBinding, to_bindings
from rdock.network.hub import Use
from rdock.network.subnet import Subnet
from tests.namespace import in_namespace
from tests.netspace import Space


def wiring(identity: process.Identity | None = None) -> Wiring:
    """Of a container of which no more is known than who its process 1 is."""
    container: Any = SimpleNamespace(id="0" * 64, recorded_state=lambda: SimpleNamespace(process=identity))
    return Wiring(container)


def test_a_pid_that_is_another_processs_by_now_is_nobodys_network() -> None:
    in_namespace(_recycled)


def _recycled() -> None:
    told, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        Space()
        os.write(telling, b"there")
        signal.pause()
    os.read(told, 5)
    try:
        identity = process.Identity.of(pid)
        entered: list[int] = []

        def enter(namespace: int) -> None:
            entered.append(os.fstat(namespace).st_ino)

        wiring(identity)._in_container(enter)
        assert entered == [os.stat(f"/proc/{pid}/ns/net").st_ino]
        with pytest.raises(NotRunning):
            wiring(identity._replace(start=identity.start - 1))._in_container(enter)
        assert len(entered) == 1
    finally:
        os.kill(pid, signal.SIGKILL)


def test_news_of_the_way_out_is_not_the_end_of_the_hub() -> None:
    hub, ours = sockets.packet_pair()
    made = wiring()
    made.use = Use(ours, os.open("/proc/self/ns/net", os.O_RDONLY), Subnet("10.0.2.0"), True)
    changes: list[int] = []
    server = Server(on_signal=lambda number: None)
    made.watch(server, lambda: changes.append(1))
    hub.send(b"r")
    hub.send(b"rno tun device")
    for _ in range(2):
        server._turn(-1, 1)
    assert made.note == "no tun device"
    assert made.use.connection is ours and made._seeking is None and not changes
    server._turn(-1, 0)
    made._hear_hub()  # there is nothing to hear, and no wait for it
    hub.close()
    made.release()


def test_published_sockets_are_handed_over_without_a_forwarder() -> None:
    """It may have ended too often; the ports are the container's all the same."""
    before = Publishing()
    before.bind(to_bindings([PortBinding("127.0.0.1", 0, 80, "tcp")]))
    taken = before.listeners[0].socket.getsockname()
    found, fds = before.heritage()
    after = Publishing()
    after.inherit(found, [os.dup(fd) for fd in fds], before.bindings)
    before.release()
    with socket.socket() as late, pytest.raises(OSError, match="in use"):
        late.bind(taken)
    assert [(each.container_port, each.protocol) for each in after.listeners] == [(80, "tcp")]
    assert after.listeners[0].socket.getsockname() == taken
    after.release()
