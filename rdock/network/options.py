"""The options that a network's driver takes (`network create -o KEY=VALUE`): checked before a network is made.

Docker takes any and is silent about those that mean nothing. Here an option that the driver does not know is
refused, and so is a value that cannot be honoured: what stands in a network's record is what it does.
"""

from __future__ import annotations

from rdock.errors import Conflict, InvalidParameter, Unsupported
from rdock.linux import links
from rdock.network import addresses
from rdock.network.firewall import TAP
from rdock.network.networks import BRIDGE_NAME, Network
from rdock.network.plumbing import ICC_OPTION, INTERFACE_PREFIX, MODE_OPTION, MTU_OPTION, PARENT_OPTION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
"""The address of the host that published ports are bound to if none is said."""
_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
_INHIBIT = "com.docker.network.bridge.inhibit_ipv4"
_GATEWAY_MODES = ("com.docker.network.bridge.gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv6")
_ALIASES = {
    "bridge": {"mtu": MTU_OPTION, "com.docker.network.mtu": MTU_OPTION},
    "macvlan": {"mode": MODE_OPTION},
}
"""Podman's short words, and Docker's old ones."""
# Bytes. RFC 791 asks for 68 at least, RFC 8200 for 1280; more than 65535 no device of the kernel takes.
_LEAST_MTU, _LEAST_MTU_6, _MOST_MTU = 68, 1280, 65535
_MOST_NAME = 15
_OF_THE_SHARED_NAMESPACE = ("lo", "tap0")
_MACVLAN_MODES = ("bridge", "private", "vepa", "passthru")
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


def check(driver: str, given: Mapping[str, str], *, ipv6: bool) -> dict[str, str]:
    """The options under their full names, with values in one spelling.

    Raises InvalidParameter for a value that makes no sense, in Docker's words where it has any, and for an option
    that the driver does not have; Unsupported for what Docker can do and rdock cannot.
    """
    found: dict[str, str] = {}
    for key, value in given.items():
        name = _ALIASES[driver].get(key, key)
        if name in found and found[name] != value:
            raise InvalidParameter(f"the option {name} is given twice, and differently")
        checker = _CHECKERS[driver].get(name)
        if checker is None:
            raise InvalidParameter(
                f"the {driver} driver has no option {key}", f"it has: {', '.join(sorted(_CHECKERS[driver]))}"
            )
        found[name] = checker(name, value)
    if ipv6 and MTU_OPTION in found and int(found[MTU_OPTION]) < _LEAST_MTU_6:
        raise InvalidParameter(f"invalid MTU number: {found[MTU_OPTION]}: IPv6 needs {_LEAST_MTU_6} at least")
    return found


def check_devices(made: Network, others: Sequence[Network]) -> None:
    """Raise Conflict in Docker's words if a new network wants a device that another one has, and InvalidParameter if
    it wants to share one that is not there: networks' bridges can be shared, and the way out.
    """
    parent = made.options.get(PARENT_OPTION)
    if parent and parent != TAP and not any(other.bridge == parent for other in others if other.driver == "bridge"):
        raise InvalidParameter(
            f"invalid parent interface name: '{parent}': no network has a bridge of this name",
            "the machine's own interfaces can be shared by its root only",
        )
    for other in others:
        if made.bridge == other.bridge:
            raise Conflict(
                f"cannot create network {made.id} ({made.bridge}): conflicts with network {other.id} ({other.bridge}): "
                "networks have same bridge name"
            )
        if parent not in (None, TAP) and made.driver == other.driver and other.options.get(PARENT_OPTION) == parent:
            raise Conflict(f"network {other.name} is already using parent interface {parent}")


# -- one function for each kind of value -----------------------------------------------------------


def _unreadable(name: str, value: str, why: str) -> InvalidParameter:
    return InvalidParameter(f"failed to parse {name} value: {value} ({why})")


def _boolean(name: str, value: str) -> str:
    if value in _TRUE:
        return "true"
    if value in _FALSE:
        return "false"
    raise _unreadable(name, value, f'strconv.ParseBool: parsing "{value}": invalid syntax')


def _mtu(name: str, value: str) -> str:
    if not value.removeprefix("-").isdecimal() or not value.isascii():
        raise _unreadable(name, value, f'strconv.Atoi: parsing "{value}": invalid syntax')
    if len(value) > len(str(_MOST_MTU)) or not _LEAST_MTU <= int(value) <= _MOST_MTU:
        raise InvalidParameter(f"invalid MTU number: {value}: it has to be from {_LEAST_MTU} to {_MOST_MTU}")
    return str(int(value))


def _bridge_name(name: str, value: str) -> str:
    if not links.is_name(value):
        raise InvalidParameter(
            f"invalid bridge name: '{value}': it needs 1 to {_MOST_NAME} letters, without spaces, '/', ':' and '%'"
        )
    if value in _OF_THE_SHARED_NAMESPACE:
        raise InvalidParameter(f"invalid bridge name: '{value}': rdock's own interface is called so")
    return value


def _parent(name: str, value: str) -> str:
    if not links.is_name(value):
        raise InvalidParameter(f"invalid parent interface name: '{value}'")
    return value


def _macvlan_mode(name: str, value: str) -> str:
    if value not in _MACVLAN_MODES:
        raise InvalidParameter(
            f"requested macvlan mode '{value}' is not valid, 'bridge' mode is the macvlan driver default"
        )
    return value


def _host_binding(name: str, value: str) -> str:
    try:
        address = addresses.parse(value)
    except InvalidParameter:
        raise _unreadable(name, value, "nil ip") from None
    if address.version != 4:
        raise _unreadable(name, value, "it is no IPv4 address")
    return _only(name, value, "0.0.0.0", "give the address with -p ADDRESS:PORT:PORT")


def _prefix(name: str, value: str) -> str:
    # A number follows, of three digits at most.
    if not links.is_name(value + "000") or value in ("lo", "v"):
        raise InvalidParameter(f"invalid interface name prefix: '{value}'")
    return value


def _masquerade(name: str, value: str) -> str:
    return _only(name, _boolean(name, value), "true", "a network without a way out is made by --internal")


def _inhibit(name: str, value: str) -> str:
    return _only(name, _boolean(name, value), "false")


def _gateway_mode(name: str, value: str) -> str:
    if value not in ("nat", "nat-unprotected", "routed", "isolated"):
        raise InvalidParameter(f"invalid gateway mode: unknown gateway mode {value}")
    return _only(name, value, "nat", "a network without a way out is made by --internal")


def _only(name: str, value: str, what_is_so: str, hint: str = "") -> str:
    """Take the value that says what is so anyway, and refuse others: what is accepted is what is done."""
    if value != what_is_so:
        raise Unsupported(f"{name}={value} is not supported: with rdock it is always {what_is_so}", hint)
    return value


_CHECKERS: dict[str, dict[str, Callable[[str, str], str]]] = {
    "bridge": {
        BRIDGE_NAME: _bridge_name,
        ICC_OPTION: _boolean,
        _MASQUERADE: _masquerade,
        HOST_BINDING: _host_binding,
        _INHIBIT: _inhibit,
        MTU_OPTION: _mtu,
        INTERFACE_PREFIX: _prefix,
        **dict.fromkeys(_GATEWAY_MODES, _gateway_mode),
    },
    "macvlan": {PARENT_OPTION: _parent, MODE_OPTION: _macvlan_mode},
}
