"""The bridge driver: containers on networks of their own, seen from inside, from each other and from the host."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear, store, wait_for
from tests.cli.test_monitor_killed import kill_monitor
from tests.cli.test_network import WEB, fetch, free_port, host_address, server
from tests.conftest import STARTER
from tests.program import Rdock

SLEEP = (STARTER, "sleep", "900")
# Its log says who has asked.
LOGGING_WEB = (STARTER, "sh", "-c", "echo page >/index.html; exec httpd -f -v -h / -p 80")


@pytest.fixture
def net(rdock: Rdock) -> Iterator[Rdock]:
    """Two networks with a way out and one without."""
    for words in (["front"], ["back"], ["--internal", "closed"]):
        rdock.ok("network", "create", *words)
    yield rdock
    rdock.ok("rm", "-f", *rdock.ok("ps", "-aq").split()) if rdock.ok("ps", "-aq") else None
    rdock.ok("network", "rm", "front", "back", "closed")


def address(rdock: Rdock, name: str, network: str = "") -> str:
    if network:
        return rdock.ok("inspect", "-f", f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}', name)
    return rdock.ok("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)


def reaches(rdock: Rdock, name: str, target: str, port: int = 80) -> bool:
    """Whether a container gets an answer from a web server."""
    script = f"printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {target} {port}"
    return "page" in rdock("exec", name, "sh", "-c", script).out


def connects(rdock: Rdock, name: str, target: str, port: int) -> bool:
    """Whether a container gets a word from who greets."""
    return "greetings" in rdock("exec", name, "sh", "-c", f"nc -w 2 {target} {port} </dev/null").out


def names(rdock: Rdock, name: str, asked: str) -> list[str]:
    """The addresses that a container finds for a name, in the order of the answer."""
    found = rdock("exec", name, "nslookup", asked).out
    return re.findall(r"^Address: (\S+)$", found, re.M)


def processes(rdock: Rdock, title: str) -> list[int]:
    """Those of this rdock that are called so; slirp4netns is known by its parent."""
    own = [int(line.split()[0]) for line in rdock.home.processes()]
    if title == "slirp4netns":
        hubs = [pid for pid in own if name_of(pid) == "rdock-network"]
        own = [int(child) for hub in hubs for child in Path(f"/proc/{hub}/task/{hub}/children").read_text().split()]
    return [pid for pid in own if name_of(pid) == title]


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def kill(rdock: Rdock, title: str) -> None:
    """Kill the one process of this kind, and wait until another has taken its place."""
    (pid,) = processes(rdock, title)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(found := processes(rdock, title)) == 1 and pid not in found, f"another {title}")


# -- the default network ---------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--network", "bridge"), ("--net", "default")])
def test_default_network(rdock: Rdock, runtime: str, options: tuple[str, ...]) -> None:
    script = (
        "ip -o -4 addr show eth0; ip route; cat /etc/resolv.conf /etc/hosts;"
        "ping -c 1 -W 2 $(ip r | awk '/^d/{print $3}')"
    )
    found = rdock.ok("run", "--rm", "--hostname", "inside", *options, STARTER, "sh", "-c", script)
    own = re.search(r"inet (172\.\d+\.0\.\d+)/16", found)
    assert own and f"{own[1]}\tinside\n" in found and " 0% packet loss" in found, found
    gateway = own[1].rpartition(".")[0] + ".1"
    assert f"default via {gateway} dev eth0" in found and f"nameserver {gateway}\n" in found, found


def test_default_network_has_no_names(rdock: Rdock) -> None:
    """As with Docker, but containers reach each other by address."""
    rdock.ok("run", "-d", "--name", "web", STARTER, "sh", "-c", WEB)
    rdock.ok("run", "-d", "--name", "user", *SLEEP)
    wait_for(lambda: reaches(rdock, "user", address(rdock, "web")), "the web server")
    assert not names(rdock, "user", "web")


def test_the_hosts_other_way_out(rdock: Rdock) -> None:
    """A setting chooses what containers are on that name no network."""
    config = rdock.home.root / "config" / "rdock" / "config.json"
    before = config.read_text() if config.exists() else None
    config.parent.mkdir(exist_ok=True)
    config.write_text(json.dumps({**json.loads(before or "{}"), "network": "none"}))
    try:
        assert rdock.ok("run", "--rm", STARTER, "ls", "/sys/class/net") == "lo"
        config.write_text('{"network": "front"}')
        result = rdock("run", "--rm", STARTER, "true")
        assert result.code == 125 and is_clear(result.err) and "unknown network: front" in result.err
    finally:
        config.write_text(before) if before is not None else config.unlink()


# -- networks of one's own -------------------------------------------------------------------------


def test_names_and_aliases(net: Rdock) -> None:
    web = net.ok("run", "-d", "--name", "web", "--network", "front", "--network-alias", "site", *LOGGING_WEB)
    net.ok("run", "-d", "--name", "other", "--network", "name=front,alias=site,alias=Second", *LOGGING_WEB)
    net.ok("run", "-d", "--name", "user", "--network", "front", "-h", "someone", *SLEEP)
    own, second = address(net, "web"), address(net, "other")
    for name in ("web", "WEB", "web.", web[:12], "web.front"):
        assert names(net, "user", name) == [own], name
    assert names(net, "user", "second") == [second] and names(net, "web", "someone") == [address(net, "user")]
    turns = {tuple(names(net, "user", "site")) for _ in range(12)}
    assert turns == {(own, second), (second, own)}, "both have their turn"
    assert "web.front" in net.ok("exec", "user", "nslookup", own)
    assert reaches(net, "user", "web")
    assert f"{address(net, 'user')}\tsomeone" in net.ok("exec", "user", "cat", "/etc/hosts")
    net.ok("rename", "web", "renamed")
    assert names(net, "user", "renamed") == [own] and not names(net, "user", "web")
    net.ok("rm", "-f", "renamed")
    assert not names(net, "user", "renamed") and names(net, "user", "site") == [second]


def test_networks_keep_apart(net: Rdock) -> None:
    for name, network in (("one", "front"), ("two", "back"), ("dark", "closed")):
        net.ok("run", "-d", "--name", name, "--network", network, *LOGGING_WEB)
    net.ok("run", "-d", "--name", "both", "--network", "front", "--network", "closed", *SLEEP)
    for target, network in (("one", "front"), ("dark", "closed")):
        assert reaches(net, "both", target) and reaches(net, "both", address(net, target, network))
    assert not names(net, "both", "two") and not reaches(net, "both", address(net, "two"))
    assert not names(net, "one", "two") and not reaches(net, "one", address(net, "two"))
    assert not names(net, "one", "dark") and not reaches(net, "one", address(net, "dark"))
    with server("0.0.0.0") as port:
        for name, gets_out in (("one", True), ("both", True), ("dark", False)):
            assert connects(net, name, host_address(), port) == gets_out, name
    assert "default" not in net.ok("exec", "dark", "ip", "route")


def test_addresses_that_are_asked_for(rdock: Rdock) -> None:
    rdock.ok("network", "create", "--subnet", "10.77.5.0/24", "--ip-range", "10.77.5.128/25", "own")
    rdock.ok("network", "create", "loose")
    rdock.ok("run", "-d", "--name", "first", "--network", "own", *SLEEP)
    rdock.ok("run", "-d", "--name", "fixed", "--network", "own", "--ip", "10.77.5.9", "--mac-address",
             "02:11:22:33:44:55", *SLEEP)  # fmt: skip
    assert (address(rdock, "first"), address(rdock, "fixed")) == ("10.77.5.128", "10.77.5.9")
    assert "02:11:22:33:44:55" in rdock.ok("exec", "fixed", "cat", "/sys/class/net/eth0/address")
    for network, asked, says in (
        ("own", "10.77.5.9", "Address already in use"),
        ("own", "10.77.5.1", "Address already in use"),
        ("own", "10.77.6.9", "no configured subnet or ip-range contain the IP address 10.77.6.9"),
        ("own", "10.77.5.255", "no configured subnet or ip-range contain the IP address 10.77.5.255"),
        ("loose", "172.20.0.9", "user specified IP address is supported only when connecting to networks with user"),
        ("bridge", "172.17.0.9", "user specified IP address is supported on user defined networks only"),
        ("own", "nonsense", "invalid IP address: nonsense"),
    ):
        result = rdock("run", "--rm", "--network", network, "--ip", asked, STARTER, "true")
        assert result.code == 125 and is_clear(result.err) and says in result.err, str(result)
    # A container that is stopped has given its address back, and gets it again.
    rdock.ok("stop", "-t", "0", "fixed")
    rdock.ok("run", "--rm", "--network", "own", "--ip", "10.77.5.9", STARTER, "true")
    rdock.ok("start", "fixed")
    assert address(rdock, "fixed") == "10.77.5.9"
    rdock.ok("rm", "-f", "first", "fixed")
    rdock.ok("network", "rm", "own", "loose")


def test_exhausted_network(rdock: Rdock) -> None:
    rdock.ok("network", "create", "--subnet", "10.77.6.0/30", "tiny")
    rdock.ok("run", "-d", "--name", "only", "--network", "tiny", *SLEEP)
    result = rdock("run", "--rm", "--network", "tiny", STARTER, "true")
    assert result.code == 125 and "no available IPv4 addresses on this network's address pools: tiny" in result.err
    rdock.ok("rm", "-f", "only")
    rdock.ok("run", "--rm", "--network", "tiny", STARTER, "true")
    rdock.ok("network", "rm", "tiny")


def test_ipv6(rdock: Rdock) -> None:
    rdock.ok("network", "create", "--ipv6", "--subnet", "fd77:5::/64", "six")
    rdock.ok("run", "-d", "--name", "web", "--network", "six", *LOGGING_WEB)
    rdock.ok("run", "-d", "--name", "user", "--network", "six", "--ip6", "fd77:5::99", *SLEEP)
    assert "fd77:5::99" in rdock.ok("exec", "user", "ip", "-6", "addr")
    assert len(names(rdock, "user", "web")) == 2
    assert reaches(rdock, "user", "fd77:5::2")
    assert "default via fd77:5::1" in rdock.ok("exec", "user", "ip", "-6", "route")
    rdock.ok("rm", "-f", "web", "user")
    rdock.ok("network", "rm", "six")


def test_connect_and_disconnect(net: Rdock) -> None:
    port = free_port()
    net.ok("run", "-d", "--name", "web", "--network", "front", "-p", f"{port}:80", *LOGGING_WEB)
    net.ok("run", "-d", "--name", "user", "--network", "back", *SLEEP)
    assert fetch(port) and not reaches(net, "user", address(net, "web"))
    net.ok("network", "connect", "--alias", "site", "back", "web")
    assert reaches(net, "user", "web") and names(net, "user", "site") == [address(net, "web", "back")]
    assert fetch(port)
    net.ok("network", "disconnect", "front", "web")
    assert list(json.loads(net.ok("inspect", "-f", "{{json .NetworkSettings.Networks}}", "web"))) == ["back"]
    assert fetch(port), "its ports lead to where it is now"
    assert net.ok("exec", "web", "ip", "route").startswith("default via ")
    for words, says in (
        (("connect", "back", "web"), "already exists in network back"),
        (("disconnect", "front", "web"), "is not connected to network front"),
        (("connect", "host", "web"), "container cannot be connected to host network"),
        (("rm", "back"), "has active endpoints"),
    ):
        result = net("network", *words)
        assert result.code == 1 and is_clear(result.err) and says in result.err, str(result)
    # What has changed holds when it is started again, too.
    net.ok("restart", "-t", "0", "web")
    assert reaches(net, "user", "site") and fetch(port)
    net.ok("stop", "-t", "0", "web")
    net.ok("network", "connect", "front", "web")
    net.ok("start", "web")
    assert set(net.ok("exec", "web", "ls", "/sys/class/net").split()) == {"lo", "eth0", "eth1"}


def test_in_the_network_of_another(net: Rdock) -> None:
    net.ok("run", "-d", "--name", "web", "--network", "front", *LOGGING_WEB)
    script = (
        "hostname; ip -o -4 addr show eth0; cat /etc/hosts; printf 'GET /index.html HTTP/1.0\r\n\r\n' | nc 127.0.0.1 80"
    )
    found = net.ok("run", "--rm", "--network", "container:web", STARTER, "sh", "-c", script)
    assert net.ok("exec", "web", "hostname") in found and address(net, "web") in found and "page" in found, found
    for options, says in (
        (("-p", "80"), "conflicting options: port publishing and the container type network mode"),
        (("-h", "x"), "conflicting options: hostname and the network mode"),
        (("--network-alias", "x"), "network-scoped aliases are only supported for user-defined networks"),
    ):
        result = net("run", "--rm", "--network", "container:web", *options, STARTER, "true")
        assert result.code == 125 and is_clear(result.err) and says in result.err, str(result)
    net.ok("stop", "-t", "0", "web")
    result = net("run", "--rm", "--network", "container:web", STARTER, "true")
    assert result.code == 125 and "cannot join network of a non running container" in result.err, str(result)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--network", "nosuch"], "network nosuch not found"),
        (["--network", "name=nosuch"], "network nosuch not found"),
        (["--network", "alias=x"], "network name/id is not specified"),
        (["--network", "name=bridge,alias=x"], "network-scoped aliases are only supported for user-defined networks"),
        (["--network-alias", "x"], "network-scoped aliases are only supported for user-defined networks"),
        (["--network", "name=bridge,colour=red"], "invalid field key colour"),
        (["--network", "name=bridge,ip=1.2.3"], "invalid IP address: 1.2.3"),
        (["--network", "none", "--network", "host"], "cannot attach both user-defined and non-user-defined"),
        (["--network", "host", "--mac-address", "02:00:00:00:00:01"], "mac-address and the network mode"),
        (["--mac-address", "nonsense"], "nonsense is not a valid mac address"),
        (["--network", "container:nosuch"], "No such container: nosuch"),
    ],
)
def test_refusals(rdock: Rdock, options: list[str], says: str) -> None:
    before = store(rdock)
    result = rdock("run", "--rm", *options, STARTER, "true")
    assert result.code == 125 and is_clear(result.err) and says in result.err, str(result)
    assert store(rdock) == before


# -- published ports -------------------------------------------------------------------------------


def test_publish_tcp(rdock: Rdock, runtime: str) -> None:
    port = free_port()
    container = rdock.ok("run", "-d", "-p", f"{port}:80", *LOGGING_WEB)
    assert fetch(port).endswith(b"page\n") and fetch(port, "::1").endswith(b"page\n")
    outside = host_address()
    assert fetch(port, outside).endswith(b"page\n")
    assert rdock.ok("ps", "--format", "{{.Ports}}") == f"0.0.0.0:{port}->80/tcp, [::]:{port}->80/tcp"
    assert rdock.ok("port", container) == f"80/tcp -> 0.0.0.0:{port}\n80/tcp -> [::]:{port}"
    clients = set(
        re.findall(r"^\[::ffff:([0-9.]+)\]", rdock("logs", container).err + rdock("logs", container).out, re.M)
    )
    gateway = rdock.ok("inspect", "-f", "{{.NetworkSettings.Gateway}}", container)
    assert clients == {gateway, outside}, "the client's own address, but for those of the loopback"
    rdock.ok("rm", "-f", container)
    # and free at once
    for family, everything in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with socket.create_server((everything, port), family=family):
            pass


def test_a_published_port_is_reached_from_inside(net: Rdock) -> None:
    """By the host's address: from the container itself, from a neighbour, and from another network."""
    port = free_port()
    net.ok("run", "-d", "--name", "web", "--network", "front", "-p", f"{port}:80", *LOGGING_WEB)
    net.ok("run", "-d", "--name", "near", "--network", "front", *SLEEP)
    net.ok("run", "-d", "--name", "far", "--network", "back", *SLEEP)
    for name in ("web", "near", "far"):
        wait_for(lambda name=name: reaches(net, name, host_address(), port), f"the port, from {name}")


@pytest.mark.parametrize("icc", [True, False])
def test_icc(rdock: Rdock, icc: bool) -> None:
    """Without it the containers of a network keep apart; their ports are published all the same."""
    rdock.ok("network", "create", "-o", f"com.docker.network.bridge.enable_icc={icc}", "apart")
    port = free_port()
    try:
        rdock.ok("run", "-d", "--name", "web", "--network", "apart", "-p", f"{port}:80", *LOGGING_WEB)
        rdock.ok("run", "-d", "--name", "user", "--network", "apart", *SLEEP)
        assert fetch(port).endswith(b"page\n")
        assert names(rdock, "user", "web") == [address(rdock, "web")]
        assert reaches(rdock, "user", address(rdock, "web")) == icc
        with server("0.0.0.0") as greeting:
            assert connects(rdock, "user", host_address(), greeting)
    finally:
        rdock.ok("rm", "-f", "web", "user")
        rdock.ok("network", "rm", "apart")


def test_ports_come_and_go_with_the_networks_that_lead_out(net: Rdock) -> None:
    """What is on internal networks only is not reached from outside, and its ports are free for others."""
    port = free_port()
    shown = f"80/tcp -> 0.0.0.0:{port}\n80/tcp -> [::]:{port}"
    net.ok("run", "-d", "--name", "web", "--network", "closed", "-p", f"{port}:80", *LOGGING_WEB)
    assert net.ok("port", "web") == ""
    with socket.create_server(("0.0.0.0", port)):
        refused = net("network", "connect", "front", "web")
        assert refused.code == 1 and f"{port}" in refused.err and is_clear(refused.err)
        assert "front" not in net.ok("inspect", "-f", "{{json .NetworkSettings.Networks}}", "web")
    net.ok("network", "connect", "front", "web")
    assert net.ok("port", "web") == shown and fetch(port).endswith(b"page\n")
    kill_monitor(net, net.ok("inspect", "-f", "{{.Id}}", "web"))
    assert net.ok("port", "web") == shown and fetch(port).endswith(b"page\n")
    kill(net, "rdock-ports")
    assert fetch(port).endswith(b"page\n")
    net.ok("network", "connect", "back", "web")
    net.ok("network", "disconnect", "front", "web")
    assert net.ok("port", "web") == shown and fetch(port).endswith(b"page\n"), "it is led by the other one"
    net.ok("network", "disconnect", "back", "web")
    assert net.ok("port", "web") == ""
    with socket.create_server(("0.0.0.0", port)):
        pass
    net.ok("network", "connect", "back", "web")
    assert fetch(port).endswith(b"page\n")


def test_publish_all(rdock: Rdock) -> None:
    container = rdock.ok("run", "-d", "-P", "--expose", "80", "--expose", "53/udp", *LOGGING_WEB)
    ports = json.loads(rdock.ok("inspect", "-f", "{{json .NetworkSettings.Ports}}", container))
    assert set(ports) == {"80/tcp", "53/udp"}
    assert fetch(int(ports["80/tcp"][0]["HostPort"])).endswith(b"page\n")


def test_info_says_whether_servers_see_their_clients(rdock: Rdock) -> None:
    port = free_port()
    rdock.ok("run", "-d", "--name", "web", "-p", f"{port}:80", *LOGGING_WEB)
    own, gateway = host_address(), rdock.ok("inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", "web")
    seen = []
    for asked in (own, "127.0.0.1"):
        before = len(rdock("logs", "web").err)
        assert b"page" in fetch(port, asked)
        wait_for(lambda: "response:200" in rdock("logs", "web").err[before:], "it is logged")  # noqa: B023
        seen.append(re.findall(r"^\[(?:::ffff:)?([0-9.]+)\]", rdock("logs", "web").err[before:], re.M)[-1])
    said = rdock.ok("info", "-f", "{{.ClientAddresses}}")
    assert f"Client Addresses: {said}" in rdock.ok("info")
    assert seen[1] == gateway
    assert seen[0] == (own if said == "kept, but for those of the loopback" else gateway), said
    rdock.ok("rm", "-f", "web")


# -- helpers that are killed -----------------------------------------------------------------------


def test_killed_helpers_are_replaced(net: Rdock) -> None:
    """Containers go on meanwhile, and are not started again."""
    port = free_port()
    net.ok("run", "-d", "--name", "web", "--network", "front", "-p", f"{port}:80", *LOGGING_WEB)
    net.ok("run", "-d", "--name", "user", "--network", "front", *SLEEP)
    started = net.ok("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", "web", "user")

    def everything_works() -> bool:
        with server("0.0.0.0") as greeting:
            out = connects(net, "user", host_address(), greeting)
        return out and reaches(net, "user", "web") and b"page" in fetch(port)

    assert everything_works()
    for title in ("slirp4netns", "rdock-network", "rdock-ports", "slirp4netns", "rdock-network"):
        kill(net, title)
        wait_for(everything_works, f"all as before, after {title} was killed")
    kill_monitor(net, net.ok("inspect", "-f", "{{.Id}}", "web"))
    for title in ("rdock-ports", "rdock-network"):
        kill(net, title)
        wait_for(everything_works, f"all as before, after {title} was killed under another monitor")
    assert net.ok("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", "web", "user") == started
    net.ok("rm", "-f", "web", "user")
    assert not json.loads(net.ok("network", "inspect", "front"))[0]["Containers"]


def test_published_ports_are_served_again_whatever_happens(rdock: Rdock) -> None:
    """Be it that the process that serves them is killed time and again, or that there cannot be another for a while."""
    port = free_port()
    web = rdock.ok("run", "-d", "--name", "web", "-p", f"{port}:80", *LOGGING_WEB)
    wait_for(lambda: b"page" in fetch(port), "it is served")
    for _ in range(7):
        kill(rdock, "rdock-ports")
    wait_for(lambda: b"page" in fetch(port), "it is served after many deaths")
    attendants = [*processes(rdock, "rdock-keeper"), *processes(rdock, "rdock-monitor")]
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    (ports,) = processes(rdock, "rdock-ports")
    for pid in attendants:
        resource.prlimit(pid, resource.RLIMIT_NPROC, (1, hard))
    os.kill(ports, signal.SIGKILL)
    time.sleep(3)
    assert not processes(rdock, "rdock-ports"), "a limit that does not hold proves nothing"
    assert [*processes(rdock, "rdock-keeper"), *processes(rdock, "rdock-monitor")] == attendants
    for pid in attendants:
        resource.prlimit(pid, resource.RLIMIT_NPROC, (hard, hard))
    kill_monitor(rdock, web)
    wait_for(lambda: b"page" in fetch(port), "it is served when there may be a process for it")
    assert rdock.ok("inspect", "-f", "{{.State.Running}} {{.RestartCount}}", "web") == "true 0"
    rdock.ok("rm", "-f", "web")


def test_addresses_of_what_was_killed_are_free(net: Rdock) -> None:
    """Keeper, monitor and program all at once: nobody is left to give anything back."""
    net.ok("run", "-d", "--name", "gone", "--network", "front", *SLEEP)
    own = address(net, "gone")
    for title in ("rdock-keeper", "rdock-monitor"):
        for pid in processes(net, title):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: net.ok("inspect", "-f", "{{.State.Running}}", "gone") == "false", "it has ended")
    net.ok("run", "-d", "--name", "next", "--network", "front", *SLEEP)
    assert address(net, "next") == own
    net.ok("rm", "-f", "gone", "next")


@pytest.mark.slow
def test_a_crowd(fresh_rdock: Rdock) -> None:
    """Fifty containers come and go on three networks from ten shells, with kills: no address twice, nothing left."""
    rdock = fresh_rdock
    here = ("front", "back", "closed")
    for words in (["front"], ["back"], ["--internal", "closed"]):
        rdock.ok("network", "create", *words)

    def shell(number: int) -> None:
        chance = random.Random(number)
        for turn in range(5):
            name = f"c{number}-{turn}"
            on = chance.sample(here, chance.randint(1, 2))
            process = rdock.start("run", "-d", "--name", name, *(f"--network={each}" for each in on), *SLEEP)
            if chance.random() < 0.3:
                time.sleep(chance.random() / 5)
                process.kill()
            process.communicate()
            for _ in range(2):
                verb = chance.choice(("connect", "disconnect"))
                process = rdock.start("network", verb, chance.choice(here), name)
                if chance.random() < 0.3:
                    time.sleep(chance.random() / 10)
                    process.kill()
                process.communicate()
            if chance.random() < 0.4:
                rdock("rm", "-f", name)
            for title in ("rdock-network", "rdock-monitor", "slirp4netns"):
                if chance.random() < 0.1:
                    for pid in processes(rdock, title)[:1]:
                        os.kill(pid, signal.SIGKILL)

    with ThreadPoolExecutor(10) as shells:
        list(shells.map(shell, range(10)))
    running = rdock.ok("ps", "-q").split()
    seen: set[tuple[str, str]] = set()
    for found in json.loads(rdock.ok("inspect", *running)):
        for network, endpoint in found["NetworkSettings"]["Networks"].items():
            pair = network, endpoint["IPAddress"]
            assert pair[1] and pair not in seen, pair
            seen.add(pair)
    # Whoever runs is reached under its name by all others of its network.
    for network in here:
        members = json.loads(rdock.ok("network", "inspect", network))[0]["Containers"].values()
        for member in members:
            own = member["IPv4Address"].partition("/")[0]
            asking, asked = next(iter(members))["Name"], f"{member['Name']}.{network}"
            # The last kill may have been just now, and the hub's successor be on its way.
            wait_for(lambda: names(rdock, asking, asked) == [own], f"{asking} finds {asked}")  # noqa: B023
    rdock.ok("rm", "-f", *rdock.ok("ps", "-aq").split())
    for network in here:
        assert not json.loads(rdock.ok("network", "inspect", network))[0]["Containers"]
        rdock.ok("network", "rm", network)
    assert rdock.ok("system", "check") == "no problems found"
    wait_for(lambda: not processes(rdock, "rdock-network"), "the hub is gone")


def test_servers_that_the_user_gives(net: Rdock) -> None:
    """On a network with names they are asked by its name server, so that names are known all the same."""
    net.ok("run", "-d", "--name", "web", "--network", "front", *SLEEP)
    net.ok("run", "-d", "--name", "user", "--network", "front", "--dns", "192.0.2.53", *SLEEP)
    conf = net.ok("exec", "user", "cat", "/etc/resolv.conf")
    assert "192.0.2.53" not in conf and "ndots:0" in conf and names(net, "user", "web") == [address(net, "web")]
    conf = net.ok("run", "--rm", "--dns", "192.0.2.53", STARTER, "cat", "/etc/resolv.conf")
    assert re.findall("nameserver (.*)", conf) == ["192.0.2.53"] and "ndots:0" not in conf


# Answers every question with 192.0.2.8, and says who has asked.
DNS_SERVER = """
import socket
waiting = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
waiting.bind(("", 53))
print("ready", flush=True)
while True:
    text, peer = waiting.recvfrom(512)
    print("asked by", peer[0], flush=True)
    head = text[:2] + bytes.fromhex("8180 0001 0001 0000 0000")
    waiting.sendto(head + text[12:] + bytes.fromhex("c00c 0001 0001 0000003c 0004 c0000208"), peer)
"""


def test_a_server_of_names_in_a_container(net: Rdock) -> None:
    """`--dns` may name a container, of the same network: to others it is as far away as all that is there."""
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip(f"no {python} to be a server in a container")
    programs = [word for path in ("/usr", "/lib", "/lib64") for word in ("-v", f"{path}:{path}:ro")]
    net.ok("run", "-d", "--name", "dns", "--network", "front", *programs, STARTER, str(python), "-c", DNS_SERVER)
    wait_for(lambda: "ready" in net.ok("logs", "dns"), "it listens")
    server = address(net, "dns")
    net.ok("run", "-d", "--name", "user", "--network", "back", "--network", "front", "--dns", server, *SLEEP)
    net.ok("run", "-d", "--name", "apart", "--network", "back", "--dns", server, *SLEEP)
    lookup = ("nslookup", "-type=a", "some.where.test")
    assert "192.0.2.8" in net.ok("exec", "user", *lookup)
    gateway = net.ok("inspect", "-f", "{{.NetworkSettings.Networks.front.Gateway}}", "user")
    assert set(net.ok("logs", "dns").split("\n")) == {"ready", f"asked by {gateway}"}
    assert names(net, "user", "dns") == [server], "names of containers are known all the same"
    asked = net.ok("logs", "dns").count("asked")
    assert "192.0.2.8" not in net("exec", "apart", *lookup).out
    assert net.ok("logs", "dns").count("asked") == asked


def test_a_damaged_record_concerns_its_own_network_only(own_rdock: Rdock) -> None:
    made = {name: own_rdock.ok("network", "create", name) for name in ("front", "back")}
    for name, network in (("user", "front"), ("web", "front"), ("far", "back")):
        own_rdock.ok("run", "-d", "--name", name, "--network", network, *SLEEP)
    own = address(own_rdock, "web")
    assert names(own_rdock, "user", "web") == [own] and names(own_rdock, "far", "far")
    for suffix in (".leases", ".json"):
        record = own_rdock.home.data / "networks" / f"{made['back']}{suffix}"
        before = record.read_text()
        record.write_text("{")
        own_rdock.ok("rename", "web", "other")
        assert names(own_rdock, "user", "other") == [own] and not names(own_rdock, "user", "web"), suffix
        own_rdock.ok("rename", "other", "web")
        record.write_text(before)
    own_rdock.ok("rm", "-f", *own_rdock.ok("ps", "-aq").split())
    own_rdock.ok("network", "rm", "front", "back")


def test_names_go_with_those_who_see_to_a_container(net: Rdock) -> None:
    """Whose keeper and monitor are killed is not started, and its name means nobody, though none looks after it."""
    for name in ("user", "gone", "other"):
        net.ok("run", "-d", "--name", name, "--network", "name=front,alias=each", *SLEEP)
    assert len(names(net, "user", "each")) == 3 and names(net, "user", "gone")
    short = net.ok("inspect", "-f", "{{.Id}}", "gone")[:12]
    # What asks runs already: every command would clear away after the dead.
    asking = net.start("exec", "user", "sh", "-c", "sleep 3; nslookup -type=a each; nslookup -type=a gone")
    wait_for(lambda: "sleep 3" in net.ok("top", "user"), "it is about to ask")
    for title in ("rdock-keeper", "rdock-monitor"):
        for pid in processes(net, title):
            if short in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)
    out = asking.communicate(timeout=30)[0].decode()
    found = re.findall(r"^Address: (\S+)$", out, re.M)
    assert sorted(found) == sorted([address(net, "user"), address(net, "other")]), out


@pytest.mark.parametrize("options", [("-i", "-p", "80", "-p", "81"), ("-p", "20000-20130:20000-20130")])
def test_a_monitor_is_killed_that_holds_many_sockets(rdock: Rdock, options: tuple[str, ...]) -> None:
    """All of them are for the next one, so that the container does not notice."""
    container = rdock.ok("run", "-d", *options, *LOGGING_WEB)
    before = rdock.ok("inspect", "-f", "{{.State.Pid}} {{json .NetworkSettings.Ports}}", container)
    kill_monitor(rdock, container)
    assert rdock.ok("inspect", "-f", "{{.State.Pid}} {{json .NetworkSettings.Ports}}", container) == before
    first = rdock.ok("port", container).splitlines()[0].rpartition(":")[2]
    if "80" in options:
        assert fetch(int(first)).endswith(b"page\n")
    kill(rdock, "rdock-ports")
    rdock.ok("rm", "-f", container)
    with socket.create_server(("0.0.0.0", int(first))):
        pass


def test_a_start_comes_before_the_hub_has_a_successor(net: Rdock) -> None:
    """Who started it had no namespace, and those who were there move to the new one."""
    port = free_port()
    net.ok("run", "-d", "--name", "web", "--network", "front", "-p", f"{port}:80", *LOGGING_WEB)
    monitor = next(pid for pid in processes(net, "rdock-monitor"))
    os.kill(monitor, signal.SIGSTOP)
    try:
        os.kill(processes(net, "rdock-network")[0], signal.SIGKILL)
        net.ok("run", "-d", "--name", "user", "--network", "front", *SLEEP)
    finally:
        os.kill(monitor, signal.SIGCONT)
    wait_for(lambda: reaches(net, "user", "web"), "the web server in the new namespace")
    assert fetch(port).endswith(b"page\n")


def test_an_interface_with_another_name_goes_all_the_same(net: Rdock) -> None:
    net.ok("run", "-d", "--name", "sly", "--network", "front", "--network", "back", "--cap-add", "NET_ADMIN", *SLEEP)
    hide = "ip link set eth1 down; ip link set eth1 name hid; ip link set hid up; ip -o link"
    assert "hid" in net.ok("exec", "sly", "sh", "-c", hide)
    for network in ("front", "back"):
        net.ok("network", "disconnect", network, "sly")
    assert net.ok("exec", "sly", "ls", "/sys/class/net") == "lo"
    # And one that fails leaves nothing.
    net.ok("exec", "sly", "sh", "-c", "ip link add link lo name eth0 type ipvlan 2>/dev/null || true")
    net.ok("network", "connect", "front", "sly")
    assert "eth0" in net.ok("exec", "sly", "ls", "/sys/class/net").split()


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("driver", ["bridge", "macvlan"])
def test_an_address_leaves_a_namespace_that_lives_on(rdock: Rdock, driver: str, killed: bool) -> None:
    """By a container that shares it: the next one has the address alone."""
    if killed and driver == "macvlan":
        pytest.skip("of a macvlan nobody knows where it is")
    rdock.ok("network", "create", "-d", driver, "given")
    try:
        rdock.ok("run", "-d", "--name", "first", "--network", "given", *SLEEP)
        own = address(rdock, "first")
        keepers = {title: processes(rdock, title) for title in ("rdock-keeper", "rdock-monitor")}
        rdock.ok("run", "-d", "--name", "sharer", "--network", "container:first", *SLEEP)
        assert own in rdock.ok("exec", "sharer", "ip", "-4", "addr")
        if killed:
            for title, pids in keepers.items():
                for pid in pids:
                    assert name_of(pid) == title
                    os.kill(pid, signal.SIGKILL)
            wait_for(lambda: rdock.ok("inspect", "-f", "{{.State.Running}}", "first") == "false", "it has ended")
        else:
            rdock.ok("kill", "first")
            rdock.ok("wait", "first")
            assert own not in rdock.ok("exec", "sharer", "ip", "-4", "addr")
        rdock.ok("run", "-d", "--name", "next", "--network", "given", *SLEEP)
        assert address(rdock, "next") == own
        assert rdock.ok("exec", "sharer", "ls", "/sys/class/net") == "lo"
    finally:
        rdock("rm", "-f", "sharer", "first", "next")
        rdock.ok("network", "rm", "given")


def test_a_macvlan_with_another_name_goes_all_the_same(rdock: Rdock) -> None:
    rdock.ok("network", "create", "-d", "macvlan", "given")
    try:
        rdock.ok("run", "-d", "--name", "sly", "--cap-add", "NET_ADMIN", *SLEEP)
        rdock.ok("network", "connect", "given", "sly")
        hide = "ip link set eth1 down; ip link set eth1 name hid; ip link set hid up; ip -o link"
        assert "hid" in rdock.ok("exec", "sly", "sh", "-c", hide)
        rdock.ok("network", "disconnect", "given", "sly")
        assert set(rdock.ok("exec", "sly", "ls", "/sys/class/net").split()) == {"lo", "eth0"}
    finally:
        rdock("rm", "-f", "sly")
        rdock.ok("network", "rm", "given")
