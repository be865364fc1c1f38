"""A container's output on disk, in Docker's json-file format; written by the monitor, read by `logs`.

One JSON object a line: `{"log":"text\\n","stream":"stdout","time":"..."}`. A line of output longer than
16 KiB, or without its end yet when it has to be written, is cut, and its parts lack the newline.
"""

from __future__ import annotations

import os
import time

from rdock import jsontext
from rdock.linux.inotify import Inotify
from rdock.state import timestamp
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE = 16 * 1024

# Go's JSON encoder escapes these, so that the text is safe inside HTML and JavaScript.
_GO_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


class LogWriter:
    """Appends one container's output to its log."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._rest = {"stdout": b"", "stderr": b""}

    def write(self, stream: str, data: bytes) -> None:
        """Log what was read from a stream; an unfinished line waits for its end."""
        data = self._rest[stream] + data
        lines = data.split(b"\n")
        rest = lines.pop()
        parts = []
        for line in lines:
            parts += _pieces(line, b"\n")
        while len(rest) >= MAX_LINE:
            parts.append(rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        self._rest[stream] = rest
        self._append(stream, parts)

    def flush(self) -> None:
        """Write unfinished lines, when no more will come."""
        for stream, rest in self._rest.items():
            if rest:
                self._append(stream, [rest])
                self._rest[stream] = b""

    def close(self) -> None:
        self.flush()
        os.close(self._fd)

    def _append(self, stream: str, parts: list[bytes]) -> None:
        if not parts:
            return
        when = timestamp.from_ns(time.time_ns())
        tail = f',"stream":"{stream}","time":"{when}"}}\n'
        text = "".join(
            '{"log":' + jsontext.quote(part.decode("utf-8", "replace")).translate(_GO_ESCAPES) + tail for part in parts
        )
        self._write(text.encode("utf-8", "replace"))

    def _write(self, lines: bytes) -> None:
        """Write whole lines, or as many as go. A full disk must not end the container; what is lost leaves a gap."""
        left = memoryview(lines)
        try:
            try:
                while left:
                    left = left[os.write(self._fd, left) :]
            except OSError:
                written = len(lines) - len(left)
                torn = written - (lines.rfind(b"\n", 0, written) + 1)
                if torn:  # or the next line would be glued to it
                    os.ftruncate(self._fd, os.fstat(self._fd).st_size - torn)
        except OSError:
            pass


def _pieces(line: bytes, end: bytes) -> list[bytes]:
    if len(line) < MAX_LINE:
        return [line + end]
    cut = [line[i : i + MAX_LINE] for i in range(0, len(line), MAX_LINE)]
    cut[-1] += end
    return cut


class Entry(Value):
    """One piece of output."""

    text: str
    stream: str
    time: str


def read(path: str, *, follow: bool, ended: int | None, tail: int | None = None) -> Iterator[Entry]:
    """The entries of a log, from the oldest, or the last `tail` ones.

    With `follow` it goes on until the process behind the pidfd `ended` is gone (at once if None) and
    all is read. A damaged line, as after a power cut, is left out.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        if not follow or ended is None:
            return
        fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "rb") as file:
        watch = Inotify(path) if follow and ended is not None else None
        if tail is not None:
            file.seek(_start_of_tail(file.fileno(), tail))
        rest = b""
        while True:
            gone = watch is None or watch.ended(ended)
            while line := file.readline(1 << 20):
                rest += line
                if rest.endswith(b"\n"):
                    entry = _parse(rest)
                    if entry is not None:
                        yield entry
                    rest = b""
            if rest:
                # Half of a line that is being written, or that the writer takes back.
                file.seek(-len(rest), os.SEEK_CUR)
                rest = b""
            if gone:
                return
            assert watch is not None
            watch.wait(ended)


def _parse(line: bytes) -> Entry | None:
    try:
        found = jsontext.parse(line)
        return Entry(str(found["log"]), str(found["stream"]), str(found["time"]))
    except (ValueError, KeyError, TypeError):
        return None


def _start_of_tail(fd: int, lines: int) -> int:
    """The offset at which the last `lines` lines begin, read backwards in blocks."""
    position = os.fstat(fd).st_size
    seen = -1 if position else 0  # the newline that ends the last line does not begin another
    if lines <= 0:
        return position
    while position > 0:
        start = max(0, position - 65536)
        block = os.pread(fd, position - start, start)
        newlines = block.count(b"\n")
        if seen + newlines >= lines:
            at = len(block)
            while seen < lines:
                at = block.rindex(b"\n", 0, at)
                seen += 1
            return start + at + 1
        seen += newlines
        position = start
    return 0
