"""The log of a container as `logs` reads it: json-file, with the files that were rotated away."""

from __future__ import annotations

import os

from rdock import jsontext
from rdock.linux import rotated
from rdock.linux.inotify import Inotify
from rdock.linux.rotated import BLOCK, LONGEST, File
from rdock.state import timestamp
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Entry(Value):
    """One piece of output."""

    text: str
    stream: str
    time: int
    """Nanoseconds since the epoch."""
    attributes: dict[str, str] = {}


class Range(Value):
    """Which entries are wanted."""

    tail: int | None = None
    """The last so many, counted before the times are looked at, as Docker does; None: all."""
    since: int | None = None
    """Nanoseconds since the epoch, as is `until`; both are part of the range."""
    until: int | None = None


def read(path: str, wanted: Range, *, follow: bool = False, ended: int | None = None) -> Iterator[list[Entry]]:
    """The entries of a log, from the oldest, in lists of what was found at once; a list may be empty.

    With `follow` it goes on until the process behind the pidfd `ended` is gone (at once if None) and
    all is read, or the time `until` has come. A damaged line, as after a power cut, is left out.
    """
    try:
        # The directory, since the file may be another one soon.
        watch = Inotify(os.path.dirname(path)) if follow and ended is not None else None
    except FileNotFoundError:
        return  # the container was removed
    files = rotated.open_all(path)
    _seek(files, wanted)
    for lines in rotated.read(files, path, watch, ended=ended, deadline=wanted.until):
        entries = [entry for line in lines if line and (entry := _parse(line)) is not None]
        yield [entry for entry in entries if _is_in(entry, wanted)]
        if wanted.until is not None and entries and entries[-1].time > wanted.until:
            return


def _is_in(entry: Entry, wanted: Range) -> bool:
    return (wanted.since is None or entry.time >= wanted.since) and (wanted.until is None or entry.time <= wanted.until)


# -- lines -----------------------------------------------------------------------------------------


def _parse(line: bytes) -> Entry | None:
    try:
        found = jsontext.parse(line)
        attributes = {str(name): str(value) for name, value in (found.get("attrs") or {}).items()}
        return Entry(str(found.get("log", "")), str(found["stream"]), _time(found["time"]), attributes)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


_last_time = ("", 0)


def _time(text: str) -> int:
    """Nanoseconds; many lines in a row are of one instant."""
    global _last_time
    if text != _last_time[0]:
        _last_time = (text, timestamp.to_ns(text))
    return _last_time[1]


# -- where to begin --------------------------------------------------------------------------------


def _seek(files: list[File], wanted: Range) -> None:
    """Leave the files where the wanted entries may begin."""
    if wanted.since is not None and wanted.tail is None:
        while len(files) > 1 and (first := _time_after(files[1], 0)) is not None and first[0] < wanted.since:
            files.pop(0).close()
        if files:
            files[0].at = _start_of_time(files[0], wanted.since)
    if wanted.tail is not None:
        missing = wanted.tail
        for index in range(len(files) - 1, -1, -1):
            found, files[index].at = _start_of_tail(files[index], missing)
            missing -= found


def _start_of_time(file: File, since: int) -> int:
    """An offset from which all entries since a time are found, by halves: times only grow, but for set clocks."""
    low, high = 0, file.size
    while high - low > BLOCK:
        middle = (low + high) // 2
        found = _time_after(file, middle)
        if found is None or found[0] >= since:
            high = middle
        else:
            low = found[1]
    return low


def _time_after(file: File, offset: int) -> tuple[int, int] | None:
    """Of the first whole line that begins after an offset (at it, if it is 0): its time, and where it begins."""
    start = offset
    block = os.pread(file.fd, LONGEST, start) if offset else os.pread(file.fd, BLOCK, 0)
    at = 0 if offset == 0 else block.find(b"\n") + 1
    if offset and not at:
        return None
    while (end := block.find(b"\n", at)) >= 0:
        entry = _parse(block[at:end])
        if entry is not None:
            return entry.time, start + at
        at = end + 1
    return None


def _start_of_tail(file: File, lines: int) -> tuple[int, int]:
    """How many of the last `lines` lines are in a file, and where they begin; read backwards in blocks."""
    position = file.size
    # The newline that ends the last line does not begin another; half a line is none.
    seen = -1
    while position > 0:
        start = max(0, position - 65536)
        block = os.pread(file.fd, position - start, start)
        newlines = block.count(b"\n")
        if seen + newlines >= lines:
            at = len(block)
            while seen < lines:
                at = block.rindex(b"\n", 0, at)
                seen += 1
            return lines, start + at + 1
        seen += newlines
        position = start
    return seen + 1, 0
