"""Children that end without being waited for, as those that the death of their parent gives to a subreaper."""

from __future__ import annotations

import os

from rdock.linux import signals


class Children:
    """From its making on, `wake` is readable when a child has ended (SIGCHLD). For a process of one thread."""

    def __init__(self) -> None:
        self.wake, self._poke = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signals.signal(signals.SIGCHLD, lambda *_: None)
        signals.set_wakeup_fd(self._poke, warn_on_full_buffer=False)

    def close(self) -> None:
        """Go back to not being told, as a fork does that has children of its own."""
        signals.set_wakeup_fd(-1)
        signals.signal(signals.SIGCHLD, signals.SIG_DFL)
        os.close(self.wake)
        os.close(self._poke)

    def take(self) -> None:
        """Make `wake` wait for the next one."""
        try:
            os.read(self.wake, 512)
        except BlockingIOError:
            pass

    def reap_all_but(self, kept: int) -> list[int]:
        """Reap whatever has ended, until one comes that is waited for elsewhere: whom."""
        reaped: list[int] = []
        self.take()
        try:
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if found.si_pid == kept:
                    break
                os.waitpid(found.si_pid, 0)
                reaped.append(found.si_pid)
        except ChildProcessError:
            pass
        return reaped
