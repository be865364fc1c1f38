"""Times as users write them, and as logs and records have them."""

from __future__ import annotations

import time

import pytest

from rdock.errors import InvalidParameter
from rdock.state import moment, timestamp

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10m", 600 * SECOND),
        ("1h30m", 5400 * SECOND),
        ("1.5s", 15 * 10**8),
        ("-2s", -2 * SECOND),
        ("+1ms", 10**6),
        ("1h2m3.5s10us7ns", 3723 * SECOND + 500_010_007),
        (".5s", 5 * 10**8),
        ("0", 0),
    ],
)
def test_durations(text: str, expected: int) -> None:
    assert moment.duration(text) == expected
    assert abs(moment.parse(text, "since") - (time.time_ns() - expected)) < SECOND


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-02-29T12:34:56Z", 1709210096 * SECOND),
        ("2024-02-29T12:34:56.789Z", 1709210096 * SECOND + 789_000_000),
        ("2024-02-29T12:34:56.123456789+02:00", 1709202896 * SECOND + 123_456_789),
        ("2024-02-29T12:34-01:30", 1709215440 * SECOND),
        ("1709210096", 1709210096 * SECOND),
        ("1709210096.5", 1709210096 * SECOND + 5 * 10**8),
        ("1709210096.000000001", 1709210096 * SECOND + 1),
        ("2024-02-29Z", 1709164800 * SECOND),
    ],
)
def test_points_in_time(text: str, expected: int) -> None:
    assert moment.parse(text, "since") == expected


@pytest.mark.parametrize("text", ["2024-02-29T12:34:56", "2024-02-29T12:34:56.5", "2024-02-29T12", "2024-07-01"])
def test_without_a_zone_it_is_the_callers(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        shift = 2 if "-07-" in text else 1
        full = text + {10: "T00:00:00Z", 13: ":00:00Z"}.get(len(text), "Z")
        assert moment.parse(text, "until") == moment.parse(full, "until") - shift * 3600 * SECOND
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text", ["x", "10", "5 m", "10mm", "m", "2024-02-30", "2024-13-01", "2024-02-29T25", "1.2.3", "-"]
)
def test_what_is_no_time(text: str) -> None:
    if text == "10":
        assert moment.parse(text, "since") == 10 * SECOND
        return
    with pytest.raises(
        InvalidParameter, match=r'^invalid value for "since": failed to parse value as time or duration: '
    ):
        moment.parse(text, "since")


@pytest.mark.parametrize(
    "ns", [0, 1, 951_782_400 * SECOND, 1709210096 * SECOND + 120, 4_102_444_800 * SECOND, 68_169_600 * SECOND]
)
def test_timestamps_come_back(ns: int) -> None:
    assert timestamp.to_ns(timestamp.from_ns(ns)) == ns
    assert timestamp.to_ns(timestamp.fixed(ns)) == ns
    assert len(timestamp.fixed(ns)) == 30


@pytest.mark.parametrize(
    "text",
    ["", "2024", "2024-02-30T00:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01T00:00:00.Z", "2024-01-01T+1:00:00Z"],
)
def test_no_timestamps(text: str) -> None:
    with pytest.raises(ValueError):
        timestamp.to_ns(text)


def test_gos_zero_time() -> None:
    assert timestamp.to_ns(timestamp.ZERO) == -62135596800 * SECOND
