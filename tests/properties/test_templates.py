"""Templates for --format: garbage is filled in or refused in one line, and what is printed as JSON is JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from rdock.cli.go_format import sprintf
from rdock.cli.go_values import MISSING, NIL, Map, NilSlice, Struct, to_json
from rdock.cli.inspect_types import typed
from rdock.cli.template import Template
from rdock.cli.template_functions import FUNCTIONS
from rdock.errors import InvalidParameter
from tests.properties.documents import JUNK

CONTAINER = typed(json.loads((Path(__file__).parents[1] / "cli" / "golden" / "container.json").read_text()))

# What the command line can pass: any characters, and bytes that are no UTF-8.
ARGUMENTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff"), max_size=5)
NUMBERS = st.sampled_from(
    ["0", "-1", "1e999", "0x" + "f" * 5000, "9" * 30, "9" * 5000, "9223372036854775807", "9223372036854775808", "1.5",
     "0x1p-2", "07", "08", "1_000", "0b1", "'a'", "'\\777'", "1e", "0x", "1i", ".5", "5.", "٣", "1e-400"]
)  # fmt: skip
STRINGS = st.sampled_from(
    ['""', '"a b"', "`raw`", '"\\777"', '"\\xff"', '"\\ud800"', '"\\U00110000"', '"%s %d %v"', '"%99999999d"',
     '"%*.*f"', '"%!"', '"%x %q %U %c"', '"\\٣٣٣"', '"\\x٣٣"', "`%[1]d`"]
)  # fmt: skip
FIELDS = st.sampled_from(
    [".", ".Id", ".Name", ".Config", ".Config.Env", ".Config.Labels", ".State.Pid", ".HostConfig.Nope",
     ".NetworkSettings", ".Mounts", "$", "$x", ".Config.Labels.a", "$.Config.Healthcheck"]
)  # fmt: skip
OPERANDS = NUMBERS | STRINGS | FIELDS | st.sampled_from([*FUNCTIONS, "true", "nil"])


def _in_action(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    calls = st.lists(inner, min_size=1, max_size=4).map(" ".join)
    pipes = st.lists(calls, min_size=1, max_size=3).map(" | ".join)
    return pipes | pipes.map(lambda text: f"({text})") | pipes.map(lambda text: f"({text}).Id")


PIPES = st.recursive(OPERANDS, _in_action, max_leaves=10)
# Well-formed as a whole, whatever the types are.
CALLS = st.tuples(
    st.sampled_from([*FUNCTIONS]), st.lists(NUMBERS | STRINGS | FIELDS | PIPES.map("({})".format), max_size=4)
).map(lambda call: "{{" + " ".join([call[0], *call[1]]) + "}}")
ACTIONS = st.tuples(st.sampled_from(["{{", "{{-", "{{- "]), PIPES, st.sampled_from(["}}", " }}", " -}}"])).map("".join)
WORDS = st.sampled_from(
    ["{{end}}", "{{else}}", "{{break}}", "{{continue}}", "{{/* c */}}", "{{- /* c */ -}}", "{{/*", "{{", "}}", "{",
     "table ", "\\t", "{{range $k, $x := .Config.Labels}}", "{{$x := 1}}", "{{$x = 2}}", "{{if $x}}", "{{define}}",
     "{{else if 1}}"]
)  # fmt: skip
BLOCKS = st.tuples(st.sampled_from(["if", "with", "range", "range $x :="]), PIPES, ACTIONS | CALLS).map(
    lambda block: "{{%s %s}}%s{{else}}other{{end}}" % block
)
TEMPLATES = st.lists(ACTIONS | CALLS | WORDS | BLOCKS | ARGUMENTS, max_size=6).map("".join)


@given(TEMPLATES)
@example("{{json 1e999}}")
@example("{{0x" + "f" * 5000 + "}}")
@example('{{"\\777"}}')
@example("{{'\\777'}}")
@example('{{printf "%d" 0x' + "f" * 5000 + "}}")
def test_a_template_is_filled_in_or_refused(text: str) -> None:
    for strict in (False, True):
        try:
            found = Template(text).render(CONTAINER, strict=strict, complaint="template parsing error: ")
        except InvalidParameter as e:
            assert e.message.startswith("template parsing error: template: ")
        else:
            found.encode("utf-8", "surrogateescape")
    try:
        Template(text).heading({"Id": "ID", "Name": "NAME"}).encode("utf-8", "surrogateescape")
    except InvalidParameter as e:
        assert e.message.startswith("template parsing error: template: ")


VALUES = JUNK.map(lambda value: value if value is not None else NIL) | st.sampled_from(
    [MISSING, NIL, None, NilSlice(), Map.of("", None), Struct({"A": 1, "B": NIL}), float("inf"), float("nan"), -0.0]
)
DIRECTIVES = st.builds(
    "%{}{}{}{}".format,
    st.text("-+# 0", max_size=3),
    st.sampled_from(["", "5", "*", "999"]),
    st.sampled_from(["", ".", ".3", ".*"]),
    st.sampled_from([*"vTtbcdoOqxXUeEfFgGspw%!", "", "é", "[1]d"]),
)


@given(st.lists(DIRECTIVES | ARGUMENTS, max_size=4).map("".join), st.lists(VALUES, max_size=4))
def test_a_format_is_filled_in_whatever_it_gets(text: str, values: list[Any]) -> None:
    assert isinstance(sprintf(text, values), str)


@given(st.integers(), st.integers(0, 40), st.sampled_from("dxXob"))
def test_integers_are_printed_as_by_any_printf(value: int, width: int, letter: str) -> None:
    assert sprintf(f"%{width}{letter}", [value]) == format(value, f"{width}{letter}")
    assert sprintf(f"%-{width}{letter}|", [value]) == format(value, f"<{width}{letter}") + "|"
    assert sprintf(f"%0{width}{letter}", [value]) == format(value, f"0{width}{letter}")


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 20), st.sampled_from("feE"))
def test_floats_are_printed_as_by_any_printf(value: float, digits: int, letter: str) -> None:
    assert sprintf(f"%.{digits}{letter}", [value]) == format(value, f".{digits}{letter}")


def _plain(value: Any) -> Any:
    """A value as JSON gives it back: without halves of surrogate pairs, which Go replaces."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value


@given(JUNK, st.sampled_from(["", "    "]), st.booleans())
def test_json_is_json(value: Any, indent: str, escape: bool) -> None:
    found = to_json(value, indent, escape_html=escape)
    assert json.loads(found) == _plain(value)
    assert not escape or not set("<>&") & set(found)
    assert indent or "\n" not in found
