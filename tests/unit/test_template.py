"""Templates beside Docker's client: what that printed of the object in golden/container.json, and what it refused.

golden/templates.json was made with docker 28.2 and an API that answered with this object: a template, whether
it is filled in or refused, and the text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rdock.cli import inspect
from rdock.cli.go_values import MISSING, NIL, Map, NilSlice, Struct, float_text, to_json
from rdock.cli.inspect_types import typed
from rdock.cli.template import Template, render
from rdock.errors import InvalidParameter

GOLDEN = Path(__file__).parents[1] / "cli" / "golden"
CONTAINER: dict[str, Any] = json.loads((GOLDEN / "container.json").read_text())
CASES: list[tuple[str, str, str]] = json.loads((GOLDEN / "templates.json").read_text())


@pytest.mark.parametrize(("template", "kind", "text"), CASES, ids=[case[0] for case in CASES])
def test_templates_print_what_docker_prints(template: str, kind: str, text: str) -> None:
    if kind == "text":
        assert inspect._fill_in(Template(template), CONTAINER) == text
    else:
        with pytest.raises(InvalidParameter) as refusal:
            inspect._fill_in(Template(template), CONTAINER)
        assert refusal.value.message == text


def test_the_golden_cases_are_many() -> None:
    assert sum(kind == "text" for _, kind, _ in CASES) > 150 < len(CASES) - 50


@pytest.mark.parametrize(
    "template",
    [
        "{{range $i := .Config.Env}}" * 101 + "{{end}}" * 101,
        "{{" + "(" * 200 + "1" + ")" * 200 + "}}",
        "{{if true}}" + "{{else if true}}" * 2000 + "{{end}}",
        "{{range 1000000000}}x{{end}}",
        "{{range 1000000}}{{range 1000000}}{{end}}{{end}}",
        '{{range 1000000}}{{printf "%99999s" "x"}}{{end}}',
    ],
)  # fmt: skip
def test_what_would_never_end_is_refused(template: str) -> None:
    with pytest.raises(InvalidParameter):
        render(template, CONTAINER)


@pytest.mark.parametrize(
    "template",
    ['{{printf "%999999999999999999d" 1}}', '{{pad "a" 999999999 1}}', '{{printf "%.999999999f" 1.0}}',
     '{{printf "%*d" 99999999999 1}}'],
)  # fmt: skip
def test_widths_are_bounded(template: str) -> None:
    assert len(render(template, {})) < 1 << 22


def test_what_is_missing_in_json_is_an_error_and_in_a_map_is_not() -> None:
    assert Template("{{.Nope}}").render({}) == "<no value>"
    assert Template("{{.Nope}}").render({"Nope": None}) == "<no value>"
    with pytest.raises(InvalidParameter, match='map has no entry for key "Nope"'):
        Template("{{.Nope}}").render({}, strict=True)
    with pytest.raises(InvalidParameter, match="can't evaluate field Nope in type struct"):
        Template("{{.Nope}}").render(Struct())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        (Struct({"b": 1, "a": NIL}), '{"b":1,"a":null}'),
        (Map.of("", None), "null"),
        (Map.of("", {}), "{}"),
        (NilSlice(), "null"),
        (MISSING, "null"),
        ("\u2028<&>\x7f\x01", '"\\u2028<&>\x7f\\u0001"'),
        (b"a\xff".decode("utf-8", "surrogateescape"), '"a\ufffd"'),
    ],
)
def test_json_is_gos(value: Any, text: str) -> None:
    assert to_json(value) == text


def test_json_in_lines() -> None:
    assert to_json([{"a": [], "b": {}, "c": [1, 2]}], "    ") == (
        '[\n    {\n        "a": [],\n        "b": {},\n        "c": [\n            1,\n            2\n'
        "        ]\n    }\n]"
    )
    assert to_json({"a": "<&>"}, escape_html=True) == '{"a":"\\u003c\\u0026\\u003e"}'


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.0, "1"), (-1.5, "-1.5"), (999999.5, "999999.5"), (1e6, "1e+06"), (1234567.0, "1.234567e+06"),
     (0.0001, "0.0001"), (0.00001, "1e-05"), (1e100, "1e+100"), (0.1, "0.1"), (float("inf"), "+Inf"),
     (float("nan"), "NaN")],
)  # fmt: skip
def test_floats_have_the_shortest_digits(value: float, text: str) -> None:
    assert float_text(value) == text


def test_fields_have_their_go_names_too() -> None:
    found = typed({"Id": "x", "HostConfig": {"Dns": ["1.1.1.1"]}})
    assert render("{{.ID}} {{.Id}} {{.HostConfig.DNS}}", found) == "x x [1.1.1.1]"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{9223372036854775808}}", 'integer overflow: "9223372036854775808"'),
        ("{{" + "9" * 5000 + "}}", "integer overflow"),
        ("{{0x" + "f" * 5000 + "}}", "integer overflow"),
        ("{{json 1e999}}", 'illegal number syntax: "1e999"'),
        ('{{"\\777"}}', "invalid syntax"),
        ('{{"\\٣٣٣"}}', "invalid syntax"),
        ('{{"\\x_1"}}', "invalid syntax"),
        ("{{'\\777'}}", "malformed character constant"),
    ],
)
def test_numbers_and_bytes_that_go_cannot_hold(template: str, problem: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        Template(template)
    assert problem in refusal.value.message


def test_the_largest_and_smallest_numbers() -> None:
    assert render("{{9223372036854775807}} {{-9223372036854775808}} {{0x7fffffffffffffff}}", {}) == (
        "9223372036854775807 -9223372036854775808 9223372036854775807"
    )
    assert render('{{"\\377"}}', {}) == "\udcff"


def test_a_zero_may_be_negative() -> None:
    assert render('{{printf "%f %.0f %e %v %+f" -0.0 -0.0 -0.0 -0.0 0.0}}', {}) == (
        "-0.000000 -0 -0.000000e+00 -0 +0.000000"
    )
