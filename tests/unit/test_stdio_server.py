"""The monitor's half of the streams, with real processes, pipes, terminals and clients."""

from __future__ import annotations

import errno
import json
import os
import pty
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rdock.container import failure
from rdock.container.packets import CREDIT
from rdock.container.stdio import Server
from rdock.errors import Conflict
from rdock.linux import sockets


@contextmanager
def serving(server: Server, command: subprocess.Popen[bytes]) -> Iterator[threading.Thread]:
    """The server at work until the end of the command. What ends it otherwise is raised here."""
    problems: list[BaseException] = []

    def run() -> None:
        try:
            server.run(os.pidfd_open(command.pid))
        except BaseException as e:
            problems.append(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        command.kill()
        thread.join(10)
        command.wait()
    if problems:
        raise problems[0]
    assert not thread.is_alive()


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "100"])


def ignore(number: int) -> None:
    pass


NONSENSE = [
    b"w", b"wx", b"w{}", b"w[1]", b"w1", b'w{"rows":null,"columns":1}', b'w{"rows":"many","columns":1}',
    b'w{"rows":1e999,"columns":1}', b"w\xff", b"w" + b"[" * 30000, b"k", b"kx", b"k0", b"k-1", b"k65", b"k\xff",
    b"k9" + b"9" * 30, b"k" + b"9" * 9000, b"?", b"\xff\xff", b"p", b"px", b"Q", b"Q{}", b'Q{"do":1}', b"Q[1",
]  # fmt: skip


@pytest.mark.parametrize("packet", NONSENSE, ids=lambda packet: repr(packet[:20]))
def test_nonsense_harms_only_who_speaks_it(packet: bytes) -> None:
    master, slave = pty.openpty()
    (strange, theirs), (sound, ours) = sockets.packet_pair(), sockets.packet_pair()
    server = Server(log=None, on_signal=ignore)
    server.use_terminal(master)
    server.add_client(theirs)
    server.add_client(ours)
    sound.settimeout(10)
    with serving(server, sleeper()):
        strange.send(packet)
        time.sleep(0.05)
        os.write(slave, b"on")
        assert sound.recv(100) == b"oon"
    os.close(slave)
    os.close(master)


def test_signal_that_cannot_be_sent() -> None:
    sent: list[int] = []

    def refuse(number: int) -> None:
        sent.append(number)
        raise OSError(errno.EINVAL, "refused")

    server = Server(log=None, on_signal=refuse)
    client, theirs = sockets.packet_pair()
    server.add_client(theirs)
    with serving(server, sleeper()):
        client.send(b"k15")
        client.send(b"k64")
        deadline = time.monotonic() + 10
        while len(sent) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert sent == [15, 64]


def test_without_descriptors_it_rests_and_lets_in_who_waited(tmp_path: Path) -> None:
    listener = sockets.listen(str(tmp_path), "attach.sock")
    listener.setblocking(False)
    server = Server(log=None, on_signal=ignore, listener=listener)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serving(server, sleeper()):
        time.sleep(0.1)
        client = sockets.connect(str(tmp_path), "attach.sock")  # to be sure of a server that runs
        client.settimeout(10)
        client.send(b"a")
        assert client.recv(10) == b"s"
        late = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            late.connect(str(tmp_path / "attach.sock"))
            late.send(b"a")
            before = time.process_time()
            time.sleep(1.5)
            spent = time.process_time() - before
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert spent < 0.5
        late.settimeout(10)
        assert late.recv(10) == b"s"
    listener.close()


def test_ends_though_an_output_never_runs_dry() -> None:
    """As when others in the container write faster than is read. What the process itself wrote is passed on."""
    command = subprocess.Popen(
        ["sh", "-c", "head -c 50000 /dev/zero; kill -STOP $$"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert command.stdout
    server = Server(log=None, on_signal=ignore)
    client, theirs = sockets.packet_pair()
    server.add_client(theirs)
    server.use_pipes(-1, command.stdout.fileno(), os.open("/dev/zero", os.O_RDONLY))
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.extend(iter(lambda: client.recv(40000), b"")), daemon=True)
    reader.start()
    with serving(server, command) as thread:
        time.sleep(0.3)
        command.kill()
        thread.join(10)
        assert not thread.is_alive()
    server.finish()
    reader.join(10)
    assert b"".join(packet[1:] for packet in seen if packet[:1] == b"o") == bytes(50000)


def test_last_words_of_a_client_that_is_gone() -> None:
    """A signal that it has sent counts, also when its end is met in sending to it."""
    seen: list[int] = []
    server = Server(log=None, on_signal=seen.append)
    client, theirs = sockets.packet_pair()
    server.add_client(theirs)
    for packet in (b"k15", b"k2"):
        client.send(packet)
    client.close()
    server.broadcast(b"otext")
    assert seen == [15, 2]


def test_a_client_is_attached_only_when_it_says_so(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    listener = sockets.listen(str(tmp_path), "attach.sock")
    listener.setblocking(False)
    server = Server(on_signal=ignore, listener=listener)
    server.use_terminal(master)
    waiting, attached = (sockets.connect(str(tmp_path), "attach.sock") for _ in range(2))
    for client in (waiting, attached):
        client.settimeout(10)
    waiting.send(b"n")
    attached.send(b"a")
    with serving(server, sleeper()):
        assert attached.recv(10) == b"s"
        os.write(slave, b"on")
        assert attached.recv(10) == b"oon"
    server.announce(b"x", {"code": 3})
    assert waiting.recv(100) == attached.recv(100) == b'x{"code":3}'
    os.close(slave)
    os.close(master)
    listener.close()


def test_signals_overtake_input_that_nobody_reads() -> None:
    seen: list[int] = []
    read_end, write_end = os.pipe()
    server = Server(on_signal=seen.append)
    client, theirs = sockets.packet_pair()
    client.settimeout(10)
    server.add_client(theirs)
    server.use_pipes(write_end, -1, -1)
    with serving(server, sleeper()):
        for _ in range(CREDIT):
            client.send(b"i" + bytes(30000))
        client.send(b"k15")
        deadline = time.monotonic() + 10
        while not seen:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        # Each packet that is through is told.
        total = acknowledged = 0
        while total < CREDIT * 30000:
            total += len(os.read(read_end, 1 << 20))
        while acknowledged < CREDIT:
            assert client.recv(10) == b"i"
            acknowledged += 1
    assert seen == [15]
    os.close(read_end)


def test_who_sends_more_input_than_he_may_is_dropped() -> None:
    read_end, write_end = os.pipe()
    server = Server(on_signal=ignore)
    client, theirs = sockets.packet_pair()
    client.settimeout(10)
    server.add_client(theirs)
    server.use_pipes(write_end, -1, -1)
    with serving(server, sleeper()), pytest.raises(OSError):
        for _ in range(1000 * CREDIT):  # what is on its way already is taken without a word
            client.send(b"i" + bytes(30000))
    os.close(read_end)


def test_requests_are_answered_or_refused() -> None:
    asked: list[dict[str, object]] = []

    def answer(connection: sockets.socket, request: dict[str, object]) -> dict[str, object] | None:
        asked.append(request)
        if request["do"] == "fail":
            raise Conflict("no", "a hint")
        return {"done": True}

    server = Server(on_signal=ignore, on_request=answer)
    client, theirs = sockets.packet_pair()
    client.settimeout(10)
    server.add_client(theirs)
    long = "x" * 100000
    text = f'{{"do":"this","long":"{long}"}}'.encode()
    with serving(server, sleeper()):
        for i in range(0, len(text), 30000):
            client.send((b"q" if i + 30000 < len(text) else b"Q") + text[i : i + 30000])
        assert client.recv(100) == b'a{"done":true}'
        client.send(b'Q{"do":"fail"}')
        packet = client.recv(1000)
    assert asked[0] == {"do": "this", "long": long}
    error = failure.recreate(json.loads(packet[1:]))
    assert packet[:1] == b"f" and isinstance(error, Conflict) and (error.message, error.hint) == ("no", "a hint")


def test_rest_serves_and_can_be_interrupted() -> None:
    server = Server(on_signal=ignore)
    server.interrupt()
    assert server.rest(10)
    server = Server(on_signal=ignore, on_request=lambda *_: server.interrupt() or {})
    client, theirs = sockets.packet_pair()
    server.add_client(theirs)
    assert not server.rest(0.01)
    client.send(b"Q{}")
    assert server.rest(10)
