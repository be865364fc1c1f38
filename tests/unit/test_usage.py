"""The command line's grammar: every help text, the table made from them, and Docker's dialect."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys

import pytest

from rdock.cli import docker_names, main, usage
from rdock.errors import NotThereYet, UsageError

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


# -- what Docker has and rdock lacks -------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gpus", "all", "i"], "'rdock run --gpus' is not there yet"),
        (["--gpus=all", "i"], "'rdock run --gpus' is not there yet"),
        (["-itP", "i"], "'rdock run -P' (--publish-all) is not there yet"),
    ],
)
def test_options_of_docker_are_told_from_slips(words: list[str], message: str) -> None:
    with pytest.raises(NotThereYet) as refusal:
        usage.parse(RUN, "run", words)
    assert (refusal.value.message, refusal.value.hint, refusal.value.exit_code) == (message, "", 125)


def test_options_that_docker_knows_by_another_name() -> None:
    assert parse(RUN, "--net", "none", "i").text("--network") == "none"
    assert parse(RUN, "--net=host", "i").text("--network") == "host"
    with pytest.raises(UsageError, match="unknown flag: --net"):
        usage.parse(RM, "rm", ["--net", "x"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("builder prune", "'rdock builder' is not there yet"),
        ("compose up", "'rdock compose' is not there yet"),
        ("container rename a b", "'rdock container rename' is not there yet"),
        ("swarm init", "'rdock swarm' is not there: rdock is for one machine"),
    ],
)
def test_commands_of_docker_are_told_from_slips(words: str, message: str) -> None:
    with pytest.raises(NotThereYet) as refusal:
        main.find(words.split())
    assert (refusal.value.message, refusal.value.hint, refusal.value.exit_code) == (message, "", 125)


@pytest.mark.parametrize("words", ["nosuch", "container nosuch", "container build", "image run"])
def test_unknown_commands(words: str) -> None:
    with pytest.raises(UsageError, match=f"^unknown command: rdock {words}$"):
        main.find(words.split())


def test_names_of_docker_are_complete() -> None:
    """All that rdock has of Docker is in them, so that nothing is left out by oversight."""
    assert set(COMMANDS) - set(docker_names.names("")) == {"doctor"}
    for name in main.ALIASES:
        group, _, verb = name.partition(" ")
        assert verb in docker_names.names(group), name
    for name in COMMANDS:
        ours = {option.long for option in usage.compile_text(main.text_of(main.COMMANDS[name])).options}
        assert name == "doctor" or ours <= {long for _, long in docker_names.options(name)}, name


def test_page_of_a_group() -> None:
    page = main.group_page("image")
    for verb in ("ls", "load", "import", "tag", "rm", "inspect"):
        assert re.search(rf"^  {verb} ", page, re.MULTILINE), page


def test_number_of_arguments() -> None:
    with pytest.raises(UsageError) as refusal:
        usage.parse(RUN, "run", [])
    assert refusal.value.message == "'rdock run' requires at least 1 argument"
    assert refusal.value.exit_code == 1
    tag = main.text_of(main.COMMANDS["tag"])
    for words in (["a"], ["a", "b", "c"]):
        with pytest.raises(UsageError, match="requires 2 arguments"):
            usage.parse(tag, "tag", words)


def test_the_installed_command_takes_the_words_of_its_process() -> None:
    """As setuptools calls it: without arguments."""
    code = "import sys; sys.argv = ['rdock', '--version']; from rdock.cli.main import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("rdock version "), done.stderr
