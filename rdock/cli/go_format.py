"""Go's fmt.Sprintf, for the `printf` of templates."""

from __future__ import annotations

from rdock.cli import go_values
from rdock.cli.go_values import NIL, Struct
from rdock.cli.template_functions import MAX_WIDTH, go_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Verb:
    """One %-sequence: its flags, width, precision and letter."""

    def __init__(self) -> None:
        self.flags = ""
        self.width = 0
        self.precision: int | None = None
        self.letter = ""

    def has(self, flag: str) -> bool:
        return flag in self.flags


def sprintf(text: str, values: list[Any]) -> str:
    """Go's complaints are part of the text: `%!d(string=x)`, `%!v(MISSING)`, `%!(EXTRA int=1)`."""
    found: list[str] = []
    at = used = 0
    while at < len(text):
        sign = text.find("%", at)
        if sign < 0:
            break
        found.append(text[at:sign])
        verb, at, used = _read(text, sign + 1, values, used)
        if not verb.letter:
            found.append("%!(NOVERB)")
        elif verb.letter == "%":
            found.append("%")
        elif used >= len(values):
            found.append(f"%!{verb.letter}(MISSING)" if used >= len(values) else "")
        else:
            found.append(_shown(verb, values[used]))
            used += 1
    found.append(text[at:])
    if used < len(values):
        extra = ", ".join(f"{go_type(value)}={go_values.text(value)}" if value is not NIL else "<nil>"
                          for value in values[used:])  # fmt: skip
        found.append(f"%!(EXTRA {extra})")
    return "".join(found)


def _read(text: str, at: int, values: list[Any], used: int) -> tuple[_Verb, int, int]:
    verb = _Verb()
    while at < len(text) and text[at] in "-+# 0":
        verb.flags += text[at]
        at += 1
    width, at, used = _number(text, at, values, used)
    if width is not None and width < 0:
        verb.flags += "-"
        width = -width
    verb.width = min(width or 0, MAX_WIDTH)
    if text[at : at + 1] == ".":
        precision, at, used = _number(text, at + 1, values, used)
        verb.precision = min(max(precision or 0, 0), MAX_WIDTH)
    verb.letter = text[at : at + 1]
    return verb, at + 1, used


def _number(text: str, at: int, values: list[Any], used: int) -> tuple[int | None, int, int]:
    if text[at : at + 1] == "*":
        value = values[used] if used < len(values) else None
        return (value if isinstance(value, int) else None), at + 1, used + 1
    end = at
    while end < len(text) and text[end] in "0123456789":
        end += 1
    return (int(text[at : min(end, at + 8)]) if end > at else None), end, used


def _shown(verb: _Verb, value: Any) -> str:
    if verb.letter == "T":
        return _padded(verb, "<nil>" if value is NIL or value is None else go_type(value))
    if value is NIL or value is None:
        return _padded(verb, "<nil>") if verb.letter == "v" else f"%!{verb.letter}(<nil>)"
    if isinstance(value, (list, tuple)) and not (verb.letter == "v" and verb.has("#")):
        return "[" + " ".join(_shown(verb, item) for item in value) + "]"
    if isinstance(value, dict):
        return ("&" if isinstance(value, Struct) and value.is_pointer else "") + _object(verb, value)
    for kind, show in _KINDS:
        if isinstance(value, kind):
            found = show(verb, value)
            return f"%!{verb.letter}({go_type(value)}={go_values.text(value)})" if found is None else found
    return go_values.text(value)


def _object(verb: _Verb, value: dict[str, Any]) -> str:
    if isinstance(value, Struct):
        named = verb.letter == "v" and (verb.has("+") or verb.has("#"))
        fields = ((name, value.field(name)) for name in value.names())
        return "{" + " ".join((f"{name}:" if named else "") + _shown(verb, item) for name, item in fields) + "}"
    return "map[" + " ".join(f"{_shown(verb, key)}:{_shown(verb, value[key])}" for key in sorted(value)) + "]"


def _padded(verb: _Verb, text: str, *, zero: bool = False) -> str:
    if verb.has("-"):
        return text.ljust(verb.width)
    if zero and verb.has("0"):
        sign = text[:1] if text[:1] in ("-", "+", " ") else ""
        return sign + text[len(sign) :].rjust(verb.width - len(sign), "0")
    return text.rjust(verb.width)


def _bool(verb: _Verb, value: bool) -> str | None:
    return _padded(verb, "true" if value else "false") if verb.letter in "tv" else None


def _int(verb: _Verb, value: int) -> str | None:
    letter = "d" if verb.letter == "v" else verb.letter
    if letter in "doxXbO":
        digits = {"d": "d", "o": "o", "O": "o", "x": "x", "X": "X", "b": "b"}[letter]
        text = format(abs(value), digits)
        if verb.precision is not None:
            text = text.rjust(verb.precision, "0") if value or verb.precision else ""
        prefix = "0o" if letter == "O" else {"x": "0x", "X": "0X", "b": "0b", "o": "0"}.get(letter, "")
        text = (prefix if verb.has("#") or letter == "O" else "") + text
        return _padded(verb, _signed(verb, text, value < 0), zero=verb.precision is None)
    if letter in "cqU":
        valid = 0 <= value < 0x110000 and not 0xD800 <= value < 0xE000
        character = chr(value) if valid else "\ufffd"
        if letter == "U":
            return _padded(verb, f"U+{value:04X}" + (f" '{character}'" if verb.has("#") else ""))
        return _padded(verb, character if letter == "c" else f"'{_escape(character, chr(39))}'")
    return None


def _float(verb: _Verb, value: float) -> str | None:
    letter, precision = verb.letter, verb.precision
    if letter not in "vfFeEgG":
        return None
    if letter in "vgG" and precision is None:
        text = go_values.float_text(abs(value))
        text = text.upper() if letter == "G" else text
    else:
        digits = 6 if precision is None else precision
        text = format(abs(value), f".{digits}{'g' if letter == 'v' else letter}")
    sign = str(value).startswith("-")  # which zero may have, too
    return _padded(verb, _signed(verb, text.removeprefix("+"), sign), zero="n" not in text.lower())


def _signed(verb: _Verb, text: str, negative: bool) -> str:
    plus = verb.has("+") and verb.letter != "v"  # %+v has names of fields instead
    return ("-" if negative else "+" if plus else " " if verb.has(" ") else "") + text


def _string(verb: _Verb, value: str) -> str | None:
    if verb.precision is not None and verb.letter in "svq":
        value = value[: verb.precision]
    if verb.letter in "xX":
        raw = value.encode("utf-8", "surrogateescape")
        raw = raw[: verb.precision]
        text = raw.hex(" ") if verb.has(" ") else raw.hex()
        return _padded(verb, text.upper() if verb.letter == "X" else text)
    if verb.letter == "q" or (verb.letter == "v" and verb.has("#")):
        return _padded(
            verb, f"`{value}`" if verb.letter == "q" and verb.has("#") and _is_plain(value) else quote(value)
        )
    return _padded(verb, value) if verb.letter in "sv" else None


def _is_plain(text: str) -> bool:
    return "`" not in text and text.replace("\t", "").isprintable()


_NAMES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}


def quote(text: str) -> str:
    """strconv.Quote."""
    return f'"{"".join(_escape(character, chr(34)) for character in text)}"'


def _escape(character: str, quotation: str) -> str:
    code = ord(character)
    if character == quotation:
        return "\\" + character
    if character in _NAMES:
        return _NAMES[character]
    if character.isprintable():
        return character
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_KINDS: tuple[tuple[type, Callable[[_Verb, Any], str | None]], ...] = (
    (bool, _bool), (int, _int), (float, _float), (str, _string),
)  # fmt: skip
