"""JSON by the C parts of json: the same as json itself, errors included."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from rdock import jsontext

VALUES = [
    {},
    [],
    "",
    'tab\t "quoted" \\ é € 𝄞 \u2028 \x7f \x00',
    [1, -1, 0, 1.5, 1e300, True, False, None],
    {"a": {"b": [{"c": []}]}, "é": "ü"},
    2**70,
]
BAD = [
    "",
    " ",
    "{",
    "[1,]",
    '{"a"}',
    '{"a":1,}',
    "[1] 2",
    "1e999",
    "-1e999",
    "NaN",
    "[Infinity]",
    "'a'",
    '"a',
    "nul",
    "\x00",
    '"\x01"',
    "01",
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_there_and_back(value: object) -> None:
    text = jsontext.render(value)
    assert text == json.dumps(value, separators=(",", ":"))
    assert jsontext.parse(text) == value
    assert jsontext.parse(f" \n{text}\t ".encode()) == value


@pytest.mark.parametrize("text", BAD, ids=repr)
def test_malformed(text: str) -> None:
    with pytest.raises(ValueError):
        jsontext.parse(text)


def test_malformed_without_json_loaded() -> None:
    """The C scanner takes its error class from json, which a start does not load."""
    code = (
        "import sys; from rdock import jsontext\n"
        f"for text in {BAD!r}:\n"
        "    try: jsontext.parse(text)\n"
        "    except ValueError: continue\n"
        "    sys.exit(text)\n"
        "sys.exit('json was loaded' if 'json' in sys.modules else 0)"
    )
    assert subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '.'); {code}"]).returncode == 0


def test_not_utf8_too_deep_and_no_json() -> None:
    with pytest.raises(ValueError):
        jsontext.parse(b"\xff")
    with pytest.raises(RecursionError):
        jsontext.parse("[" * 100_000)
    for value in (float("nan"), object(), {1, 2}):
        with pytest.raises((TypeError, ValueError)):
            jsontext.render(value)


def test_quote() -> None:
    text = 'é "x"\n'
    assert jsontext.quote(text) == json.dumps(text, ensure_ascii=False)
