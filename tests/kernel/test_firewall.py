"""The firewall of the shared network namespace, by what gets through it.

A router with two bridges, two containers on the first and one on the second, and what its tap0 leads to: there, no
route leads back to the containers, so that only who is masqueraded gets an answer.
"""

from __future__ import annotations

import errno
import json
import socket
import struct
from typing import Any

import pytest

from rdock.linux import links, nftables
from rdock.network import firewall
from tests import netspace
from tests.namespace import in_namespace
from tests.netspace import Space

SOL_IPV6, IP_TRANSPARENT, IPV6_TRANSPARENT = 41, 19, 75
ROUTER = {"tap0": "10.0.2.100", "br-a": "172.30.1.1", "br-b": "172.30.2.1"}
ROUTER6 = {"tap0": "fd00::100", "br-a": "fd00:1::1", "br-b": "fd00:2::1"}
WORLD, WORLD6 = "198.51.100.1", "2001:db8::1"
CLIENT, CLIENT6 = "203.0.113.9", "2001:db8:9::9"


class Laboratory:
    def __init__(self, *, outward: tuple[str, ...] = ("br-a",), set_up: bool = True) -> None:
        self.world, self.a, self.neighbour, self.b = Space(), Space(), Space(), Space()
        self.router = Space()  # the process is in there now, as the plumber is
        self.nl = nftables.open_netfilter()
        self.transparent = firewall.set_up(self.nl, self.router.route) if set_up else None
        self._wire_world()
        for bridge in ("br-a", "br-b"):
            links.add_bridge(self.router.route, bridge, up=True)
            links.add_address(self.router.route, bridge, f"{ROUTER[bridge]}/24")
            links.add_address(self.router.route, bridge, f"{ROUTER6[bridge]}/64")
            links.add_address(self.router.route, bridge, firewall.LINK_LOCAL)
        self._wire(self.a, "br-a", 2)
        self._wire(self.neighbour, "br-a", 3)
        self._wire(self.b, "br-b", 2)
        for space in (self.world, self.a, self.neighbour, self.b, self.router):
            space.settle()
        for bridge in outward:
            firewall.open_network(self.nl, bridge)

    def _wire_world(self) -> None:
        router, world = self.router.route, self.world.route
        links.add_veth(router, "tap0", "up0", self.world.fd, up=True)
        links.change(world, "up0", up=True)
        links.change(world, "lo", up=True)
        for nl, link, address in (
            (router, "tap0", f"{ROUTER['tap0']}/24"),
            (router, "tap0", f"{ROUTER6['tap0']}/64"),
            (world, "up0", "10.0.2.2/24"),
            (world, "up0", "fd00::2/64"),
            (world, "lo", f"{WORLD}/32"),
            (world, "lo", f"{WORLD6}/128"),
        ):
            links.add_address(nl, link, address)
        links.add_route(router, "0.0.0.0/0", via="10.0.2.2")
        links.add_route(router, "::/0", via="fd00::2")

    def _wire(self, container: Space, bridge: str, number: int) -> None:
        nl = container.route
        links.add_veth(self.router.route, f"veth-{bridge[-1]}{number}", "eth0", container.fd, master=bridge, up=True)
        links.change(nl, "eth0", up=True)
        links.add_address(nl, "eth0", ROUTER[bridge][:-1] + f"{number}/24")
        links.add_address(nl, "eth0", ROUTER6[bridge][:-1] + f"{number}/64")
        links.add_route(nl, "0.0.0.0/0", via=ROUTER[bridge])
        links.add_route(nl, "::/0", via=ROUTER6[bridge])

    def nft(self) -> list[dict[str, Any]]:
        """What nft(8) says of the rule set."""
        listed: list[dict[str, Any]] = json.loads(self.router.run("nft", "-j", "list", "ruleset"))["nftables"]
        return listed


def both(client: Space, server: Space, address: str, port: int = 8080) -> str | None:
    """As whom the server sees the client, the same by TCP and UDP."""
    seen = {netspace.tcp(client, server, address, port), netspace.udp(client, server, address, port)}
    assert len(seen) == 1, seen
    return seen.pop()


def neither(client: Space, server: Space, address: str, port: int = 8080, *, at: str = "") -> bool:
    """Whether the client gets through by neither TCP nor UDP to what listens there, or `at` another address."""
    return not any(
        reach(client, server, address, port, at=at, within=netspace.SILENCE) for reach in (netspace.tcp, netspace.udp)
    )


# -- who reaches whom ----------------------------------------------------------------------------


def test_containers_of_one_bridge_reach_each_other_and_no_others() -> None:
    in_namespace(_isolation)


def _isolation() -> None:
    lab = Laboratory(outward=("br-a", "br-b"))
    assert both(lab.a, lab.neighbour, "172.30.1.3") == "172.30.1.2"
    assert both(lab.a, lab.neighbour, "fd00:1::3") == "fd00:1::2"
    for address in ("172.30.2.2", "fd00:2::2"):
        assert neither(lab.a, lab.b, address)
    for address in ("172.30.1.2", "fd00:1::2"):
        assert neither(lab.b, lab.a, address)


def test_without_the_rules_bridges_would_reach_each_other() -> None:
    """So that the silence in the test above is the firewall's."""
    in_namespace(_no_isolation)


def _no_isolation() -> None:
    lab = Laboratory()
    nftables.commit(lab.nl, [nftables.delete_table(firewall.TABLE)])
    assert both(lab.a, lab.b, "172.30.2.2") == "172.30.1.2"
    assert both(lab.a, lab.b, "fd00:2::2") == "fd00:1::2"
    assert both(lab.world, lab.router, ROUTER["tap0"]) == "10.0.2.2"


def test_isolated_ports_of_a_bridge() -> None:
    in_namespace(_isolated_ports)


def _isolated_ports() -> None:
    lab = Laboratory()
    for port in ("veth-a2", "veth-a3"):
        links.change(lab.router.route, port, isolated=True)
    assert neither(lab.a, lab.neighbour, "172.30.1.3")
    assert both(lab.a, lab.world, WORLD) == ROUTER["tap0"]
    # Nor by way of the router, where the frame goes back to the bridge that it came from.
    links.add_route(lab.a.route, "172.30.1.3/32", via=ROUTER["br-a"])
    assert neither(lab.a, lab.neighbour, "172.30.1.3")


def test_the_way_out() -> None:
    in_namespace(_the_way_out)


def _the_way_out() -> None:
    lab = Laboratory()
    assert both(lab.a, lab.world, WORLD) == ROUTER["tap0"]
    assert both(lab.a, lab.world, WORLD6) == ROUTER6["tap0"]
    assert neither(lab.b, lab.world, WORLD)
    assert neither(lab.b, lab.world, WORLD6)
    firewall.open_network(lab.nl, "br-b")
    firewall.open_network(lab.nl, "br-b")
    assert both(lab.b, lab.world, WORLD) == ROUTER["tap0"]
    firewall.close_network(lab.nl, "br-b")
    firewall.close_network(lab.nl, "br-b")
    assert neither(lab.b, lab.world, WORLD)
    assert both(lab.a, lab.world, WORLD) == ROUTER["tap0"]


def test_nothing_comes_in_unasked() -> None:
    in_namespace(_nothing_comes_in)


def _nothing_comes_in() -> None:
    lab = Laboratory()
    links.add_route(lab.world.route, "172.30.0.0/16", via=ROUTER["tap0"])
    links.add_route(lab.world.route, "fd00:1::/64", via=ROUTER6["tap0"])
    assert neither(lab.world, lab.a, "172.30.1.2")
    assert neither(lab.world, lab.a, "fd00:1::2")


def test_ports_of_the_router() -> None:
    in_namespace(_ports_of_the_router)


def _ports_of_the_router() -> None:
    lab = Laboratory()
    assert both(lab.a, lab.router, ROUTER["br-a"], 53) == "172.30.1.2"
    assert both(lab.a, lab.router, ROUTER6["br-a"], 53) == "fd00:1::2"
    assert both(lab.b, lab.router, ROUTER["br-b"], 53) == "172.30.2.2"  # internal, but it has names
    for port in (80, 5353):
        assert neither(lab.a, lab.router, ROUTER["br-a"], port)
        assert neither(lab.a, lab.router, ROUTER6["br-a"], port)
    for port in (53, 80):
        assert neither(lab.world, lab.router, ROUTER["tap0"], port)
        assert neither(lab.world, lab.router, ROUTER6["tap0"], port)
    assert both(lab.router, lab.router, "127.0.0.1", 80) == "127.0.0.1"
    assert both(lab.router, lab.a, "172.30.1.2") == ROUTER["br-a"]  # and the answers come in


def test_the_router_answers_pings_and_no_other_icmp() -> None:
    in_namespace(_pings)


def _pings() -> None:
    lab = Laboratory()
    assert _ping(lab.a, ROUTER["br-a"], 8) == 0
    assert _ping(lab.a, ROUTER["br-a"], 13) is None  # a timestamp, which every Linux gives
    nftables.commit(lab.nl, [nftables.delete_table(firewall.TABLE)])
    assert _ping(lab.a, ROUTER["br-a"], 13) == 14


def _ping(client: Space, address: str, kind: int) -> int | None:
    """The type of the answer to an ICMP request."""
    client.enter()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as asking:
        asking.settimeout(netspace.SILENCE)
        body = struct.pack("!HH12x", 7, 1)
        asking.sendto(struct.pack("!BBH", kind, 0, 0xFFFF - (kind << 8) - 8) + body, (address, 0))
        try:
            return asking.recv(100)[20]
        except TimeoutError:
            return None


def test_closed_ports_of_the_router_refuse_at_once() -> None:
    in_namespace(_refusals)


def _refusals() -> None:
    lab = Laboratory()
    yes, no = {"tcp": True, "udp": True}, {"tcp": False, "udp": False}
    for address in (ROUTER["br-a"], ROUTER6["br-a"], ROUTER["br-b"]):
        assert refused(lab.a, address, 81) == yes, address
    for address in ("172.30.2.2", "fd00:2::2"):
        assert refused(lab.a, address, 81) == no, address  # as with Docker
    for address in (ROUTER["tap0"], ROUTER6["tap0"]):
        assert refused(lab.world, address, 81) == no, address


def refused(client: Space, address: str, port: int) -> dict[str, bool]:
    """Whether who connects is told that nobody listens, by protocol; otherwise there is silence."""
    found = {}
    for name, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
        with client.socket(kind, "::" if ":" in address else "0.0.0.0") as asking:
            asking.settimeout(netspace.SILENCE)
            try:
                asking.connect((address, port))
                asking.send(b"ask")
                asking.recv(1)
            except ConnectionRefusedError:
                found[name] = True
            except TimeoutError:
                found[name] = False
    return found


def test_a_known_connection_opens_nothing_between_bridges() -> None:
    in_namespace(_known_connection)


def _known_connection() -> None:
    lab = Laboratory(outward=("br-a", "br-b"))
    # While the rules are away a connection becomes known.
    nftables.commit(lab.nl, [nftables.delete_table(firewall.TABLE)])
    _track(lab)
    waiting, asking = lab.b.socket(socket.SOCK_DGRAM, "172.30.2.2", 80), lab.a.socket(socket.SOCK_DGRAM, "0.0.0.0")
    with waiting, asking:
        assert netspace.exchange(asking, waiting, ("172.30.2.2", 80)) == "172.30.1.2"
        firewall.set_up(lab.nl, lab.router.route)
        for bridge in ("br-a", "br-b"):
            firewall.open_network(lab.nl, bridge)
        assert netspace.exchange(asking, waiting, ("172.30.2.2", 80), netspace.SILENCE) is None


def _track(lab: Laboratory) -> None:
    """Have connections tracked, as they are with the rules there, and nothing else done."""
    nft = nftables
    nft.commit(
        lab.nl,
        [
            nft.add_table("track"),
            nft.add_chain("track", "forward", nft.FORWARD, nft.FILTER_PRIORITY, accepts=True),
            nft.add_rule("track", "forward", nft.belongs_to_a_connection(), nft.accept()),
        ],
    )


@pytest.mark.parametrize("target", [WORLD, WORLD6])
def test_errors_about_what_was_sent_come_in(target: str) -> None:
    in_namespace(_errors, target)


def _errors(target: str) -> None:
    lab = Laboratory()
    assert refused(lab.a, target, 81) == {"tcp": True, "udp": True}  # the latter by ICMP


# -- in another's name -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("honest", "gateway"), [("172.30.1.2", ROUTER["br-a"]), ("fd00:1::2", ROUTER6["br-a"])], ids=["ipv4", "ipv6"]
)
@pytest.mark.parametrize("checked", [True, False])
def test_nobody_speaks_in_the_name_of_another_bridges_container(honest: str, gateway: str, checked: bool) -> None:
    """To a socket that waits for that one's answer, whose connection the firewall knows."""
    in_namespace(_in_anothers_name, honest, gateway, checked)


def _in_anothers_name(honest: str, gateway: str, checked: bool) -> None:
    if not checked:
        nftables.has_no_way_back = lambda: nftables._expression("fib-of-old")
    lab = Laboratory()
    assert both(lab.b, lab.router, (ROUTER6 if ":" in honest else ROUTER)["br-b"], 53)  # it knows the way by now
    with (
        lab.router.socket(socket.SOCK_DGRAM, gateway) as asking,
        lab.a.socket(socket.SOCK_DGRAM, honest, 80) as answering,
        _transparent(lab.b, socket.SOCK_DGRAM, honest, 80) as lying,
    ):
        asking.connect((honest, 80))
        asking.send(b"ask")
        data, peer = answering.recvfrom(10)
        asking.settimeout(netspace.SILENCE)
        lying.sendto(b"a lie", peer)
        if checked or ":" not in honest:
            with pytest.raises(TimeoutError):
                asking.recv(10)
        else:
            assert asking.recv(10) == b"a lie"  # so that the silence with the rules is theirs
        answering.sendto(data, peer)
        assert asking.recv(10) == b"ask"


# -- transparent sockets -------------------------------------------------------------------------


@pytest.mark.parametrize(("client", "target"), [(CLIENT, "172.30.2.2"), (CLIENT6, "fd00:2::2")])
def test_a_forwarder_keeps_the_clients_address(client: str, target: str) -> None:
    in_namespace(_forwarder, client, target)


def _forwarder(client: str, target: str) -> None:
    lab = Laboratory()
    if not lab.transparent:
        pytest.skip("nftables' socket expression is not in this kernel")
    assert _forward_tcp(lab, client, target) == client  # the network is internal: that is no matter
    asking, waiting = _transparent(lab.router, socket.SOCK_DGRAM, client), lab.b.socket(socket.SOCK_DGRAM, target, 80)
    with asking, waiting:
        asking.connect((target, 80))
        asking.send(b"ask")
        data, peer = waiting.recvfrom(10)
        assert (data, peer[:2]) == (b"ask", (client, 4444))
        waiting.sendto(b"asked", peer)
        assert asking.recv(10) == b"asked"
    # What a container sends there of itself is not for us, whatever listens.
    everything = "::" if ":" in client else "0.0.0.0"
    assert neither(lab.b, lab.router, client, at=everything)


def _transparent(router: Space, kind: int, client: str, port: int = 4444) -> socket.socket:
    """A socket of the router's that speaks as a client of elsewhere."""
    router.enter()
    made = socket.socket(socket.AF_INET6 if ":" in client else socket.AF_INET, kind)
    made.settimeout(netspace.PATIENCE)
    made.setsockopt(*((SOL_IPV6, IPV6_TRANSPARENT) if ":" in client else (socket.SOL_IP, IP_TRANSPARENT)), 1)
    made.bind((client, port))
    return made


def _forward_tcp(lab: Laboratory, client: str, target: str, within: float = netspace.PATIENCE) -> str | None:
    connection, listener = (
        _transparent(lab.router, socket.SOCK_STREAM, client),
        lab.b.socket(socket.SOCK_STREAM, target, 80),
    )
    with connection, listener:
        listener.listen()
        return netspace.talk(connection, listener, (target, 80), within)


def test_a_kernel_without_the_socket_expression() -> None:
    in_namespace(_without_the_expression)


def _without_the_expression() -> None:
    # The kernel refuses a name that it does not know; here it knows the right one.
    nftables.is_for_a_transparent_socket = lambda: nftables._expression("socket-of-old")
    lab = Laboratory()
    assert lab.transparent is False
    assert firewall.is_set_up(lab.nl) and not firewall.is_transparent(lab.nl)
    assert firewall.set_up(lab.nl, lab.router.route) is False
    assert _forward_tcp(lab, CLIENT, "172.30.2.2", netspace.SILENCE) is None
    assert both(lab.a, lab.world, WORLD) == ROUTER["tap0"]
    assert neither(lab.a, lab.b, "172.30.2.2")
    assert refused(lab.a, ROUTER["br-a"], 81) == {"tcp": True, "udp": True}


def test_a_kernel_without_the_reject_expression() -> None:
    in_namespace(_without_reject)


def _without_reject() -> None:
    nftables.reset = nftables.refuse = lambda: nftables._expression("reject-of-old")
    lab = Laboratory()
    assert both(lab.a, lab.world, WORLD) == ROUTER["tap0"]
    assert neither(lab.a, lab.router, ROUTER["br-a"], 81)
    assert refused(lab.a, ROUTER["br-a"], 81) == {"tcp": False, "udp": False}
    if lab.transparent:
        assert _forward_tcp(lab, CLIENT, "172.30.2.2") == CLIENT


# -- the rule set --------------------------------------------------------------------------------


def test_nft_reads_what_was_made() -> None:
    in_namespace(_nft)


def _nft() -> None:
    lab = Laboratory()
    firewall.open_network(lab.nl, "br-b")
    listed = lab.nft()
    (outward,) = [item["set"] for item in listed if "set" in item]
    assert (outward["name"], outward["type"], sorted(outward["elem"])) == ("outward", "ifname", ["br-a", "br-b"])
    chains = {c["chain"]["name"]: c["chain"] for c in listed if "chain" in c}
    assert {name: (c["type"], c["hook"], c["prio"], c["policy"]) for name, c in chains.items()} == {
        "sources": ("filter", "prerouting", -300, "accept"),
        "input": ("filter", "input", 0, "drop"),
        "forward": ("filter", "forward", 0, "drop"),
        "prerouting": ("filter", "prerouting", -150, "accept"),
        "postrouting": ("nat", "postrouting", 100, "accept"),
    }
    text = lab.router.run("nft", "list", "ruleset")
    for rule in (
        "\t\tct state established,related accept",
        'iifname @outward oifname "tap0" accept',
        'iifname "tap0" ct state established,related accept',
        'iifname != "tap0" meta l4proto tcp reject with tcp reset',
        'iifname != "tap0" meta l4proto udp reject',
        'iifname != "tap0" udp dport 53 accept',
        'iifname != "tap0" tcp dport 53 accept',
        'oifname "tap0" masquerade',
        "ip6 saddr :: accept",
        "ip6 saddr fe80::/10 accept",
        "meta nfproto ipv6 fib saddr . iif oif missing drop",
    ):
        assert rule in text
    firewall.close_network(lab.nl, "br-a")
    firewall.close_network(lab.nl, "br-b")
    assert [item["set"].get("elem", []) for item in lab.nft() if "set" in item] == [[]]


def test_to_set_up_again_changes_nothing() -> None:
    in_namespace(_again)


def _again() -> None:
    lab = Laboratory(set_up=False, outward=())
    assert not firewall.is_set_up(lab.nl) and not firewall.is_transparent(lab.nl)
    with pytest.raises(FileNotFoundError):
        firewall.open_network(lab.nl, "br-a")
    firewall.close_network(lab.nl, "br-a")
    first = firewall.set_up(lab.nl, lab.router.route)
    assert firewall.is_set_up(lab.nl) and firewall.is_transparent(lab.nl) is first
    firewall.open_network(lab.nl, "br-a")
    before, rules = lab.nft(), lab.router.ip("rule")
    assert firewall.set_up(lab.nl, lab.router.route) is first
    assert (lab.nft(), lab.router.ip("rule")) == (before, rules)


def test_a_batch_is_done_whole_or_not_at_all() -> None:
    in_namespace(_whole)


def _whole() -> None:
    Space()
    nl = nftables.open_netfilter()
    good = [nftables.add_table("t"), nftables.add_interface_set("t", "s", 1)]
    for bad, number in (
        (nftables.delete_table("nix"), errno.ENOENT),
        (nftables.add_table("t"), errno.EEXIST),
        (nftables.add_rule("t", "nix", nftables.accept()), errno.ENOENT),
    ):
        for changes in ([*good, bad], [*good, bad, nftables.add_interface("t", "s", "eth0")]):
            with pytest.raises(OSError) as caught:
                nftables.commit(nl, changes)
            assert caught.value.errno == number
            assert not nftables.has_table(nl, "t")
    nftables.commit(nl, good)
    assert nftables.has_table(nl, "t")
    nftables.commit(nl, [])


def test_whom_the_namespace_does_not_belong_to_may_nothing() -> None:
    in_namespace(_not_ours)


def _not_ours() -> None:
    with nftables.open_netfilter() as nl, pytest.raises(PermissionError):
        nftables.commit(nl, [nftables.add_table("rdock-test")])


@pytest.mark.parametrize("name", ["", "a" * 16, "a\0b"])
def test_what_no_interface_can_be_called(name: str) -> None:
    with pytest.raises(ValueError, match="no name of an interface"):
        nftables.add_interface("t", "s", name)
