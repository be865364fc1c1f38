"""The options of `--network pasta:…`: those of pasta(1) itself, one word or value after the other.

pasta reads them with getopt_long(3). rdock does so too, as far as it has to know which word is an option and which a
value, and refuses what it relies on being otherwise. What it does not know, a newer pasta may.
"""

from __future__ import annotations

from rdock.errors import InvalidParameter, Unsupported
from rdock.network.slirp_options import is_address
from rdock.values import Value

_LONG = {
    "f": "foreground", "d": "debug", "q": "quiet", "e": "stderr", "h": "help", "4": "ipv4-only", "6": "ipv6-only",
    "l": "log-file", "p": "pcap", "P": "pid", "m": "mtu", "a": "address", "n": "netmask", "M": "mac-addr",
    "g": "gateway", "i": "interface", "o": "outbound", "D": "dns", "S": "search", "H": "hostname", "s": "socket",
    "F": "fd", "1": "one-off", "I": "ns-ifname", "t": "tcp-ports", "u": "udp-ports", "T": "tcp-ns", "U": "udp-ns",
}  # fmt: skip
_WITHOUT_VALUE = {
    "foreground", "debug", "trace", "quiet", "stderr", "help", "version", "ipv4-only", "ipv6-only", "one-off",
    "no-tcp", "no-udp", "no-icmp", "no-dhcp", "no-ndp", "no-dhcpv6", "no-ra", "no-map-gw", "map-gw", "config-net",
    "dhcp-dns", "dhcp-search", "no-dhcp-dns", "no-dhcp-search", "netns-only", "no-netns-quit", "freebind",
    "host-lo-to-ns-lo", "no-splice", "no-copy-routes", "no-copy-addrs", "vhost-user", "print-capabilities",
}  # fmt: skip
_WITH_VALUE = {
    *(name for name in _LONG.values() if name not in _WITHOUT_VALUE), "log-size", "runas", "userns", "netns",
    "outbound-if4", "outbound-if6", "dns-forward", "dns-host", "ns-mac-addr", "map-host-loopback", "map-guest-addr",
    "fqdn", "host-mac-addr", "repair-path",
}  # fmt: skip
_OWN_WORK = "rdock runs pasta in its own way"
_REFUSED = {
    **dict.fromkeys(("foreground", "debug", "trace", "pid", "log-file", "log-size", "runas"), _OWN_WORK),
    **dict.fromkeys(("netns", "userns", "netns-only", "no-netns-quit"), "the namespaces are the container's"),
    **dict.fromkeys(("fd", "socket", "one-off", "vhost-user", "repair-path"), "that is for virtual machines"),
    **dict.fromkeys(("help", "version", "print-capabilities"), "pasta would end"),
    "pcap": "it writes a file on the host: use tcpdump in the container",
}


class PastaOptions(Value):
    """What a user has to say to pasta."""

    arguments: tuple[str, ...] = ()
    """As they are passed on: `--long=value`, or one word each."""
    given: tuple[tuple[str, str], ...] = ()
    """The long names of those, with their values."""
    maps_gateway: bool = False
    """podman's --map-gw: whether the gateway's address leads to the host's loopback."""

    def has(self, name: str) -> bool:
        return any(name == known for known, _ in self.given)

    def address(self, name: str, family: int) -> str:
        """The first value of an option that is an address of this family (a length left out); else empty."""
        found = (value.partition("/")[0] for known, value in self.given if known == name)
        return next((value for value in found if is_address(value, family)), "")

    def value(self, name: str) -> str:
        return next((value for known, value in self.given if known == name), "")


def parse(text: str) -> PastaOptions:
    """`--mtu,1500,-T,5201`. Raises InvalidParameter, Unsupported."""
    words = text.split(",") if text else []
    arguments: list[str] = []
    given: list[tuple[str, str]] = []
    while words:
        word = words.pop(0)
        if len(word) < 2 or word[0] != "-" or word == "--":
            raise InvalidParameter(f'invalid option for pasta: "{word}": not an option of pasta(1)')
        for name, value in _read_long(word, words) if word.startswith("--") else _read_short(word, words):
            given.append((name, value or ""))
            if name not in ("map-gw", "no-map-gw", "config-net", "quiet"):  # rdock's own, which pasta wants but once
                arguments.append(f"--{name}" if value is None else f"--{name}={value}")
    names = [name for name, _ in given]
    if "map-gw" in names and "no-map-gw" in names:
        raise InvalidParameter("conflicting options for pasta: --map-gw and --no-map-gw")
    return PastaOptions(tuple(arguments), tuple(given), "map-gw" in names)


def _read_long(word: str, rest: list[str]) -> list[tuple[str, str | None]]:
    name, equals, value = word[2:].partition("=")
    _check(name, word)
    if name in _WITHOUT_VALUE:
        if equals:
            raise InvalidParameter(f'invalid option for pasta: "{word}": --{name} takes no value')
        return [(name, None)]
    if equals:
        return [(name, value)]
    if name in _WITH_VALUE:
        return [(name, _next(word, rest))]
    # Of a newer pasta: whether it takes a value, only what follows can tell.
    return [(name, rest.pop(0) if rest and not rest[0].startswith("-") else None)]


def _read_short(word: str, rest: list[str]) -> list[tuple[str, str | None]]:
    """One option, or several without values, the last of which may have one: `-4`, `-T5201`, `-4T`."""
    found: list[tuple[str, str | None]] = []
    for place, letter in enumerate(word[1:], 1):
        name = _LONG.get(letter, "")
        if not name:
            raise InvalidParameter(f'invalid option for pasta: "{word}": pasta has no -{letter}')
        _check(name, word)
        if name in _WITH_VALUE:
            return [*found, (name, word[place + 1 :] or _next(word, rest))]
        found.append((name, None))
    return found


def _next(word: str, rest: list[str]) -> str:
    if not rest or rest[0].startswith("-"):
        raise InvalidParameter(f'invalid option for pasta: "{word}": it needs a value')
    return rest.pop(0)


def _check(name: str, word: str) -> None:
    """Raise unless the user may have this option; getopt_long takes the beginning of a name for the whole."""
    if name in _WITHOUT_VALUE | _WITH_VALUE and name not in _REFUSED:
        return
    if not name:
        raise InvalidParameter(f'invalid option for pasta: "{word}"')
    refused = next((each for each in _REFUSED if each.startswith(name)), "")
    if refused:
        raise Unsupported(f"pasta option {word.partition('=')[0]} cannot be given: {_REFUSED[refused]}")
    if any(each.startswith(name) for each in _WITHOUT_VALUE | _WITH_VALUE):
        raise InvalidParameter(f'invalid option for pasta: "{word}": names are to be written in full')
