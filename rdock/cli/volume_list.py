"""volume ls: which volumes there are, and what `--filter` keeps of them by moby's rules."""

from __future__ import annotations

from rdock.cli import output
from rdock.cli.main import complain
from rdock.cli.network_list import natural
from rdock.cli.usage import Options
from rdock.errors import DataLoss, InvalidParameter, UsageError, printable
from rdock.volume import volumes
from rdock.volume.volumes import SCOPE, Volume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    Test: TypeAlias = "Callable[[Volume], bool]"

LS_TEXT = """\
Usage:  rdock volume ls [OPTIONS]

List volumes

Aliases:
  rdock volume ls, rdock volume list

Options:
  -f, --filter filter   Provide filter values (e.g. "dangling=true")
      --format string   Format output using a custom template:
                        'table':            Print output in table format with column headers (default)
                        'table TEMPLATE':   Print output in table format using the given Go template
                        'json':             Print in JSON format
                        'TEMPLATE':         Print output using the given Go template.
  -q, --quiet           Only display volume names
"""

COLUMNS = {"Driver": "DRIVER", "Name": "VOLUME NAME"}
_OTHER_COLUMNS = {
    "Availability": "AVAILABILITY", "Group": "GROUP", "Links": "LINKS", "Mountpoint": "MOUNTPOINT", "Scope": "SCOPE",
    "Status": "STATUS",
}  # fmt: skip


def ls(options: Options) -> int:
    tests = _tests(options)
    damaged: list[DataLoss] = []
    found = [volume for volume in volumes.all_volumes(damaged) if all(test(volume) for test in tests)]
    rows = [
        output.Row(volume, _FIELDS, "*formatter.volumeContext", _METHODS)
        for volume in sorted(found, key=lambda volume: natural(volume.name))
    ]
    output.show(rows, COLUMNS, options, quiet_key="Name", headings=_OTHER_COLUMNS)
    return max([complain(error, 1) for error in damaged], default=0)


def _labels(volume: Volume) -> str:
    return printable(",".join(f"{name}={value}" for name, value in sorted(volume.labels.items())))


# What is not known in a list is so in Docker's as well; the last three are of clusters.
_FIELDS: output.Table = {
    "Driver": lambda volume: volume.driver,
    "Labels": _labels,
    "Links": lambda volume: "N/A",
    "Mountpoint": lambda volume: volume.mountpoint,
    "Name": lambda volume: volume.name,
    "Scope": lambda volume: SCOPE,
    "Size": lambda volume: "N/A",
    "Availability": lambda volume: "N/A",
    "Group": lambda volume: "N/A",
    "Status": lambda volume: "N/A",
}
_METHODS: output.Table = {"Label": lambda volume: lambda name: printable(volume.labels.get(name, ""))}


# -- filters ---------------------------------------------------------------------------------------


def _tests(options: Options) -> list[Test]:
    """One for each key of `--filter`. Raises InvalidParameter in Docker's words, UsageError for what has no `=`."""
    wanted: dict[str, list[str]] = {}
    for text in options.list("--filter"):
        key, equals, value = text.partition("=")
        if text and not equals:
            raise UsageError(
                f'invalid argument "{text}" for "-f, --filter" flag: bad format of filter (expected name=value)',
                options.hint,
            )
        if text:
            wanted.setdefault(key.strip().lower(), []).append(value.strip())
    for key in wanted:
        if key not in _MAKERS:
            raise InvalidParameter(f"invalid filter '{key}'")
    return [_MAKERS[key](values) for key, values in wanted.items()]


def _dangling(values: Sequence[str]) -> Test:
    """Those that no container uses."""
    is_true, is_false = bool({"1", "true"} & {*values}), bool({"0", "false"} & {*values})
    if is_true == is_false:
        raise InvalidParameter(f"invalid filter 'dangling=[{' '.join(values)}]'")
    from rdock.container import mount_points

    used = mount_points.users()
    return lambda volume: (volume.name not in used) == is_true


def _driver(values: Sequence[str]) -> Test:
    return lambda volume: volume.driver in values


def _label(values: Sequence[str]) -> Test:
    pairs = [value.partition("=") for value in values]
    return lambda volume: all(
        name in volume.labels and (not equals or volume.labels[name] == content) for name, equals, content in pairs
    )


def _name(values: Sequence[str]) -> Test:
    """Each value is a regular expression; a wrong one fits only what it is letter by letter."""
    import re

    patterns = []
    for value in values:
        try:
            patterns.append(re.compile(value))
        except (re.error, OverflowError, RecursionError):
            continue
    return lambda volume: volume.name in values or any(pattern.search(volume.name) for pattern in patterns)


_MAKERS: dict[str, Callable[[Sequence[str]], Test]] = {
    "dangling": _dangling,
    "driver": _driver,
    "label": _label,
    "name": _name,
}
