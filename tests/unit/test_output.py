"""Tables, templates, sizes and ages, as Docker prints them."""

from __future__ import annotations

import time

import pytest

from rdock.cli import container_list, main, output, usage
from rdock.cli.commands import COMMANDS
from rdock.cli.template import render
from rdock.container import inspect
from rdock.container.config import Config, HostConfig
from rdock.container.containers import Container, State
from rdock.errors import InvalidParameter, printable
from rdock.state import timestamp

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
        ("{{json .}}", '{"Env":["A=1","B=2"],"Labels":{"b":"2","x.y":"1"},"Name":"a","Nothing":null,"On":true,"Size":3,'
         '"State":{"Health":null,"Pid":7}}'),
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
    ["{{.Name.Deeper}}", "{{nope .Name}}", "{{Name}}", "{{}}", "{{index .Env 9}}", '{{join .Env "}}',
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


def test_a_column_ends_where_no_line_goes_on() -> None:
    assert output.table([["a", "b", "c"], ["dddddddddd", "e"], ["f"], ["g", "h"]]) == [
        "a            b         c",
        "dddddddddd   e",
        "f",
        "g         h",
    ]


@pytest.mark.parametrize(
    ("status", "code", "ago", "text"),
    [
        ("created", 0, None, "Created"),
        ("running", 0, 5, "Up 5 seconds"),
        ("running", 0, 61, "Up About a minute"),
        ("paused", 0, 185, "Up 3 minutes (Paused)"),
        ("restarting", 1, 5, "Restarting (1) 5 seconds ago"),
        ("exited", 0, 3, "Exited (0) 3 seconds ago"),
        ("exited", 137, None, "Exited (137)"),
        ("removing", 0, None, "Removal In Progress"),
        ("dead", 0, None, "Dead"),
    ],
)
def test_statuses_are_dockers_sentences(status: str, code: int, ago: int | None, text: str) -> None:
    moment = timestamp.from_ns(time.time_ns() - ago * 10**9 - 10**8) if ago else ""
    state = State(started_at=moment, finished_at=moment, exit_code=code)
    assert container_list.status_text(state, status) == text


@pytest.mark.parametrize(
    ("exposed", "published", "text"),
    [
        ([], {}, ""),
        (["80/tcp"], {}, "80/tcp"),
        (["81/tcp", "80/tcp", "82/tcp", "90/tcp", "80/udp"], {}, "80-82/tcp, 90/tcp, 80/udp"),
        (["80/tcp"], {"80/tcp": [("0.0.0.0", "8080"), ("::", "8080")]}, "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
        ([], {"80/tcp": [("", "80")], "81/tcp": [("", "81")], "99/tcp": [("", "1")]},
         "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:1->99/tcp"),
        (["x", "7"], {}, "7/tcp"),
    ],
)  # fmt: skip
def test_ports_are_drawn_together(exposed: list[str], published: dict[str, list[tuple[str, str]]], text: str) -> None:
    bindings = {key: [{"HostIp": ip, "HostPort": port} for ip, port in each] for key, each in published.items()}
    config = Config(exposed_ports={key: {} for key in exposed})
    container = Container("a" * 64, "n", "", "", "", config, HostConfig(), "overlay", "auto")
    assert inspect.describe_ports(container, State(ports=bindings), "running") == text
    assert inspect.describe_ports(container, State(ports=bindings), "exited") == ""


def test_a_command_is_quoted_as_go_quotes() -> None:
    assert container_list._quoted('sh -c "a\\b"\n\x1b[m…') == r'"sh -c \"a\\b\"\n\x1b[m…"'


@pytest.mark.parametrize(
    ("words", "count"),
    [([], None), (["-n", "2"], 2), (["-n", "-1"], None), (["-n", "0"], None), (["-l"], 1), (["-l", "-n", "3"], 3),
     (["-l", "-n", "-1"], 1)],
)  # fmt: skip
def test_the_last_containers(words: list[str], count: int | None) -> None:
    options = usage.parse(main.text_of(COMMANDS["ps"]), "ps", words)
    assert options is not None
    assert container_list._last(options) == count
