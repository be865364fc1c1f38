"""Networks: none, host and the private one; the way out, names, and published ports seen from the host."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rdock.network import uplink
from rdock.network.subnet import Subnet, choose
from tests.cli.conftest import is_clear, store, wait_for
from tests.conftest import STARTER
from tests.namespace import in_namespace
from tests.program import Rdock

# What a container's own network has here.
OURS = choose()

# The host's Python inside the starter image, for what busybox cannot do.
PYTHON = tuple(word for path in ("/usr", "/lib", "/lib64") for word in ("-v", f"{path}:{path}:ro"))
ECHO_UDP = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 5353))
while True:
    data, sender = s.recvfrom(65536)
    s.sendto(data[::-1], sender)
"""
PRIVATE = ("--network", "slirp4netns")
WEB = "echo page >/index.html; exec httpd -f -h / -p 80"


@contextmanager
def server(address: str) -> Iterator[int]:
    """A server on the host that greets whoever connects; its port."""
    with socket.create_server((address, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"greetings\n")

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def host_address() -> str:
    """An address of this machine that is not loopback. No packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no route, so no address of its own")
        return str(probe.getsockname()[0])


def fetch(port: int, address: str = "127.0.0.1") -> bytes:
    """The page of the container's server, once it is there."""
    answer = b""

    def ask() -> bool:
        nonlocal answer
        try:
            with socket.create_connection((address, port), timeout=5) as connection:
                connection.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
                answer = b""
                while chunk := connection.recv(65536):
                    answer += chunk
        except OSError:
            return False
        return bool(answer)

    wait_for(ask, f"an answer on port {port}")
    return answer


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


# -- the kinds of network ------------------------------------------------------------------------


def test_none_has_loopback_only(rdock: Rdock, runtime: str) -> None:
    script = "ls /sys/class/net; ip -o addr | grep -c inet; ip route; ping -c 1 -W 1 127.0.0.1 | grep -c ' 0% '"
    lines = rdock.ok("run", "--rm", "--network", "none", STARTER, "sh", "-c", script).split()
    assert lines[0] == "lo" and lines[-1] == "1" and "default" not in lines
    result = rdock("run", "--rm", "--network", "none", STARTER, "sh", "-c", "wget -T 2 -q -O - http://10.0.2.2/")
    assert result.code != 0


def test_host_is_the_hosts(rdock: Rdock, runtime: str) -> None:
    with server("127.0.0.1") as port:
        result = rdock(
            "run", "--rm", "--network", "host", STARTER, "sh", "-c", f"nc 127.0.0.1 {port} </dev/null; cat /etc/hosts"
        )
    assert result.out.startswith("greetings\n"), str(result)
    assert result.out.removeprefix("greetings\n") == Path("/etc/hosts").read_text()
    assert rdock.ok("run", "--rm", "--network", "host", STARTER, "readlink", "/proc/self/ns/net") == os.readlink(
        "/proc/self/ns/net"
    )
    assert rdock.ok("run", "--rm", "--network", "host", STARTER, "cat", "/etc/resolv.conf") == Path(
        "/etc/resolv.conf"
    ).read_text().removesuffix("\n")


def test_private_network(rdock: Rdock, runtime: str) -> None:
    script = "ip -o -4 addr show tap0; ip route; cat /etc/resolv.conf; cat /etc/hosts"
    found = rdock.ok("run", "--rm", "--hostname", "inside", *PRIVATE, STARTER, "sh", "-c", script)
    assert f"{OURS.address}/24" in found and f"default via {OURS.gateway}" in found
    assert f"nameserver {OURS.resolver}" in found and found.count("nameserver") == 1
    assert f"{OURS.address}\tinside" in found and "127.0.0.1\tlocalhost" in found


@pytest.mark.parametrize("network", ["slirp4netns", "bridge"])
def test_reaches_the_hosts_address_but_not_its_loopback(rdock: Rdock, runtime: str, network: str) -> None:
    address = host_address()
    with server("0.0.0.0") as port, server("127.0.0.1") as hidden:
        script = (
            f"nc -w 5 {address} {port} </dev/null; "
            f"for p in {port} {hidden}; do nc -w 2 {OURS.gateway} $p </dev/null; done"
        )
        result = rdock("run", "--rm", "--network", network, STARTER, "sh", "-c", script)
    assert result.out == "greetings\n", str(result)


@pytest.mark.parametrize("network", ["slirp4netns", "bridge"])
def test_names_are_resolved(rdock: Rdock, runtime: str, network: str) -> None:
    """As far as the machine itself can: the container's answer is the host's."""
    name = next((name for name in (*_package_hosts(), "example.com") if _resolves(name)), "")
    if not name:
        pytest.skip("the machine resolves no name outside of it")
    found = rdock.ok("run", "--rm", "--network", network, STARTER, "nslookup", name)
    assert network == "bridge" or OURS.resolver in found
    assert _resolves(name) & set(found.split()), found


def _package_hosts() -> list[str]:
    """Where this machine's packages come from: names that it should know."""
    sources = [*Path("/etc/apt").glob("sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    return [host for path in sources for host in re.findall(r"^[^#]*https?://([^/\s:]+)", path.read_text(), re.M)]


def _resolves(name: str) -> set[str]:
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(name, 80, socket.AF_INET)}
    except OSError:
        return set()


def test_unknown_network(rdock: Rdock) -> None:
    result = rdock("run", "--rm", "--network", "nosuch", STARTER, "true")
    assert result.code == 125 and is_clear(result.err) and "network nosuch not found" in result.err


def test_what_slirp4netns_prints_is_bounded(tmp_path: Path) -> None:
    """It prints a line for each request: what nobody reads must not grow, nor end it."""
    if not shutil.which("slirp4netns", path="/usr/local/bin:/usr/bin:/bin"):
        pytest.skip("slirp4netns is not installed")
    kept, answer = in_namespace(_ask_often, str(tmp_path))
    assert kept <= 65536 and "error" in answer


def _ask_often(directory: str) -> tuple[int, dict[str, object]]:
    world = subprocess.Popen(["unshare", "--user", "--map-root-user", "--net", "sleep", "100"])
    try:
        wait_for(lambda: os.readlink(f"/proc/{world.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        wait_for(lambda: Path(f"/proc/{world.pid}/uid_map").read_text())
        user, network = (os.open(f"/proc/{world.pid}/ns/{kind}", os.O_RDONLY) for kind in ("user", "net"))
        started = uplink.start(user, network, directory, Subnet("10.0.2"))
        uplink.await_ready(started)
        request = {"execute": "nothing", "arguments": "x" * 500}
        for _ in range(400):
            answer = uplink._ask(directory, request)
        (kept,) = struct.unpack("i", fcntl.ioctl(started.log, termios.FIONREAD, bytes(4)))
        uplink.let_go(started)
        uplink.reap(started)
        return kept, answer
    finally:
        world.kill()
        world.wait()


# -- published ports -----------------------------------------------------------------------------


def test_publish_tcp_on_a_private_network(rdock: Rdock, runtime: str) -> None:
    port = free_port()
    container = rdock.ok("run", "-d", *PRIVATE, "-p", f"{port}:80", STARTER, "sh", "-c", WEB)
    assert fetch(port).endswith(b"page\n")
    if (address := host_address()) != "127.0.0.1":
        assert fetch(port, address).endswith(b"page\n")
    assert rdock.ok("ps", "--format", "{{.Ports}}") == f"0.0.0.0:{port}->80/tcp"
    template = "{{json .NetworkSettings.Ports}} {{json .HostConfig.PortBindings}} {{.NetworkSettings.IPAddress}}"
    assert rdock.ok("inspect", "-f", template, container) == (
        f'{{"80/tcp":[{{"HostIp":"0.0.0.0","HostPort":"{port}"}}]}} '
        f'{{"80/tcp":[{{"HostIp":"","HostPort":"{port}"}}]}} {OURS.address}'
    )
    rdock.ok("rm", "-f", container)
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        pass
    # and free at once
    with socket.create_server(("0.0.0.0", port)):
        pass


@pytest.mark.parametrize("network", ["slirp4netns", "bridge"])
def test_publish_udp(rdock: Rdock, runtime: str, network: str) -> None:
    if not shutil.which("/usr/bin/python3"):
        pytest.skip("no Python of the system that a container could use")
    # From an address of the machine: slirp4netns does not carry answers to its loopback, which is closed.
    port, address = free_port(socket.SOCK_DGRAM), host_address()
    rdock.ok("run", "-d", "--network", network, "-p", f"{address}:{port}:5353/udp", *PYTHON, STARTER, "sh", "-c",
             'exec /usr/bin/python3 -c "$0"', ECHO_UDP)  # fmt: skip
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        answers = set()

        def ask() -> bool:
            client.sendto(b"forwards", (address, port))
            try:
                answers.add(client.recv(100))
            except OSError:
                return False
            return True

        wait_for(ask, "an answer by UDP")
    assert answers == {b"sdrawrof"}
    assert rdock.ok("ps", "--format", "{{.Ports}}") == f"{address}:{port}->5353/udp"


def test_publish_on_one_address_only(rdock: Rdock) -> None:
    port, address = free_port(), host_address()
    rdock.ok("run", "-d", "-p", f"127.0.0.1:{port}:80", STARTER, "sh", "-c", WEB)
    assert fetch(port).endswith(b"page\n")
    with pytest.raises(OSError), socket.create_connection((address, port), timeout=2):
        pass


def test_publish_at_random_ports(rdock: Rdock) -> None:
    container = rdock.ok("run", "-d", "-p", "80", "-p", "127.0.0.1::81/tcp", STARTER, "sh", "-c", WEB)
    ports = json.loads(rdock.ok("inspect", "-f", "{{json .NetworkSettings.Ports}}", container))
    first, second = (ports[key][0]["HostPort"] for key in ("80/tcp", "81/tcp"))
    assert [ports[key][0]["HostIp"] for key in ("80/tcp", "81/tcp")] == ["0.0.0.0", "127.0.0.1"]
    assert int(first) >= 1024 and int(second) >= 1024 and first != second
    assert fetch(int(first)).endswith(b"page\n")


def test_publish_a_range(rdock: Rdock) -> None:
    start = next(port for port in range(20000, 60000, 10) if _are_free(range(port, port + 3)))
    rdock.ok("run", "-d", "-p", f"{start}-{start + 2}:80-82", STARTER, "sh", "-c", WEB)
    assert fetch(start).endswith(b"page\n")
    shown = rdock.ok("ps", "--format", "{{.Ports}}").split(", ")
    assert [each for each in shown if "[::]" not in each] == [f"0.0.0.0:{start + n}->{80 + n}/tcp" for n in range(3)]


def _are_free(ports: range) -> bool:
    try:
        for port in ports:
            socket.create_server(("0.0.0.0", port)).close()
    except OSError:
        return False
    return True


def test_port_that_is_taken(rdock: Rdock, runtime: str, tmp_path: Path) -> None:
    """Refused before the program runs, with nothing left of the container."""
    before = store(rdock)
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        result = rdock(
            "run", "--rm", "-p", f"{port}:80", "-v", f"{tmp_path}:/shared", STARTER, "touch", "/shared/started"
        )
    assert result.code == 125, str(result)
    assert result.err == f"rdock: Bind for 0.0.0.0:{port} failed: port is already allocated\n"
    assert os.listdir(tmp_path) == []
    wait_for(lambda: store(rdock) == before, "nothing of the container is left")


def test_port_of_another_container(rdock: Rdock) -> None:
    port = free_port()
    rdock.ok("run", "-d", "-p", f"{port}:80", STARTER, "sh", "-c", WEB)
    result = rdock("run", "-d", "--name", "second", "-p", f"{port}:80", STARTER, "sh", "-c", WEB)
    assert result.code == 125 and "port is already allocated" in result.err
    assert result.out.strip() == rdock.ok("inspect", "-f", "{{.Id}}", "second")
    assert rdock.ok("inspect", "-f", "{{.State.Status}}", "second") == "created"
    assert fetch(port).endswith(b"page\n")


def test_privileged_port(rdock: Rdock) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first <= 1:
        pytest.skip("this machine has no privileged ports")
    result = rdock("run", "--rm", "-p", f"{first - 1}:80", STARTER, "true")
    assert result.code == 125 and is_clear(result.err)
    assert f"port {first - 1}" in result.err and f"ip_unprivileged_port_start={first - 1}" in result.err


def test_publish_without_a_private_network(rdock: Rdock) -> None:
    """Docker ignores -p there, and so it is no failure."""
    for network in ("none", "host"):
        assert rdock("run", "--rm", "--network", network, "-p", "80", STARTER, "true").code == 0


def test_low_ports_and_ping_inside(rdock: Rdock, runtime: str) -> None:
    assert "1 packets received" in rdock.ok("run", "--rm", STARTER, "ping", "-c", "1", "-W", "2", OURS.gateway)
    script = "httpd -p 80 -h / && echo bound"
    assert rdock.ok("run", "--rm", "-u", "33", STARTER, "sh", "-c", script) == "bound"


def test_slirp4netns_killed(rdock: Rdock) -> None:
    """A container that loses its uplink goes on without, and can be stopped and removed."""
    container = rdock.ok("run", "-d", *PRIVATE, STARTER, "sleep", "100")
    helpers = [line for line in rdock.home.processes() if "slirp4netns" in line.split()[1]]
    assert helpers
    for line in helpers:
        os.kill(int(line.split()[0]), signal.SIGKILL)
    assert rdock.ok("exec", container, "echo", "alive") == "alive"
    assert rdock.ok("stop", "-t", "0", container) == container
    assert rdock.ok("rm", container) == container


def test_host_that_has_the_usual_addresses_itself(own_rdock: Rdock) -> None:
    """A guest of QEMU or VirtualBox has 10.0.2.15. The container's network is another, and both reach each other."""
    outer = ["unshare", "--user", "--map-root-user", "--map-auto", "--net", "--mount"]
    if not shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin") or subprocess.run([*outer, "true"]).returncode:
        pytest.skip("no network namespace can be set up")
    script = f"""
        PATH=$PATH:/usr/sbin:/sbin
        ip link set lo up; ip addr add 10.0.2.15/32 dev lo; ip route add 10.0.2.0/24 dev lo
        rdock() {{ "{own_rdock.path}" "$@"; }}
        rdock run -d --name web --net slirp4netns -p 8123:80 {STARTER} sh -c '{WEB}' >/dev/null
        rdock inspect -f '{{{{.NetworkSettings.IPAddress}}}}' web
        for n in 1 2 3 4 5 6 7 8 9 10; do
            python3 -c 'from urllib.request import *; print(urlopen("http://10.0.2.15:8123").read())' && break
            sleep 0.3
        done 2>/dev/null
        rdock rm -f web
    """
    done = subprocess.run(
        [*outer, "sh", "-c", script], env=own_rdock.environment(), capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["10.209.46.100", r"b'page\n'", "web"], done.stdout + done.stderr


def test_port_zero_is_any(rdock: Rdock) -> None:
    container = rdock.ok("run", "-d", "-p", "127.0.0.1:0:80", STARTER, "sh", "-c", WEB)
    (binding,) = json.loads(rdock.ok("inspect", "-f", "{{json .NetworkSettings.Ports}}", container))["80/tcp"]
    assert binding["HostIp"] == "127.0.0.1" and fetch(int(binding["HostPort"])).endswith(b"page\n")
