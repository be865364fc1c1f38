"""network create: a network as the options describe it. Which gateway and which range go with which subnet is found
out here, as Docker's client does; what the result is worth is seen by network/ipam.py.
"""

from __future__ import annotations

import sys

from rdock.cli import refusals
from rdock.cli.usage import Options
from rdock.container import request
from rdock.errors import InvalidParameter, NotFound, NotThereYet, Unsupported
from rdock.network import addresses, networks
from rdock.network.addresses import Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CREATE_TEXT = """\
Usage:  rdock network create [OPTIONS] NETWORK

Create a network

Options:
      --attachable           Enable manual container attachment
      --aux-address map      Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])
  -d, --driver string        Driver to manage the Network (default "bridge")
      --gateway strings      IPv4 or IPv6 Gateway for the master subnet
      --internal             Restrict external access to the network
      --ip-range strings     Allocate container ip from a sub-range
      --ipam-driver string   IP Address Management Driver (default "default")
      --ipam-opt map         Set IPAM driver specific options (default map[])
      --ipv4                 Enable or disable IPv4 address assignment (default true)
      --ipv6                 Enable or disable IPv6 address assignment
      --label list           Set metadata on a network
  -o, --opt map              Set driver specific options (default map[])
      --scope string         Control the network's scope
      --subnet strings       Subnet in CIDR format that represents a network segment
"""


def create(options: Options) -> int:
    _check_scope(options.text("--scope"))
    _check_ipam(options)
    if options.given("--ipv4") and not options.flag("--ipv4"):
        raise NotThereYet("'rdock network create --ipv4=false' is not there yet")
    blocks = consolidate(
        words(options.list("--subnet")), words(options.list("--ip-range")), words(options.list("--gateway")),
        pairs(options.list("--aux-address")),
    )  # fmt: skip
    # Who has chosen a block of IPv6 wants it to be used; Docker would say nothing and leave it out.
    ipv6 = options.flag("--ipv6") if options.given("--ipv6") else any(":" in block["Subnet"] for block in blocks)
    made = networks.create(
        networks.Wanted(
            options.arguments[0],
            options.text("--driver") or "bridge",
            tuple(blocks),
            internal=options.flag("--internal"),
            attachable=options.flag("--attachable"),
            ipv6=ipv6,
            options=pairs(options.list("--opt")),
            labels=request.parse_labels(options.list("--label")),
        )
    )
    sys.stdout.write(f"{made.id}\n")
    return 0


def words(values: list[str]) -> list[str]:
    """The values of an option of pflag's type `strings`, of which one may be several with commas between."""
    return [word for value in values for word in value.split(",") if word]


def pairs(values: list[str]) -> dict[str, str]:
    """`KEY=VALUE` of an option of type `map`; the last of a key counts."""
    found = {}
    for value in values:
        key, _, content = value.partition("=")
        if not key:
            raise InvalidParameter(f"invalid option '{value}': empty name")
        found[key] = content
    return found


def _check_scope(scope: str | None) -> None:
    if scope in (None, "", "local"):
        return
    shown = f"'rdock network create --scope {scope}'"
    raise refusals.of_option("network create", "--scope", shown) or Unsupported(f"{shown} is not supported")


def _check_ipam(options: Options) -> None:
    driver = options.text("--ipam-driver")
    if driver not in (None, "", "default"):
        raise NotFound(f'could not find plugin {driver} in v1 plugin registry: plugin "{driver}" not found')
    for name in pairs(options.list("--ipam-opt")):
        raise InvalidParameter(f"the default IPAM driver has no option {name}")


# -- what belongs together -------------------------------------------------------------------------


def consolidate(
    subnets: list[str], ranges: list[str], gateways: list[str], reserved: dict[str, str]
) -> list[dict[str, Any]]:
    """IPAM.Config of Docker's API: each subnet with its range, gateway and auxiliary addresses.

    Raises InvalidParameter in the words of Docker's client (createIPAMConfig).
    """
    if len(subnets) < len(ranges) or len(subnets) < len(gateways):
        raise InvalidParameter("every ip-range or gateway must have a corresponding subnet")
    found: dict[str, dict[str, Any]] = {}
    for text in subnets:
        block = _block(text, "invalid subnet: ")
        for other in found:
            if block.overlaps(_block(other)):
                raise InvalidParameter("multiple overlapping subnet configuration is not supported")
        found[text] = {"Subnet": text, "AuxiliaryAddresses": {}}
    for text in ranges:
        entry = _entry_for(text, found, f"no matching subnet for range {text}")
        if "IPRange" in entry:
            both = f"({text}, {entry['IPRange']})"
            raise InvalidParameter(f"cannot configure multiple ranges {both} on the same subnet ({entry['Subnet']})")
        entry["IPRange"] = text
    for text in gateways:
        entry = _entry_for(text, found, f"no matching subnet for gateway {text}")
        if "Gateway" in entry:
            both = f"({text}, {entry['Gateway']})"
            raise InvalidParameter(f"cannot configure multiple gateways {both} for the same subnet ({entry['Subnet']})")
        entry["Gateway"] = text
    for name, text in reserved.items():
        entry = _entry_for(text, found, f"no matching subnet for aux-address {text}")
        entry["AuxiliaryAddresses"][name] = text
    return list(found.values())


def _entry_for(text: str, found: dict[str, dict[str, Any]], complaint: str) -> dict[str, Any]:
    """That of the subnet in which an address is, or the address of a block."""
    if "/" in text:
        _block(text)
    try:
        address = addresses.parse(text.partition("/")[0])
    except InvalidParameter:
        raise InvalidParameter(complaint) from None  # in Go it is an address that no block has
    for subnet, entry in found.items():
        if address in _block(subnet):
            return entry
    raise InvalidParameter(complaint)


def _block(text: str, prefix: str = "") -> Block:
    """Go's net.ParseCIDR: bits beyond the length do not matter. Raises InvalidParameter in its words."""
    head, slash, length = text.partition("/")
    try:
        address = addresses.parse(head)
        bits = int(length) if slash and length.isascii() and length.isdecimal() and len(length) <= 3 else -1
        if 0 <= bits <= (32 if address.version == 4 else 128):
            return addresses.block_of(address, bits)
    except InvalidParameter:
        pass
    raise InvalidParameter(f"{prefix}invalid CIDR address: {text}")
