"""Help texts as grammars; the only door to docopt.

A command's help, laid out as Docker prints it, is read by docopt, which tells its options and its
arguments. The result is a small table, and the table is kept in grammar.json beside this module
(`python -m rdock.cli.usage` makes it anew, a test sees that it is right): docopt's analysis of the
text of `run` takes longer than a container takes to start. Words are then matched to the table in
Docker's dialect, that of pflag, which differs from docopt's: options may be repeated, `--rm=false`,
no abbreviations, and Docker's refusals.
"""

from __future__ import annotations

import binascii
import os

from rdock import jsontext
from rdock.errors import RdockError, UsageError
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

# Docker's type words for options that may be given more than once.
_PLURAL = {"list", "map", "ulimit", "mount", "network", "filter", "strings", "pull-policy", "gpu-request"}
# How a usage line ends whose last words are another program's.
_FOREIGN = ("ARG...", "[ps OPTIONS]")
_BOOLEANS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


class Option(Value):
    """One option of a command."""

    long: str
    short: str
    kind: str
    """`bool`, or the type word of the help text."""


class Grammar(Value):
    """What a command takes."""

    options: tuple[Option, ...]
    least: int
    most: int
    """Number of arguments; -1: any."""
    options_first: bool
    """Options end at the first argument, since what follows is another program's."""


class Options:
    """The options and arguments of one invocation."""

    def __init__(self, grammar: Grammar, found: dict[str, list[str]], arguments: list[str]) -> None:
        self._known = {option.long: option for option in grammar.options}
        self._found = found
        self.arguments = arguments
        self.hint = ""
        """What the user is told after a complaint about a value."""

    def flag(self, name: str) -> bool:
        """A switch: the last of its occurrences counts."""
        values = self.list(name)
        return bool(values) and _BOOLEANS[values[-1].lower()]

    def text(self, name: str) -> str | None:
        """The value of an option, the last if there are several; None if it was not given."""
        values = self.list(name)
        return values[-1] if values else None

    def list(self, name: str) -> list[str]:
        """All values of an option, in order."""
        if name not in self._known:
            raise KeyError(name)
        return self._found.get(name, [])

    def knows(self, name: str) -> bool:
        """Whether the command has such an option."""
        return name in self._known

    def given(self, name: str) -> bool:
        return bool(self.list(name))

    def number(self, name: str) -> int | None:
        """An integer. Raises UsageError in pflag's words."""
        text = self.text(name)
        if text is None:
            return None
        try:
            return int(text, 0)
        except ValueError:
            shown = _shown(self._known[name])
            raise UsageError(
                f'invalid argument "{text}" for "{shown}" flag: strconv.ParseInt: parsing "{text}": invalid syntax',
                self.hint,
            ) from None


def _shown(option: Option) -> str:
    """An option as pflag names it in its complaints: `-n, --last`."""
    return f"{option.short}, {option.long}" if option.short else option.long


def parse(text: str, command: str, words: Sequence[str]) -> Options | None:
    """Match the words after a command's name to its help text; None if help is asked for.

    Raises UsageError in Docker's words.
    """
    grammar = grammar_of(text)
    hint = f"\n{usage_line(text)}\n\nRun 'rdock {command} --help' for more information".replace("  --", " --")
    try:
        found = _match(grammar, command, list(words))
        if found is not None:
            found.hint = hint
        if found is not None and command:  # without a command the caller has a page to show
            _check_count(grammar, command, found)
        return found
    except UsageError as e:
        e.hint = (f"\n{e.hint}\n" if e.hint else "") + hint
        raise


def usage_line(text: str) -> str:
    """The first line of a help text: `Usage:  rdock stop [OPTIONS] CONTAINER [CONTAINER...]`."""
    return text.lstrip("\n").split("\n", 1)[0]


def _match(grammar: Grammar, command: str, words: list[str]) -> Options | None:
    longs = {option.long: option for option in grammar.options}
    shorts = {option.short: option for option in grammar.options if option.short}
    found: dict[str, list[str]] = {}
    arguments: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--":
            arguments += words
            break
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if name == "--help":
                return None
            option = longs.get(name) or longs.get(_hidden_spelling(name))
            if option is None and _is_harmless(command, name):
                option = Option(name, "", "bool")
                _take(option, name, equals, value, words, found)
                if _BOOLEANS[found.pop(name)[0].lower()]:
                    continue
                option = None
            if option is None:
                raise _unknown(command, name, f"unknown flag: {name}", longs)
            _take(option, name, equals, value, words, found)
        elif word.startswith("-") and word != "-":
            cluster = word[1:]
            while cluster:
                short, cluster = f"-{cluster[0]}", cluster[1:]
                option = shorts.get(short)
                if option is None:
                    if short == "-h":
                        return None
                    raise _unknown(command, short, f"unknown shorthand flag: '{short[1]}' in {word}", ())
                if option.kind == "bool":
                    if cluster.startswith("="):
                        _take(option, short, "=", cluster[1:], words, found)
                        break
                    _take(option, short, "", "", words, found)
                    continue
                shown = f"'{short[1]}' in {word}"
                _take(option, shown, cluster[:1], cluster.removeprefix("="), words, found)
                break
        else:
            arguments.append(word)
            if grammar.options_first:
                arguments += words
                break
    return Options(grammar, found, arguments)


def _hidden_spelling(name: str) -> str:
    from rdock.cli import docker_names

    return docker_names.HIDDEN_SPELLINGS.get(name, "")


def _is_harmless(command: str, name: str) -> bool:
    from rdock.cli import docker_names

    return docker_names.is_harmless(command, name)


def _unknown(command: str, name: str, complaint: str, known: Iterable[str]) -> RdockError:
    """The error for an option that rdock lacks: another one if Docker has it."""
    from rdock.cli import docker_names, suggestions

    return docker_names.missing_option(command, name) or UsageError(complaint, suggestions.sentence(name, known))


def _take(
    option: Option, shown: str, has_value: str, value: str, words: list[str], found: dict[str, list[str]]
) -> None:
    if option.kind == "bool":
        value = value if has_value else "true"
        if value.lower() not in _BOOLEANS:
            shown = _shown(option)
            raise UsageError(
                f'invalid argument "{value}" for "{shown}" flag: strconv.ParseBool: parsing "{value}": invalid syntax'
            )
    elif not has_value:
        if not words:
            raise UsageError(f"flag needs an argument: {shown}")
        value = words.pop(0)
    if option.kind in _PLURAL:
        found.setdefault(option.long, []).append(value)
    else:
        found[option.long] = [value]


def _check_count(grammar: Grammar, command: str, found: Options) -> None:
    count, least, most = len(found.arguments), grammar.least, grammar.most
    if found.knows("--latest") and found.flag("--latest"):
        least -= 1  # it stands for a container
    if count >= max(0, least) and (most < 0 or count <= most):
        return
    if least == most == 0:
        wants = "accepts no arguments"
    elif least == most:
        wants = f"requires {least} argument{'s' * (least != 1)}"
    elif count < least:
        wants = f"requires at least {least} argument{'s' * (least != 1)}"
    else:
        wants = f"requires at most {most} argument{'s' * (most != 1)}"
    error = UsageError(f"'rdock {command}' {wants}")
    error.exit_code = 1
    raise error


# -- grammars from texts -------------------------------------------------------------------------

_kept: str | None = None


def grammar_of(text: str) -> Grammar:
    """The grammar of a help text, from the table that was made ahead, else by docopt."""
    global _kept
    if _kept is None:
        try:
            with open(_table_path(), encoding="utf-8") as file:
                _kept = file.read()
        except (OSError, ValueError):
            _kept = ""
    # Each has a line: to take the whole for one or two of them would cost a tenth of what an exec does.
    before = f"\n{jsontext.quote(_key(text))}: "
    start = _kept.find(before) + len(before)
    if start < len(before):
        return compile_text(text)
    try:
        known = jsontext.parse(_kept[start : _kept.index("\n", start)].rstrip(","))
    except ValueError:
        return compile_text(text)  # somebody has been at the file
    return Grammar(tuple(Option(*option) for option in known[0]), known[1], known[2], known[3])


def _table_path() -> str:
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "grammar.json")


def _key(text: str) -> str:
    return f"{binascii.crc32(text.encode()):08x}{len(text):x}"


def compile_text(text: str) -> Grammar:
    """Let docopt read a help text."""
    import docopt

    sections = docopt.parse_docstring_sections(_without_aliases(text))
    found = docopt.parse_options(sections.after_usage)
    kinds = _type_words(text)
    options = []
    for option in found:
        long = option.longer or ""
        options.append(Option(long, option.short or "", kinds.get(long, "string") if option.argcount else "bool"))
    usage = sections.usage_body.split("\n")[0].split("[OPTIONS]")
    # Docker ends the line with the other program's words in ARG...; docopt knows them as any others.
    pattern = docopt.parse_pattern(_as_docopt(usage[-1] if len(usage) > 1 else _without_names(usage[0])), [])
    least, most = _count(pattern)
    return Grammar(tuple(options), least, most, any(words in text.split("\n")[0] for words in _FOREIGN))


def _without_names(usage: str) -> str:
    """What follows the program's name and the command's, which are in small letters."""
    words = usage.split()
    while words and words[0].islower():
        del words[0]
    return " ".join(words)


def _without_aliases(text: str) -> str:
    """Docker's list of other spellings is no part of a docopt text."""
    import re

    return re.sub(r"\nAliases:\n(  .*\n)+", "\n", text)


def _as_docopt(usage: str) -> str:
    """Docker writes `[A...]` where docopt has `[A]...`, and file|URL|- for one argument."""
    import re

    words = re.sub(r"\[(\S+)\.\.\.\]", r"[\1]...", usage).replace("[ps OPTIONS]", "[ARG]...")
    words = words.replace("PRIVATE_PORT[/PROTO]", "PRIVATE_PORT")
    words = re.sub(r"[A-Za-z][\w]*(\|[\w-]+)+", "SOURCE", words)
    return re.sub(r"([A-Z]+)\[:TAG\|@DIGEST\]|([A-Z_]+)\[:[A-Z]+\]", lambda match: match[1] or match[2], words)


def _type_words(text: str) -> dict[str, str]:
    """`--env list   Set …` → {"--env": "list"}."""
    import re

    return dict(re.findall(r"^ +(?:-\w, )?(--[\w-]+) ([\w-]+)  ", text, re.MULTILINE))


def _count(pattern: Any) -> tuple[int, int]:
    """The least and most arguments of a docopt pattern; -1 for any number."""
    import docopt

    if isinstance(pattern, (docopt.Argument, docopt.Command)):
        return 1, 1
    inner = [_count(child) for child in pattern.children]
    least = sum(low for low, _ in inner)
    most = -1 if any(high < 0 for _, high in inner) else sum(high for _, high in inner)
    if isinstance(pattern, docopt.OneOrMore):
        return least, -1
    if isinstance(pattern, docopt.NotRequired):
        return 0, most
    return least, most


def make_table(texts: Sequence[str]) -> str:
    """The content of grammar.json for all help texts."""
    lines = []
    for text in texts:
        grammar = compile_text(text)
        value = [
            [[o.long, o.short, o.kind] for o in grammar.options],
            grammar.least,
            grammar.most,
            grammar.options_first,
        ]
        lines.append(f"{jsontext.render(_key(text))}: {jsontext.render(value)}")
    return "{\n" + ",\n".join(sorted(lines)) + "\n}\n"


def main() -> None:
    from rdock.cli.main import all_texts

    with open(_table_path(), "w", encoding="utf-8") as file:
        file.write(make_table(all_texts()))


if __name__ == "__main__":
    main()
