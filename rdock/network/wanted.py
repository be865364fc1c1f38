"""Which networks a container is to be on, and as whom: `--network`, short and long, and what goes with it.

`name=NET,alias=…,ip=…` is Docker's long form (docker/cli opts/network.go). What comes out of it is HostConfig's
NetworkMode and an EndpointSettings of the API for each network.
"""

from __future__ import annotations

from rdock.errors import InvalidParameter
from rdock.linux import links
from rdock.network import addresses, endpoint_options, leases, modes, names, networks
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_MOST_DIGITS = 64  # more than any number has that is kept, and less than int() takes
_BOTH = "conflicting options: cannot attach both user-defined and non-user-defined network-modes"


class Given(Value):
    """The options that are for the first network."""

    aliases: Sequence[str] = ()
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    links: Sequence[str] = ()
    link_local: Sequence[str] = ()


def parse(texts: Sequence[str], given: Given) -> tuple[str, dict[str, dict[str, Any]]]:
    """The network mode, and the endpoints by the networks' names.

    Raises InvalidParameter and NotFound in Docker's words.
    """
    chosen = [_parse_one(text) for text in texts] or [("", {})]
    if len(chosen) > 1 and any(name.startswith("container:") for name, _ in chosen):
        raise InvalidParameter(_BOTH)
    first, settings = chosen[0]
    mode = modes.parse(first)
    if mode == networks.DEFAULT:
        given = given._replace(links=())  # they are the container's own there, see container/linking.py
    chosen[0] = mode, _with(settings, given)
    if modes.kind(mode) in modes.MODES or mode.startswith("container:"):
        if len(chosen) > 1:
            raise InvalidParameter(_BOTH)
        _check_none(mode, chosen[0][1])
        return mode, {}
    endpoints: dict[str, dict[str, Any]] = {}
    for name, settings in chosen:
        network = networks.lookup(name)
        if network.name in modes.MODES or (network.name == networks.DEFAULT and len(chosen) > 1):
            raise InvalidParameter(_BOTH)
        if network.name in endpoints:
            raise InvalidParameter(f'network "{network.name}" is specified multiple times')
        check(network, settings)
        endpoints[network.name] = settings
    return mode, endpoints


def _check_none(mode: str, settings: dict[str, Any]) -> None:
    """Without a network of ours nothing can be said of an endpoint."""
    if settings.get("Aliases"):
        raise InvalidParameter("network-scoped aliases are only supported for user-defined networks")
    if settings.get("Links") and mode == "host":
        raise InvalidParameter(
            "conflicting options: host type networking can't be used with links. "
            "This would result in undefined behavior"
        )
    if settings.get("Links"):
        raise InvalidParameter(f"conflicting options: links and the {mode} network mode")
    if settings.get("IPAMConfig"):
        raise InvalidParameter("user specified IP address is supported on user defined networks only")
    if settings.get("MacAddress") and mode != "none":
        raise InvalidParameter("conflicting options: mac-address and the network mode")


def check(network: networks.Network, settings: dict[str, Any]) -> None:
    """Raise InvalidParameter in Docker's words, or NotThereYet, unless an endpoint on this network can be so."""
    for text in settings.get("Links") or ():
        names.parse_link(text)
    if settings.get("Links") and network.name == networks.DEFAULT:
        raise InvalidParameter("links of the default network are those that a container is created with")
    endpoint_options.check(settings.get("DriverOpts") or {})
    for text in (settings.get("IPAMConfig") or {}).get("LinkLocalIPs") or ():
        check_link_local(text)
    if settings.get("Aliases") and network.name == networks.DEFAULT:
        raise InvalidParameter("network-scoped aliases are only supported for user-defined networks")
    for text in (settings.get("IPAMConfig") or {}).values():
        if isinstance(text, str) and text:
            leases.check_address(network, text)
    if settings.get("MacAddress"):
        check_mac(settings["MacAddress"])


def check_mac(text: str) -> str:
    """A hardware address that an interface can have. Raises InvalidParameter."""
    try:
        parsed = links.mac_bytes(text)
    except ValueError:
        raise InvalidParameter(f"{text} is not a valid mac address") from None
    if parsed[0] & 1 or not any(parsed):
        raise InvalidParameter(f"{text} is not the address of one interface")
    return text


def check_link_local(text: str) -> str:
    """An address that is good on one link only (RFC 3927, RFC 4291), in its one spelling. Raises InvalidParameter."""
    address = addresses.parse(text)
    if not address.is_link_local:
        raise InvalidParameter(f"invalid link-local IP address: {text}")
    return str(address)


def _parse_one(text: str) -> tuple[str, dict[str, Any]]:
    """One `--network`: the network's name and the settings of the endpoint."""
    if "=" not in text or modes.kind(text) in modes.PRIVATE:
        return text, {}
    name = ""
    settings: dict[str, Any] = {}
    for field in text.split(","):
        key, equals, value = field.strip().partition("=")
        key = key.lower()
        if not equals:
            raise InvalidParameter(f"invalid field {field}: must be a key=value pair")
        if key == "name":
            name = value
        elif key == "driver-opt":
            option, _, content = value.partition("=")
            settings.setdefault("DriverOpts", {})[option.strip().lower()] = content.strip()
        elif key == "link-local-ip":
            settings.setdefault("IPAMConfig", {}).setdefault("LinkLocalIPs", []).append(check_link_local(value))
        elif key in ("ip", "ip6"):
            wanted = "IPv4Address" if key == "ip" else "IPv6Address"
            settings.setdefault("IPAMConfig", {})[wanted] = _check_version(value, key)
        elif key == "alias":
            settings.setdefault("Aliases", []).append(value)
        elif key == "mac-address":
            settings["MacAddress"] = check_mac(value)
        elif key == "gw-priority":
            settings["GwPriority"] = _priority(value)
        else:
            raise InvalidParameter(f"invalid field key {key}")
    if not name:
        raise InvalidParameter("network name/id is not specified")
    return name, settings


def _priority(text: str) -> int:
    digits = text[text[:1] in ("-", "+") :]
    if not digits.isascii() or not digits.isdecimal():
        problem = "invalid syntax"
    elif len(digits) > _MOST_DIGITS or not -(1 << 63) <= int(text) < 1 << 63:
        problem = "value out of range"
    else:
        return int(text)
    raise InvalidParameter(f'invalid gw-priority ({text}): strconv.Atoi: parsing "{text}": {problem}')


def _with(settings: dict[str, Any], given: Given) -> dict[str, Any]:
    """The first network's settings with the options that are for it. Raises InvalidParameter for what is said twice."""
    ipam = dict(settings.get("IPAMConfig") or {})
    found = dict(settings)
    for values, key, option, what in (
        (list(given.aliases), "Aliases", "--network-alias", "per-network alias"),
        (list(given.links), "Links", "--link", "per-network links"),
        (given.mac and check_mac(given.mac), "MacAddress", "--mac-address", "per-network MAC address"),
    ):
        if values and settings.get(key):
            raise InvalidParameter(f"conflicting options: cannot specify both {option} and {what}")
        if values:
            found[key] = values
    for address, key, option, what in (
        (given.ip, "IPv4Address", "--ip", "IPv4"),
        (given.ip6, "IPv6Address", "--ip6", "IPv6"),
    ):
        if address and ipam.get(key):
            raise InvalidParameter(f"conflicting options: cannot specify both {option} and per-network {what} address")
        if address:
            ipam[key] = _check_version(address, option[2:])
    if given.link_local and ipam.get("LinkLocalIPs"):
        raise InvalidParameter(
            "conflicting options: cannot specify both --link-local-ip and per-network link-local IP addresses"
        )
    if given.link_local:
        ipam["LinkLocalIPs"] = [check_link_local(text) for text in given.link_local]
    return {**found, "IPAMConfig": ipam} if ipam else found


def _check_version(text: str, option: str) -> str:
    address = addresses.parse(text)
    if address.version != (6 if option == "ip6" else 4):
        raise InvalidParameter(f"invalid IPv{6 if option == 'ip6' else 4} address: {text}")
    return str(address)
