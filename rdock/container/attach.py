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
    try:
        if attached.terminal and attached.stdin and os.isatty(0):
            settings = tty.make_raw(0)
            _send_size(connection)
        return _Relay(connection, attached, wake).run()
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

    def run(self) -> dict[str, Any] | None:
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        poll.register(self.wake, select.POLLIN)
        if self.reads_stdin:
            poll.register(0, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self.wake:
                    self._pass_signals_on()
                elif fd == 0 and not self._send_input():
                    poll.unregister(0)
                elif fd == self.connection.fileno():
                    packet = self.connection.recv(65536)
                    if not packet:
                        return None
                    if packet[:1] == b"x":
                        found: dict[str, Any] = jsontext.parse(packet[1:])
                        return found
                    self._output(packet)

    def _output(self, packet: bytes) -> None:
        kind = packet[:1]
        if kind == b"o" and self.attached.stdout:
            _write_all(1, packet[1:])
        elif kind == b"e" and self.attached.stderr:
            _write_all(2, packet[1:])

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
                _send_size(self.connection)
            else:
                self._send(b"k%d" % number)

    def _send(self, packet: bytes) -> None:
        try:
            self.connection.send(packet)
        except OSError:
            pass  # the end of the connection is met when reading


def _send_size(connection: sockets.socket) -> None:
    try:
        rows, columns = tty.window_size(0)
        connection.send(b"w" + jsontext.render({"rows": rows, "columns": columns}).encode())
    except OSError:
        pass


def _write_all(fd: int, data: bytes) -> None:
    """Write to one of the caller's streams; one that nobody reads any more is ignored, as Docker does."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
        except OSError:
            return
