"""Children that end without being waited for, as those that the death of their parent gives to a subreaper."""

from __future__ import annotations

import os

from rdock.linux import signals


class Children:
    """From its making on, `wake` is readable when a child has ended (SIGCHLD). For a process of one thread."""

    def __init__(self) -> None:
        self.wake, poke = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signals.signal(signals.SIGCHLD, lambda *_: None)
        signals.set_wakeup_fd(poke, warn_on_full_buffer=False)

    def reap_all_but(self, kept: int) -> None:
        """Reap whatever has ended, until one comes that is waited for elsewhere."""
        try:
            os.read(self.wake, 512)
        except BlockingIOError:
            pass
        try:
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if found.si_pid == kept:
                    return
                os.waitpid(found.si_pid, 0)
        except ChildProcessError:
            pass
