"""What Go's templates and encoder know of a value and JSON does not, and how Go prints such values.

A JSON object is a struct, whose fields are known and keep their order, or a map; null is a nil slice, map or
pointer. `--format` shows the difference, so objects for it are made of the classes here. Plain dicts are maps
with values of any kind.
"""

from __future__ import annotations

from rdock import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Fields = dict[str, Any]
else:
    Fields = dict


class Missing:
    """No value at all: what a map has for a key that is not in it. Prints as `<no value>`."""

    def __bool__(self) -> bool:
        return False


class Nil:
    """A nil pointer. Prints as `<nil>`."""

    def __bool__(self) -> bool:
        return False


MISSING, NIL = Missing(), Nil()


class NilSlice(list):  # type: ignore[type-arg]
    """An empty list that is null in JSON."""


class Time(str):
    """A time.Time, of the text that it is in JSON (RFC 3339, in UTC)."""

    @property
    def shown(self) -> str:
        """As Go prints it: `2024-05-01 12:00:00.5 +0000 UTC`."""
        return f"{self.removesuffix('Z').replace('T', ' ')} +0000 UTC"


class Map(Fields):
    """A map whose values are all of one type; `zero` is what `index` gives for a missing key."""

    zero: Any = MISSING
    is_nil = False

    @classmethod
    def of(cls, zero: Any, found: Fields | None) -> Map:
        made = cls(found or {})
        made.zero, made.is_nil = zero, found is None
        return made


class Struct(Fields):
    """A struct: its fields in order; `hidden` are those that JSON omits; methods take arguments."""

    type_name = "struct"
    hidden: Fields = {}
    is_pointer = False
    escapes_html = False
    """Whether it turns itself to JSON, and does so with <, > and & escaped."""

    def members(self) -> Fields:
        """What JSON shows of it."""
        return self

    def names(self) -> list[str]:
        """All fields in the order of the struct."""
        return [*self, *self.hidden]

    def field(self, name: str) -> Any:
        """The value of a field; MISSING if the struct has none of this name."""
        return self[name] if name in self else self.hidden.get(name, MISSING)

    def method(self, name: str, arguments: list[Any]) -> Any:
        """What a method answers; MISSING if there is none of this name. Raises TypeError for wrong arguments."""
        return MISSING


def text(value: Any) -> str:
    """A value as Go's fmt prints it with %v."""
    if isinstance(value, str):
        return value.shown if isinstance(value, Time) else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return float_text(value)
    if value is MISSING:
        return "<no value>"
    if value is None or value is NIL:
        return "<nil>"
    if isinstance(value, Struct):
        return "{" + " ".join(text(value.field(name)) for name in value.names()) + "}"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(text, value)) + "]"
    return str(value)


def float_text(value: float) -> str:
    """As %v prints a float64: the shortest digits, an exponent from 1e6 on and below 1e-4."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return repr(value).removesuffix(".0")
    # As many digits as tell it from its neighbours.
    found = next(shown for digits in range(17) if float(shown := f"{value:.{digits}e}") == value)
    digits_, _, exponent = found.partition("e")
    return f"{digits_}e{exponent[0]}{int(exponent[1:]):02d}"


def to_json(value: Any, indent: str = "", *, escape_html: bool = False) -> str:
    """A value as Go's encoding/json writes it: maps sorted by key, structs in order, nil as null.

    With `indent` each member has a line of its own. `escape_html` turns `<`, `>` and `&` to \\u003c and so on.
    """
    found = _encode(value, "\n" if indent else "", indent)
    if escape_html:
        # They stand only in strings.
        found = found.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return found


def _encode(value: Any, line: str, indent: str) -> str:
    if isinstance(value, str):
        return _quote(value)
    if value is None or value is NIL or value is MISSING or isinstance(value, NilSlice):
        return "null"
    if isinstance(value, (list, tuple)):
        inner = line + indent
        return _enclose("[", [_encode(item, inner, indent) for item in value], "]", line, inner)
    if isinstance(value, dict):
        if isinstance(value, Struct) and value.escapes_html:
            return to_json(value.members(), escape_html=True)
        if isinstance(value, Map) and value.is_nil:
            return "null"
        inner, colon = line + indent, ": " if indent else ":"
        names = value if isinstance(value, Struct) else sorted(value)
        members = [f"{_quote(name)}{colon}{_encode(value[name], inner, indent)}" for name in names]
        return _enclose("{", members, "}", line, inner)
    return jsontext.render(value)


def _enclose(start: str, members: list[str], end: str, line: str, inner: str) -> str:
    if not members:
        return start + end
    return f"{start}{inner}{(',' + inner).join(members)}{line}{end}"


def _quote(found: str) -> str:
    quoted = jsontext.quote(found)
    if not quoted.isascii():
        # JavaScript takes these two for line ends; bytes that are no UTF-8 are replaced.
        quoted = quoted.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
        quoted = quoted.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        if "\ufffd\ufffd\ufffd" in quoted:
            quoted = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in jsontext.quote(found))
    return quoted
