"""Reading lines of a file that others append to and rotate: NAME becomes NAME.1, that one NAME.2, and so on.

The reader holds no lock. It opens the current file first, then the older ones, and looks whether the
current one is still that: if so, no rotation has come between. What it has open it can read to its end,
though it be renamed or deleted meanwhile; writers never write to a file that has been rotated away.
"""

from __future__ import annotations

import os
import time

from rdock.linux.inotify import Inotify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 1 << 18
LONGEST = 1 << 20
"""Bytes of the longest line that is found whole."""
# How often a rotation may come between, and how long a file is waited for that is just being made.
_TRIES, _PAUSE = 200, 0.001


class File:
    """One file, open at a place between two lines."""

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


def open_all(path: str) -> list[File]:
    """The current file and those that were rotated away, the oldest first; none if there are none."""
    for attempt in range(_TRIES):
        last = attempt == _TRIES - 1
        files: list[File] = []
        names = [path, *(f"{path}.{number}" for number in _older(path))]
        for name in names:
            try:
                files.insert(0, File(name))
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


def read(
    files: list[File], path: str, watch: Inotify | None, *, ended: int | None = None, deadline: int | None = None
) -> Iterator[list[bytes]]:
    """Lines from where the files stand, in lists of what was found at once. Files and watch are closed at the end.

    With a watch on the directory it goes on until the process behind the pidfd `ended` is gone and all is
    read, or the deadline, in nanoseconds since the epoch, has come; without one it reads what there is.
    """
    try:
        while True:
            gone = watch is None or (ended is not None and watch.ended(ended))
            while True:
                if files:
                    yield from _lines(files[0])
                if len(files) > 1:
                    files.pop(0).close()
                elif watch is None or not _go_on(files, path):
                    break
            left = None if deadline is None else (deadline - time.time_ns()) / 1e9
            if watch is None or gone or (left is not None and left <= 0):
                return
            watch.wait(ended, left)
    finally:
        for file in files:
            file.close()
        if watch is not None:
            watch.close()


def _go_on(files: list[File], path: str) -> bool:
    """Take those files up that came after the one at hand; False if there are none.

    Whoever calls has read all of that one, and does so once more before it goes on to the next: it may have
    grown between the reading and its rotation.
    """
    if files and _is(path, files[0].number):
        return False
    found = open_all(path)
    known = files[0].number if files else None
    place = next((index for index, file in enumerate(found) if file.number == known), -1)
    for file in found[: place + 1]:
        file.close()
    files += found[place + 1 :]
    return bool(found[place + 1 :])


def _lines(file: File) -> Iterator[list[bytes]]:
    """What there is from where the file was left. Half of a line, which is being written or may be taken back,
    is left to the next time."""
    if file.at > file.size:
        file.at = 0  # somebody has emptied it
    while True:
        block = os.pread(file.fd, BLOCK, file.at)
        end = block.rfind(b"\n") + 1
        if not end and len(block) == BLOCK:
            block = os.pread(file.fd, LONGEST, file.at)
            end = block.rfind(b"\n") + 1 or (len(block) if len(block) == LONGEST else 0)
        if not end:
            return
        file.at += end
        yield block[:end].split(b"\n")
