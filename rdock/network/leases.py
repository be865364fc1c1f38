"""Who is on a network, under which addresses and names.

An endpoint holds its addresses while its container runs: a lease is void when the container has nobody any more who
sees to it, however that came about, and then its addresses are free. Taken and given back under the network lock,
so that no address is ever given out twice.
"""

from __future__ import annotations

import os

from rdock import paths
from rdock.errors import Conflict, DataLoss, InvalidParameter, NotFound
from rdock.network import addresses, endpoint_options, networks, pools, subnet
from rdock.network.addresses import Address, Block
from rdock.network.networks import DEFAULT, Network, Pool
from rdock.state import record
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeAlias

    IsAlive: TypeAlias = "Callable[[str], bool]"

_ID_BYTES = 32


class Lease(Value):
    """An endpoint of a container that runs."""

    container: str
    """Its id."""
    name: str
    """The container's."""
    endpoint: str
    """The endpoint's id, 64 hex digits."""
    mac: str
    address: str = ""
    """IPv4; empty if the network has no such."""
    address6: str = ""
    names: list[str] = []
    """What it is called on this network besides: aliases, the beginning of its id."""
    servers: list[str] = []
    """Whom the name server is to ask in its name, in place of the host's servers."""
    links: dict[str, str] = {}
    """What it calls others, itself alone, and what they are called: names, on the default network ids."""
    link_local: list[str] = []
    """More addresses, which are good on its link only."""
    sysctls: dict[str, str] = {}
    """Settings of its interface, see endpoint_options.py."""


def of_network(network_id: str) -> dict[str, Lease]:
    """All leases, also those that are void, by container. Raises DataLoss if the record is damaged."""
    path = _path(network_id)
    found = record.read(path) or {}
    try:
        return {key: record.from_json(Lease, value, path) for key, value in found.get("Leases", {}).items()}
    except AttributeError as e:
        raise DataLoss(f"cannot read {path}: {e}") from e


def living(network: Network, is_alive: IsAlive) -> list[Lease]:
    """Those of containers that run, by name."""
    found = of_network(network.id).values()
    return sorted((lease for lease in found if is_alive(lease.container)), key=lambda lease: lease.name)


def take(
    network: Network,
    container: str,
    name: str,
    wanted: dict[str, Any],
    names: Iterable[str],
    is_alive: IsAlive,
    *,
    servers: Iterable[str] = (),
    links: Mapping[str, str] | None = None,
) -> Lease:
    """Put a container on a network, whose record this is under the network lock.

    `wanted` is Docker's EndpointSettings: IPAMConfig with addresses, MacAddress, DriverOpts. A lease that the
    container has had before is replaced. Raises InvalidParameter, Conflict and NotFound in Docker's words.
    """
    try:
        before = of_network(network.id)
    except DataLoss:
        before = {}  # whoever runs keeps the addresses that the kernel knows; nothing better can be done
    others = {key: lease for key, lease in before.items() if key != container and is_alive(key)}
    old = before.get(container)  # of a try that was broken off: what is left of it has names made of this
    taken = {text for lease in others.values() for text in (lease.address, lease.address6) if text}
    ipam = wanted.get("IPAMConfig") or {}
    found = []
    for version, key in ((4, "IPv4Address"), (6, "IPv6Address")):
        found.append(_address(network, network.pool(version), ipam.get(key) or "", taken))
    address, address6 = found
    made = Lease(
        container, name, old.endpoint if old else os.urandom(_ID_BYTES).hex(),
        wanted.get("MacAddress") or _mac(address or address6),
        str(address or ""), str(address6 or ""), list(names), list(servers), dict(links or {}),
        list(ipam.get("LinkLocalIPs") or ()), endpoint_options.sysctls(wanted.get("DriverOpts") or {}),
    )  # fmt: skip
    _write(network.id, {**others, container: made})
    return made


def give_back(network_id: str, container: str) -> Lease | None:
    """Take a container off a network, under the network lock; the lease that it had."""
    before = of_network(network_id)
    lease = before.pop(container, None)
    if lease is not None:
        _write(network_id, before)
    return lease


def rename(network_id: str, container: str, name: str) -> None:
    """Note that a container has another name by now, under the network lock."""
    before = of_network(network_id)
    if container in before:
        _write(network_id, {**before, container: before[container]._replace(name=name)})


def damage(network_id: str) -> str:
    """What is wrong with the record of a network's leases, if anything is."""
    try:
        of_network(network_id)
    except DataLoss as e:
        return e.message
    return ""


def forsaken() -> list[str]:
    """The ids of networks that are no more and of which a record of leases is left, by a removal broken off."""
    known = {*networks.ids(), *(network.id for network in networks.all_networks([]))}
    try:
        names = os.listdir(paths.networks())
    except OSError:
        return []
    found = {name.removesuffix(".leases") for name in names if name.endswith(".leases")}
    return sorted(found - known)


def forget(network_id: str) -> None:
    """Remove the record of a network that is no more."""
    record.remove(_path(network_id))


def check_address(network: Network, text: str) -> None:
    """Raise InvalidParameter in Docker's words unless an address can be asked for on a network."""
    address = addresses.parse(text)
    if network.name == DEFAULT:
        raise InvalidParameter("user specified IP address is supported on user defined networks only")
    if not network.chosen:
        raise InvalidParameter(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
        )
    pool = network.pool(address.version)
    if pool is None or not pool.block.is_usable(address):
        raise InvalidParameter(f"no configured subnet or ip-range contain the IP address {text}")


def _address(network: Network, pool: Pool | None, asked: str, taken: set[str]) -> Address | None:
    if asked:
        check_address(network, asked)
    if pool is None:
        return None
    if asked:
        address = addresses.parse(asked)
        if str(address) in taken or address == pool.gateway or any(address in each for each in _of_the_way_out(pool)):
            raise Conflict("Address already in use")
        return address
    kept, outside = {pool.gateway, *pool.reserved.values()}, _of_the_way_out(pool)
    address_ = pools.lowest_free(
        pool.block,
        pool.range,
        lambda each: each in kept or str(each) in taken or any(each in block for block in outside),
    )
    if address_ is None:
        raise NotFound(
            f"no available IPv{pool.block.version} addresses on this network's address pools: "
            f"{network.name} ({network.id})"
        )
    return address_


def _of_the_way_out(pool: Pool) -> list[Block]:
    """The parts of a big block that the way out has, or may have with the next hub: nobody would be reached there."""
    if pool.block.length >= subnet.PREFIX_LENGTH:
        return []
    return [each for each in subnet.candidates() if pool.block.holds(each)]


def _mac(address: Address | None) -> str:
    """A hardware address of local administration; by the IPv4 address, as Docker's, so that it is one's alone."""
    last = address.number.to_bytes(16, "big")[-4:] if address else os.urandom(4)
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + last)


def _write(network_id: str, leases: dict[str, Lease]) -> None:
    record.write(
        _path(network_id),
        {"Leases": {key: record.to_json(lease) for key, lease in leases.items()}},
        durable=False,  # no lease outlives a reboot
    )


def _path(network_id: str) -> str:
    return os.path.join(paths.networks(), f"{network_id}.leases")
