"""The functions of templates: Go's own, and those that docker/cli adds."""

from __future__ import annotations

from rdock.cli import go_values
from rdock.cli.go_values import MISSING, NIL, Map, Struct
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_WIDTH = 1 << 20


class CallError(Exception):
    """What a function complains of."""


class Function(Value):
    """A function with the types of its parameters: any, string, int or []string."""

    call: Callable[..., Any]
    kinds: tuple[str, ...]
    variadic: bool = False
    """Any number of further arguments, of any type."""

    def kind(self, index: int) -> str:
        return self.kinds[index] if index < len(self.kinds) else "any"


def is_true(value: Any) -> bool:
    """Go's truth: not the zero of its type. A struct is always true."""
    return isinstance(value, Struct) or bool(value)


def go_type(value: Any) -> str:
    """The name of a value's type."""
    if isinstance(value, Struct):
        return value.type_name
    for kind, name in ((bool, "bool"), (int, "int"), (float, "float64"), (str, "string")):
        if isinstance(value, kind):
            return name
    if isinstance(value, dict):
        of_text = bool(value) and all(isinstance(item, str) for item in value.values())
        return "map[string]string" if of_text or (isinstance(value, Map) and value.zero == "") else "map[string]any"
    if isinstance(value, (list, tuple)):
        return "[]string" if all(isinstance(item, str) for item in value) else "[]interface {}"
    return "nil"


# -- comparison ------------------------------------------------------------------------------------


def _basic(value: Any) -> str:
    for kind, name in ((bool, "bool"), (int, "int"), (float, "float"), (str, "string")):
        if isinstance(value, kind):
            return name
    return ""


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    if isinstance(first, (list, dict)) and not isinstance(first, Struct):
        raise CallError(f"non-comparable type {go_values.text(first)}: {go_type(first)}")
    return any(_same(first, other) for other in others)


def _same(first: Any, other: Any) -> bool:
    nothing = (MISSING, NIL, None)
    if any(first is one for one in nothing) or any(other is one for one in nothing):
        return any(first is one for one in nothing) and any(other is one for one in nothing)
    if _basic(first) != _basic(other):
        raise CallError("incompatible types for comparison")
    if not _basic(first) and (isinstance(other, (list, dict)) and not isinstance(other, Struct)):
        raise CallError(f"non-comparable type {go_values.text(other)}: {go_type(other)}")
    return bool(first == other)


def _less(first: Any, other: Any) -> bool:
    if not _basic(first) or not _basic(other) or (isinstance(first, bool) and isinstance(other, bool)):
        raise CallError("invalid type for comparison")
    if _basic(first) != _basic(other):
        raise CallError("incompatible types for comparison")
    return bool(first < other)


# -- elements --------------------------------------------------------------------------------------


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is MISSING or value is None:
            raise CallError("index of untyped nil")
        if value is NIL:
            raise CallError("index of nil pointer")
        if isinstance(value, dict) and not isinstance(value, Struct):
            if not isinstance(key, str):
                raise CallError(_no_index(key, "string"))
            value = value.get(key, value.zero if isinstance(value, Map) else MISSING)
        elif isinstance(value, (list, tuple, str)):
            place = _place(key, len(value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value) - 1)
            value = value.encode("utf-8", "surrogateescape")[place] if isinstance(value, str) else value[place]
        else:
            raise CallError(f"can't index item of type {go_type(value)}")
    return value


def _no_index(key: Any, wanted: str) -> str:
    if key is MISSING or key is None:
        return f"value is nil; should be of type {wanted}"
    return f"value has type {go_type(key)}; should be {wanted}"


def _place(key: Any, last: int) -> int:
    if key is MISSING or key is None:
        raise CallError("cannot index slice/array with nil")
    if not isinstance(key, int) or isinstance(key, bool):
        raise CallError(f"cannot index slice/array with type {go_type(key)}")
    if not 0 <= key <= last:
        raise CallError(f"index out of range: {key}")
    return key


def _slice(value: Any, *places: Any) -> Any:
    if value is MISSING or value is None:
        raise CallError("slice of untyped nil")
    if len(places) > 3:
        raise CallError(f"too many slice indexes: {len(places)}")
    if not isinstance(value, (str, list, tuple)):
        raise CallError(f"can't slice item of type {go_type(value)}")
    if isinstance(value, str) and len(places) == 3:
        raise CallError("cannot 3-index slice a string")
    content = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    ends = [_place(place, len(content)) for place in places]
    start, end = (ends + [0])[0], ends[1] if len(ends) > 1 else len(content)
    if start > end:
        raise CallError(f"invalid slice index: {start} > {end}")
    if len(ends) == 3 and end > ends[2]:
        raise CallError(f"invalid slice index: {end} > {ends[2]}")
    found = content[start:end]
    return found.decode("utf-8", "surrogateescape") if isinstance(found, bytes) else found


def _len(value: Any) -> int:
    if value is MISSING or value is None:
        raise CallError("reflect: call of reflect.Value.Type on zero Value")
    if value is NIL:
        raise CallError("len of nil pointer")
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, Struct) or not isinstance(value, (list, tuple, dict)):
        raise CallError(f"len of type {go_type(value)}")
    return len(value)


# -- printing --------------------------------------------------------------------------------------


def _given(value: Any) -> Any:
    """A missing value has become a nil when it gets to fmt."""
    return NIL if value is MISSING else value


def _print(*values: Any) -> str:
    """With spaces between operands of which neither is a string (fmt.Sprint)."""
    found = ""
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            found += " "
        found += go_values.text(_given(value))
    return found


def _println(*values: Any) -> str:
    return " ".join(go_values.text(_given(value)) for value in values) + "\n"


def _printf(text: str, *values: Any) -> str:
    from rdock.cli import go_format

    return go_format.sprintf(text, [_given(value) for value in values])


def _joined(values: tuple[Any, ...]) -> str:
    """The text of arguments that are to be escaped."""
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return _print(*("<no value>" if value is MISSING else value for value in values))


_HTML = {"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def _html(*values: Any) -> str:
    return "".join(_HTML.get(character, character) for character in _joined(values))


def _js(*values: Any) -> str:
    return "".join(
        _JS.get(c, c) if c in _JS or (c >= " " and (c < "\x7f" or c.isprintable())) else f"\\u{ord(c):04X}"
        for c in _joined(values)
    )


def _urlquery(*values: Any) -> str:
    raw = _joined(values).encode("utf-8", "surrogateescape")
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~"
    return "".join("+" if byte == 32 else chr(byte) if byte in plain else f"%{byte:02X}" for byte in raw)


# -- Docker's --------------------------------------------------------------------------------------


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _title(text: str) -> str:
    """Each word's first letter as a capital; what comes behind a letter, digit or `_` is no first letter."""
    found, before = [], " "
    for character in text:
        inside = before.isalnum() or before == "_"
        found.append(character if inside else _letters(character, str.title))
        before = character
    return "".join(found)


def _letters(text: str, change: Callable[[str], str]) -> str:
    """Letter by letter, as Go does: one that would become two stays."""
    return "".join(changed if len(changed := change(letter)) == 1 else letter for letter in text)


def _pad(text: str, before: int, after: int) -> str:
    if not text:
        return text
    if before < 0 or after < 0:
        raise CallError("strings: negative Repeat count")
    return " " * min(before, MAX_WIDTH) + text + " " * min(after, MAX_WIDTH)


def _truncate(text: str, length: int) -> str:
    if length < 0:
        raise CallError(f"runtime error: slice bounds out of range [:{length}]")
    raw = text.encode("utf-8", "surrogateescape")
    return raw[:length].decode("utf-8", "surrogateescape") if length < len(raw) else text


_TEXT = ("string",)
FUNCTIONS: dict[str, Function] = {
    "and": Function(lambda first, *_: first, ("any",), True),
    "or": Function(lambda first, *_: first, ("any",), True),
    "not": Function(lambda value: not is_true(value), ("any",)),
    "eq": Function(_eq, ("any",), True),
    "ne": Function(lambda first, other: not _eq(first, other), ("any", "any")),
    "lt": Function(_less, ("any", "any")),
    "le": Function(lambda first, other: _less(first, other) or _eq(first, other), ("any", "any")),
    "gt": Function(lambda first, other: not (_less(first, other) or _eq(first, other)), ("any", "any")),
    "ge": Function(lambda first, other: not _less(first, other), ("any", "any")),
    "index": Function(_index, ("any",), True),
    "slice": Function(_slice, ("any",), True),
    "len": Function(_len, ("any",)),
    "print": Function(_print, (), True),
    "println": Function(_println, (), True),
    "printf": Function(_printf, _TEXT, True),
    "html": Function(_html, (), True),
    "js": Function(_js, (), True),
    "urlquery": Function(_urlquery, (), True),
    "json": Function(go_values.to_json, ("any",)),
    "split": Function(_split, ("string", "string")),
    "join": Function(lambda values, separator: separator.join(values), ("[]string", "string")),
    "title": Function(_title, _TEXT),
    "lower": Function(lambda text: _letters(text, str.lower), _TEXT),
    "upper": Function(lambda text: _letters(text, str.upper), _TEXT),
    "pad": Function(_pad, ("string", "int", "int")),
    "truncate": Function(_truncate, ("string", "int")),
}

# In a line of headings, what changes a value leaves the heading as it is.
HEADING_FUNCTIONS: dict[str, Function] = {
    **FUNCTIONS,
    **{name: Function(lambda text: text, _TEXT) for name in ("json", "title", "lower", "upper")},
    "truncate": Function(lambda text, _: text, ("string", "int")),
}
