"""Networks as records: what is made of what is asked for, what is refused, and that nothing is given out twice."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from rdock import paths
from rdock.cli import network, usage
from rdock.cli.network_create import consolidate
from rdock.errors import Conflict, DataLoss, Forbidden, InvalidParameter, NotFound, RdockError, Unsupported
from rdock.network import addresses, describe, leases, networks, options, subnet
from rdock.network.networks import Network, Wanted
from rdock.state import record

BRIDGE = "com.docker.network.bridge."
WRONG = "invalid network config: "


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That of the records, with nothing in it yet."""
    monkeypatch.setitem(paths._home, "XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "networks"


def create(name: str, *pools: dict[str, Any], **rest: Any) -> Network:
    return networks.create(Wanted(name, pools=pools, **rest))


def refusal_of(kind: type[RdockError], name: str = "net", *pools: dict[str, Any], **rest: Any) -> str:
    before = sorted(network.id for network in networks.all_networks())
    with pytest.raises(kind) as refusal:
        create(name, *pools, **rest)
    assert sorted(network.id for network in networks.all_networks()) == before
    assert "\n" not in refusal.value.message
    return refusal.value.message


# -- finding ---------------------------------------------------------------------------------------


def test_three_are_always_there(directory: Path) -> None:
    found = networks.all_networks()
    assert [(one.name, one.driver) for one in found] == [("bridge", "bridge"), ("host", "host"), ("none", "null")]
    assert len({one.id for one in found}) == 3 and all(len(one.id) == 64 and int(one.id, 16) for one in found)
    assert all(networks.lookup(name) == one for one in found for name in (one.name, one.id, one.id[:12]))
    assert not directory.exists(), "reading has written"


def test_found_by_name_id_and_beginning() -> None:
    one, other = create("one"), create("other")
    assert networks.lookup("one") == networks.lookup(one.id) == networks.lookup(one.id[:12]) == one
    named = create(other.id[:12])  # a name counts more than the beginning of an id
    assert networks.lookup(other.id[:12]) == named
    with pytest.raises(NotFound, match=r"^network nosuch not found$"):
        networks.lookup("nosuch")
    with pytest.raises(NotFound):
        networks.lookup("")


def test_a_beginning_that_several_have() -> None:
    made = [create(f"net{number}") for number in range(12)]
    prefix = next(p for p in "0123456789abcdef" if sum(one.id.startswith(p) for one in made) > 1)
    count = sum(one.id.startswith(prefix) for one in networks.all_networks())
    with pytest.raises(InvalidParameter) as refusal:
        networks.lookup(prefix)
    assert refusal.value.message == f"network {prefix} is ambiguous ({count} matches found based on ID prefix)"


def test_the_default_one_has_the_first_block_also_when_used_last() -> None:
    free = next(b for b in networks.pools.blocks() if not any(b.overlaps(t) for t in subnet.blocks_of_host()))
    made = create("first")
    default = networks.lookup("bridge")
    assert [pool.block for pool in default.pools] == [free] and made.pools[0].block != free
    with networks.locked():
        assert networks.settled(default) == default
        assert networks.settled(made) == made


def test_a_record_comes_back_as_it_was() -> None:
    given = {
        "Subnet": "10.77.0.0/24", "Gateway": "10.77.0.9", "IPRange": "10.77.0.128/25",
        "AuxiliaryAddresses": {"router": "10.77.0.4"},
    }  # fmt: skip
    made = create(
        "net", given, {"Subnet": "fd77::/64"}, ipv6=True, internal=True, attachable=True, labels={"a": "b=c"},
        options={"mtu": "1400", BRIDGE + "enable_icc": "0"},
    )  # fmt: skip
    assert networks.lookup("net") == made
    assert [pool.to_json() for pool in made.pools] == [given, {"Subnet": "fd77::/64", "Gateway": "fd77::1"}]
    assert made.options == {"com.docker.network.driver.mtu": "1400", BRIDGE + "enable_icc": "false"}
    assert made.chosen and made.bridge == f"br-{made.id[:12]}"


# -- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[]", b"\xff", b"{}", b'{"Name": 5}', b'{"Pools": [{}]}', b'{"Pools": [{"Subnet": "x"}]}',
        b'{"Pools": 7}', b'{"Pools": [7]}', b'{"format": 99}',
    ],
)  # fmt: skip
def test_a_damaged_record_stops_nobody_but_who_needs_it(directory: Path, text: bytes) -> None:
    good, bad = create("good"), create("bad")
    (directory / f"{bad.id}.json").write_bytes(text)
    assert networks.lookup("good") == good and networks.lookup("bridge").name == "bridge"
    damaged: list[DataLoss] = []
    assert good in networks.all_networks(damaged)
    assert len(damaged) == 1 and bad.id in damaged[0].message and bad.id[:12] in damaged[0].hint
    with pytest.raises(DataLoss):
        networks.lookup("bad")
    with pytest.raises(DataLoss):
        create("new")  # its block might be that of the damaged one
    with networks.locked():
        networks.forget(bad.id)
    create("new")


def test_the_damaged_record_of_a_network_that_is_always_there(directory: Path) -> None:
    """Its name and its id do not lead past the damage; without the record it is as new."""
    create("net")
    default = networks.lookup("bridge")
    (directory / f"{default.id}.json").write_text("{")
    for name in ("bridge", default.id, default.id[:12]):
        with pytest.raises(DataLoss):
            networks.lookup(name)
    assert networks.lookup("host").name == networks.lookup(networks.lookup("host").id).name == "host"
    with networks.locked():
        networks.forget(default.id)
        assert networks.settled(networks.lookup("bridge")).pools


def test_what_is_no_record_is_left_alone(directory: Path) -> None:
    create("net")
    for name in ("x.json", "a" * 64, "A" * 64 + ".json", "b" * 64 + ".json.123.tmp"):
        (directory / name).write_text("{")
    assert [network.name for network in networks.all_networks()][3:] == ["net"]


# -- what is asked for -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "name is required"),
        ("-x", "invalid network name: '-x': only '[a-zA-Z0-9][a-zA-Z0-9_.-]' are allowed"),
        ("a b", "invalid network name: 'a b': only '[a-zA-Z0-9][a-zA-Z0-9_.-]' are allowed"),
        ("../x", "invalid network name: '../x': only '[a-zA-Z0-9][a-zA-Z0-9_.-]' are allowed"),
        ("ä", "invalid network name: 'ä': only '[a-zA-Z0-9][a-zA-Z0-9_.-]' are allowed"),
    ],
)
def test_names(name: str, says: str) -> None:
    assert refusal_of(InvalidParameter, name) == says


def test_names_that_are_taken() -> None:
    create("net")
    assert refusal_of(Conflict, "net") == "network with name net already exists"
    for name in networks.PREDEFINED:
        assert refusal_of(Forbidden, name) == f"operation is not permitted on predefined {name} network"


@pytest.mark.parametrize(
    ("driver", "kind", "says"),
    [
        ("host", Forbidden, 'only one instance of "host" network is allowed'),
        ("none", Forbidden, 'only one instance of "null" network is allowed'),
        ("weave", NotFound, 'could not find plugin weave in v1 plugin registry: plugin "weave" not found'),
        ("overlay", InvalidParameter, "the overlay driver is not there yet: it needs several machines"),
    ],
)
def test_drivers(driver: str, kind: type[RdockError], says: str) -> None:
    assert refusal_of(kind, driver=driver) == says


@pytest.mark.parametrize(("pool", "says"), [
    ({"Subnet": "nonsense"}, "invalid subnet nonsense: invalid CIDR block notation"),
    ({"Subnet": "10.0.0.0"}, "invalid subnet 10.0.0.0: invalid CIDR block notation"),
    ({"Subnet": "10.0.0.0/33"}, "invalid subnet 10.0.0.0/33: invalid CIDR block notation"),
    ({"Subnet": "10.9.0.1/24"}, "invalid subnet 10.9.0.1/24: it should be 10.9.0.0/24"),
    ({"Subnet": "10.9.0.0/31"}, "invalid subnet 10.9.0.0/31: it has no room for a gateway and a container"),
    ({"Subnet": "0.0.0.0/0"}, "invalid subnet 0.0.0.0/0: its addresses are not such that a host can have"),
    ({"Subnet": "127.0.0.0/8"}, "invalid subnet 127.0.0.0/8: its addresses are not such that a host can have"),
    ({"Subnet": "224.0.0.0/8"}, "invalid subnet 224.0.0.0/8: its addresses are not such that a host can have"),
    ({"Subnet": "10.9.0.0/24", "Gateway": "x"}, "invalid gateway x: invalid address"),
    ({"Subnet": "10.9.0.0/24", "Gateway": "10.9.1.1"},
     "invalid gateway 10.9.1.1: parent subnet 10.9.0.0/24 doesn't contain this address"),
    ({"Subnet": "10.9.0.0/24", "Gateway": "fd00::1"}, "invalid gateway fd00::1: parent subnet is an IPv4 block"),
    ({"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.0"},
     "invalid gateway 10.9.0.0: it is the network's own address or the broadcast one"),
    ({"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.255"},
     "invalid gateway 10.9.0.255: it is the network's own address or the broadcast one"),
    ({"Subnet": "10.9.0.0/24", "IPRange": "10.9.0.9"}, "invalid ip-range 10.9.0.9: invalid CIDR block notation"),
    ({"Subnet": "10.9.0.0/24", "IPRange": "10.9.0.9/25"}, "invalid ip-range 10.9.0.9/25: it should be 10.9.0.0/25"),
    ({"Subnet": "10.9.0.0/24", "IPRange": "10.9.0.0/16"},
     "invalid ip-range 10.9.0.0/16: CIDR block is bigger than its parent subnet 10.9.0.0/24"),
    ({"Subnet": "10.9.0.0/24", "IPRange": "10.9.1.0/25"},
     "invalid ip-range 10.9.1.0/25: parent subnet 10.9.0.0/24 doesn't contain ip-range"),
    ({"Subnet": "10.9.0.0/24", "IPRange": "fd00::/80"}, "invalid ip-range fd00::/80: parent subnet is an IPv4 block"),
    ({"Subnet": "10.9.0.0/24", "AuxiliaryAddresses": {"a": "10.8.0.1"}},
     "invalid auxiliary address 10.8.0.1: parent subnet 10.9.0.0/24 doesn't contain this address"),
    ({"Gateway": "10.9.0.1"}, "invalid gateway 10.9.0.1: there is no subnet for it"),
    ({"Subnet": "fd09::/64"}, "fd09::/64 is an IPv6 subnet, and the network has no IPv6"),
])  # fmt: skip
def test_pools_that_make_no_sense(pool: dict[str, Any], says: str) -> None:
    assert refusal_of(InvalidParameter, "net", pool) == WRONG + says


def test_pools_that_cannot_be_had() -> None:
    create("net", {"Subnet": "10.9.0.0/16"})
    overlaps = "invalid pool request: Pool overlaps with other one on this address space"
    for text in ("10.9.0.0/16", "10.9.3.0/24", "10.0.0.0/8", subnet.choose().cidr):
        assert refusal_of(Conflict, "other", {"Subnet": text}) == overlaps
    several = ({"Subnet": "10.10.0.0/24"}, {"Subnet": "10.11.0.0/24"})
    for driver in networks.DRIVERS:
        said = refusal_of(Forbidden, "other", *several, driver=driver)
        assert said == f"{driver} driver doesn't support multiple subnets"
    both = {"Subnet": "10.10.0.0/24", "Gateway": "10.10.0.2", "AuxiliaryAddresses": {"a": "10.10.0.2"}}
    refusal_of(Conflict, "other", both)


def test_a_gateway_that_nobody_asked_for_gives_way() -> None:
    made = create("net", {"Subnet": "10.9.0.0/24", "AuxiliaryAddresses": {"router": "10.9.0.1"}})
    assert str(made.pools[0].gateway) == "10.9.0.2"


@pytest.mark.parametrize(("driver", "key", "value", "kind", "says"), [
    ("bridge", "nosuch", "1", InvalidParameter, "the bridge driver has no option nosuch"),
    ("bridge", "parent", "eth0", InvalidParameter, "the bridge driver has no option parent"),
    ("macvlan", "mtu", "1400", InvalidParameter, "the macvlan driver has no option mtu"),
    ("bridge", "mtu", "x", InvalidParameter,
     'failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing "x": invalid syntax)'),
    ("bridge", "mtu", "67", InvalidParameter, "invalid MTU number: 67: it has to be from 68 to 65535"),
    ("bridge", "mtu", "65536", InvalidParameter, "invalid MTU number: 65536: it has to be from 68 to 65535"),
    ("bridge", "mtu", "-1", InvalidParameter, "invalid MTU number: -1: it has to be from 68 to 65535"),
    ("bridge", "mtu", "9" * 5000, InvalidParameter,
     f"invalid MTU number: {'9' * 5000}: it has to be from 68 to 65535"),
    ("bridge", BRIDGE + "enable_icc", "maybe", InvalidParameter,
     f'failed to parse {BRIDGE}enable_icc value: maybe (strconv.ParseBool: parsing "maybe": invalid syntax)'),
    ("bridge", BRIDGE + "enable_icc", "", InvalidParameter,
     f'failed to parse {BRIDGE}enable_icc value:  (strconv.ParseBool: parsing "": invalid syntax)'),
    ("bridge", BRIDGE + "enable_ip_masquerade", "false", Unsupported,
     f"{BRIDGE}enable_ip_masquerade=false is not supported: with rdock it is always true"),
    ("bridge", BRIDGE + "host_binding_ipv4", "x", InvalidParameter,
     f"failed to parse {BRIDGE}host_binding_ipv4 value: x (nil ip)"),
    ("bridge", BRIDGE + "gateway_mode_ipv4", "x", InvalidParameter, "invalid gateway mode: unknown gateway mode x"),
    ("bridge", BRIDGE + "gateway_mode_ipv4", "routed", Unsupported,
     f"{BRIDGE}gateway_mode_ipv4=routed is not supported: with rdock it is always nat"),
    ("bridge", "com.docker.network.container_iface_prefix", "a/b", InvalidParameter,
     "invalid interface name prefix: 'a/b'"),
    ("bridge", BRIDGE + "name", "rdock0", Conflict, "networks have same bridge name"),
    ("macvlan", "macvlan_mode", "x", InvalidParameter,
     "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default"),
    ("macvlan", "parent", "a/b", InvalidParameter, "invalid parent interface name: 'a/b'"),
])  # fmt: skip
def test_options_that_are_refused(driver: str, key: str, value: str, kind: type[RdockError], says: str) -> None:
    said = refusal_of(kind, driver=driver, options={key: value})
    assert said.endswith(says) if kind is Conflict else said == says


@pytest.mark.parametrize(
    "name", ["", "a" * 16, "a/b", "a b", "a:b", ".", "..", "a\x01", "a%d", "ä", "lo", "tap0", "a\x7f"]
)
def test_names_that_no_bridge_can_have(name: str) -> None:
    assert refusal_of(InvalidParameter, options={BRIDGE + "name": name}).startswith(f"invalid bridge name: '{name}': ")


@pytest.mark.parametrize(
    ("driver", "given", "kept"),
    [
        ("bridge", {"mtu": "68"}, {"com.docker.network.driver.mtu": "68"}),
        ("bridge", {"com.docker.network.driver.mtu": "65535"}, {"com.docker.network.driver.mtu": "65535"}),
        ("bridge", {BRIDGE + "enable_icc": "F"}, {BRIDGE + "enable_icc": "false"}),
        ("bridge", {BRIDGE + "enable_ip_masquerade": "T"}, {BRIDGE + "enable_ip_masquerade": "true"}),
        ("bridge", {BRIDGE + "host_binding_ipv4": "0.0.0.0"}, {BRIDGE + "host_binding_ipv4": "0.0.0.0"}),
        ("bridge", {BRIDGE + "name": "a" * 15}, {BRIDGE + "name": "a" * 15}),
        ("macvlan", {"mode": "private"}, {"macvlan_mode": "private"}),
        ("macvlan", {"parent": "rdock0", "macvlan_mode": "vepa"}, {"parent": "rdock0", "macvlan_mode": "vepa"}),
    ],
)
def test_options_that_are_taken(driver: str, given: dict[str, str], kept: dict[str, str]) -> None:
    assert create("net", driver=driver, options=given).options == kept


def test_options_that_contradict_each_other() -> None:
    assert options.check("bridge", {"mtu": "1400", "com.docker.network.driver.mtu": "1400"}, ipv6=False)
    refusal_of(InvalidParameter, options={"mtu": "1400", "com.docker.network.driver.mtu": "1500"})
    refusal_of(InvalidParameter, options={"mtu": "1279"}, ipv6=True)
    create("net", options={"mtu": "1280"}, ipv6=True)


def test_devices_that_another_network_has() -> None:
    one = create("one", options={BRIDGE + "name": "mine"})
    said = refusal_of(Conflict, "two", options={BRIDGE + "name": "mine"})
    assert said.endswith(f"conflicts with network {one.id} (mine): networks have same bridge name")
    refusal_of(Conflict, "two", options={BRIDGE + "name": f"br-{create('other').id[:12]}"})
    create("three", driver="macvlan", options={"parent": "mine"})
    for parent in ("eth0", "tap1", "lo", networks.lookup("three").bridge):
        said = refusal_of(InvalidParameter, "four", driver="macvlan", options={"parent": parent})
        assert said == f"invalid parent interface name: '{parent}': no network has a bridge of this name"
    said = refusal_of(Conflict, "four", driver="macvlan", options={"parent": "mine"})
    assert said == "network three is already using parent interface mine"


# -- the client's part -----------------------------------------------------------------------------


@pytest.mark.parametrize(("subnets", "ranges", "gateways", "reserved", "says"), [
    ([], ["10.0.0.0/24"], [], {}, "every ip-range or gateway must have a corresponding subnet"),
    ([], [], ["10.0.0.1"], {}, "every ip-range or gateway must have a corresponding subnet"),
    (["10.0.0.0/8", "10.1.0.0/16"], [], [], {}, "multiple overlapping subnet configuration is not supported"),
    (["10.0.0.0/8", "10.0.0.0/8"], [], [], {}, "multiple overlapping subnet configuration is not supported"),
    (["x"], [], [], {}, "invalid subnet: invalid CIDR address: x"),
    (["10.0.0.0/8"], ["x"], [], {}, "no matching subnet for range x"),
    (["10.0.0.0/8"], ["10.0.0.0/99"], [], {}, "invalid CIDR address: 10.0.0.0/99"),
    (["10.0.0.0/8"], ["11.0.0.0/16"], [], {}, "no matching subnet for range 11.0.0.0/16"),
    (["10.0.0.0/8"], [], ["11.0.0.1"], {}, "no matching subnet for gateway 11.0.0.1"),
    (["10.0.0.0/8"], [], ["x"], {}, "no matching subnet for gateway x"),
    (["10.0.0.0/8"], [], [], {"a": "11.0.0.1"}, "no matching subnet for aux-address 11.0.0.1"),
    (["10.0.0.0/8", "fd00::/64"], ["10.1.0.0/16", "10.2.0.0/16"], [], {},
     "cannot configure multiple ranges (10.2.0.0/16, 10.1.0.0/16) on the same subnet (10.0.0.0/8)"),
    (["10.0.0.0/8", "fd00::/64"], [], ["10.0.0.1", "10.0.0.2"], {},
     "cannot configure multiple gateways (10.0.0.2, 10.0.0.1) for the same subnet (10.0.0.0/8)"),
])  # fmt: skip
def test_what_does_not_belong_together(
    subnets: list[str], ranges: list[str], gateways: list[str], reserved: dict[str, str], says: str
) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        consolidate(subnets, ranges, gateways, reserved)
    assert refusal.value.message == says


def test_what_belongs_together() -> None:
    found = consolidate(
        ["10.0.0.0/8", "fd00::/64"], ["fd00::/80", "10.1.0.0/16"], ["10.0.0.1"], {"a": "fd00::5", "b": "10.0.0.5"}
    )
    assert found == [
        {"Subnet": "10.0.0.0/8", "IPRange": "10.1.0.0/16", "Gateway": "10.0.0.1",
         "AuxiliaryAddresses": {"b": "10.0.0.5"}},
        {"Subnet": "fd00::/64", "IPRange": "fd00::/80", "AuxiliaryAddresses": {"a": "fd00::5"}},
    ]  # fmt: skip


def test_what_connect_asks_for_is_in_the_shape_of_the_api() -> None:
    words = (
        "--ip 10.0.0.5 --ip6 FD00:0::5 --alias a,b --alias c --link box --link other:db --driver-opt k=v "
        "--driver-opt x=y=z --gw-priority -3 net box"
    )
    found = usage.parse(network.CONNECT_TEXT, "network connect", words.split())
    assert found is not None
    assert network._endpoint_settings(found) == {
        "IPAMConfig": {"IPv4Address": "10.0.0.5", "IPv6Address": "fd00::5"}, "Aliases": ["a", "b", "c"],
        "Links": ["box", "other:db"], "DriverOpts": {"k": "v", "x": "y=z"}, "GwPriority": -3,
    }  # fmt: skip
    found = usage.parse(network.CONNECT_TEXT, "network connect", ["net", "box"])
    assert found is not None
    assert network._endpoint_settings(found) == {
        "IPAMConfig": {}, "Aliases": [], "Links": [], "DriverOpts": {}, "GwPriority": 0,
    }  # fmt: skip


# -- leases ----------------------------------------------------------------------------------------


def take(network: Network, container: str, wanted: dict[str, Any] | None = None, alive: object = None) -> leases.Lease:
    with networks.locked():
        return leases.take(network, container, container, wanted or {}, [], lambda name: alive is None or name == alive)


def test_leases_pass_over_what_is_kept_and_what_lives() -> None:
    made = create("net", {"Subnet": "10.9.0.0/29", "AuxiliaryAddresses": {"a": "10.9.0.3"}})
    assert [take(made, name).address for name in "abcd"] == ["10.9.0.2", "10.9.0.4", "10.9.0.5", "10.9.0.6"]
    with pytest.raises(NotFound, match=r"^no available IPv4 addresses on this network's address pools: net"):
        take(made, "e")
    assert take(made, "e", alive="d").address == "10.9.0.2", "those of the dead are void"
    assert {lease.name for lease in leases.living(made, lambda _: True)} == {"d", "e"}
    assert take(made, "d").address == "10.9.0.4", "one that is taken anew replaces the former"


@pytest.mark.parametrize(
    ("address", "kind", "says"),
    [
        ("10.9.0.1", Conflict, "Address already in use"),
        ("10.9.0.2", Conflict, "Address already in use"),
        ("10.9.0.0", InvalidParameter, "no configured subnet or ip-range contain the IP address 10.9.0.0"),
        ("10.8.0.1", InvalidParameter, "no configured subnet or ip-range contain the IP address 10.8.0.1"),
        ("fd00::5", InvalidParameter, "no configured subnet or ip-range contain the IP address fd00::5"),
    ],
)
def test_addresses_that_cannot_be_asked_for(address: str, kind: type[RdockError], says: str) -> None:
    made = create("net", {"Subnet": "10.9.0.0/24"})
    take(made, "a")
    with pytest.raises(kind) as refusal:
        take(made, "b", {"IPAMConfig": {"IPv4Address": address}})
    assert refusal.value.message == says
    assert [lease.name for lease in leases.living(made, lambda _: True)] == ["a"]


def test_what_is_left_of_a_removal_is_known(directory: Path) -> None:
    made = create("net")
    take(made, "a")
    assert leases.forsaken() == []
    with networks.locked():
        networks.forget(made.id)
    assert leases.forsaken() == [made.id]
    leases.forget(made.id)
    assert leases.forsaken() == []


# -- at once ---------------------------------------------------------------------------------------


def _in_children(count: int, work: Any) -> None:
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work(number)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * count


def test_many_at_once_have_blocks_and_names_of_their_own(tmp_path: Path) -> None:
    """Ten processes, each with a name of its own and all with one that only one of them can have."""

    def work(number: int) -> None:
        for name in (f"own{number}", "wanted"):
            try:
                create(name, ipv6=True)
                (tmp_path / f"{name}.{number}").touch()
            except Conflict:
                pass

    _in_children(10, work)
    found = networks.all_networks()[3:]
    assert sorted(network.name for network in found) == sorted([*(f"own{number}" for number in range(10)), "wanted"])
    assert len(list(tmp_path.glob("wanted.*"))) == 1
    blocks = [pool.block for network in networks.all_networks() for pool in network.pools]
    assert len(blocks) == 2 * 11 + 1
    assert not any(a.overlaps(b) for number, a in enumerate(blocks) for b in blocks[number + 1 :])


def test_many_at_once_have_addresses_of_their_own() -> None:
    made = create("net", {"Subnet": "10.9.0.0/24"})
    _in_children(10, lambda number: [take(made, f"{number}.{turn}") for turn in range(5)])
    found = leases.living(made, lambda _: True)
    assert len(found) == 50 and len({lease.address for lease in found}) == 50
    assert {addresses.parse(lease.address).number & 0xFF for lease in found} == set(range(2, 52))


def test_killed_amid_making_leaves_whole_records(directory: Path) -> None:
    for turn in range(20):
        pid = os.fork()
        if pid == 0:
            number = 0
            while True:
                number += 1
                with networks.locked():
                    known = networks.all_networks()
                if len(known) > 12:
                    with networks.locked():
                        for each in known[3:]:
                            networks.remove(each, ())
                create(f"net{turn}.{number}", {"Subnet": f"10.{turn + 20}.{number % 250}.0/24"})
        time.sleep(0.02 + 0.003 * turn)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        damaged: list[DataLoss] = []
        found = networks.all_networks(damaged)
        assert not damaged
        blocks = [pool.block for network in found for pool in network.pools]
        assert not any(a.overlaps(b) for number, a in enumerate(blocks) for b in blocks[number + 1 :])
    record.sweep(str(directory))
    assert [path.name for path in directory.iterdir() if path.name.endswith(".tmp")] == []


# -- shown -----------------------------------------------------------------------------------------


def test_shape_is_that_of_dockers_api() -> None:
    made = create("net", {"Subnet": "10.9.0.0/24"}, {"Subnet": "fd09::/64"}, ipv6=True, labels={"a": "b"})
    lease = take(made, "c" * 64)
    found = json.loads(json.dumps(describe.inspect(made, [lease])))
    assert found.pop("Created") == made.created
    assert found == {
        "Name": "net", "Id": made.id, "Scope": "local", "Driver": "bridge", "EnableIPv4": True, "EnableIPv6": True,
        "IPAM": {
            "Driver": "default", "Options": {},
            "Config": [
                {"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.1"}, {"Subnet": "fd09::/64", "Gateway": "fd09::1"},
            ],
        },
        "Internal": False, "Attachable": False, "Ingress": False, "ConfigFrom": {"Network": ""}, "ConfigOnly": False,
        "Containers": {
            "c" * 64: {
                "Name": "c" * 64, "EndpointID": lease.endpoint, "MacAddress": "02:42:0a:09:00:02",
                "IPv4Address": "10.9.0.2/24", "IPv6Address": "fd09::2/64",
            },
        },
        "Options": {}, "Labels": {"a": "b"},
    }  # fmt: skip
