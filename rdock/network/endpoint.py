"""Published ports, as users write them and as Docker's API holds them.

`-p [[ip:][hostPort]:]containerPort[/protocol]`, with ranges on both sides. Port bindings are kept in
the API's shape: `{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`.
"""

from __future__ import annotations

from rdock.errors import InvalidParameter
from rdock.values import Value

PROTOCOLS = ("tcp", "udp")
_MOST_DIGITS = 9

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

Bindings: TypeAlias = "dict[str, list[dict[str, str]]]"


class PortBinding(Value):
    """One port of the host that leads to one port of a container."""

    host_ip: str
    host_port: int
    """0: any free one."""
    container_port: int
    protocol: str
    host_port_end: int = 0
    """The last of a range, of which the first free port is taken; 0: there is no range."""

    @property
    def key(self) -> str:
        return f"{self.container_port}/{self.protocol}"

    @property
    def host_ports(self) -> str:
        """As the API's HostPort has them: `8080`, `8000-8010`, nothing for any free one."""
        if not self.host_port:
            return ""
        return f"{self.host_port}-{self.host_port_end}" if self.host_port_end else str(self.host_port)


def parse_publish(text: str) -> list[PortBinding]:
    """The bindings that one `-p` asks for. Raises InvalidParameter in Docker's words."""
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidParameter(f"invalid proto: {protocol}" if slash else f"invalid publish: {text}")
    ip = ""
    if rest.startswith("["):
        ip, bracket, rest = rest[1:].partition("]:")
        if not bracket:
            raise InvalidParameter(f"invalid publish: {text}")
    # An address without brackets is what is before the last two colons.
    parts = rest.split(":") if ip else rest.rsplit(":", 2)
    if len(parts) > (2 if ip else 3):
        raise InvalidParameter(f"invalid publish: {text}")
    container = _ports(parts[-1], f"invalid containerPort: {parts[-1]}")
    host_text = parts[-2] if len(parts) > 1 else ""
    if len(parts) == 3:
        ip = parts[0]
    if ip and not _is_address(ip):
        raise InvalidParameter(f"invalid IP address: {ip}")
    if host_text in ("", "0"):
        return [PortBinding(ip, 0, port, protocol) for port in container]
    host = _ports(host_text, f"invalid hostPort: {host_text}")
    if len(host) != len(container):
        if len(container) != 1:
            raise InvalidParameter(
                f"invalid ranges specified for container and host Ports: {parts[-1]} and {host_text}"
            )
        return [PortBinding(ip, host[0], container[0], protocol, host[-1])]
    return [PortBinding(ip, there, here, protocol) for there, here in zip(host, container, strict=True)]


def _ports(text: str, complaint: str) -> list[int]:
    first, dash, last = text.partition("-")
    if not all(is_number(part) for part in ((first, last) if dash else (first,))):
        raise InvalidParameter(complaint)
    low, high = int(first), int(last) if dash else int(first)
    if not 0 < low <= high <= 65535:
        raise InvalidParameter(complaint)
    return list(range(low, high + 1))


def is_number(text: str) -> bool:
    """Whether it can be one of a port: of decimal digits, and not of more than int() takes."""
    return text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS


def _is_address(text: str) -> bool:
    import ipaddress  # 4 ms that only a binding to an address needs

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def to_bindings(found: list[PortBinding]) -> Bindings:
    """In the shape of the API's HostConfig.PortBindings."""
    bindings: Bindings = {}
    for binding in found:
        bindings.setdefault(binding.key, []).append({"HostIp": binding.host_ip, "HostPort": binding.host_ports})
    return bindings


def from_bindings(bindings: Bindings) -> list[PortBinding]:
    found = []
    for key, entries in bindings.items():
        port, _, protocol = key.partition("/")
        for entry in entries:
            first, _, last = entry["HostPort"].partition("-")
            found.append(PortBinding(entry["HostIp"], int(first or 0), int(port), protocol, int(last or 0)))
    return found


def addresses(entries: list[dict[str, str]]) -> list[str]:
    """Bindings of one port as `docker port` shows them: `0.0.0.0:8080`."""
    return [f"{bracketed(entry['HostIp'] or '0.0.0.0')}:{entry['HostPort']}" for entry in entries]


def parse_private_port(text: str) -> str:
    """`80`, `80/udp` → the key of a port in bindings. Raises InvalidParameter."""
    port, slash, protocol = text.partition("/")
    if not port.isdecimal() or not port.isascii() or (slash and protocol.lower() not in (*PROTOCOLS, "sctp")):
        raise InvalidParameter(f"invalid port: {text}")
    return f"{int(port[:6])}/{protocol.lower() or 'tcp'}"


def bracketed(ip: str) -> str:
    """An address as it stands before a port."""
    return f"[{ip}]" if ":" in ip else ip
