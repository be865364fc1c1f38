"""Links, addresses, routes and policy rules, by rtnetlink(7) (linux/if_link.h, if_addr.h, rtnetlink.h, fib_rules.h).

Every function works in the network namespace of the socket that it is given (`netlink.Netlink`), not in the
caller's. A link is named or numbered. An address is text with the length of its prefix, "172.17.0.2/16". What the
kernel refuses is an OSError with its number and words, and the link's name: EEXIST, ENODEV, EPERM, EINVAL and so
on. Text that is no address or no hardware address is a ValueError, before anything is changed.
"""

from __future__ import annotations

from struct import Struct

from rdock.linux import sockets
from rdock.linux.netlink import CREATE, EXCL, Netlink, attribute, attributes, nested, number, string, text, u8, u32
from rdock.values import Value

# fmt: off
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _NEWROUTE, _DELROUTE, _NEWRULE = 20, 24, 25, 32
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
_IFLA_NET_NS_FD, _IFLA_EXT_MASK, _IFLA_LINK_NETNSID = 28, 29, 37
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
_IFLA_BR_FORWARD_DELAY, _IFLA_BR_STP_STATE, _IFLA_BR_MCAST_SNOOPING = 1, 5, 23
_IFLA_BRPORT_ISOLATED = 33
_VETH_INFO_PEER, _IFLA_MACVLAN_MODE = 1, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS, _IFA_F_NODAD = 1, 2, 4, 8, 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 6, 7, 15
_RTN_UNICAST, _RTN_LOCAL, _RTPROT_STATIC = 1, 2, 4
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_HOST = 0, 253, 254
_FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK, _FR_ACT_TO_TBL = 6, 10, 15, 16, 1
_IFLA_OPERSTATE, _OPERSTATE_UP = 16, b"\6"
_IFF_UP, _RTEXT_FILTER_SKIP_STATS = 1, 8
# fmt: on

MAIN_TABLE = 254
LOOPBACK = 1
"""The index of `lo`, in every namespace."""
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}

_IFINFOMSG = Struct("=BxHiII")
_IFADDRMSG = Struct("=BBBBI")
_RTMSG = Struct("=BBBBBBBBI")
_FIB_RULE_HDR = Struct("=BBBBBBBBI")


class Link(Value):
    """A network interface."""

    index: int
    name: str
    kind: str
    """The driver's name: "bridge", "veth", "macvlan", "tun"; empty for `lo` and for real devices."""
    mac: str
    mtu: int
    up: bool
    """Whether it has been set up."""
    running: bool
    """Whether the kernel has found a carrier and begun (operational state UP). It does so some milliseconds after both
    ends of a veth pair are up: until then what is sent is lost, and ARP and TCP try again after a second. Of `lo` it
    never says so, of a bridge only a while after it has a port."""
    master: int
    """Index of the bridge that it is a port of; 0 if of none."""
    parent_elsewhere: int
    """Of a link whose parent or peer is in another namespace: its index there; 0 of others."""


# -- making links --------------------------------------------------------------------------------


def add_bridge(nl: Netlink, name: str, *, mtu: int = 0, mac: str = "", up: bool = False) -> None:
    """Make a bridge that forwards at once: no spanning tree, no multicast snooping.

    VLAN filtering is off in every new bridge, and not mentioned: a kernel without it would refuse (EOPNOTSUPP).
    Without `mac` it takes the lowest of its ports' and changes when they do; so give one. `mtu` 0 is the kernel's
    choice: the smallest of the ports'.
    """
    data = (
        u32(_IFLA_BR_FORWARD_DELAY, 0),
        u32(_IFLA_BR_STP_STATE, 0),
        u8(_IFLA_BR_MCAST_SNOOPING, 0),
    )
    _add(nl, name, _link_body(name, mac, mtu, up, _link_info("bridge", data)))


def add_veth(
    nl: Netlink,
    name: str,
    peer: str,
    peer_namespace: int,
    *,
    mac: str = "",
    peer_mac: str = "",
    mtu: int = 0,
    master: str | int = 0,
    up: bool = False,
) -> None:
    """Make a pair: `name` here, a port of the bridge `master` if given, and `peer` in another network namespace.

    `peer_namespace` is a descriptor of that. The MTU is that of both ends; 0 is the kernel's choice, 1500. It is all
    one request, of which nothing is left if it fails. The peer is down at first: the kernel cannot start an end
    whose other is only being made.
    """
    ours = b"" if master == 0 else u32(_IFLA_MASTER, index_of(nl, master))
    there = u32(_IFLA_NET_NS_FD, peer_namespace)
    other = attribute(_VETH_INFO_PEER, _link_body(peer, peer_mac, mtu, False, there))
    _add(nl, name, _link_body(name, mac, mtu, up, _link_info("veth", (other,)) + ours))


def add_macvlan(
    nl: Netlink, name: str, parent: str | int, namespace: int, *, mode: str = "bridge", mac: str = "", mtu: int = 0
) -> None:
    """Make a macvlan of `parent`, which is here, directly in the network namespace of a descriptor.

    `mode` is one of MACVLAN_MODES (ValueError). The kernel refuses a name that is taken here already (EEXIST), though
    it would be free there.
    """
    if mode not in MACVLAN_MODES:
        raise ValueError(f"no mode of a macvlan: {mode}")
    more = u32(_IFLA_LINK, index_of(nl, parent)) + u32(_IFLA_NET_NS_FD, namespace)
    more += _link_info("macvlan", (u32(_IFLA_MACVLAN_MODE, MACVLAN_MODES[mode]),))
    _add(nl, name, _link_body(name, mac, mtu, False, more))


def _add(nl: Netlink, name: str, body: bytes) -> None:
    nl.request(_NEWLINK, body, CREATE | EXCL, about=name)


def _link_info(kind: str, data: tuple[bytes, ...]) -> bytes:
    return nested(_IFLA_LINKINFO, (text(_IFLA_INFO_KIND, kind), nested(_IFLA_INFO_DATA, data)))


def _link_body(name: str, mac: str, mtu: int, up: bool, more: bytes) -> bytes:
    """struct ifinfomsg of a new link and its attributes."""
    flags = _IFF_UP if up else 0
    body = _IFINFOMSG.pack(0, 0, 0, flags, flags) + text(_IFLA_IFNAME, name)
    if mac:
        body += attribute(_IFLA_ADDRESS, mac_bytes(mac))
    if mtu:
        body += u32(_IFLA_MTU, mtu)
    return body + more


# -- changing and finding them -------------------------------------------------------------------


def change(
    nl: Netlink,
    link: str | int,
    *,
    up: bool | None = None,
    name: str = "",
    mac: str = "",
    mtu: int = 0,
    master: str | int | None = None,
    isolated: bool | None = None,
) -> None:
    """Change what is given of a link, the rest stays. `master` 0 takes it out of its bridge.

    `isolated`: this port of a bridge and other isolated ones do not reach each other. For a link that is a port, or
    becomes one by the same call.
    """
    body = b""
    if name:
        body += text(_IFLA_IFNAME, name)
    if mac:
        body += attribute(_IFLA_ADDRESS, mac_bytes(mac))
    if mtu:
        body += u32(_IFLA_MTU, mtu)
    if master is not None:
        body += u32(_IFLA_MASTER, index_of(nl, master) if master else 0)
    index = index_of(nl, link)
    if body or up is not None:
        flags = (int(up), _IFF_UP) if up is not None else (0, 0)
        nl.request(_NEWLINK, _IFINFOMSG.pack(0, 0, index, *flags) + body, about=str(link))
    if isolated is not None:
        port = u8(_IFLA_BRPORT_ISOLATED, isolated)
        info = text(_IFLA_INFO_SLAVE_KIND, "bridge") + nested(_IFLA_INFO_SLAVE_DATA, (port,))
        body = _IFINFOMSG.pack(0, 0, index, 0, 0) + nested(_IFLA_LINKINFO, (info,))
        nl.request(_NEWLINK, body, about=str(link))


def delete(nl: Netlink, link: str | int) -> None:
    """Delete a link; of a veth pair the other end goes too. Raises OSError (ENODEV)."""
    if isinstance(link, int):
        body = _IFINFOMSG.pack(0, 0, link, 0, 0)
    else:
        body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, link)
    nl.request(_DELLINK, body, about=str(link))


def find(nl: Netlink, link: str | int) -> Link:
    """What is known of a link. Raises OSError (ENODEV)."""
    body = _IFINFOMSG.pack(0, 0, link if isinstance(link, int) else 0, 0, 0)
    if isinstance(link, str):
        body += text(_IFLA_IFNAME, link)
    return _read_link(nl.request(_GETLINK, body + u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS), about=str(link))[0])


def index_of(nl: Netlink, link: str | int) -> int:
    """The index of a link: asked for, or as given. Raises OSError (ENODEV)."""
    return link if isinstance(link, int) else find(nl, link).index


def list_links(nl: Netlink) -> list[Link]:
    """All links of the namespace."""
    body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    return [_read_link(answer) for answer in nl.dump(_GETLINK, body)]


def _read_link(answer: bytes) -> Link:
    _, _, index, flags, _ = _IFINFOMSG.unpack_from(answer)
    found = attributes(answer, _IFINFOMSG.size)
    info = attributes(found.get(_IFLA_LINKINFO, b""))
    return Link(
        index,
        string(found.get(_IFLA_IFNAME)),
        string(info.get(_IFLA_INFO_KIND)),
        found.get(_IFLA_ADDRESS, b"").hex(":"),
        number(found.get(_IFLA_MTU)) or 0,
        bool(flags & _IFF_UP),
        found.get(_IFLA_OPERSTATE) == _OPERSTATE_UP,
        number(found.get(_IFLA_MASTER)) or 0,
        (number(found.get(_IFLA_LINK)) or 0) if _IFLA_LINK_NETNSID in found else 0,
    )


# -- addresses -----------------------------------------------------------------------------------


def add_address(nl: Netlink, link: str | int, address: str) -> None:
    """Give a link an address; the route to its network comes with it. Raises OSError (EEXIST).

    An IPv6 address is used at once: nobody else's has been chosen, and to ask around takes seconds.
    """
    nl.request(_NEWADDR, _address_body(nl, link, address), CREATE | EXCL, about=address)


def _address_body(nl: Netlink, link: str | int, address: str) -> bytes:
    family, packed, length = parse_address(address)
    body = _IFADDRMSG.pack(family, length, 0, _SCOPE_UNIVERSE, index_of(nl, link))
    body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    if family == sockets.AF_INET6:
        return body + u32(_IFA_FLAGS, _IFA_F_NODAD)
    if length < 31:
        last = int.from_bytes(packed, "big") | (1 << 32 - length) - 1
        body += attribute(_IFA_BROADCAST, last.to_bytes(4, "big"))
    return body


# -- routes and rules ----------------------------------------------------------------------------


def add_route(
    nl: Netlink,
    destination: str,
    *,
    via: str = "",
    link: str | int = 0,
    source: str = "",
    metric: int = 0,
    table: int = MAIN_TABLE,
    local: bool = False,
) -> None:
    """Add a route to `destination`, "0.0.0.0/0" or "::/0" for everything, by the gateway `via` or straight on a link.

    `source` is the address to speak from where the program has chosen none. `local`: what is sent there is for
    ourselves. Raises OSError: EEXIST, ENETUNREACH where no route leads to the gateway, ENETDOWN for a link that is
    down.
    """
    body = _route_body(nl, destination, via, link, source, metric, table, local)
    nl.request(_NEWROUTE, body, CREATE | EXCL, about=destination)


def delete_route(
    nl: Netlink, destination: str, *, via: str = "", link: str | int = 0, table: int = MAIN_TABLE, local: bool = False
) -> None:
    """Delete the route that `add_route` would add. Raises OSError (ESRCH)."""
    nl.request(_DELROUTE, _route_body(nl, destination, via, link, "", 0, table, local), about=destination)


def _route_body(
    nl: Netlink, destination: str, via: str, link: str | int, source: str, metric: int, table: int, local: bool
) -> bytes:
    family, packed, length = parse_address(destination)
    kind, scope = (_RTN_LOCAL, _SCOPE_HOST) if local else (_RTN_UNICAST, _SCOPE_UNIVERSE if via else _SCOPE_LINK)
    body = _RTMSG.pack(family, length, 0, 0, 0, _RTPROT_STATIC, scope, kind, 0) + u32(_RTA_TABLE, table)
    if length:
        body += attribute(_RTA_DST, packed)
    if via:
        body += attribute(_RTA_GATEWAY, address_bytes(family, via))
    if link:
        body += u32(_RTA_OIF, index_of(nl, link))
    if source:
        body += attribute(_RTA_PREFSRC, address_bytes(family, source))
    if metric:
        body += u32(_RTA_PRIORITY, metric)
    return body


def add_mark_rule(nl: Netlink, family: int, mark: int, table: int, priority: int) -> None:
    """Look up what bears a mark in a table of its own. Raises OSError: EEXIST, EAFNOSUPPORT without that family."""
    nl.request(_NEWRULE, _rule_body(family, mark, table, priority), CREATE | EXCL, about=f"rule {priority}")


def _rule_body(family: int, mark: int, table: int, priority: int) -> bytes:
    body = _FIB_RULE_HDR.pack(family, 0, 0, 0, 0, 0, 0, _FR_ACT_TO_TBL, 0) + u32(_FRA_PRIORITY, priority)
    return body + u32(_FRA_FWMARK, mark) + u32(_FRA_FWMASK, 0xFFFFFFFF) + u32(_FRA_TABLE, table)


# -- text ----------------------------------------------------------------------------------------


def parse_address(address: str) -> tuple[int, bytes, int]:
    """Family, bytes and length of the prefix of "172.17.0.2/16" or "fd00::2/64". Raises ValueError."""
    host, _, length = address.partition("/")
    family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
    packed = address_bytes(family, host)
    if not (length.isascii() and length.isdigit() and len(length) < 4 and int(length) <= 8 * len(packed)):
        raise ValueError(f"no address with the length of its prefix: {address}")
    return family, packed, int(length)


def address_bytes(family: int, address: str) -> bytes:
    """The bytes of an address without a prefix. Raises ValueError."""
    try:
        return sockets.inet_pton(family, address)
    except (OSError, ValueError):
        raise ValueError(f"no address of family {family}: {address}") from None


def mac_bytes(mac: str) -> bytes:
    """The six bytes of "02:42:ac:11:00:02". Raises ValueError."""
    try:
        packed = bytes.fromhex(mac.replace(":", ""))
    except ValueError:
        packed = b""
    if len(packed) != 6 or packed.hex(":") != mac.lower():
        raise ValueError(f"no hardware address: {mac}")
    return packed
