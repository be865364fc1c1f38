"""JSON texts (RFC 8259) to values and back, by the C parts of the standard library's json alone.

The Python part of `json` brings `re` and `enum` with it, six milliseconds for what a container's start
does a dozen times. Should a Python come whose `_json` is another one, the tests of this module say so.
"""

from __future__ import annotations

from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parse(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, RecursionError, for NaN and what no float can hold, too."""
    if not isinstance(text, str):
        text = text.decode()
    start = len(text) - len(text.lstrip(" \t\n\r"))
    try:
        value, end = _scan(text, start)
    except StopIteration as e:
        raise ValueError(f"no JSON value at character {e.value}") from None
    except SystemError:
        # The scanner has an error to tell, and finds its class only where json is loaded.
        raise ValueError("malformed JSON") from None
    if text[end:].strip(" \t\n\r"):
        raise ValueError(f"more than one JSON value, from character {end}")
    return value


def render(value: Any) -> str:
    """A value as compact JSON in ASCII. Raises TypeError or ValueError for what JSON cannot hold."""
    return "".join(_encode(value, 0))


def quote(text: str) -> str:
    """A string as JSON, with letters beyond ASCII as they are."""
    return encode_basestring(text)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    """A number that can be written again, which infinity cannot."""
    number = float(text)
    if number - number != 0:
        raise ValueError(f"number out of range: {text[:20]}")
    return number


def _no_value(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} is no JSON")


class _Context:
    """What the scanner wants to know."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = staticmethod(_finite)
    parse_int = int
    parse_constant = staticmethod(_no_constant)
    memo: dict[str, str] = {}


_scan = make_scanner(_Context())  # type: ignore[arg-type]
# Without markers: what rdock renders is made by itself and has no cycles.
_encode = make_encoder(None, _no_value, encode_basestring_ascii, None, ":", ",", False, False, False)
