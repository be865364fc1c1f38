"""The options of `--network slirp4netns:…`, each by what it does."""

from __future__ import annotations

import re

import pytest

from rdock.network import uplink
from tests.cli.conftest import is_clear, store, wait_for, write_settings
from tests.cli.test_network import OURS, WEB, fetch, free_port, server
from tests.conftest import STARTER
from tests.program import Rdock

SHOW = "cat /sys/class/net/tap0/mtu; ip -o -4 addr show tap0; ip route; cat /etc/hosts /etc/resolv.conf"


def network(options: str) -> tuple[str, str]:
    return ("--network", f"slirp4netns:{options}")


def test_mtu_and_block(rdock: Rdock, runtime: str) -> None:
    options = "mtu=1400,cidr=10.55.1.2/16"
    found = rdock.ok("run", "--rm", "--hostname", "inside", *network(options), STARTER, "sh", "-c", SHOW)
    assert found.startswith("1400\n") and "10.55.0.100/16" in found and "default via 10.55.0.2" in found
    assert "10.55.0.100\tinside" in found and "nameserver 10.55.0.3" in found
    usual = rdock.ok("run", "--rm", *network("port_handler=slirp4netns"), STARTER, "sh", "-c", SHOW)
    assert usual.startswith(f"{uplink.MTU}\n") and f"{OURS.address}/24" in usual


def test_shown_as_given(rdock: Rdock) -> None:
    port = free_port()
    mode = "slirp4netns:cidr=10.55.0.128/25,mtu=1400"
    container = rdock.ok("run", "-d", "--network", mode, "-p", f"{port}:80", STARTER, "sh", "-c", WEB)
    assert fetch(port).endswith(b"page\n")
    template = (
        "{{.HostConfig.NetworkMode}} {{with .NetworkSettings}}{{.IPAddress}}/{{.IPPrefixLen}} {{.Gateway}} "
        "{{range $name, $one := .Networks}}{{$name}} {{$one.IPAddress}}{{end}}{{end}}"
    )
    expected = f"{mode} 10.55.0.228/25 10.55.0.130 slirp4netns 10.55.0.228"
    assert rdock.ok("inspect", "-f", template, container) == expected
    assert rdock.ok("ps", "--format", "{{.Networks}}") == "slirp4netns"
    result = rdock("network", "connect", "bridge", container)
    assert result.code == 1 and "a container with a private slirp4netns network cannot be on others" in result.err


def test_the_hosts_loopback(rdock: Rdock, runtime: str) -> None:
    script = "nc -w 2 outside {} </dev/null"
    with server("127.0.0.1") as port:
        for value, expected in (("true", "greetings\n"), ("false", "")):
            host = ("--add-host", f"outside:{OURS.gateway}")
            result = rdock("run", "--rm", *network(f"allow_host_loopback={value}"), *host, STARTER,
                           "sh", "-c", script.format(port))  # fmt: skip
            assert result.out == expected, str(result)
        host = ("--add-host", "outside:host-gateway")
        assert rdock("run", "--rm", *network("allow_host_loopback=true"), *host, STARTER,
                     "sh", "-c", script.format(port)).out == "greetings\n"  # fmt: skip


def test_ipv6(rdock: Rdock) -> None:
    port = free_port()
    container = rdock.ok(
        "run", "-d", "--hostname", "inside", *network("enable_ipv6=true"), "-p", f"{port}:80", STARTER, "sh", "-c", WEB
    )
    # It follows from what slirp announces, and from the address of the interface.
    wait_for(lambda: f"{uplink.ADDRESS6}/64" in rdock.ok("exec", container, "ip", "-6", "addr", "show", "tap0"))
    assert re.search(r"^default via fe80::2 ", rdock.ok("exec", container, "ip", "-6", "route"), re.M)
    assert f"{uplink.ADDRESS6}\tinside" in rdock.ok("exec", container, "cat", "/etc/hosts")
    assert fetch(port).endswith(b"page\n")
    without = rdock.ok("run", "--rm", "--network", "slirp4netns", STARTER, "ip", "-6", "route")
    assert "default" not in without


def test_where_from(rdock: Rdock) -> None:
    """From an address of the loopback the host's loopback is reached, and is told that it was that one."""
    with server("127.0.0.1") as port:
        options = "allow_host_loopback=true,outbound_addr=127.0.0.1"
        script = f"nc -w 2 {OURS.gateway} {port} </dev/null"
        assert rdock.ok("run", "--rm", *network(options), STARTER, "sh", "-c", script) == "greetings"
    container = rdock.ok("run", "-d", *network("outbound_addr=lo,outbound_addr6=::1"), STARTER, "sleep", "100")
    (line,) = [line for line in rdock.home.processes() if "slirp4netns" in line.split()[1]]
    assert "--outbound-addr=lo --outbound-addr6=::1" in line
    rdock.ok("rm", "-f", container)


def test_as_the_default(own_rdock: Rdock) -> None:
    write_settings(own_rdock, '{"network": "slirp4netns:mtu=1400"}')
    assert own_rdock.ok("run", "--rm", STARTER, "cat", "/sys/class/net/tap0/mtu") == "1400"
    write_settings(own_rdock, '{"network": "slirp4netns:mtu=0"}')
    result = own_rdock("run", "--rm", STARTER, "true")
    assert result.code == 125 and is_clear(result.err) and 'network: invalid mtu "0"' in result.err


def test_no_network_has_such_a_name(rdock: Rdock) -> None:
    for name in ("slirp4netns", "pasta"):
        result = rdock("network", "create", name)
        assert result.code == 1 and f"operation is not permitted on predefined {name} network" in result.err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("", "options are to follow"),
        ("mtu", 'option for slirp4netns without a value: "mtu"'),
        ("nosuch=1", 'unknown option for slirp4netns: "nosuch=1"'),
        ("mtu=1400,", 'unknown option for slirp4netns: ""'),
        ("mtu=", 'invalid mtu ""'),
        ("mtu=67", 'invalid mtu "67"'),
        ("mtu=65522", 'invalid mtu "65522"'),
        ("mtu=-1", 'invalid mtu "-1"'),
        ("mtu=²", "invalid mtu"),
        ("cidr=10.0.0.0", 'invalid cidr "10.0.0.0"'),
        ("cidr=10.0.0.0/26", 'invalid cidr "10.0.0.0/26"'),
        ("cidr=10.0.0.0/0", 'invalid cidr "10.0.0.0/0"'),
        ("cidr=fd00::/64", 'invalid cidr "fd00::/64"'),
        ("cidr=10.0.0.300/24", 'invalid cidr "10.0.0.300/24"'),
        ("allow_host_loopback=1", 'invalid value of allow_host_loopback for slirp4netns: "1"'),
        ("enable_ipv6=yes", 'invalid value of enable_ipv6 for slirp4netns: "yes"'),
        ("outbound_addr=nosuch0", 'invalid outbound_addr "nosuch0"'),
        ("outbound_addr=::1", 'invalid outbound_addr "::1"'),
        ("outbound_addr6=127.0.0.1", 'invalid outbound_addr6 "127.0.0.1"'),
        ("port_handler=rootlesskit", "port_handler=rootlesskit: published ports are slirp4netns's own work"),
        ("port_handler=other", 'unknown port_handler for slirp4netns: "other"'),
    ],
)
def test_options_that_cannot_be(rdock: Rdock, options: str, complaint: str) -> None:
    before = store(rdock)
    result = rdock("create", *network(options), STARTER, "true")
    assert result.code == 125 and is_clear(result.err) and complaint in result.err, str(result)
    assert store(rdock) == before
