"""The log of a container as `logs` reads it: json-file, with the files that were rotated away.

The reader holds no lock. It opens the current file first, then the older ones, and looks whether the
current one is still that: if so, no rotation has come between. What it has open it can read to its end,
though it be renamed or deleted meanwhile, and the writer never writes to a file that it has rotated away.
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

_BLOCK = 1 << 18
# No line of a log is longer: of 16 KiB each byte may be written as six; the rest is attributes.
_LONGEST = 1 << 20
# How often a rotation may come between, and how long a file is waited for that is just being made.
_TRIES, _PAUSE = 200, 0.001


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
    files = _open_all(path)
    try:
        _seek(files, wanted)
        while True:
            gone = watch is None or watch.ended(ended)
            while True:
                for entries in _rest_of(files[0] if files else None):
                    chosen = [entry for entry in entries if _is_in(entry, wanted)]
                    yield chosen
                    if wanted.until is not None and entries and entries[-1].time > wanted.until:
                        return
                if len(files) > 1:
                    files.pop(0).close()
                elif watch is None or not _go_on(files, path):
                    break
            if gone or watch is None:
                return
            left = None if wanted.until is None else (wanted.until - time.time_ns()) / 1e9
            if left is not None and left <= 0:
                return
            watch.wait(ended, left)
    finally:
        for file in files:
            file.close()


def _is_in(entry: Entry, wanted: Range) -> bool:
    return (wanted.since is None or entry.time >= wanted.since) and (wanted.until is None or entry.time <= wanted.until)


# -- files -----------------------------------------------------------------------------------------


class _File:
    """One file of a log, open at a place between two lines."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self.at = 0

    @property
    def number(self) -> tuple[int, int]:
        """Who it is, whatever its name; nobody else is while it is open."""
        found = os.fstat(self.fd)
        return found.st_dev, found.st_ino

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def close(self) -> None:
        os.close(self.fd)


def _open_all(path: str) -> list[_File]:
    """All files of a log, the oldest first."""
    for attempt in range(_TRIES):
        last = attempt == _TRIES - 1
        files: list[_File] = []
        names = [path, *(f"{path}.{number}" for number in _older(path))]
        for name in names:
            try:
                files.insert(0, _File(name))
            except FileNotFoundError:
                if name == path and len(names) > 1 and not last:
                    break  # it is just being made
        current = files[-1].number if files else None
        whole = files and _is(path, current) and len({file.number for file in files}) == len(files)
        if whole or last or len(names) == 1:
            return files
        for file in files:
            file.close()
        time.sleep(_PAUSE)
    return []


def _older(path: str) -> list[int]:
    """The numbers of the files that were rotated away, the youngest first."""
    directory, name = os.path.split(path)
    try:
        found = [entry.removeprefix(name + ".") for entry in os.listdir(directory) if entry.startswith(name + ".")]
    except FileNotFoundError:
        return []
    return sorted(int(number) for number in found if number.isdecimal())


def _is(path: str, number: tuple[int, int] | None) -> bool:
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == number


def _go_on(files: list[_File], path: str) -> bool:
    """Take those files up that came after the one at hand; False if there are none.

    Whoever calls has read all of that one, and does so once more before it goes on to the next: it may have
    grown between the reading and its rotation.
    """
    if files and _is(path, files[0].number):
        return False
    found = _open_all(path)
    known = files[0].number if files else None
    place = next((index for index, file in enumerate(found) if file.number == known), -1)
    for file in found[: place + 1]:
        file.close()
    files += found[place + 1 :]
    return bool(found[place + 1 :])


# -- lines -----------------------------------------------------------------------------------------


def _rest_of(file: _File | None) -> Iterator[list[Entry]]:
    """What there is from where the file was left. Half of a line, which is being written or may be taken back,
    is left to the next time."""
    while file is not None:
        block = os.pread(file.fd, _BLOCK, file.at)
        end = block.rfind(b"\n") + 1
        if not end and len(block) == _BLOCK:
            block = os.pread(file.fd, _LONGEST, file.at)
            end = block.rfind(b"\n") + 1 or (len(block) if len(block) == _LONGEST else 0)
        if not end:
            if file.at > file.size:
                file.at = file.size
            return
        file.at += end
        yield [entry for line in block[:end].split(b"\n") if line and (entry := _parse(line)) is not None]


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


def _seek(files: list[_File], wanted: Range) -> None:
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


def _start_of_time(file: _File, since: int) -> int:
    """An offset from which all entries since a time are found, by halves: times only grow, but for set clocks."""
    low, high = 0, file.size
    while high - low > _BLOCK:
        middle = (low + high) // 2
        found = _time_after(file, middle)
        if found is None or found[0] >= since:
            high = middle
        else:
            low = found[1]
    return low


def _time_after(file: _File, offset: int) -> tuple[int, int] | None:
    """Of the first whole line that begins after an offset (at it, if it is 0): its time, and where it begins."""
    start = offset
    block = os.pread(file.fd, _LONGEST, start) if offset else os.pread(file.fd, _BLOCK, 0)
    at = 0 if offset == 0 else block.find(b"\n") + 1
    if offset and not at:
        return None
    while (end := block.find(b"\n", at)) >= 0:
        entry = _parse(block[at:end])
        if entry is not None:
            return entry.time, start + at
        at = end + 1
    return None


def _start_of_tail(file: _File, lines: int) -> tuple[int, int]:
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
