"""Network interfaces as far as one ioctl reaches (netdevice(7)); links are made in `network/`."""

from __future__ import annotations

import fcntl
import struct

from rdock.linux import sockets

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


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
