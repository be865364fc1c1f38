"""Networks: what there is, how it is found, made and removed.

A network is a name, a driver and blocks of addresses; it has no process and no device until a container is on
it. Three are always there: bridge, host and none. Each of the others has a record, written once, and one of who
is on it (leases.py). Changes are made under the network lock; reading takes none.
"""

from __future__ import annotations

import os

from rdock import paths
from rdock.errors import Conflict, DataLoss, Forbidden, InvalidParameter, NotFound, SystemFailure, Unsupported, reason
from rdock.network import addresses, modes, pools, subnet
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
SCOPE = "local"
"""Of all of them, in Docker's words: there is no cluster."""
BRIDGE_NAME = "com.docker.network.bridge.name"
_ID_LENGTH = 64
_IDS = {
    "bridge": "46f249c14c65ce9da97bf203852666adf5872c09809785d344740d802f299837",
    "host": "287a3f56d6c437985f56edf88d2b3077161f8d1dfda9574b36c8a94c651a93d2",
    "none": "3e2edde0afee8f589f67edb639d2365ab7bebf4b3a6c54d6adccad2677a23add",
}
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

    @property
    def near_link(self) -> str:
        """The interface of the shared namespace that is on this network, with the gateway's addresses: the bridge
        itself, or a macvlan beside those of containers, for they do not see what their parent is."""
        return self.bridge if self.driver == "bridge" else f"n{self.id[:12]}"

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


def all_networks(damaged: list[DataLoss] | None = None) -> list[Network]:
    """The three that are always there, then the others by name.

    What is wrong with those whose record is damaged goes to `damaged`. Without that it is raised: who is about to
    take addresses must know all that are taken.
    """
    found: dict[str, Network] = {}
    for network_id in ids():
        try:
            network = load(network_id)
        except DataLoss as e:
            if damaged is None:
                raise
            damaged.append(e)
            continue
        if network is not None:
            found[network_id] = network
    predefined = [found.pop(_IDS[name], _predefined(name)) for name in PREDEFINED]
    return [*predefined, *sorted(found.values(), key=lambda network: network.name)]


def find(name: str) -> Network | None:
    """The network that a name, an id or the beginning of an id means.

    Raises InvalidParameter for several, DataLoss if it may be one whose record is damaged.
    """
    if name in PREDEFINED:
        return load(_IDS[name]) or _predefined(name)
    damaged: list[DataLoss] = []
    found = all_networks(damaged)
    matching = [network for network in found if name in (network.name, network.id)]
    matching = matching or [network for network in found if name and network.id.startswith(name)]
    if len(matching) > 1:
        raise InvalidParameter(f"network {name} is ambiguous ({len(matching)} matches found based on ID prefix)")
    if not matching and damaged:
        raise damaged[0]
    if matching and matching[0].is_predefined:
        return find(matching[0].name)  # its record may be the damaged one
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
    made = load(network.id)
    if made is None:
        block = pools.choose([*_blocks_of(all_networks()), *subnet.blocks_of_host()])
        made = network._replace(pools=(Pool(block, block.first.plus(1), block, {}),), created=timestamp.now())
        _write(made)
    return made


def ids() -> list[str]:
    """The ids of all networks that have a record, also of those whose record is damaged."""
    try:
        names = os.listdir(paths.networks())
    except OSError:
        return []
    found = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return [each for each in found if len(each) == _ID_LENGTH and set(each) <= _HEX]


def load(network_id: str) -> Network | None:
    """The network with this full id, if it has a record. Raises DataLoss if that is damaged."""
    path = _path(network_id)
    hint = f"rdock network rm {network_id[:12]} removes it, when none of its containers runs"
    try:
        found = record.read(path)
        if found is None:
            return None
        pools_ = tuple(Pool.from_json(each) for each in found.get("Pools", ()))
        return record.from_json(Network, {**found, "Pools": pools_}, path)
    except DataLoss as e:
        raise DataLoss(e.message, hint) from None
    except (InvalidParameter, KeyError, TypeError, AttributeError) as e:
        raise DataLoss(f"cannot read {path}: {e}", hint) from None


def _write(network: Network) -> None:
    found = {**record.to_json(network), "Pools": [pool.to_json() for pool in network.pools]}
    record.write(_path(network.id), found, durable=True)


def _path(network_id: str) -> str:
    return os.path.join(paths.networks(), f"{network_id}.json")


def _predefined(name: str) -> Network:
    return Network(_IDS[name], name, "", PREDEFINED[name])


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
    if wanted.name in (*PREDEFINED, *modes.PRIVATE):
        raise Forbidden(f"operation is not permitted on predefined {wanted.name} network")
    if wanted.driver in ("host", "null", "none"):
        driver = wanted.driver.replace("none", "null")
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if wanted.driver == "overlay":
        raise InvalidParameter("the overlay driver is not there yet: it needs several machines")
    if wanted.driver == "ipvlan":
        raise Unsupported("the ipvlan driver is not supported: a macvlan network does the same here")
    if wanted.driver not in DRIVERS:
        raise NotFound(
            f'could not find plugin {wanted.driver} in v1 plugin registry: plugin "{wanted.driver}" not found'
        )
    from rdock.network import ipam, options, plumbing

    settings = options.check(wanted.driver, wanted.options, ipv6=wanted.ipv6)
    with locked():
        settled(lookup(DEFAULT))  # which has the first block, as with Docker, also when it is used later
        others = all_networks()
        if any(network.name == wanted.name for network in others):
            raise Conflict(f"network with name {wanted.name} already exists")
        made = Network(
            os.urandom(_ID_LENGTH // 2).hex(), wanted.name, timestamp.now(), wanted.driver,
            ipam.pools_for(wanted, _blocks_of(others)),
            # Without a parent it leads nowhere, as with Docker.
            internal=wanted.internal or (wanted.driver == "macvlan" and plumbing.PARENT_OPTION not in settings),
            attachable=wanted.attachable, ipv6=wanted.ipv6,
            chosen=any(pool.get("Subnet") for pool in wanted.pools), options=settings, labels=wanted.labels,
        )  # fmt: skip
        options.check_devices(made, others)
        _write(made)
    note(made, "create")
    return made


def _blocks_of(networks: Iterable[Network]) -> list[Block]:
    return [pool.block for network in networks for pool in network.pools]


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
    check_removable(network, used_by)
    forget(network.id)
    note(network, "destroy")


def check_removable(network: Network, used_by: Iterable[tuple[str, str]]) -> None:
    """What `remove` raises, if it would."""
    if network.is_predefined:
        raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
    found = ", ".join(f'name:"{name}" id:"{endpoint[:12]}"' for name, endpoint in used_by)
    if found:
        raise Forbidden(
            f"error while removing network: network {network.name} id {network.id} has active endpoints ({found})"
        )


def forget(network_id: str) -> None:
    """Remove a record, whatever it is like. Only under the network lock."""
    record.remove(_path(network_id))


def note(network: Network, action: str, **attributes: str) -> None:
    """Note in the journal that something has happened to a network, in Docker's words. Never fails."""
    record_event("network", action, network.id, {"name": network.name, "type": network.driver, **attributes})
