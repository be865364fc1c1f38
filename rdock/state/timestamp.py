"""Points in time as Docker writes them: RFC 3339 in UTC with up to nine digits, as Go prints them."""

from __future__ import annotations

import time

ZERO = "0001-01-01T00:00:00Z"
"""Go's zero time: not yet."""


def now() -> str:
    return from_ns(time.time_ns())


def from_ns(ns: int) -> str:
    seconds, rest = divmod(ns, 1_000_000_000)
    year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}{fraction}Z"


def to_ns(text: str) -> int:
    """Nanoseconds since the epoch. Raises ValueError."""
    import calendar

    head, dot, fraction = text.removesuffix("Z").partition(".")
    seconds = calendar.timegm(time.strptime(head, "%Y-%m-%dT%H:%M:%S"))
    return seconds * 1_000_000_000 + (int(fraction[:9].ljust(9, "0")) if dot else 0)
