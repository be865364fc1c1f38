"""The client's half of a container's streams: this terminal or these pipes, until the container ends.

Runs in the command. Signals are passed on to the container, the terminal is put back as it was on
every way out.
"""

from __future__ import annotations

import os
import select

from rdock import jsontext
from rdock.errors import CannotExecute, CommandNotFound, RdockError, SystemFailure
from rdock.linux import signals, sockets, tty
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PASSED_ON = (
    signals.SIGHUP, signals.SIGINT, signals.SIGQUIT, signals.SIGTERM, signals.SIGUSR1, signals.SIGUSR2,
    signals.SIGALRM, signals.SIGCONT, signals.SIGTSTP,
)  # fmt: skip
_ERRORS: dict[str, type[RdockError]] = {"CannotExecute": CannotExecute, "CommandNotFound": CommandNotFound}


class Attached(Value):
    """What to connect."""

    stdin: bool
    stdout: bool
    stderr: bool
    terminal: bool


def describe_failure(error: RdockError) -> dict[str, str]:
    """An error as the payload of an `f` packet."""
    return {"class": type(error).__name__, "message": error.message, "hint": error.hint}


def await_start(connection: sockets.socket) -> None:
    """Wait until the container's program runs. Raises what the monitor met instead."""
    packet = connection.recv(65536)
    if packet[:1] == b"s":
        return
    if packet[:1] == b"f":
        found = jsontext.parse(packet[1:])
        raise _ERRORS.get(found["class"], SystemFailure)(found["message"], found["hint"])
    raise SystemFailure("the container's monitor ended before the container was started")


def await_end(directory: str) -> int | None:
    """Wait until the container whose bundle is in `directory` has ended: its exit code.

    None if its monitor is not there, or goes without a word.
    """
    try:
        connection = sockets.connect(directory, "attach.sock")
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


def hold_signals_back() -> None:
    """From here on signals wait for `relay`: one that comes while a container starts is for the container.

    It would end this command alone otherwise, and the container would go on with nobody attached.
    """
    signals.pthread_sigmask(signals.SIG_BLOCK, _PASSED_ON)


def relay(connection: sockets.socket, attached: Attached) -> dict[str, Any] | None:
    """Carry data both ways until the container has ended; what the monitor said of its end.

    None if the monitor is gone without a word.
    """
    wake, poke = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    wanted = (*_PASSED_ON, signals.SIGWINCH) if attached.terminal else _PASSED_ON
    before = {number: signals.signal(number, lambda *_: None) for number in wanted}
    old_wakeup = signals.set_wakeup_fd(poke, warn_on_full_buffer=False)
    signals.pthread_sigmask(signals.SIG_UNBLOCK, _PASSED_ON)
    settings = None
    client = _Relay(connection, attached, wake)
    try:
        if attached.terminal and attached.stdin and os.isatty(0):
            settings = tty.make_raw(0)
            client.send_size()
        return client.run()
    finally:
        if settings is not None:
            tty.restore(0, settings)
        signals.set_wakeup_fd(old_wakeup)
        for number, handler in before.items():
            signals.signal(number, handler)
        os.close(wake)
        os.close(poke)


class _Relay:
    def __init__(self, connection: sockets.socket, attached: Attached, wake: int) -> None:
        self.connection, self.attached, self.wake = connection, attached, wake
        self.reads_stdin = attached.stdin
        # What the monitor has not taken yet. Sending must not block: the monitor may be waiting for us to
        # read, as with a filter that prints more than it is given.
        self.waiting: list[bytes] = []

    def run(self) -> dict[str, Any] | None:
        own = self.connection.fileno()
        self.connection.setblocking(False)
        while True:
            poll = select.poll()
            poll.register(own, select.POLLIN | (select.POLLOUT if self.waiting else 0))
            poll.register(self.wake, select.POLLIN)
            if self.reads_stdin and not self.waiting:
                poll.register(0, select.POLLIN)
            for fd, event in poll.poll():
                if fd == self.wake:
                    self._pass_signals_on()
                elif fd == 0:
                    self.reads_stdin = self._send_input()
                elif fd == own:
                    if event & select.POLLOUT:
                        self._flush()
                    if not event & ~select.POLLOUT:
                        continue
                    try:
                        packet = self.connection.recv(65536)
                    except BlockingIOError:
                        continue
                    if not packet:
                        return None
                    if packet[:1] == b"x":
                        found: dict[str, Any] = jsontext.parse(packet[1:])
                        return found
                    self._output(packet)

    def _output(self, packet: bytes) -> None:
        kind = packet[:1]
        wanted, fd = (self.attached.stdout, 1) if kind == b"o" else (self.attached.stderr, 2)
        if kind not in (b"o", b"e") or not wanted:
            return
        try:
            _write_all(fd, packet[1:])
        except BrokenPipeError:
            # As a program that writes to a closed pipe, and as Docker's client. Where no log wants the
            # rest, the container's program is let know, and will mostly end as well.
            self._send(b"p" + kind)
            raise

    def _send_input(self) -> bool:
        """Pass one piece of input on; False at its end."""
        try:
            data = os.read(0, 16384)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        self._send(b"i" + data if data else b"c")
        return bool(data)

    def _pass_signals_on(self) -> None:
        try:
            numbers = os.read(self.wake, 512)
        except BlockingIOError:
            return
        for number in numbers:
            if number == signals.SIGWINCH:
                self.send_size()
            else:
                self._send(b"k%d" % number)

    def send_size(self) -> None:
        try:
            rows, columns = tty.window_size(0)
        except OSError:
            return
        self._send(b"w" + jsontext.render({"rows": rows, "columns": columns}).encode())

    def _send(self, packet: bytes) -> None:
        self.waiting.append(packet)
        self._flush()

    def _flush(self) -> None:
        while self.waiting:
            try:
                self.connection.send(self.waiting[0])
            except BlockingIOError:
                return
            except OSError:
                pass  # the end of the connection is met when reading
            del self.waiting[0]


def _write_all(fd: int, data: bytes) -> None:
    """Write to one of the caller's streams. Raises OSError, BrokenPipeError when nobody reads it any more."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
