"""What the name server tells whom: a container sees the names on its own networks, and no others.

Read from the records of networks and leases, anew when one of them has changed.
"""

from __future__ import annotations

import os
import time

from rdock import paths
from rdock.errors import RdockError
from rdock.launch import debug
from rdock.network import leases, networks
from rdock.network.dns import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rdock.network.leases import Lease
    from rdock.network.networks import Network

# A change that comes within a tick of the file system's clock does not show in the time of the directory.
_TICK_NS = 20_000_000


class Views:
    """The views of all containers that are on a network."""

    def __init__(self) -> None:
        self._state: tuple[int, int] = (0, 0)
        self._networks: list[tuple[Network, list[Lease]]] = []
        self._views: dict[tuple[str, str], View] = {}

    def of(self, source: str, link: str) -> View | None:
        """What the container with this address may see; None if there is none on the network of this bridge."""
        self._refresh()
        known = self._views.get((source, link))
        if known is None:
            known = self._make(source, link)
            if known is not None:  # of strangers there may be any number
                self._views[source, link] = known
        return known

    def servers_of(self, source: str) -> list[str]:
        """Whom the container with this address wants asked in place of the host's servers, if anybody."""
        self._refresh()
        return next((lease.servers for _, on in self._networks for lease in on if source in _addresses(lease)), [])

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
        try:
            read = [(one, list(leases.of_network(one.id).values())) for one in networks.all_networks()]
        except RdockError as e:
            debug(f"names: {e.message}")
            return
        self._state = state if is_settled else (0, 0)
        self._networks, self._views = read, {}

    def _make(self, source: str, link: str) -> View | None:
        containers = {
            lease.container
            for network, on in self._networks
            for lease in on
            if network.near_link == link and source in _addresses(lease)
        }
        if not containers:
            return None
        own: dict[str, list[str]] = {}
        names: dict[str, list[str]] = {}
        reverse: dict[str, str] = {}
        outside = False
        for network, on in self._networks:
            if not any(lease.container in containers for lease in on):
                continue
            outside = outside or not network.internal
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
        return View(names | own, reverse, outside)


def _addresses(lease: Lease) -> list[str]:
    return [address for address in (lease.address, lease.address6) if address]
