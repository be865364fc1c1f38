"""The addresses of a private network: such as no network of the host has, which would be out of reach otherwise."""

from __future__ import annotations

import sys

from rdock.network import addresses
from rdock.network.addresses import Block
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX_LENGTH = 24
# The first is slirp4netns's own choice, and also that of QEMU and VirtualBox for their guests, one of which
# the host may be. The others are seldom used.
_CANDIDATES = ("10.0.2", "10.209.46", "172.29.46", "192.168.209")
_ROUTES = "/proc/net/route"
_MASK = 0xFFFFFFFF << (32 - PREFIX_LENGTH) & 0xFFFFFFFF


class Subnet(Value):
    """A private network, with the places that slirp4netns(1) gives to its parts, unless they are said to be others."""

    base: str
    """Its first address; the last number is left out where it is 0."""
    length: int = PREFIX_LENGTH
    own: str = ""
    """The container's address, where it is not the usual one."""
    via: str = ""
    """The gateway, likewise."""

    @classmethod
    def parse(cls, text: str) -> Subnet:
        """From `text`, or from a block as slirp4netns takes it, whose host bits do not count."""
        block, _, rest = text.partition(" ")
        base, _, length = block.partition("/")
        own, _, via = rest.partition(" ")
        if not length:
            return cls(base)
        bits = int(length)
        first = _value(base) & (0xFFFFFFFF << (32 - bits) & 0xFFFFFFFF)
        return cls(_dotted(first), bits, own, via)

    @property
    def text(self) -> str:
        """As a container's record has it."""
        if self.length == PREFIX_LENGTH and not self.own:
            return self.base
        return " ".join(filter(None, (self.cidr, self.own, self.via)))

    @property
    def cidr(self) -> str:
        return f"{_dotted(_value(self.base))}/{self.length}"

    @property
    def gateway(self) -> str:
        return self.via if self.own else self._place(2)

    @property
    def resolver(self) -> str:
        return self._place(3)

    @property
    def address(self) -> str:
        """The container's."""
        return self.own or self._place(100)

    def _place(self, number: int) -> str:
        return _dotted(_value(self.base) + number)


def choose(path: str = _ROUTES, taken: Iterable[Block] = ()) -> Subnet:
    """The first that overlaps with no route of the host, the default one left out, nor with a block that is taken; if
    all do, the first.
    """
    blocks = ((block.base, 0xFFFFFFFF << (32 - block.length) & 0xFFFFFFFF) for block in taken if block.version == 4)
    routes = [*_routes(path), *blocks]
    free = (base for base in _CANDIDATES if not any(_overlaps(base, *route) for route in routes))
    return Subnet(next(free, _CANDIDATES[0]))


def blocks_of_host(path: str = _ROUTES) -> list[Block]:
    """The blocks that the host has routes to, and those that private networks may be given here."""
    found = [Block(4, destination & mask, mask.bit_count()) for destination, mask in _routes(path)]
    return [*found, *candidates()]


def candidates() -> list[Block]:
    """The blocks that private networks may be given."""
    return [addresses.parse_block(Subnet(base).cidr) for base in _CANDIDATES]


def _routes(path: str) -> list[tuple[int, int]]:
    try:
        with open(path, encoding="utf-8") as file:
            return list(_parse(file))
    except OSError:
        return []


def _parse(lines: Iterable[str]) -> Iterable[tuple[int, int]]:
    """Destinations and masks of the kernel's table, whose numbers have the host's byte order."""
    for line in lines:
        fields = line.split()
        if len(fields) > 7 and fields[0] != "Iface" and int(fields[7], 16):
            yield _number(fields[1]), _number(fields[7])


def _number(text: str) -> int:
    return int.from_bytes(int(text, 16).to_bytes(4, sys.byteorder), "big")


def _overlaps(base: str, destination: int, mask: int) -> bool:
    return (_value(base) ^ destination) & mask & _MASK == 0


def _value(address: str) -> int:
    """Of an address whose last number may be left out."""
    return int.from_bytes(bytes((*map(int, address.split(".")), 0))[:4], "big")


def _dotted(value: int) -> str:
    return ".".join(map(str, value.to_bytes(4, "big")))
