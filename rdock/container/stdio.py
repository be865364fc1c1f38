"""A container's standard streams between its monitor and those who are attached.

Both ends speak packets over a SOCK_SEQPACKET unix socket, whose bounds the kernel keeps: one letter
for the kind, then the payload.

    to the client    o, e   output and error output        to the monitor   i   input
                     s      started                                         c   end of input
                     f      failed, JSON                                    w   window size, JSON
                     x      exited, JSON; the last one                      k   signal number
                                                                            n   no output, please
                                                                            p   o or e leads nowhere

`Server` is the monitor's half: it never blocks on a client. One that does not read stops the output
of the container once a mebibyte waits for it, as with Docker; one that is gone is forgotten. The
client's half is in attach.py.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
from collections import deque

from rdock import jsontext
from rdock.container.logs import LogWriter
from rdock.linux import sockets, tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PACKET = 32768
_WAITING_LIMIT = 1 << 20
_NOTHING_THERE = (errno.EAGAIN, errno.EINTR)
# More than a pseudo-terminal holds, which is 8 KiB in its buffers and 4 KiB in its line discipline.
_TERMINAL_CAPACITY = 65536
_LAST_SIGNAL = 64
# More packets than a socket's buffer holds; one that is dropped may go on sending.
_MOST_LAST_WORDS = 1024
# How long nobody is let in after that has failed, unless something else happens first.
_REST_MILLISECONDS = 1000


class Client:
    """One who is attached."""

    def __init__(self, connection: sockets.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.waiting: deque[bytes] = deque()
        self.size = 0
        self.wants_output = True

    def send(self, packet: bytes) -> None:
        self.waiting.append(packet)
        self.size += len(packet)
        self.flush()

    def flush(self) -> None:
        """Send as much as goes. Raises OSError when the client is gone."""
        while self.waiting:
            try:
                self.connection.send(self.waiting[0])
            except BlockingIOError:
                return
            self.size -= len(self.waiting.popleft())


class Server:
    """The streams of one running container, or of one exec session without a log."""

    def __init__(
        self,
        *,
        log: LogWriter | None,
        on_signal: Callable[[int], None],
        listener: sockets.socket | None = None,
        kept: bool = True,
        stdin_once: bool = False,
    ) -> None:
        """`kept`: output is of use though nobody is attached, since there is a log that outlives the container.

        `stdin_once`: input ends when the first client is gone, as in Docker's Config.
        """
        self._stdin_once = stdin_once
        self._log = log
        self._kept = kept
        self._on_signal = on_signal
        self._listener = listener
        self._clients: dict[int, Client] = {}
        self._outputs: dict[int, str] = {}
        self._terminal = -1
        self._stdin = -1
        self._input: deque[bytes] = deque()
        self._input_ends = False
        self._first: int | None = None
        self._rests = False

    def add_client(self, connection: sockets.socket) -> None:
        fd = connection.fileno()
        self._clients[fd] = Client(connection)
        if self._first is None:
            self._first = fd

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
        while True:
            events = self._poll(ended)
            for fd, event in events:
                # A terminal's master is both.
                if fd in self._outputs and event & ~select.POLLOUT:
                    self._read_output(fd)
                if fd == self._stdin and event & (select.POLLOUT | select.POLLERR | select.POLLHUP):
                    self._write_input()
                if self._listener and fd == self._listener.fileno():
                    self._accept()
                elif fd in self._clients:
                    self._serve(fd, event)
            if any(fd == ended for fd, _ in events):
                break
        for fd in list(self._outputs):
            left = _capacity(fd)
            while left > 0 and fd in self._outputs and (taken := self._read_output(fd)):
                left -= taken

    def announce(self, kind: bytes, message: dict[str, Any]) -> None:
        """Send all, also those who have just come, the last packet, as far as they take it now."""
        while self._listener and self._accept():
            pass
        self.broadcast(kind + jsontext.render(message).encode())

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
            if is_output and not client.wants_output:
                continue
            try:
                client.send(packet)
            except OSError:
                self._drop(fd)

    # -- one event each ------------------------------------------------------------------------

    def _poll(self, ended: int) -> list[tuple[int, int]]:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        crowded = any(client.size > _WAITING_LIMIT for client in self._clients.values())
        masks: dict[int, int] = {}
        if not crowded:
            masks = dict.fromkeys(self._outputs, select.POLLIN)
        if self._input or self._input_ends:
            masks[self._stdin] = masks.get(self._stdin, 0) | select.POLLOUT
        if self._listener and not self._rests:
            masks[self._listener.fileno()] = select.POLLIN
        for fd, client in self._clients.items():
            # Whoever sends faster than the container reads has to wait.
            masks[fd] = (select.POLLIN if len(self._input) < 32 else 0) | (select.POLLOUT if client.waiting else 0)
        for fd, mask in masks.items():
            if fd >= 0:
                poll.register(fd, mask)
        events = poll.poll(_REST_MILLISECONDS if self._rests else None)
        self._rests = False
        return events

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
            del self._outputs[fd]
            return 0
        if self._log:
            self._log.write(stream, data)
        self.broadcast((b"o" if stream == "stdout" else b"e") + data)
        return len(data)

    def _write_input(self) -> None:
        try:
            while self._input:
                written = os.write(self._stdin, self._input[0])
                rest = self._input.popleft()[written:]
                if rest:
                    self._input.appendleft(rest)
        except OSError as e:
            if e.errno in _NOTHING_THERE:
                return
            self._input.clear()
            self._input_ends = True
        if self._input_ends:
            self._input_ends = False
            if self._stdin != self._terminal:
                os.close(self._stdin)
                self._stdin = -1

    def _accept(self) -> bool:
        """Let one in who wants to be attached; False if there is none."""
        assert self._listener is not None
        try:
            connection = sockets.accept(self._listener)
        except OSError as e:
            # Without a descriptor left for it, whoever asks goes on asking, and poll would return at once for ever.
            self._rests = e.errno not in _NOTHING_THERE
            return False
        self.add_client(connection)
        try:
            self._clients[connection.fileno()].send(b"s")
        except OSError:
            self._drop(connection.fileno())
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
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            self._drop(fd)  # it does not speak this language, and the container shall not suffer for that

    def _obey(self, fd: int, kind: bytes, payload: bytes) -> None:
        """Do what a client asks for. Raises ValueError and its like for nonsense."""
        if kind == b"i" and self._stdin >= 0:
            self._input.append(payload)
        elif kind == b"c" and self._stdin >= 0:
            self._input_ends = True
        elif kind == b"w" and self._terminal >= 0:
            size = jsontext.parse(payload)
            self._resize(int(size["rows"]), int(size["columns"]))
        elif kind == b"k":
            self._signal(int(payload))
        elif kind == b"n":
            self._clients[fd].wants_output = False
        elif kind == b"p":
            self._pass_broken_pipe_on(payload)

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
            if name == stream and fd != self._terminal and not self._kept and len(self._clients) <= 1:
                del self._outputs[fd]
                os.close(fd)

    def _flush(self, fd: int) -> None:
        try:
            self._clients[fd].flush()
        except OSError:
            self._drop(fd)

    def _drop(self, fd: int) -> None:
        connection = self._clients.pop(fd).connection
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
        if fd == self._first:
            self._first = -1
            if self._stdin_once and 0 <= self._stdin != self._terminal:
                self._input_ends = True


def _capacity(fd: int) -> int:
    """The most that can be in a pipe or terminal at one moment."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except OSError:
        return _TERMINAL_CAPACITY


class Pipes:
    """Pipes for standard input, output and error, or /dev/null where nothing is connected."""

    def __init__(self, terminal: bool, stdin: bool) -> None:
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self.theirs: tuple[int, int, int] = (self._null,) * 3
        self.ours: tuple[int, int, int] = (-1, -1, -1)
        if terminal:
            return
        out, err = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        given = os.pipe2(os.O_CLOEXEC) if stdin else (self._null, -1)
        self.theirs = (given[0], out[1], err[1])
        self.ours = (given[1], out[0], err[0])

    def close_theirs(self) -> None:
        """After the fork: an end of file shall be seen when the container's copies are closed."""
        for fd in {*self.theirs, self._null}:
            os.close(fd)
