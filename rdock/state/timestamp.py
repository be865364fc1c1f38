"""Points in time as Docker writes them: RFC 3339 in UTC with up to nine digits, as Go prints them."""

from __future__ import annotations

import time

ZERO = "0001-01-01T00:00:00Z"
"""Go's zero time: not yet."""

_LENGTHS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAYS_TO_1970 = 719162


def now() -> str:
    return from_ns(time.time_ns())


def fixed(ns: int) -> str:
    """The same with all nine digits, which keeps columns straight."""
    text = from_ns(ns).removesuffix("Z")
    return (text if "." in text else text + ".").ljust(29, "0") + "Z"


def from_ns(ns: int) -> str:
    seconds, rest = divmod(ns, 1_000_000_000)
    year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}{fraction}Z"


def to_ns(text: str) -> int:
    """Nanoseconds since the epoch. Raises ValueError.

    By hand, since time.strptime takes ten times as long, and each line of a log has a time.
    """
    head, dot, fraction = text.removesuffix("Z").partition(".")
    parts = (head[:4], head[5:7], head[8:10], head[11:13], head[14:16], head[17:])
    if len(head) != 19 or head[4::3] != "--T::" or not "".join((*parts, fraction or "0")).isdecimal():
        raise ValueError(f"not a time: {text}")
    year, month, day, hour, minute, second = map(int, parts)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= _LENGTHS[month] + (leap and month == 2):
        raise ValueError(f"no such day: {text}")
    if hour > 23 or minute > 59 or second > 60 or (dot and not fraction):
        raise ValueError(f"no such time of day: {text}")
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400 - _DAYS_TO_1970
    days += sum(_LENGTHS[:month]) + (leap and month > 2) + day - 1
    seconds = (days * 24 + hour) * 3600 + minute * 60 + second
    return seconds * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))
