"""Questions by TCP (RFC 7766): connections of clients, who may be slow, silent or gone."""

from __future__ import annotations

import struct
import sys

from rdock.linux import netdev, sockets
from rdock.network import watch
from rdock.network.shares import Shares

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rdock.network.watch import Watch

_PATIENCE = 5.0
"""Seconds that a client has to send a whole question, and then to take the answer."""
_LARGEST_QUESTION = 4096
_OF_ONE_CLIENT = 16
# Seconds without new clients after there was no descriptor for one.
_REST = 1.0
# struct cmsghdr, its length, level and type; and what the next one begins at a multiple of: sizeof(size_t).
_CMSG, _CMSG_ALIGNMENT = struct.Struct("@nii"), struct.calcsize("@n")


class Stream:
    """A client's connection. One question at a time is looked at; more of them wait in the socket."""

    def __init__(self, streams: Streams, connection: sockets.socket, address: str, link: str, owner: str) -> None:
        self.address = address
        self.link = link
        """The interface by which it came in."""
        self.owner = owner
        """The container; empty for a stranger."""
        self.closed = False
        self._streams = streams
        self._connection = connection
        self._received = b""
        self._unsent = b""
        self._asked = False
        self._serve()

    def answer(self, text: bytes) -> None:
        """Send an answer to the question that was asked last."""
        if not self.closed:
            self._take(text)
            self._serve()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._streams.ended(self)
            self._streams.waiting.drop(self)
            self._streams.waiting.forget(self._connection.fileno())
            self._connection.close()

    def _take(self, text: bytes) -> None:
        self._asked = False
        self._unsent = len(text).to_bytes(2, "big") + text

    def _serve(self) -> None:
        """Look at questions until something must be waited for."""
        while not (self._asked or self._unsent or self.closed):
            size = 2 + int.from_bytes(self._received[:2], "big")
            if size > 2 + _LARGEST_QUESTION:
                self.close()
            elif len(self._received) < max(size, 3):
                break
            else:
                text, self._received = self._received[2:size], self._received[size:]
                self._asked = True
                # What is answered at once is taken here, not by `answer`: a thousand questions must not recurse.
                now = self._streams.ask(self, text)
                if now is not None:
                    self._take(now)
        if self.closed:
            return
        mask = 0 if self._asked else watch.OUT if self._unsent else watch.IN
        self._streams.waiting.watch(self._connection.fileno(), mask, self._ready)
        if self._asked:
            self._streams.waiting.drop(self)  # others have their own patience
        else:
            self._streams.waiting.expect(self, _PATIENCE, self.close)

    def _ready(self, events: int) -> None:
        try:
            if self._unsent:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
                if not self._unsent:
                    self._serve()
            elif self._asked:
                # Whoever closed one direction may still wait for the answer.
                if events & (watch.HUP | watch.ERR) and not self._connection.recv(1, sockets.MSG_PEEK):
                    self.close()
            else:
                data = self._connection.recv(2 + _LARGEST_QUESTION - len(self._received))
                self._received += data
                if not data:
                    self.close()
                elif len(self._received) >= 2 + int.from_bytes(self._received[:2], "big"):
                    self._serve()
        except BlockingIOError:
            pass
        except OSError:
            self.close()


class Streams:
    """The connections of all containers, which share them: sixteen of each at most. Who has no share is turned away."""

    def __init__(
        self,
        listener: sockets.socket,
        waiting: Watch,
        most: int,
        *,
        who: Callable[[str, str], str],
        ask: Callable[[Stream, bytes], bytes | None],
        gone: Callable[[Stream], None],
    ) -> None:
        """`who` says which container has an address and comes by an interface, empty for none. `ask` answers a
        question at once, or calls `Stream.answer` later, or closes the connection; `gone` is told of each that ended.
        """
        self.waiting = waiting
        self.ask = ask
        self._listener = listener
        self._who = who
        self._gone = gone
        self._streams: set[Stream] = set()
        self._shares = Shares(most)
        listener.setblocking(False)
        self._listen()

    def ended(self, stream: Stream) -> None:
        self._streams.discard(stream)
        self._shares.give_back(stream.owner, stream.link)
        self._gone(stream)

    def close(self) -> None:
        """End all connections; the listener, too, is closed."""
        self.waiting.drop(self)
        self.waiting.forget(self._listener.fileno())
        self._listener.close()
        for stream in list(self._streams):
            stream.close()

    def _listen(self) -> None:
        self.waiting.watch(self._listener.fileno(), watch.IN, lambda _: self._accept())

    def _accept(self) -> None:
        try:
            connection = sockets.accept(self._listener)
        except BlockingIOError:
            return
        except OSError as e:
            if e.errno in sockets.EXHAUSTED:
                # Who waits stays in the queue, so the listener would be ready all the time.
                self.waiting.forget(self._listener.fileno())
                self.waiting.expect(self, _REST, self._listen)
            return
        try:
            address = plain_address(connection.getpeername()[0])
            link = _link_of_stream(connection)
        except OSError:
            connection.close()
            return
        # Strangers have what one client has, all together: they could have any number of addresses.
        owner = self._who(address, link)
        if not self._shares.take(owner, link, _OF_ONE_CLIENT):
            connection.close()
            return
        connection.setblocking(False)
        self._streams.add(Stream(self, connection, address, link, owner))


def plain_address(host: str) -> str:
    """An address as a socket of both families tells it, in the form of its own family, without the link."""
    return host.removeprefix("::ffff:") if "." in host else host.partition("%")[0]


def link_of(any_socket: sockets.socket, ancillary: Iterable[tuple[int, int, bytes]]) -> str:
    """The interface by which a datagram came in, from what came with it (struct in_pktinfo, in6_pktinfo).

    `any_socket` is one of the same network namespace. Empty if it is not said, or the interface is gone.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (sockets.IPPROTO_IP, sockets.IP_PKTINFO):
            return netdev.name_of(any_socket, int.from_bytes(data[:4], sys.byteorder))
        if (level, kind) == (sockets.IPPROTO_IPV6, sockets.IPV6_PKTINFO):
            return netdev.name_of(any_socket, int.from_bytes(data[16:20], sys.byteorder))
    return ""


def _link_of_stream(connection: sockets.socket) -> str:
    """The interface by which the client has connected: of a stream the kernel tells it as an option.

    What a socket of both families says of an IPv4 client is in the form of IPv6. Raises OSError.
    """
    if connection.family == sockets.AF_INET6:
        told = connection.getsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_2292PKTOPTIONS, 256)
    else:
        told = connection.getsockopt(sockets.IPPROTO_IP, sockets.IP_PKTOPTIONS, 256)
    ancillary = []
    while len(told) >= _CMSG.size:
        length, level, kind = _CMSG.unpack_from(told)
        if not _CMSG.size <= length <= len(told):
            break
        ancillary.append((level, kind, told[_CMSG.size : length]))
        told = told[-(-length // _CMSG_ALIGNMENT) * _CMSG_ALIGNMENT :]
    return link_of(connection, ancillary)
