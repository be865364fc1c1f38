"""Who reaches whom in the shared network namespace: the table `inet rdock`.

Containers of one bridge reach each other, as their frames pass no chain. From one bridge to another nothing goes.
The bridges in the set `outward` have a way out by TAP, behind its address; nothing comes in by it that was not
asked for. Of the namespace's own ports only the name server's is open, and that not towards TAP. A container that
asks for another port is refused at once; what goes to another bridge is dropped in silence, as with Docker.

What comes with a source to which no route leads back by the same interface is dropped, be it part of a connection or
not: no container can speak in the name of one on another bridge. For IPv4 that is rp_filter, for IPv6, which has no
such setting, a chain of ours.

What a port forwarder sends to a container comes from the client's own address (a socket with IP_TRANSPARENT), and
the answers, which are addressed to somebody else, have to end here: what such a socket waits for gets a mark, and
for what bears the mark table 100 says that every address is ours (the kernel's networking/tproxy.rst).

A bridge with IPv6 must be given a link-local address of ours (LINK_LOCAL): the kernel's own comes a second after
the first port and two more until it is known to be unique, and without one the router looks for no neighbour in
another's name, so that it forwards nothing to a container, and a client's address cannot be kept.
"""

from __future__ import annotations

import errno
import itertools

from rdock.linux import kernelfile, links, nftables, sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rdock.linux.netlink import Netlink
    from rdock.linux.nftables import Change

TABLE = "rdock"
OUTWARD = "outward"
TAP = "tap0"
MARK = 1
ROUTING_TABLE = 100
RULE_PRIORITY = 100
DNS_PORT = 53
LINK_LOCAL = "fe80::1/64"

_OF_THE_LINK = (("::", 128), ("fe80::", 10))
_ECHO_REQUEST, _ECHO_REQUEST_6, _NEIGHBOUR_SOLICITATION, _NEIGHBOUR_ADVERTISEMENT = 8, 128, 135, 136
_SETTINGS = {
    "/proc/sys/net/ipv4/ip_forward": "1",
    "/proc/sys/net/ipv6/conf/all/forwarding": "1",
    # Those of IPv4 a new namespace has from the host, whatever that is for. A source that is of another link is a lie,
    # a bridge answers for its own addresses only, and nobody tells us of better ways.
    **{
        f"/proc/sys/net/{family}/conf/{which}/{name}": value
        for which in ("all", "default")
        for family, name, value in (
            ("ipv4", "rp_filter", "1"),
            ("ipv4", "arp_ignore", "1"),
            ("ipv4", "proxy_arp", "0"),
            ("ipv4", "route_localnet", "0"),
            ("ipv4", "accept_source_route", "0"),
            ("ipv4", "accept_redirects", "0"),
            ("ipv4", "send_redirects", "0"),
            ("ipv6", "accept_ra", "0"),
            ("ipv6", "accept_redirects", "0"),
        )
    },
}
_BRIDGE_CALLS = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables")
# What the kernel answers where it has no IPv6, or no policy routing.
_NOT_THERE = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP)


def set_up(nl: Netlink, route: Netlink) -> bool:
    """Make a router of the network namespace that we are in, with this rule set and `lo` up.

    `nl` is of `nftables.open_netfilter`, `route` a NETLINK_ROUTE socket, both of this namespace. What is there
    already stays. Returns whether sockets may be transparent: not so where the kernel lacks nftables' socket
    expression or policy routing; all else works there. Without its reject expression all that is closed is silent, and
    without its fib expression the sources of IPv6 are not looked at.
    Raises OSError, e.g. EOPNOTSUPP without nf_tables.
    """
    links.change(route, links.LOOPBACK, up=True)
    for path, value in _SETTINGS.items():
        _write(path, value)
    keep_bridges_out()
    if is_set_up(nl):
        return is_transparent(nl)
    transparent = _route_marked(route)
    # From all that the kernel may know to nothing of it; what is first in the list is given up last.
    for keeps_addresses, checks_sources, refuses in itertools.product(
        (True, False) if transparent else (False,), (True, False), (True, False)
    ):
        try:
            nftables.commit(nl, _rules(transparent=keeps_addresses, checks_sources=checks_sources, refuses=refuses))
            return keeps_addresses
        except FileExistsError:
            break  # another process was faster
        except FileNotFoundError:
            # The answer to an expression of which the kernel does not know the name; it does not say to which.
            if not (keeps_addresses or checks_sources or refuses):
                raise
    return is_transparent(nl)


def is_set_up(nl: Netlink) -> bool:
    """Whether the rule set is there: it comes whole, and after all else of `set_up`."""
    return nftables.has_table(nl, TABLE)


def is_transparent(nl: Netlink) -> bool:
    """What `set_up` returned in this namespace."""
    return nftables.has_chain(nl, TABLE, "prerouting")


def open_network(nl: Netlink, bridge: str) -> None:
    """Give the containers of a bridge the way out. It may be open already. Raises OSError (ENOENT) before `set_up`."""
    nftables.commit(nl, [nftables.add_interface(TABLE, OUTWARD, bridge)])


def close_network(nl: Netlink, bridge: str) -> None:
    """Take the way out from a bridge, also from connections that there are. It may be closed already."""
    try:
        nftables.commit(nl, [nftables.delete_interface(TABLE, OUTWARD, bridge)])
    except FileNotFoundError:
        pass


def keep_bridges_out() -> None:
    """See to it that frames between containers of a bridge do not pass the chains, of which one drops them.

    Where br_netfilter is in the kernel, it sends them there in each new namespace, and in all that exist when it is
    loaded, which Docker or Kubernetes do for themselves. So call this again when a container joins. We must be in
    the namespace.
    """
    for name in _BRIDGE_CALLS:
        _write(f"/proc/sys/net/bridge/{name}", "0")


def _write(path: str, value: str) -> None:
    """Write a setting of the network namespace that we are in, if the kernel has it and it is another."""
    try:
        if kernelfile.read_number(path) != int(value):
            kernelfile.write(path, value)
    except FileNotFoundError:
        pass


def _route_marked(route: Netlink) -> bool:
    """Lead what bears the mark to ourselves. Whether that is possible, for IPv4 at least."""
    possible = True
    for family, everything in ((sockets.AF_INET, "0.0.0.0/0"), (sockets.AF_INET6, "::/0")):
        try:
            try:
                links.add_mark_rule(route, family, MARK, ROUTING_TABLE, RULE_PRIORITY)
            except FileExistsError:
                pass
            try:
                links.add_route(route, everything, link=links.LOOPBACK, table=ROUTING_TABLE, local=True)
            except FileExistsError:
                pass
        except OSError as e:
            if e.errno not in _NOT_THERE:
                raise
            possible = possible and family != sockets.AF_INET
    return possible


# -- the rule set --------------------------------------------------------------------------------


def _rules(*, transparent: bool, checks_sources: bool, refuses: bool) -> list[Change]:
    nft = nftables
    changes = [
        nft.add_table(TABLE),
        nft.add_interface_set(TABLE, OUTWARD, 1),
        nft.add_chain(TABLE, "input", nft.INPUT, nft.FILTER_PRIORITY, accepts=False),
        nft.add_chain(TABLE, "forward", nft.FORWARD, nft.FILTER_PRIORITY, accepts=False),
        nft.add_chain(TABLE, "postrouting", nft.POSTROUTING, nft.SOURCE_NAT_PRIORITY, accepts=True, nat=True),
    ]
    if checks_sources:
        changes.append(nft.add_chain(TABLE, "sources", nft.PREROUTING, nft.RAW_PRIORITY, accepts=True))
        # Who asks whether an address is free has none (::); those of the link are good there only, and not forwarded.
        for block, length in _OF_THE_LINK:
            match = nft.is_ipv6() + nft.source6_is_in(sockets.inet_pton(sockets.AF_INET6, block), length)
            changes.append(nft.add_rule(TABLE, "sources", match, nft.accept()))
        changes.append(nft.add_rule(TABLE, "sources", nft.is_ipv6() + nft.has_no_way_back(), nft.drop()))
    ours = [nft.interface_is("iifname", "lo"), nft.belongs_to_a_connection()]
    ours += [nft.protocol_is(nft.ICMP) + nft.icmp_type_is(_ECHO_REQUEST)]
    for kind in (_ECHO_REQUEST_6, _NEIGHBOUR_SOLICITATION, _NEIGHBOUR_ADVERTISEMENT):
        ours.append(nft.protocol_is(nft.ICMPV6) + nft.icmp_type_is(kind))
    for protocol in (nft.UDP, nft.TCP):
        inside = nft.interface_is("iifname", TAP, negated=True)
        ours.append(inside + nft.protocol_is(protocol) + nft.destination_port_is(DNS_PORT))
    if transparent:
        ours.append(nft.is_for_a_transparent_socket())
    changes += [nft.add_rule(TABLE, "input", match, nft.accept()) for match in ours]
    if refuses:
        inside = nft.interface_is("iifname", TAP, negated=True)
        for protocol, refusal in ((nft.TCP, nft.reset()), (nft.UDP, nft.refuse())):
            changes.append(nft.add_rule(TABLE, "input", inside + nft.protocol_is(protocol), refusal))
    outward = nft.interface_in("iifname", OUTWARD) + nft.interface_is("oifname", TAP)
    # That a connection is known says nothing between bridges: there may be one by way of a port forwarder.
    homeward = nft.interface_is("iifname", TAP) + nft.belongs_to_a_connection()
    for match in (outward, homeward):
        changes.append(nft.add_rule(TABLE, "forward", match, nft.accept()))
    changes.append(nft.add_rule(TABLE, "postrouting", nft.interface_is("oifname", TAP), nft.masquerade()))
    if transparent:
        changes.append(nft.add_chain(TABLE, "prerouting", nft.PREROUTING, nft.MANGLE_PRIORITY, accepts=True))
        for protocol in (nft.TCP, nft.UDP):
            match = nft.protocol_is(protocol) + nft.is_for_a_transparent_socket()
            changes.append(nft.add_rule(TABLE, "prerouting", match, nft.set_mark(MARK)))
    return changes
