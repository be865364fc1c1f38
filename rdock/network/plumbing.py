"""Interfaces of a container on its networks: made, addressed, taken away.

Who has them made stays where it is: a child does it, which enters the shared network namespace and then the
container's, from which there is no way back to the host's.
"""

from __future__ import annotations

import errno
import os
import time

from rdock.errors import DataLoss, RdockError, SystemFailure, reason
from rdock.linux import kernelfile, links, namespaces, nftables
from rdock.linux.netlink import Netlink
from rdock.network import endpoint_options, firewall, networks
from rdock.network.leases import Lease
from rdock.network.networks import Network
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from rdock.linux.links import Link

MTU = 65520
"""What goes through slirp4netns, see uplink.py: the same everywhere, so that nothing has to be cut."""
MTU_OPTION = "com.docker.network.driver.mtu"
ICC_OPTION = "com.docker.network.bridge.enable_icc"
PARENT_OPTION = "parent"
MODE_OPTION = "macvlan_mode"
INTERFACE_PREFIX = "com.docker.network.container_iface_prefix"
"""What the interfaces in containers are called, before their number."""
# How long the prefix of such networks is (RFC 3927, RFC 4291).
_LINK_LOCAL_4, _LINK_LOCAL_6 = 16, 64
# Seconds. An interface carries frames in hundredths of it, when the kernel has got round to it.
_PATIENCE = 2.0


class Attachment(Value):
    """A container's place on a network."""

    network: Network
    lease: Lease
    interface: str
    """What it is called in the container: eth0."""
    leads_out: bool
    """Whether the container's default route is here."""

    @property
    def outer(self) -> str:
        """The name of its other end, on the bridge."""
        return outer_of(self.lease)


def join(container: int, shared: int, attachments: Sequence[Attachment]) -> None:
    """Give a container its interfaces; both are descriptors of network namespaces. Raises SystemFailure."""

    def work() -> None:
        namespaces.enter({"network": shared})
        with Netlink() as route, nftables.open_netfilter() as netfilter:
            firewall.keep_bridges_out()
            for attachment in attachments:
                _make(route, netfilter, container, attachment)
        namespaces.enter({"network": container})
        with Netlink() as route:
            for attachment in attachments:
                _configure(route, attachment)
            for attachment in attachments:
                _await_running(route, attachment.interface)

    _in_child(work)


def leave(container: int, shared: int, attachments: Sequence[Attachment]) -> None:
    """Take interfaces from a container, which may have renamed them. Raises SystemFailure.

    `container` is -1 if its namespace is gone, or not known: those of macvlan networks stay then.
    """

    def work() -> None:
        namespaces.enter({"network": shared})
        parents = set()
        with Netlink() as route:
            for attachment in attachments:
                if attachment.network.driver == "macvlan":
                    parents |= _index_of(route, _parent(attachment.network))
                else:
                    _delete(route, attachment.outer)  # the other end goes with it
        if parents and container >= 0:
            namespaces.enter({"network": container})
            with Netlink() as route:
                for link in links.list_links(route):
                    # A parent is shared by one network only, so that this is the one.
                    if link.kind == "macvlan" and link.parent_elsewhere in parents:
                        _delete(route, link.index)

    _in_child(work)


def expel(shared: int, leases: Sequence[Lease]) -> None:
    """Take away what is left of endpoints whose containers nobody has seen to the end of. Raises SystemFailure.

    Another container may be in the same namespace, so that the interface lives on with addresses that are free.
    """

    def work() -> None:
        namespaces.enter({"network": shared})
        with Netlink() as route:
            for lease in leases:
                _delete(route, outer_of(lease))

    _in_child(work)


def outer_of(lease: Lease) -> str:
    """What the other end of an endpoint's interface is called, on the bridge."""
    return f"v{lease.endpoint[:12]}"


def _index_of(route: Netlink, link: str) -> set[int]:
    try:
        return {links.index_of(route, link)}
    except OSError as e:
        if e.errno != errno.ENODEV:
            raise
        return set()


def _delete(route: Netlink, link: str | int) -> None:
    try:
        links.delete(route, link)
    except OSError as e:
        if e.errno != errno.ENODEV:
            raise


def lead_out(container: int, attachment: Attachment, former: Attachment | None = None) -> None:
    """Have the default route of a container lead to this of its networks, no longer to a former one.

    Raises SystemFailure.
    """

    def work() -> None:
        namespaces.enter({"network": container})
        with Netlink() as route:
            for pool in attachment.network.pools:
                # One of a family that the other network lacks stays, as with Docker.
                old = former.network.pool(pool.block.version) if former is not None else None
                if old is not None:
                    _unlead(route, str(old.gateway))
            _lead_out(route, attachment)

    _in_child(work)


def remove_bridge(shared: int, network: Network) -> None:
    """Take the device of a network away, on which nobody is any more. Raises SystemFailure."""

    def work() -> None:
        namespaces.enter({"network": shared})
        with Netlink() as route, nftables.open_netfilter() as netfilter:
            _remove_link(route, netfilter, links.list_links(route), network.near_link)
            _delete(route, network.bridge)

    _in_child(work)


def sweep(route: Netlink, netfilter: Netlink) -> None:
    """Take away the devices of networks that are no more; we are in the shared namespace.

    What is not known to belong to one stays; so does all while a record is damaged. Raises OSError.
    """
    # In this order: what is made later is of a network that is found, for its record comes first.
    found = links.list_links(route)
    damaged: list[DataLoss] = []
    known = networks.all_networks(damaged)
    if damaged:
        return
    kept = {name for network in known for name in (network.near_link, network.bridge, _far(network))}
    for link in found:
        of_a_network = link.kind in ("bridge", "macvlan") or (link.kind == "veth" and link.name[:3] == "br-")
        if of_a_network and link.name not in kept:
            _remove_link(route, netfilter, found, link.name)


def _remove_link(route: Netlink, netfilter: Netlink, found: Sequence[Link], name: str) -> None:
    """Take away a network's interface, and what is plugged into it: ends of interfaces of those who are gone."""
    firewall.close_network(netfilter, name)
    index = next((link.index for link in found if link.name == name), 0)
    for link in found:
        if index and link.master == index:
            _delete(route, link.index)
    _delete(route, name)


def _in_child(work: Callable[[], None]) -> None:
    told, telling = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(telling, b"+")
        except BaseException as e:
            message = e.message if isinstance(e, RdockError) else reason(e) if isinstance(e, OSError) else repr(e)
            where = f"{e.filename}: " if isinstance(e, OSError) and e.filename else ""
            os.write(telling, f"{where}{message}".encode())
        finally:
            os._exit(0)
    os.close(telling)
    try:
        answer = os.read(told, 4096).decode()
    finally:
        os.close(told)
        os.waitpid(pid, 0)
    if answer != "+":
        raise SystemFailure(f"cannot set up the network: {answer or 'its maker was killed'}")


# -- in the shared namespace -----------------------------------------------------------------------


def _make(route: Netlink, netfilter: Netlink, container: int, attachment: Attachment) -> None:
    network, lease = attachment.network, attachment.lease
    if network.driver == "macvlan":
        mode = network.options.get(MODE_OPTION, "bridge")
        _ensure_parent(route, netfilter, network)
        if mode == "bridge":
            _ensure_neighbour(route, netfilter, network)
        links.add_macvlan(route, attachment.outer, _parent(network), container, mode=mode, mac=lease.mac)
        return
    _ensure_bridge(route, netfilter, network)
    _delete(route, attachment.outer)  # of a try that was broken off
    master = links.index_of(route, network.bridge)
    links.add_veth(
        route, attachment.outer, attachment.interface, container, peer_mac=lease.mac, mtu=_mtu(network), master=master,
        up=True,
    )  # fmt: skip
    if network.options.get(ICC_OPTION, "true").lower() in ("false", "0"):
        links.change(route, attachment.outer, isolated=True)


def _ensure_bridge(route: Netlink, netfilter: Netlink, network: Network) -> None:
    """Have the bridge there whole: another may be at it just now, so that each step is taken by all."""
    try:
        links.add_bridge(route, network.bridge, mtu=_mtu(network), mac=_mac(network))
        sweep(route, netfilter)  # one that is no more may have had the same addresses
    except FileExistsError:
        if links.find(route, network.bridge).mac != _mac(network):
            # Of a network that had the name before, and was removed when nobody could take it away.
            _remove_link(route, netfilter, links.list_links(route), network.bridge)
            _unless_there(links.add_bridge, route, network.bridge, mtu=_mtu(network), mac=_mac(network))
    _be_gateway(route, network)
    if network.internal:
        firewall.close_network(netfilter, network.bridge)
    else:
        firewall.open_network(netfilter, network.bridge)


def _be_gateway(route: Netlink, network: Network) -> None:
    for pool in network.pools:
        address = f"{pool.gateway}/{pool.block.length}"
        _unless_there(links.add_address, route, network.near_link, address)
        if pool.block.version == 6:
            _unless_there(links.add_address, route, network.near_link, firewall.LINK_LOCAL)
    links.change(route, network.near_link, up=True)


def _ensure_neighbour(route: Netlink, netfilter: Netlink, network: Network) -> None:
    """Be on a macvlan network ourselves: where the name server is asked, and the way out if its parent has one.

    One without a parent is for itself, as with Docker.
    """
    here = os.open(namespaces.file_of("network"), os.O_RDONLY | os.O_CLOEXEC)
    try:
        _unless_there(links.add_macvlan, route, network.near_link, _parent(network), here)
    finally:
        os.close(here)
    _be_gateway(route, network)
    parent = network.options.get(PARENT_OPTION)
    leading = {firewall.TAP, *(other.bridge for other in networks.all_networks([]) if not other.internal)}
    if parent in leading and not network.internal:
        firewall.open_network(netfilter, network.near_link)


def _ensure_parent(route: Netlink, netfilter: Netlink, network: Network) -> None:
    """The device of a macvlan network: another network's bridge, or one that leads nowhere.

    That is what it has without a parent, and with the way out as its parent: to that it is led as bridges are, for
    tap0 goes, and all that is on it, whenever slirp4netns is killed.

    Nothing is carried between its containers unless that has a carrier, and a bridge has none without a port. So a
    veth pair is plugged in, whose other end leads nowhere; or it is the device itself.
    """
    parent = _shared_parent(network)
    mtu = 0
    for other in networks.all_networks([]) if parent else ():
        if other.driver == "bridge" and other.bridge == parent:
            _ensure_bridge(route, netfilter, other)
            mtu = _mtu(other)
    far = _far(network)
    here = os.open(namespaces.file_of("network"), os.O_RDONLY | os.O_CLOEXEC)
    try:
        master = links.index_of(route, parent) if parent else 0
        _unless_there(
            links.add_veth, route, network.bridge, far, here, mac=_mac(network), mtu=mtu, master=master, up=True
        )
    finally:
        os.close(here)
    links.change(route, far, up=True)


def _far(network: Network) -> str:
    """The other end of the pair that is a macvlan network's device, or plugged into another's."""
    return f"p{network.id[:12]}"


def _parent(network: Network) -> str:
    return _shared_parent(network) or network.bridge


def _shared_parent(network: Network) -> str:
    """The bridge that it is on, if that is another network's."""
    parent = network.options.get(PARENT_OPTION, "")
    return "" if parent == firewall.TAP else parent


def _unless_there(make: Callable[..., None], *arguments: Any, **options: Any) -> None:
    try:
        make(*arguments, **options)
    except FileExistsError:
        pass


def _mtu(network: Network) -> int:
    return int(network.options.get(MTU_OPTION) or MTU)


def _mac(network: Network) -> str:
    """A hardware address for a bridge, or it would change with what is plugged in."""
    return ":".join(["02", "42", *(network.id[place : place + 2] for place in range(0, 8, 2))])


# -- in the container's ----------------------------------------------------------------------------


def _configure(route: Netlink, attachment: Attachment) -> None:
    network, name = attachment.network, attachment.interface
    if network.driver == "macvlan":
        links.change(route, attachment.outer, name=name)
    if network.pool(6) is None and not any(":" in text for text in attachment.lease.link_local):
        _disable_ipv6(name)
    links.change(route, name, up=True)
    for pool, address in zip(network.pools, _addresses(attachment), strict=True):
        links.add_address(route, name, f"{address}/{pool.block.length}")
    for text in attachment.lease.link_local:
        links.add_address(route, name, f"{text}/{_LINK_LOCAL_6 if ':' in text else _LINK_LOCAL_4}")
    for place, value in attachment.lease.sysctls.items():
        kernelfile.write(endpoint_options.path(place, name), value)
    if attachment.leads_out:
        _lead_out(route, attachment)


def _lead_out(route: Netlink, attachment: Attachment) -> None:
    for pool in attachment.network.pools:
        index, gateway = links.index_of(route, attachment.interface), str(pool.gateway)
        _unless_there(links.add_route, route, _everything(gateway), via=gateway, link=index)


def _unlead(route: Netlink, gateway: str) -> None:
    try:
        links.delete_route(route, _everything(gateway), via=gateway)
    except OSError as e:
        if e.errno not in (errno.ESRCH, errno.ENETUNREACH, errno.EHOSTUNREACH):
            raise  # else: it was gone


def _everything(gateway: str) -> str:
    return "::/0" if ":" in gateway else "0.0.0.0/0"


def _addresses(attachment: Attachment) -> list[str]:
    lease = attachment.lease
    return [lease.address if pool.block.version == 4 else lease.address6 for pool in attachment.network.pools]


def _disable_ipv6(interface: str) -> None:
    """On a network without IPv6 an interface has none, as with Docker: programs would try it first."""
    try:
        kernelfile.write(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6", "1")
    except OSError:
        pass  # a kernel without IPv6, or a read-only /proc/sys


def _await_running(route: Netlink, interface: str) -> None:
    """What is sent before is lost, and sent again after a second only."""
    end = time.monotonic() + _PATIENCE
    while not links.find(route, interface).running and time.monotonic() < end:
        time.sleep(0.001)
