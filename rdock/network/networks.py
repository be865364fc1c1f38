"""Networks: what there is, how it is found, made and removed.

A network is a name, a driver and blocks of addresses; it has no process and no device until a container is on
it. Three are always there: bridge, host and none. Each of the others has a record, written once, and one of who
is on it (leases.py). Changes are made under the network lock; reading takes none.
"""

from __future__ import annotations

import hashlib
import os

from rdock import paths
from rdock.errors import Conflict, DataLoss, Forbidden, InvalidParameter, NotFound, SystemFailure, reason
from rdock.network import addresses, pools, subnet
from rdock.network.addresses import Address, Block
from rdock.scope import scope
from rdock.state import record, timestamp
from rdock.state.events import record_event
from rdock.state.record import Lock
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

DEFAULT = "bridge"
PREDEFINED = {"bridge": "bridge", "host": "host", "none": "null"}
"""The names of the networks that are always there, and their drivers."""
DRIVERS = ("bridge", "macvlan")
"""Of which a user can make networks."""
BRIDGE_NAME = "com.docker.network.bridge.name"
_ID_LENGTH = 64
_HEX = frozenset("0123456789abcdef")
_NAME_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME_REST = _NAME_FIRST | frozenset("_.-")


class Pool(Value):
    """Addresses of one family that a network gives out."""

    block: Block
    gateway: Address
    range: Block
    """The part of the block from which those are given that nobody asks for."""
    reserved: dict[str, Address]
    """Docker's auxiliary addresses, by what they are for."""

    def to_json(self) -> dict[str, Any]:
        """In the shape of IPAM.Config of Docker's API."""
        found: dict[str, Any] = {"Subnet": str(self.block)}
        if self.range != self.block:
            found["IPRange"] = str(self.range)
        found["Gateway"] = str(self.gateway)
        if self.reserved:
            found["AuxiliaryAddresses"] = {name: str(address) for name, address in self.reserved.items()}
        return found

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Pool:
        """Raises InvalidParameter, KeyError and TypeError for what is none."""
        block = addresses.parse_block(found["Subnet"])
        within = addresses.parse_block(found["IPRange"]) if found.get("IPRange") else block
        reserved = {name: addresses.parse(text) for name, text in (found.get("AuxiliaryAddresses") or {}).items()}
        gateway = addresses.parse(found["Gateway"]) if found.get("Gateway") else block.first.plus(1)
        return cls(block, gateway, within, reserved)


class Network(Value):
    """One network as it was made."""

    id: str
    name: str
    created: str
    driver: str
    pools: tuple[Pool, ...] = ()
    internal: bool = False
    """Without a way out."""
    attachable: bool = False
    ipv6: bool = False
    chosen: bool = False
    """Whether the user has chosen a block, so that addresses of it can be asked for."""
    options: dict[str, str] = {}
    labels: dict[str, str] = {}

    @property
    def is_predefined(self) -> bool:
        return self.name in PREDEFINED

    @property
    def bridge(self) -> str:
        """The name of its bridge device."""
        return self.options.get(BRIDGE_NAME) or ("rdock0" if self.name == DEFAULT else f"br-{self.id[:12]}")

    def pool(self, version: int) -> Pool | None:
        """Its addresses of IPv4 or IPv6, if it has such."""
        return next((pool for pool in self.pools if pool.block.version == version), None)


class Wanted(Value):
    """What a user asks for with `network create`."""

    name: str
    driver: str = "bridge"
    pools: tuple[dict[str, Any], ...] = ()
    """In the shape of IPAM.Config; without a Subnet one is chosen."""
    internal: bool = False
    attachable: bool = False
    ipv6: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


# -- finding ---------------------------------------------------------------------------------------


def all_networks() -> list[Network]:
    """The three that are always there, then the others by name."""
    found = {network.id: network for network in _recorded()}
    predefined = [found.pop(_fixed_id(name), _predefined(name)) for name in PREDEFINED]
    return [*predefined, *sorted(found.values(), key=lambda network: network.name)]


def find(name: str) -> Network | None:
    """The network that a name, an id or the beginning of an id means. Raises InvalidParameter for several."""
    if name in PREDEFINED:
        return _load(_fixed_id(name)) or _predefined(name)
    found = all_networks()
    for network in found:
        if name in (network.name, network.id):
            return network
    matching = [network for network in found if name and network.id.startswith(name)]
    if len(matching) > 1:
        raise InvalidParameter(f"network {name} is ambiguous ({len(matching)} matches found based on ID prefix)")
    return matching[0] if matching else None


def lookup(name: str) -> Network:
    """As find. Raises NotFound in Docker's words if there is none."""
    found = find(name)
    if found is None:
        raise NotFound(f"network {name} not found")
    return found


def settled(network: Network) -> Network:
    """The network with blocks of addresses, which the default one is given when it is used for the first time.

    Only under the network lock.
    """
    if network.name != DEFAULT or network.pools:
        return network
    made = _load(network.id) or network._replace(pools=(_pool(pools.choose(_taken())),), created=timestamp.now())
    _write(made)
    return made


def _recorded() -> Iterator[Network]:
    try:
        names = os.listdir(paths.networks())
    except OSError:
        return
    for name in names:
        network_id = name.removesuffix(".json")
        if len(network_id) == _ID_LENGTH and set(network_id) <= _HEX:
            found = _load(network_id)
            if found is not None:
                yield found


def _load(network_id: str) -> Network | None:
    path = _path(network_id)
    found = record.read(path)
    if found is None:
        return None
    try:
        given = {**found, "Pools": tuple(Pool.from_json(each) for each in found.get("Pools", ()))}
    except (InvalidParameter, KeyError, TypeError, AttributeError) as e:
        raise DataLoss(f"cannot read {path}: {e}") from None
    return record.from_json(Network, given, path)


def _write(network: Network) -> None:
    found = {**record.to_json(network), "Pools": [pool.to_json() for pool in network.pools]}
    record.write(_path(network.id), found, durable=True)


def _path(network_id: str) -> str:
    return os.path.join(paths.networks(), f"{network_id}.json")


def _predefined(name: str) -> Network:
    return Network(_fixed_id(name), name, "", PREDEFINED[name])


def _fixed_id(name: str) -> str:
    return hashlib.sha256(f"rdock network {name}".encode()).hexdigest()


# -- making ----------------------------------------------------------------------------------------


@scope
def locked() -> Iterator[None]:
    """The network lock, held for moments only."""
    paths.make_private(paths.data())
    paths.make_private(paths.networks())
    try:
        with Lock(os.path.join(paths.networks(), ".lock")):
            yield
    except OSError as e:
        raise SystemFailure(f"cannot lock the networks: {reason(e)}") from e


def create(wanted: Wanted) -> Network:
    """Make a network. Raises InvalidParameter, Conflict, Forbidden and NotFound in Docker's words."""
    check_name(wanted.name)
    if wanted.name in PREDEFINED:
        raise Forbidden(f"operation is not permitted on predefined {wanted.name} network")
    if wanted.driver in ("host", "null", "none"):
        driver = wanted.driver.replace("none", "null")
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if wanted.driver == "overlay":
        raise InvalidParameter("the overlay driver is not there yet: it needs several machines")
    if wanted.driver not in DRIVERS:
        raise NotFound(
            f'could not find plugin {wanted.driver} in v1 plugin registry: plugin "{wanted.driver}" not found'
        )
    with locked():
        if any(network.name == wanted.name for network in all_networks()):
            raise Conflict(f"network with name {wanted.name} already exists")
        made = Network(
            os.urandom(_ID_LENGTH // 2).hex(), wanted.name, timestamp.now(), wanted.driver, _pools(wanted),
            internal=wanted.internal, attachable=wanted.attachable, ipv6=wanted.ipv6,
            chosen=any(pool.get("Subnet") for pool in wanted.pools), options=wanted.options, labels=wanted.labels,
        )  # fmt: skip
        _write(made)
    note(made, "create")
    return made


def _pools(wanted: Wanted) -> tuple[Pool, ...]:
    """The addresses of a new network: those that are asked for, and for a family without any a block of our choice."""
    taken = _taken()
    found: list[Pool] = []
    for given in wanted.pools:
        if not given.get("Subnet"):
            continue
        pool = Pool.from_json(given)
        pools.check_overlap(pool.block, [*_blocks_of_networks(), *(other.block for other in found)])
        _check(pool)
        found.append(pool)
    if not any(pool.block.version == 4 for pool in found):
        found.insert(0, _pool(pools.choose(taken)))
    if wanted.ipv6 and not any(pool.block.version == 6 for pool in found):
        found.append(_pool(pools.choose_6(taken)))
    return tuple(found)


def _check(pool: Pool) -> None:
    if pool.block.size < 4:
        raise InvalidParameter(f"the block {pool.block} is too small: it has no room for a gateway and a container")
    if not pool.block.is_usable(pool.gateway):
        raise InvalidParameter(f"no matching subnet for gateway {pool.gateway}")
    if not pool.block.holds(pool.range):
        raise InvalidParameter(f"no matching subnet for range {pool.range}")
    for address in pool.reserved.values():
        if address not in pool.block:
            raise InvalidParameter(f"no matching subnet for aux-address {address}")


def _pool(block: Block) -> Pool:
    return Pool(block, block.first.plus(1), block, {})


def _taken() -> list[Block]:
    """The blocks that a new network cannot have: of other networks, of routes of the host, of the way out."""
    return [*_blocks_of_networks(), *subnet.blocks_of_host()]


def _blocks_of_networks() -> list[Block]:
    return [pool.block for network in all_networks() for pool in network.pools]


def check_name(name: str) -> None:
    """Raise InvalidParameter in Docker's words unless a network can be called so."""
    if not name or name[0] not in _NAME_FIRST or not set(name) <= _NAME_REST:
        raise InvalidParameter(
            f"invalid network name: '{name}': only '[a-zA-Z0-9][a-zA-Z0-9_.-]' are allowed"
            if name
            else "name is required"
        )


# -- removing --------------------------------------------------------------------------------------


def remove(network: Network, used_by: Iterable[tuple[str, str]]) -> None:
    """Remove a network that nobody is on. Only under the network lock.

    `used_by` are the names and the endpoints' ids of those who are. Raises Forbidden in Docker's words.
    """
    if network.is_predefined:
        raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
    for name, endpoint in used_by:
        raise Forbidden(
            f"error while removing network: network {network.name} id {network.id} has active endpoints "
            f'(name:"{name}" id:"{endpoint[:12]}")'
        )
    record.remove(_path(network.id))
    note(network, "destroy")


def note(network: Network, action: str, **attributes: str) -> None:
    """Note in the journal that something has happened to a network, in Docker's words. Never fails."""
    record_event("network", action, network.id, {"name": network.name, "type": network.driver, **attributes})
