"""The commands for networks: made, listed, looked at, removed; what is refused, and in which words."""

from __future__ import annotations

import itertools
import json
import re
import signal
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from tests.cli.conftest import is_clear
from tests.cli.test_monitor_killed import kill_monitor
from tests.cli.test_network import host_address, server
from tests.conftest import STARTER
from tests.program import CHECKOUT, Rdock, run_many

BRIDGE = "com.docker.network.bridge."
PREDEFINED = ["bridge", "host", "none"]
# NetworkInspect of Docker's API, and its parts.
SHAPE: dict[str, Any] = {
    "Name": str, "Id": str, "Created": str, "Scope": str, "Driver": str, "EnableIPv4": bool, "EnableIPv6": bool,
    "IPAM": {"Driver": str, "Options": dict, "Config": list}, "Internal": bool, "Attachable": bool, "Ingress": bool,
    "ConfigFrom": {"Network": str}, "ConfigOnly": bool, "Containers": dict, "Options": dict, "Labels": dict,
}  # fmt: skip
LIST_FIELDS = ["CreatedAt", "Driver", "ID", "IPv4", "IPv6", "Internal", "Labels", "Name", "Scope"]


@pytest.fixture
def networks(rdock: Rdock) -> Iterator[Rdock]:
    """The program with no networks but those that are always there, and none more when the test is over."""
    assert names(rdock) == PREDEFINED
    yield rdock
    rdock.remove_containers()
    others = [name for name in names(rdock) if name not in PREDEFINED]
    if others:
        rdock.ok("network", "rm", *others)
    left = {path.name for path in (rdock.home.data / "networks").glob("*")}
    bridge = rdock.ok("network", "inspect", "-f", "{{.Id}}", "bridge")
    assert {name for name in left if not name.startswith((".", bridge))} == set()


def names(rdock: Rdock, *args: str) -> list[str]:
    return rdock.ok("network", "ls", "--format", "{{.Name}}", *args).split()


def inspected(rdock: Rdock, name: str) -> dict[str, Any]:
    found = json.loads(rdock.ok("network", "inspect", name))
    assert len(found) == 1
    one: dict[str, Any] = found[0]
    return one


def has_shape(found: dict[str, Any], shape: dict[str, Any]) -> bool:
    """Whether an object has these members in this order, each of its kind."""
    assert list(found) == list(shape)
    for name, kind in shape.items():
        assert has_shape(found[name], kind) if isinstance(kind, dict) else isinstance(found[name], kind), name
    return True


# -- create ----------------------------------------------------------------------------------------


def test_create_prints_the_id(networks: Rdock) -> None:
    made = networks.ok("network", "create", "net")
    assert re.fullmatch("[0-9a-f]{64}", made)
    found = inspected(networks, "net")
    assert (found["Id"], found["Driver"], found["Scope"]) == (made, "bridge", "local")
    (pool,) = found["IPAM"]["Config"]
    assert list(pool) == ["Subnet", "Gateway"]
    assert pool["Gateway"] == str(ip_network(pool["Subnet"])[1])


def test_create_with_all_that_there_is(networks: Rdock) -> None:
    networks.ok(
        "network", "create", "--driver=bridge", "--subnet", "10.109.0.0/24,fd09::/64", "--gateway", "10.109.0.254",
        "--ip-range", "10.109.0.128/25", "--aux-address", "router=10.109.0.7", "--aux-address", "other=fd09::7",
        "--ipv6", "--ipv4", "--internal", "--attachable", "--label", "a=b", "--label", "c", "-o", "mtu=1400",
        "--opt", f"{BRIDGE}name=mine", "--ipam-driver", "default", "--scope", "local", "net",
    )  # fmt: skip
    found = inspected(networks, "net")
    assert found["IPAM"]["Config"] == [
        {"Subnet": "10.109.0.0/24", "IPRange": "10.109.0.128/25", "Gateway": "10.109.0.254",
         "AuxiliaryAddresses": {"router": "10.109.0.7"}},
        {"Subnet": "fd09::/64", "Gateway": "fd09::1", "AuxiliaryAddresses": {"other": "fd09::7"}},
    ]  # fmt: skip
    assert found["Options"] == {"com.docker.network.driver.mtu": "1400", f"{BRIDGE}name": "mine"}
    assert found["Labels"] == {"a": "b", "c": ""}
    assert all(found[name] for name in ("Internal", "Attachable", "EnableIPv6", "EnableIPv4"))


def test_create_takes_what_ipv6_says(networks: Rdock) -> None:
    networks.ok("network", "create", "--subnet", "fd09::/64", "six")
    assert inspected(networks, "six")["EnableIPv6"] is True
    networks.ok("network", "create", "--ipv6", "chosen")
    v4, v6 = inspected(networks, "chosen")["IPAM"]["Config"]
    assert ip_network(v4["Subnet"]).version == 4 and ip_network(v6["Subnet"]).subnet_of(ip_network("fd00::/8"))


@pytest.mark.parametrize(("args", "code", "says"), [
    ([], 1, "'rdock network create' requires 1 argument"),
    (["a", "b"], 1, "'rdock network create' requires 1 argument"),
    (["--nosuch", "x"], 125, "unknown flag: --nosuch"),
    (["--ipv6=maybe", "x"], 125, 'invalid argument "maybe" for "--ipv6" flag'),
    ([""], 1, "name is required"),
    (["a/b"], 1, "invalid network name: 'a/b': only '[a-zA-Z0-9][a-zA-Z0-9_.-]' are allowed"),
    (["bridge"], 1, "operation is not permitted on predefined bridge network"),
    (["-d", "host", "x"], 1, 'only one instance of "host" network is allowed'),
    (["-d", "nosuch", "x"], 1, 'could not find plugin nosuch in v1 plugin registry: plugin "nosuch" not found'),
    (["-d", "overlay", "x"], 1, "the overlay driver is not there yet"),
    (["--gateway", "10.9.0.1", "x"], 1, "every ip-range or gateway must have a corresponding subnet"),
    (["--subnet", "10.9.0.0/16", "--subnet", "10.9.1.0/24", "x"], 1,
     "multiple overlapping subnet configuration is not supported"),
    (["--subnet", "10.9.0.0/16", "--subnet", "10.8.0.0/16", "x"], 1, "bridge driver doesn't support multiple subnets"),
    (["--subnet", "10.9.0.0/24", "--gateway", "10.8.0.1", "x"], 1, "no matching subnet for gateway 10.8.0.1"),
    (["--subnet", "10.9.0.0/24", "--ip-range", "10.8.0.0/25", "x"], 1, "no matching subnet for range 10.8.0.0/25"),
    (["--subnet", "10.9.0.0/24", "--aux-address", "a=10.8.0.1", "x"], 1,
     "no matching subnet for aux-address 10.8.0.1"),
    (["--subnet", "10.9.0.0/24", "--aux-address", "a", "x"], 1, "no matching subnet for aux-address"),
    (["--subnet", "10.9.0.0/24", "--aux-address", "=10.9.0.3", "x"], 1, "invalid option '=10.9.0.3': empty name"),
    (["--subnet", "10.9.0.7/24", "x"], 1,
     "invalid network config: invalid subnet 10.9.0.7/24: it should be 10.9.0.0/24"),
    (["-d", "ipvlan", "x"], 1, "the ipvlan driver is not supported: a macvlan network does the same here"),
    (["--subnet", "nonsense", "x"], 1, "invalid subnet: invalid CIDR address: nonsense"),
    (["--subnet", "\x1b[2J", "x"], 1, "invalid subnet: invalid CIDR address: \\x1b[2J"),
    (["--subnet", "fd09::/64", "--ipv6=false", "x"], 1, "is an IPv6 subnet, and the network has no IPv6"),
    (["--ipv4=false", "x"], 125, "'rdock network create --ipv4=false' is not there yet"),
    (["--ipam-driver", "dhcp", "x"], 1, 'could not find plugin dhcp in v1 plugin registry: plugin "dhcp" not found'),
    (["--ipam-opt", "a=b", "x"], 1, "the default IPAM driver has no option a"),
    (["--scope", "swarm", "x"], 125, "'rdock network create --scope swarm' is not supported: rdock is for one machine"),
    (["--ingress", "x"], 125, "'rdock network create --ingress' is not supported: rdock is for one machine"),
    (["--config-only", "x"], 125, "'rdock network create --config-only' is not supported: rdock is for one machine"),
    (["--config-from", "a", "x"], 125, "'rdock network create --config-from' is not supported"),
    (["--label", "=a", "x"], 1, "invalid label '=a': empty name"),
    (["-o", "nosuch=1", "x"], 1, "the bridge driver has no option nosuch"),
    (["-o", f"{BRIDGE}name=a/b", "x"], 1, "invalid bridge name: 'a/b'"),
    (["-d", "macvlan", "-o", "parent=eth0", "x"], 1,
     "invalid parent interface name: 'eth0': no network has a bridge of this name"),
    (["-d", "macvlan", "-o", "macvlan_mode=odd", "x"], 1, "requested macvlan mode 'odd' is not valid"),
])  # fmt: skip
def test_create_refuses(networks: Rdock, args: list[str], code: int, says: str) -> None:
    result = networks("network", "create", *args)
    assert (result.code, result.out) == (code, ""), result
    assert result.err.startswith("rdock: ") and says in result.err and is_clear(result.err, lines=5), result
    assert names(networks) == PREDEFINED


def test_create_refuses_what_is_taken(networks: Rdock) -> None:
    networks.ok("network", "create", "--subnet", "10.109.0.0/24", "net")
    for args, says in (
        (["net"], "network with name net already exists"),
        (["--subnet", "10.109.0.128/25", "x"], "Pool overlaps with other one on this address space"),
        (["-o", f"{BRIDGE}name=rdock0", "x"], "networks have same bridge name"),
    ):
        result = networks("network", "create", *args)
        assert (result.code, result.out) == (1, "") and says in result.err and is_clear(result.err), result


def test_many_at_once(networks: Rdock) -> None:
    """Ten processes: no two networks of one name, nor with an address in common."""
    commands = [("own", number) for number in range(5)] + [("same", 0)] * 5
    started = [networks.start("network", "create", "--ipv6", f"{name}{number}") for name, number in commands]
    codes = run_many(started)
    errors = [command.communicate()[1].decode() for command in started]
    assert codes[:5] == [0] * 5 and sorted(codes[5:]) == [0, 1, 1, 1, 1]
    assert sum("network with name same0 already exists" in error for error in errors) == 4
    assert names(networks) == ["bridge", "host", "none", *(f"own{number}" for number in range(5)), "same0"]
    subnets = json.loads(networks.ok("network", "inspect", "bridge", *(f"own{n}" for n in range(5)), "same0"))
    blocks = [ip_network(pool["Subnet"]) for one in subnets for pool in one["IPAM"]["Config"]]
    assert len(blocks) == 13
    assert not any(a.version == b.version and a.overlaps(b) for a, b in itertools.combinations(blocks, 2))


def test_killed_amid_create(own_rdock: Rdock) -> None:
    """At some instant or other: the network is there or it is not, and nothing is half-made."""
    own_rdock.ok("network", "create", "before")
    for turn in range(12):
        command = own_rdock.start("network", "create", f"net{turn}")
        time.sleep(0.015 + 0.004 * turn)
        command.send_signal(signal.SIGKILL)
        command.communicate()
    found = names(own_rdock)
    assert "before" in found and set(found) <= {*PREDEFINED, "before", *(f"net{turn}" for turn in range(12))}
    own_rdock.ok("network", "create", "after")
    own_rdock("system", "check", "--repair")
    assert own_rdock.ok("system", "check") == "no problems found"
    own_rdock.ok("network", "rm", *(name for name in names(own_rdock) if name not in PREDEFINED))


def test_what_killed_processes_left_is_found_and_mended(own_rdock: Rdock) -> None:
    made = own_rdock.ok("network", "create", "net")
    own_rdock.ok("network", "rm", "net")
    directory = own_rdock.home.data / "networks"
    (directory / f"{made}.leases").write_text('{"format": 1, "Leases": {}}')
    (directory / f"{made}.json.77.tmp").write_text("{")
    result = own_rdock("system", "check")
    assert result.code == 1
    assert f"network {made[:12]}: it is no more, and a list of who is on it is left" in result.out
    assert f"{made}.json.77.tmp: left by a process that was killed" in result.out
    own_rdock("system", "check", "--repair")
    assert own_rdock.ok("system", "check") == "no problems found"


def test_a_damaged_record(own_rdock: Rdock) -> None:
    bad, good = own_rdock.ok("network", "create", "bad"), own_rdock.ok("network", "create", "good")
    (own_rdock.home.data / "networks" / f"{bad}.json").write_text("{")
    result = own_rdock("network", "ls", "-q")
    assert result.code == 1 and good[:12] in result.out and bad in result.err and is_clear(result.err), result
    assert f"network: cannot read {own_rdock.home.data}/networks/{bad}.json" in own_rdock("system", "check").out
    result = own_rdock("network", "rm", "good", "bad", bad[:12])
    assert (result.code, result.out) == (1, f"good\n{bad[:12]}\n") and is_clear(result.err), result
    assert own_rdock.ok("network", "ls", "--format", "{{.Name}}").split() == PREDEFINED


def test_a_damaged_record_of_the_default_network(own_rdock: Rdock) -> None:
    own_rdock.ok("network", "create", "net")
    bridge = inspected(own_rdock, "bridge")["Id"]
    (own_rdock.home.data / "networks" / f"{bridge}.json").write_text("")
    result = own_rdock("run", "--rm", "--network", "bridge", STARTER, "true")
    assert result.code == 125 and f"rdock network rm {bridge[:12]}" in result.err and is_clear(result.err), result
    own_rdock.ok("network", "rm", bridge[:12])
    assert "172." in own_rdock.ok("run", "--rm", "--network", "bridge", STARTER, "ip", "-4", "addr", "show", "eth0")


@pytest.mark.parametrize("text", ["", "{", '{"Leases": 5}', '{"Leases": {"a": {"Container": 7}}}'])
def test_a_damaged_list_of_who_is_there(own_rdock: Rdock, text: str) -> None:
    """As a loss of power may leave it, since it is not written through to the disk."""
    made = own_rdock.ok("network", "create", "net")
    box = own_rdock.ok("run", "-d", "--name", "box", "--network", "net", STARTER, "sleep", "600")
    record = own_rdock.home.data / "networks" / f"{made}.leases"
    record.write_text(text)
    there = inspected(own_rdock, "net")["Containers"][box]
    assert (there["Name"], there["IPv4Address"]) == ("box", "")
    assert own_rdock("network", "rm", "net").err.startswith("rdock: error while removing network: network net id")
    result = own_rdock("system", "check", "--repair")
    assert f"network net: cannot read {record}" in result.out and record.exists(), "who is there still needs it"
    own_rdock.ok("rm", "-f", "box")
    own_rdock("system", "check", "--repair")
    assert own_rdock.ok("system", "check") == "no problems found" and not record.exists()
    own_rdock.ok("network", "rm", "net")


# -- ls --------------------------------------------------------------------------------------------


@pytest.fixture
def some(networks: Rdock) -> dict[str, str]:
    """Networks to choose from: their ids by name."""
    found = {name: networks.ok("network", "ls", "-q", "--no-trunc", "-f", f"name=^{name}$") for name in PREDEFINED}
    for name, *args in (
        ("net10",), ("net2", "--label", "a=b", "--label", "c=d"), ("mac", "-d", "macvlan", "--label", "a=x"),
        ("inner", "--internal", "--ipv6"),
    ):  # fmt: skip
        found[name] = networks.ok("network", "create", *args, name)
    return found


def test_ls(networks: Rdock, some: dict[str, str]) -> None:
    lines = networks.ok("network", "ls").splitlines()
    assert lines[0] == "NETWORK ID     NAME      DRIVER    SCOPE"
    drivers = {"bridge": "bridge", "host": "host", "none": "null", "mac": "macvlan"}
    order = ["bridge", "host", "inner", "mac", "net2", "net10", "none"]
    assert [line.split() for line in lines[1:]] == [
        [some[name][:12], name, drivers.get(name, "bridge"), "local"] for name in order
    ]
    assert networks.ok("network", "list", "--no-trunc").splitlines()[1].split()[0] == some["bridge"]
    assert networks.ok("network", "ls", "-q").split() == [some[name][:12] for name in order]
    assert networks.ok("network", "ls", "-q", "--no-trunc").split() == [some[name] for name in order]


def test_ls_formats(networks: Rdock, some: dict[str, str]) -> None:
    rows = [json.loads(line) for line in networks.ok("network", "ls", "--format", "json").splitlines()]
    assert all(list(row) == LIST_FIELDS and all(isinstance(value, str) for value in row.values()) for row in rows)
    inner = next(row for row in rows if row["Name"] == "inner")
    assert [inner[name] for name in ("IPv4", "IPv6", "Internal", "ID")] == ["true"] * 3 + [some["inner"][:12]]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \+0000 UTC", inner["CreatedAt"])
    assert next(row for row in rows if row["Name"] == "net2")["Labels"] == "a=b,c=d"
    template = 'table {{.Name}}\t{{.IPv4}}\t{{.IPv6}}\t{{.Internal}}\t{{.Label "a"}}'
    lines = networks.ok("network", "ls", "--format", template).splitlines()
    assert lines[0].split() == ["NAME", "IPV4", "IPV6", "INTERNAL", "a"]
    assert lines[5].split() == ["net2", "true", "false", "false", "b"]
    result = networks("network", "ls", "--format", "{{.Nope}}")
    assert result.code != 0 and is_clear(result.err) and "Nope" in result.err, result


@pytest.mark.parametrize(("filters", "found"), [
    (["driver=macvlan"], "mac"),
    (["driver=macvlan", "driver=null"], "mac none"),
    (["driver=mac"], ""),
    (["name=net"], "net2 net10"),
    (["name=^net1"], "net10"),
    (["name=[", "name=mac"], "mac"),
    (["label=a"], "mac net2"),
    (["label=a=b"], "net2"),
    (["label=a", "label=c"], "net2"),
    (["label=a", "driver=bridge"], "net2"),
    (["label=nosuch"], ""),
    (["scope=local", "name=net2"], "net2"),
    (["scope=swarm"], ""),
    (["type=builtin"], "bridge host none"),
    (["type=custom"], "inner mac net2 net10"),
    (["type=custom", "type=builtin"], "bridge host inner mac net2 net10 none"),
    (["dangling=true"], "inner mac net2 net10"),
    (["dangling=0"], "bridge host none"),
])  # fmt: skip
def test_ls_filters(networks: Rdock, some: dict[str, str], filters: list[str], found: str) -> None:
    assert names(networks, *(word for each in filters for word in ("-f", each))) == found.split()


def test_ls_by_id(networks: Rdock, some: dict[str, str]) -> None:
    assert names(networks, "--filter", f"id={some['net2'][:12]}") == ["net2"]
    assert names(networks, "--filter", f"id={some['net2'][20:40]}") == ["net2"]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["-f", "nosuch=1"], 1, "invalid filter 'nosuch'"),
        (["-f", "nosuch"], 125, 'invalid argument "nosuch" for "-f, --filter" flag: bad format of filter'),
        (["-f", "type=odd"], 1, "invalid filter: 'type'='odd'"),
        (["-f", "dangling=maybe"], 1, "invalid filter 'dangling=[maybe]'"),
        (["-f", "dangling=1", "-f", "dangling=0"], 1, "invalid filter 'dangling=[1 0]'"),
        (["extra"], 1, "'rdock network ls' accepts no arguments"),
    ],
)
def test_ls_refuses(rdock: Rdock, args: list[str], code: int, says: str) -> None:
    result = rdock("network", "ls", *args)
    assert (result.code, result.out) == (code, "") and f"rdock: {says}" in result.err, result


# -- inspect ---------------------------------------------------------------------------------------


def test_inspect_has_dockers_shape(networks: Rdock) -> None:
    networks.ok("network", "create", "net")
    assert has_shape(inspected(networks, "net"), SHAPE)
    bridge = inspected(networks, "bridge")
    assert has_shape(bridge, {**SHAPE, "IPAM": {"Driver": str, "Options": type(None), "Config": list}})
    assert bridge["Options"][f"{BRIDGE}default_bridge"] == "true" and bridge["IPAM"]["Config"]
    nothing = {"Driver": str, "Options": type(None), "Config": type(None)}
    assert all(has_shape(inspected(networks, name), {**SHAPE, "IPAM": nothing}) for name in ("host", "none"))


def test_inspect_tells_who_is_there(networks: Rdock) -> None:
    networks.ok("network", "create", "--subnet", "10.109.0.0/24,fd09::/64", "net")
    assert inspected(networks, "net")["Containers"] == {}
    box = networks.ok("run", "-d", "--name", "box", "--network", "net", STARTER, "sleep", "600")
    there = inspected(networks, "net")["Containers"][box]
    assert list(there) == ["Name", "EndpointID", "MacAddress", "IPv4Address", "IPv6Address"]
    assert (there["Name"], there["IPv4Address"], there["IPv6Address"]) == ("box", "10.109.0.2/24", "fd09::2/64")
    shown = networks.ok("exec", "box", "ip", "addr", "show", "eth0")
    assert there["MacAddress"] in shown and "10.109.0.2/24" in shown and "fd09::2/64" in shown
    assert names(networks, "-f", "dangling=true") == []
    networks.ok("stop", "-t", "0", "box")
    assert inspected(networks, "net")["Containers"] == {}


@pytest.mark.parametrize(("template", "text"), [
    ("{{.Name}} {{.Driver}} {{.Internal}}", "net bridge false"),
    ("{{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}}", "10.109.0.0/24 10.109.0.1"),
    ("{{range .IPAM.Config}}{{.Subnet}}={{.IPRange}};{{end}}", "10.109.0.0/24=;"),
    ("{{json .IPAM.Config}}", '[{"Subnet":"10.109.0.0/24","Gateway":"10.109.0.1"}]'),
    ("{{.Options}} {{json .Labels}} {{index .Labels \"a\"}}{{index .Labels \"z\"}}", 'map[] {"a":"b"} b'),
    ("{{.EnableIPv6}} {{.IPAM.Driver}} {{.ConfigFrom.Network}}{{len .Containers}}", "false default 0"),
    ("{{range $id, $c := .Containers}}{{$c.Name}}{{end}}", ""),
])  # fmt: skip
def test_inspect_templates(networks: Rdock, template: str, text: str) -> None:
    networks.ok("network", "create", "--subnet", "10.109.0.0/24", "--label", "a=b", "net")
    for command in (("network", "inspect"), ("inspect",), ("inspect", "--type", "network")):
        assert networks.ok(*command, "-f", template, "net") == text


def test_inspect_knows_the_fields_of_go(networks: Rdock) -> None:
    made = networks.ok("network", "create", "net")
    created = inspected(networks, "net")["Created"]
    shown = networks.ok("network", "inspect", "-v", "-f", "{{.ID}}|{{.Id}}|{{json .Created}}", "net")
    assert shown == f'{made}|{made}|"{created}"'
    of_go = networks.ok("network", "inspect", "-f", "{{.ID}}|{{.Created}}", "net")
    assert of_go == f"{made}|{created[:10]} {created[11:-1]} +0000 UTC"


def test_inspect_goes_on_after_what_is_not_there(networks: Rdock) -> None:
    networks.ok("network", "create", "net")
    for command in (("network", "inspect"), ("inspect", "--type", "network")):
        result = networks(*command, "nosuch", "net", "host")
        assert result.code == 1 and result.err == "rdock: network nosuch not found\n", result
        assert [found["Name"] for found in json.loads(result.out)] == ["net", "host"]
        result = networks(*command, "nosuch")
        assert (result.code, result.out, result.err) == (1, "[]\n", "rdock: network nosuch not found\n")
    result = networks("inspect", "nosuch")
    assert (result.code, result.out, result.err) == (1, "[]\n", "rdock: No such object: nosuch\n")


def test_inspect_finds_a_container_first(networks: Rdock) -> None:
    networks.ok("network", "create", "same")
    networks.ok("create", "--name", "same", "--network", "none", STARTER, "true")
    assert networks.ok("inspect", "-f", "{{.Name}}", "same") == "/same"
    assert networks.ok("inspect", "--type", "network", "-f", "{{.Name}}", "same") == "same"
    result = networks("inspect", "--type", "container", "bridge")
    assert result.code == 1 and result.err == "rdock: No such container: bridge\n"


# -- rm and prune ----------------------------------------------------------------------------------


def test_rm_goes_on_after_a_failure(networks: Rdock) -> None:
    made = [networks.ok("network", "create", f"net{number}") for number in range(3)]
    result = networks("network", "rm", "net0", "nosuch", made[1], "bridge", made[2][:12])
    assert (result.code, result.out) == (1, f"net0\n{made[1]}\n{made[2][:12]}\n")
    assert result.err == (
        "rdock: network nosuch not found\nrdock: bridge is a pre-defined network and cannot be removed\n"
    )
    assert names(networks) == PREDEFINED


def test_rm_with_force(networks: Rdock) -> None:
    networks.ok("network", "create", "net")
    result = networks("network", "remove", "--force", "nosuch", "net")
    assert (result.code, result.out, result.err) == (0, "net\n", "")
    result = networks("network", "rm", "-f", "host")
    assert result.code == 1 and result.err == "rdock: host is a pre-defined network and cannot be removed\n"


def test_rm_refuses_while_it_is_used(networks: Rdock) -> None:
    made = networks.ok("network", "create", "net")
    networks.ok("run", "-d", "--name", "box", "--network", "net", STARTER, "sleep", "600")
    networks.ok("run", "-d", "--name", "also", "--network", "net", STARTER, "sleep", "600")
    there = {each["Name"]: each["EndpointID"][:12] for each in inspected(networks, "net")["Containers"].values()}
    for args in (["net"], ["-f", "net"]):
        result = networks("network", "rm", *args)
        assert (result.code, result.out) == (1, "")
        assert result.err == (
            f"rdock: error while removing network: network net id {made} has active endpoints "
            f'(name:"also" id:"{there["also"]}", name:"box" id:"{there["box"]}")\n'
        )
    networks.ok("stop", "-t", "0", "box", "also")
    assert networks.ok("network", "rm", "net") == "net"
    result = networks("start", "box")
    assert result.code == 1 and "network net not found" in result.err, result


def test_rm_takes_the_bridge_away_too(networks: Rdock) -> None:
    """While the shared namespace is there for another's sake; a network made anew has the name free."""
    networks.ok("run", "-d", "--name", "other", "--network", "bridge", STARTER, "sleep", "600")
    for _ in range(2):
        networks.ok("network", "create", "-o", f"{BRIDGE}name=mine", "--subnet", "10.109.0.0/24", "net")
        shown = networks.ok("run", "--rm", "--network", "net", STARTER, "ip", "-4", "addr", "show", "eth0")
        assert "10.109.0.2/24" in shown
        assert bridges(networks) == {"rdock0", "mine"}
        networks.ok("network", "rm", "net")
        assert bridges(networks) == {"rdock0"}


def test_rm_starts_no_keeper_of_the_shared_namespace(own_rdock: Rdock) -> None:
    own_rdock.ok("network", "create", "net")
    own_rdock.ok("network", "rm", "net")
    assert not any("rdock-network" in line for line in own_rdock.home.processes())


@pytest.mark.parametrize(
    ("options", "reached"),
    [([], True), (["-o", "macvlan_mode=private"], False), (["-o", "parent=mine"], True)],
)  # fmt: skip
def test_containers_of_a_macvlan_network_reach_each_other(networks: Rdock, options: list[str], reached: bool) -> None:
    networks.ok("network", "create", "-o", f"{BRIDGE}name=mine", "parent")
    networks.ok("network", "create", "-d", "macvlan", "--subnet", "10.109.0.0/24", *options, "net")
    networks.ok("run", "-d", "--name", "box", "--network", "net", STARTER, "sleep", "600")
    result = networks("run", "--rm", "--network", "net", STARTER, "ping", "-c", "1", "-W", "2", "10.109.0.2")
    assert (result.code == 0) == reached, result
    result = networks("run", "--rm", "--network", "net", STARTER, "nslookup", "box")
    assert ("Address: 10.109.0.2" in result.out) == reached, result
    networks.ok("rm", "-f", "box")
    networks.ok("network", "rm", "net", "parent")


@pytest.mark.parametrize(
    ("parent", "options", "leads"),
    [
        ([], ["-o", "parent=mine"], True),
        ([], ["-o", "parent=tap0"], True),
        ([], ["-o", "parent=tap0", "--internal"], False),
        ([], ["-o", "parent=mine", "--internal"], False),
        (["--internal"], ["-o", "parent=mine"], False),
        ([], [], False),
    ],
)  # fmt: skip
def test_the_way_out_of_a_macvlan_network(networks: Rdock, parent: list[str], options: list[str], leads: bool) -> None:
    """Is that of its parent, unless it is internal; one without a parent is for itself."""
    networks.ok("network", "create", *parent, "-o", f"{BRIDGE}name=mine", "parent")
    networks.ok("network", "create", "-d", "macvlan", *options, "net")
    with server("0.0.0.0") as port:
        script = f"nc -w 2 {host_address()} {port} </dev/null"
        result = networks("run", "--rm", "--network", "net", STARTER, "sh", "-c", script)
    assert ("greetings" in result.out) == leads, result
    networks.ok("network", "rm", "net", "parent")


def test_a_network_on_the_bridge_of_another(networks: Rdock) -> None:
    """Its parent comes to be with it, and stays for as long as it is there."""
    networks.ok("network", "create", "-o", f"{BRIDGE}name=mine", "parent")
    networks.ok("network", "create", "-d", "macvlan", "-o", "parent=mine", "child")
    networks.ok("run", "--rm", "--network", "child", STARTER, "test", "-d", "/sys/class/net/eth0")
    result = networks("network", "rm", "parent", "child", "parent")
    assert (result.code, result.out) == (1, "child\nparent\n") and "is the parent of network child" in result.err
    networks.ok("network", "create", "-o", f"{BRIDGE}name=mine", "a-parent")
    networks.ok("network", "create", "-d", "macvlan", "-o", "parent=mine", "child")
    assert networks.ok("network", "prune", "-f") == "Deleted Networks:\nchild\na-parent\n"


def bridges(rdock: Rdock) -> set[str]:
    """The bridges in the shared network namespace."""
    inside = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from rdock.network import hub, plumbing\n"
        "from rdock.linux import links, namespaces\n"
        "from rdock.linux.netlink import Netlink\n"
        "namespaces.enter({'network': hub.use_existing().namespace})\n"
        "with Netlink() as route:\n"
        "    print(*(link.name for link in links.list_links(route) if link.kind == 'bridge'))\n"
    )
    return set(rdock.ok("unshare", sys.executable, "-c", inside, str(CHECKOUT)).split())


def test_prune(networks: Rdock) -> None:
    for name, *args in (("idle",), ("kept", "--label", "keep"), ("used",)):
        networks.ok("network", "create", *args, name)
    networks.ok("run", "-d", "--name", "box", "--network", "used", STARTER, "sleep", "600")
    question = (
        "WARNING! This will remove all custom networks not used by at least one container.\n"
        "Are you sure you want to continue? [y/N] "
    )
    for answer in ("", "\n", "n\n", "maybe\n"):
        result = networks("network", "prune", input=answer)
        assert (result.code, result.out) == (0, question)
    assert networks.ok("network", "prune", "-f", "--filter", "until=1h") == ""
    result = networks("network", "prune", "--filter", "label!=keep", input="y\n")
    assert (result.code, result.out) == (0, question + "Deleted Networks:\nidle\n\n")
    assert networks("network", "prune", "--force").out == "Deleted Networks:\nkept\n\n"
    assert networks("network", "prune", "--force").out == ""
    assert names(networks, "-f", "type=custom") == ["used"]
    result = networks("network", "prune", "-f", "--filter", "nosuch=1")
    assert (result.code, result.err) == (1, "rdock: invalid filter 'nosuch'\n")


# -- connect, disconnect ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["connect", "bridge"], 1, "'rdock network connect' requires 2 arguments"),
        (["disconnect", "bridge", "a", "b"], 1, "'rdock network disconnect' requires 2 arguments"),
        (["connect", "nosuch", "box"], 1, "network nosuch not found"),
        (["disconnect", "nosuch", "box"], 1, "network nosuch not found"),
        (["connect", "--ip", "x", "bridge", "box"], 1, "invalid IPv4 address: x"),
        (["connect", "--ip", "fd00::1", "bridge", "box"], 1, "invalid IPv4 address: fd00::1"),
        (["connect", "--ip6", "10.0.0.1", "bridge", "box"], 1, "invalid IPv6 address: 10.0.0.1"),
        (["connect", "--driver-opt", "x", "bridge", "box"], 1, "invalid key/value pair format in driver options"),
        (["connect", "--gw-priority", "x", "bridge", "box"], 125, 'invalid argument "x" for "--gw-priority" flag'),
        (["connect", "--link", "a:b:c", "bridge", "box"], 125,
         'invalid argument "a:b:c" for "--link" flag: bad format for links: a:b:c'),
        (["connect", "--link", "", "bridge", "box"], 125,
         'invalid argument "" for "--link" flag: empty string specified for links'),
        (["connect", "--link-local-ip", "192.0.2.1", "bridge", "box"], 1, "invalid link-local IP address: 192.0.2.1"),
        (["disconnect", "--ip", "10.0.0.1", "bridge", "box"], 125, "unknown flag: --ip"),
    ],
)  # fmt: skip
def test_connect_refuses(rdock: Rdock, args: list[str], code: int, says: str) -> None:
    result = rdock("network", *args)
    assert (result.code, result.out) == (code, "") and f"rdock: {says}" in result.err, result


# -- events ----------------------------------------------------------------------------------------


def test_events(networks: Rdock) -> None:
    made = networks.ok("network", "create", "-d", "macvlan", "net")
    networks.ok("network", "rm", "net")
    args = ("events", "--since", "1m", "--until", "0s", "--filter", f"network={made}")
    lines = networks.ok(*args).splitlines()
    assert [line.partition(" ")[2] for line in lines] == [
        f"network {action} {made} (name=net, type=macvlan)" for action in ("create", "destroy")
    ]
    found = [json.loads(line) for line in networks.ok(*args, "--format", "json").splitlines()]
    assert [(one["Type"], one["Action"], one["scope"]) for one in found] == [
        ("network", "create", "local"), ("network", "destroy", "local"),
    ]  # fmt: skip
    assert all(one["Actor"] == {"ID": made, "Attributes": {"name": "net", "type": "macvlan"}} for one in found)


def test_events_of_containers(networks: Rdock) -> None:
    """Also when a container starts and ends by itself, and when its monitor was killed meanwhile."""
    made = networks.ok("network", "create", "net")
    box = networks.ok("run", "-d", "--network", "net", STARTER, "sleep", "600")
    networks.ok("network", "disconnect", "net", box)
    networks.ok("network", "connect", "net", box)
    kill_monitor(networks, box)
    networks.ok("stop", "-t", "0", box)
    networks("run", "--network", "net", STARTER, "/nothing")
    networks.ok("run", "--rm", "--network", "net", STARTER, "true")
    args = ("events", "--since", "1m", "--until", "0s", "--filter", f"network={made}", "--format", "json")
    found = [json.loads(line) for line in networks.ok(*args).splitlines()]
    of_box = [one["Action"] for one in found if one["Actor"]["Attributes"].get("container") == box]
    assert of_box == ["connect", "disconnect"] * 2
    others = [one["Action"] for one in found if one["Actor"]["Attributes"].get("container", box) != box]
    assert others == ["connect", "disconnect"] * 2


@pytest.mark.parametrize("mode", ["host", "none"])
def test_inspect_tells_who_has_no_endpoint(networks: Rdock, mode: str) -> None:
    box = networks.ok("run", "-d", "--network", mode, STARTER, "sleep", "600")
    networks.ok("create", "--network", mode, STARTER, "true")
    assert list(inspected(networks, mode)["Containers"]) == [box]


def test_help_is_dockers(rdock: Rdock) -> None:
    page = rdock.ok("network")
    assert re.findall(r"^  (\w+) ", page, re.MULTILINE) == [
        "connect", "create", "disconnect", "inspect", "ls", "prune", "rm",
    ]  # fmt: skip
    result = rdock("network", "nosuch")
    assert result.code == 1 and result.err.startswith("rdock: unknown command: rdock network nosuch"), result
    assert rdock.ok("network", "rm", "--help").startswith("\nUsage:  rdock network rm NETWORK [NETWORK...]\n")
