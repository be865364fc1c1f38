"""One direction of a TCP connection from socket to socket: splice(2) through a pipe, which is had only while needed.

A pipe is taken when there is something to carry and given back when it is empty, so that a thousand idle
connections have none. What a slow reader leaves in its pipe, and in the kernel's buffers, is all that there is:
nothing more is read for it.
"""

from __future__ import annotations

import errno
import fcntl
import os

# Pages of pipes count against the user's allowance (fs.pipe-user-pages-soft, 64 MiB), beyond which all new pipes of
# the user become tiny: few are big, and the rest have the size that the kernel gives.
_BIG = 1 << 20
_MOST_BIG = 8
_MOST_IDLE = 2
_KERNELS_SIZE = 1 << 16
# What is less than this is read and written, which for a few bytes is cheaper than the way through a pipe.
_BY_HAND = 1 << 14
# How often a direction may fill its pipe before it is others' turn.
_ROUNDS = 4


class Pipe:
    """An empty pipe, or one that a carrier has filled."""

    __slots__ = ("out", "size", "to")

    def __init__(self, out: int, to: int, size: int) -> None:
        self.out, self.to, self.size = out, to, size


class Pipes:
    """The pipes that are not in use, and how many big ones there are."""

    def __init__(self) -> None:
        self._idle: list[Pipe] = []
        self._big = 0

    @property
    def has_idle(self) -> bool:
        return bool(self._idle)

    def take(self) -> Pipe | None:
        """An empty one; None if there is no descriptor for it."""
        if self._idle:
            return self._idle.pop()
        try:
            out, to = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        size = _KERNELS_SIZE
        if self._big < _MOST_BIG:
            try:
                size = fcntl.fcntl(to, fcntl.F_SETPIPE_SZ, _BIG)
                self._big += 1
            except OSError:
                pass  # more than the user's allowance
        return Pipe(out, to, size)

    def give(self, pipe: Pipe) -> None:
        """Back, empty."""
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(pipe)
        else:
            self.close(pipe)

    def close(self, pipe: Pipe) -> None:
        self._big -= pipe.size >= _BIG
        os.close(pipe.out)
        os.close(pipe.to)

    def drop_idle(self) -> None:
        for pipe in self._idle:
            self.close(pipe)
        self._idle.clear()


class Carrier:
    """From one socket to another, both of which do not block.

    Much goes through a pipe. A little, or all for want of descriptors or of splice(2), through a buffer.
    """

    __slots__ = ("_buffer", "_can_splice", "_held", "_much", "_pipe", "_pipes", "_sink", "_source", "broken",
                 "ended", "ends", "is_told", "readable", "refused", "writable")  # fmt: skip

    def __init__(self, source: int, sink: int, pipes: Pipes) -> None:
        self._source, self._sink, self._pipes = source, sink, pipes
        self._pipe: Pipe | None = None
        self._buffer = b""
        self._held = 0
        self._can_splice = True
        self._much = False
        """The last that came was, and so may be the next."""
        self.readable = self.writable = False
        self.ends = False
        """What can be read is followed by something else than bytes that make another edge: an end, an error."""
        self.ended = self.is_told = False
        """The source has; the sink was told so."""
        self.broken = self.refused = False
        """The source has broken off, behind all that came from it; the sink has, and takes nothing any more."""

    @property
    def is_finished(self) -> bool:
        return self.ended and not self._held

    def carry(self) -> bool:
        """Carry until one side blocks or others should have their turn: whether it could go on."""
        could_go_on = False
        for _ in range(_ROUNDS):
            if not self._held and self.readable and not self.ended:
                self._fill()
            if self._held and self.writable:
                self._drain()
            could_go_on = self.writable if self._held else self.readable and not self.ended
            if not could_go_on:
                break
        if not self._held:
            self._let_pipe_go()
        return could_go_on

    def stop(self) -> None:
        """Carry nothing any more; there is nobody who would have to be told."""
        self.drop()
        self._buffer, self._held = b"", 0
        self.ended = self.is_told = True

    def mind_urgent(self) -> None:
        """The source has urgent data, which splice(2) does not pass and behind which a read stops (tcp(7))."""
        self._can_splice = False
        self.ends = True

    def drop(self) -> None:
        """What is still on its way is lost."""
        if self._pipe is not None:
            self._pipes.close(self._pipe)
            self._pipe = None

    def _let_pipe_go(self) -> None:
        """Back to the others; it is empty."""
        if self._pipe is not None:
            self._pipes.give(self._pipe)
            self._pipe = None

    def _fill(self) -> None:
        if not self._can_splice:
            self._let_pipe_go()
        elif self._much and self._pipe is None:
            self._pipe = self._pipes.take()
        try:
            if self._pipe is None:
                self._buffer = os.read(self._source, _BY_HAND)
                self._held = len(self._buffer)
                self._much = self._held == _BY_HAND
                # There was no more (epoll(7), question 9), so that there will be another edge.
                self.readable = self._much or self.ends
            else:
                self._held = os.splice(self._source, self._pipe.to, self._pipe.size, flags=os.SPLICE_F_NONBLOCK)
                self._much = self._held >= _BY_HAND
            self.ended = not self._held
        except BlockingIOError:
            self.readable = False
        except OSError as e:
            if e.errno == errno.EINVAL and self._pipe is not None:
                self._can_splice = False
            else:
                self.ended = self.broken = True

    def _drain(self) -> None:
        try:
            if self._buffer:
                sent = os.write(self._sink, self._buffer)
                self._buffer = self._buffer[sent:]
            else:
                assert self._pipe is not None
                sent = os.splice(self._pipe.out, self._sink, self._held, flags=os.SPLICE_F_NONBLOCK)
            self._held -= sent
        except BlockingIOError:
            self.writable = False
        except OSError:
            self.refused = True
            self.stop()
