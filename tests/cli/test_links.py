"""`--link`, and what else is said of one endpoint: its driver options and link-local addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cli.conftest import is_clear
from tests.cli.test_bridge import SLEEP, address, names
from tests.conftest import STARTER
from tests.program import Rdock

IFNAME = "driver-opt=com.docker.network.endpoint.ifname"
SYSCTLS = "driver-opt=com.docker.network.endpoint.sysctls"


@pytest.fixture
def net(rdock: Rdock) -> Iterator[Rdock]:
    rdock.ok("network", "create", "front")
    yield rdock
    rdock.ok("rm", "-f", *rdock.ok("ps", "-aq").split()) if rdock.ok("ps", "-aq") else None
    rdock.ok("network", "rm", "front")


def hosts(rdock: Rdock, name: str) -> dict[str, str]:
    """What a container calls others → addresses."""
    found = {}
    for line in rdock.ok("exec", name, "cat", "/etc/hosts").splitlines():
        where, *called = line.split()
        found |= dict.fromkeys(called, where)
    return found


def test_the_default_network(rdock: Rdock) -> None:
    """The alias stands in /etc/hosts, and variables tell of the other (docs.docker.com/engine/network/links)."""
    other = rdock.ok("run", "-d", "--name", "db", "-e", "KEY=a b", "-e", "PATH=/bin", "-p", "5/udp", "--expose", "5432",
                     *SLEEP)  # fmt: skip
    web = rdock.ok("run", "-d", "--name", "web", "--link", "db:data-base", "--link", other[:12], "-e", "DB=own", *SLEEP)
    where = address(rdock, "db")
    assert {hosts(rdock, "web")[name] for name in ("data-base", other[:12], "db")} == {where}
    wanted = {
        "DATA_BASE_NAME": "/web/data-base", "DATA_BASE_ENV_KEY": "a b", "DATA_BASE_PORT": f"tcp://{where}:5432",
        "DATA_BASE_PORT_5432_TCP": f"tcp://{where}:5432", "DATA_BASE_PORT_5432_TCP_ADDR": where,
        "DATA_BASE_PORT_5432_TCP_PORT": "5432", "DATA_BASE_PORT_5432_TCP_PROTO": "tcp",
        "DATA_BASE_PORT_5_UDP": f"udp://{where}:5",
    }  # fmt: skip
    session = rdock.ok("exec", "web", "env")
    for text in (session, rdock.ok("exec", "web", "sh", "-c", "tr '\\0' '\\n' </proc/1/environ")):
        known = dict(line.split("=", 1) for line in text.splitlines())
        assert wanted.items() <= known.items() and known["DB"] == "own", text
        assert "DATA_BASE_ENV_PATH" not in known
    links = json.loads(rdock.ok("inspect", "-f", "{{json .HostConfig.Links}}", "web"))
    assert links == sorted([f"/db:/web/{other[:12]}", "/db:/web/data-base"])
    assert web and not names(rdock, "web", "data-base"), "the default network has no names"


def test_who_is_linked_to_moves(rdock: Rdock) -> None:
    """Who is linked to it learns where it is now, and keeps what else it has written in the file."""
    rdock.ok("run", "-d", "--name", "db", *SLEEP)
    rdock.ok("run", "-d", "--name", "web", "--link", "db:data", *SLEEP)
    rdock.ok("exec", "web", "sh", "-c", "echo 192.0.2.1 data2 data >>/etc/hosts; echo '# data' >>/etc/hosts")
    before = address(rdock, "db")
    rdock.ok("stop", "-t", "0", "db")
    rdock.ok("run", "-d", "--name", "thief", *SLEEP)
    assert address(rdock, "thief") == before
    rdock.ok("start", "db")
    now = address(rdock, "db")
    text = rdock.ok("exec", "web", "cat", "/etc/hosts")
    assert now != before and f"{now}\tdata " in text and before not in text.split()
    assert text.endswith("192.0.2.1 data2 data\n# data"), text
    rdock.ok("rename", "db", "renamed")
    assert rdock.ok("inspect", "-f", "{{index .HostConfig.Links 0}}", "web") == "/renamed:/web/data"


def test_who_is_linked_to_has_to_run(rdock: Rdock) -> None:
    rdock.ok("run", "-d", "--name", "db", *SLEEP)
    rdock.ok("create", "--name", "web", "--link", "db", *SLEEP)
    rdock.ok("stop", "-t", "0", "db")
    result = rdock("start", "web")
    assert result.code == 1 and "Cannot link to a non running container: /db AS /web/db" in result.err
    assert rdock.ok("network", "inspect", "-f", "{{len .Containers}}", "bridge") == "0", "nothing is left taken"
    rdock.ok("network", "create", "other")
    rdock.ok("network", "disconnect", "bridge", "db")
    rdock.ok("network", "connect", "other", "db")
    rdock.ok("start", "db")
    result = rdock("start", "web")
    assert "Cannot link to /db, as it does not belong to the default network" in result.err
    rdock.ok("rm", "-f", "db")
    rdock.ok("network", "rm", "other")
    rdock.ok("run", "-d", "--name", "db", *SLEEP)
    rdock.ok("rm", "web")
    rdock.ok("create", "--name", "web", "--link", "db", *SLEEP)
    rdock.ok("stop", "-t", "0", "db")
    assert rdock.ok("rm", "--link", "web/db") == "web/db"
    rdock.ok("start", "web")
    assert "db" not in hosts(rdock, "web")
    for name, says in (
        ("web/db", "No such container: web/db"),
        ("web", "Conflict, cannot remove the default name of the container"),
        ("nobody", "No such container: nobody"),
    ):
        result = rdock("rm", "--link", name)
        assert result.code == 1 and says in result.err and is_clear(result.err)


def test_a_link_goes_with_its_target(rdock: Rdock) -> None:
    rdock.ok("create", "--name", "db", *SLEEP)
    rdock.ok("create", "--name", "web", "--link", "db", *SLEEP)
    rdock.ok("rm", "db")
    rdock.ok("start", "web")
    assert "db" not in hosts(rdock, "web")
    assert rdock.ok("inspect", "-f", "{{json .HostConfig.Links}}", "web") == "null"


def test_a_user_defined_network(net: Rdock) -> None:
    """The name server answers to the alias, but to nobody else; who is linked to need not run."""
    net.ok("run", "-d", "--name", "web", "--network", "front", "--link", "db:Data", *SLEEP)
    net.ok("run", "-d", "--name", "stranger", "--network", "front", *SLEEP)
    assert not names(net, "web", "data")
    net.ok("run", "-d", "--name", "db", "--network", "front", *SLEEP)
    assert names(net, "web", "data") == [address(net, "db")] and not names(net, "stranger", "data")
    assert net.ok("inspect", "-f", "{{json .NetworkSettings.Networks.front.Links}}", "web") == '["db:Data"]'
    assert net.ok("inspect", "-f", "{{json .HostConfig.Links}}", "web") == "null"
    net.ok("run", "-d", "--name", "later", *SLEEP)
    net.ok("network", "connect", "--link", "db:other", "--link", "db", "front", "later")
    assert names(net, "later", "other") == [address(net, "db")]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--link", "nobody"], "could not get container for nobody: No such container: nobody"),
        (["--link", ""], 'invalid argument "" for "--link" flag: empty string specified for links'),
        (["--link", "a:b:c"], 'invalid argument "a:b:c" for "--link" flag: bad format for links: a:b:c'),
        (["--link", "a:b c"], "bad format for links: a:b c"),
        (["--link", "a:"], "bad format for links: a:"),
        (["--link", "there:x", "--link", "more:x"], "conflicting options: two links have the alias x"),
        (["--link", "hosted"], "host type networking can't be used with links"),
        (["--link", "there", "--network", "host"], "host type networking can't be used with links"),
        (["--link", "there", "--network", "container:there"], "container type network can't be used with links"),
        (["--network", "container:there", "--network", "front"], "cannot attach both user-defined"),
        (["-p", "::1:x:80"], "invalid hostPort: x"),
        (["-p", "1:2:3:80"], "invalid IP address: 1:2"),
        (["--link", "there", "--network", "none"], "conflicting options: links and the none network mode"),
        (["--link-local-ip", "192.0.2.1", "--network", "front"], "invalid link-local IP address: 192.0.2.1"),
        (["--network", f"name=front,{IFNAME}=a/b"], "invalid interface name: 'a/b'"),
        (["--network", f"name=front,{IFNAME}=lo"], "invalid interface name: 'lo'"),
        (["--network", f"name=front,{IFNAME}=sixteen-letters-"], "invalid interface name"),
        (["--network", f"name=front,{SYSCTLS}=kernel.shmmax=1"], "invalid endpoint sysctl"),
        (["--network", f"name=front,{SYSCTLS}=net.ipv4.ip_forward=1"], "invalid endpoint sysctl"),
        (["--network", f"name=front,{SYSCTLS}=net.ipv4.conf.IFNAME...=1"], "invalid endpoint sysctl"),
        (["--network", "name=front,driver-opt=color=red"], "an endpoint has no option color"),
    ],
)  # fmt: skip
def test_refusals(net: Rdock, options: list[str], says: str) -> None:
    net.ok("create", "--name", "there", *SLEEP)
    net.ok("create", "--name", "more", *SLEEP)
    net.ok("create", "--name", "hosted", "--network", "host", *SLEEP)
    result = net("create", "--name", "refused", *options, *SLEEP)
    assert result.code in (1, 125) and says in result.err, result
    assert "refused" not in net.ok("ps", "-a", "--format", "{{.Names}}")


def test_options_of_an_endpoint(net: Rdock) -> None:
    wanted = f"name=front,{IFNAME}=lan7,{SYSCTLS}=net.ipv4.conf.IFNAME.log_martians=1"
    script = "ip -o addr show lan7; cat /proc/sys/net/ipv4/conf/lan7/log_martians; ip route"
    found = net.ok("run", "--rm", "--network", wanted, "--link-local-ip", "169.254.7.7", STARTER, "sh", "-c", script)
    assert "inet 169.254.7.7/16" in found and "\n1\n" in found and "dev lan7" in found.splitlines()[-1]
    found = net.ok("run", "--rm", "--network", "name=front,link-local-ip=fe80::77", STARTER, "ip", "addr")
    assert "inet6 fe80::77/64 scope link" in found
    net.ok("run", "-d", "--name", "later", *SLEEP)
    net.ok("network", "connect", "--driver-opt", f"{IFNAME.partition('=')[2]}=lan8", "--link-local-ip", "169.254.9.9",
           "front", "later")  # fmt: skip
    assert "inet 169.254.9.9/16" in net.ok("exec", "later", "ip", "addr", "show", "lan8")
    refused = net("network", "connect", "--driver-opt", f"{IFNAME.partition('=')[2]}=lan8", "bridge", "later")
    assert refused.code == 1 and "already exists in network bridge" in refused.err
    net.ok("network", "disconnect", "bridge", "later")
    refused = net("network", "connect", "--driver-opt", f"{IFNAME.partition('=')[2]}=lan8", "bridge", "later")
    assert refused.code == 1 and "the container has an interface lan8 already" in refused.err
    assert "later" not in net.ok("network", "inspect", "-f", "{{range .Containers}}{{.Name}}{{end}}", "bridge")
    refused = net("run", "--rm", "--network", f"name=front,{SYSCTLS}=net.ipv4.conf.IFNAME.nothing=1", STARTER, "true")
    assert refused.code == 125 and is_clear(refused.err) and "nothing" in refused.err


def test_the_prefix_of_a_networks_interfaces(rdock: Rdock) -> None:
    rdock.ok("network", "create", "-o", "com.docker.network.container_iface_prefix=lan", "prefixed")
    try:
        assert "lan0" in rdock.ok("run", "--rm", "--network", "prefixed", STARTER, "ls", "/sys/class/net").split()
    finally:
        rdock.ok("network", "rm", "prefixed")
