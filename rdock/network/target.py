"""What a published port leads to, and with which source address its container is spoken to.

The container is to see who its client is: the socket towards it is bound to the client's own address
(IP_TRANSPARENT, ip(7)), and the answers are routed back to it by the mark that nftables gives them. Where that
cannot be, the bridge's own address, the container's gateway, takes the client's place.
"""

from __future__ import annotations

import errno

from rdock.linux import sockets
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAPPED = "::ffff:"
# Bound by another, or of a connection that has not faded yet, or an address that is not allowed to be one.
_UNFIT = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EINVAL, errno.EACCES)
_UNDER_WAY = (0, errno.EINPROGRESS)


class Target(Value):
    """Where a container is in the shared network namespace; what it does not have is empty."""

    ipv4: str = ""
    gateway: str = ""
    """Of the bridge, for clients whose address cannot be shown."""
    ipv6: str = ""
    gateway6: str = ""
    near: tuple[str, ...] = ()
    """Networks (`172.17.0.0/16`) that it is on: whom it takes to be there it does not answer through us."""

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "near": list(self.near)}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Target:
        """Raises ValueError for what is not of this shape."""
        values = {name: found.get(name, "") for name in cls._fields if name != "near"}
        near = found.get("near", [])
        if not isinstance(near, list) or not all(isinstance(text, str) for text in (*values.values(), *near)):
            raise ValueError("not a target")
        return cls(**values, near=tuple(near))


class Dialer:
    """Makes the sockets that lead to a target."""

    def __init__(self, target: Target, *, transparent: bool) -> None:
        self.transparent = transparent
        self.aim(target)

    def aim(self, target: Target) -> None:
        """Lead elsewhere from now on. Raises ValueError if one of its networks is none, OSError likewise."""
        self._near = [_network(text) for text in target.near]
        self.target = target

    def dial(self, kind: int, client: tuple[str, int], port: int, *, as_client: bool = True) -> tuple[Any, str]:
        """A socket of a kind on its way to `port` of the target, and the address there.

        It does not block. `client` is the address that accept(2) and recvmsg(2) tell; its place is taken if
        `as_client`. Raises OSError, ConnectionError also if the target has no address at present.
        """
        ip = client[0].removeprefix(_MAPPED)
        target = self.target
        there = (target.ipv6 or target.ipv4) if ":" in ip else (target.ipv4 or target.ipv6)
        if not there:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "no address")
        own = as_client and self.transparent and self._may_show(ip, there)
        outgoing = self._open(there, kind, (ip, client[1]) if own else None)
        problem = outgoing.connect_ex((there, port))
        if own and problem in _UNFIT:
            outgoing.close()
            outgoing = self._open(there, kind, None)
            problem = outgoing.connect_ex((there, port))
        if problem not in _UNDER_WAY:
            outgoing.close()
            raise OSError(problem, "connect")
        return outgoing, there

    def _open(self, there: str, kind: int, source: tuple[str, int] | None) -> sockets.socket:
        family = sockets.AF_INET6 if ":" in there else sockets.AF_INET
        outgoing = sockets.socket(family, kind | sockets.SOCK_NONBLOCK | sockets.SOCK_CLOEXEC)
        try:
            if source is None or not self._bind_as(outgoing, family, source):
                self._bind_own(outgoing, family)
        except BaseException:
            outgoing.close()
            raise
        return outgoing

    def _bind_as(self, outgoing: sockets.socket, family: int, source: tuple[str, int]) -> bool:
        try:
            if family == sockets.AF_INET6:
                outgoing.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_TRANSPARENT, 1)
            else:
                outgoing.setsockopt(sockets.IPPROTO_IP, sockets.IP_TRANSPARENT, 1)
        except PermissionError:
            self.transparent = False
            return False
        # One client may speak to several ports from one of its own.
        outgoing.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        try:
            outgoing.bind(source)
        except OSError as e:
            if e.errno not in _UNFIT:
                raise
            return False
        return True

    def _bind_own(self, outgoing: sockets.socket, family: int) -> None:
        gateway = self.target.gateway6 if family == sockets.AF_INET6 else self.target.gateway
        if not gateway:
            return  # the route has a source address
        # The port is chosen when the other end is known, so that their number is not a limit.
        outgoing.setsockopt(sockets.IPPROTO_IP, sockets.IP_BIND_ADDRESS_NO_PORT, 1)
        try:
            outgoing.bind((gateway, 0))
        except OSError as e:
            if e.errno not in _UNFIT:
                raise

    def _may_show(self, ip: str, there: str) -> bool:
        """Whether the target can answer a client at its own address."""
        is_ipv6 = ":" in ip
        if is_ipv6 != (":" in there) or "%" in ip or ip.startswith("127.") or ip in ("::1", "0.0.0.0", "::"):
            return False
        if not self._near:
            return True
        address = _number(ip)
        return not any(six == is_ipv6 and (address ^ base) >> shift == 0 for six, base, shift in self._near)


def _network(text: str) -> tuple[bool, int, int]:
    """Whether it is one of IPv6, its first address, and how many bits of an address are a host's."""
    ip, _, length = text.partition("/")
    bits = 128 if ":" in ip else 32
    shift = bits - int(length or bits)
    if not 0 <= shift <= bits:
        raise ValueError(f"no network: {text}")
    return bits == 128, _number(ip), shift


def _number(ip: str) -> int:
    return int.from_bytes(sockets.inet_pton(sockets.AF_INET6 if ":" in ip else sockets.AF_INET, ip), "big")
