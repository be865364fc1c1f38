"""The command line's grammar: every help text, the table made from them, and Docker's dialect."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys

import pytest

from rdock.cli import docker_names, help, main, usage
from rdock.cli.commands import ALIASES, COMMANDS
from rdock.errors import NotThereYet, UsageError

# Options that are podman's.
# Options and commands that podman has beside Docker's.
PODMANS = {
    **{name: {"--init-path", "--own", "--replace", "--rootfs"} for name in ("run", "create")},
    **{name: {"--latest"} for name in ("attach", "exec", "kill", "pause", "restart", "rm", "stop", "unpause", "wait")},
    "search": {"--list-tags"},
    "commit": {"--iidfile", "--quiet"},
    "save": {"--compression", "--format"},
    "start": {"--latest", "--sig-proxy"},
    "update": {"--label", "--name"},
}
PODMANS_COMMANDS = {
    "container clone", "container exists", "image diff", "image exists", "image mount", "image unmount", "image untag",
    "container mount", "container umount", "container unmount", "mount", "system check", "umount", "unmount", "unshare",
    "untag", "volume export", "volume import",
}  # fmt: skip
RUN = main.text_of(COMMANDS["run"])
RM = main.text_of(COMMANDS["rm"])


def parse(text: str, *words: str) -> usage.Options:
    found = usage.parse(text, "run", list(words))
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_its_function_and_its_text(name: str) -> None:
    command = COMMANDS[name]
    module, _, function = command.place.partition(":")
    assert callable(getattr(importlib.import_module(f"rdock.cli.{module}"), function))
    text = main.text_of(command)
    assert text.startswith(f"Usage:  rdock {name}")
    assert command.summary in text.replace("\n", " ")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_in_a_text_is_read_by_its_module(name: str) -> None:
    command = COMMANDS[name]
    module = importlib.import_module(f"rdock.cli.{command.place.partition(':')[0]}")
    source = inspect.getsource(module) + inspect.getsource(importlib.import_module("rdock.cli.output"))
    if name in ("run", "create"):
        for part in ("container_options", "container_create"):
            source += inspect.getsource(importlib.import_module(f"rdock.cli.{part}"))
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
        (["-itm", "1g", "i"], "'rdock run -m' (--memory) is not there yet"),
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
        ("builder", "'rdock builder' is not there yet"),
        ("builder prune", "'rdock builder prune' is not there yet"),
        ("compose up", "'rdock compose' is not there yet"),
        ("image build x", "'rdock image build' is not there yet"),
        ("stats x", "'rdock stats' is not there yet"),
    ],
)
def test_commands_of_docker_are_told_from_slips(words: str, message: str) -> None:
    with pytest.raises(NotThereYet) as refusal:
        main.find(words.split())
    assert (refusal.value.message, refusal.value.hint, refusal.value.exit_code) == (message, "", 1)


@pytest.mark.parametrize("words", ["nosuch", "container nosuch", "container build", "image run", "network nosuch"])
def test_unknown_commands(words: str) -> None:
    with pytest.raises(UsageError, match=f"^unknown command: rdock {words}$") as refusal:
        main.find(words.split())
    assert refusal.value.exit_code == 1


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("rn", "Did you mean 'rdock run'?"),
        ("imgaes", "Did you mean 'rdock images' or 'rdock image'?"),
        ("container stpo", "Did you mean 'rdock container stop'?"),
        ("insp", "Did you mean 'rdock inspect'?"),
        ("xyzzy", ""),
    ],
)
def test_what_may_have_been_meant(words: str, meant: str) -> None:
    with pytest.raises(UsageError) as refusal:
        main.find(words.split())
    found = [line for line in refusal.value.hint.split("\n") if line.startswith("Did you mean")]
    assert found == ([meant] if meant else [])


@pytest.mark.parametrize(
    ("word", "meant"),
    [("--detatch", "'--detach'"), ("--nam", "'--name'"), ("--inter", "'--interactive'"), ("--zz", "")],
)
def test_which_option_may_have_been_meant(word: str, meant: str) -> None:
    with pytest.raises(UsageError) as refusal:
        usage.parse(RUN, "run", [word])
    assert ("Did you mean" in refusal.value.hint) == bool(meant) and meant in refusal.value.hint
    assert refusal.value.hint.startswith("\n") and refusal.value.hint.endswith("for more information")


# -- help ----------------------------------------------------------------------------------------


def output(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main.main(list(words))
    return code, *capfd.readouterr()


@pytest.mark.parametrize("name", [*COMMANDS, *ALIASES])
def test_help_of_each_command_in_each_way(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    found, _ = main.find(name.split())
    page = "\n" + main.text_of(COMMANDS[found]) + "\n"
    for words in ([*name.split(), "--help"], ["help", *name.split()], ["help", *name.split(), "--help"]):
        assert output(capfd, *words) == (0, page, "")


@pytest.mark.parametrize("name", sorted(main.groups()))
def test_help_of_each_group_in_each_way(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    for words in ([name], [name, "--help"], [name, "-h"], [name, "help"], ["help", name]):
        assert output(capfd, *words) == (0, help.group_page(name), "")


def test_help_of_all(capfd: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["help"], ["-h"]):
        assert output(capfd, *words) == (0, help.overview(), "")
    shown = help.overview()
    for name in COMMANDS:
        assert " " in name or re.search(rf"^  {name} ", shown, re.MULTILINE), name


def test_help_of_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert output(capfd, "help", "nosuch") == (1, "", "rdock: unknown help topic: nosuch\n")
    code, out, err = output(capfd, "help", "container", "nosuch")
    assert (code, out) == (1, "") and err.startswith("rdock: unknown command: rdock container nosuch\n")


# -- Docker's global options ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["-l", "debug"], ["--log-level=WARN"], ["--config", "/nowhere"], ["-c", "default"], ["--tls=false"],
        ["--tlscacert", "x", "--tlscert=y", "--tlskey", "z"],
    ],
)  # fmt: skip
def test_global_options_that_are_harmless(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert output(capfd, *words, "version") == output(capfd, "version")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-H", "tcp://host:2375"], 125, "'rdock --host tcp://host:2375' is not supported: rdock has no daemon"),
        (["--host=unix:///x"], 125, "'rdock --host unix:///x' is not supported: rdock has no daemon"),
        (["--context", "far"], 125, "'rdock --context far' is not supported: rdock has no daemon"),
        (["--tlsverify"], 125, "'rdock --tlsverify' is not supported: rdock has no daemon"),
        (["-l", "loud"], 1, "unable to parse logging level: loud"),
        (["--hots", "x"], 125, "unknown flag: --hots"),
    ],
)
def test_global_options_that_cannot_be(
    words: list[str], code: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    found, out, err = output(capfd, *words, "version")
    assert (found, out) == (code, "") and err.startswith(f"rdock: {message}"), err


def test_names_of_docker_are_complete() -> None:
    """All that rdock has of Docker is in them, so that nothing is left out by oversight."""
    assert {name for name in COMMANDS if " " not in name} - set(docker_names.names("")) == {
        "doctor", "mount", "unmount", "unshare", "untag",
    }  # fmt: skip
    for name in {*ALIASES, *(name for name in COMMANDS if " " in name)} - PODMANS_COMMANDS:
        group, _, verb = name.partition(" ")
        assert verb in docker_names.names(group), name
    for name in set(COMMANDS) - PODMANS_COMMANDS:
        ours = {option.long for option in usage.compile_text(main.text_of(COMMANDS[name])).options}
        ours -= PODMANS.get(name, set())
        assert name == "doctor" or ours <= {long for _, long in docker_names.options(name)}, name
    assert set(docker_names.commands()) >= set(COMMANDS) - {"doctor"} - PODMANS_COMMANDS


def test_page_of_a_group() -> None:
    page = help.group_page("image")
    for verb in ("ls", "load", "import", "tag", "rm", "inspect"):
        assert re.search(rf"^  {verb} ", page, re.MULTILINE), page


def test_number_of_arguments() -> None:
    with pytest.raises(UsageError) as refusal:
        usage.parse(RUN, "run", [])
    assert refusal.value.message == "'rdock run' requires at least 1 argument"
    assert refusal.value.exit_code == 1
    tag = main.text_of(COMMANDS["tag"])
    for words in (["a"], ["a", "b", "c"]):
        with pytest.raises(UsageError, match="requires 2 arguments"):
            usage.parse(tag, "tag", words)


def test_the_installed_command_takes_the_words_of_its_process() -> None:
    """As setuptools calls it: without arguments."""
    code = "import sys; sys.argv = ['rdock', '--version']; from rdock.cli.main import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("rdock version "), done.stderr
