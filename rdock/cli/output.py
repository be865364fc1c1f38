"""How results are printed: Docker's tables, sizes and ages; a `--format` other than these is template.py's."""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeAlias

    from rdock.cli.usage import Options

Row: TypeAlias = "Mapping[str, Any]"

# Go's tabwriter as docker/cli sets it up.
_MIN_WIDTH, _PADDING = 10, 3


def show(rows: Sequence[Row], columns: Mapping[str, str], options: Options, quiet_key: str) -> None:
    """Print a list of objects as `--format` and `--quiet` ask; `columns` is the default table: field → heading."""
    template = (options.text("--format") or "").replace("\\t", "\t").replace("\\n", "\n")
    if template in ("", "table") and options.flag("--quiet"):
        lines = [str(row[quiet_key]) for row in rows]
    elif template in ("", "table"):
        lines = table([list(columns.values()), *([go_text(row[field]) for field in columns] for row in rows)])
    elif template == "json":
        lines = [to_json(dict(sorted(row.items()))) for row in rows]
    else:
        lines = _filled_in(template, rows, columns)
    sys.stdout.write("".join(line + "\n" for line in lines))


def _filled_in(text: str, rows: Sequence[Row], columns: Mapping[str, str]) -> list[str]:
    from rdock.cli import template

    if not text.startswith("table "):
        return [template.render(text, row) for row in rows]
    text = text[6:].strip()
    cells = [template.render(text, row).split("\t") for row in rows]
    return table([template.heading(text, columns).split("\t"), *cells])


def table(rows: Sequence[Sequence[str]], least: int = _MIN_WIDTH) -> list[str]:
    """Lines with aligned columns of at least a width; the last column is not padded."""
    widths = [0] * max(map(len, rows), default=0)
    for row in rows:
        for index, cell in enumerate(row[:-1]):
            widths[index] = max(widths[index], least, len(cell) + _PADDING)
    return ["".join(cell.ljust(width) for cell, width in zip(row[:-1], widths)) + row[-1] for row in rows]  # noqa: B905


def go_text(value: Any) -> str:
    """A value as Go's templates print it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_text(inner)}" for key, inner in sorted(value.items())) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(go_text, value)) + "]"
    return str(value)


def to_json(value: Any) -> str:
    import json  # of the dear ones, see tests/unit/test_start.py

    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# -- sizes and ages ------------------------------------------------------------------------------


def size(count: float, digits: int = 4) -> str:
    """A number of bytes as Docker shows it (go-units: HumanSize): powers of 1000, few digits."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if count < 1000:
            break
        if unit != "PB":
            count /= 1000
    text = f"{count:.{digits}g}"
    return (f"{count:.0f}" if "e" in text else text) + unit


def age(moment: float) -> str:
    """How long ago a point in time (seconds since 1970) is, in Docker's words (go-units: HumanDuration)."""
    seconds = int(max(0.0, time.time() - moment))
    hours = int(seconds / 3600 + 0.5)
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    if seconds < 120:
        return "About a minute"
    if seconds < 3600:
        return f"{seconds // 60} minutes"
    if hours == 1:
        return "About an hour"
    for limit, length, unit in ((48, 1, "hours"), (14 * 24, 24, "days"), (60 * 24, 168, "weeks"),
                                (730 * 24, 720, "months")):  # fmt: skip
        if hours < limit:
            return f"{hours // length} {unit}"
    return f"{hours // (24 * 365)} years"


def local_time(moment: float) -> str:
    """A point in time as Go prints it: `2024-05-01 12:00:00 +0200 CEST`."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(moment))
