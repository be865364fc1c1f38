"""A command at a terminal: a pseudo-terminal as its controlling one, as a shell in a window gives it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from typing import Any

from tests.program import Rdock


class Terminal:
    """The terminal, and the command that was started at it."""

    def __init__(self, program: Rdock, *args: str, rows: int = 24, columns: int = 80) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = self.settings()
        self.seen = b""
        self.process = subprocess.Popen(
            program.argv(*args),
            env=program.environment(),
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        os.close(self.master)
        os.close(self.slave)

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self.slave)

    def resize(self, rows: int, columns: int) -> None:
        """The kernel sends SIGWINCH to the foreground group by itself."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def await_text(self, text: str, seconds: float = 20) -> str:
        """Read until a text has appeared; everything that was shown so far."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"not shown in {seconds} seconds: {text!r}; shown: {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 65536)
        return self.seen.decode("utf-8", "replace")

    def end(self, seconds: float = 20) -> int:
        """Wait for the end of the command, reading what it shows: its exit code."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"the command has not ended; shown: {self.seen!r}"
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65536)
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536)
        return self.process.returncode
