"""A moment that poll(2) can wait for: timerfd_create(2), which Python's os has from 3.13 on."""

from __future__ import annotations

import os
import struct

from rdock.linux.foreign import c_int, c_void_p
from rdock.linux.libc import check, libc

_MONOTONIC = 1
# struct itimerspec: interval and first time, each in seconds and nanoseconds.
_SPEC = struct.Struct("@llll")


def after(seconds: float) -> int:
    """A descriptor that is readable when so many seconds have passed. Raises OSError."""
    fd = check(libc.timerfd_create(c_int(_MONOTONIC), c_int(os.O_CLOEXEC | os.O_NONBLOCK)), "timerfd_create")
    whole = int(seconds)
    # All zeros would be no moment at all.
    spec = _SPEC.pack(0, 0, whole, max(1, int((seconds - whole) * 1e9)))
    try:
        check(libc.timerfd_settime(c_int(fd), c_int(0), spec, c_void_p(None)), "timerfd_settime")
    except OSError:
        os.close(fd)
        raise
    return fd
