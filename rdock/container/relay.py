"""This terminal, or these pipes, connected with a container's streams until the container ends.

Runs in the command. Signals are passed on to the container, the terminal is put back as it was on
every way out, also when the command is killed.
"""

from __future__ import annotations

import os
import select
import time

from rdock import jsontext
from rdock.container import attach
from rdock.container.held_signals import PASSED_ON, Caught
from rdock.container.packets import CREDIT
from rdock.errors import SystemFailure
from rdock.linux import process, signals, sockets, tty
from rdock.linux.writable import room
from rdock.values import Value

# Seconds for the monitor to read the last words of a client whose output is broken.
_FAREWELL = 1.0
# What would leave a terminal raw.
_ENDING_ALL = (signals.SIGHUP, signals.SIGINT, signals.SIGQUIT, signals.SIGTERM)
DETACH_KEYS = b"\x10\x11"
"""Docker's: ctrl-p, ctrl-q."""


class Attached(Value):
    """What to connect, and how."""

    stdin: bool
    stdout: bool
    stderr: bool
    terminal: bool
    detach_keys: bytes = b""
    """What is typed at a terminal to leave the container running; empty means DETACH_KEYS."""
    sig_proxy: bool = True
    """Whether signals to the command are for the container."""


class Detached(Exception):
    """The user has typed the detach keys."""


class Interrupted(Exception):
    """A signal that is to end this command, and not the container."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def relay(connection: sockets.socket, attached: Attached, directory: str = "") -> int:
    """Carry data both ways until the container has ended: its exit code.

    If its monitor is killed the one that takes its place is looked for in `directory`, the container's bundle.
    Raises Detached, and SystemFailure if nobody is there to tell of the end.
    """
    raw = attached.terminal and attached.stdin and os.isatty(0)
    wanted = PASSED_ON if attached.sig_proxy else _ENDING_ALL if raw else ()
    caught = Caught((*wanted, signals.SIGWINCH) if attached.terminal else wanted)
    settings = guard = None
    client = _Relay(connection, attached, caught, directory)
    try:
        if raw:
            guard = _TerminalGuard()
            settings = tty.make_raw(0)
            client.send_size()
        return client.run()
    finally:
        if settings is not None:
            tty.restore(0, settings)
        if guard is not None:
            guard.dismiss()
        caught.close()


class _TerminalGuard:
    """A process that puts the terminal's settings back if this one is killed while they are others."""

    def __init__(self) -> None:
        settings = tty.settings(0)
        wait, self._alive = os.pipe2(os.O_CLOEXEC)
        if os.fork() == 0:
            try:
                for number in (*PASSED_ON, signals.SIGTTOU):
                    signals.signal(number, signals.SIG_IGN)
                process.set_name("rdock-terminal")
                process.close_all_but({0, wait})
                if not os.read(wait, 1):
                    tty.restore(0, settings)
            finally:
                os._exit(0)
        os.close(wait)

    def dismiss(self) -> None:
        try:
            os.write(self._alive, b".")
        except OSError:
            pass  # it was killed itself
        os.close(self._alive)


class _Escape:
    """Looks for the detach keys in what is typed; what may be their beginning is kept back."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0

    def take(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the keys are complete."""
        if not self._seen and self._keys[0] not in data:
            return data, False
        passed = bytearray()
        for byte in data:
            if byte != self._keys[self._seen] and self._seen:
                passed += self._keys[: self._seen]
                self._seen = 0
            if byte != self._keys[self._seen]:
                passed.append(byte)
                continue
            self._seen += 1
            if self._seen == len(self._keys):
                return bytes(passed), True
        return bytes(passed), False


class _Relay:
    def __init__(self, connection: sockets.socket, attached: Attached, caught: Caught, directory: str) -> None:
        self.connection, self.attached, self.caught, self.directory = connection, attached, caught, directory
        self.reads_stdin = attached.stdin
        self.credit = CREDIT
        self.escape = _Escape(attached.detach_keys or DETACH_KEYS) if attached.terminal else None
        # What the monitor has not taken yet. Sending must not block: the monitor may be waiting for us to
        # read, as with a filter that prints more than it is given.
        self.waiting: list[bytes] = []
        # What one of our streams has not taken yet, of one packet; the next is read when it has. Writing must
        # not block either: whoever has stalled our output may still send signals and input.
        self.unwritten = memoryview(b"")
        self.output = 1

    def run(self) -> int:
        wake = self.caught.wake
        self.connection.setblocking(False)
        while True:
            own = self.connection.fileno()
            poll = select.poll()
            poll.register(wake, select.POLLIN)  # the first, and so looked at before anything is written
            mask = (0 if self.unwritten else select.POLLIN) | (select.POLLOUT if self.waiting else 0)
            if mask:
                poll.register(own, mask)
            if self.unwritten:
                poll.register(self.output, select.POLLOUT)
            if self.reads_stdin and self.credit > 0 and not self.waiting:
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
                    except (BlockingIOError, ConnectionResetError):
                        continue  # after a reset the rest can still be read: it died with something of ours unread
                    except OSError:
                        packet = b""
                    if not packet:
                        self._reconnect()
                        break
                    if packet[:1] == b"x":
                        return int(jsontext.parse(packet[1:])["code"])
                    if packet[:1] == b"i":
                        self.credit += 1
                    self._take_output(packet)
                else:
                    self._write_output()

    def _reconnect(self) -> None:
        """Attach to the monitor that has taken the place of one that was killed. Raises SystemFailure."""
        self.connection.close()
        try:
            if not self.directory:
                raise FileNotFoundError
            self.connection = attach.connect(self.directory)
        except OSError:
            raise SystemFailure(
                "the container's monitor was killed", hint="rdock ps -a shows what is left of it"
            ) from None
        self.connection.setblocking(False)
        self.credit, self.waiting = CREDIT, []
        if self.attached.terminal:
            self.send_size()
        if self.attached.stdin and not self.reads_stdin:
            self._send(b"c")  # the dead one may not have heard it

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
            while self.unwritten and (free := room(self.output)):
                piece = self.unwritten[:free]
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
        if not data:
            self._send(b"c")
            return False
        is_leaving = False
        if self.escape is not None:
            data, is_leaving = self.escape.take(data)
        if data:
            self.credit -= 1
            self._send(b"i" + data)
        if is_leaving:
            self._await_reading()
            raise Detached
        return True

    def _pass_signals_on(self) -> None:
        for number in self.caught.take():
            if number == signals.SIGWINCH:
                self.send_size()
            elif self.attached.sig_proxy:
                self._send(b"k%d" % number)
            else:
                raise Interrupted(number)

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
