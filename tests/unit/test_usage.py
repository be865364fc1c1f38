"""The command line's grammar: every help text, the table made from them, and Docker's dialect."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from rdock.cli import main, usage
from rdock.errors import UsageError

COMMANDS = sorted(main.COMMANDS)
RUN = main.text_of(main.COMMANDS["run"])
RM = main.text_of(main.COMMANDS["rm"])


def parse(text: str, *words: str) -> usage.Options:
    found = usage.parse(text, "run", list(words))
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_its_function_and_its_text(name: str) -> None:
    command = main.COMMANDS[name]
    module, _, function = command.place.partition(":")
    assert callable(getattr(importlib.import_module(f"rdock.cli.{module}"), function))
    text = main.text_of(command)
    assert text.startswith(f"Usage:  rdock {name}")
    assert command.summary in text.replace("\n", " ")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_in_a_text_is_read_by_its_module(name: str) -> None:
    command = main.COMMANDS[name]
    module = importlib.import_module(f"rdock.cli.{command.place.partition(':')[0]}")
    source = inspect.getsource(module) + inspect.getsource(importlib.import_module("rdock.cli.output"))
    code = re.sub(r'_TEXT = """.*?"""', "", source, flags=re.DOTALL)
    for option in usage.compile_text(main.text_of(command)).options:
        assert f'"{option.long}"' in code or option.long in ("--volumes",), f"{name} {option.long} is never read"


def test_table_of_grammars_is_that_of_the_texts() -> None:
    with open(usage._table_path(), encoding="utf-8") as file:
        assert file.read() == usage.make_table(main.all_texts()), "make it anew with: python -m rdock.cli.usage"


@pytest.mark.parametrize("text", main.all_texts(), ids=lambda text: usage.usage_line(text)[8:40])
def test_grammar_from_the_table_equals_the_one_from_docopt(text: str) -> None:
    assert usage.grammar_of(text) == usage.compile_text(text)


def test_clusters_values_and_the_end_of_options() -> None:
    found = parse(RUN, "-it", "-eA=b", "-e", "C=d", "--env=E=f", "--name", "x", "image", "cmd", "-x", "--rm")
    assert found.flag("--interactive") and found.flag("--tty") and not found.flag("--rm")
    assert found.list("--env") == ["A=b", "C=d", "E=f"]
    assert found.text("--name") == "x"
    assert found.arguments == ["image", "cmd", "-x", "--rm"]


def test_options_may_follow_arguments_where_no_other_program_does() -> None:
    found = parse(RM, "a", "-f", "b")
    assert found.flag("--force") and found.arguments == ["a", "b"]
    assert parse(RM, "--", "-f").arguments == ["-f"]


def test_switches_take_values_and_repetition() -> None:
    assert not parse(RUN, "--rm=false", "i").flag("--rm")
    assert parse(RUN, "--rm", "--rm", "i").flag("--rm")
    assert parse(RUN, "--rm=false", "--rm=1", "i").flag("--rm")
    assert parse(RUN, "-h", "box", "i").text("--hostname") == "box"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope", "i"], "unknown flag: --nope"),
        (["--nam", "x", "i"], "unknown flag: --nam"),
        (["-x", "i"], "unknown shorthand flag: 'x' in -x"),
        (["-itx", "i"], "unknown shorthand flag: 'x' in -itx"),
        (["--name"], "flag needs an argument: --name"),
        (["-e"], "flag needs an argument: 'e' in -e"),
        (
            ["--rm=maybe", "i"],
            'invalid argument "maybe" for "--rm" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
    ],
)
def test_refusals_are_dockers(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        usage.parse(RUN, "run", words)
    assert refusal.value.message == message
    assert refusal.value.exit_code == 125


def test_number_of_arguments() -> None:
    with pytest.raises(UsageError) as refusal:
        usage.parse(RUN, "run", [])
    assert refusal.value.message == "'rdock run' requires at least 1 argument"
    assert refusal.value.exit_code == 1
    tag = main.text_of(main.COMMANDS["tag"])
    for words in (["a"], ["a", "b", "c"]):
        with pytest.raises(UsageError, match="requires 2 arguments"):
            usage.parse(tag, "tag", words)
