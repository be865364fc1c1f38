"""Ports of the host that containers publish, bound in the host's network namespace before the container starts.

What is taken is found out then, and not by a helper in the middle of a start. The sockets stay open with the
container's monitor, and forwarder.py, which inherits them, does the rest.
"""

from __future__ import annotations

import errno

from rdock import config
from rdock.errors import Conflict, InvalidParameter, RdockError, SystemFailure, Unavailable, reason
from rdock.linux import sockets
from rdock.network.endpoint import Bindings, PortBinding, bracketed
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_LAST = 65535
# How often another free port is asked for, when the one that the kernel gave is not free for the other family.
_ATTEMPTS = 64
# As many as the kernel lets wait (net.core.somaxconn), which is the lower one.
_BACKLOG = 1 << 16
_RECEIVE_BYTES = 1 << 20
_ANY = ("0.0.0.0", "::")
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class Listener(Value):
    """A socket of the host, and the port of the container that it leads to."""

    socket: sockets.socket
    container_port: int
    protocol: str


class _Taken(Exception):
    """Another has the port, at this address."""


class _Refused(Exception):
    """It is one of those that are for root."""


def bind(wanted: Iterable[PortBinding]) -> tuple[list[Listener], Bindings]:
    """Listen on what is wanted: the sockets, and the bindings in force, with the ports that were chosen.

    An empty address means all, of IPv4 and, where the host has it, of IPv6, with one and the same port.

    Raises Conflict in Docker's words if a port is taken, Unavailable with the fix if it is below the first
    one that an ordinary user may have, InvalidParameter if the address is not the host's; nothing stays bound then.
    """
    wanted = list(wanted)
    made: dict[int, tuple[int, list[Listener]]] = {}
    try:
        # Those with a choice come last, so that they choose none that another insists on.
        for i in sorted(range(len(wanted)), key=lambda i: (not wanted[i].host_port, bool(wanted[i].host_port_end))):
            made[i] = _bind_one(wanted[i])
    except BaseException:
        for _, listeners in made.values():
            _close(listeners)
        raise
    bindings: Bindings = {}
    for i, binding in enumerate(wanted):
        for listener in made[i][1]:
            entry = {"HostIp": _address_of(listener), "HostPort": str(made[i][0])}
            bindings.setdefault(binding.key, []).append(entry)
    return [listener for i in range(len(wanted)) for listener in made[i][1]], bindings


def adopt(fd: int, container_port: int, protocol: str) -> Listener:
    """A listener from the descriptor of its socket, which another process has handed on."""
    return Listener(sockets.socket(fileno=fd), container_port, protocol)


def tell_addresses(opened: sockets.socket) -> None:
    """Have a UDP socket say to which address of the host a datagram came, from where the answer is to leave.

    Before it is bound: the kernel does not know any more of those that are waiting already.
    """
    if opened.family == sockets.AF_INET6:
        opened.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_RECVPKTINFO, 1)
    else:
        opened.setsockopt(sockets.IPPROTO_IP, sockets.IP_PKTINFO, 1)


def check_privileged(port: int) -> None:
    """Raises Unavailable with the fix if an ordinary user may not have a port."""
    first = _first_for_all()
    if port < first:
        raise _for_root(port, first)


def _bind_one(binding: PortBinding) -> tuple[int, list[Listener]]:
    """The port and its sockets."""
    try:
        return _bind_any(binding) if not binding.host_port else _bind_first(binding, 0)
    except _Refused:
        offset = config.low_port_offset(config.current())
        if offset and (binding.host_port_end or binding.host_port) + offset <= _LAST:
            try:
                return _bind_first(binding, offset)
            except _Refused:
                pass  # moved, and still too low
    raise _for_root(binding.host_port, _first_for_all())


def _bind_any(binding: PortBinding) -> tuple[int, list[Listener]]:
    for _ in range(_ATTEMPTS):
        try:
            return _bind_port(binding, 0)
        except _Taken:
            continue
    raise Conflict(f"Bind for {_shown(binding)}:0 failed: all ports are allocated")


def _bind_first(binding: PortBinding, offset: int) -> tuple[int, list[Listener]]:
    """The first of the range that is free. Raises _Refused if one was not tried for want of a right."""
    refused, taken = False, ""
    for port in range(binding.host_port + offset, (binding.host_port_end or binding.host_port) + offset + 1):
        try:
            return _bind_port(binding, port)
        except _Taken as e:
            taken = str(e)
        except _Refused:
            refused = True
    if refused:
        raise _Refused
    if binding.host_port_end:
        raise Conflict(f"Bind for {_shown(binding)}:{binding.host_ports} failed: all ports are allocated")
    raise Conflict(f"Bind for {bracketed(taken)}:{binding.host_port + offset} failed: port is already allocated")


def _bind_port(binding: PortBinding, port: int) -> tuple[int, list[Listener]]:
    """Bind one port, 0: any, for all families that are asked for. Raises _Taken, _Refused."""
    made: list[Listener] = []
    try:
        for ip in (binding.host_ip,) if binding.host_ip else _ANY:
            try:
                opened = _open(ip, port, binding.protocol)
            except OSError as e:
                if not binding.host_ip and ip == _ANY[1] and e.errno in _NO_IPV6:
                    continue
                raise _explain(e, ip, port, binding.protocol) from e
            made.append(Listener(opened, binding.container_port, binding.protocol))
            port = int(opened.getsockname()[1])
    except BaseException:
        _close(made)
        raise
    return port, made


def _open(ip: str, port: int, protocol: str) -> sockets.socket:
    family = sockets.AF_INET6 if ":" in ip else sockets.AF_INET
    kind = sockets.SOCK_DGRAM if protocol == "udp" else sockets.SOCK_STREAM
    opened = sockets.socket(family, kind | sockets.SOCK_NONBLOCK | sockets.SOCK_CLOEXEC)
    try:
        if family == sockets.AF_INET6:
            # The other family has a socket of its own, or is not asked for.
            opened.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_V6ONLY, 1)
        if protocol == "udp":
            # Not SO_REUSEADDR: for UDP it would let two containers have one port.
            opened.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, _RECEIVE_BYTES)
            tell_addresses(opened)
            opened.bind((ip, port))
        else:
            # Connections of the container that had the port before may still be in TIME_WAIT.
            opened.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
            opened.bind((ip, port))
            opened.listen(_BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened


def _explain(error: OSError, ip: str, port: int, protocol: str) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return _Taken(ip)
    if error.errno in (errno.EACCES, errno.EPERM):
        return _Refused()
    what = f"failed to bind host port for {bracketed(ip)}:{port}/{protocol}"
    kind: type[RdockError] = SystemFailure
    if error.errno in (errno.EADDRNOTAVAIL, errno.EINVAL, errno.EAFNOSUPPORT, errno.ENODEV):
        kind = InvalidParameter
    return kind(f"{what}: {reason(error)}")


def _for_root(port: int, first: int) -> Unavailable:
    return Unavailable(
        f"cannot publish port {port}: ports below {first} are for root",
        hint=f"sudo sysctl -w net.ipv4.ip_unprivileged_port_start={port}, or publish a port from {first} up",
    )


def _first_for_all() -> int:
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="utf-8") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _shown(binding: PortBinding) -> str:
    return bracketed(binding.host_ip or _ANY[0])


def _address_of(listener: Listener) -> str:
    return str(listener.socket.getsockname()[0])


def _close(listeners: Iterable[Listener]) -> None:
    for listener in listeners:
        listener.socket.close()
