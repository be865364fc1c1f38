"""Published UDP ports: a flow for each client, which is a socket of its own towards the container.

Datagrams that cannot be delivered at once are lost, as everywhere with UDP. A part of forwarder.py's process.
"""

from __future__ import annotations

import resource
import struct
import time

from rdock.linux import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from rdock.network.ports import Listener
    from rdock.network.target import Dialer

    class Loop(Protocol):
        """What tells when a descriptor is readable."""

        def watch(self, fd: int, handler: Callable[[int], None]) -> None: ...

        def forget(self, fd: int) -> None: ...


# Seconds without a datagram after which a client is forgotten, as by docker-proxy.
IDLE = 90.0
# Clients at a time; the one that was silent for longest makes room.
MOST = 4096
_AT_ONCE = 64
_LARGEST = 65535
_RECEIVE_BYTES = 1 << 20
_INFO4, _INFO6 = struct.Struct("i4s4s"), struct.Struct("16si")
_ROOM = sockets.CMSG_SPACE(_INFO6.size)


class _Flow:
    """A client of one port, at one address of the host."""

    __slots__ = ("client", "info", "key", "listener", "outgoing", "seen", "source")

    def __init__(self, key: tuple[Any, ...], listener: Listener, client: Any, info: list[Any]) -> None:
        self.key, self.listener, self.client, self.info = key, listener, client, info
        self.seen = 0.0
        self.source: tuple[str, int, int] | None = None
        self.outgoing: sockets.socket


class Flows:
    """All flows, the one that was silent for longest first."""

    def __init__(self, dialer: Dialer, loop: Loop) -> None:
        self._dialer, self._loop = dialer, loop
        self._flows: dict[tuple[Any, ...], _Flow] = {}
        self._sources: set[tuple[str, int, int]] = set()
        # Most of the descriptors are for others.
        self._most = min(MOST, max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))

    @property
    def count(self) -> int:
        return len(self._flows)

    def serve(self, listener: Listener) -> None:
        self._loop.watch(listener.socket.fileno(), lambda _: self._take_in(listener))

    def expire(self, now: float) -> None:
        while self._flows:
            flow = next(iter(self._flows.values()))
            if now - flow.seen < IDLE:
                return
            self._close(flow)

    def seconds_left(self) -> float:
        """Until the first may expire; there must be one."""
        return max(0.001, next(iter(self._flows.values())).seen + IDLE - time.monotonic())

    def clear(self) -> None:
        for flow in list(self._flows.values()):
            self._close(flow)

    def _take_in(self, listener: Listener) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, ancillary, _, client = listener.socket.recvmsg(_LARGEST, _ROOM)
            except BlockingIOError:
                return
            except OSError:
                continue  # what the network has said of an answer (ICMP)
            try:
                flow = self._of(listener, client, ancillary)
                flow.outgoing.send(data)
            except OSError:
                pass  # no room, or the container does not listen

    def _of(self, listener: Listener, client: Any, ancillary: list[Any]) -> _Flow:
        """The flow that a datagram belongs to. Raises OSError if there is no descriptor for a new one."""
        info = [_for_answer(*each) for each in ancillary]
        key = (listener.socket.fileno(), client, info[0][2] if info else b"")
        flow = self._flows.pop(key, None)
        if flow is None:
            flow = self._open(key, listener, client, info)
        flow.seen = time.monotonic()
        self._flows[key] = flow
        return flow

    def _open(self, key: tuple[Any, ...], listener: Listener, client: Any, info: list[Any]) -> _Flow:
        if len(self._flows) >= self._most:
            self._close(next(iter(self._flows.values())))
        flow = _Flow(key, listener, client, info)
        # Were there two with the same addresses and ports, the answers to both would come to one of them.
        source = (client[0], client[1], listener.container_port)
        as_client = source not in self._sources
        flow.outgoing, _ = self._dialer.dial(
            sockets.SOCK_DGRAM, client[:2], listener.container_port, as_client=as_client
        )
        try:
            flow.outgoing.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, _RECEIVE_BYTES)
            self._loop.watch(flow.outgoing.fileno(), lambda _: self._give_back(flow))
        except OSError:
            flow.outgoing.close()
            raise
        if as_client:
            flow.source = source
            self._sources.add(source)
        return flow

    def _give_back(self, flow: _Flow) -> None:
        sent = False
        for _ in range(_AT_ONCE):
            try:
                data = flow.outgoing.recv(_LARGEST)
            except BlockingIOError:
                break
            except OSError:
                continue  # refused by the container; one that listens later is served
            try:
                flow.listener.socket.sendmsg([data], flow.info, 0, flow.client)
            except OSError:
                pass
            sent = True
        if sent and self._flows.pop(flow.key, None) is not None:
            flow.seen = time.monotonic()
            self._flows[flow.key] = flow

    def _close(self, flow: _Flow) -> None:
        del self._flows[flow.key]
        if flow.source is not None:
            self._sources.discard(flow.source)
        self._loop.forget(flow.outgoing.fileno())
        flow.outgoing.close()


def _for_answer(level: int, kind: int, content: bytes) -> tuple[int, int, bytes]:
    """What a datagram came with, as it is given to its answer (ip(7), ipv6(7))."""
    if level == sockets.IPPROTO_IP:
        # The local address alone: which interface leads to the client is for the routes to say.
        _, local, _ = _INFO4.unpack(content)
        return level, kind, _INFO4.pack(0, local, bytes(4))
    local, interface = _INFO6.unpack(content)
    is_link_local = local[0] == 0xFE and local[1] & 0xC0 == 0x80
    return level, kind, _INFO6.pack(local, interface if is_link_local else 0)
