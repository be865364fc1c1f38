"""The pages of `--help` and `help`, and what is said of a command that nobody knows. Imported only then."""

from __future__ import annotations

from rdock.cli import main, suggestions
from rdock.cli.commands import ALIASES, COMMANDS
from rdock.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rdock.cli.commands import Command

# Docker's nouns. One is shown when rdock has a command of it.
_GROUPS = {
    "builder": "Manage builds", "container": "Manage containers", "image": "Manage images",
    "manifest": "Manage image manifests and manifest lists", "network": "Manage networks", "system": "Manage rdock",
    "volume": "Manage volumes",
}  # fmt: skip
_COMMON = (
    "run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info",
)  # fmt: skip


def page(words: list[str]) -> str:
    """The page for a command or a group, or that of all. Raises UsageError and its like for what is none."""
    if not words:
        return overview()
    if len(words) == 1 and words[0] in main.groups():
        return group_page(words[0])
    if words[0] not in {"help", *COMMANDS, *ALIASES, *main.groups()}:
        main.refuse_missing(words)
        raise _unknown(f"unknown help topic: {' '.join(words)}", "")
    name = main.find(words)[0]
    return overview() if name == "help" else "\n" + main.text_of(COMMANDS[name]) + "\n"


def overview() -> str:
    """The page that `rdock --help` shows."""
    head, _, options = main.GLOBAL_TEXT.partition("\nGlobal Options:\n")
    common = {name: COMMANDS[name].summary for name in _COMMON if name in COMMANDS}
    nouns = {name: _of_group(name) for name in sorted(main.groups())}
    rest = sorted(name for name in COMMANDS if name not in common and " " not in name)
    others = {name: COMMANDS[name].summary for name in rest}
    width = max(map(len, {**common, **nouns, **others}))
    return (
        f"\n{head}\nCommon Commands:\n{_list(common, width)}\nManagement Commands:\n{_list(nouns, width)}\n"
        f"Commands:\n{_list(others, width)}\nGlobal Options:\n{options}\n"
        "Run 'rdock COMMAND --help' for more information on a command.\n"
    )


def _of_group(name: str) -> str:
    return _GROUPS.get(name, f"Manage {name}s")


def verbs_of(group: str) -> dict[str, Command]:
    """The commands of a group by their second word, in all spellings."""
    full = {name: command for name, command in COMMANDS.items() if " " in name}  # first, since a page shows that
    full |= {name: COMMANDS[alias.partition(" --")[0]] for name, alias in ALIASES.items()}
    return {name.partition(" ")[2]: command for name, command in full.items() if name.partition(" ")[0] == group}


def group_page(group: str) -> str:
    """The page that `rdock container` shows: its commands, each in one spelling."""
    commands: dict[str, Command] = {}
    for verb, command in verbs_of(group).items():
        if command not in commands.values():
            commands[verb] = command
    summaries = {verb: commands[verb].summary for verb in sorted(commands)}
    return (
        f"\nUsage:  rdock {group} COMMAND\n\n{_of_group(group)}\n\n"
        f"Commands:\n{_list(summaries, max(map(len, summaries)))}\n"
        f"Run 'rdock {group} COMMAND --help' for more information on a command.\n"
    )


def _list(summaries: Mapping[str, str], width: int) -> str:
    return "".join(f"  {name:<{width}}  {summary}\n" for name, summary in summaries.items())


def unknown_command(words: list[str]) -> UsageError:
    """In Docker's words, with what may have been meant."""
    group = f"{words[0]} " if words[0] in main.groups() else ""
    word = words[1] if group else words[0]
    known = verbs_of(words[0]) if group else {*COMMANDS, *main.groups()}
    meant = suggestions.sentence(word, known, f"rdock {group}")
    usage_line = f"\nUsage:  rdock {group}COMMAND\n" if group else ""
    return _unknown(
        f"unknown command: rdock {group}{word}",
        (f"\n{meant}\n" if meant else "") + usage_line + f"\nRun 'rdock {group}--help' for more information",
    )


def _unknown(message: str, hint: str) -> UsageError:
    error = UsageError(message, hint)
    error.exit_code = 1
    return error
