"""Go's templates, as `--format` has them.

Known are fields (`{{.Name}}`, `{{.State.Pid}}`), pipelines, and the functions json, join, upper, lower, len
and index. Imported only when a template is given: what it needs takes as long as all the rest of `ps`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from rdock.cli.output import Row, go_text, to_json
from rdock.errors import InvalidParameter

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)


def render(template: str, item: Row) -> str:
    """A Go template applied to one object. Raises InvalidParameter where Go would fail."""
    _check(template)
    return _ACTION.sub(lambda action: go_text(_evaluate(action[1], item)), template)


def _check(template: str) -> None:
    if "{{" in _ACTION.sub("", template):
        raise InvalidParameter(f"template parsing error: unclosed action in {template!r}")


def heading(template: str, columns: Mapping[str, str]) -> str:
    """The first line of a table that a template makes: its fields' headings."""

    def title(action: re.Match[str]) -> str:
        fields = re.findall(r"\.(\w+)", action[1])
        return columns.get(fields[0], _spaced(fields[0])) if fields else ""

    _check(template)
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
