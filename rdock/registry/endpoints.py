"""Which servers stand for a registry, and what is demanded of them.

The name in a reference (`docker.io`, `localhost:5000`) is not always the server that is asked: Docker Hub's
is another host, and mirrors may go before it.
"""

from __future__ import annotations

import ipaddress

from rdock.values import Value

# As Docker has it: the name in references, and the host that serves it.
HUB, HUB_HOST = "docker.io", "registry-1.docker.io"


class Tls(Value):
    """How the other side of a connection proves who it is, and we to it."""

    verify: bool = True
    authorities: tuple[str, ...] = ()
    """Files of certificates that are trusted besides the system's."""
    certificates: tuple[tuple[str, str], ...] = ()
    """Our own: the files of a certificate and of its key."""


class Endpoint(Value):
    """One server that serves a registry's repositories."""

    host: str
    """`host` or `host:port`, also the name under which its credentials are kept (but for Docker Hub's)."""
    prefix: str = ""
    """What goes before a repository's name there: `proxy/`."""
    insecure: bool = False
    """Its certificate is not checked, and http is spoken where https is not."""
    mirror: bool = False
    path: str = ""
    """What stands between the host and `/v2/`: `/mirror`."""
    scheme: str = ""
    """`http` or `https` where the configuration says so."""


def of_registry(domain: str, repository: str, *, push: bool = False) -> list[Endpoint]:
    """The servers to ask for a repository, in order, the registry itself last; pushes go to that alone."""
    host = HUB_HOST if domain == HUB else domain
    return [Endpoint(host, insecure=is_insecure(host))]


def is_insecure(host: str) -> bool:
    """Whether a server may do without a certificate that holds, and without TLS."""
    return is_loopback(host)


def tls(host: str) -> Tls:
    """What is demanded of a connection to a server."""
    return Tls(verify=not is_insecure(host))


# -- hosts ---------------------------------------------------------------------------------------


def split_port(host: str) -> tuple[str, str]:
    """`[::1]:5000` → `::1`, `5000`."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal() or (":" in name and not name.endswith("]")):
        name, port = host, ""
    return name.removeprefix("[").removesuffix("]"), port


def address_of(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a server is on this machine by its very name: 127.0.0.0/8, ::1, localhost."""
    name, _ = split_port(host)
    address = address_of(name)
    return name.lower() == "localhost" if address is None else address.is_loopback
