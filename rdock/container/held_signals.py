"""Signals that come to a command and are meant for its container: held back, caught, told in order."""

from __future__ import annotations

import os

from rdock.linux import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PASSED_ON = (
    signals.SIGHUP, signals.SIGINT, signals.SIGQUIT, signals.SIGTERM, signals.SIGUSR1, signals.SIGUSR2,
    signals.SIGALRM, signals.SIGCONT, signals.SIGTSTP,
)  # fmt: skip


def hold_back() -> None:
    """From here on signals wait for `relay`: one that comes while a container starts is for the container.

    It would end this command alone otherwise, and the container would go on with nobody attached.
    """
    signals.pthread_sigmask(signals.SIG_BLOCK, PASSED_ON)


class Caught:
    """Signals that are read from a pipe, until `close`, which gives back the handlers of before."""

    def __init__(self, wanted: Sequence[int]) -> None:
        self.wake, self._poke = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before = {number: signals.signal(number, lambda *_: None) for number in wanted}
        self._old_wakeup = signals.set_wakeup_fd(self._poke, warn_on_full_buffer=False)
        signals.pthread_sigmask(signals.SIG_UNBLOCK, PASSED_ON)

    def take(self) -> bytes:
        """The numbers of those that have come, in order."""
        try:
            return os.read(self.wake, 512)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        signals.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._before.items():
            signals.signal(number, handler)
        os.close(self.wake)
        os.close(self._poke)
