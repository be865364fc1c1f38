"""The monitor's half of the streams, with real processes, pipes, terminals and clients."""

from __future__ import annotations

import errno
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

from rdock.container.stdio import Server
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
    b"k9" + b"9" * 30, b"k" + b"9" * 9000, b"?", b"\xff\xff", b"p", b"px",
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
        assert client.recv(10) == b"s"
        late = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            late.connect(str(tmp_path / "attach.sock"))
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
