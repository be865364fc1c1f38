"""Descriptors and moments that a single-threaded server waits for, inside the loop of another."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

# select's, which is not imported for them: poll(2).
IN, OUT, ERR, HUP = 0x1, 0x4, 0x8, 0x10


class Watch:
    """What to wait for, and what to call then.

    A handler may be called for nothing: where one closes a descriptor that poll has reported already, the next
    to be opened has the same number. So descriptors must not block.
    """

    def __init__(self) -> None:
        self.masks: dict[int, int] = {}
        """Descriptor → poll(2) mask, at any time."""
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._deadlines: dict[Hashable, tuple[float, Callable[[], None]]] = {}
        # No deadline is earlier; that it may have been dropped since costs a needless look, no search each time.
        self._earliest = 0.0

    def watch(self, fd: int, mask: int, handler: Callable[[int], None]) -> None:
        """Call the handler with the events of a descriptor; instead of another, if it had one."""
        self.masks[fd] = mask
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """Before the descriptor is closed."""
        self.masks.pop(fd, None)
        self._handlers.pop(fd, None)

    def handle(self, fd: int, events: int) -> None:
        """Call the handler of a descriptor, if it still has one."""
        handler = self._handlers.get(fd)
        if handler is not None:
            handler(events)

    def expect(self, key: Hashable, seconds: float, late: Callable[[], None]) -> None:
        """Call late() after so many seconds, unless `key` is expected anew or dropped by then."""
        when = time.monotonic() + seconds
        self._earliest = min(self._earliest, when) if self._deadlines else when
        self._deadlines[key] = (when, late)

    def drop(self, key: Hashable) -> None:
        self._deadlines.pop(key, None)

    def timeout(self) -> float | None:
        """Seconds until `tick` has something to do; None for never."""
        return max(0.0, self._earliest - time.monotonic()) if self._deadlines else None

    def tick(self) -> None:
        """Call what is due."""
        now = time.monotonic()
        if not self._deadlines or now < self._earliest:
            return
        for key in [key for key, (when, _) in self._deadlines.items() if when <= now]:
            # One that is late may drop others, or expect them anew.
            when, late = self._deadlines.get(key, (now + 1, None))
            if late is not None and when <= now:
                del self._deadlines[key]
                late()
        self._earliest = min((when for when, _ in self._deadlines.values()), default=0.0)
