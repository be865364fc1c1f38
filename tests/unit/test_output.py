"""Tables, templates, sizes and ages, as Docker prints them."""

from __future__ import annotations

import time

import pytest

from rdock.cli import container_list, main, output, usage
from rdock.cli.template import render
from rdock.errors import InvalidParameter, printable

ITEM = {
    "Name": "a", "Size": 3, "On": True, "State": {"Pid": 7, "Health": None}, "Env": ["A=1", "B=2"],
    "Labels": {"x.y": "1", "b": "2"}, "Nothing": None,
}  # fmt: skip


def test_a_table_is_padded_as_docker_pads_it() -> None:
    assert output.table([["REPOSITORY", "TAG", "SIZE"], ["a-long-name", "1", "5MB"]]) == [
        "REPOSITORY    TAG       SIZE",
        "a-long-name   1         5MB",
    ]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Name}}", "a"),
        ("{{ .Name }}-{{.Size}}", "a-3"),
        ("{{.On}} {{.State.Pid}}", "true 7"),
        ("{{json .}}", '{"Name":"a","Size":3,"On":true,"State":{"Pid":7,"Health":null},"Env":["A=1","B=2"],'
         '"Labels":{"x.y":"1","b":"2"},"Nothing":null}'),
        ("{{json .Env}}", '["A=1","B=2"]'),
        ("{{.Env}} {{.Labels}}", "[A=1 B=2] map[b:2 x.y:1]"),
        ('{{join .Env ", "}}', "A=1, B=2"),
        ('{{index .Labels "x.y"}}{{index .Env 1}}', "1B=2"),
        ("{{.Name | upper | json}}", '"A"'),
        ("{{len .Env}}", "2"),
        ("{{.Nothing}}", "<no value>"),
        ("{{.State.None}}", "<no value>"),
        ("plain", "plain"),
    ],
)  # fmt: skip
def test_templates(template: str, text: str) -> None:
    assert render(template, ITEM) == text


@pytest.mark.parametrize(
    "template",
    ["{{.Missing}}", "{{.Name.Deeper}}", "{{nope .Name}}", "{{Name}}", "{{}}", "{{index .Env 9}}", '{{join .Env "}}',
     "{{.Name .Size}}", "{{upper}}"],
)  # fmt: skip
def test_wrong_templates_are_refused(template: str) -> None:
    with pytest.raises(InvalidParameter):
        render(template, ITEM)


@pytest.mark.parametrize(
    ("count", "digits", "text"),
    [(0, 4, "0B"), (999, 4, "999B"), (1000, 4, "1kB"), (1234567, 4, "1.235MB"), (1234567, 3, "1.23MB"),
     (164038818, 3, "164MB"), (999_900_000, 3, "1000MB"), (10**15, 4, "1PB"), (5 * 10**18, 4, "5000PB")],
)  # fmt: skip
def test_sizes(count: int, digits: int, text: str) -> None:
    assert output.size(count, digits) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (119, "About a minute"),
     (120, "2 minutes"), (3599, "59 minutes"), (3600, "About an hour"), (5399, "About an hour"), (5400, "2 hours"),
     (47 * 3600, "47 hours"), (48 * 3600, "2 days"), (13 * 86400, "13 days"), (14 * 86400, "2 weeks"),
     (59 * 86400, "8 weeks"), (60 * 86400, "2 months"), (729 * 86400, "24 months"), (730 * 86400, "2 years"),
     (-100, "Less than a second")],
)  # fmt: skip
def test_ages(seconds: int, text: str) -> None:
    assert output.age(time.time() - seconds - 0.2) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ümläut 日本 🐳", "plain, ümläut 日本 🐳"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("\x7f\x9b2J", r"\x7f\x9b2J"),
        ("\u202etxt.exe", r"\u202etxt.exe"),
        (b"\xff\x9b".decode("utf-8", "surrogateescape"), r"\xff\x9b"),
        ("back\\slash 'quoted'", "back\\slash 'quoted'"),
    ],
)
def test_what_would_steer_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_command_is_quoted_as_go_quotes() -> None:
    assert container_list._quoted('sh -c "a\\b"\n\x1b[m…') == r'"sh -c \"a\\b\"\n\x1b[m…"'


@pytest.mark.parametrize(
    ("words", "count"),
    [([], None), (["-n", "2"], 2), (["-n", "-1"], None), (["-n", "0"], None), (["-l"], 1), (["-l", "-n", "3"], 3),
     (["-l", "-n", "-1"], 1)],
)  # fmt: skip
def test_the_last_containers(words: list[str], count: int | None) -> None:
    options = usage.parse(main.text_of(main.COMMANDS["ps"]), "ps", words)
    assert options is not None
    assert container_list._last(options) == count
