"""Which blocks of addresses a new network gets: those that are asked for, in the shape of IPAM.Config of Docker's API,
checked in Docker's words, and for a family without any one of our choice. Only under the network lock.
"""

from __future__ import annotations

from rdock.errors import Conflict, Forbidden, InvalidParameter
from rdock.network import addresses, pools, subnet
from rdock.network.addresses import Address, Block
from rdock.network.networks import Pool, Wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_WRONG = "invalid network config: "
# Bits. In a smaller block there is no room for a gateway and a container.
_LONGEST = {4: 30, 6: 126}


def pools_for(wanted: Wanted, taken: Sequence[Block]) -> tuple[Pool, ...]:
    """The addresses of a new network; `taken` are the blocks of the others.

    Raises InvalidParameter for what makes no sense, Conflict for a block that is not free, Forbidden for several
    blocks of one family, and NotFound when there is no free block to choose.
    """
    found: dict[int, Pool] = {}
    for given in wanted.pools:
        if not given.get("Subnet"):
            _refuse_rest(given)
            continue
        pool = parse(given)
        version = pool.block.version
        if version == 6 and not wanted.ipv6:
            raise InvalidParameter(f"{_WRONG}{pool.block} is an IPv6 subnet, and the network has no IPv6")
        if version in found:
            raise Forbidden(f"{wanted.driver} driver doesn't support multiple subnets")
        pools.check_overlap(pool.block, taken)
        own = addresses.parse_block(subnet.choose().cidr)
        if own.holds(pool.block):
            # The routes of the two would be the same.
            raise Conflict(
                "invalid pool request: Pool overlaps with other one on this address space",
                f"{own} is that of rdock's own way out",
            )
        found[version] = pool
    if 4 not in found:
        found[4] = whole(pools.choose([*taken, *subnet.blocks_of_host()]))
    if wanted.ipv6 and 6 not in found:
        found[6] = whole(pools.choose_6(taken))
    return tuple(found[version] for version in sorted(found))


def whole(block: Block) -> Pool:
    """A block with the gateway that it has if none is asked for, and all of the rest to give out."""
    return Pool(block, block.first.plus(1), block, {})


def parse(given: Mapping[str, Any]) -> Pool:
    """What is asked for, Subnet and all. Raises InvalidParameter in moby's words (ValidateIPAM)."""
    text = given["Subnet"]
    block = _block("subnet", text)
    if block.length > _LONGEST[block.version]:
        raise InvalidParameter(f"{_WRONG}invalid subnet {text}: it has no room for a gateway and a container")
    within = _range(given["IPRange"], block) if given.get("IPRange") else block
    reserved = {
        name: _address("auxiliary address", address, block)
        for name, address in (given.get("AuxiliaryAddresses") or {}).items()
    }
    gateway = _address("gateway", given["Gateway"], block) if given.get("Gateway") else _gateway(block, reserved)
    if gateway in reserved.values():
        raise Conflict(f"the gateway {gateway} is an auxiliary address, too")
    return Pool(block, gateway, within, reserved)


def _gateway(block: Block, reserved: Mapping[str, Address]) -> Address:
    """The lowest address that is not kept for something else."""
    found = pools.lowest_free(block, block, lambda address: address in reserved.values())
    if found is None:
        raise InvalidParameter(f"{_WRONG}all addresses of {block} are auxiliary ones")
    return found


def _refuse_rest(given: Mapping[str, Any]) -> None:
    for key, what in (("IPRange", "ip-range"), ("Gateway", "gateway")):
        if given.get(key):
            raise InvalidParameter(f"{_WRONG}invalid {what} {given[key]}: there is no subnet for it")


def _block(what: str, text: str) -> Block:
    head, slash, length = text.partition("/")
    try:
        addresses.parse(head)
        bits = int(length) if slash and length.isascii() and length.isdecimal() and len(length) <= 3 else -1
        if not 0 <= bits <= (128 if ":" in head else 32):
            raise InvalidParameter("")
    except InvalidParameter:
        raise InvalidParameter(f"{_WRONG}invalid {what} {text}: invalid CIDR block notation") from None
    found = addresses.block_of(addresses.parse(head), bits)
    if found.first != addresses.parse(head):
        raise InvalidParameter(f"{_WRONG}invalid {what} {text}: it should be {found}")
    if not found.first.plus(1).is_unicast or not found.last.plus(-1).is_unicast:
        raise InvalidParameter(f"{_WRONG}invalid {what} {text}: its addresses are not such that a host can have")
    return found


def _range(text: str, block: Block) -> Block:
    found = _block("ip-range", text)
    problem = ""
    if found.version != block.version:
        problem = f"parent subnet is an IPv{block.version} block"
    elif found.length < block.length:
        problem = f"CIDR block is bigger than its parent subnet {block}"
    elif not block.holds(found):
        problem = f"parent subnet {block} doesn't contain ip-range"
    if problem:
        raise InvalidParameter(f"{_WRONG}invalid ip-range {text}: {problem}")
    return found


def _address(what: str, text: str, block: Block) -> Address:
    try:
        found = addresses.parse(text.partition("/")[0])
    except InvalidParameter:
        raise InvalidParameter(f"{_WRONG}invalid {what} {text}: invalid address") from None
    problem = ""
    if found.version != block.version:
        problem = f"parent subnet is an IPv{block.version} block"
    elif not block.is_usable(found):
        problem = f"parent subnet {block} doesn't contain this address"
        if found in block:
            problem = "it is the network's own address or the broadcast one"
    if problem:
        raise InvalidParameter(f"{_WRONG}invalid {what} {text}: {problem}")
    return found
