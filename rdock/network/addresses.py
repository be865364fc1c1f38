"""IP addresses and blocks of them as numbers: what the allocator needs of RFC 4632 and RFC 4291.

The standard library's ipaddress would do it, for four milliseconds of every start.
"""

from __future__ import annotations

from rdock.errors import InvalidParameter
from rdock.linux import sockets
from rdock.values import Value

_BITS = {4: 32, 6: 128}
_FAMILIES = {4: sockets.AF_INET, 6: sockets.AF_INET6}


class Address(Value):
    """One address."""

    version: int
    """4 or 6."""
    number: int

    def __str__(self) -> str:
        return sockets.inet_ntop(_FAMILIES[self.version], self.number.to_bytes(_BITS[self.version] // 8, "big"))

    def plus(self, count: int) -> Address:
        return Address(self.version, self.number + count)

    @property
    def is_unicast(self) -> bool:
        """Whether it can be one host's: not unspecified, loopback, multicast or broadcast."""
        if self.version == 4:
            return 0 < self.number >> 24 < 224 and self.number >> 24 != 127
        return self.number > 1 and self.number >> 120 != 0xFF

    @property
    def is_link_local(self) -> bool:
        """Whether it is of 169.254.0.0/16 (RFC 3927) or fe80::/10 (RFC 4291)."""
        return self.number >> 16 == 0xA9FE if self.version == 4 else self.number >> 118 == 0xFE80 >> 6


class Block(Value):
    """A block of addresses: all that begin with the same bits."""

    version: int
    base: int
    length: int
    """How many bits are the same."""

    def __str__(self) -> str:
        return f"{self.first}/{self.length}"

    @property
    def size(self) -> int:
        return 1 << (_BITS[self.version] - self.length)

    @property
    def first(self) -> Address:
        return Address(self.version, self.base)

    @property
    def last(self) -> Address:
        return Address(self.version, self.base + self.size - 1)

    def __contains__(self, address: Address) -> bool:
        return address.version == self.version and 0 <= address.number - self.base < self.size

    def holds(self, other: Block) -> bool:
        """Whether all of another block is in this one."""
        return other.first in self and other.last in self

    def overlaps(self, other: Block) -> bool:
        return other.first in self or self.first in other

    def is_usable(self, address: Address) -> bool:
        """Whether an address of the block can be a host's: not the network's own, nor the broadcast one of IPv4."""
        if self.size <= 2:
            return address in self
        return address in self and address != self.first and not (self.version == 4 and address == self.last)


def parse(text: str) -> Address:
    """Raises InvalidParameter."""
    version = 6 if ":" in text else 4
    try:
        if not text.isascii():
            raise ValueError
        return Address(version, int.from_bytes(sockets.inet_pton(_FAMILIES[version], text), "big"))
    except (OSError, ValueError):
        raise InvalidParameter(f"invalid IP address: {text}") from None


def parse_block(text: str) -> Block:
    """`172.20.0.0/16` → the block. Raises InvalidParameter, also if bits are set beyond its length."""
    head, slash, tail = text.partition("/")
    try:
        address = parse(head)
        if not slash or not tail.isascii() or not tail.isdecimal() or int(tail[:4]) > _BITS[address.version]:
            raise InvalidParameter("")
    except InvalidParameter:
        raise InvalidParameter(f"invalid CIDR address: {text}") from None
    found = block_of(address, int(tail))
    if found.first != address:
        raise InvalidParameter(f"invalid subnet {text}: it should be {found}")
    return found


def block_of(address: Address, length: int) -> Block:
    """The block of this length that an address is in."""
    rest = _BITS[address.version] - length
    return Block(address.version, address.number >> rest << rest, length)
