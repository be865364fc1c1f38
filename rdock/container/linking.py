"""Links (`--link CONTAINER[:ALIAS]`): a container knows another by a name of its own.

On the default network, where nobody has a name, the alias stands in /etc/hosts, and variables of the environment tell
of the other container (docs.docker.com/engine/network/links); it has to run. On any other network the name server
answers to the alias, and nobody has to run: what stands there are names, in EndpointSettings.Links.
"""

from __future__ import annotations

from rdock import paths
from rdock.container import changing, containers
from rdock.errors import Conflict, InvalidParameter, NoSuchContainer, RdockError
from rdock.network import endpoint, leases, names, networks, sandbox
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from rdock.container.containers import Container
    from rdock.network.leases import Lease

_MODE = "container:"
# What a linking container has of its own.
_NOT_TOLD = ("HOME", "PATH")


class Link(Value):
    """A link to a container that is on the default network."""

    alias: str
    target: Container
    lease: Lease

    @property
    def hosts_line(self) -> str:
        """Its line of /etc/hosts, without the address: the alias is its first name."""
        called = [self.alias, self.target.config.hostname, self.target.name]
        return " ".join(dict.fromkeys(called))


def settle(texts: Iterable[str]) -> list[str]:
    """Links of a container on the default network as its HostConfig keeps them, `ID:ALIAS`: others may be renamed.

    Raises InvalidParameter in Docker's words.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, alias = names.parse_link(text)
        try:
            target = containers.lookup(name)
            while target.host_config.network_mode.startswith(_MODE):
                target = containers.load(target.host_config.network_mode.removeprefix(_MODE))
        except NoSuchContainer as e:
            raise InvalidParameter(f"could not get container for {name}: {e.message}") from e
        if target.host_config.network_mode == "host":
            raise InvalidParameter(
                "conflicting options: host type networking can't be used with links. "
                "This would result in undefined behavior"
            )
        if found.setdefault(alias, target.id) != target.id:
            raise InvalidParameter(f"conflicting options: two links have the alias {alias}")
    return [f"{target}:{alias}" for alias, target in found.items()]


def of(container: Container) -> dict[str, str]:
    """Its links on the default network: aliases → ids. Who was linked to may be gone."""
    parted = (text.partition(":") for text in container.host_config.links)
    return {alias: target for target, _, alias in parted}


def living(container: Container, known: Mapping[str, Lease]) -> list[Link]:
    """Those of its links whose targets are on the default network now; `known` are that one's leases."""
    found = []
    for alias, target in of(container).items():
        try:
            if target in known:
                found.append(Link(alias, containers.load(target), known[target]))
        except RdockError:
            continue  # it was removed just now, or its record is damaged
    return found


def check_running(container: Container, found: Sequence[Link]) -> None:
    """Raise Conflict in Docker's words unless all that a container links to are there, of those that exist."""
    there = {link.alias for link in found}
    for alias, target in of(container).items():
        if alias in there:
            continue
        try:
            other = containers.load(target)
        except NoSuchContainer:
            continue  # the link went with it
        if other.state().is_running:
            raise Conflict(f"Cannot link to /{other.name}, as it does not belong to the default network")
        raise Conflict(f"Cannot link to a non running container: /{other.name} AS /{container.name}/{alias}")


def of_endpoint(settings: dict[str, Any]) -> dict[str, str]:
    """Links on another network, of an EndpointSettings: aliases → names."""
    return {alias: name for name, alias in map(names.parse_link, settings.get("Links") or ())}


def tell_others(own: Lease, others: Iterable[Lease]) -> None:
    """Have those that are linked to a container, which is about to start, find it where it is now. Never fails."""
    for lease in others:
        for alias, target in lease.links.items():
            if target == own.container != lease.container:
                sandbox.move_host(paths.container(lease.container), alias, own.address)


def environment(container: Container, found: Iterable[Link]) -> list[str]:
    """The variables by which a container knows those that it links to."""
    variables = []
    for link in found:
        prefix = link.alias.replace("-", "_").upper()
        address = link.lease.address
        ports = _ports(link.target)
        if ports:
            variables.append(f"{prefix}_PORT={ports[0][1]}://{address}:{ports[0][0]}")
        for number, protocol in ports:
            name = f"{prefix}_PORT_{number}_{protocol.upper()}"
            variables += [
                f"{name}={protocol}://{address}:{number}", f"{name}_ADDR={address}", f"{name}_PORT={number}",
                f"{name}_PROTO={protocol}",
            ]  # fmt: skip
        variables.append(f"{prefix}_NAME=/{container.name}/{link.alias}")
        for text in link.target.config.env:
            if text.partition("=")[0] not in _NOT_TOLD:
                variables.append(f"{prefix}_ENV_{text}")
    return variables


def _ports(target: Container) -> list[tuple[int, str]]:
    """What a container exposes, TCP first; an image may call anything a port."""
    keys = {*target.config.exposed_ports, *target.host_config.port_bindings}
    parted = [(number, protocol or "tcp") for number, _, protocol in (key.partition("/") for key in keys)]
    found = [(int(number), protocol) for number, protocol in parted if endpoint.is_number(number)]
    return sorted(found, key=lambda port: (port[1] != "tcp", port))


def environment_now(container: Container) -> list[str]:
    """The same for a session in a container that runs: of those that run by now."""
    known = leases.of_network(networks.lookup(networks.DEFAULT).id)
    return environment(container, living(container, known))


def remove(name: str) -> None:
    """`rm --link`: drop the link CONTAINER/ALIAS; one that runs keeps its /etc/hosts, as with Docker.

    Raises Conflict and NoSuchContainer in Docker's words.
    """
    parent, slash, alias = name.removeprefix("/").rpartition("/")
    if not slash:
        containers.lookup(name.removeprefix("/"))
        raise Conflict("Conflict, cannot remove the default name of the container")
    container = containers.lookup(parent)
    if alias not in of(container):
        raise NoSuchContainer(name)
    changing.drop_link(container, alias)
