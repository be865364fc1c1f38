"""A running container's place on its networks: addresses, interfaces, published ports, and who keeps them up.

Held by the container's monitor: its connection to the hub (network/hub.py), the host's sockets of published ports,
and the process that serves these (network/forwarder.py). Copies are left to the keeper, so that a monitor which is
killed leaves them as they are.
"""

from __future__ import annotations

import fcntl
import os
import time

from rdock import config
from rdock.container import changing, containers, linking, sharing
from rdock.container.containers import Container
from rdock.container.linking import Link
from rdock.container.publishing import Publishing, where_to
from rdock.errors import Conflict, Forbidden, InvalidParameter, NotRunning, RdockError, SystemFailure
from rdock.launch import debug
from rdock.linux import namespaces, sockets
from rdock.network import endpoint_options, hub, leases, networks, plumbing
from rdock.network.hub import Plan, Use
from rdock.network.leases import Lease
from rdock.network.networks import Network
from rdock.network.plumbing import Attachment
from rdock.network.subnet import Subnet
from rdock.runtime import rootless
from rdock.state.record import is_locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rdock.container.stdio import Server
    from rdock.network.endpoint import Bindings

# Seconds until another try, if there cannot be a process to look for another hub.
_PAUSE = 0.1


class Wiring:
    """What a run of a container has of its networks."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.attachments: list[Attachment] = []
        self.publishing = Publishing()
        self.use: Use | None = None
        self._is_connected = False
        self._namespace = -1  # the container's, if that is needed to take interfaces out of it
        self.links: list[Link] = []
        """To those on the default network that run."""
        self._seeking: sockets.socket | None = None
        """To who looks for another hub, while there is none: `use` then is what there was of the one before."""
        self._server: Server | None = None
        self._on_change: Callable[[], None] = lambda: None
        self.note = ""
        """Why there is no way out, if so."""

    # -- the start ---------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Take addresses and ports. Raises RdockError, with nothing left taken after `release`."""
        self.use = hub.use(_plan())
        # As it is by now: it may have been connected elsewhere since its monitor began.
        self.container = containers.as_it_is(self.container)
        leading = next((name for name in self._by_priority() if not networks.lookup(name).internal), "")
        if leading:
            self._bind_ports()
        with networks.locked():
            for name in self._by_priority():
                self._take(name, self.container.networks[name], leads_out=name == leading)

    def _take(self, name: str, settings: dict[str, Any], *, leads_out: bool) -> Attachment:
        """Take addresses of a network, under the network lock. Raises RdockError, with nothing taken then."""
        network = networks.settled(networks.lookup(name))
        interface = self._interface(network, settings)
        names = self._names(network, settings)
        is_default = network.name == networks.DEFAULT
        aliases = linking.of(self.container) if is_default else linking.of_endpoint(settings)
        self._expel_the_dead(network)
        lease = leases.take(
            network, self.container.id, self.container.name, settings, names, is_attended,
            servers=self.container.host_config.dns if names else (), links=aliases,
        )  # fmt: skip
        if is_default:
            try:
                self._settle_links(leases.of_network(network.id), lease)
            except RdockError:
                leases.give_back(network.id, self.container.id)
                raise
        made = Attachment(network, lease, interface, leads_out)
        self.attachments.append(made)
        return made

    def _expel_the_dead(self, network: Network) -> None:
        """Take away the interfaces of those whose addresses are free since their monitors were killed."""
        assert self.use is not None
        known = {} if leases.damage(network.id) else leases.of_network(network.id)
        dead = [
            each for each in known.values() if each.container != self.container.id and not is_attended(each.container)
        ]
        if dead and network.driver != "macvlan":
            plumbing.expel(self.use.namespace, dead)

    def _settle_links(self, known: dict[str, Lease], own: Lease) -> None:
        """See whom it is linked to, under the network lock, and have those who are linked to it know where it is."""
        living = {key: lease for key, lease in known.items() if key == own.container or is_attended(key)}
        self.links = linking.living(self.container, living)
        linking.check_running(self.container, self.links)
        linking.tell_others(own, living.values())

    def _interface(self, network: Network, settings: dict[str, Any]) -> str:
        """What its interface on a network is to be called. Raises Conflict."""
        used = {each.interface for each in self.attachments}
        asked = str((settings.get("DriverOpts") or {}).get(endpoint_options.INTERFACE, ""))
        if asked in used:
            raise Conflict(f"the container has an interface {asked} already")
        prefix = network.options.get(plumbing.INTERFACE_PREFIX, "eth")
        return asked or next(f"{prefix}{number}" for number in range(len(used) + 1) if f"{prefix}{number}" not in used)

    def _by_priority(self) -> list[str]:
        """The first is the one it was created on, unless another has precedence."""
        first, known = self.container.host_config.network_mode, self.container.networks
        return sorted(known, key=lambda name: (-int(known[name].get("GwPriority") or 0), name != first, name))

    def _names(self, network: Network, settings: dict[str, Any]) -> list[str]:
        if network.name == networks.DEFAULT:
            return []
        aliases = settings.get("Aliases") or []
        return list(dict.fromkeys([*aliases, self.container.short_id, self.container.config.hostname]))

    def connect(self, namespace: int) -> None:
        """Make the interfaces in the container's network namespace, and serve its ports. Raises RdockError."""
        assert self.use is not None
        plumbing.join(namespace, self.use.namespace, self.attachments)
        self._is_connected = True
        self._keep_namespace(namespace)
        for attachment in self.attachments:
            networks.note(attachment.network, "connect", container=self.container.id)
        self._serve_ports()
        try:
            self.note = hub.await_way_out(self.use)
        except SystemFailure as e:
            self.note = e.message  # should the hub be gone, `watch` sees to another one

    def _keep_namespace(self, namespace: int) -> None:
        """It may outlive the container, by another that shares it, and a macvlan with it."""
        if self._namespace < 0 and any(each.network.driver == "macvlan" for each in self.attachments):
            self._namespace = fcntl.fcntl(namespace, fcntl.F_DUPFD_CLOEXEC, 0)

    @property
    def missing(self) -> str:
        """Why there is no way out, if there should be one."""
        return self.note if any(each.leads_out for each in self.attachments) else ""

    @property
    def addresses(self) -> list[str]:
        """Of the container, that of its first network first."""
        return [text for each in self.attachments for text in (each.lease.address, each.lease.address6) if text]

    @property
    def is_named(self) -> bool:
        """Whether it is on a network where names are known."""
        return any(each.network.name != networks.DEFAULT for each in self.attachments)

    @property
    def nameserver(self) -> str:
        pool = self.attachments[0].network.pool(4) if self.attachments else None
        return str(pool.gateway) if pool else ""

    # -- published ports ---------------------------------------------------------------------------

    def _bind_ports(self) -> None:
        """Listen at the published ports, unless that is so. Raises what ports.bind raises."""
        if not self.publishing.listeners:
            self.publishing.bind(self.container.published)

    def _settle_ports(self) -> None:
        """Have published ports lead to where the container is now, and free while it is on internal networks only, or
        on none: then it is not to be reached from outside."""
        if all(each.network.internal for each in self.attachments):
            self.publishing.release()
        elif self.publishing.is_served:
            self.publishing.aim(where_to(self.attachments))
        else:
            self._bind_ports()
            self._serve_ports()
            if self._server is not None:
                self.publishing.watch(self._server, self._serve_ports_again)

    def _serve_ports(self) -> None:
        if self.use is not None:
            self.publishing.serve(self.use.namespace, where_to(self.attachments), transparent=self.use.transparent)

    # -- while it runs -----------------------------------------------------------------------------

    def watch(self, server: Server, on_change: Callable[[], None]) -> None:
        """From now on mind whether the hub is there. `on_change` is told when another one is."""
        self._server, self._on_change = server, on_change
        if self.use is not None:
            self._mind_hub()
        self.publishing.watch(server, self._serve_ports_again)

    def _serve_ports_again(self) -> None:
        """The forwarder has ended."""
        self._serve_ports()
        self._on_change()

    def _mind_hub(self) -> None:
        assert self.use is not None and self._server is not None
        self.use.connection.setblocking(False)
        self._server.watch(self.use.connection.fileno(), self._hear_hub)

    def _hear_hub(self) -> None:
        """The hub tells of another way out, or has gone."""
        assert self.use is not None
        try:
            packet = self.use.connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if packet[:1] == b"r":
            self.note = packet[1:].decode()
        else:
            self._seek()

    def _seek(self) -> None:
        """Have another hub looked for, with the same namespace; what the container has of it is not touched by that.

        The connection stays open, so that another monitor, if this one is killed meanwhile, sees what this one saw.
        """
        assert self.use is not None and self._server is not None
        try:
            self._seeking = hub.seek(_plan(), self.use.namespace)
        except OSError as e:
            debug(f"network: {e}")
            time.sleep(_PAUSE)  # the connection is ready at once, again
            return
        self._server.forget(self.use.connection.fileno())
        self._server.watch(self._seeking.fileno(), self._rejoin)

    def _rejoin(self) -> None:
        """There is another hub."""
        assert self.use is not None and self._server is not None and self._seeking is not None
        try:
            found = hub.found(self._seeking)
        except SystemFailure as e:
            debug(f"network: {e.message}")
            found = None
        self._stop_seeking()
        if found is None:
            # Who looked for one was killed. The connection is ready at once, again.
            time.sleep(_PAUSE)
            self._mind_hub()
            return
        old, self.use = self.use, found
        old.connection.close()
        self._mind_hub()
        try:
            if not os.path.sameopenfile(found.namespace, old.namespace):
                self._move(old.namespace, found.namespace)
        except RdockError as e:
            debug(f"network: {e.message}")
        os.close(old.namespace)
        self._on_change()

    def _stop_seeking(self) -> None:
        if self._seeking is not None:
            if self._server is not None:
                self._server.forget(self._seeking.fileno())
            self._seeking.close()
            self._seeking = None

    def _move(self, old: int, new: int) -> None:
        """Somebody was faster who did not have the namespace, and has made another: go there."""
        self._in_container(lambda namespace: plumbing.leave(namespace, old, self.attachments))
        self._in_container(lambda namespace: plumbing.join(namespace, new, self.attachments))
        self._serve_ports()
        if self._server is not None:
            self.publishing.watch(self._server, self._serve_ports_again)

    def add(self, name: str, settings: dict[str, Any]) -> None:
        """Put the running container on one more network. Raises RdockError, and leaves nothing then."""
        if any(each.network.name == name for each in self.attachments):
            raise Forbidden(f"endpoint with name {self.container.name} already exists in network {name}")
        if self.use is None:
            raise SystemFailure("the shared network namespace is gone")
        shared = self.use.namespace
        self.container = containers.as_it_is(self.container)
        with networks.locked():
            made = self._take(name, settings, leads_out=False)
        try:
            if not made.network.internal:
                self._bind_ports()
            self._in_container(lambda namespace: plumbing.join(namespace, shared, [made]))
            self._in_container(self._keep_namespace)
            changing.set_networks(self.container, {name: settings}, ())
        except BaseException:
            self._in_container(lambda namespace: plumbing.leave(namespace, shared, [made]))
            self._drop(made)
            self._settle_ports()
            raise
        self._lead_out()
        self._settle_ports()

    def remove(self, name: str) -> None:
        """Take the running container off a network. Raises RdockError."""
        found = next((each for each in self.attachments if each.network.name == name), None)
        if found is None:
            raise InvalidParameter(f"container {self.container.id} is not connected to network {name}")
        # First: what is on record, and not there, could not be told from what is to be there.
        changing.set_networks(self.container, {}, (name,))
        if self.use is not None:
            shared = self.use.namespace
            self._in_container(lambda namespace: plumbing.leave(namespace, shared, [found]))
        self._drop(found)
        self._lead_out()
        self._settle_ports()

    def _lead_out(self) -> None:
        """Have the default route on the network that has precedence among those where the container is by now."""
        self.container = containers.as_it_is(self.container)
        on = {each.network.name: each for each in self.attachments if not each.network.internal}
        best = next((on[name] for name in self._by_priority() if name in on), None)
        former = next((each for each in self.attachments if each.leads_out), None)
        if best is None or best is former:
            return
        leading = best._replace(leads_out=True)
        self.attachments = [
            leading if each is best else each._replace(leads_out=False) if each is former else each
            for each in self.attachments
        ]
        try:
            self._in_container(lambda namespace: plumbing.lead_out(namespace, leading, former))
        except RdockError as e:
            debug(f"network: {e.message}")  # it has made something else of its interface, or has just ended

    def _drop(self, attachment: Attachment) -> None:
        self.attachments = [each for each in self.attachments if each.interface != attachment.interface]
        with networks.locked():
            leases.give_back(attachment.network.id, self.container.id)

    def _in_container(self, work: Callable[[int], None]) -> None:
        """Do something with the container's network namespace."""
        process = self.container.recorded_state().process
        try:
            fds = namespaces.open_all(process.pid, ("network",))
        except OSError as e:
            raise NotRunning(self.container.id) from e
        try:
            # Asked now: a pid that had been another's by then would have been so still.
            if not process.is_alive():
                raise NotRunning(self.container.id)
            work(fds["network"])
        finally:
            os.close(fds["network"])

    # -- from a monitor to the next ----------------------------------------------------------------

    def heritage(self) -> tuple[dict[str, Any], list[int]]:
        """What another monitor needs of it: JSON, and descriptors."""
        if self.use is None:
            return {}, []
        published, fds = self.publishing.heritage()
        found = {
            "base": self.use.subnet.base, "transparent": self.use.transparent, "published": published,
            "attachments": [[each.network.id, each.interface, each.leads_out] for each in self.attachments],
        }  # fmt: skip
        return found, [self.use.connection.fileno(), self.use.namespace, *fds]

    def inherit(self, found: dict[str, Any], fds: list[int], bindings: Bindings) -> None:
        """Go on with that of another monitor; `bindings` are the published ports on record. Raises RdockError."""
        connection, namespace, *rest = fds
        self.use = Use(sockets.socket(fileno=connection), namespace, Subnet(found["base"]), found["transparent"])
        self._is_connected = True
        self.publishing.inherit(found["published"], rest, bindings)
        for network_id, interface, leads_out in found["attachments"]:
            lease = leases.of_network(network_id).get(self.container.id)
            network = networks.find(network_id)
            if lease is not None and network is not None:
                self.attachments.append(Attachment(network, lease, interface, leads_out))
        try:
            self._in_container(self._keep_namespace)
        except NotRunning:
            pass

    # -- the end -----------------------------------------------------------------------------------

    def release(self) -> None:
        """Give ports and addresses back, and part from the hub. Never fails."""
        self._stop_seeking()
        self.publishing.release()
        if self.attachments:
            try:
                with networks.locked():
                    self._unplug()
                    for attachment in self.attachments:
                        leases.give_back(attachment.network.id, self.container.id)
            except RdockError as e:
                debug(f"network: {e.message}")  # they are void with this process
            for attachment in self.attachments if self._is_connected else ():
                networks.note(attachment.network, "disconnect", container=self.container.id)
            self.attachments = []
        if self.use is not None:
            if self._server is not None:
                self._server.forget(self.use.connection.fileno())
            self.use.connection.close()
            os.close(self.use.namespace)
            self.use = None
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1

    def _unplug(self) -> None:
        """Take the interfaces away before their addresses are another's, should they not go with the namespace: another
        container may be in it, or this process holds it open. It costs tens of milliseconds, which others need not pay.
        """
        lives_on = self._namespace >= 0 or os.path.exists(sharing.network_mark(self.container))
        try:
            if self.use is not None and self._is_connected and lives_on:
                plumbing.leave(self._namespace, self.use.namespace, self.attachments)
        except RdockError as e:
            debug(f"network: {e.message}")


def _plan() -> Plan:
    return Plan(config.current().holder_linger / 2, rootless.held(), rootless.leave_own_mounts)


def is_attended(container_id: str) -> bool:
    """Whether somebody sees to a container, so that its leases hold: the run lock is theirs."""
    try:
        return is_locked(containers.run_lock(container_id).path)
    except OSError:
        return True
