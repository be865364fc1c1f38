"""Links, addresses, routes and rules made by rtnetlink, as ip(8) sees them."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

import pytest

from rdock.linux import links
from rdock.linux.netlink import Netlink
from tests import netspace
from tests.namespace import in_namespace
from tests.netspace import Space

BRIDGE_MAC, MAC, PEER_MAC = "02:42:00:00:00:01", "02:42:00:00:00:02", "02:42:00:00:00:03"


def number_of(call: Callable[[], object]) -> int | None:
    """The errno with which a call fails."""
    try:
        call()
    except OSError as e:
        return e.errno
    return None


def test_a_bridge_with_a_container() -> None:
    in_namespace(_a_bridge_with_a_container)


def _a_bridge_with_a_container() -> None:
    router, inside = Space(), Space()
    nl = router.route
    links.add_bridge(nl, "br0", mtu=1400, mac=BRIDGE_MAC, up=True)
    links.add_veth(nl, "veth0", "eth0", inside.fd, mac=MAC, peer_mac=PEER_MAC, mtu=1400, master="br0", up=True)
    links.change(inside.route, "eth0", up=True)
    links.add_address(nl, "br0", "172.30.0.1/16")
    links.add_address(nl, "br0", "fd00::1/64")
    links.add_address(inside.route, "eth0", "172.30.0.2/16")
    links.add_address(inside.route, "eth0", "fd00::2/64")
    links.add_route(inside.route, "0.0.0.0/0", via="172.30.0.1", link="eth0")
    links.add_route(inside.route, "::/0", via="fd00::1", metric=7)

    (bridge,) = router.ip("-d", "link", "show", "br0")
    assert (bridge["mtu"], bridge["address"], "UP" in bridge["flags"]) == (1400, BRIDGE_MAC, True)
    data = bridge["linkinfo"]["info_data"]
    assert (data["forward_delay"], data["stp_state"], data["vlan_filtering"], data["mcast_snooping"]) == (0, 0, 0, 0)
    (port,) = router.ip("-d", "link", "show", "veth0")
    assert (port["master"], port["address"], port["mtu"], port["linkinfo"]["info_kind"]) == ("br0", MAC, 1400, "veth")
    (end,) = inside.ip("-d", "addr", "show", "eth0")
    assert (end["address"], end["mtu"], end["operstate"]) == (PEER_MAC, 1400, "UP")
    addresses = {(a["local"], a["prefixlen"]): a for a in end["addr_info"]}
    assert addresses["172.30.0.2", 16]["broadcast"] == "172.30.255.255"
    assert not addresses["fd00::2", 64].get("tentative")
    (default,) = inside.ip("route", "show", "default")
    assert (default["gateway"], default["dev"]) == ("172.30.0.1", "eth0")
    (default,) = inside.ip("-6", "route", "show", "default")
    assert (default["gateway"], default["metric"]) == ("fd00::1", 7)

    for space in (router, inside):
        space.settle()
    for address in ("172.30.0.1", "fd00::1"):
        assert netspace.tcp(inside, router, address) in ("172.30.0.2", "fd00::2")


def test_the_lists_are_those_of_ip() -> None:
    in_namespace(_the_lists_are_those_of_ip)


def _the_lists_are_those_of_ip() -> None:
    router, inside = Space(), Space()
    nl = router.route
    links.add_bridge(nl, "br0", up=True)
    for number in range(200):  # more than one datagram of answers
        links.add_veth(nl, f"veth{number}", f"eth{number}", inside.fd, master="br0")
        links.add_address(inside.route, f"eth{number}", f"10.{number}.0.2/24")
    links.add_address(nl, "br0", "fd00::1/64")
    theirs = {
        (link["ifindex"], link["ifname"], link.get("linkinfo", {}).get("info_kind", ""), link["address"], link["mtu"],
         "UP" in link["flags"], link["operstate"] == "UP", link.get("master", ""))
        for link in router.ip("-d", "link")
    }  # fmt: skip
    ours = links.list_links(nl)
    names = {link.index: link.name for link in ours} | {0: ""}
    assert len(ours) == 202
    assert {(k.index, k.name, k.kind, k.mac, k.mtu, k.up, k.running, names[k.master]) for k in ours} == theirs
    (seventh,) = inside.ip("-4", "addr", "show", "eth7")
    assert [f"{a['local']}/{a['prefixlen']}" for a in seventh["addr_info"]] == ["10.7.0.2/24"]
    assert links.find(nl, "br0") in ours


def test_changes() -> None:
    in_namespace(_changes)


def _changes() -> None:
    here = Space()
    nl = here.route
    links.add_bridge(nl, "br0")
    links.add_veth(nl, "a", "b", here.fd)
    links.change(nl, "a", master="br0", isolated=True)
    (port,) = here.ip("-d", "link", "show", "a")
    data = port["linkinfo"]["info_slave_data"]
    assert (port["master"], data["isolated"]) == ("br0", True)
    links.change(nl, "a", isolated=False)
    (port,) = here.ip("-d", "link", "show", "a")
    data = port["linkinfo"]["info_slave_data"]
    assert not data["isolated"]

    links.change(nl, links.index_of(nl, "a"), name="c", mac=MAC, mtu=1300, master=0, up=True)
    found = links.find(nl, "c")
    assert (found.mac, found.mtu, found.master, found.up) == (MAC, 1300, 0, True)
    links.change(nl, "c", mtu=1200)
    assert links.find(nl, "c").up  # what is not mentioned stays
    links.change(nl, "c", up=False)
    assert not links.find(nl, "c").up

    links.delete(nl, "b")
    assert number_of(lambda: links.find(nl, "c")) == errno.ENODEV  # the other end is gone too


def test_routes_and_rules() -> None:
    in_namespace(_routes_and_rules)


def _routes_and_rules() -> None:
    space = Space()
    nl = space.route
    links.change(nl, links.LOOPBACK, up=True)
    links.add_bridge(nl, "br0", up=True)
    links.add_address(nl, "br0", "10.1.0.1/24")
    links.add_route(nl, "10.9.0.0/16", link="br0", source="10.1.0.1")
    links.add_route(nl, "10.8.0.0/16", via="10.1.0.9", table=77)
    for family, everything in ((socket.AF_INET, "0.0.0.0/0"), (socket.AF_INET6, "::/0")):
        links.add_mark_rule(nl, family, 1, 100, 90)
        links.add_route(nl, everything, link="lo", table=100, local=True)
        option = "-4" if family == socket.AF_INET else "-6"
        (rule,) = [r for r in space.ip(option, "rule") if r["priority"] == 90]
        assert (rule["fwmark"], rule["table"]) == ("0x1", "100")
        (route,) = space.ip(option, "route", "show", "table", "100")
        assert (route["type"], route["dst"], route["dev"]) == ("local", "default", "lo")
    (onlink,) = space.ip("route", "show", "10.9.0.0/16")
    assert (onlink["dev"], onlink["scope"], onlink["prefsrc"]) == ("br0", "link", "10.1.0.1")
    assert space.ip("route", "show", "table", "77")[0]["gateway"] == "10.1.0.9"

    links.delete_route(nl, "10.9.0.0/16", link="br0")
    links.delete_route(nl, "0.0.0.0/0", link="lo", table=100, local=True)
    assert space.ip("route", "show", "10.9.0.0/16") == []
    assert space.run("ip", "-4", "route", "show", "table", "all").count("table 100") == 0


@pytest.mark.parametrize("mode", list(links.MACVLAN_MODES))
def test_a_macvlan_is_made_where_it_belongs(mode: str) -> None:
    in_namespace(_a_macvlan, mode)


def _a_macvlan(mode: str) -> None:
    here, inside, outside = Space(), Space(), Space()
    links.add_veth(here.route, "parent", "far", outside.fd, up=True)
    links.change(outside.route, "far", up=True)
    mac = "" if mode == "passthru" else MAC
    links.add_macvlan(here.route, "eth0", "parent", inside.fd, mode=mode, mac=mac, mtu=1400)
    (made,) = inside.ip("-d", "link", "show", "eth0")
    assert (made["linkinfo"]["info_kind"], made["linkinfo"]["info_data"]["mode"]) == ("macvlan", mode)
    assert made["mtu"] == 1400 and mac in ("", made["address"])
    assert [link.name for link in links.list_links(here.route)] == ["lo", "parent"]
    links.change(inside.route, "eth0", up=True)
    links.add_address(inside.route, "eth0", "10.1.0.2/24")
    links.add_address(outside.route, "far", "10.1.0.1/24")
    for space in (here, inside, outside):
        space.settle()
    assert netspace.udp(inside, outside, "10.1.0.1") == "10.1.0.2"


def test_errors_carry_the_kernels_number_and_words() -> None:
    in_namespace(_errors)


def _errors() -> None:
    with Netlink() as foreign:  # of the namespace that the test was started in, which belongs to the machine
        assert number_of(lambda: links.add_bridge(foreign, "rdock-test")) == errno.EPERM
    space, other = Space(), Space()
    nl = space.route
    links.add_bridge(nl, "br0", up=True)
    links.add_address(nl, "br0", "10.1.0.1/24")
    refused: list[tuple[int, Callable[[], object]]] = [
        (errno.EEXIST, lambda: links.add_bridge(nl, "br0")),
        (errno.EEXIST, lambda: links.add_address(nl, "br0", "10.1.0.1/24")),
        (errno.ENODEV, lambda: links.delete(nl, "nix")),
        (errno.ENODEV, lambda: links.change(nl, "nix", up=True)),
        (errno.ENODEV, lambda: links.change(nl, "br0", master="nix")),
        (errno.ENODEV, lambda: links.add_address(nl, "nix", "10.1.0.1/24")),
        (errno.ENETUNREACH, lambda: links.add_route(nl, "0.0.0.0/0", via="192.0.2.1")),
        (errno.EINVAL, lambda: links.change(nl, "br0", mtu=1 << 30)),
        (errno.ERANGE, lambda: links.add_bridge(nl, "a" * 16)),
        (errno.EBADF, lambda: links.add_veth(nl, "v", "w", 1023)),
        (errno.EINVAL, lambda: links.add_veth(nl, "v", "w", os.open("/dev/null", os.O_RDONLY))),
        (errno.EOPNOTSUPP, lambda: links.add_veth(nl, "v", "w", other.fd, master="lo")),
    ]
    for expected, call in refused:
        assert number_of(call) == expected, (expected, call)
    # Nothing is left of what failed in the middle, and the socket is of use yet.
    assert [link.name for link in links.list_links(nl)] == ["lo", "br0"]
    assert [link.name for link in links.list_links(other.route)] == ["lo"]
    with pytest.raises(OSError, match=r"Invalid argument: mtu greater than device maximum: 'br0'"):
        links.change(nl, "br0", mtu=1 << 30)


@pytest.mark.parametrize(
    "address",
    ["", "10.0.0.1", "10.0.0.1/", "10.0.0.1/33", "10.0.0.1/-1", "10.0.0.1/1/1", "10.0.0/8", "fd00::/129", "x/8",
     "::1/٣", "10.0.0.1\0/8"],
)  # fmt: skip
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        links.parse_address(address)


@pytest.mark.parametrize(
    "mac", ["", "02:42", "02:42:00:00:00:0g", "024200000001", "02:42:00:00:00:01:02", " 2:42:00:00:00:01"]
)
def test_what_is_no_hardware_address_is_refused(mac: str) -> None:
    with pytest.raises(ValueError, match="no hardware address"):
        links.mac_bytes(mac)


def test_answers_to_an_abandoned_request_are_passed_over() -> None:
    in_namespace(_abandoned)


def _abandoned() -> None:
    space = Space()
    nl = space.route
    links.add_bridge(nl, "br0")
    # Its answers wait in the socket, as after an exception between sending and receiving.
    real = nl._receive
    nl._receive = _interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        links.list_links(nl)
    nl._receive = real  # type: ignore[method-assign]
    assert links.find(nl, "br0").name == "br0"
    assert number_of(lambda: links.delete(nl, "nix")) == errno.ENODEV
    assert [link.name for link in links.list_links(nl)] == ["lo", "br0"]


def _interrupted(first: int, last: int) -> None:
    raise KeyboardInterrupt
