"""Which of Docker's commands and options there are: the page docs/compatibility.md, and the table in the README.

Both are made from the help texts, docker_names.py and refusals.py: `python -m rdock.cli.compatibility` writes
them anew, a test sees that they are right. No command of rdock needs this module.
"""

from __future__ import annotations

import os

from rdock.cli import docker_names, main, refusals, usage
from rdock.cli.commands import ALIASES, COMMANDS
from rdock.values import Value

BEGIN, END = "<!-- compatibility: made by rdock/cli/compatibility.py -->", "<!-- end of compatibility -->"
# What Docker's client answers with commands of its own: said in one line each on the page.
_PLUGINS = ("buildx", "compose")

_HEAD = f"""\
# What rdock has of Docker's command line

Made from rdock's help texts by `python -m rdock.cli.compatibility`; do not edit.

An option that is *not there yet* is refused in one line before anything is done; so is one that is *refused*, with
the reason. Options that Docker understands but does not show are understood under both names, and shown under one:
{", ".join(f"`{hidden}` (`{shown}`)" for hidden, shown in sorted(docker_names.HIDDEN_SPELLINGS.items()))}.
`{"`, `".join(docker_names.HARMLESS)}` changes nothing.
"""


class Command(Value):
    """What is to be said of one of Docker's commands."""

    name: str
    there: bool
    """Whether rdock has the command."""
    options: tuple[str, ...] = ()
    """Those that are there."""
    missing: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    """Option and reason."""
    reason: str = ""
    """Why there will be no such command."""


def all_commands() -> list[Command]:
    """All of Docker's commands but those of clusters, in their shortest spelling."""
    return [_describe(name) for name in docker_names.commands()]


def _describe(name: str) -> Command:
    found, *implied = ALIASES.get(name, name).split(" --")
    refusal = refusals.of_command(*(name.split() + [""])[:2])
    if found not in COMMANDS:
        reason = refusal.message.partition(": ")[2] if refusal else ""
        return Command(name, False, missing=tuple(long for _, long in docker_names.options(name)), reason=reason)
    grammar = usage.grammar_of(main.text_of(COMMANDS[found]))
    ours = {option.long for option in grammar.options} - {option.partition("=")[0] for option in implied}
    there, missing, refused = [], [], []
    for _, long in docker_names.options(name):
        if long in docker_names.HIDDEN_SPELLINGS:
            continue  # another name of one that is told of
        if long in ours or docker_names.is_harmless(name, long):
            there.append(long)
        elif reason := refusals.reason_against(name, long):
            refused.append((long, reason))
        else:
            missing.append(long)
    return Command(name, True, tuple(there), tuple(missing), tuple(refused))


# -- texts -----------------------------------------------------------------------------------------


def page() -> str:
    """The text of docs/compatibility.md."""
    commands = all_commands()
    parts = [_HEAD, "\n## Commands that are there\n"]
    for command in commands:
        if command.there:
            parts.append(f"\n### {command.name}\n\n{_spellings(command.name)}{_options(command)}")
    parts.append("\n## Not there yet\n\n")
    absent = [command.name for command in commands if not command.there and not command.reason]
    parts += [f"- `{name}`\n" for name in sorted([*absent, *_PLUGINS])]
    parts.append("\n## Refused\n\n")
    parts += [f"- `{name}`: {reason}\n" for name, reason in sorted(refusals.COMMANDS.items())]
    own = sorted(set(COMMANDS) - {command.name for command in commands})
    parts.append("\n## Not Docker's\n\n")
    parts += [f"- `{name}`: {COMMANDS[name].summary}\n" for name in own]
    return "".join(parts)


def _spellings(name: str) -> str:
    others = [spelling for spelling, short in ALIASES.items() if short == name]
    return f"Also `{'`, `'.join(others)}`.\n\n" if others else ""


def _options(command: Command) -> str:
    lines = []
    if command.options:
        lines.append(f"- there: {_names(command.options)}")
    if command.missing:
        lines.append(f"- not there yet: {_names(command.missing)}")
    lines += [f"- refused: `{option}`: {reason}" for option, reason in command.refused]
    return "".join(f"{line}\n" for line in lines or ["- Docker has no options for it"])


def _names(options: tuple[str, ...]) -> str:
    return ", ".join(f"`{option}`" for option in options)


def summary() -> str:
    """The table of the README, with its markers."""
    commands = [command for command in all_commands() if not command.reason]
    whole = [command for command in commands if command.there and not command.missing]
    part = [command for command in commands if command.there and command.missing]
    absent = _groups_as_one([command.name for command in commands if not command.there])
    rows = [
        ("all options", ", ".join(f"`{command.name}`" for command in whole)),
        ("in part", ", ".join(f"`{c.name}` ({len(c.options)} of {len(c.options + c.missing)})" for c in part)),
        ("not there yet", ", ".join(f"`{name}`" for name in sorted([*absent, *_PLUGINS]))),
        ("refused", ", ".join(f"`{name}`" for name in sorted(refusals.COMMANDS))),
    ]
    table = "".join(f"| {title} | {names} |\n" for title, names in rows if names)
    return f"{BEGIN}\n| Docker's commands | |\n| --- | --- |\n{table}{END}"


def _groups_as_one(names: list[str]) -> list[str]:
    """`network` for all of its commands, where none of a group is there."""
    lone = {name.partition(" ")[0] for name in names if " " in name} - main.groups()
    return [name for name in names if name.partition(" ")[0] not in lone] + [f"{group} …" for group in lone]


def with_summary(readme: str) -> str:
    """The README with the table of now. Raises ValueError if it has no place for it."""
    start, end = readme.index(BEGIN), readme.index(END) + len(END)
    return readme[:start] + summary() + readme[end:]


def write() -> None:
    checkout = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with open(os.path.join(checkout, "docs", "compatibility.md"), "w", encoding="utf-8") as file:
        file.write(page())
    readme = os.path.join(checkout, "README.md")
    with open(readme, encoding="utf-8") as file:
        text = with_summary(file.read())
    with open(readme, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    write()
