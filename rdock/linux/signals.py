"""Signals, from the C module beneath `signal`, whose Python part wraps each number in an enum.

Making those enums takes two milliseconds of every start. Names and functions are those of `signal`.
"""

from __future__ import annotations

import _signal
from _signal import (
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIG_UNBLOCK,
    SIGALRM,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    SIGINT,
    SIGKILL,
    SIGPIPE,
    SIGQUIT,
    SIGSTOP,
    SIGTERM,
    SIGTSTP,
    SIGTTOU,
    SIGUSR1,
    SIGUSR2,
    SIGWINCH,
    pidfd_send_signal,
    pthread_sigmask,
    set_wakeup_fd,
    signal,
    valid_signals,
)

__all__ = [
    "SIGALRM",
    "SIGCHLD",
    "SIGCONT",
    "SIGHUP",
    "SIGINT",
    "SIGKILL",
    "SIGPIPE",
    "SIGQUIT",
    "SIGSTOP",
    "SIGTERM",
    "SIGTSTP",
    "SIGTTOU",
    "SIGUSR1",
    "SIGUSR2",
    "SIGWINCH",
    "SIG_BLOCK",
    "SIG_DFL",
    "SIG_IGN",
    "SIG_SETMASK",
    "SIG_UNBLOCK",
    "number_of",
    "pidfd_send_signal",
    "pthread_sigmask",
    "reset",
    "set_wakeup_fd",
    "signal",
]


def number_of(name: str) -> int:
    """`KILL`, `sigkill`, `9`, `RTMIN+3` → number. Raises ValueError."""
    text = name.strip().upper()
    if text.isdecimal() and text.isascii():
        number = int(text)
    else:
        text = text.removeprefix("SIG")
        base, sign, offset = text.partition("+") if "+" in text else text.partition("-")
        found = getattr(_signal, f"SIG{base}", None) if base.isalnum() else None
        if not isinstance(found, int) or (sign and (base not in ("RTMIN", "RTMAX") or not offset.isdecimal())):
            raise ValueError(name)
        number = found + int(sign + offset if sign else 0)
    if not 0 < number <= 64:
        raise ValueError(name)
    return number


def reset() -> None:
    """Default dispositions and an empty mask, as a fresh process has them."""
    for number in valid_signals():
        if number not in (SIGKILL, SIGSTOP):
            try:
                signal(number, SIG_DFL)
            except (OSError, ValueError):
                pass  # the two that the C library keeps for itself
    pthread_sigmask(SIG_SETMASK, ())
