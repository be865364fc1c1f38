"""Addresses as numbers, and which block and which address are given out."""

from __future__ import annotations

import ipaddress
import random

import pytest

from rdock.errors import Conflict, InvalidParameter, NotFound
from rdock.network import addresses, pools
from rdock.network.addresses import Address, Block


def block(text: str) -> Block:
    return addresses.parse_block(text)


@pytest.mark.parametrize(
    "text",
    ["172.17.0.0/16", "10.0.0.0/8", "192.168.7.128/25", "0.0.0.0/0", "1.2.3.4/32", "fd00::/64", "2001:db8::/127"],
)
def test_blocks_are_as_the_standard_librarys(text: str) -> None:
    ours, theirs = block(text), ipaddress.ip_network(text)
    assert str(ours) == str(theirs)
    assert (ours.size, str(ours.first), str(ours.last)) == (theirs.num_addresses, str(theirs[0]), str(theirs[-1]))
    for other in ("172.17.5.0/24", "172.16.0.0/12", "fd00::/8", "fd00:1::/64", "0.0.0.0/0", "::/0"):
        there = ipaddress.ip_network(other)
        assert ours.overlaps(block(other)) == (theirs.version == there.version and theirs.overlaps(there)), other  # type: ignore[arg-type]
        assert ours.holds(block(other)) == (theirs.version == there.version and there.subnet_of(theirs)), other  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.-4", "01.2.3.4", " 1.2.3.4", "1.2.3.4 ", "1.2.3.4/8", ":::",
        "fe80::1%eth0", "1::2::3", "١.2.3.4", "12345::", "1.2.3.4\0", "g::",
    ],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid IP address: "):
        addresses.parse(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("10.0.0.0", "invalid CIDR address: 10.0.0.0"),
        ("10.0.0.0/", "invalid CIDR address: 10.0.0.0/"),
        ("10.0.0.0/33", "invalid CIDR address: 10.0.0.0/33"),
        ("10.0.0.0/-1", "invalid CIDR address: 10.0.0.0/-1"),
        ("10.0.0.0/8/8", "invalid CIDR address: 10.0.0.0/8/8"),
        ("fd00::/129", "invalid CIDR address: fd00::/129"),
        ("10.0.0.0/" + "9" * 5000, "invalid CIDR address: 10.0.0.0/999"),
        ("10.0.0.0/\u0661", "invalid CIDR address: 10.0.0.0/"),
        ("10.1.0.0/8", "invalid subnet 10.1.0.0/8: it should be 10.0.0.0/8"),
    ],
)
def test_what_is_no_block(text: str, says: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        block(text)
    assert refusal.value.message.startswith(says)


@pytest.mark.parametrize(
    ("text", "good"),
    [("0.0.0.0", False), ("127.0.0.1", False), ("224.0.0.1", False), ("255.255.255.255", False), ("8.8.8.8", True),
     ("::", False), ("::1", False), ("ff02::1", False), ("fd00::1", True)],
)  # fmt: skip
def test_which_addresses_a_host_can_have(text: str, good: bool) -> None:
    assert addresses.parse(text).is_unicast == good


# -- blocks ----------------------------------------------------------------------------------------


def test_blocks_are_dockers_in_order_and_overlap_nowhere() -> None:
    found = list(pools.blocks())
    assert [str(each) for each in found[:2]] == ["172.17.0.0/16", "172.18.0.0/16"]
    assert (str(found[14]), str(found[15]), str(found[-1]), len(found)) == (
        "172.31.0.0/16", "192.168.0.0/20", "192.168.240.0/20", 31,
    )  # fmt: skip
    assert not any(one.overlaps(other) for one in found for other in found if one != other)


def test_the_first_free_block_is_chosen() -> None:
    assert str(pools.choose([])) == "172.17.0.0/16"
    assert str(pools.choose([block("172.17.9.0/24"), block("172.18.0.0/15")])) == "172.20.0.0/16"
    assert str(pools.choose([block("172.16.0.0/12")])) == "192.168.0.0/20"
    with pytest.raises(NotFound, match="all predefined address pools have been fully subnetted"):
        pools.choose([block("172.16.0.0/12"), block("192.168.0.0/16")])


def test_blocks_of_ipv6_are_local_and_differ() -> None:
    found = [pools.choose_6([]) for _ in range(50)]
    assert len({str(each) for each in found}) == 50
    assert all(block("fd00::/8").holds(each) and each.length == 64 for each in found)


def test_overlap_is_refused() -> None:
    pools.check_overlap(block("10.0.0.0/24"), [block("10.0.1.0/24"), block("fd00::/8")])
    for other in ("10.0.0.0/8", "10.0.0.128/25", "10.0.0.0/24"):
        with pytest.raises(Conflict, match="Pool overlaps with other one on this address space"):
            pools.check_overlap(block("10.0.0.0/24"), [block(other)])


# -- addresses -------------------------------------------------------------------------------------


def lowest(of: str, within: str = "", taken: frozenset[Address] = frozenset()) -> str:
    return str(pools.lowest_free(block(of), block(within or of), lambda each: each in taken))


def test_the_lowest_free_address_is_given() -> None:
    assert lowest("10.1.0.0/29") == "10.1.0.1"
    assert lowest("10.1.0.0/24", "10.1.0.128/25") == "10.1.0.128"
    assert lowest("fd00::/64") == "fd00::1"
    assert lowest("fd00::/126", taken=frozenset({addresses.parse("fd00::1"), addresses.parse("fd00::2")})) == "fd00::3"


def test_all_are_given_once_and_then_there_is_none() -> None:
    """In any order of taking and giving back; never the network's own address, nor the one for all."""
    of = block("10.1.0.0/28")
    usable = {str(host) for host in ipaddress.ip_network("10.1.0.0/28").hosts()}
    taken: set[Address] = set()
    chance = random.Random(5)
    for _ in range(500):
        found = pools.lowest_free(of, of, taken.__contains__)
        if found is None:
            assert {str(each) for each in taken} == usable
            taken.difference_update(chance.sample(sorted(taken, key=str), chance.randint(1, len(taken))))
            continue
        assert found not in taken and str(found) in usable
        assert not any(addresses.parse(each).number < found.number for each in usable - {str(t) for t in taken})
        taken.add(found)


def test_a_full_range_is_full_though_its_block_is_not() -> None:
    of, within = block("10.1.0.0/24"), block("10.1.0.252/30")
    given = []
    while (found := pools.lowest_free(of, within, lambda each: each in given)) is not None:
        given.append(found)
    assert [str(each) for each in given] == ["10.1.0.252", "10.1.0.253", "10.1.0.254"]
