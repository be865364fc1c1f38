"""The monitor's half of a container's standard streams: output to the log and to clients, input from them.

It never blocks on a client (the packets: packets.py). One that does not read stops the output of the
container once a mebibyte waits for it, as with Docker; one that is gone is forgotten. Input goes by
credit, so that a program that does not read holds up nothing but input.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time

from rdock import jsontext
from rdock.container import failure
from rdock.container.logs import LogWriter
from rdock.container.packets import CREDIT, PACKET, Client
from rdock.errors import RdockError
from rdock.linux import sockets, tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Request: TypeAlias = "Callable[[sockets.socket, dict[str, Any]], dict[str, Any] | None]"
else:
    from _collections import deque

_WAITING_LIMIT = 1 << 20
_NOTHING_THERE = (errno.EAGAIN, errno.EINTR)
# More than a pseudo-terminal holds, which is 8 KiB in its buffers and 4 KiB in its line discipline.
_TERMINAL_CAPACITY = 65536
_LAST_SIGNAL = 64
# More packets than a socket's buffer holds; one that is dropped may go on sending.
_MOST_LAST_WORDS = 1024
# How long nobody is let in after that has failed, unless something else happens first.
_REST_MILLISECONDS = 1000
# Twice what the kernel takes as a program's arguments and environment, in bytes.
_LONGEST_REQUEST = 16 << 20


class Server:
    """The streams of one running container, or of one exec session without a log."""

    def __init__(
        self,
        *,
        on_signal: Callable[[int], None],
        log: LogWriter | None = None,
        listener: sockets.socket | None = None,
        on_request: Request | None = None,
        on_close: Callable[[str], None] = lambda name: None,
        kept: bool = True,
        stdin_once: bool = False,
    ) -> None:
        """`kept`: output is of use though nobody is attached, since there is a log that outlives the container.

        `stdin_once`: input ends when the first client is gone, as in Docker's Config. `on_request` answers a
        request or raises an RdockError; None means that the connection has gone to another process. `on_close` is
        told when one of the program's streams is let go of: stdin, stdout or stderr.
        """
        self._on_close = on_close
        self._stdin_once = stdin_once
        self._on_request = on_request
        self.log = log
        self._kept = kept
        self._on_signal = on_signal
        self.listener = listener
        self._clients: dict[int, Client] = {}
        self._outputs: dict[int, str] = {}
        self._terminal = -1
        self._stdin = -1
        self._input: deque[tuple[Client, bytes]] = deque()
        self._input_ends = False
        self._first: Client | None = None
        self._had_first = False
        self._rests = False
        self._watched: dict[int, Callable[[], None]] = {}
        self._interrupted = False

    def add_client(self, connection: sockets.socket) -> None:
        """Serve one who is attached from the start, and is told so by the caller."""
        client = Client(connection)
        self._clients[connection.fileno()] = client
        self._attach(client)

    def _attach(self, client: Client) -> None:
        client.is_attached = True
        if not self._had_first:
            self._first, self._had_first = client, True

    def watch(self, fd: int, action: Callable[[], None]) -> None:
        """Do something whenever a descriptor is readable."""
        self._watched[fd] = action

    def forget(self, fd: int) -> None:
        """Do nothing any more when a descriptor is readable."""
        self._watched.pop(fd, None)

    def when_gone(self, connection: sockets.socket, action: Callable[[], None]) -> None:
        """Do something when one who is connected leaves, or dies."""
        self._clients[connection.fileno()].on_leave = action

    def interrupt(self) -> None:
        """End `rest` before its time."""
        self._interrupted = True

    def use_pipes(self, stdin: int, stdout: int, stderr: int) -> None:
        """The monitor's ends of the pipes; -1 where there is none."""
        self._stdin = stdin
        self._outputs = {fd: name for fd, name in ((stdout, "stdout"), (stderr, "stderr")) if fd >= 0}
        for fd in (stdin, stdout, stderr):
            if fd >= 0:
                os.set_blocking(fd, False)

    def use_terminal(self, master: int) -> None:
        self._terminal = self._stdin = master
        self._outputs = {master: "stdout"}
        os.set_blocking(master, False)

    def run(self, ended: int) -> None:
        """Carry data until the process behind the pidfd `ended` is gone, then what it has left in the pipes.

        Others in the container may have the pipes too, and go on writing: that is not waited for.
        """
        while not self._turn(ended, None):
            pass
        for fd in list(self._outputs):
            left = _capacity(fd)
            while left > 0 and fd in self._outputs and (taken := self._read_output(fd)):
                left -= taken

    def rest(self, seconds: float) -> bool:
        """Serve clients while nothing runs, for so long; True if that was interrupted."""
        until = time.monotonic() + seconds
        while not self._interrupted and (left := until - time.monotonic()) > 0:
            self._turn(-1, left)
        return self._interrupted

    def settle(self) -> None:
        """Serve what has been asked for already, without waiting for more."""
        while self.listener and self._accept():
            pass
        self._turn(-1, 0)

    def close_streams(self) -> None:
        """Let go of the pipes or the terminal of a program that has ended."""
        for fd in {self._stdin, *self._outputs, self._terminal} - {-1}:
            os.close(fd)
        self._outputs, self._stdin, self._terminal = {}, -1, -1
        self._forget_input()
        self._input_ends = False

    def _turn(self, ended: int, seconds: float | None) -> bool:
        """Wait for something and see to it; whether `ended` was among it."""
        events = self._poll(ended, seconds)
        for fd, event in events:
            # A terminal's master is both.
            if fd in self._outputs and event & ~select.POLLOUT:
                self._read_output(fd)
            if fd == self._stdin and event & (select.POLLOUT | select.POLLERR | select.POLLHUP):
                self._write_input()
            if self.listener and fd == self.listener.fileno():
                self._accept()
            elif fd in self._clients:
                self._serve(fd, event)
            elif fd in self._watched:
                self._watched[fd]()
        return any(fd == ended for fd, _ in events)

    def announce(self, kind: bytes, message: dict[str, Any]) -> None:
        """Send all, also those who have just come, the last packet, as far as they take it now."""
        while self.listener and self._accept():
            pass
        self.broadcast(kind + jsontext.render(message).encode())

    def dismiss_attached(self, kind: bytes, message: dict[str, Any]) -> None:
        """Send those who are attached their last packet, while others go on waiting for another end."""
        packet = kind + jsontext.render(message).encode()
        for fd, client in list(self._clients.items()):
            if client.is_attached:
                client.is_attached, client.is_leaving = False, True
                self._send(fd, packet)
                self._flush(fd)

    def stop_listening(self) -> None:
        """Whoever comes from now on is refused."""
        if self.listener:
            self.listener.close()
            self.listener = None

    def finish(self) -> None:
        """Wait until everybody has taken what waits for them, however slow, or is gone."""
        while any(client.waiting for client in self._clients.values()):
            poll = select.poll()
            for fd, client in self._clients.items():
                poll.register(fd, select.POLLOUT if client.waiting else 0)
            for fd, _ in poll.poll():
                if fd in self._clients:
                    self._flush(fd)
                    if fd in self._clients and not self._clients[fd].waiting:
                        self._drop(fd)
        for fd in list(self._clients):
            self._drop(fd)

    def broadcast(self, packet: bytes) -> None:
        is_output = packet[:1] in (b"o", b"e")
        for fd, client in list(self._clients.items()):
            if client.is_attached or not (is_output or client.is_leaving):
                self._send(fd, packet)

    def _send(self, fd: int, packet: bytes) -> None:
        try:
            self._clients[fd].send(packet)
        except OSError:
            self._drop(fd)

    # -- one event each ------------------------------------------------------------------------

    def _poll(self, ended: int, seconds: float | None) -> list[tuple[int, int]]:
        poll = select.poll()
        for fd in (ended, *self._watched):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        crowded = any(client.size > _WAITING_LIMIT for client in self._clients.values())
        masks: dict[int, int] = {}
        if not crowded:
            masks = dict.fromkeys(self._outputs, select.POLLIN)
        if self._input or self._input_ends:
            masks[self._stdin] = masks.get(self._stdin, 0) | select.POLLOUT
        if self.listener and not self._rests:
            masks[self.listener.fileno()] = select.POLLIN
        for fd, client in self._clients.items():
            masks[fd] = select.POLLIN | (select.POLLOUT if client.waiting else 0)
        for fd, mask in masks.items():
            if fd >= 0:
                poll.register(fd, mask)
        milliseconds = None if seconds is None else seconds * 1000 + 1
        if self._rests:
            milliseconds = min(milliseconds or _REST_MILLISECONDS, _REST_MILLISECONDS)
        self._rests = False
        return poll.poll(milliseconds)

    def _read_output(self, fd: int) -> int:
        """Pass one piece of output on: its length, 0 if there is none now."""
        try:
            data = os.read(fd, PACKET)
        except OSError as e:
            if e.errno in _NOTHING_THERE:
                return 0
            data = b""  # a pty whose slave is closed answers EIO
        stream = self._outputs[fd]
        if not data:
            self._close_output(fd)
            return 0
        if self.log:
            self.log.write(stream, data)
        self.broadcast((b"o" if stream == "stdout" else b"e") + data)
        return len(data)

    def _close_output(self, fd: int) -> None:
        name = self._outputs.pop(fd)
        if fd != self._terminal:
            os.close(fd)
            self._on_close(name)

    def _write_input(self) -> None:
        try:
            while self._input:
                client, data = self._input[0]
                rest = data[os.write(self._stdin, data) :]
                if rest:
                    self._input[0] = client, rest
                else:
                    self._input.popleft()
                    self._give_credit(client)
        except OSError as e:
            if e.errno in _NOTHING_THERE:
                return
            self._forget_input()
            self._input_ends = True
        if self._input_ends:
            self._input_ends = False
            if self._stdin != self._terminal:
                os.close(self._stdin)
                self._stdin = -1
                self._on_close("stdin")

    def _forget_input(self) -> None:
        while self._input:
            self._give_credit(self._input.popleft()[0])

    def _give_credit(self, client: Client) -> None:
        client.input_under_way -= 1
        fd = client.connection.fileno()
        if self._clients.get(fd) is client and not client.is_leaving:
            self._send(fd, b"i")

    def _accept(self) -> bool:
        """Let one in who wants to be attached; False if there is none."""
        assert self.listener is not None
        try:
            connection = sockets.accept(self.listener)
        except OSError as e:
            # Without a descriptor left for it, whoever asks goes on asking, and poll would return at once for ever.
            self._rests = e.errno not in _NOTHING_THERE
            return False
        self._clients[connection.fileno()] = Client(connection)
        return True

    def _serve(self, fd: int, event: int) -> None:
        if event & select.POLLOUT:
            self._flush(fd)
        if fd not in self._clients or not event & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return
        try:
            packet = self._clients[fd].connection.recv(PACKET + 1)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._drop(fd)
            return
        try:
            self._obey(fd, packet[:1], packet[1:])
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            self._drop(fd)  # it does not speak this language, and the container shall not suffer for that

    def _obey(self, fd: int, kind: bytes, payload: bytes) -> None:
        """Do what a client asks for. Raises ValueError and its like for nonsense."""
        client = self._clients[fd]
        if kind == b"i":
            self._take_input(client, payload)
        elif kind == b"c" and self._stdin >= 0:
            self._input_ends = True
        elif kind == b"w" and self._terminal >= 0:
            size = jsontext.parse(payload)
            self._resize(int(size["rows"]), int(size["columns"]))
        elif kind == b"k":
            self._signal(int(payload))
        elif kind == b"a" and not client.is_attached:
            self._attach(client)
            self._send(fd, b"s")
        elif kind in (b"q", b"Q"):
            client.request += payload
            if len(client.request) > _LONGEST_REQUEST:
                raise ValueError("too long a request")
            if kind == b"Q":
                self._answer(fd)
        elif kind == b"p":
            self._pass_broken_pipe_on(payload)

    def _take_input(self, client: Client, data: bytes) -> None:
        client.input_under_way += 1
        if client.input_under_way > 2 * CREDIT:
            raise ValueError("more input than was asked for")
        if self._stdin >= 0:
            self._input.append((client, data))
        else:
            self._give_credit(client)

    def _answer(self, fd: int) -> None:
        client = self._clients[fd]
        text, client.request = client.request, b""
        if self._on_request is None:
            raise ValueError("no requests are taken here")
        request = jsontext.parse(text)
        if not isinstance(request, dict):
            raise ValueError("a request is an object")
        try:
            answer = self._on_request(client.connection, request)
        except RdockError as e:
            self._send(fd, b"f" + jsontext.render(failure.describe(e)).encode())
            return
        if answer is None:
            self._clients.pop(fd).connection.close()
        else:
            self._send(fd, b"a" + jsontext.render(answer).encode())

    def _resize(self, rows: int, columns: int) -> None:
        try:
            tty.set_window_size(self._terminal, rows, columns)
        except OSError:
            pass  # the terminal is hung up

    def _signal(self, number: int) -> None:
        if not 0 < number <= _LAST_SIGNAL:
            raise ValueError(f"no signal: {number}")
        try:
            self._on_signal(number)
        except OSError:
            pass  # it has just ended

    def _pass_broken_pipe_on(self, kind: bytes) -> None:
        """Let the program meet the broken pipe itself, as it would without a container between."""
        stream = "stdout" if kind == b"o" else "stderr"
        for fd, name in list(self._outputs.items()):
            if name == stream and fd != self._terminal and not self._kept and self._count_attached() <= 1:
                self._close_output(fd)

    def _count_attached(self) -> int:
        return sum(client.is_attached for client in self._clients.values())

    def _flush(self, fd: int) -> None:
        """Send what waits for a client that may have gone meanwhile."""
        client = self._clients.get(fd)
        if client is None:
            return
        try:
            client.flush()
        except OSError:
            self._drop(fd)
            return
        if client.is_leaving and not client.waiting:
            self._drop(fd)

    def _drop(self, fd: int) -> None:
        client = self._clients.pop(fd)
        connection = client.connection
        try:
            for _ in range(_MOST_LAST_WORDS):  # it may have said why it goes
                packet = connection.recv(PACKET + 1)
                if not packet:
                    break
                if packet[:1] == b"p":
                    self._pass_broken_pipe_on(packet[1:])
                elif packet[:1] == b"k":
                    self._signal(int(packet[1:]))
        except (OSError, ValueError):
            pass
        connection.close()
        if client is self._first:
            self._first = None
            if self._stdin_once and 0 <= self._stdin != self._terminal:
                self._input_ends = True
        if client.on_leave:
            client.on_leave()


def _capacity(fd: int) -> int:
    """The most that can be in a pipe or terminal at one moment."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except OSError:
        return _TERMINAL_CAPACITY
