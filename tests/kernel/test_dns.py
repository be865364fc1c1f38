"""The name server with real clients: the namespace of its sockets, two containers, a host with servers of its own."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rdock.linux import links
from rdock.network import dns, dns_streams, dns_upstream, inside
from rdock.network.dns import NameServer, View
from tests import netspace
from tests.namespace import in_namespace
from tests.netspace import PATIENCE, Space
from tests.unit.test_dns import name, question

GATEWAY, GATEWAY6, SECOND = "172.30.1.1", "fd00:1::1", "172.30.1.9"
NAMES = {
    "web": ["172.30.1.2", "fd00:1::2"],
    "old": ["172.30.1.4"],
    "all": ["172.30.1.2", "172.30.1.4", "172.30.1.5"],
    "many": [f"10.0.{at >> 8}.{at & 255}" for at in range(300)],
}
REVERSE = {"172.30.1.2": "web", "fd00:1::2": "web"}


class Fake:
    """A server of the host's: answers with what `behave` makes of a question, nothing or several messages."""

    def __init__(self, host: Space, address: str, behave: Callable[[bytes], list[bytes]]) -> None:
        self.behave = behave
        self.asked: list[tuple[bytes, Any]] = []
        self.by_tcp: list[bytes] = []
        self.udp = host.socket(socket.SOCK_DGRAM, address, 53)
        self.udp.settimeout(None)
        self.tcp = host.socket(socket.SOCK_STREAM, address, 53)
        self.tcp.settimeout(None)
        self.tcp.listen()
        for run in (self._datagrams, self._streams):
            threading.Thread(target=run, daemon=True).start()

    def _datagrams(self) -> None:
        while True:
            text, peer = self.udp.recvfrom(65535)
            self.asked.append((text, peer))
            for reply in self.behave(text):
                self.udp.sendto(reply, peer)

    def _streams(self) -> None:
        self.held = []
        while True:
            connection, _ = self.tcp.accept()
            self.held.append(connection)
            text = receive(connection)
            self.by_tcp.append(text)
            for reply in self.behave(text):
                for part in (len(reply).to_bytes(2, "big")[:1], len(reply).to_bytes(2, "big")[1:] + reply):
                    connection.sendall(part)


class Laboratory:
    """Containers a (172.30.1.2, outside) and b (172.30.2.2, internal), the shared namespace, and the host."""

    def __init__(self, *servers: str, loop: bool = True) -> None:
        self.host, self.a, self.b, self.shared = Space(), Space(), Space(), Space()
        links.change(self.host.route, "lo", up=True)
        for at, space in ((1, self.a), (2, self.b)):
            links.add_veth(self.shared.route, f"to{at}", "eth0", space.fd, up=True)
            links.change(space.route, "eth0", up=True)
            links.add_address(self.shared.route, f"to{at}", f"172.30.{at}.1/24")
            links.add_address(self.shared.route, f"to{at}", f"fd00:{at}::1/64")
            links.add_address(space.route, "eth0", f"172.30.{at}.2/24")
            links.add_address(space.route, "eth0", f"fd00:{at}::2/64")
        links.add_address(self.shared.route, "to1", f"{SECOND}/24")
        for space in (self.a, self.b, self.shared):
            space.settle()
        self.views: dict[str, View] = {}
        for address in ("172.30.1.2", "fd00:1::2"):
            self.views[address] = View(NAMES, REVERSE, outside=True, container="a")
        self.views["172.30.2.2"] = View({"web": ["172.30.2.7"]}, {}, outside=False, container="b")
        self.servers = list(servers)
        self.shared.enter()
        udp, tcp = dns.open_sockets()
        self.host.enter()
        self.server = NameServer(udp, tcp, self._view, lambda: list(self.servers), inside.maker(self.shared.fd))
        self.turns = 0
        self.problem: BaseException | None = None
        if loop:
            self.thread = threading.Thread(target=self._loop, daemon=True)
            self.thread.start()

    def _view(self, address: str, link: str) -> View | None:
        """As views.Views does it: of those on the network of that link."""
        own = ("172.30.1.", "fd00:1:") if link == "to1" else ("172.30.2.", "fd00:2:") if link == "to2" else ()
        return self.views.get(address) if address.startswith(own) else None

    def _loop(self) -> None:
        try:
            self.host.enter()
            while True:
                self.turns += 1
                poll = select.poll()
                for fd, mask in self.server.wanted().items():
                    poll.register(fd, mask)
                timeout = self.server.timeout()
                for fd, events in poll.poll(None if timeout is None else timeout * 1000 + 1):
                    self.server.handle(fd, events)
                self.server.tick()
        except BaseException as e:
            self.problem = e
            raise

    def ask(
        self, text: bytes, *, of: str = GATEWAY, space: Space | None = None, within: float = PATIENCE
    ) -> bytes | None:
        """The answer to a message by UDP, None for none in time."""
        with (space or self.a).socket(socket.SOCK_DGRAM, "::" if ":" in of else "0.0.0.0") as client:
            client.connect((of, 53))
            client.settimeout(within)
            client.send(text)
            try:
                return client.recv(65535)
            except TimeoutError:
                assert self.problem is None
                return None

    def answer(self, text: bytes, **options: Any) -> bytes:
        found = self.ask(text, **options)
        assert found is not None
        return found

    def connect(self, space: Space | None = None) -> socket.socket:
        client = (space or self.a).socket(socket.SOCK_STREAM)
        client.connect((GATEWAY if space is not self.b else "172.30.2.1", 53))
        return client

    def dig(self, *arguments: str, space: Space | None = None, of: str = GATEWAY) -> str:
        return (space or self.a).run("dig", f"@{of}", "+tries=1", "+time=5", *arguments)

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end
            assert self.problem is None
            time.sleep(0.01)


def receive(connection: socket.socket) -> bytes:
    """A message of a stream; b"" at its end."""
    wanted, data = 2, b""
    while len(data) < wanted:
        part = connection.recv(wanted - len(data))
        if not part:
            return b""
        data += part
        wanted = 2 + int.from_bytes(data[:2], "big") if len(data) >= 2 else 2
    return data[2:]


def framed(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def reply_to(text: bytes, code: int = 0, address: str = "192.0.2.7", *, flags: int = 0) -> bytes:
    """An answer with an address, which only NOERROR has."""
    record = struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(address) if code == 0 else b""
    end = text.index(b"\0", 12) + 5
    return text[:2] + struct.pack("!HHHHH", 0x8180 | code | flags, 1, bool(record), 0, 0) + text[12:end] + record


def well(text: bytes) -> list[bytes]:
    return [reply_to(text)]


def silent(_: bytes) -> list[bytes]:
    return []


def code(text: bytes) -> int:
    return text[3] & 15


@contextlib.contextmanager
def changed(module: Any, **values: Any) -> Iterator[None]:
    """In a child that ends with the test."""
    before = {key: getattr(module, key) for key in values}
    for key, value in values.items():
        setattr(module, key, value)
    yield
    for key, value in before.items():
        setattr(module, key, value)


# -- names of ours, as others read them ----------------------------------------------------------


def test_dig() -> None:
    in_namespace(_dig)


def _dig() -> None:
    lab = Laboratory()
    for transport in ("+notcp", "+tcp"):
        for of in (GATEWAY, GATEWAY6, SECOND):
            assert lab.dig("+short", transport, "web", of=of) == "172.30.1.2\n"
        assert lab.dig("+short", transport, "WEB.", "AAAA") == "fd00:1::2\n"
        assert lab.dig("+short", transport, "-x", "172.30.1.2") == "web.\n"
        assert lab.dig("+short", transport, "-x", "fd00:1::2") == "web.\n"
    for kind in ("AAAA", "MX", "SRV", "TXT", "HTTPS"):
        told = lab.dig("old", kind)
        assert "status: NOERROR" in told
        assert "ANSWER: 0," in told
    told = lab.dig("old")
    assert "flags: qr aa rd ra;" in told
    assert "old.\t\t\t600\tIN\tA\t172.30.1.4" in told
    assert "EDNS: version: 0, flags:; udp: 1232" in told
    assert "OPT PSEUDOSECTION" not in lab.dig("+noedns", "old")
    assert "status: BADVERS" in lab.dig("+edns=1", "+noednsneg", "old")
    assert "web has address 172.30.1.2\nweb has IPv6 address fd00:1::2\n" in lab.a.run("host", "web", GATEWAY)


def test_more_addresses_than_a_datagram_takes() -> None:
    in_namespace(_many)


def _many() -> None:
    lab = Laboratory()
    assert sorted(lab.dig("+short", "many").split()) == sorted(NAMES["many"])
    assert "flags: qr aa tc rd ra; QUERY: 1, ANSWER: 30," in lab.dig("+noedns", "+ignore", "many")
    for size in (512, 1232, 4096):
        assert len(lab.answer(question("many", size=size))) <= size


def test_resolvers_of_systems() -> None:
    in_namespace(_systems)


def _systems() -> None:
    lab = Laboratory("127.0.0.53")
    fake = Fake(lab.host, "127.0.0.53", lambda text: [reply_to(text, 0 if b"\7example" in text else 3)])
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(f"search example.test\nnameserver {GATEWAY}\noptions ndots:0\n")
        file.flush()
        os.chmod(file.name, 0o644)
        subprocess.run(["mount", "--bind", file.name, "/etc/resolv.conf"], check=True)
        code = "import socket, sys; print(*sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1], 80)}))"
        for wanted, addresses in (
            ("web", "172.30.1.2 fd00:1::2"),
            ("wEb.", "172.30.1.2 fd00:1::2"),
            ("old", "172.30.1.4"),
        ):
            assert lab.a.run("python3", "-I", "-c", code, wanted) == f"{addresses}\n"
        assert not fake.asked  # not even for the AAAA of old
        assert lab.a.run("getent", "ahostsv4", "example").split()[0] == "192.0.2.7"
        assert lab.a.run("getent", "hosts", "172.30.1.2").split() == ["172.30.1.2", "web"]
        # What is unknown by itself is looked for in the domains, by the client.
        fake.behave = lambda text: [reply_to(text, 0 if name("solo.example.test") in text else 3)]
        assert lab.a.run("getent", "ahostsv4", "solo").split()[0] == "192.0.2.7"
        # It adds a domain to any name without the last dot, whatever the options say.
        assert "Address: 172.30.1.2\n" in lab.a.run("busybox", "nslookup", "web.")
        assert "name = web" in lab.a.run("busybox", "nslookup", "172.30.1.2")


def test_each_sees_what_it_may() -> None:
    in_namespace(_views)


def _views() -> None:
    lab = Laboratory("127.0.0.53")
    fake = Fake(lab.host, "127.0.0.53", well)
    assert lab.dig("+short", "web", space=lab.b, of="172.30.2.1") == "172.30.2.7\n"
    for transport in ("+notcp", "+tcp"):
        assert "status: SERVFAIL" in lab.dig(transport, "old", space=lab.b, of="172.30.2.1")
        assert "status: SERVFAIL" in lab.dig(transport, "example.org", space=lab.b, of="172.30.2.1")
        assert "status: REFUSED" in lab.dig(transport, "web", space=lab.b, of="fd00:2::1")
    assert not fake.asked
    assert not fake.by_tcp
    # The other is not answered in the name of whom it asks: its own link is where the answer goes.
    links.add_address(lab.b.route, "eth0", "172.30.1.2/32")
    with (
        lab.b.socket(socket.SOCK_DGRAM, "172.30.1.2", 4444) as liar,
        lab.a.socket(socket.SOCK_DGRAM, "172.30.1.2", 4444) as honest,
    ):
        liar.sendto(question("web"), ("172.30.2.1", 53))
        honest.settimeout(netspace.SILENCE)
        with pytest.raises(TimeoutError):
            honest.recv(512)
    del lab.views["172.30.1.2"]
    assert code(lab.answer(question("web"))) == 5


def test_nobody_asks_in_the_name_of_a_container_of_another_bridge() -> None:
    in_namespace(_forged)


def _forged() -> None:
    lab = Laboratory("127.0.0.53")
    fake = Fake(lab.host, "127.0.0.53", silent)
    lab.views["172.30.2.2"] = lab.views["fd00:2::2"] = View({}, {}, outside=True, container="b")
    text = question("example.org")
    for address, gateway in (("172.30.1.2", "172.30.2.1"), ("fd00:1::2", "fd00:2::1"), ("fd00:1::2", GATEWAY6)):
        if not lab.b.ip("addr", "show", "to", address):
            links.add_address(lab.b.route, "eth0", f"{address}/{128 if ':' in address else 32}")
        if gateway == GATEWAY6:  # that of the other's bridge, by way of one's own
            links.add_route(lab.b.route, f"{gateway}/128", via="fd00:2::1")
        with lab.b.socket(socket.SOCK_DGRAM, address, 4444) as liar:
            for _ in range(30):  # more than one client may have waiting
                liar.sendto(question("forged.example.org"), (gateway, 53))
        lab.answer(question("web"))  # all that came before has been seen to
        assert not fake.asked, (address, gateway)
    fake.behave = well
    assert lab.answer(text) == reply_to(text)
    # Who has the address for all that the kernel knows, and so can connect, has it on the wrong bridge.
    links.add_route(lab.shared.route, "172.30.1.2/32", link="to2")
    with lab.b.socket(socket.SOCK_STREAM, "172.30.1.2") as liar:
        liar.connect(("172.30.2.1", 53))
        liar.sendall(framed(question("web")))
        assert code(receive(liar)) == 5
    # With one's own address one may ask anybody's gateway.
    lab.b.run("ip", "addr", "del", "fd00:1::2/128", "dev", "eth0")
    assert lab.answer(text, space=lab.b, of=GATEWAY6) == reply_to(text)


def test_addresses_of_one_name_take_turns() -> None:
    in_namespace(_turns)


def _turns() -> None:
    lab = Laboratory()
    seen = [tuple(lab.dig("+short", "all").split()) for _ in range(2)]
    for _ in range(60):
        text = lab.answer(question("all"))
        seen.append(tuple(socket.inet_ntoa(text[at + 12 : at + 16]) for at in range(21, len(text), 16)))
    addresses = tuple(NAMES["all"])
    assert set(seen) == {addresses[at:] + addresses[:at] for at in range(3)}


def test_a_kernel_without_ipv6() -> None:
    in_namespace(_without_ipv6)


def _without_ipv6() -> None:
    real = dns.sockets.socket

    def refuse(family: int = -1, *rest: Any, **named: Any) -> Any:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *rest, **named)

    with changed(dns.sockets, socket=refuse):
        lab = Laboratory()
    for transport in ("+notcp", "+tcp"):
        for of in (GATEWAY, SECOND):
            assert lab.dig("+short", transport, "web", of=of) == "172.30.1.2\n"


# -- questions that are passed on ----------------------------------------------------------------


def test_questions_are_passed_on_as_they_are() -> None:
    in_namespace(_passed_on)


def _passed_on() -> None:
    lab = Laboratory("127.0.0.53", "127.0.0.54")
    first, second = Fake(lab.host, "127.0.0.53", well), Fake(lab.host, "127.0.0.54", well)
    ports, numbers = set(), set()
    for wanted, kind in (("Example.org", 1), ("single", 1), ("9.1.30.172.in-addr.arpa", 12), ("", 2), ("x.org", 65)):
        text = question(wanted, kind, flags=0x0110, size=1400)
        assert lab.answer(text) == reply_to(text)
        asked, peer = first.asked[-1]
        assert asked[2:] == text[2:]
        ports.add(peer[1])
        numbers.add(asked[:2])
        with lab.connect() as client:
            client.sendall(framed(text))
            assert receive(client) == reply_to(text)
        assert first.by_tcp[-1][2:] == text[2:]
    assert len(ports) == len(numbers) == 5
    assert not second.asked
    assert lab.dig("+short", "example.org") == "192.0.2.7\n"
    assert lab.dig("+short", "+tcp", "example.org") == "192.0.2.7\n"
    # What another says is said: no such name, or too long for a datagram.
    first.behave = lambda text: [reply_to(text, 3)]
    assert "status: NXDOMAIN" in lab.dig("example.org")
    assert not second.asked
    first.behave = lambda text: [reply_to(text, flags=0x0200)]
    assert lab.answer(question("example.org"))[2] & 2
    # Longer than the client takes: by a server that knows no bounds.
    first.behave = lambda text: [reply_to(text) + bytes(600)]
    text = lab.answer(question("example.org"))
    assert (text[2] & 2, len(text), text[6:8]) == (2, 12 + 17, b"\0\0")
    assert len(lab.answer(question("example.org", size=1232))) == 12 + 17 + 16 + 600


def test_servers_of_ipv6() -> None:
    in_namespace(_ipv6_server)


def _ipv6_server() -> None:
    lab = Laboratory("fe80::53%lo", "::1")
    Fake(lab.host, "::1", well)
    assert code(lab.answer(question("example.org"))) == 0
    lab.servers = ["fe80::53%gone0", "2001:db8::1", "::1"]
    assert code(lab.answer(question("example.org"), within=1)) == 0  # no link, no route: no waiting


def test_the_next_server_is_asked() -> None:
    in_namespace(_next)


def _next() -> None:
    lab = Laboratory("127.0.0.53", "127.0.0.54")
    second = Fake(lab.host, "127.0.0.54", lambda text: [reply_to(text, address="192.0.2.54")])
    text = question("example.org")
    begin = time.monotonic()
    assert lab.answer(text).endswith(b"\xc0\0\2\x36")  # nobody listens at the first
    with lab.connect() as client:
        client.sendall(framed(text))
        assert receive(client).endswith(b"\xc0\0\2\x36")
    first = Fake(lab.host, "127.0.0.53", silent)
    for failure in (1, 2, 4, 5):
        first.behave = lambda text, failure=failure: [reply_to(text, failure)]  # type: ignore[misc]
        assert lab.answer(text).endswith(b"\xc0\0\2\x36")
        with lab.connect() as client:
            client.sendall(framed(text))
            assert receive(client).endswith(b"\xc0\0\2\x36")
    assert time.monotonic() - begin < dns_upstream._RETRY
    second.behave = lambda text: [reply_to(text, 2)]
    assert code(lab.answer(text)) == 2  # what the last said
    lab.servers = []
    assert code(lab.answer(text)) == 2
    lab.servers = ["127.0.0.53", "127.0.0.54"]
    first.behave, second.behave = silent, well
    begin = time.monotonic()
    assert code(lab.answer(text)) == 0
    assert 1.9 < time.monotonic() - begin < 4
    with changed(dns_upstream, _RETRY=0.3, _LAST=0.5), lab.connect() as client:
        client.sendall(framed(text))
        assert code(receive(client)) == 0
        lab.servers = ["127.0.0.53"]
        first.asked.clear()
        begin = time.monotonic()
        assert code(lab.answer(text)) == 2  # a lone server is asked twice
        assert 0.7 < time.monotonic() - begin < 2
        assert len(first.asked) == 2
        assert first.asked[0][1] != first.asked[1][1]
        client.sendall(framed(text))
        assert code(receive(client)) == 2


def test_a_late_server_is_still_heard() -> None:
    in_namespace(_late)


def _late() -> None:
    lab = Laboratory("127.0.0.53", "127.0.0.54")
    first, second = Fake(lab.host, "127.0.0.53", silent), Fake(lab.host, "127.0.0.54", silent)
    with changed(dns_upstream, _RETRY=0.1), lab.a.socket(socket.SOCK_DGRAM) as client:
        client.connect((GATEWAY, 53))
        client.send(question("example.org"))
        lab.until(lambda: bool(second.asked))
        # Who asks again meanwhile has but one question.
        client.send(question("example.org"))
        text, peer = first.asked[0]
        first.udp.sendto(reply_to(text), peer)
        assert client.recv(512) == reply_to(question("example.org"))
        client.settimeout(netspace.SILENCE)
        with pytest.raises(TimeoutError):
            client.recv(512)
        assert (len(first.asked), len(second.asked)) == (1, 1)
        assert len(lab.server.wanted()) == 2


def test_false_answers() -> None:
    in_namespace(_false)


def _false() -> None:
    lab = Laboratory("127.0.0.53")
    fake = Fake(lab.host, "127.0.0.53", silent)
    stranger = lab.host.socket(socket.SOCK_DGRAM, "127.0.0.66", 53)
    neighbour = lab.host.socket(socket.SOCK_DGRAM, "127.0.0.53", 54)
    with lab.a.socket(socket.SOCK_DGRAM) as client:
        client.connect((GATEWAY, 53))
        client.send(question("example.org"))
        lab.until(lambda: bool(fake.asked))
        text, peer = fake.asked[0]
        false = reply_to(text, address="6.6.6.6")
        for liar in (stranger, neighbour):
            with contextlib.suppress(ConnectionRefusedError):
                liar.sendto(false, peer)
        number = int.from_bytes(text[:2], "big")
        for other in random.Random(1).sample([n for n in range(65536) if n != number], 2000):
            fake.udp.sendto(other.to_bytes(2, "big") + false[2:], peer)
        for lie in (reply_to(text[:2] + question("example.com")[2:]), text, false[:20], b"", bytes(40), false[:12]):
            fake.udp.sendto(lie, peer)
        client.settimeout(netspace.SILENCE)
        with pytest.raises(TimeoutError):
            client.recv(512)
        client.settimeout(PATIENCE)
        fake.udp.sendto(reply_to(text), peer)
        assert client.recv(512) == reply_to(question("example.org"))


# -- bounds --------------------------------------------------------------------------------------


def test_a_greedy_client_leaves_room_for_others() -> None:
    in_namespace(_greedy)


def _greedy() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    lab = Laboratory("127.0.0.53")  # room for 96 questions, so 24 of each
    lab.views["172.30.2.2"] = View({}, {}, outside=True, container="b")
    fake = Fake(lab.host, "127.0.0.53", silent)
    with changed(dns_upstream, _RETRY=1.0, _LAST=1.0), lab.a.socket(socket.SOCK_DGRAM) as client:
        client.connect((GATEWAY, 53))
        for at in range(200):
            client.send(question(f"host{at}.example.org"))
        refused = [client.recv(512) for _ in range(200 - 24)]
        assert {code(text) for text in refused} == {2}
        assert len(fake.asked) == 24
        assert lab.dig("+short", "web") == "172.30.1.2\n"
        fake.behave = well
        assert code(lab.answer(question("example.org"), space=lab.b, of="172.30.2.1")) == 0
        # What waited is asked again, or given up; then there is room again.
        assert {code(client.recv(512)) for _ in range(24)} == {0}
    assert code(lab.answer(question("example.org"))) == 0
    assert len(lab.server.wanted()) == 2
    lab.until(lambda: lab.server.timeout() is None)


def test_a_container_with_many_addresses_is_one() -> None:
    in_namespace(_many_addresses)


def _many_addresses() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    lab = Laboratory("127.0.0.53")  # room for 96 questions, so 24 of each, and for 32 streams
    fake = Fake(lab.host, "127.0.0.53", silent)
    own = ["172.30.1.2", "fd00:1::2", *(f"172.30.1.{at}" for at in range(10, 14))]
    streams = []
    for address in own:
        if address not in lab.views:
            links.add_address(lab.a.route, "eth0", f"{address}/24")
            lab.views[address] = lab.views["172.30.1.2"]
        gateway = GATEWAY6 if ":" in address else GATEWAY
        with lab.a.socket(socket.SOCK_DGRAM, address) as client:
            for at in range(24):
                client.sendto(question(f"host{at}.example.org"), (gateway, 53))
        for _ in range(8):
            streams.append(lab.a.socket(socket.SOCK_STREAM, address))
            streams[-1].connect((gateway, 53))
    lab.answer(question("web"))  # all that came before has been seen to
    assert len(fake.asked) == 24
    lab.views["172.30.2.2"] = View({}, {}, outside=True, container="b")
    fake.behave = well
    for transport in ("+notcp", "+tcp"):
        assert lab.dig("+short", transport, "example.org", space=lab.b, of="172.30.2.1") == "192.0.2.7\n", transport


def test_the_containers_of_a_bridge_leave_room_for_others() -> None:
    in_namespace(_crowded_bridge)


def _crowded_bridge() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    lab = Laboratory("127.0.0.53")  # room for 96 questions
    fake = Fake(lab.host, "127.0.0.53", silent)
    with changed(dns_upstream, _RETRY=1.0, _LAST=1.0), contextlib.ExitStack() as clients:
        for at in range(10, 15):
            address = f"172.30.1.{at}"
            links.add_address(lab.a.route, "eth0", f"{address}/24")
            lab.views[address] = View({}, {}, outside=True, container=address)
            client = clients.enter_context(lab.a.socket(socket.SOCK_DGRAM, address))
            for number in range(24):
                client.sendto(question(f"host{number}.example.org"), (GATEWAY, 53))
        lab.answer(question("web"))  # all that came before has been seen to
        assert 40 <= len(fake.asked) < 48
        lab.views["172.30.2.2"] = View({}, {}, outside=True, container="b")
        fake.behave = well
        assert code(lab.answer(question("example.org"), space=lab.b, of="172.30.2.1")) == 0
        assert code(lab.answer(question("example.org"))) == 0, "another on the same bridge"
    # What waited is asked again, in the place of what it had; then all is as before.
    lab.until(lambda: len(lab.server.wanted()) == 2 and lab.server.timeout() is None)
    assert len(fake.asked) > 80


def test_a_server_that_is_a_container() -> None:
    in_namespace(_near_server)


def _near_server() -> None:
    lab = Laboratory("127.0.0.53")
    hosts = Fake(lab.host, "127.0.0.53", well)
    for address in ("172.30.1.7", "fd00:1::7"):
        links.add_address(lab.a.route, "eth0", f"{address}/{64 if ':' in address else 24}")
    near = {address: Fake(lab.a, address, lambda text: [reply_to(text, address="192.0.2.8")])
            for address in ("172.30.1.7", "fd00:1::7")}  # fmt: skip
    for address, fake in near.items():
        asking = lab.views["172.30.1.2"]
        lab.views["172.30.1.2"] = asking._replace(servers=[address], near=frozenset([address]))
        for transport in ("+notcp", "+tcp"):
            assert lab.dig("+short", transport, "example.org") == "192.0.2.8\n", (address, transport)
        assert fake.asked[0][1][0] == (GATEWAY6 if ":" in address else GATEWAY)
        assert len(fake.by_tcp) == 1
        assert lab.dig("+short", "web") == "172.30.1.2\n"
    assert not hosts.asked
    # One that is elsewhere is asked from the host, and the host's own are not.
    lab.views["172.30.1.2"] = lab.views["172.30.1.2"]._replace(servers=["127.0.0.54"], near=frozenset())
    elsewhere = Fake(lab.host, "127.0.0.54", well)
    assert lab.dig("+short", "example.org") == "192.0.2.7\n"
    assert elsewhere.asked and not hosts.asked
    lab.until(lambda: len(lab.server.wanted()) == 2)


def test_no_descriptors_left() -> None:
    in_namespace(_no_descriptors)


def _no_descriptors() -> None:
    lab = Laboratory("127.0.0.53")
    Fake(lab.host, "127.0.0.53", well)
    client, asking = lab.a.socket(socket.SOCK_STREAM), lab.a.socket(socket.SOCK_DGRAM)
    asking.connect((GATEWAY, 53))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
    plugs = []
    with contextlib.suppress(OSError):
        while True:
            plugs.append(os.dup(0))
    client.connect((GATEWAY, 53))
    before = lab.turns
    time.sleep(0.5)
    assert lab.turns - before < 20
    asking.send(question("example.org"))
    assert code(asking.recv(512)) == 2
    asking.send(question("web"))
    assert code(asking.recv(512)) == 0
    for plug in plugs:
        os.close(plug)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    client.sendall(framed(question("web")))
    assert code(receive(client)) == 0  # it waited in the queue
    assert lab.problem is None


def test_streams() -> None:
    in_namespace(_streams)


def _streams() -> None:
    lab = Laboratory("127.0.0.53")
    fake = Fake(lab.host, "127.0.0.53", well)
    with lab.connect() as client:
        # A thousand at once, of which every tenth is passed on: answered in order.
        texts = [question("web" if at % 10 else "example.org")[2:] for at in range(1000)]
        whole = b"".join(framed(at.to_bytes(2, "big") + text) for at, text in enumerate(texts))
        threading.Thread(target=client.sendall, args=(whole,), daemon=True).start()
        for at in range(1000):
            text = receive(client)
            assert (int.from_bytes(text[:2], "big"), code(text)) == (at, 0)
        assert len(fake.by_tcp) == 100
        for byte in framed(question("web")):
            client.sendall(bytes([byte]))
            time.sleep(0.001)
        assert code(receive(client)) == 0
        # One direction is closed, the answer comes.
        client.sendall(framed(question("example.org")))
        client.shutdown(socket.SHUT_WR)
        assert code(receive(client)) == 0
        assert receive(client) == b""
    for nonsense in (framed(b""), framed(b"short"), framed(question(flags=0x8100)), b"\xff\xff" + bytes(5000)):
        with lab.connect() as client, contextlib.suppress(ConnectionResetError):
            client.sendall(nonsense + b"\0")
            assert receive(client) == b""
    with lab.connect() as client:
        client.sendall(framed(question(flags=0x2800)))
        assert code(receive(client)) == 4
    lab.until(lambda: len(lab.server.wanted()) == 2)
    # Who is gone is not asked for any more.
    fake.behave = silent
    client = lab.connect()
    client.sendall(framed(question("example.org")))
    lab.until(lambda: len(fake.by_tcp) == 102)
    assert len(lab.server.wanted()) == 4
    turns = lab.turns
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    lab.until(lambda: len(lab.server.wanted()) == 2)
    assert lab.turns - turns < 20
    lab.until(lambda: lab.server.timeout() is None)


def test_slow_and_many_streams() -> None:
    in_namespace(_slow)


def _slow() -> None:
    lab = Laboratory()
    with changed(dns_streams, _PATIENCE=0.5):
        begin = time.monotonic()
        idle, trickling = lab.connect(), lab.connect()
        deaf = lab.a.socket(socket.SOCK_STREAM)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        deaf.connect((GATEWAY, 53))
        deaf.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            deaf.sendall(framed(question("many")) * 50000)
        with contextlib.suppress(ConnectionError):
            for byte in framed(question("web")):
                trickling.sendall(bytes([byte]))
                time.sleep(0.1)
            assert receive(trickling) == b""
        assert receive(idle) == b""
        assert 0.4 < time.monotonic() - begin < 4
        lab.until(lambda: len(lab.server.wanted()) == 2)
    crowd = [lab.connect() for _ in range(17)]
    assert receive(crowd[-1]) == b""
    other = lab.connect(lab.b)
    other.sendall(framed(question("web")))
    assert code(receive(other)) == 0
    crowd.pop(0).close()
    lab.until(lambda: len(lab.server.wanted()) == 18)
    again = lab.connect()
    again.sendall(framed(question("web")))
    assert code(receive(again)) == 0


def test_rubbish() -> None:
    in_namespace(_rubbish)


def _rubbish() -> None:
    lab = Laboratory("127.0.0.53")
    chance = random.Random(7)

    def rubbish(text: bytes) -> list[bytes]:
        changed = bytearray(reply_to(text))
        changed[chance.randrange(2, len(changed))] = chance.randrange(256)
        return [chance.randbytes(40), bytes(changed), text[:2] + chance.randbytes(50), bytes(changed[:13])]

    Fake(lab.host, "127.0.0.53", rubbish)
    with changed(dns_upstream, _RETRY=0.05, _LAST=0.05), lab.a.socket(socket.SOCK_DGRAM) as client:
        client.connect((GATEWAY, 53))
        for _ in range(3000):
            text = bytearray(question(chance.choice(("web", "example.org")), size=1232))
            for _ in range(chance.randrange(4)):
                text[chance.randrange(len(text))] = chance.randrange(256)
            client.send(bytes(text[: chance.randrange(len(text) * 3)]))
        client.send(bytes(60000))
        for _ in range(100):
            with lab.connect() as stream, contextlib.suppress(OSError):
                stream.sendall(chance.randbytes(chance.randrange(100)))
        lab.until(lambda: len(lab.server.wanted()) == 2)
    assert code(lab.answer(question("web"))) == 0
    lab.until(lambda: lab.server.timeout() is None)


def test_closing() -> None:
    in_namespace(_closing)


def _closing() -> None:
    lab = Laboratory("127.0.0.53", loop=False)
    Fake(lab.host, "127.0.0.53", silent)
    stream, datagrams = lab.connect(), lab.a.socket(socket.SOCK_DGRAM)
    datagrams.sendto(question("example.org"), (GATEWAY, 53))
    stream.sendall(framed(question("example.org")))
    lab.host.enter()
    end = time.monotonic() + PATIENCE
    while len(lab.server.wanted()) < 5:
        assert time.monotonic() < end
        for fd in list(lab.server.wanted()):
            lab.server.handle(fd, select.POLLIN)  # ready or not: it may be told so in error
    lab.server.handle(10**6, select.POLLIN)
    lab.server.close()
    assert lab.server.wanted() == {}
    lab.until(lambda: lab.server.timeout() is None)
    assert receive(stream) == b""


def test_the_import_brings_nothing_dear() -> None:
    brought = (
        "import sys; sys.path.insert(0, '.')\nimport rdock.network.dns, rdock.network.resolvers\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", brought], capture_output=True, text=True, check=True)
    assert not {"socket", "re", "enum", "random", "ipaddress", "selectors", "heapq"} & set(done.stdout.split())
