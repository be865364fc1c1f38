"""The options of `--network slirp4netns:…`, in the words of podman-run(1)."""

from __future__ import annotations

from rdock.errors import InvalidParameter, Unsupported
from rdock.linux import sockets
from rdock.values import Value

# slirp4netns(1): of the shortest packets that IPv4 must carry (RFC 791), and what the TAP device takes.
_LEAST_MTU, _MOST_MTU = 68, 65521
# slirp4netns: below its network it wants room for the addresses up to number 100.
_LONGEST_PREFIX = 25


class SlirpOptions(Value):
    """What is asked of one slirp4netns; without more it does what all of rdock's do."""

    allow_host_loopback: bool = False
    """Whether the gateway's address leads to the host's loopback."""
    mtu: int = 0
    """In bytes; 0: the one that is fastest."""
    cidr: str = ""
    """The block of its network; empty: one that is free here."""
    enable_ipv6: bool = False
    outbound_addr: str = ""
    """The address, or the interface, from which the host is left; likewise of IPv6."""
    outbound_addr6: str = ""


NONE = SlirpOptions()


def parse(text: str) -> SlirpOptions:
    """`mtu=1400,cidr=10.5.0.0/16`. Raises InvalidParameter in podman's words, Unsupported."""
    found: dict[str, bool | int | str] = {}
    for option in text.split(",") if text else ():
        key, equals, value = option.partition("=")
        if key in ("allow_host_loopback", "enable_ipv6") and equals:
            if value not in ("true", "false"):
                raise InvalidParameter(f'invalid value of {key} for slirp4netns: "{value}"')
            found[key] = value == "true"
        elif key == "mtu" and equals:
            if not (value.isascii() and value.isdecimal()) or not _LEAST_MTU <= int(value[:9]) <= _MOST_MTU:
                raise InvalidParameter(f'invalid mtu "{value}": not a number from {_LEAST_MTU} to {_MOST_MTU}')
            found[key] = int(value)
        elif key == "cidr" and equals:
            found[key] = _check_cidr(value)
        elif key in ("outbound_addr", "outbound_addr6") and equals:
            found[key] = _check_outbound(key, value)
        elif key == "port_handler" and equals:
            _check_handler(value)
        elif key in ("mtu", "cidr", "outbound_addr", "outbound_addr6", "port_handler"):
            raise InvalidParameter(f'option for slirp4netns without a value: "{option}"')
        else:
            raise InvalidParameter(f'unknown option for slirp4netns: "{option}"')
    return SlirpOptions(**found)  # type: ignore[arg-type]


def _check_cidr(text: str) -> str:
    address, _, length = text.partition("/")
    if not is_address(address, sockets.AF_INET) or not (length.isascii() and length.isdecimal()):
        raise InvalidParameter(f'invalid cidr "{text}"')
    if not 1 <= int(length[:3]) <= _LONGEST_PREFIX:
        raise InvalidParameter(f'invalid cidr "{text}": the prefix is to be {_LONGEST_PREFIX} bits at most')
    return text


def _check_outbound(key: str, text: str) -> str:
    family = sockets.AF_INET6 if key.endswith("6") else sockets.AF_INET
    if not is_address(text, family) and not _is_interface(text):
        raise InvalidParameter(f'invalid {key} "{text}": neither an address nor an interface of this machine')
    return text


def _check_handler(text: str) -> None:
    if text == "rootlesskit":
        raise Unsupported(
            "port_handler=rootlesskit: published ports are slirp4netns's own work here",
            hint="leave it out, or use --network bridge, which keeps clients' addresses and is faster",
        )
    if text != "slirp4netns":
        raise InvalidParameter(f'unknown port_handler for slirp4netns: "{text}"')


def is_address(text: str, family: int) -> bool:
    """Whether this is an address of a family, AF_INET or AF_INET6."""
    try:
        sockets.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True


def _is_interface(text: str) -> bool:
    try:
        return sockets.if_nametoindex(text) > 0
    except (OSError, ValueError):
        return False
