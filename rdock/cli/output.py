"""How results are printed: Docker's tables, `--format`, sizes and ages.

Of Go's templates this knows fields (`{{.Name}}`, `{{.State.Pid}}`), the functions json, join, upper,
lower, len and index, and a leading `table`.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rdock.cli.usage import Options
from rdock.errors import InvalidParameter

Row = Mapping[str, Any]

# Go's tabwriter as docker/cli sets it up.
_MIN_WIDTH, _PADDING = 10, 3
_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)


def show(rows: Sequence[Row], columns: Mapping[str, str], options: Options, quiet_key: str) -> None:
    """Print a list of objects as `--format` and `--quiet` ask; `columns` is the default table: field → heading."""
    template = (options.text("--format") or "").replace("\\t", "\t").replace("\\n", "\n")
    if template in ("", "table") and options.flag("--quiet"):
        lines = [str(row[quiet_key]) for row in rows]
    elif template in ("", "table"):
        lines = table([list(columns.values()), *([go_text(row[field]) for field in columns] for row in rows)])
    elif template == "json":
        lines = [to_json(dict(sorted(row.items()))) for row in rows]
    elif template.startswith("table "):
        template = template[6:].strip()
        cells = [render(template, row).split("\t") for row in rows]
        lines = table([heading(template, columns).split("\t"), *cells])
    else:
        lines = [render(template, row) for row in rows]
    sys.stdout.write("".join(line + "\n" for line in lines))


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns; the last column is not padded."""
    widths = [0] * max(map(len, rows), default=0)
    for row in rows:
        for index, cell in enumerate(row[:-1]):
            widths[index] = max(widths[index], _MIN_WIDTH, len(cell) + _PADDING)
    return ["".join(cell.ljust(width) for cell, width in zip(row[:-1], widths)) + row[-1] for row in rows]  # noqa: B905


# -- templates -----------------------------------------------------------------------------------


def render(template: str, item: Row) -> str:
    """A Go template applied to one object. Raises InvalidParameter where Go would fail."""
    return _ACTION.sub(lambda action: go_text(_evaluate(action[1], item)), template)


def heading(template: str, columns: Mapping[str, str]) -> str:
    """The first line of a table that a template makes: its fields' headings."""

    def title(action: re.Match[str]) -> str:
        fields = re.findall(r"\.(\w+)", action[1])
        return columns.get(fields[0], _spaced(fields[0])) if fields else ""

    return _ACTION.sub(title, template)


def _spaced(field: str) -> str:
    """`CreatedAt` as the heading CREATED AT."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", field).upper()


def _evaluate(pipeline: str, item: Row) -> Any:
    value: Any = None
    for number, command in enumerate(_split_pipeline(pipeline)):
        words = _words(command)
        if not words:
            raise InvalidParameter("template parsing error: missing value for command")
        if words[0] in _FUNCTIONS:
            arguments = [_value(word, item) for word in words[1:]] + ([value] if number else [])
            try:
                value = _FUNCTIONS[words[0]](*arguments)
            except (TypeError, ValueError, LookupError):
                raise InvalidParameter(f"template: error calling {words[0]}") from None
        elif number or len(words) > 1:
            raise InvalidParameter(f'template parsing error: function "{words[0]}" not defined')
        else:
            value = _value(words[0], item)
    return value


def _split_pipeline(pipeline: str) -> list[str]:
    return re.findall(r'(?:"(?:\\.|[^"\\])*"|[^|"])+', pipeline) or [""]


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command, posix=False)
    except ValueError:
        raise InvalidParameter(f"template parsing error: unterminated string in {command!r}") from None


def _value(word: str, item: Row) -> Any:
    if word.startswith('"') and word.endswith('"') and len(word) > 1:
        return json.loads(word)
    if re.fullmatch(r"-?\d+", word):
        return int(word)
    if not word.startswith("."):
        raise InvalidParameter(f'template parsing error: function "{word}" not defined')
    value: Any = item
    for name in filter(None, word.split(".")):
        if not isinstance(value, Mapping):
            raise InvalidParameter(f"template: can't evaluate field {name}")
        if name not in value:
            if value is item:
                raise InvalidParameter(f"template: can't evaluate field {name}")
            return None
        value = value[name]
    return value


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key, "") if isinstance(value, Mapping) else value[key]
    return value


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda value: to_json(value),
    "join": lambda values, separator: separator.join(values or ()),
    "upper": lambda text: text.upper(),
    "lower": lambda text: text.lower(),
    "len": lambda value: len(value or ()),
    "index": _index,
}


def go_text(value: Any) -> str:
    """A value as Go's templates print it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{go_text(inner)}" for key, inner in sorted(value.items())) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(go_text, value)) + "]"
    return str(value)


def to_json(value: Any) -> str:
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
