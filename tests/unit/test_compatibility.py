"""Each command and option that Docker has is there, or is refused in one clear line; none is unknown.

What Docker has is in tests/payload/docker-cli.tsv and docker-commands.tsv.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

import pytest

from rdock.cli import commands, compatibility, docker_names, main, refusals, usage
from rdock.errors import NotThereYet, RdockError, Unsupported, UsageError
from tests.program import CHECKOUT

# Options that rdock has, and not as often as Docker: a container is in one network at most.
LESS_OFTEN = {("run", "--network"), ("create", "--network")}


def table(name: str) -> list[dict[str, str]]:
    with open(CHECKOUT / "tests" / "payload" / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


COMMANDS = table("docker-commands.tsv")
FLAGS = table("docker-cli.tsv")
CORE = [row["command"] for row in COMMANDS if row["scope"] == "core"]
CORE_FLAGS = [
    row for row in FLAGS if row["scope"] == "core" and row["command"] != "(global)" and row["long"] != "--help"
]


def spellings() -> Iterator[str]:
    for row in COMMANDS:
        yield row["command"]
        yield from filter(None, (alias.strip() for alias in row["aliases"].split(";")))


def grammar(command: str) -> usage.Grammar | None:
    """That of a command in any spelling; None if rdock lacks it."""
    try:
        name, _ = main.find(command.split())
    except Unsupported:
        return None
    return usage.grammar_of(main.text_of(commands.COMMANDS[name]))


def short_name(command: str) -> str:
    """The name under which docker_names has a command."""
    row = next(row for row in COMMANDS if row["command"] == command)
    names = [command, *(alias.strip() for alias in row["aliases"].split(";"))]
    return next((name for name in names if name in docker_names.commands()), command)


def is_one_line(error: RdockError) -> bool:
    return bool(error.message) and "\n" not in error.message and not error.hint and "unknown" not in error.message


@pytest.mark.parametrize("command", sorted(set(spellings())))
def test_command_is_there_or_refused(command: str) -> None:
    if command in main.groups():
        return  # shows its page
    try:
        name, rest = main.find(command.split())
    except Unsupported as e:
        assert is_one_line(e) and e.exit_code == 1
        assert isinstance(e, NotThereYet) or any(e.message.endswith(why) for why in refusals.COMMANDS.values())
        return
    assert name in commands.COMMANDS and all(word.startswith("--") for word in rest)


@pytest.mark.parametrize("row", CORE_FLAGS, ids=lambda row: f"{row['command']} {row['long']}")
def test_option_is_there_or_refused(row: dict[str, str]) -> None:
    command, short, long = short_name(row["command"]), row["short"], row["long"]
    assert (short, long) in docker_names.options(command), "docker_names.py lacks it"
    found = grammar(row["command"])
    if found is None:
        return
    options = {option.long: option for option in found.options}
    option = options.get(long) or options.get(docker_names.HIDDEN_SPELLINGS.get(long, ""))
    if option is None and docker_names.is_harmless(command, long):
        return
    if option is None:
        error = docker_names.missing_option(command, long)
        assert isinstance(error, Unsupported) and is_one_line(error) and error.exit_code == 125
        return
    if long in options:
        assert option.short == short
        assert (row["hidden"] == "no") or long not in docker_names.HIDDEN_SPELLINGS, "it is not to be shown"
    assert (option.kind == "bool") == (row["value_type"] == "bool"), option.kind
    if (command, option.long) not in LESS_OFTEN:
        assert (option.kind in usage._PLURAL) == (row["repeatable"] != "no"), option.kind


@pytest.mark.parametrize("row", [row for row in FLAGS if row["command"] == "(global)"], ids=lambda row: row["long"])
def test_global_option_is_understood(row: dict[str, str]) -> None:
    options = {option.long: option for option in usage.grammar_of(main.all_texts()[0]).options}
    option = options[row["long"]]
    assert option.short == row["short"] and (option.kind == "bool") == (row["value_type"] == "bool")


@pytest.mark.parametrize("name", docker_names.commands())
def test_names_have_nothing_that_docker_lacks(name: str) -> None:
    """So that no slip in a table makes rdock promise what Docker never had."""
    assert name in set(spellings())
    known = {row["long"] for row in CORE_FLAGS if short_name(row["command"]) == name}
    assert {long for _, long in docker_names.options(name)} == known


def test_refusals_are_of_what_docker_has() -> None:
    known = {row["long"] for row in FLAGS}
    assert set(refusals.OPTIONS) <= known
    for command, options in refusals._OF_COMMANDS.items():
        assert set(options.split()) <= {long for _, long in docker_names.options(command)}, command
    assert set(refusals.COMMANDS) <= {*spellings(), "container checkpoint"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cpu-count", "2", "i"], "'rdock run --cpu-count' is not supported: only Docker on Windows has it"),
        (["--io-maxiops=2", "i"], "'rdock run --io-maxiops' is not supported: only Docker on Windows has it"),
    ],
)
def test_refusals_say_why(words: list[str], message: str) -> None:
    with pytest.raises(Unsupported) as refusal:
        usage.parse(main.text_of(commands.COMMANDS["run"]), "run", words)
    assert (refusal.value.message, refusal.value.hint, refusal.value.exit_code) == (message, "", 125)


def test_switch_that_changes_nothing() -> None:
    text = main.text_of(commands.COMMANDS["run"])
    for word in ("--disable-content-trust", "--disable-content-trust=true"):
        found = usage.parse(text, "run", [word, "--rm", "i"])
        assert found is not None and found.flag("--rm") and found.arguments == ["i"]
    with pytest.raises(UsageError, match="unknown flag: --disable-content-trust"):
        usage.parse(main.text_of(commands.COMMANDS["rm"]), "rm", ["--disable-content-trust", "x"])


# -- the page and the table ------------------------------------------------------------------------

ANEW = "make it anew with: python -m rdock.cli.compatibility"


def test_page_is_that_of_the_code() -> None:
    assert (CHECKOUT / "docs" / "compatibility.md").read_text() == compatibility.page(), ANEW


def test_table_in_the_readme_is_that_of_the_code() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    assert readme == compatibility.with_summary(readme), ANEW


def test_page_tells_of_each_command_and_option_once() -> None:
    told: dict[str, Any] = {command.name: command for command in compatibility.all_commands()}
    for command in CORE:
        if any(row["command"] == command and row["kind"] == "leaf" for row in COMMANDS):
            assert short_name(command) in told, command
    for command in told.values():
        names = [*command.options, *command.missing, *(option for option, _ in command.refused)]
        hidden = docker_names.HIDDEN_SPELLINGS if command.there else {}
        assert sorted(names) == sorted(long for _, long in docker_names.options(command.name) if long not in hidden)
