"""Netfilter's tables, by nfnetlink (linux/netfilter/nfnetlink.h, nf_tables.h): as much as firewall.py needs.

Functions give `Change`s, which `commit` does all or none of. A rule is made of expressions, each the bytes of
one or more of the kernel's: matches first, then what is to happen. All is in family inet, which sees IPv4 and IPv6.
"""

from __future__ import annotations

import errno
import sys

from rdock.linux.netlink import CREATE, EXCL, NETFILTER, Netlink, attribute, big_u32, nested, text, u8
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# fmt: off
_SUBSYSTEM, _BATCH_BEGIN, _BATCH_END, _APPEND = 10, 16, 17, 0x800
_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN, _NEWRULE, _NEWSET, _NEWSETELEM, _DELSETELEM = (
    0, 1, 2, 3, 4, 6, 9, 12, 14)
_NFPROTO_UNSPEC, _NFPROTO_INET = 0, 1
_TABLE_NAME = 1
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE, _HOOK_HOOKNUM, _HOOK_PRIORITY = 1, 3, 4, 5, 7, 1, 2
_SET_TABLE, _SET_NAME, _SET_FLAGS, _SET_KEY_TYPE, _SET_KEY_LEN, _SET_ID, _SET_USERDATA = 1, 2, 3, 4, 5, 10, 13
_ELEMENTS_TABLE, _ELEMENTS_SET, _ELEMENTS_LIST, _ELEMENT_KEY = 1, 2, 3, 1
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS, _LIST_ELEMENT, _EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2, 4, 1, 1, 2
_DATA_VALUE, _DATA_VERDICT, _VERDICT_CODE = 1, 2, 1
_VERDICT_REGISTER, _REGISTER, _EQUAL, _NOT_EQUAL = 0, 1, 0, 1
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
# Not the kernel's but nft's: its number for this kind of key, and a note that it has the byte order of the machine.
# By these it shows the names.
_TYPE_IFNAME, _KEYS_HAVE_HOST_ORDER = 41, b"\0\4" + (1).to_bytes(4, sys.byteorder)
# fmt: on

PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
RAW_PRIORITY, MANGLE_PRIORITY, FILTER_PRIORITY, SOURCE_NAT_PRIORITY = -300, -150, 0, 100
IFNAME_SIZE = 16
_META = {"mark": 3, "iifname": 6, "oifname": 7, "nfproto": 15, "l4proto": 16}
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
_IPV6 = 10  # NFPROTO_IPV6
_IPV6_SOURCE, _IPV6_SIZE = 8, 16  # in its header, RFC 8200
_FIB_SADDR, _FIB_IIF, _FIB_PRESENT, _FIB_RESULT_OIF = 1, 8, 32, 1
_ESTABLISHED, _RELATED = 2, 4
_REJECT_WITH_RESET, _REJECT_WITH_ICMP, _PORT_UNREACHABLE = 1, 2, 1


class Change(Value):
    """Something that the kernel is to make or delete."""

    kind: int
    flags: int
    body: bytes


def open_netfilter() -> Netlink:
    """A socket for the tables of the network namespace that we are in. Raises OSError (EPROTONOSUPPORT)."""
    return Netlink(NETFILTER)


def commit(nl: Netlink, changes: Iterable[Change]) -> None:
    """Make all of the changes, or none if one is impossible.

    Raises OSError: EEXIST and ENOENT for things that are there or not, also for a kind of expression that the
    kernel does not know; EOPNOTSUPP for a kernel without nf_tables; EPERM.
    """
    frame = bytes((_NFPROTO_UNSPEC, 0)) + _SUBSYSTEM.to_bytes(2, "big")
    requests = [(change.kind, change.flags, change.body) for change in changes]
    nl.batch((_BATCH_BEGIN, frame), requests, (_BATCH_END, frame))


def _change(kind: int, flags: int, *attributes: bytes) -> Change:
    return Change(_SUBSYSTEM << 8 | kind, flags, _inet(attributes))


def _inet(attributes: Iterable[bytes]) -> bytes:
    """struct nfgenmsg of the family, and attributes."""
    return bytes((_NFPROTO_INET, 0, 0, 0)) + b"".join(attributes)


# -- tables, chains, sets, rules -----------------------------------------------------------------


def add_table(table: str) -> Change:
    """EEXIST if there is one of this name."""
    return _change(_NEWTABLE, CREATE | EXCL, text(_TABLE_NAME, table))


def delete_table(table: str) -> Change:
    """With all that is in it. ENOENT if there is none."""
    return _change(_DELTABLE, 0, text(_TABLE_NAME, table))


def has_table(nl: Netlink, table: str) -> bool:
    """Whether there is a table of this name."""
    return _is_there(nl, _GETTABLE, text(_TABLE_NAME, table))


def has_chain(nl: Netlink, table: str, name: str) -> bool:
    """Whether there is such a table, with a chain of this name."""
    return _is_there(nl, _GETCHAIN, text(_CHAIN_TABLE, table), text(_CHAIN_NAME, name))


def _is_there(nl: Netlink, kind: int, *attributes: bytes) -> bool:
    try:
        nl.request(_SUBSYSTEM << 8 | kind, _inet(attributes))
    except OSError as e:
        if e.errno != errno.ENOENT:
            raise
        return False
    return True


def add_chain(table: str, name: str, hook: int, priority: int, *, accepts: bool, nat: bool = False) -> Change:
    """A chain that packets pass at a hook (FORWARD…); what no rule decides on is accepted or dropped."""
    place = nested(_CHAIN_HOOK, (big_u32(_HOOK_HOOKNUM, hook), big_u32(_HOOK_PRIORITY, priority)))
    return _change(
        _NEWCHAIN,
        CREATE | EXCL,
        text(_CHAIN_TABLE, table),
        text(_CHAIN_NAME, name),
        place,
        big_u32(_CHAIN_POLICY, int(accepts)),
        text(_CHAIN_TYPE, "nat" if nat else "filter"),
    )


def add_interface_set(table: str, name: str, number: int) -> Change:
    """A set of names of interfaces. `number` must be another for each set of a batch."""
    return _change(
        _NEWSET,
        CREATE | EXCL,
        text(_SET_TABLE, table),
        text(_SET_NAME, name),
        big_u32(_SET_FLAGS, 0),
        big_u32(_SET_KEY_TYPE, _TYPE_IFNAME),
        big_u32(_SET_KEY_LEN, IFNAME_SIZE),
        big_u32(_SET_ID, number),
        attribute(_SET_USERDATA, _KEYS_HAVE_HOST_ORDER),
    )


def add_interface(table: str, name: str, interface: str) -> Change:
    """Put a name into a set; nothing happens if it is there already."""
    return _change(_NEWSETELEM, CREATE, *_element(table, name, interface))


def delete_interface(table: str, name: str, interface: str) -> Change:
    """Take a name out of a set. ENOENT if it is not there."""
    return _change(_DELSETELEM, 0, *_element(table, name, interface))


def _element(table: str, name: str, interface: str) -> Sequence[bytes]:
    key = nested(_ELEMENT_KEY, (attribute(_DATA_VALUE, interface_bytes(interface)),))
    listed = nested(_ELEMENTS_LIST, (nested(_LIST_ELEMENT, (key,)),))
    return text(_ELEMENTS_TABLE, table), text(_ELEMENTS_SET, name), listed


def add_rule(table: str, chain: str, *expressions: bytes) -> Change:
    """At the end of a chain."""
    listed = nested(_RULE_EXPRESSIONS, expressions)
    return _change(_NEWRULE, CREATE | _APPEND, text(_RULE_TABLE, table), text(_RULE_CHAIN, chain), listed)


# -- expressions ---------------------------------------------------------------------------------


def _expression(name: str, *attributes: bytes) -> bytes:
    body = nested(_EXPRESSION_DATA, attributes)
    return nested(_LIST_ELEMENT, (text(_EXPRESSION_NAME, name), body))


def _compare(value: bytes, *, negated: bool = False) -> bytes:
    """Go on if the register's contents are these."""
    data = nested(3, (attribute(_DATA_VALUE, value),))
    return _expression("cmp", big_u32(1, _REGISTER), big_u32(2, _NOT_EQUAL if negated else _EQUAL), data)


def _load_meta(key: str) -> bytes:
    return _expression("meta", big_u32(1, _REGISTER), big_u32(2, _META[key]))


def interface_bytes(name: str) -> bytes:
    """A name as the kernel has it in a register. Raises ValueError if no interface can have it."""
    encoded = name.encode()
    if not 0 < len(encoded) < IFNAME_SIZE or 0 in encoded:
        raise ValueError(f"no name of an interface: {name!r}")
    return encoded + bytes(IFNAME_SIZE - len(encoded))


def interface_is(key: str, name: str, *, negated: bool = False) -> bytes:
    """Whether the packet came in by an interface ("iifname") or is to go out by it ("oifname"), or by another."""
    return _load_meta(key) + _compare(interface_bytes(name), negated=negated)


def interface_in(key: str, name: str) -> bytes:
    """Whether the interface's name is in a set of this table."""
    return _load_meta(key) + _expression("lookup", text(1, name), big_u32(2, _REGISTER))


def protocol_is(number: int) -> bytes:
    """Whether the packet is TCP, UDP…"""
    return _load_meta("l4proto") + _compare(bytes((number,)))


def destination_port_is(port: int) -> bytes:
    """For TCP and UDP: match `protocol_is` first."""
    return _load_transport(2, 2) + _compare(port.to_bytes(2, "big"))


def icmp_type_is(number: int) -> bytes:
    """For ICMP and ICMPv6: match `protocol_is` first."""
    return _load_transport(0, 1) + _compare(bytes((number,)))


def _load_transport(offset: int, size: int) -> bytes:
    return _load_payload(_TRANSPORT_HEADER, offset, size)


def _load_payload(header: int, offset: int, size: int) -> bytes:
    return _expression("payload", big_u32(1, _REGISTER), big_u32(2, header), big_u32(3, offset), big_u32(4, size))


def _mask(mask: bytes) -> bytes:
    """Leave of the register's contents what the mask has."""
    return _expression(
        "bitwise",
        big_u32(1, _REGISTER),
        big_u32(2, _REGISTER),
        big_u32(3, len(mask)),
        nested(4, (attribute(_DATA_VALUE, mask),)),
        nested(5, (attribute(_DATA_VALUE, bytes(len(mask))),)),
    )


def is_ipv6() -> bytes:
    """Whether it is a packet of IPv6."""
    return _load_meta("nfproto") + _compare(bytes((_IPV6,)))


def source6_is_in(block: bytes, length: int) -> bytes:
    """Whether the source is in a block, given by the 16 bytes of its first address and the length of its prefix.

    For IPv6: match `is_ipv6` first.
    """
    bits = 8 * _IPV6_SIZE
    mask = ((1 << length) - 1 << bits - length).to_bytes(_IPV6_SIZE, "big")
    return _load_payload(_NETWORK_HEADER, _IPV6_SOURCE, _IPV6_SIZE) + _mask(mask) + _compare(block)


def has_no_way_back() -> bytes:
    """Whether no route leads to the packet's source by the interface that it came in by: what rp_filter=1 is for
    IPv4. At PREROUTING. Not every kernel knows this expression."""
    flags = _FIB_SADDR | _FIB_IIF | _FIB_PRESENT
    load = _expression("fib", big_u32(1, _REGISTER), big_u32(2, _FIB_RESULT_OIF), big_u32(3, flags))
    return load + _compare(bytes(4))


def belongs_to_a_connection() -> bytes:
    """Whether it is part of a connection known already, or an error about one."""
    mask = (_ESTABLISHED | _RELATED).to_bytes(4, sys.byteorder)
    load = _expression("ct", big_u32(1, _REGISTER), big_u32(2, 0))
    return load + _mask(mask) + _compare(bytes(4), negated=True)


def is_for_a_transparent_socket() -> bytes:
    """Whether a socket with IP_TRANSPARENT (ip(7)) waits for it. Not every kernel knows this expression."""
    return _expression("socket", big_u32(1, 0), big_u32(2, _REGISTER)) + _compare(b"\1")


def set_mark(mark: int) -> bytes:
    """Give the packet a mark, by which policy rules choose a routing table."""
    value = nested(2, (attribute(_DATA_VALUE, mark.to_bytes(4, sys.byteorder)),))
    load = _expression("immediate", big_u32(1, _REGISTER), value)
    return load + _expression("meta", big_u32(2, _META["mark"]), big_u32(3, _REGISTER))


def accept() -> bytes:
    verdict = nested(_DATA_VERDICT, (big_u32(_VERDICT_CODE, 1),))
    return _expression("immediate", big_u32(1, _VERDICT_REGISTER), nested(2, (verdict,)))


def drop() -> bytes:
    verdict = nested(_DATA_VERDICT, (big_u32(_VERDICT_CODE, 0),))
    return _expression("immediate", big_u32(1, _VERDICT_REGISTER), nested(2, (verdict,)))


def reset() -> bytes:
    """Refuse a packet of TCP, as if nobody listened. Not every kernel knows this expression."""
    return _expression("reject", big_u32(1, _REJECT_WITH_RESET))


def refuse() -> bytes:
    """Tell the sender, by ICMP of its family, that nobody listens. Not every kernel knows this expression."""
    return _expression("reject", big_u32(1, _REJECT_WITH_ICMP), u8(2, _PORT_UNREACHABLE))


def masquerade() -> bytes:
    """In a nat chain at POSTROUTING: send it on with the address of the interface that it leaves by."""
    return _expression("masq")
