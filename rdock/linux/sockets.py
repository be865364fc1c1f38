"""Sockets from the C module beneath `socket`; unix sockets that carry packets and descriptors (unix(7)).

The Python part of `socket` wraps every constant in an enum, three milliseconds of every start. Here
are only the calls and constants that a start and what lives long need; who else speaks TCP imports socket.
"""

from __future__ import annotations

import errno
import os
import sys
from _socket import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_UNIX,
    CMSG_SPACE,
    IP_BIND_ADDRESS_NO_PORT,
    IP_TRANSPARENT,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPV6_PKTINFO,
    IPV6_RECVPKTINFO,
    IPV6_V6ONLY,
    MSG_CMSG_CLOEXEC,
    MSG_PEEK,
    MSG_TRUNC,
    SCM_RIGHTS,
    SHUT_WR,
    SO_ERROR,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_OOBINLINE,
    SO_RCVBUF,
    SO_RCVTIMEO,
    SO_REUSEADDR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_NODELAY,
    if_nametoindex,
    inet_ntop,
    inet_pton,
    sethostname,
    socket,
    socketpair,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AF_INET",
    "AF_INET6",
    "AF_NETLINK",
    "AF_UNIX",
    "CMSG_SPACE",
    "EXHAUSTED",
    "IPPROTO_IP",
    "IPPROTO_IPV6",
    "IPPROTO_TCP",
    "IPV6_2292PKTOPTIONS",
    "IPV6_PKTINFO",
    "IPV6_RECVPKTINFO",
    "IPV6_TRANSPARENT",
    "IPV6_V6ONLY",
    "IP_BIND_ADDRESS_NO_PORT",
    "IP_PKTINFO",
    "IP_PKTOPTIONS",
    "IP_TRANSPARENT",
    "MSG_PEEK",
    "MSG_TRUNC",
    "SHUT_WR",
    "SOCK_CLOEXEC",
    "SOCK_DGRAM",
    "SOCK_NONBLOCK",
    "SOCK_RAW",
    "SOCK_SEQPACKET",
    "SOCK_STREAM",
    "SOL_SOCKET",
    "SO_ERROR",
    "SO_KEEPALIVE",
    "SO_LINGER",
    "SO_OOBINLINE",
    "SO_RCVBUF",
    "SO_RCVTIMEO",
    "SO_REUSEADDR",
    "TCP_KEEPIDLE",
    "TCP_KEEPINTVL",
    "TCP_NODELAY",
    "accept",
    "accept_from",
    "connect",
    "if_nametoindex",
    "inet_ntop",
    "inet_pton",
    "listen",
    "packet_pair",
    "receive_fds",
    "send_fds",
    "sethostname",
    "socket",
]

# What _socket has no name for (ip(7), and linux/in6.h).
IP_PKTINFO, IP_PKTOPTIONS = 8, 9
IPV6_2292PKTOPTIONS = 6
IPV6_TRANSPARENT = 75

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Numbers of the errors of accept(2) that say nothing of who has connected: there is no descriptor or memory."""


def packet_pair() -> tuple[socket, socket]:
    """Two ends between which packets keep their bounds, in order."""
    return socketpair(AF_UNIX, SOCK_SEQPACKET)


def send_fds(end: socket, data: bytes, fds: Sequence[int]) -> None:
    """Send a packet with descriptors."""
    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    end.sendmsg([data], [(SOL_SOCKET, SCM_RIGHTS, rights)])


def receive_fds(end: socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """The next packet and the descriptors that came with it, closed on exec; empty at the end of file."""
    data, ancillary, _, _ = end.recvmsg(size, CMSG_SPACE(4 * most), MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, content in ancillary:
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
            whole = len(content) - len(content) % 4
            fds += memoryview(content[:whole]).cast("i")
    return data, fds


def listen(directory: str, name: str, kind: int = SOCK_SEQPACKET) -> socket:
    """A socket that listens at `directory`/`name`, whatever the length of that path."""
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener = socket(AF_UNIX, kind)
        listener.bind(f"/proc/self/fd/{place}/{name}")
        listener.listen(16)
    finally:
        os.close(place)
    return listener


def connect(directory: str, name: str, kind: int = SOCK_SEQPACKET) -> socket:
    """A connection to the socket that listens at `directory`/`name`."""
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection = socket(AF_UNIX, kind)
        connection.connect(f"/proc/self/fd/{place}/{name}")
    finally:
        os.close(place)
    return connection


def accept(listener: socket) -> socket:
    """The next connection. Raises BlockingIOError if there is none and the listener does not block."""
    fd, _ = listener._accept()  # type: ignore[attr-defined]
    return socket(listener.family, listener.type, 0, fileno=fd)


def accept_from(listener: socket) -> tuple[socket, tuple[str, int]]:
    """As `accept`, with the address and port of who has connected."""
    fd, address = listener._accept()  # type: ignore[attr-defined]
    return socket(listener.family, listener.type, 0, fileno=fd), address[:2]
