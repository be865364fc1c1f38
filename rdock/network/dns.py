"""The name server of the networks: names of containers, as each may see them; all else is asked of the host's servers.

It behaves as Docker's embedded server does. It runs in the host's network namespace, in the loop of another, with
sockets that were made where the containers can reach them.

Who asks is known by address and by interface: what a container says its address is may be another's, of another
network (rp_filter is for IPv4 alone), but by which bridge its packets come is not for it to say.
"""

from __future__ import annotations

import errno
import os
import resource

from rdock.linux import sockets
from rdock.network import dns_message as message
from rdock.network import watch
from rdock.network.dns_streams import Stream, Streams, link_of, plain_address
from rdock.network.dns_upstream import Question, Upstream
from rdock.network.watch import Watch
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from typing import Any

PORT = 53
_MOST_QUESTIONS, _MOST_STREAMS = 1024, 128
_LARGEST_DATAGRAM = 4096
_AT_ONCE = 32
_BACKLOG = 64
_KINDS = {message.A: (message.A,), message.AAAA: (message.AAAA,), message.ANY: (message.A, message.AAAA)}


class View(Value):
    """What one client may see."""

    names: Mapping[str, Sequence[str]]
    """Names in lower case → addresses of both families."""
    reverse: Mapping[str, str]
    """Addresses → names."""
    outside: bool
    """Whether other questions are passed on."""
    container: str
    """Who it is: what one container takes others do not have, under how many addresses ever."""
    servers: list[str] = []
    """Whom it wants asked in place of the host's servers."""
    near: frozenset[str] = frozenset()
    """Those of them that are on a network of its own."""


def open_sockets() -> tuple[sockets.socket, sockets.socket]:
    """For datagrams and for streams, at all addresses of the namespace that the process is in. Raises OSError."""
    try:
        datagrams = _open(sockets.AF_INET6, sockets.SOCK_DGRAM)
    except OSError as e:
        if e.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        # A kernel without IPv6.
        datagrams = _open(sockets.AF_INET, sockets.SOCK_DGRAM)
    try:
        return datagrams, _open(datagrams.family, sockets.SOCK_STREAM)
    except OSError:
        datagrams.close()
        raise


def _open(family: int, kind: int) -> sockets.socket:
    made = sockets.socket(family, kind)
    try:
        if family == sockets.AF_INET6:
            made.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_V6ONLY, 0)
        if kind == sockets.SOCK_STREAM:
            made.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        # Of streams: connections that are accepted have it from the listener.
        if family == sockets.AF_INET6:
            made.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_RECVPKTINFO, 1)
        else:
            made.setsockopt(sockets.IPPROTO_IP, sockets.IP_PKTINFO, 1)
        made.bind(("::" if family == sockets.AF_INET6 else "0.0.0.0", PORT))
        if kind == sockets.SOCK_STREAM:
            made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


class NameServer:
    """Answers what comes to its sockets, whenever the loop that it is in calls it. Nothing that comes makes it raise.

    It takes no more than half of the descriptors that the process may have.
    """

    def __init__(
        self,
        udp: sockets.socket,
        tcp: sockets.socket,
        view: Callable[[str, str], View | None],
        upstream: Callable[[], list[str]],
        open_inside: Callable[[int, int], sockets.socket],
    ) -> None:
        """`view`: what the client sees who has an address and comes in by an interface of this name (empty if that is
        gone); one who sees nothing is refused, and nothing is asked in its name.
        `upstream`: the addresses of the host's servers, in order. `open_inside`: makes sockets where the containers'
        networks are, by family and kind; raises OSError."""
        self._udp = udp
        self._view, self._servers = view, upstream
        self._watch = Watch()
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        room = soft // 2 if soft != resource.RLIM_INFINITY else 8 * _MOST_QUESTIONS
        streams = min(_MOST_STREAMS, room // 4)
        self._upstream = Upstream(self._watch, min(_MOST_QUESTIONS, room - streams), open_inside)
        udp.setblocking(False)
        self._watch.watch(udp.fileno(), watch.IN, lambda _: self._receive())
        self._streams = Streams(
            tcp,
            self._watch,
            streams,
            who=lambda address, link: seen.container if (seen := view(address, link)) else "",
            ask=self._ask_by_stream,
            gone=self._upstream.cancel,
        )

    def wanted(self) -> dict[int, int]:
        """All its descriptors → what to poll(2) for, at this moment; a mask of 0 is for errors."""
        return dict(self._watch.masks)

    def handle(self, fd: int, events: int) -> None:
        """Do what a descriptor is ready for; nothing if it is none of its own."""
        self._watch.handle(fd, events)

    def timeout(self) -> float | None:
        """Seconds until `tick` has something to do; None for never."""
        return self._watch.timeout()

    def tick(self) -> None:
        """Give up what was waited for too long."""
        self._watch.tick()

    def close(self) -> None:
        """Close all its sockets."""
        self._streams.close()
        self._upstream.close()
        self._watch.forget(self._udp.fileno())
        self._udp.close()

    # -- clients ---------------------------------------------------------------------------------

    def _receive(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                text, ancillary, flags, peer = self._udp.recvmsg(_LARGEST_DATAGRAM, 128)
            except OSError:
                return
            query = None if flags & sockets.MSG_TRUNC else message.read(text)
            if query is not None:
                self._answer_datagram(text, query, ancillary, peer)

    def _answer_datagram(
        self, text: bytes, query: message.Query, ancillary: list[tuple[int, int, bytes]], peer: tuple[str, int]
    ) -> None:
        source = [_way_back(*entry) for entry in ancillary]

        def send(answer: bytes) -> None:
            try:
                self._udp.sendmsg([answer], source, 0, peer)
            except OSError:
                pass  # the client is gone, or takes nothing any more: it may ask again

        def reply(answer: bytes | None) -> None:
            send(message.shortened(answer, query, query.size) if answer else message.answer(query, message.SERVFAIL))

        link = link_of(self._udp, ancillary)
        now = self._answer(query, plain_address(peer[0]), link, query.size)
        if isinstance(now, bytes):
            send(now)
        elif not self._upstream.ask(self._question((peer, text), now, link, text, query, False, reply)):
            reply(None)

    def _ask_by_stream(self, stream: Stream, text: bytes) -> bytes | None:
        query = message.read(text)
        if query is None:
            stream.close()
            return None
        unable = message.answer(query, message.SERVFAIL)

        def reply(answer: bytes | None) -> None:
            stream.answer(answer or unable)

        now = self._answer(query, stream.address, stream.link, message.LARGEST)
        if isinstance(now, bytes):
            return now
        is_asked = self._upstream.ask(self._question(stream, now, stream.link, text, query, True, reply))
        return None if is_asked else unable

    def _question(self, key: Hashable, view: View, link: str, *rest: Any) -> Question:
        """To be asked in the name of who has this view; the rest is as it is there."""
        return Question(key, view.container, link, view.servers or self._servers(), view.near, *rest)

    # -- answers ---------------------------------------------------------------------------------

    def _answer(self, query: message.Query, client: str, link: str, limit: int) -> bytes | View:
        """What there is to say without asking others, else in whose name they are to be asked."""
        if query.fault:
            return message.answer(query, query.fault)
        view = self._view(client, link)
        if view is None:
            return message.answer(query, message.REFUSED)
        records = _records(view, query)
        if records is not None:
            return message.answer(query, message.NOERROR, records, ours=True, limit=limit)
        # SERVFAIL is what Docker says on an internal network: nobody could be asked.
        return view if view.outside else message.answer(query, message.SERVFAIL)


def _records(view: View, query: message.Query) -> list[bytes] | None:
    """What a client sees of the name that it asks for; None if that is no name of ours.

    A name of ours is never asked of others, whatever is wanted of it: they would say that there is no such name.
    """
    if query.klass != message.IN or query.name is None:
        return None
    if query.kind == message.PTR:
        name = view.reverse.get(message.address_of(query.name) or "")
        if name is not None:
            try:
                return [message.name_record(name)]
            except ValueError:  # a container may be called what no name can be
                return []
    addresses = view.names.get(query.name)
    if addresses is None:
        return None
    kinds = _KINDS.get(query.kind, ())
    found = [
        message.address_record(kind, address)
        for kind in kinds
        for address in addresses
        if (":" in address) == (kind == message.AAAA)
    ]
    # By chance, not in turn: in turn, who always asks for two names would always get the same of two addresses.
    first = os.urandom(1)[0] % len(found) if len(found) > 1 else 0
    return found[first:] + found[:first]


def _way_back(level: int, kind: int, data: bytes) -> tuple[int, int, bytes]:
    """How a datagram came → how the answer is to leave: from the address that was asked, by the link it came by.

    So who asks in the name of another container is not answered, nor is that one bothered: it is on another link.
    """
    if (level, kind) == (sockets.IPPROTO_IP, sockets.IP_PKTINFO):
        return level, kind, data[:8] + bytes(4)
    return level, kind, data
