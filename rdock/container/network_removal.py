"""Removing networks, with what is left of them in the shared network namespace; one, or all that nobody is on."""

from __future__ import annotations

import os

from rdock.container import containers, pruning
from rdock.container.wiring import is_attended
from rdock.errors import DataLoss, Forbidden, InvalidParameter, RdockError
from rdock.launch import debug
from rdock.network import hub, leases, networks, plumbing
from rdock.network.leases import Lease
from rdock.network.networks import Network
from rdock.scope import scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rdock.container.containers import Container
    from rdock.container.pruning import Filters
    from rdock.network.hub import Use


def users(network: Network) -> list[Lease]:
    """The endpoints of containers that run, by the container's name.

    Those in the host's network, and those in none, have no endpoint there. If the record is damaged, what the
    containers' own records tell: who is there, but not the addresses.
    """
    if network.driver in ("host", "null"):
        return _running(lambda container: container.host_config.network_mode == network.name)
    try:
        return leases.living(network, is_attended)
    except DataLoss as e:
        debug(e.message)
        return _running(lambda container: network.name in container.networks)


def _running(is_there: Callable[[Container], bool]) -> list[Lease]:
    found = [each for each in containers.all_containers() if is_there(each) and each.state().is_attended]
    return sorted((Lease(each.id, each.name, "", "") for each in found), key=lambda lease: lease.name)


def mend_leases() -> None:
    """Remove what is left of networks that are no more, and damaged records of networks that nobody is on."""
    with networks.locked():
        for network_id in leases.forsaken():
            leases.forget(network_id)
        for network in networks.all_networks([]):
            if leases.damage(network.id) and not users(network):
                leases.forget(network.id)


def remove(name: str) -> None:
    """Remove a network by name or id; with an id also one whose record is damaged.

    For a process that is root of the user's namespaces. Raises NotFound, InvalidParameter and Forbidden in Docker's
    words, DataLoss for a damaged one that was not named clearly.
    """
    with _existing_hub() as use, networks.locked():
        try:
            network = networks.lookup(name)
        except DataLoss as e:
            _forget_damaged(name, e)
        else:
            _remove(network, use)


def prune(filters: Filters) -> list[str]:
    """Remove the networks that nobody is on and that pass the filters: their names."""
    removed = []
    # Those on another's bridge come before that.
    for network in sorted(networks.all_networks([]), key=lambda network: plumbing.PARENT_OPTION not in network.options):
        if network.is_predefined or not pruning.passes(network.created, network.labels, filters):
            continue
        try:
            with _existing_hub() as use, networks.locked():
                found = networks.load(network.id)
                if found is None:
                    continue  # somebody was faster
                _remove(found, use)
        except (Forbidden, DataLoss):
            continue  # it is in use, or cannot be told whether
        removed.append(network.name)
    return removed


@scope
def _existing_hub() -> Iterator[Use | None]:
    """Hold of the shared namespace, if there is one: before the network lock, as a hub may not answer."""
    use = hub.use_existing(revived=True)
    try:
        yield use
    finally:
        if use is not None:
            use.connection.close()
            os.close(use.namespace)


def _remove(network: Network, use: Use | None) -> None:
    """The record goes last: if this is broken off, the network is there and has what it needs made again."""
    networks.check_removable(network, ((lease.name, lease.endpoint) for lease in users(network)))
    for other in networks.all_networks([]):
        if network.driver == "bridge" and other.options.get(plumbing.PARENT_OPTION) == network.bridge:
            # With its bridge the interfaces of the other's containers would go.
            raise Forbidden(
                f"error while removing network: network {network.name} id {network.id} is the parent of network "
                f"{other.name}"
            )
    _remove_device(network, use)
    leases.forget(network.id)
    networks.remove(network, ())


def _remove_device(network: Network, use: Use | None) -> None:
    """Take its device out of the shared namespace.

    If no hub has answered, there is hardly a namespace for it to be in: else who makes the next device there takes
    this one away, or the next hub (plumbing.sweep).
    """
    if use is None:
        return
    try:
        plumbing.remove_bridge(use.namespace, network)
    except RdockError as e:
        debug(f"network: {e.message}")  # likewise


def _forget_damaged(name: str, error: DataLoss) -> None:
    matching = [network_id for network_id in networks.ids() if network_id.startswith(name)]
    if len(matching) > 1:
        raise InvalidParameter(f"network {name} is ambiguous ({len(matching)} matches found based on ID prefix)")
    for network_id in matching:
        _check_unused(network_id)
        leases.forget(network_id)
        networks.forget(network_id)
        return
    raise error


def _check_unused(network_id: str) -> None:
    if leases.damage(network_id):
        return  # nobody knows who was there, nor what the network was like
    for lease in leases.of_network(network_id).values():
        if is_attended(lease.container):
            raise Forbidden(
                f"error while removing network: network {network_id} has active endpoints "
                f'(name:"{lease.name}" id:"{lease.endpoint[:12]}")'
            )
