"""Network interfaces as far as one ioctl reaches (netdevice(7)); links are made in `network/`."""

from __future__ import annotations

import fcntl
import socket
import struct

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def set_up(name: str) -> None:
    """Bring an interface of the current network namespace up. Needs CAP_NET_ADMIN over it."""
    request = struct.Struct("16sH22x")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request.pack(name.encode(), 0))
        flags = request.unpack(answer)[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request.pack(name.encode(), flags | _IFF_UP))
