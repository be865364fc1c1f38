"""Points in time as users write them for `--since` and `--until`, read as Docker reads them.

A duration (`10m`, `1h30m`) counts back from now; a date or a part of a time is of the caller's time zone
unless it names one; a number is seconds since 1970.
"""

from __future__ import annotations

import re
import time

from rdock.errors import InvalidParameter
from rdock.state import timestamp

_UNITS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_PIECE = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_SECONDS = re.compile(r"(-?\d+)(?:\.(\d+))?", re.ASCII)
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?)?(Z|[+-]\d\d:\d\d)?", re.ASCII)


def parse(text: str, option: str) -> int:
    """Nanoseconds since the epoch. Raises InvalidParameter in Docker's words; `option` is the name without dashes."""
    length = duration(text)
    if length is not None:
        return time.time_ns() - length
    try:
        seconds = _SECONDS.fullmatch(text)
        if seconds:
            return int(seconds[1]) * 10**9 + int((seconds[2] or "0")[:9].ljust(9, "0"))
        return _date(text)
    except (ValueError, OverflowError):
        raise InvalidParameter(
            f'invalid value for "{option}": failed to parse value as time or duration: "{text}"'
        ) from None


def duration(text: str) -> int | None:
    """Nanoseconds of a duration as Go writes it, `1h30m`, `-1.5s`, `0`; None if it is none."""
    sign = -1 if text.startswith("-") else 1
    rest = text.removeprefix("-" if sign < 0 else "+")
    if rest == "0":
        return 0
    pieces = list(_PIECE.finditer(rest))
    if not pieces or "".join(piece[0] for piece in pieces) != rest:
        return None
    total = 0
    for piece in pieces:
        whole, _, fraction = piece[1].partition(".")
        unit = _UNITS[piece[2]]
        total += int(whole or "0") * unit + int(fraction or "0") * unit // 10 ** len(fraction)
    return sign * total


def _date(text: str) -> int:
    found = _DATE.fullmatch(text)
    if not found:
        raise ValueError(text)
    date, hour, minute, second, fraction, zone = found.groups()
    clock = f"{hour or '00'}:{minute or '00'}:{second or '00'}"
    moment = timestamp.to_ns(f"{date}T{clock}.{fraction or '0'}")
    if zone is None:
        seconds, rest = divmod(moment, 10**9)
        return int(time.mktime((*time.gmtime(seconds)[:6], 0, 0, -1))) * 10**9 + rest
    if zone == "Z":
        return moment
    shift = (int(zone[1:3]) * 3600 + int(zone[4:]) * 60) * 10**9
    return moment - shift if zone[0] == "+" else moment + shift
