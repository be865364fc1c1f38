"""Network interfaces as far as one ioctl reaches (netdevice(7)); links are made in `network/`."""

from __future__ import annotations

import fcntl
import struct

from rdock.linux import sockets

_SIOCGIFNAME = 0x8910
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_IFREQ_INDEX = struct.Struct("16si20x")


def set_up(name: str) -> None:
    """Bring an interface of the current network namespace up. Needs CAP_NET_ADMIN over it."""
    request = struct.Struct("16sH22x")
    any_socket = sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM)
    try:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request.pack(name.encode(), 0))
        flags = request.unpack(answer)[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request.pack(name.encode(), flags | _IFF_UP))
    finally:
        any_socket.close()


def name_of(any_socket: sockets.socket, index: int) -> str:
    """What the interface with a number is called in the network namespace that the socket was made in.

    The caller may be in another one. Empty if there is none, or none any more.
    """
    try:
        answer = fcntl.ioctl(any_socket, _SIOCGIFNAME, _IFREQ_INDEX.pack(b"", index))
    except OSError:
        return ""
    return bytes(answer[:16]).partition(b"\0")[0].decode(errors="replace")
