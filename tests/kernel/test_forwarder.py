"""rdock-ports between network namespaces: a host, the router that the forwarder is in, and a container behind it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rdock import jsontext
from rdock.linux import namespaces
from rdock.network import flows, forwarder, ports
from rdock.network.endpoint import PortBinding
from rdock.network.ports import Listener
from rdock.network.target import Target
from tests.namespace import in_namespace

TARGET = Target("172.30.0.2", "172.30.0.1", "fd00:30::2", "fd00:30::1", ("172.30.0.0/16", "fd00:30::/64"))
# An address of the host, and addresses of clients, which are the host's as well.
HOST, HOST6 = "192.0.2.1", "2001:db8::1"
CLIENT, CLIENT6, NEAR = "192.0.2.10", "2001:db8::10", "172.30.9.9"
PORT = 80

HOST_LINKS = f"""
link set lo up
address add {HOST}/32 dev lo
address add {CLIENT}/32 dev lo
address add {NEAR}/32 dev lo
-6 address add {HOST6}/128 dev lo nodad
-6 address add {CLIENT6}/128 dev lo nodad
"""
ROUTER_LINKS = """
link set lo up
link add outer type veth peer name eth0 netns {container}
address add 172.30.0.1/16 dev outer
-6 address add fd00:30::1/64 dev outer nodad
link set outer up
rule add fwmark 1 lookup 100
route add local default dev lo table 100
-6 rule add fwmark 1 lookup 100
-6 route add local default dev lo table 100
"""
CONTAINER_LINKS = """
link set lo up
address add 172.30.0.2/16 dev eth0
address add 172.30.0.3/16 dev eth0
-6 address add fd00:30::2/64 dev eth0 nodad
link set eth0 up
route add default via 172.30.0.1
-6 route add default via fd00:30::1
"""
# The rule of the design, and connection tracking as masquerading brings it, which puts fragments together.
RULES = """
table inet rdock {
    chain marking {
        type filter hook prerouting priority -150
        meta l4proto { tcp, udp } socket transparent 1 meta mark set 1
    }
    chain tracking {
        type nat hook postrouting priority 100
        oifname "tap0" masquerade
    }
}
"""


class Lab:
    """The three namespaces, and the forwarder. Its process is in the host's namespace but where it says otherwise."""

    def __init__(self) -> None:
        self.spaces: dict[str, int] = {}
        for name in ("container", "router", "host"):
            namespaces.unshare(namespaces.CLONE_NEWNET)
            self.spaces[name] = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.pid = 0
        container = f"/proc/{os.getpid()}/fd/{self.spaces['container']}"
        self._links("host", HOST_LINKS)
        self._links("router", ROUTER_LINKS.format(container=container))
        self._links("container", CONTAINER_LINKS)
        with self.inside("router"):
            done = subprocess.run(["nft", "-f", "-"], input=RULES, text=True, capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"no such rules here: {done.stderr}")

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        namespaces.setns(self.spaces[name], namespaces.CLONE_NEWNET)
        try:
            yield
        finally:
            namespaces.setns(self.spaces["host"], namespaces.CLONE_NEWNET)

    def _links(self, name: str, lines: str) -> None:
        for line in lines.strip().splitlines():
            with self.inside(name):
                done = subprocess.run(["ip", *line.split()], text=True, capture_output=True, check=False)
            if done.returncode:
                pytest.skip(f"ip {line}: {done.stderr}")

    def listen(self, address: str = TARGET.ipv4, port: int = PORT, backlog: int = 1024) -> socket.socket:
        """A server's socket in the container."""
        with self.inside("container"):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            made = socket.socket(family, socket.SOCK_STREAM)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address, port))
            made.listen(backlog)
            made.settimeout(20)
            return made

    def forward(
        self,
        protocol: str = "tcp",
        *,
        listeners: list[Listener] | None = None,
        target: Target = TARGET,
        transparent: bool = True,
        first: Callable[[], object] = lambda: None,
    ) -> int:
        """Start rdock-ports: the port of the host. `first` is called in its process before it begins."""
        bound = listeners or ports.bind([PortBinding("", 0, PORT, protocol)])[0]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                namespaces.setns(self.spaces["router"], namespaces.CLONE_NEWNET)
                first()
                forwarder.run(bound, target, control=theirs.fileno(), transparent=transparent)
            finally:
                os._exit(99)
        theirs.close()
        self.control = ours
        port: int = bound[0].socket.getsockname()[1]
        for listener in bound:
            listener.socket.close()
        return port

    def connect(self, port: int, address: str = HOST, source: str = CLIENT, source_port: int = 0) -> socket.socket:
        return socket.create_connection((address, port), timeout=20, source_address=(source, source_port))

    def seconds_of_cpu(self) -> float:
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def private_kib(self) -> int:
        with open(f"/proc/{self.pid}/smaps_rollup") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("Private_"))

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def end(self) -> None:
        """It goes by itself, and in peace."""
        self.control.close()
        ended = os.pidfd_open(self.pid)
        gone = select.select([ended], [], [], 10)[0]
        os.close(ended)
        if not gone:
            os.kill(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert gone and code == 0, (gone, code)


def _in_a_lab(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    lab = Lab()
    try:
        return function(lab, *args)
    finally:
        if lab.pid:
            lab.end()


@pytest.fixture
def in_lab() -> Callable[..., Any]:
    for program in ("ip", "nft"):
        if not (shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")):
            pytest.skip(f"{program} is not installed")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    return lambda function, *args: in_namespace(_in_a_lab, function, args)


def receive(connection: socket.socket) -> bytes:
    """All until the end."""
    connection.settimeout(20)
    return b"".join(iter(lambda: connection.recv(65536), b""))


def is_reset(connection: socket.socket) -> bool:
    try:
        receive(connection)
    except ConnectionResetError:
        return True
    return False


def is_refused(lab: Lab, port: int) -> bool:
    """Whether a client is reset, be it before it knows that it is connected."""
    try:
        return is_reset(lab.connect(port))
    except ConnectionResetError:
        return True


# -- contents ------------------------------------------------------------------------------------

MEGABYTES = 200


def _send_much(connection: socket.socket, seed: bytes, digests: dict[str, str], name: str) -> None:
    block = memoryview(hashlib.shake_128(seed).digest(1 << 20) * 2)
    digest = hashlib.sha256()
    for i in range(MEGABYTES):
        piece = block[i * 4099 % (1 << 20) :][: 1 << 20]
        digest.update(piece)
        connection.sendall(piece)
    connection.shutdown(socket.SHUT_WR)
    digests[name] = digest.hexdigest()


def _take_much(connection: socket.socket, digests: dict[str, str], name: str) -> None:
    digest, count, space = hashlib.sha256(), 0, bytearray(1 << 20)
    while size := connection.recv_into(space):
        digest.update(memoryview(space)[:size])
        count += size
    digests[name] = digest.hexdigest()
    digests[f"{name} size"] = str(count)


def _both_ways(lab: Lab) -> dict[str, str]:
    server = lab.listen()
    client = lab.connect(lab.forward())
    served, _ = server.accept()
    digests: dict[str, str] = {}
    threads = [
        threading.Thread(target=_send_much, args=(client, b"client", digests, "asked")),
        threading.Thread(target=_send_much, args=(served, b"server", digests, "answered")),
        threading.Thread(target=_take_much, args=(client, digests, "got")),
        threading.Thread(target=_take_much, args=(served, digests, "heard")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return digests


def test_all_bytes_arrive_both_ways_at_once(in_lab: Callable[..., Any]) -> None:
    digests = in_lab(_both_ways)
    assert digests["heard size"] == digests["got size"] == str(MEGABYTES << 20)
    assert digests["heard"] == digests["asked"] and digests["got"] == digests["answered"]


def _half_close(lab: Lab) -> tuple[bytes, bytes]:
    server = lab.listen()
    client = lab.connect(lab.forward())
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    served, _ = server.accept()
    question = receive(served)
    time.sleep(0.1)
    served.sendall(b"answer" * 50_000)
    served.shutdown(socket.SHUT_WR)
    answer = receive(client)
    client.close()
    served.close()
    wait_until(lambda: lab.descriptors() <= idle_descriptors(lab) + 8)
    return question, answer


def idle_descriptors(lab: Lab) -> int:
    """Standard streams, control, epoll, and the listeners of both families."""
    return 3 + 1 + 1 + 2


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come to be"
        time.sleep(0.02)


def test_a_closed_direction_leaves_the_other_open(in_lab: Callable[..., Any]) -> None:
    assert in_lab(_half_close) == (b"question", b"answer" * 50_000)


def _urgent(lab: Lab, before: int) -> bytes:
    """What comes of bytes of which one is urgent."""
    server = lab.listen()
    client = lab.connect(lab.forward())
    served, _ = server.accept()
    served.settimeout(20)
    client.sendall(b"b" * before)
    client.send(b"u", socket.MSG_OOB)
    client.sendall(b"after")
    served.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    got = b""
    while len(got) < before + 6:
        got += served.recv(65536)
    client.sendall(b"end")
    return got.lstrip(b"b") + served.recv(10)


@pytest.mark.parametrize("before", [0, 3, 1 << 20])
def test_urgent_data_holds_nothing_up(in_lab: Callable[..., Any], before: int) -> None:
    assert in_lab(_urgent, before) == b"uafterend"


def _trickle(lab: Lab) -> bool:
    """Pieces of all sizes around the limit between the two ways of carrying, with an end right behind each."""
    server = lab.listen()
    port = lab.forward()
    for size in (1, (1 << 14) - 1, 1 << 14, (1 << 14) + 1, 1 << 15, 100_000):
        for pieces in (1, 3):
            client = lab.connect(port)
            served, _ = server.accept()
            # All of it, and the end, is there before the forwarder looks.
            os.kill(lab.pid, signal.SIGSTOP)
            content = hashlib.shake_128(b"%d" % size).digest(size * pieces)
            for i in range(pieces):
                client.sendall(content[i * size :][:size])
            client.shutdown(socket.SHUT_WR)
            os.kill(lab.pid, signal.SIGCONT)
            assert receive(served) == content
            served.sendall(content)
            served.close()
            assert receive(client) == content
            client.close()
    return True


def test_the_last_bytes_are_followed_by_the_end(in_lab: Callable[..., Any]) -> None:
    assert in_lab(_trickle)


def _broken_off(lab: Lab) -> list[bool]:
    """Whether a reset on either side is one on the other."""
    server = lab.listen()
    port = lab.forward()
    found = []
    for ends in range(2):
        client = lab.connect(port)
        served, _ = server.accept()
        served.settimeout(20)
        pair = [client, served]
        client.sendall(b"x")
        assert served.recv(1) == b"x"
        pair[ends].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pair[ends].close()
        found.append(is_reset(pair[1 - ends]))
        pair[1 - ends].close()
    wait_until(lambda: lab.descriptors() <= idle_descriptors(lab) + 8)
    return found


def test_a_reset_passes_through(in_lab: Callable[..., Any]) -> None:
    assert in_lab(_broken_off) == [True, True]


def _early_answers(lab: Lab) -> tuple[int, int]:
    """How many of fifty clients see an answer that comes while they are still sending, and how many cannot go on."""
    server = lab.listen()
    port = lab.forward()

    def refuse() -> None:
        for _ in range(50):
            served, _ = server.accept()
            served.recv(1000)
            served.sendall(b"413 too large")
            served.close()  # with much that is not read

    thread = threading.Thread(target=refuse)
    thread.start()
    answers = stopped = 0
    for _ in range(50):
        client = lab.connect(port)
        try:
            for _ in range(400):
                client.sendall(bytes(65536))
        except OSError:
            stopped += 1
        try:
            answers += client.recv(100) == b"413 too large"
        except OSError:
            pass
        client.close()
    thread.join()
    wait_until(lambda: lab.descriptors() <= idle_descriptors(lab) + 8)
    return answers, stopped


def test_an_answer_that_comes_before_a_reset_arrives(in_lab: Callable[..., Any]) -> None:
    assert in_lab(_early_answers) == (50, 50)


def _last_words(lab: Lab, closes_first: bool) -> tuple[int, bool, float]:
    """What a slow reader gets of who breaks off when the forwarder has all; and whether it is reset then."""
    server = lab.listen()
    port = lab.forward()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.bind((CLIENT, 0))
    client.connect((HOST, port))
    served, _ = server.accept()
    client.sendall(b"unread")
    select.select([served], [], [], 10)
    size = 0
    served.setblocking(False)
    try:
        while True:
            size += served.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    if closes_first:
        served.shutdown(socket.SHUT_WR)
    # As much as fits on the way; the rest goes when the reader takes some, and is not lost with the reset.
    client.settimeout(20)
    got = 0
    while any(fcntl.ioctl(served.fileno(), termios.TIOCOUTQ, bytes(4))):
        got += len(client.recv(4096))
    served.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    served.close()
    time.sleep(0.2)
    began = lab.seconds_of_cpu()
    time.sleep(1)
    spent = lab.seconds_of_cpu() - began
    was_reset = False
    try:
        while part := client.recv(65536):
            got += len(part)
    except ConnectionResetError:
        was_reset = True
    client.close()
    wait_until(lambda: lab.descriptors() <= idle_descriptors(lab) + 8)
    return size - got, was_reset, spent


@pytest.mark.parametrize("closes_first", [False, True])
def test_what_was_said_before_a_reset_is_not_lost(in_lab: Callable[..., Any], closes_first: bool) -> None:
    missing, was_reset, spent = in_lab(_last_words, closes_first)
    assert missing == 0
    assert was_reset != closes_first
    assert spent < 0.1, "who waits for a slow reader does nothing else"


# -- addresses -----------------------------------------------------------------------------------

ADDRESSES: list[tuple[str, str, str, dict[str, Any], str]] = [
    ("its own", HOST, CLIENT, {}, CLIENT),
    ("its own, IPv6", HOST6, CLIENT6, {}, CLIENT6),
    ("loopback", "127.0.0.1", "127.0.0.1", {}, TARGET.gateway),
    ("loopback, IPv6", "::1", "::1", {}, TARGET.gateway6),
    ("other family", HOST6, CLIENT6, {"target": TARGET._replace(ipv6="")}, TARGET.gateway),
    ("other family, IPv6", HOST, CLIENT, {"target": TARGET._replace(ipv4="")}, TARGET.gateway6),
    ("on the container's network", HOST, NEAR, {}, TARGET.gateway),
    ("not to be shown", HOST, CLIENT, {"transparent": False}, TARGET.gateway),
    ("gateway left to the route", "127.0.0.1", "127.0.0.1", {"target": Target(ipv4=TARGET.ipv4)}, TARGET.gateway),
]


def _seen(lab: Lab, address: str, source: str, how: dict[str, Any]) -> tuple[str, bool]:
    """The address that the server sees, and whether the port is the client's too."""
    servers = [lab.listen(there) for there in (TARGET.ipv4, TARGET.ipv6)]
    client = lab.connect(lab.forward(**how), address, source)
    ready = select.select(servers, [], [], 10)[0]
    served, peer = ready[0].accept()
    served.sendall(b"hello")
    served.close()
    assert receive(client) == b"hello"
    return peer[0], peer[1] == client.getsockname()[1]


@pytest.mark.parametrize(("address", "source", "how", "expected"), [each[1:] for each in ADDRESSES], ids=lambda x: "")
def test_whom_the_container_sees(
    in_lab: Callable[..., Any], address: str, source: str, how: dict[str, Any], expected: str
) -> None:
    assert in_lab(_seen, address, source, how) == (expected, expected == source)


def _seen_through_dual_stack(lab: Lab, kind: int) -> tuple[str, bytes]:
    both = socket.socket(socket.AF_INET6, kind)
    both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if kind == socket.SOCK_DGRAM:
        ports.tell_addresses(both)
    both.bind(("::", 0))
    if kind == socket.SOCK_STREAM:
        both.listen()
        server = lab.listen()
        client = lab.connect(lab.forward(listeners=[ports.adopt(both.detach(), PORT, "tcp")]))
        served, peer = server.accept()
        served.sendall(b"hello")
        return peer[0], client.recv(10)
    server = _udp_server(lab)
    port = lab.forward(listeners=[ports.adopt(both.detach(), PORT, "udp")])
    client = _udp_client(HOST, port, CLIENT)
    client.send(b"x")
    _, peer = server.recvfrom(10)
    server.sendto(b"hello", peer)
    return peer[0], client.recv(10)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_clients_of_a_dual_stack_socket_are_known_by_their_address(in_lab: Callable[..., Any], kind: int) -> None:
    assert in_lab(_seen_through_dual_stack, kind) == (CLIENT, b"hello")


def _same_port_again(lab: Lab) -> list[tuple[bytes, str]]:
    """A client that takes the same port of its own again, while the connection before is still known in the router."""
    server = lab.listen()
    port = lab.forward()
    answers = []
    for _ in range(3):
        client = socket.socket()
        client.settimeout(20)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind((CLIENT, 23456))
        client.connect((HOST, port))
        served, peer = server.accept()
        served.sendall(b"hello")
        # The client ends first, so that it is the forwarder's half that fades slowly.
        client.shutdown(socket.SHUT_WR)
        assert receive(served) == b""
        served.close()
        answers.append((receive(client), peer[0]))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    return answers


def test_a_client_may_use_its_port_again_at_once(in_lab: Callable[..., Any]) -> None:
    assert in_lab(_same_port_again) == [(b"hello", CLIENT)] * 3


def _two_ports_one_client(lab: Lab) -> list[tuple[str, bytes]]:
    """A client that comes from one port of its own to two of the host that lead to the same port of the container."""
    listeners = [ports.bind([PortBinding("", 0, PORT, "tcp")])[0][0] for _ in range(2)]
    numbers = [listener.socket.getsockname()[1] for listener in listeners]
    server = lab.listen()
    lab.forward(listeners=listeners)
    seen = []
    clients = []
    for number in numbers:
        client = socket.socket()
        client.settimeout(20)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind((CLIENT, 23456))
        client.connect((HOST, number))
        served, peer = server.accept()
        clients += [client, served]
        served.sendall(b"%d" % number)
        seen.append((peer[0], client.recv(10).replace(b"%d" % number, b"right")))
    return seen


def test_one_port_of_a_client_for_two_of_the_host(in_lab: Callable[..., Any]) -> None:
    assert in_lab(_two_ports_one_client) == [(CLIENT, b"right"), (TARGET.gateway, b"right")]


# -- what goes wrong -----------------------------------------------------------------------------


def _refused(lab: Lab) -> tuple[bool, int]:
    port = lab.forward()
    before = is_refused(lab, port)
    server = lab.listen()
    client = lab.connect(port)
    server.accept()[0].sendall(b"there")
    assert client.recv(10) == b"there"
    return before, lab.descriptors() - idle_descriptors(lab)


def test_a_port_that_nobody_listens_on_resets(in_lab: Callable[..., Any]) -> None:
    refused, more = in_lab(_refused)
    assert refused and 2 <= more <= 4


def _another_target(lab: Lab) -> tuple[bool, bytes, bytes]:
    old, new = lab.listen(), lab.listen("172.30.0.3")
    port = lab.forward()
    client = lab.connect(port)
    served, _ = old.accept()
    served.sendall(b"old")
    assert client.recv(10) == b"old"
    for packet in (b"nonsense", b"[]", b'{"ipv4": 1}', b'{"near": ["x"]}'):
        lab.control.send(packet)
    client.sendall(b"still")
    assert served.recv(10) == b"still"
    lab.control.send(jsontext.render(TARGET._replace(ipv4="172.30.0.3").to_json()).encode())
    was_reset = is_reset(client)
    client = lab.connect(port)
    served, _ = new.accept()
    served.sendall(b"new")
    answer = client.recv(10)
    lab.control.send(jsontext.render(Target().to_json()).encode())
    assert is_reset(client) and is_refused(lab, port)
    return was_reset, answer, b""


def test_the_target_can_be_changed(in_lab: Callable[..., Any]) -> None:
    assert in_lab(_another_target) == (True, b"new", b"")


def _crowd(lab: Lab, count: int) -> int:
    server = lab.listen()
    port = lab.forward()
    clients = [lab.connect(port) for _ in range(count)]
    for i, client in enumerate(clients):
        client.sendall(b"%d" % i)
    for _ in range(count):
        served, _ = server.accept()
        served.settimeout(20)
        # Held open together: each is served by a closure over nothing but its own socket.
        threading.Thread(target=_echo, args=(served,), daemon=True).start()
    answers = [client.recv(10) for client in clients]
    assert lab.descriptors() >= 2 * count
    for client in clients:
        client.close()
    wait_until(lambda: lab.descriptors() <= idle_descriptors(lab) + 8)
    return sum(answer == b"%d" % i for i, answer in enumerate(answers))


def _echo(served: socket.socket) -> None:
    while data := served.recv(65536):
        served.sendall(data)
    served.close()


def test_five_hundred_at_once(in_lab: Callable[..., Any]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip(f"only {hard} descriptors may be had")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    try:
        assert in_lab(_crowd, 500) == 500
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _slow_readers(lab: Lab) -> tuple[int, float, int]:
    """Growth in KiB while ten clients that do not read are sent what they can take; seconds for another; bytes."""
    server = lab.listen()
    port = lab.forward()
    slow = []
    for _ in range(10):
        slow.append(lab.connect(port))
        served, _ = server.accept()
        served.setblocking(False)
        slow.append(served)
    before = lab.private_kib()
    sent, quiet = 0, 0
    while quiet < 10:
        some = 0
        for served in slow[1::2]:
            try:
                some += served.send(b"x" * (1 << 20))
            except BlockingIOError:
                pass
        sent += some
        quiet = 0 if some else quiet + 1
        time.sleep(0 if some else 0.05)
    began, cpu = time.monotonic(), lab.seconds_of_cpu()
    client = lab.connect(port)
    served, _ = server.accept()
    threading.Thread(target=_echo, args=(served,), daemon=True).start()
    for _ in range(100):
        client.sendall(b"ping")
        assert client.recv(10) == b"ping"
    took = time.monotonic() - began
    time.sleep(1)
    assert lab.seconds_of_cpu() - cpu < 0.5
    got = 0
    for client, served in zip(slow[::2], slow[1::2], strict=True):
        served.close()
        got += len(receive(client))
    assert got == sent
    return lab.private_kib() - before, took, sent


def test_who_does_not_read_costs_nothing_and_holds_up_nobody(in_lab: Callable[..., Any]) -> None:
    growth, took, sent = in_lab(_slow_readers)
    assert sent > 1 << 20 and growth < 1024 and took < 5, (growth, took, sent)


def _out_of_descriptors(lab: Lab) -> tuple[float, int]:
    server = lab.listen()
    most = 40
    port = lab.forward(first=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)))
    clients = [lab.connect(port) for _ in range(50)]
    for i, client in enumerate(clients):
        client.sendall(b"%d" % i)
    wait_until(lambda: lab.descriptors() == most)
    cpu = lab.seconds_of_cpu()
    time.sleep(2)
    used = lab.seconds_of_cpu() - cpu
    # Each that leaves makes room for another, until all have been served.
    answered = 0
    for client in clients:
        served, _ = server.accept()
        served.settimeout(20)
        served.sendall(served.recv(10))
        served.close()
        answered += bool(receive(client))
        client.close()
    return used, answered


def test_without_descriptors_it_waits_and_goes_on(in_lab: Callable[..., Any]) -> None:
    used, answered = in_lab(_out_of_descriptors)
    assert used < 0.5 and answered == 50


def _ends(lab: Lab) -> tuple[list[int], bool, str]:
    """What is left of its process when the control has ended while connections are open."""
    server = lab.listen()
    client = lab.connect(lab.forward())
    server.accept()[0].sendall(b"x")
    assert client.recv(1) == b"x"
    with open(f"/proc/{lab.pid}/comm") as file:
        name = file.read().strip()
    lab.end()
    pid, lab.pid = lab.pid, 0
    left = [int(entry) for entry in os.listdir("/proc") if entry == str(pid)]
    try:
        client.settimeout(5)
        ended = client.recv(1) == b""
    except ConnectionResetError:
        ended = True
    return left, ended, name


def test_nothing_is_left_after_the_end(in_lab: Callable[..., Any]) -> None:
    assert in_lab(_ends) == ([], True, "rdock-ports")


# -- UDP -----------------------------------------------------------------------------------------


def _udp_server(lab: Lab, address: str = TARGET.ipv4) -> socket.socket:
    with lab.inside("container"):
        server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((address, PORT))
        server.settimeout(10)
        return server


def _udp_client(address: str, port: int, source: str, source_port: int = 0) -> socket.socket:
    """Connected: what comes from another address than `address` does not reach it."""
    client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.bind((source, source_port))
    client.connect((address, port))
    client.settimeout(10)
    return client


def _udp(lab: Lab, server_address: str, ways: list[tuple[str, str]]) -> list[str]:
    """Who was seen by the container, for clients of several addresses, each with datagrams of several sizes."""
    server = _udp_server(lab, server_address)
    port = lab.forward("udp")
    clients = [_udp_client(address, port, source) for address, source in ways]
    seen = []
    for size in (1, 1400, 9000, 65507 - 40 * (":" in server_address)):
        for i, client in enumerate(clients):
            client.send(bytes([i]) * size)
        for _ in clients:
            data, peer = server.recvfrom(65536)
            server.sendto(data[::-1], peer)
            seen.append(peer[0])
        for i, client in enumerate(clients):
            assert client.recv(65536) == bytes([i]) * size
    return seen


def test_datagrams_of_two_clients(in_lab: Callable[..., Any]) -> None:
    seen = in_lab(_udp, TARGET.ipv4, [(HOST, CLIENT), ("127.0.0.1", "127.0.0.1"), ("127.0.0.2", "127.0.0.1")])
    assert sorted(seen) == sorted([CLIENT, TARGET.gateway, TARGET.gateway] * 4)


def test_datagrams_of_two_clients_ipv6(in_lab: Callable[..., Any]) -> None:
    assert in_lab(_udp, TARGET.ipv6, [(HOST6, CLIENT6), ("::1", "::1")]) == [CLIENT6, TARGET.gateway6] * 4


def _udp_two_addresses(lab: Lab) -> list[bytes]:
    """One socket of a client that speaks to two addresses of the host: each answers what it was asked."""
    server = _udp_server(lab)
    port = lab.forward("udp")
    clients = [_udp_client(address, port, CLIENT, 34567) for address in (HOST, CLIENT)]
    for i, client in enumerate(clients):
        client.send(b"%d" % i)
    for _ in clients:
        server.sendto(*server.recvfrom(10))
    return [client.recv(10) for client in clients]


def test_answers_leave_from_the_address_that_was_asked(in_lab: Callable[..., Any]) -> None:
    assert in_lab(_udp_two_addresses) == [b"0", b"1"]


def _udp_bounds(lab: Lab) -> tuple[int, bytes, int]:
    """Descriptors with many clients; what the newest is answered; descriptors when all are silent."""
    flows.MOST, flows.IDLE = 5, 1.0  # in this process and the forwarder's only
    server = _udp_server(lab)
    port = lab.forward("udp")
    for _ in range(20):
        client = _udp_client(HOST, port, CLIENT)
        client.send(b"x")
        peer = server.recvfrom(10)[1]
    most = lab.descriptors() - idle_descriptors(lab)
    server.sendto(b"answer", peer)
    answer = client.recv(10)
    wait_until(lambda: lab.descriptors() == idle_descriptors(lab))
    client.send(b"again")
    assert server.recvfrom(10)[0] == b"again"
    return most, answer, lab.descriptors() - idle_descriptors(lab)


def test_silent_clients_are_forgotten(in_lab: Callable[..., Any]) -> None:
    assert in_lab(_udp_bounds) == (5, b"answer", 1)


def _udp_nobody(lab: Lab) -> bytes:
    """Datagrams to a container that does not listen, then to one that does."""
    port = lab.forward("udp")
    client = _udp_client(HOST, port, CLIENT)
    for _ in range(5):
        try:
            client.send(b"x")
        except OSError as e:
            assert e.errno == errno.ECONNREFUSED
        time.sleep(0.05)
    server = _udp_server(lab)
    client.send(b"late")
    server.sendto(*server.recvfrom(10))
    return client.recv(10)


def test_a_container_that_listens_later_is_reached(in_lab: Callable[..., Any]) -> None:
    assert in_lab(_udp_nobody) == b"late"
