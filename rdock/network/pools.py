"""Which block of addresses a network gets, and which address of it an endpoint gets.

Nothing is remembered here: what is taken is given, and the lowest that is free is the answer. The blocks to
choose from are Docker's default address pools, less what the host has routes to.
"""

from __future__ import annotations

import os

from rdock.errors import Conflict, NotFound
from rdock.network import addresses
from rdock.network.addresses import Address, Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

# An interface identifier of 64 bits is what IPv6 is made for (RFC 4291, 2.5.1).
_LENGTH_6 = 64


def blocks() -> Iterator[Block]:
    """The IPv4 blocks for networks that are given none, in order."""
    yield from (addresses.parse_block(f"172.{number}.0.0/16") for number in range(17, 32))
    yield from (addresses.parse_block(f"192.168.{number}.0/20") for number in range(0, 256, 16))


def choose(taken: Collection[Block]) -> Block:
    """The first block that overlaps with none of these. Raises NotFound in Docker's words if all do."""
    for block in blocks():
        if not any(block.overlaps(other) for other in taken):
            return block
    raise NotFound(
        "all predefined address pools have been fully subnetted", hint="give the network a block of its own: --subnet"
    )


def choose_6(taken: Collection[Block]) -> Block:
    """A block of unique local addresses (RFC 4193) that by chance nobody else has."""
    while True:
        prefix = 0xFD << 120 | int.from_bytes(os.urandom(7), "big") << 64
        block = addresses.block_of(Address(6, prefix), _LENGTH_6)
        if not any(block.overlaps(other) for other in taken):
            return block


def lowest_free(block: Block, within: Block, is_taken: Callable[[Address], bool]) -> Address | None:
    """The lowest usable address of `within`, a part of `block`, that is not taken; None if there is none."""
    number = within.base
    while number < within.base + within.size:
        address = Address(block.version, number)
        if block.is_usable(address) and not is_taken(address):
            return address
        number += 1
    return None


def check_overlap(block: Block, taken: Collection[Block]) -> None:
    """Raise Conflict in Docker's words if a block that was asked for has addresses of another network's."""
    if any(block.overlaps(other) for other in taken):
        raise Conflict("invalid pool request: Pool overlaps with other one on this address space")
