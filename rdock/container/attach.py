"""A command's connections to the monitors of containers: to be attached, to wait, to have something done.

What is carried over one that is attached: relay.py. The packets: packets.py.
"""

from __future__ import annotations

import errno
import os
import select
import time

from rdock import jsontext
from rdock.container import failure, held_signals
from rdock.container.containers import Container
from rdock.container.held_signals import Caught
from rdock.container.packets import PACKET
from rdock.errors import NotRunning, SystemFailure
from rdock.linux import signals, sockets
from rdock.linux.writable import room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SOCKET = "attach.sock"
# What a second one of ends a command whose container does not come up.
_ENDING = (signals.SIGINT, signals.SIGTERM)
# Seconds. Two that come at once, as from an impatient hand, are one; most starts are over by then.
_AT_ONCE = 1.0


class MonitorGone(SystemFailure):
    """The monitor has hung up without a word: it was killed."""

    def __init__(self) -> None:
        super().__init__("the container's monitor ended before the container was started")


def await_start(connection: sockets.socket) -> str:
    """Wait until the container's program runs; why it has no way out, if it should have one.

    Raises what the monitor met instead, MonitorGone.

    Signals that are held back go on waiting. But a start may hang, and then a second one ends this command.
    """
    if signals.pthread_sigmask(signals.SIG_BLOCK, ()).issuperset(held_signals.PASSED_ON):
        _await_news(connection)
    packet = connection.recv(65536)
    if packet[:1] == b"s":
        return packet[1:].decode()
    if packet[:1] == b"f":
        raise failure.recreate(jsontext.parse(packet[1:]))
    raise MonitorGone


def connect(directory: str) -> sockets.socket:
    """Attach to the running container whose bundle is in `directory`. Raises OSError if it has ended."""
    connection = sockets.connect(directory, _SOCKET)
    connection.send(b"a")
    return connection


def attach_to(container: Container) -> sockets.socket:
    """The streams of a container that runs. Raises NotRunning if it has ended."""
    try:
        connection = connect(container.bundle)
        await_start(connection)
    except (OSError, MonitorGone):
        raise NotRunning(container.id) from None
    return connection


def ask(directory: str, request: dict[str, Any], patience: float | None = None) -> dict[str, Any]:
    """Have the monitor of a running container do something: its answer, for which is waited `patience` seconds.

    Raises the RdockError that it answers with, and OSError if it is not there, or goes without a word;
    TimeoutError, which is one.
    """
    connection = request_from(directory, request)
    try:
        connection.settimeout(patience)
        return answer_on(connection)
    finally:
        connection.close()


def answer_on(connection: sockets.socket) -> dict[str, Any]:
    """What the monitor answers to a request. Raises as `ask` does."""
    packet = connection.recv(65536)
    if packet[:1] == b"f":
        raise failure.recreate(jsontext.parse(packet[1:]))
    if packet[:1] != b"a":
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    answer: dict[str, Any] = jsontext.parse(packet[1:])
    return answer


def request_from(directory: str, request: dict[str, Any]) -> sockets.socket:
    """Send the monitor a request; the connection on which the answer comes. Raises OSError if it is not there."""
    connection = sockets.connect(directory, _SOCKET)
    text = memoryview(jsontext.render(request).encode())
    while len(text) > PACKET:
        connection.send(b"q" + text[:PACKET])
        text = text[PACKET:]
    connection.send(b"Q" + text)
    return connection


def await_end(directory: str) -> int | None:
    """Wait until the container whose bundle is in `directory` has ended: its exit code.

    None if its monitor is not there, or goes without a word.
    """
    try:
        connection = sockets.connect(directory, _SOCKET)
    except OSError:
        return None
    try:
        connection.send(b"n")
        while packet := connection.recv(65536):
            if packet[:1] == b"x":
                return int(jsontext.parse(packet[1:])["code"])
    except OSError:
        pass
    finally:
        connection.close()
    return None


def _await_news(connection: sockets.socket) -> None:
    """Wait until the monitor says something. Signals that come meanwhile are pending afterwards, blocked as before."""
    caught = Caught(held_signals.PASSED_ON)
    seen: list[int] = []
    asked = 0.0
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    poll.register(caught.wake, select.POLLIN)
    try:
        while connection.fileno() not in [fd for fd, _ in poll.poll()]:
            for number in caught.take():
                seen.append(number)
                if number not in _ENDING:
                    continue
                asked = asked or time.monotonic()
                if time.monotonic() - asked >= _AT_ONCE:
                    _leave(number)
    finally:
        signals.pthread_sigmask(signals.SIG_BLOCK, held_signals.PASSED_ON)
        seen += caught.take()
        caught.close()
    for number in dict.fromkeys(seen):
        os.kill(os.getpid(), number)


def _leave(number: int) -> None:
    """End this command, and tell of the container that it leaves.

    By _exit: those who called wait for the monitor whatever is raised here, and it is the monitor that hangs.
    """
    text = b"rdock: the container is still being started: rdock ps -a shows it, rdock rm -f ID removes it\n"
    try:
        if room(2):
            os.write(2, text)
    finally:
        os._exit(128 + number)
