"""How results are printed: Docker's tables, sizes and ages; a `--format` other than these is template.py's."""

from __future__ import annotations

import sys
import time

from rdock.cli.go_values import MISSING, Struct, text, to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeAlias

    from rdock.cli.usage import Options

Table: TypeAlias = "Mapping[str, Callable[[Any], Any]]"

# Go's tabwriter as docker/cli sets it up.
_MIN_WIDTH, _PADDING = 10, 3


class Row(Struct):
    """One line of a list, whose fields are made when they are asked for: `fields` has a function for each.

    `methods` take an argument: `.Label "name"`.
    """

    escapes_html = True

    def __init__(self, item: Any, fields: Table, type_name: str, methods: Table | None = None) -> None:
        super().__init__()
        self.item, self.fields, self.methods, self.type_name = item, fields, methods or {}, type_name

    def __missing__(self, name: str) -> Any:
        self[name] = found = self.fields[name](self.item)
        return found

    def field(self, name: str) -> Any:
        return self[name] if name in self.fields else MISSING

    def method(self, name: str, arguments: list[Any]) -> Any:
        if name not in self.methods:
            return MISSING
        if len(arguments) != 1:
            raise TypeError(f"wrong number of args for {name}: want 1 got {len(arguments)}")
        return self.methods[name](self.item)(arguments[0])

    def names(self) -> list[str]:
        return list(self.fields)

    def members(self) -> dict[str, Any]:
        return {name: self[name] for name in self.fields}


def show(
    rows: Sequence[Row],
    columns: Mapping[str, str],
    options: Options,
    quiet_key: str = "",
    *,
    quiet_wins: bool = False,
    headings: Mapping[str, str] | None = None,
) -> None:
    """Print a list of objects as `--format` and `--quiet` ask; `columns` is the default table: field → heading.

    Without a `quiet_key` there is no `--quiet`. `headings` are those of fields that only this list has.

    Of the two the format counts, unless `quiet_wins`: Docker's lists differ in that.
    """
    given = options.text("--format") or ""
    if quiet_key and options.flag("--quiet") and (quiet_wins or given in ("", "table")):
        if given and quiet_wins:
            sys.stderr.write("WARNING: Ignoring custom format, because both --format and --quiet are set.\n")
        lines = [str(row[quiet_key]) for row in rows]
    elif given in ("", "table"):
        lines = table([list(columns.values()), *([text(row[field]) for field in columns] for row in rows)])
    elif given == "json":
        lines = [to_json(row) for row in rows]
    else:
        lines = _filled_in(given, rows, {**columns, **(headings or {})})
    write("".join(line + "\n" for line in lines))


def write(text: str) -> None:
    """To the standard output, also what is no UTF-8: bytes in arguments are allowed to be anything."""
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


def _filled_in(given: str, rows: Sequence[Row], columns: Mapping[str, str]) -> list[str]:
    from rdock.cli.template import Template

    is_table = given.startswith("table")
    source = (given[5:] if is_table else given).strip(" ").replace("\\t", "\t").replace("\\n", "\n")
    complaint = "template parsing error: "
    template = Template(source, complaint)
    found = [template.render(row, complaint=complaint) for row in rows]
    if not is_table:
        return found
    lines = "\n".join([template.heading({**_HEADINGS, **columns}), *found])
    return table([line.split("\t") for line in lines.split("\n")])


# The headings of all lists, by field; where two lists differ, that of ps is here.
_HEADINGS = {
    "ID": "CONTAINER ID", "Names": "NAMES", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED", "Ports": "PORTS", "State": "STATE", "Status": "STATUS", "Size": "SIZE",
    "Labels": "LABELS", "Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS",
    "Platform": "PLATFORM", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": "CREATED",
    "Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Reclaimable": "RECLAIMABLE",
    "CreatedBy": "CREATED BY", "Comment": "COMMENT", "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE", "Containers": "CONTAINERS",
    "Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL",
    "IsAutomated": "AUTOMATED",
}  # fmt: skip


def table(rows: Sequence[Sequence[str]], least: int = _MIN_WIDTH) -> list[str]:
    """Lines with aligned columns of at least a width, as Go's text/tabwriter has them.

    A column is a run of lines that have a cell there with another one behind it; the last cell of a line
    belongs to no column.
    """
    widths = [[0] * (len(row) - 1) for row in rows]
    _align(rows, widths, least, 0, 0, len(rows))
    return [
        "".join(cell.ljust(width) for cell, width in zip(row[:-1], line, strict=True)) + row[-1]
        for row, line in zip(rows, widths, strict=True)
    ]


def _align(
    rows: Sequence[Sequence[str]], widths: list[list[int]], least: int, column: int, start: int, end: int
) -> None:
    first = start
    while first < end:
        if len(rows[first]) - 1 <= column:
            first += 1
            continue
        last = first
        while last < end and len(rows[last]) - 1 > column:
            last += 1
        width = max(least, *(len(row[column]) + _PADDING for row in rows[first:last]))
        for line in widths[first:last]:
            line[column] = width
        _align(rows, widths, least, column + 1, first, last)
        first = last


# -- sizes and ages ------------------------------------------------------------------------------


def size(count: float, digits: int = 4) -> str:
    """A number of bytes as Docker shows it (go-units: HumanSize): powers of 1000, few digits."""
    return _size(count, digits, 1000, ("B", "kB", "MB", "GB", "TB", "PB"))


def binary_size(count: float) -> str:
    """The same in powers of 1024, as Docker shows memory (go-units: BytesSize)."""
    return _size(count, 4, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def _size(count: float, digits: int, base: int, units: tuple[str, ...]) -> str:
    place = 0
    while count >= base and place < len(units) - 1:
        count /= base
        place += 1
    text = f"{count:.{digits}g}"
    return (f"{count:.0f}" if "e" in text else text) + units[place]


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
