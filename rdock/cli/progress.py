"""How far a pull or push is, layer by layer: lines that change on a terminal, lines of news elsewhere.

As Docker shows it. Drawn by hand: a library for it would take longer to import than a small image to pull.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from rdock.cli import output
from rdock.errors import printable
from rdock.registry.progress import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

_BAR = 50
# Seconds between two drawings.
_INTERVAL = 0.1


def report_on(stream: TextIO, *, quiet: bool = False) -> Report:
    """What fits a stream: changing lines for a terminal, news for a pipe; only warnings where `quiet`."""
    if quiet:
        return _Quiet()
    if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return _Screen(stream)
    return _News(stream)


class _Quiet(Report):
    def warn(self, text: str) -> None:
        sys.stderr.write(f"rdock: warning: {printable(text)}\n")


class _News(_Quiet):
    """A line whenever a layer comes to another state."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._guard = threading.Lock()
        self._last: dict[str, str] = {}

    def layer(self, digest: str, status: str, done: int = 0, total: int = 0) -> None:
        with self._guard:
            if self._last.get(digest) == status or status in ("Downloading", "Pushing"):
                return
            self._last[digest] = status
            self._write(f"{_short(digest)}: {status}")

    def line(self, text: str) -> None:
        with self._guard:
            self._write(text)

    def _write(self, text: str) -> None:
        self.stream.write(f"{printable(text)}\n")
        self.stream.flush()


class _Screen(_Quiet):
    """A block of lines, one for each layer, drawn anew some times a second; what is said otherwise goes below it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._guard = threading.Lock()
        self._layers: dict[str, str] = {}
        self._height = 0
        self._drawn = 0.0

    def layer(self, digest: str, status: str, done: int = 0, total: int = 0) -> None:
        with self._guard:
            text = f"{_short(digest)}: {status}"
            if total:
                text = f"{text:<26} {_bar(done, total)}  {output.size(done)}/{output.size(total)}"
            is_news = total == 0 or done >= total
            self._layers[digest] = text
            if is_news or time.monotonic() - self._drawn > _INTERVAL:
                self._draw()

    def line(self, text: str) -> None:
        with self._guard:
            if self._layers:
                self._draw()
                self._layers, self._height = {}, 0
            self.stream.write(f"{printable(text)}\n")
            self.stream.flush()

    def warn(self, text: str) -> None:
        with self._guard:
            self._layers, self._height = {}, 0
            super().warn(text)

    def _draw(self) -> None:
        columns, lines = _window(self.stream)
        # What is above the window's top cannot be drawn anew; the last ones are the most interesting anyway.
        shown = list(self._layers.values())[-(lines - 1) :]
        up = f"\x1b[{self._height}A" if self._height else ""
        self.stream.write(up + "".join(f"\r{text[: columns - 1]}\x1b[K\n" for text in shown))
        self.stream.flush()
        self._height, self._drawn = len(shown), time.monotonic()


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _bar(done: int, total: int) -> str:
    filled = min(_BAR, _BAR * done // total)
    return f"[{'=' * filled}{'>' if filled < _BAR else ''}{' ' * (_BAR - filled - 1)}]"


def _window(stream: TextIO) -> tuple[int, int]:
    """Columns and lines."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except OSError:
        return 80, 24
    # A terminal that does not know its size says 0.
    return max(size.columns or 80, 20), max(size.lines or 24, 3)
