"""The client's half of a container's streams: this terminal or these pipes, until the container ends.

Runs in the command. Signals are passed on to the container, the terminal is put back as it was on
every way out.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import termios
import time

from rdock import jsontext
from rdock.errors import CannotExecute, CommandNotFound, RdockError, SystemFailure
from rdock.linux import signals, sockets, tty
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_PASSED_ON = (
    signals.SIGHUP, signals.SIGINT, signals.SIGQUIT, signals.SIGTERM, signals.SIGUSR1, signals.SIGUSR2,
    signals.SIGALRM, signals.SIGCONT, signals.SIGTSTP,
)  # fmt: skip
# What a second one of ends a command whose container does not come up.
_ENDING = (signals.SIGINT, signals.SIGTERM)
# Seconds. Two that come at once, as from an impatient hand, are one; most starts are over by then.
_AT_ONCE = 1.0
# Seconds for the monitor to read the last words of a client whose output is broken.
_FAREWELL = 1.0
# What a pipe takes without blocking when poll calls it writable; terminals and sockets mostly have as much room.
_PIPE_BUF = 4096
_MOST = 1 << 20
_NOTHING = bytes(4)  # as FIONREAD tells it
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
    """Wait until the container's program runs. Raises what the monitor met instead.

    Signals that are held back go on waiting. But a start may hang, and then a second one ends this command.
    """
    if signals.pthread_sigmask(signals.SIG_BLOCK, ()).issuperset(_PASSED_ON):
        _await_news(connection)
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


def _await_news(connection: sockets.socket) -> None:
    """Wait until the monitor says something. Signals that come meanwhile are pending afterwards, blocked as before."""
    caught = _Caught(_PASSED_ON)
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
        signals.pthread_sigmask(signals.SIG_BLOCK, _PASSED_ON)
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
        if _room(2):
            os.write(2, text)
    finally:
        os._exit(128 + number)


class _Caught:
    """Signals that are read from a pipe, until `close`, which gives back the handlers of before."""

    def __init__(self, wanted: Sequence[int]) -> None:
        self.wake, self._poke = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before = {number: signals.signal(number, lambda *_: None) for number in wanted}
        self._old_wakeup = signals.set_wakeup_fd(self._poke, warn_on_full_buffer=False)
        signals.pthread_sigmask(signals.SIG_UNBLOCK, _PASSED_ON)

    def take(self) -> bytes:
        """The numbers of those that have come, in order."""
        try:
            return os.read(self.wake, 512)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        signals.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._before.items():
            signals.signal(number, handler)
        os.close(self.wake)
        os.close(self._poke)


def relay(connection: sockets.socket, attached: Attached) -> dict[str, Any] | None:
    """Carry data both ways until the container has ended; what the monitor said of its end.

    None if the monitor is gone without a word.
    """
    caught = _Caught((*_PASSED_ON, signals.SIGWINCH) if attached.terminal else _PASSED_ON)
    settings = None
    client = _Relay(connection, attached, caught)
    try:
        if attached.terminal and attached.stdin and os.isatty(0):
            settings = tty.make_raw(0)
            client.send_size()
        return client.run()
    finally:
        if settings is not None:
            tty.restore(0, settings)
        caught.close()


class _Relay:
    def __init__(self, connection: sockets.socket, attached: Attached, caught: _Caught) -> None:
        self.connection, self.attached, self.caught = connection, attached, caught
        self.reads_stdin = attached.stdin
        # What the monitor has not taken yet. Sending must not block: the monitor may be waiting for us to
        # read, as with a filter that prints more than it is given.
        self.waiting: list[bytes] = []
        # What one of our streams has not taken yet, of one packet; the next is read when it has. Writing must
        # not block either: whoever has stalled our output may still send signals and input.
        self.unwritten = memoryview(b"")
        self.output = 1

    def run(self) -> dict[str, Any] | None:
        own, wake = self.connection.fileno(), self.caught.wake
        self.connection.setblocking(False)
        while True:
            poll = select.poll()
            poll.register(wake, select.POLLIN)  # the first, and so looked at before anything is written
            mask = (0 if self.unwritten else select.POLLIN) | (select.POLLOUT if self.waiting else 0)
            if mask:
                poll.register(own, mask)
            if self.unwritten:
                poll.register(self.output, select.POLLOUT)
            if self.reads_stdin and not self.waiting:
                poll.register(0, select.POLLIN)
            for fd, event in poll.poll():
                if fd == wake:
                    self._pass_signals_on()
                elif fd == 0:
                    self.reads_stdin = self._send_input()
                elif fd == own:
                    if event & select.POLLOUT:
                        self._flush()
                    if self.unwritten or not event & ~select.POLLOUT:
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
                    self._take_output(packet)
                else:
                    self._write_output()

    def _take_output(self, packet: bytes) -> None:
        kind = packet[:1]
        wanted, fd = (self.attached.stdout, 1) if kind == b"o" else (self.attached.stderr, 2)
        if kind not in (b"o", b"e") or not wanted:
            return
        self.output, self.unwritten = fd, memoryview(packet)[1:]
        self._write_output()

    def _write_output(self) -> None:
        """Write as much as the caller's stream takes now. Raises OSError, BrokenPipeError if nobody reads it."""
        try:
            while self.unwritten and (room := _room(self.output)):
                piece = self.unwritten[:room]
                written = os.write(self.output, piece)
                self.unwritten = self.unwritten[written:]
                if written < len(piece):
                    break  # a terminal that blocked after all, until a signal came
        except BlockingIOError:
            pass
        except OSError as e:
            # What ended the reader may have been sent to us as well, as by Ctrl-C.
            self._pass_signals_on()
            if isinstance(e, BrokenPipeError):
                # As a program that writes to a closed pipe, and as Docker's client. Where no log wants the
                # rest, the container's program is let know, and will mostly end as well.
                self._send(b"po" if self.output == 1 else b"pe")
            self._await_reading()
            raise

    def _await_reading(self) -> None:
        """Wait until the monitor has read what it was sent: it takes little from those that are already gone.

        It hangs up when it has read to the end.
        """
        until = time.monotonic() + _FAREWELL
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN)
        try:
            self.connection.shutdown(sockets.SHUT_WR)
            while (left := until - time.monotonic()) > 0 and poll.poll(left * 1000):
                if not self.connection.recv(65536):
                    break
        except OSError:
            pass  # it is gone

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
        for number in self.caught.take():
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


def _room(fd: int) -> int:
    """How much can be written to a stream now without blocking, 0 if nothing.

    The stream is the caller's, and shared with other processes: it cannot be made not to block. One that is
    about to fail has room, so that writing tells why.
    """
    try:
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(fd))):
            return _MOST  # a file or /dev/null, which does not stall
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            return _MOST
        # One byte in each of its pages is enough to fill a pipe. Only of an empty one the room is known.
        if stat.S_ISFIFO(mode) and fcntl.ioctl(fd, termios.FIONREAD, _NOTHING) == _NOTHING:
            return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except OSError:
        return _MOST
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return _PIPE_BUF if poll.poll(0) else 0
