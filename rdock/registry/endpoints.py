"""Which servers stand for a registry, and what is demanded of them.

The name in a reference (`docker.io`, `localhost:5000`) is not always the server that is asked: Docker Hub's
is another host, and mirrors may go before it. rdock's own config.json comes first (`registry-mirrors` and
`insecure-registries` as in Docker's daemon.json, and `registries` for single ones); what it does not speak of
is as the machine's other tools have it (foreign_config.py).
Certificates lie in directories named after the server: HOST/*.crt are authorities, HOST/*.cert with HOST/*.key
are ours.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from functools import cache
from urllib.parse import urlsplit

from rdock import config, paths
from rdock.errors import Forbidden, InvalidParameter
from rdock.image import reference
from rdock.registry import foreign_config
from rdock.registry.foreign_config import Foreign, Known
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
    """One server that serves a registry's repository."""

    host: str
    """`host` or `host:port`, also the name under which its credentials are kept (but for Docker Hub's)."""
    repository: str
    """The repository's name there."""
    path: str = ""
    """What stands between the host and `/v2/`: `/mirror`."""
    scheme: str = ""
    """`http` or `https` where the configuration says so."""
    mirror: bool = False
    only: str = ""
    """`digest-only` or `tag-only`: what a mirror is asked for."""


def of_registry(domain: str, repository: str, *, push: bool = False) -> list[Endpoint]:
    """The servers to ask for a repository, in order, the registry itself last; pushes go to that alone.

    Raises Forbidden for a registry that the machine's settings block, InvalidParameter for malformed ones.
    """
    known = _known(domain, repository)
    if known is not None and known.blocked:
        raise Forbidden(f"registry {known.prefix} is blocked in {known.path}")
    itself = Endpoint(HUB_HOST if domain == HUB else domain, repository)
    if known is not None and known.location != known.prefix and "*" not in known.location:
        itself = _moved(known, known.location, domain, repository)
    return [itself] if push else [*_mirrors(known, domain, repository), itself]


def _mirrors(known: Known | None, domain: str, repository: str) -> list[Endpoint]:
    where = paths.settings()
    settings = config.current()
    own = next((registry.mirrors for registry in settings.registries if registry.host == domain), ())
    if not own and domain == HUB:
        own = settings.registry_mirrors
    if own:
        return [_of_url(text, repository, where) for text in own]
    if known is not None and known.mirrors:
        return [
            _moved(known, mirror.location, domain, repository)._replace(mirror=True, only=mirror.only)
            for mirror in known.mirrors
        ]
    if domain == HUB:
        return [_of_url(text, repository, paths.docker_daemon_config()) for text in _foreign().hub_mirrors]
    return []


def _of_url(text: str, repository: str, where: str) -> Endpoint:
    """A mirror as Docker's settings have it: a URL whose path goes before `/v2/`; without a scheme https is meant.

    Raises InvalidParameter.
    """
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        parts.port  # noqa: B018 - is checked only when it is asked for
        if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError
        if parts.scheme not in ("", "http", "https") or not reference.is_domain(parts.netloc):
            raise ValueError
    except ValueError:
        raise InvalidParameter(f"{where}: invalid mirror: {text[:200]!r} is not http(s)://HOST[:PORT][/PATH]") from None
    return Endpoint(parts.netloc, repository, parts.path.rstrip("/"), parts.scheme, mirror=True)


def _moved(known: Known, location: str, domain: str, repository: str) -> Endpoint:
    """Where registries.conf has a repository: `location` in the place of the prefix."""
    whole = f"{domain}/{repository}"
    rest = "" if known.prefix.startswith("*.") else whole[len(known.prefix) :]
    host, _, path = f"{location}{rest or ('/' + repository if known.prefix.startswith('*.') else '')}".partition("/")
    if not reference.is_domain(host) or not path:
        raise InvalidParameter(f"{known.path}: {location[:200]!r} is not the location of a registry")
    return Endpoint(HUB_HOST if host == HUB else host, path)


def _known(domain: str, repository: str) -> Known | None:
    """What registries.conf says of a repository: the longest prefix counts."""
    whole = f"{domain}/{repository}"
    found = [known for known in _foreign().registries if _has_prefix(whole, domain, known.prefix)]
    return max(found, key=lambda known: len(known.prefix), default=None)


def _has_prefix(whole: str, domain: str, prefix: str) -> bool:
    if prefix.startswith("*."):
        return "/" not in prefix and domain.partition(":")[0].endswith(prefix[1:])
    return whole == prefix or whole.startswith(prefix + "/")


@cache
def _foreign() -> Foreign:
    return foreign_config.load()


# -- what is demanded ----------------------------------------------------------------------------


@cache
def is_insecure(host: str) -> bool:
    """Whether a server may do without a certificate that holds, and without TLS.

    As in Docker: what is on this machine by its name, and what the settings name or have in a network. A server
    for which there are authorities is not trusted without them.
    """
    for registry in config.current().registries:
        if registry.host == host and registry.insecure is not None:
            return registry.insecure
    foreign = _foreign()
    named = [*config.current().insecure_registries, *foreign.insecure]
    hosts = {text.removeprefix("http://").removeprefix("https://").rstrip("/") for text in named}
    for known in foreign.registries:
        hosts |= {known.location.partition("/")[0]} if known.insecure else set()
        hosts |= {mirror.location.partition("/")[0] for mirror in known.mirrors if mirror.insecure}
    return is_loopback(host) or host in hosts or _is_in_network(host, named)


def _is_in_network(host: str, named: list[str]) -> bool:
    networks = []
    for text in named:
        try:
            networks += [ipaddress.ip_network(text, strict=False)] if "/" in text else []
        except ValueError:
            continue
    if not networks:
        return False
    name, _ = split_port(host)
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return False
    addresses = [address for address in map(address_of, found) if address is not None]
    return any(address in network for address in addresses for network in networks)


@cache
def tls(host: str) -> Tls:
    """What is demanded of a connection to a server."""
    authorities: list[str] = []
    certificates: list[tuple[str, str]] = []
    for place in paths.certificate_directories() if reference.is_domain(host) else ():
        directory = os.path.join(place, host)
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith(".crt"):
                authorities.append(path)
            elif name.endswith(".cert"):
                certificates.append((path, f"{path.removesuffix('.cert')}.key"))
    verify = bool(authorities) or not is_insecure(host)
    return Tls(verify, tuple(authorities), tuple(certificates))


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


def alias(name: str) -> str:
    """What registries.conf has for a short name (`fedora`): a full one, or nothing."""
    return _foreign().aliases.get(name, "")
