"""What the name server tells whom: a container sees the names on its own networks, and no others.

Read from the records of networks and leases, anew when one of them has changed. One that is damaged concerns nobody
on other networks.
"""

from __future__ import annotations

import os
import time

from rdock import paths
from rdock.errors import DataLoss, RdockError
from rdock.launch import debug
from rdock.network import addresses, leases, networks
from rdock.network.dns import View
from rdock.state.record import is_locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rdock.network.leases import Lease
    from rdock.network.networks import Network

# A change that comes within a tick of the file system's clock does not show in the time of the directory.
_TICK_NS = 20_000_000
# Seconds between looks whether those are attended to who have a lease.
_BETWEEN_LOOKS = 1.0


class Views:
    """The views of all containers that are on a network."""

    def __init__(self) -> None:
        self._state: tuple[int, int] = (0, 0)
        self._networks: list[tuple[Network, list[Lease]]] = []
        self._views: dict[tuple[str, str], View] = {}
        self._dead: set[str] = set()
        """Containers with a lease and nobody who sees to them."""
        self._looked = -_BETWEEN_LOOKS

    def of(self, source: str, link: str) -> View | None:
        """What the container with this address may see; None if there is none on the network of this bridge."""
        self._refresh()
        self._look_for_dead()
        known = self._views.get((source, link))
        if known is None:
            known = self._make(source, link)
            if known is not None:  # of strangers there may be any number
                self._views[source, link] = known
        return known

    def _refresh(self) -> None:
        try:
            found = os.stat(paths.networks())
        except OSError:
            return
        # Each record is replaced by a rename, which the directory notes.
        state = found.st_ino, found.st_mtime_ns
        if state == self._state:
            return
        is_settled = time.time_ns() - found.st_mtime_ns > _TICK_NS
        former = {network.id: on for network, on in self._networks}
        read, damaged = [], list[DataLoss]()
        for network in networks.all_networks(damaged):
            try:
                on = list(leases.of_network(network.id).values())
            except RdockError as e:
                debug(f"names: {e.message}")
                on = former.get(network.id, [])  # what others have is not less true
            read.append((network, on))
        for damage in damaged:
            debug(f"names: {damage.message}")
        self._state = state if is_settled else (0, 0)
        self._networks, self._views, self._dead = read, {}, set()
        self._looked = -_BETWEEN_LOOKS  # who was dead may have another lease, and is looked at before anybody is told

    def _look_for_dead(self) -> None:
        """Whose attendants were killed, all of them, has nobody who would say so; its lease is void."""
        now = time.monotonic()
        if now - self._looked < _BETWEEN_LOOKS:
            return
        self._looked = now
        containers = {lease.container for _, on in self._networks for lease in on} - self._dead
        # They stay dead until one has another lease: looking takes the lock for a moment, which others may want.
        dead = {container for container in containers if not _is_attended(container)}
        if dead:
            self._dead |= dead
            self._views = {}

    def _living(self) -> Iterator[tuple[Network, list[Lease]]]:
        for network, on in self._networks:
            yield network, [lease for lease in on if lease.container not in self._dead]

    def _make(self, source: str, link: str) -> View | None:
        containers = {
            lease.container
            for network, on in self._living()
            for lease in on
            if network.near_link == link and source in _addresses(lease)
        }
        if not containers:
            return None
        own: dict[str, list[str]] = {}
        names: dict[str, list[str]] = {}
        reverse: dict[str, str] = {}
        servers: list[str] = []
        outside = False
        for network, on in self._living():
            if not any(lease.container in containers for lease in on):
                continue
            outside = outside or not network.internal
            # They are told to each of its networks, if to any.
            servers = next((lease.servers for lease in on if lease.container in containers and lease.servers), servers)
            if network.name == networks.DEFAULT:
                continue  # on which nobody has a name, as with Docker
            here: dict[str, list[str]] = {}
            for lease in on:
                for name in (lease.name, *lease.names):
                    for spelled in (name.lower(), f"{name}.{network.name}".lower()):
                        here.setdefault(spelled, []).extend(_addresses(lease))
                reverse |= dict.fromkeys(_addresses(lease), f"{lease.name}.{network.name}")
            for lease in on:
                for alias, target in lease.links.items() if lease.container in containers else ():
                    own.setdefault(alias.lower(), here.get(target.lower(), []))
            # Of a name that is known on several networks the first one's addresses are told, as by Docker.
            names = here | names
        return View(names | own, reverse, outside, min(containers), servers, self._near(containers, servers))

    def _near(self, containers: set[str], servers: list[str]) -> frozenset[str]:
        """Those of the servers that are on one of the networks where the containers are."""
        pools = [
            pool.block
            for network, on in self._living()
            if any(lease.container in containers for lease in on)
            for pool in network.pools
        ]
        # One of a link (fe80::1%eth0) is on the host's.
        found = {server: addresses.parse(server) for server in servers if "%" not in server}
        return frozenset(server for server, address in found.items() if any(address in block for block in pools))


def _is_attended(container: str) -> bool:
    try:
        return is_locked(os.path.join(paths.container_locks(), container))
    except OSError:
        return True


def _addresses(lease: Lease) -> list[str]:
    return [address for address in (lease.address, lease.address6) if address]
