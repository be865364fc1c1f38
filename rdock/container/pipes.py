"""The pipes between a monitor and the program of its container."""

from __future__ import annotations

import os


class Pipes:
    """Pipes for standard input, output and error, or /dev/null where nothing is connected."""

    def __init__(self, terminal: bool, stdin: bool) -> None:
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self.theirs: tuple[int, int, int] = (self._null,) * 3
        self.ours: tuple[int, int, int] = (-1, -1, -1)
        if terminal:
            return
        out, err = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        given = os.pipe2(os.O_CLOEXEC) if stdin else (self._null, -1)
        self.theirs = (given[0], out[1], err[1])
        self.ours = (given[1], out[0], err[0])

    def give(self, uid: int, gid: int) -> None:
        """Have them belong to the program's user, by its ids here, so that it may open /dev/stdout anew.

        From inside that cannot be done where the caller, whose they are, does not exist.
        """
        for fd in {*self.theirs} - {self._null}:
            os.fchown(fd, uid, gid)

    def close_theirs(self) -> None:
        """After the fork: an end of file shall be seen when the container's copies are closed."""
        for fd in {*self.theirs, self._null}:
            os.close(fd)
