"""network ls: which networks there are, and what `--filter` keeps of them by moby's rules."""

from __future__ import annotations

from rdock.cli import output
from rdock.cli.go_values import Time
from rdock.cli.main import complain
from rdock.cli.usage import Options
from rdock.errors import DataLoss, InvalidParameter, UsageError, printable
from rdock.network import networks
from rdock.network.networks import SCOPE, Network
from rdock.state import timestamp
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    Test: TypeAlias = "Callable[[Network], bool]"

LS_TEXT = """\
Usage:  rdock network ls [OPTIONS]

List networks

Aliases:
  rdock network ls, rdock network list

Options:
  -f, --filter filter   Provide filter values (e.g. "driver=bridge")
      --format string   Format output using a custom template:
                        'table':            Print output in table format with column headers (default)
                        'table TEMPLATE':   Print output in table format using the given Go template
                        'json':             Print in JSON format
                        'TEMPLATE':         Print output using the given Go template.
      --no-trunc        Do not truncate the output
  -q, --quiet           Only display network IDs
"""

_COLUMNS = {"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE"}
# Of fields that only a template shows.
_OTHER_COLUMNS = {"IPv4": "IPV4", "IPv6": "IPV6", "Internal": "INTERNAL"}


def ls(options: Options) -> int:
    tests = _tests(options)
    damaged: list[DataLoss] = []
    found = [network for network in networks.all_networks(damaged) if all(test(network) for test in tests)]
    whole = options.flag("--no-trunc")
    rows = [
        output.Row(_Shown(network, whole), _FIELDS, "*network.networkContext", _METHODS)
        for network in sorted(found, key=lambda network: natural(network.name))
    ]
    output.show(rows, _COLUMNS, options, quiet_key="ID", headings=_OTHER_COLUMNS)
    return max([complain(error, 1) for error in damaged], default=0)


class _Shown(Value):
    """A line of the list."""

    network: Network
    whole: bool


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _labels(shown: _Shown) -> str:
    return printable(",".join(f"{name}={value}" for name, value in sorted(shown.network.labels.items())))


_FIELDS: output.Table = {
    "ID": lambda shown: shown.network.id if shown.whole else shown.network.id[:12],
    "Name": lambda shown: shown.network.name,
    "Driver": lambda shown: shown.network.driver,
    "Scope": lambda shown: SCOPE,
    "IPv4": lambda shown: _bool(True),
    "IPv6": lambda shown: _bool(shown.network.ipv6),
    "Internal": lambda shown: _bool(shown.network.internal),
    "Labels": _labels,
    "CreatedAt": lambda shown: Time(shown.network.created or timestamp.ZERO).shown,
}
_METHODS: output.Table = {"Label": lambda shown: lambda name: printable(shown.network.labels.get(name, ""))}


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key by which net2 comes before net10, as in Docker's list: digits that follow each other are a number."""
    found: list[tuple[int, int, str]] = []
    digits = ""
    for character in name + "\0":
        if character.isdecimal():
            digits += character
            continue
        if digits:
            number = digits.lstrip("0")
            found.append((ord("0"), len(number), number))
            digits = ""
        found.append((ord(character), 0, ""))
    return found


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


def _exactly(field: Callable[[Network], str]) -> Callable[[Sequence[str]], Test]:
    return lambda values: lambda network: field(network) in values


def _matching(field: Callable[[Network], str]) -> Callable[[Sequence[str]], Test]:
    """Each value is a regular expression; a wrong one fits only what it is letter by letter."""

    def make(values: Sequence[str]) -> Test:
        import re

        patterns = []
        for value in values:
            try:
                patterns.append(re.compile(value))
            except (re.error, OverflowError, RecursionError):
                continue
        return lambda network: field(network) in values or any(pattern.search(field(network)) for pattern in patterns)

    return make


def _label(values: Sequence[str]) -> Test:
    pairs = [value.partition("=") for value in values]
    return lambda network: all(
        name in network.labels and (not equals or network.labels[name] == content) for name, equals, content in pairs
    )


def _type(values: Sequence[str]) -> Test:
    for value in values:
        if value not in ("builtin", "custom"):
            raise InvalidParameter(f"invalid filter: 'type'='{value}'")
    return lambda network: ("builtin" if network.is_predefined else "custom") in values


def _dangling(values: Sequence[str]) -> Test:
    """Those on which nobody is, of those that somebody has made."""
    is_true, is_false = bool({"1", "true"} & {*values}), bool({"0", "false"} & {*values})
    if is_true == is_false:
        raise InvalidParameter(f"invalid filter 'dangling=[{' '.join(values)}]'")
    from rdock.container.network_removal import users

    return lambda network: (not network.is_predefined and not users(network)) == is_true


_MAKERS: dict[str, Callable[[Sequence[str]], Test]] = {
    "dangling": _dangling,
    "driver": _exactly(lambda network: network.driver),
    "id": _matching(lambda network: network.id),
    "label": _label,
    "name": _matching(lambda network: network.name),
    "scope": _exactly(lambda network: SCOPE),
    "type": _type,
}
