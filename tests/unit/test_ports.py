"""Published ports: how they are written, and how they are bound on the host."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rdock import config
from rdock.errors import Conflict, InvalidParameter, Unavailable
from rdock.linux import sockets
from rdock.network import endpoint, ports
from rdock.network.endpoint import PortBinding, from_bindings, parse_publish, to_bindings
from rdock.network.ports import Listener


@contextmanager
def bound(*wanted: PortBinding) -> Iterator[tuple[list[Listener], endpoint.Bindings]]:
    listeners, bindings = ports.bind(wanted)
    try:
        yield listeners, bindings
    finally:
        for listener in listeners:
            listener.socket.close()


def taken(port: int, kind: int = socket.SOCK_STREAM, address: str = "0.0.0.0") -> socket.socket:
    holder = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    if ":" in address:
        holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    holder.bind((address, port))
    if kind == socket.SOCK_STREAM:
        holder.listen()
    return holder


def free_range(count: int) -> int:
    """The first of some ports in a row that are free at this moment, below those that the kernel gives away."""
    for first in range(15000 + os.getpid() % 1000 * 10, 32000, count):
        try:
            for port in range(first, first + count):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    taken(port, kind).close()
                    taken(port, kind, "::").close()
        except OSError:
            continue
        return first
    pytest.fail("no free ports")


def has_ipv6() -> bool:
    try:
        taken(0, address="::").close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


# -- as written ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host_ports"),
    [
        ("80", ["80/tcp "]),
        ("8080:80", ["80/tcp 8080"]),
        ("8000-8010:80", ["80/tcp 8000-8010"]),
        ("127.0.0.1:8000-8010:80/udp", ["80/udp 8000-8010"]),
        ("8000-8001:80-81", ["80/tcp 8000", "81/tcp 8001"]),
        ("[::1]:8000-8001:80", ["80/tcp 8000-8001"]),
    ],
)
def test_a_range_stays_one(text: str, host_ports: list[str]) -> None:
    bindings = to_bindings(parse_publish(text))
    assert [f"{key} {entry['HostPort']}" for key, entries in bindings.items() for entry in entries] == host_ports
    assert from_bindings(bindings) == parse_publish(text)


def test_ranges_that_do_not_fit() -> None:
    with pytest.raises(InvalidParameter, match="invalid ranges specified for container and host Ports: 80-82 and"):
        parse_publish("8000-8001:80-82")


# -- bound ---------------------------------------------------------------------------------------


@needs_ipv6
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_all_addresses_are_those_of_both_families(protocol: str) -> None:
    port = free_range(1)
    with bound(PortBinding("", port, 80, protocol)) as (listeners, bindings):
        assert bindings == {
            f"80/{protocol}": [{"HostIp": ip, "HostPort": str(port)} for ip in ("0.0.0.0", "::")],
        }
        assert [each.socket.getsockname()[:2] for each in listeners] == [("0.0.0.0", port), ("::", port)]
        assert {(each.container_port, each.protocol) for each in listeners} == {(80, protocol)}
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        for address in ("127.0.0.1", "::1"):
            with pytest.raises(OSError, match="in use"):
                taken(port, kind, address)


def test_any_free_port_is_the_same_for_all_families() -> None:
    with bound(*[PortBinding("", 0, 80, "tcp")] * 20) as (listeners, bindings):
        numbers = [int(entry["HostPort"]) for entry in bindings["80/tcp"]]
        assert numbers == [each.socket.getsockname()[1] for each in listeners]
        assert len(set(numbers)) == 20 and min(numbers) > 1023


def test_another_free_port_is_tried_if_the_other_family_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_range(2)
    offered = iter([first, first + 1])
    real = ports._open
    # The kernel's choice cannot be steered: what it offers is given here, what is taken is so in truth.
    monkeypatch.setattr(ports, "_open", lambda ip, port, kind: real(ip, port or next(offered), kind))
    if not has_ipv6():
        pytest.skip("no IPv6 here")
    with taken(first, address="::"), bound(PortBinding("", 0, 80, "tcp")) as (_, bindings):
        assert {entry["HostPort"] for entry in bindings["80/tcp"]} == {str(first + 1)}


def test_one_address_only() -> None:
    port = free_range(1)
    with bound(PortBinding("127.0.0.1", port, 80, "tcp")) as (listeners, bindings):
        assert bindings == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]} and len(listeners) == 1
        taken(port, address="127.0.0.2").close()


def test_the_first_free_port_of_a_range() -> None:
    first = free_range(3)
    choice = [PortBinding("", first, port, "tcp", first + 2) for port in (80, 81)]
    with taken(first), bound(*choice) as (_, bindings):
        assert [bindings[key][0]["HostPort"] for key in ("80/tcp", "81/tcp")] == [str(first + 1), str(first + 2)]
        with pytest.raises(Conflict, match=f"^Bind for 0.0.0.0:{first}-{first + 2} failed: all ports are allocated$"):
            ports.bind(choice)


def test_who_has_a_choice_leaves_a_port_to_who_has_none() -> None:
    first = free_range(2)
    wanted = [PortBinding("", first, 80, "tcp", first + 1), PortBinding("", first, 81, "tcp")]
    with bound(*wanted) as (_, bindings):
        assert [bindings[key][0]["HostPort"] for key in ("80/tcp", "81/tcp")] == [str(first + 1), str(first)]
        assert list(bindings) == ["80/tcp", "81/tcp"]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize(
    ("holder", "ip", "shown"),
    [
        ("0.0.0.0", "", "0.0.0.0"),
        ("127.0.0.1", "", "0.0.0.0"),
        pytest.param("::", "", "[::]", marks=needs_ipv6),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1"),
        pytest.param("::", "::1", "[::1]", marks=needs_ipv6),
    ],
)
def test_a_port_that_is_taken(protocol: str, holder: str, ip: str, shown: str) -> None:
    first = free_range(2)
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    before = len(os.listdir("/proc/self/fd"))
    with taken(first + 1, kind, holder):
        with pytest.raises(Conflict) as caught:
            ports.bind([PortBinding(ip, first, 80, protocol), PortBinding(ip, first + 1, 81, protocol)])
        assert caught.value.message == f"Bind for {shown}:{first + 1} failed: port is already allocated"
    # What was bound before is free again.
    taken(first, kind).close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_two_containers_do_not_share_a_port() -> None:
    for protocol in ("tcp", "udp"):
        wanted = PortBinding("", free_range(1), 80, protocol)
        with bound(wanted), pytest.raises(Conflict, match="already allocated"):
            ports.bind([wanted])


def test_a_port_may_be_taken_again_at_once() -> None:
    """Connections of before are in TIME_WAIT on the host's side."""
    wanted = PortBinding("127.0.0.1", free_range(1), 80, "tcp")
    with bound(wanted) as (listeners, _):
        client = socket.create_connection(("127.0.0.1", wanted.host_port))
        served, _ = sockets.accept_from(listeners[0].socket)
        served.close()
        assert client.recv(1) == b""
        client.close()
    with bound(wanted):
        pass


@pytest.mark.parametrize("ip", ["203.0.113.9", pytest.param("2001:db8::9", marks=needs_ipv6)])
def test_an_address_of_another_machine(ip: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        ports.bind([PortBinding(ip, 8080, 80, "tcp")])
    assert caught.value.message == (
        f"failed to bind host port for {endpoint.bracketed(ip)}:8080/tcp: cannot assign requested address"
    )


def test_a_host_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(family: int, *rest: int) -> sockets.socket:
        if family == sockets.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return real(family, *rest)

    real = sockets.socket
    monkeypatch.setattr(sockets, "socket", refuse)  # as a kernel that was started with ipv6.disable=1
    with bound(PortBinding("", 0, 80, "tcp")) as (listeners, bindings):
        assert [entry["HostIp"] for entry in bindings["80/tcp"]] == ["0.0.0.0"] and len(listeners) == 1
    with pytest.raises(InvalidParameter, match="address family not supported"):
        ports.bind([PortBinding("::1", 8080, 80, "tcp")])


# -- low ports -----------------------------------------------------------------------------------


@pytest.fixture
def low_port() -> int:
    """One that is refused to this user."""
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    try:
        taken(first - 1).close()
    except PermissionError:
        return first - 1
    except (OSError, OverflowError):
        pass
    pytest.skip("this user may have all ports")


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_for_root(low_port: int, protocol: str) -> None:
    with pytest.raises(Unavailable) as caught:
        ports.bind([PortBinding("", low_port, 80, protocol)])
    assert caught.value.message == f"cannot publish port {low_port}: ports below {low_port + 1} are for root"
    assert f"net.ipv4.ip_unprivileged_port_start={low_port}" in caught.value.hint


def test_ports_for_root_moved(low_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_range(3)
    monkeypatch.setattr(config, "_current", config.Settings(low_ports=f"+{first - low_port}"))
    with bound(PortBinding("127.0.0.1", low_port, 80, "tcp")) as (_, bindings):
        assert bindings["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": str(first)}]
        with pytest.raises(Conflict, match=f"^Bind for 127.0.0.1:{first} failed: port is already allocated$"):
            ports.bind([PortBinding("127.0.0.1", low_port, 80, "tcp")])
    # One that needs no moving stays where it is.
    with bound(PortBinding("127.0.0.1", first + 1, 80, "tcp")) as (_, bindings):
        assert bindings["80/tcp"][0]["HostPort"] == str(first + 1)


@pytest.mark.parametrize("offset", ["+1", "+65534", ""])
def test_ports_for_root_that_cannot_be_moved(low_port: int, offset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "_current", config.Settings(low_ports=offset))
    port = low_port - 1 if offset == "+1" else low_port
    with pytest.raises(Unavailable, match=f"cannot publish port {port}: "):
        ports.bind([PortBinding("", port, 80, "tcp")])


@pytest.mark.parametrize("text", ["8000", "+", "+0", "+65535", "-1", "+8e3", "+ 8000", "+٨"])
def test_a_setting_that_moves_nothing(text: str) -> None:
    with pytest.raises(InvalidParameter, match="low-ports"):
        config.check(config.Settings(low_ports=text), "config.json")
    assert config.check(config.Settings(low_ports="+8000"), "").low_ports == "+8000"
