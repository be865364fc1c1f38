"""rdock-ports: the process that carries what comes in at a container's published ports. One for each such container.

Its listening sockets are the host's (ports.py), it itself is in the shared network namespace, where the container
can be reached. Here are its loop and TCP; UDP is in flows.py. Bytes go from socket to socket through pipes by
splice(2), without coming to be in this process. All is edge-triggered: a socket is registered once, and what is
known of it (readable, writable) holds until the kernel says EAGAIN.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import select
import time

from rdock import jsontext
from rdock.linux import prctl, process, signals, sockets
from rdock.network.carrier import Carrier, Pipes
from rdock.network.flows import Flows
from rdock.network.parting import Parting, reset
from rdock.network.target import Dialer, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from rdock.network.ports import Listener

_EDGES = select.EPOLLIN | select.EPOLLPRI | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_END = select.EPOLLRDHUP | select.EPOLLERR | select.EPOLLHUP
_READABLE = select.EPOLLIN | _END
_WRITABLE = select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP
# Connections that are accepted, and turns that one of them gets, before others have theirs.
_ACCEPTED_AT_ONCE = 64
# Seconds until another try when descriptors or memory have run out.
_PAUSE = 0.25
# Seconds without any traffic after which the pipes are given back.
_IDLE = 5.0
# Seconds of silence until a connection is probed, and between probes: whoever is gone is noticed here only.
_KEEPALIVE = (60, 15)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def run(listeners: Sequence[Listener], target: Target, *, control: int, transparent: bool = True) -> NoReturn:
    """Be rdock-ports: for a child that was forked for it and has entered the shared network namespace.

    `control` is a pipe or a unix socket whose end of file ends this process; a packet with a target in JSON
    (Target.to_json) leads new clients there and resets what was connected to another address. Every other
    descriptor but the listeners' and the standard streams is closed. With `transparent` the container sees
    its clients' own addresses, if the kernel allows it. Never returns and never raises.
    """
    code = 1
    try:
        # What the parent has made is never looked at again, and its pages stay shared.
        gc.freeze()
        _settle(listeners, control)
        _Forwarder(listeners, target, control, transparent).work()
        code = 0
    finally:
        os._exit(code)


def _settle(listeners: Sequence[Listener], control: int) -> None:
    process.set_name("rdock-ports")
    prctl.set_arguments("rdock-ports")
    signals.set_wakeup_fd(-1)
    signals.reset()
    for number in (signals.SIGPIPE, signals.SIGHUP, signals.SIGINT):
        signals.signal(number, signals.SIG_IGN)
    process.close_all_but({0, 1, 2, control} | {listener.socket.fileno() for listener in listeners})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Forwarder:
    """The loop, the listeners and what is accepted."""

    def __init__(self, listeners: Sequence[Listener], target: Target, control: int, transparent: bool) -> None:
        self.dialer = Dialer(target, transparent=transparent)
        self.pipes = Pipes()
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.connections: set[_Connection] = set()
        self.again: dict[_Connection, None] = {}
        """Those that have had their turn and could go on."""
        self.accepting: dict[int, Listener] = {}
        self.parting = Parting()
        self.paused = False
        self.retry_at = 0.0
        self.waiting: list[tuple[sockets.socket, tuple[str, int], int]] = []
        """Accepted, when there was no descriptor left for the other half."""
        self.control = control
        self.flows = Flows(self.dialer, self)
        os.set_blocking(control, False)
        self.watch(control, self._obey)
        for listener in listeners:
            listener.socket.setblocking(False)
            if listener.protocol == "udp":
                self.flows.serve(listener)
            else:
                self._accept_from(listener)

    def watch(self, fd: int, handler: Callable[[int], None], mask: int = select.EPOLLIN) -> None:
        self.epoll.register(fd, mask)
        self.handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """Before it is closed."""
        if self.handlers.pop(fd, None) is not None:
            self.epoll.unregister(fd)

    def work(self) -> None:
        """Until the control's end of file."""
        while self.control >= 0:
            events = self.epoll.poll(self._timeout(), 128)
            # Whom each event is for, before any of them closes a descriptor whose number another then gets.
            batch = [(fd, self.handlers.get(fd), mask) for fd, mask in events]
            for fd, handler, mask in batch:
                if handler is not None and self.handlers.get(fd) is handler:
                    handler(mask)
            turns, self.again = self.again, {}
            for connection in turns:
                connection.pump()
            if self.paused and time.monotonic() >= self.retry_at:
                self.resume()
            if self.parting.look():
                self.resume()
            if self.flows.count:
                self.flows.expire(time.monotonic())
            if not events and not turns:
                self.pipes.drop_idle()

    def _timeout(self) -> float:
        if self.again:
            return 0
        if self.paused:
            left = max(0.001, self.retry_at - time.monotonic())
        elif self.pipes.has_idle:
            left = _IDLE
        else:
            left = self.flows.seconds_left() if self.flows.count else -1
        soon = self.parting.timeout()
        return left if soon is None else soon if left < 0 else min(soon, left)

    def _obey(self, _: int) -> None:
        try:
            packet = os.read(self.control, 65536)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self.control = -1
            return
        try:
            self.dialer.aim(Target.from_json(jsontext.parse(packet)))
        except (ValueError, AttributeError, RecursionError, OSError):
            return  # it comes from rdock itself; what cannot be read changes nothing
        here = (self.dialer.target.ipv4, self.dialer.target.ipv6)
        for connection in [each for each in self.connections if each.there not in here]:
            connection.abort()
        self.flows.clear()

    # -- accepting -------------------------------------------------------------------------------

    def _accept_from(self, listener: Listener) -> None:
        fd = listener.socket.fileno()
        self.accepting[fd] = listener
        self.watch(fd, lambda _: self._accept(listener))

    def _accept(self, listener: Listener) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if self.paused:
                return
            try:
                client, address = sockets.accept_from(listener.socket)
            except BlockingIOError:
                return
            except OSError as e:
                if e.errno in _EXHAUSTED:
                    self._pause()
                    return
                continue  # the client's connection has failed meanwhile (accept(2))
            self._connect(client, address, listener.container_port)

    def _connect(self, client: sockets.socket, address: tuple[str, int], port: int) -> None:
        try:
            server, there = self.dialer.dial(sockets.SOCK_STREAM, address, port)
        except OSError as e:
            if e.errno in _EXHAUSTED:
                self.waiting.append((client, address, port))
                self._pause()
            else:
                reset(client)
            return
        connection = _Connection(self, client, server, there)
        self.connections.add(connection)
        try:
            connection.begin()
        except OSError:
            connection.abort()  # no memory for it, or more than may be watched (epoll(7))

    def _pause(self) -> None:
        """Let clients wait in the kernel's queue until there is room again."""
        self.paused = True
        self.retry_at = time.monotonic() + _PAUSE
        for fd in self.accepting:
            self.epoll.modify(fd, 0)

    def resume(self) -> None:
        if not self.paused:
            return
        self.paused = False
        waiting, self.waiting = self.waiting, []
        for entry in waiting:
            if self.paused:
                self.waiting.append(entry)
            else:
                self._connect(*entry)
        if not self.paused:
            for fd in self.accepting:
                self.epoll.modify(fd, select.EPOLLIN)


class _Connection:
    """A client's connection, the one to the container that belongs to it, and a carrier for each direction."""

    def __init__(self, forwarder: _Forwarder, client: sockets.socket, server: sockets.socket, there: str) -> None:
        self.forwarder = forwarder
        self.client, self.server = client, server
        self.there = there
        self.established = self.closed = False
        self.forth = Carrier(client.fileno(), server.fileno(), forwarder.pipes)
        self.back = Carrier(server.fileno(), client.fileno(), forwarder.pipes)

    def begin(self) -> None:
        """Raises OSError."""
        client, server, forwarder = self.client, self.server, self.forwarder
        client.setblocking(False)
        for each in (client, server):
            each.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
            each.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
            # What is urgent at one end is a byte among others at the other, and not lost.
            each.setsockopt(sockets.SOL_SOCKET, sockets.SO_OOBINLINE, 1)
            each.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_KEEPIDLE, _KEEPALIVE[0])
            each.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_KEEPINTVL, _KEEPALIVE[1])
        forwarder.watch(client.fileno(), self._client_event, _EDGES)
        forwarder.watch(server.fileno(), self._server_event, _EDGES)

    def _client_event(self, mask: int) -> None:
        self._note(mask, self.forth, self.back)
        if self.established:
            self.pump()
        if mask & select.EPOLLERR and not self.established:
            self.abort()
        elif mask & select.EPOLLERR and self.forth.ended and not self.closed:
            self.forth.broken = True  # nothing more is read that would say that it is gone
            self.pump()

    def _server_event(self, mask: int) -> None:
        if not self.established:
            if not mask & _WRITABLE:
                return
            if self.server.getsockopt(sockets.SOL_SOCKET, sockets.SO_ERROR):
                self.abort()
                return
            self.established = True
        self._note(mask, self.back, self.forth)
        self.pump()
        if mask & select.EPOLLERR and self.back.ended and not self.closed:
            self.back.broken = True
            self.pump()

    def _note(self, mask: int, out: Carrier, into: Carrier) -> None:
        """What an event says to the carriers out of a socket and into it."""
        if mask & select.EPOLLPRI:
            out.mind_urgent()
        if mask & _READABLE:
            out.readable = True
            out.ends = out.ends or bool(mask & _END)
        if mask & _WRITABLE:
            into.writable = True

    def pump(self) -> None:
        """Carry what can be carried, both ways."""
        if self.closed:
            return
        more = self.forth.carry()
        more = self.back.carry() or more
        for out, into in ((self.forth, self.back), (self.back, self.forth)):
            # Of a side that has broken off is carried what it has said before, and nothing to it.
            out.broken = out.broken or into.refused
            if out.broken:
                into.stop()
        for carrier, sink in ((self.forth, self.server), (self.back, self.client)):
            if carrier.is_finished and not carrier.is_told:
                carrier.is_told = True
                if not carrier.broken:
                    self._tell(carrier, sink)
        if self.forth.is_told and self.back.is_told:
            self._end()
        elif more:
            self.forwarder.again[self] = None

    def _tell(self, carrier: Carrier, sink: sockets.socket) -> None:
        """That there is no more."""
        try:
            sink.shutdown(sockets.SHUT_WR)
        except OSError:
            carrier.refused = True  # it has broken off meanwhile
            self.forwarder.again[self] = None

    def _end(self) -> None:
        """Both have said all that they will: part from them, as they have parted from each other."""
        self._leave()
        for carrier, source, sink in ((self.forth, self.client, self.server), (self.back, self.server, self.client)):
            if carrier.broken:
                reset(source)
                self.forwarder.parting.add(sink)
                break
        else:
            self.client.close()
            self.server.close()
        self.forwarder.resume()

    def abort(self) -> None:
        if not self.closed:
            self._leave()
            reset(self.client)
            reset(self.server)
            self.forwarder.resume()

    def _leave(self) -> None:
        self.closed = True
        self.forth.drop()
        self.back.drop()
        self.forwarder.connections.discard(self)
        for each in (self.client, self.server):
            self.forwarder.forget(each.fileno())
