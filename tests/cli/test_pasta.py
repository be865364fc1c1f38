"""A private network by pasta: the host's addresses inside, clients' addresses kept, and who looks after it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.cli.conftest import is_clear, store, wait_for, write_settings
from tests.cli.test_monitor_killed import kill_monitor
from tests.cli.test_network import PYTHON, WEB, fetch, free_port, host_address, server
from tests.conftest import STARTER
from tests.program import Rdock

PASTA = ("--network", "pasta")
HAS_PASTA = shutil.which("pasta", path="/usr/local/bin:/usr/bin:/bin") is not None
needs_pasta = pytest.mark.skipif(not HAS_PASTA, reason="pasta (package passt) is not installed")

# A machine with an address of its own and a default route, and another beyond, which has two addresses.
WORLD = """
PATH=$PATH:/usr/sbin:/sbin
ip link set lo up
unshare --net sleep 100 >/dev/null 2>&1 & other=$!
trap 'kill $other' EXIT
other() { nsenter --target $other --net "$@"; }
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link add here type veth peer name there netns $other
ip addr add 10.77.0.1/24 dev here; ip link set here up; ip route add default via 10.77.0.2
other sh -c 'for n in 2 3; do ip addr add 10.77.0.$n/24 dev there; done; ip link set there up'
"""
TELL_CLIENT = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 5353))
while True:
    data, sender = s.recvfrom(65536)
    s.sendto(sender[0].encode(), sender)
"""
ASK_UDP = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.77.0.3", 0)); s.settimeout(0.5)
for _ in range(20):
    s.sendto(b"who", ("10.77.0.1", 5354))
    try:
        print(s.recv(100).decode())
        break
    except OSError: pass
"""
ASK_TCP = """
import socket, time
for _ in range(20):
    try:
        s = socket.create_connection(("10.77.0.1", 8123), 2, ("10.77.0.3", 0))
        s.sendall(b"GET /index.html HTTP/1.0\\r\\n\\r\\n")
        print(s.makefile().read().split()[-1])
        break
    except (OSError, IndexError): time.sleep(0.1)
"""
GREET = """
import socket
s = socket.create_server(("10.77.0.3", 8000))
while True:
    c, sender = s.accept()
    c.sendall(b"greetings to " + sender[0].encode() + b"\\n"); c.close()
"""
# A client whose connection ends when it has got its answer: early versions of pasta now and then lose the end of one
# that both sides close at the same time.
ASK = "sleep 1 | timeout 3 nc -w 2"
# A name server on the loopback that says 10.9.8.7 to all.
NAMES = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.53", 53))
while True:
    data, sender = s.recvfrom(512)
    kind = data[-4:-2]
    answer = bytes.fromhex("c00c00010001000000050004") + bytes((10, 9, 8, 7)) if kind == b"\\0\\x01" else b""
    head = data[:2] + b"\\x81\\x80\\0\\x01" + (b"\\0\\x01" if answer else b"\\0\\0") + bytes(4)
    s.sendto(head + data[12:] + answer, sender)
"""


def in_world(program: Rdock, script: str) -> str:
    """What a script prints that runs on such a machine, with `rdock` and `other` as commands."""
    outer = ["unshare", "--user", "--map-root-user", "--map-auto", "--net", "--mount"]
    if not shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin") or subprocess.run([*outer, "true"]).returncode:
        pytest.skip("no network namespace can be set up")
    whole = f'{WORLD}\nrdock() {{ "{program.path}" "$@"; }}\n{script}'
    done = subprocess.run(
        [*outer, "sh", "-c", whole], env=program.environment(), capture_output=True, text=True, timeout=40
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pastas(program: Rdock) -> list[int]:
    """The processes of pasta that this rdock has started."""
    return [int(line.split()[0]) for line in program.home.processes() if line.split()[1].endswith("/pasta")]


@pytest.fixture
def routed() -> Iterator[None]:
    """For tests on this machine itself, which has to have a default route."""
    host_address()
    yield


# -- with pasta ------------------------------------------------------------------------------------


@needs_pasta
def test_servers_see_their_clients(own_rdock: Rdock) -> None:
    script = f"""
        rdock run -d --name web {" ".join(PASTA)} -p 8123:80 {STARTER} \\
            sh -c 'echo page >/index.html; exec httpd -f -vv -h / -p 80' >/dev/null
        rdock run -d --name udp {" ".join(PASTA)} -p 10.77.0.1:5354:5353/udp {" ".join(PYTHON)} {STARTER} \\
            sh -c 'exec /usr/bin/python3 -c "$0"' '{TELL_CLIENT}' >/dev/null
        other /usr/bin/python3 -c '{ASK_TCP}'
        rdock logs web 2>&1 | grep -o 10.77.0.3 | sort -u
        other /usr/bin/python3 -c '{ASK_UDP}'
        rdock rm -f web udp >/dev/null
    """
    if not shutil.which("/usr/bin/python3"):
        pytest.skip("no Python of the system that a container could use")
    assert in_world(own_rdock, script).split() == ["page", "10.77.0.3", "10.77.0.3"]


@needs_pasta
def test_has_the_hosts_address_and_reaches_the_world(own_rdock: Rdock) -> None:
    script = f"""
        nsenter --target $other --net /usr/bin/python3 -c '{GREET}' >/dev/null 2>&1 & greeter=$!
        rdock run --rm --hostname inside {" ".join(PASTA)} {STARTER} sh -c '
            ip -o -4 addr show here | grep -o "10[^ ]*" | head -1
            ip route | grep -o "default via [^ ]*"
            grep inside /etc/hosts
            for n in 1 2 3 4 5 6 7 8 9; do {ASK} 10.77.0.3 8000 | grep . && break; done'
        rdock run -d --name one {" ".join(PASTA)} {STARTER} sleep 100 >/dev/null
        rdock inspect -f '{{{{.HostConfig.NetworkMode}}}} {{{{with .NetworkSettings}}}}{{{{.IPAddress}}}} {{{{.IPPrefixLen}}}} {{{{.Gateway}}}}{{{{end}}}}' one
        rdock ps --format '{{{{.Networks}}}}'
        rdock rm -f one >/dev/null; kill $greeter
    """  # noqa: E501
    assert in_world(own_rdock, script).splitlines() == [
        "10.77.0.1/24", "default via 10.77.0.2", "10.77.0.1\tinside", "greetings to 10.77.0.1",
        "pasta 10.77.0.1 24 10.77.0.2", "pasta",
    ]  # fmt: skip


@needs_pasta
def test_names_by_a_server_on_the_hosts_loopback(own_rdock: Rdock) -> None:
    script = f"""
        echo nameserver 127.0.0.53 >"$HOME/resolv.conf"; mount --bind "$HOME/resolv.conf" /etc/resolv.conf
        /usr/bin/python3 -c '{NAMES}' >/dev/null 2>&1 & names=$!
        rdock run --rm {" ".join(PASTA)} {STARTER} sh -c '
            cat /etc/resolv.conf; nslookup somewhere.example | grep -o 10.9.8.7 | head -1'
        kill $names
    """
    assert in_world(own_rdock, script).splitlines() == ["nameserver 169.254.1.1", "10.9.8.7"]


@needs_pasta
def test_a_host_without_a_default_route(own_rdock: Rdock) -> None:
    script = f"""
        ip route del default
        rdock run --rm {" ".join(PASTA)} {STARTER} true 2>&1; echo $?
    """
    told, hint, code = in_world(own_rdock, script).splitlines()
    assert told == "rdock: this machine has no default route, which pasta copies"
    assert "--network slirp4netns" in hint and code == "125"


@needs_pasta
def test_the_hosts_loopback_is_closed_unless_mapped(rdock: Rdock, runtime: str, routed: None) -> None:
    with server("127.0.0.1") as port:
        script = (
            "gateway=$(ip route | grep ^default | cut -d' ' -f3); "
            f"for a in $gateway 127.0.0.1; do {ASK} $a {port}; done"
        )
        assert rdock("run", "--rm", *PASTA, STARTER, "sh", "-c", script).out == ""
        for options in ("--map-gw", f"-T,{port}"):
            result = rdock("run", "--rm", "--network", f"pasta:{options}", STARTER, "sh", "-c", script)
            assert result.out == "greetings\n", str(result)
        script = f"for n in 1 2 3 4 5; do {ASK} outside {port} | grep . && break; done"
        mapped = ("--network", "pasta:--map-gw", "--add-host", "outside:host-gateway")
        assert rdock.ok("run", "--rm", *mapped, STARTER, "sh", "-c", script) == "greetings"


@needs_pasta
def test_options_are_pastas(rdock: Rdock, routed: None) -> None:
    network = "pasta:--mtu,1500,-I,outer0,-a,10.5.0.7,--netmask=24,-g,10.5.0.1,-4"
    script = "cat /sys/class/net/outer0/mtu; ip -o -4 addr show outer0; ip route; cat /etc/hosts"
    container = rdock.ok("create", "--hostname", "inside", "--network", network, STARTER, "sh", "-c", script)
    found = rdock.ok("start", "-a", container)
    assert found.startswith("1500\n") and "10.5.0.7/24" in found and "default via 10.5.0.1" in found
    assert "10.5.0.7\tinside" in found
    assert rdock.ok("inspect", "-f", "{{.HostConfig.NetworkMode}}", container) == network


@needs_pasta
def test_published_ports(rdock: Rdock, routed: None) -> None:
    first, address = free_port(), host_address()
    container = rdock.ok(
        "run", "-d", *PASTA, "-p", f"{first}:80", "-p", "127.0.0.1::80", "-p", "81", STARTER, "sh", "-c", WEB
    )
    assert fetch(first).endswith(b"page\n") and fetch(first, address).endswith(b"page\n")
    ports = json.loads(rdock.ok("inspect", "-f", "{{json .NetworkSettings.Ports}}", container))
    assert {entry["HostPort"] for entry in ports["80/tcp"] if entry["HostIp"] == "0.0.0.0"} == {str(first)}
    (second,) = [int(entry["HostPort"]) for entry in ports["80/tcp"] if entry["HostIp"] == "127.0.0.1"]
    assert fetch(second).endswith(b"page\n")
    with pytest.raises(OSError), socket.create_connection((address, second), timeout=2):
        pass
    assert int(ports["81/tcp"][0]["HostPort"]) >= 1024
    assert f"0.0.0.0:{first}" in rdock.ok("port", container, "80")
    rdock.ok("stop", "-t", "0", container)
    with socket.create_server(("0.0.0.0", first)):
        pass
    rdock.ok("start", container)
    assert fetch(first).endswith(b"page\n")
    rdock.ok("rm", "-f", container)
    assert pastas(rdock) == []
    with socket.create_server(("0.0.0.0", first)):
        pass


@needs_pasta
def test_ports_that_cannot_be(rdock: Rdock, routed: None) -> None:
    before = store(rdock)
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        result = rdock("run", "--rm", *PASTA, "-p", f"{port}:80", STARTER, "true")
        assert result.code == 125
        assert result.err == f"rdock: Bind for 0.0.0.0:{port} failed: port is already allocated\n"
    # The user's own are pasta's business, which finds out before the program runs, if it can bind none.
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        port = listener.getsockname()[1]
        result = rdock("run", "--rm", "--network", f"pasta:-t,{port}", STARTER, "echo", "ran")
        assert result.code == 125 and is_clear(result.err) and str(port) in result.err and not result.out
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="utf-8") as file:
        low = int(file.read()) - 1
    if low > 0:
        result = rdock("run", "--rm", *PASTA, "-p", f"{low}:80", STARTER, "true")
        assert result.code == 125 and f"ip_unprivileged_port_start={low}" in result.err
    port, address = free_port(), host_address()
    both = ("-p", f"127.0.0.1:{port}:80", "-p", f"{address}:{port}:80")
    result = rdock("run", "--rm", *PASTA, *both, STARTER, "true")
    assert result.code == 125 and is_clear(result.err) and "at several addresses" in result.err
    wait_for(lambda: store(rdock) == before, "nothing of the containers is left")
    assert pastas(rdock) == []


@needs_pasta
def test_a_pasta_that_is_killed_has_a_successor(rdock: Rdock, routed: None) -> None:
    port = free_port()
    container = rdock.ok("run", "-d", "--name", "web", *PASTA, "-p", f"{port}:80", STARTER, "sh", "-c", WEB)
    process = rdock.ok("inspect", "-f", "{{.State.Pid}}", "web")
    assert fetch(port, host_address()).endswith(b"page\n")
    (killed,) = pastas(rdock)
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: pastas(rdock) not in ([], [killed]), "there is another pasta")
    assert fetch(port, host_address()).endswith(b"page\n")
    # What was started anew outlives a monitor, and is replaced by the next one.
    (second,) = pastas(rdock)
    kill_monitor(rdock, container)
    assert pastas(rdock) == [second] and fetch(port, host_address()).endswith(b"page\n")
    os.kill(second, signal.SIGKILL)
    wait_for(lambda: pastas(rdock) not in ([], [second]), "there is a third one")
    assert fetch(port, host_address()).endswith(b"page\n")
    assert rdock.ok("inspect", "-f", "{{.State.Pid}}", "web") == process
    rdock.ok("rm", "-f", "web")
    assert pastas(rdock) == []


@needs_pasta
def test_a_pasta_that_nobody_looks_after_goes_with_the_container(rdock: Rdock, routed: None) -> None:
    rdock.ok("run", "-d", "--name", "lost", *PASTA, STARTER, "sleep", "100")
    assert len(pastas(rdock)) == 1
    lookers = [line for line in rdock.home.processes() if "rdock-monitor" in line or "rdock-keeper" in line]
    for line in sorted(lookers, key=lambda line: "rdock-keeper" not in line):
        os.kill(int(line.split()[0]), signal.SIGKILL)
    rdock.ok("rm", "-f", "lost")
    wait_for(lambda: pastas(rdock) == [], "pasta has ended")


@needs_pasta
def test_as_the_default(own_rdock: Rdock) -> None:
    write_settings(own_rdock, '{"network": "pasta:-I,outer0"}')
    if not os.path.exists("/proc/net/route"):
        pytest.skip("no routes here")
    host_address()
    assert "outer0" in own_rdock.ok("run", "--rm", STARTER, "ls", "/sys/class/net").split()


# -- without -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("", "options are to follow"),
        ("1500", 'invalid option for pasta: "1500"'),
        ("--mtu", "needs a value"),
        ("--mtu,-T", "needs a value"),
        ("-4,5201", 'invalid option for pasta: "5201"'),
        ("--no-tcp=x", "takes no value"),
        ("--", 'invalid option for pasta: "--"'),
        ("-", 'invalid option for pasta: "-"'),
        ("-m,1500,", 'invalid option for pasta: ""'),
        ("-Z", "pasta has no -Z"),
        ("--mt,1500", "in full"),
        ("--map-gw,--no-map-gw", "conflicting options"),
        ("-f", "pasta option -f cannot be given"),
        ("-4f", "pasta option -4f cannot be given"),
        ("-P,/tmp/pid", "pasta option -P cannot be given"),
        ("--pi,/tmp/pid", "pasta option --pi cannot be given"),
        ("-l/tmp/log", "cannot be given"),
        ("--log-file=/tmp/log", "pasta option --log-file cannot be given"),
        ("--pcap,/tmp/packets", "use tcpdump"),
        ("--netns,/proc/1/ns/net", "the namespaces are the container's"),
        ("--userns,/proc/1/ns/user", "the namespaces are the container's"),
        ("--netns-only", "the namespaces are the container's"),
        ("--runas,0", "cannot be given"),
        ("-d", "cannot be given"),
        ("--help", "pasta would end"),
        ("-F,3", "for virtual machines"),
    ],
)
def test_options_that_cannot_be(rdock: Rdock, options: str, complaint: str) -> None:
    before = store(rdock)
    result = rdock("create", "--network", f"pasta:{options}", STARTER, "true")
    assert result.code == 125 and is_clear(result.err) and complaint in result.err, str(result)
    assert store(rdock) == before


def test_pasta_that_is_missing(own_rdock: Rdock) -> None:
    if HAS_PASTA:
        pytest.skip("pasta is installed")
    result = own_rdock("run", "--rm", *PASTA, STARTER, "true")
    assert result.code == 125 and is_clear(result.err)
    assert "sudo apt-get install passt, or use --network bridge" in result.err
