"""The way in and out of the command line: which command it is, and errors to texts and exit codes.

The module of a command is imported when it is chosen. For one that has to be root of the user's small world the
namespaces are entered here, once.
"""

from __future__ import annotations

import os
import sys

from rdock import __version__, config, launch, paths
from rdock.cli import usage
from rdock.cli.commands import ALIASES, COMMANDS, Command
from rdock.errors import InvalidParameter, RdockError, printable, reason
from rdock.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType


GLOBAL_TEXT = """\
Usage:  rdock [OPTIONS] COMMAND [ARG...]

Containers for people without root

Global Options:
  -D, --debug                   Show what is done, on the error output
      --id-mode string          How root's ids are made: auto, subids, direct or single
  -l, --log-level string        Accepted as Docker's: debug, info, warn, error or fatal
      --storage-driver string   Storage driver for new containers: overlay, fuse-overlayfs or copy
  -v, --version                 Print version information and quit
"""
# Those of Docker's that choose a daemon: understood, so that a script that sets them is answered well, not shown.
_WITH_DAEMON_TEXT = (
    GLOBAL_TEXT
    + """\
      --config string           Location of client config files
  -c, --context string          Name of the context
  -H, --host list               Daemon socket to connect to
      --tls                     Use TLS
      --tlscacert string        Certificates of authorities
      --tlscert string          Certificate
      --tlskey string           Key
      --tlsverify               Use TLS and verify the remote
"""
)
_LOG_LEVELS = ("trace", "debug", "info", "warn", "warning", "error", "fatal", "panic")

# What is to be done when all that a command needs is imported.
_when_imported: Callable[[], None] | None = None
# Where the command was given; what `callers_directory` tells.
_directory = ""


def main(words: Sequence[str] | None = None, when_imported: Callable[[], None] | None = None) -> int:
    """Run one command line, this process's unless another is given; the exit code.

    `when_imported` is called once the command's modules are there, before it does anything.
    """
    global _when_imported
    _when_imported = when_imported
    _fill_standard_streams()
    os.umask(0o022)  # files made for containers are for their users, whatever the caller keeps private
    process.close_on_exec_all()
    try:
        code = _run(list(sys.argv[1:] if words is None else words))
        sys.stdout.flush()
        sys.stderr.flush()
        return code
    except RdockError as e:
        return complain(e, e.exit_code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as e:
        if launch.debugging:
            raise
        return complain(RdockError(f"{e.filename or 'system call'}: {reason(e)}"), 125)


def complain(error: RdockError, code: int) -> int:
    """One line of what went wrong, a second one with the fix."""
    # The line feeds of a hint are ours: that of a UsageError is a paragraph.
    lines = [f"rdock: {printable(error.message)}"] + ([*map(printable, error.hint.split("\n"))] if error.hint else [])
    try:
        sys.stdout.flush()
    except OSError:
        pass  # it is what went wrong
    try:
        os.write(2, ("\n".join(lines) + "\n").encode())
    except OSError:
        pass  # there is nobody to tell
    return code


def _fill_standard_streams() -> None:
    """Open those of 0, 1 and 2 that the caller has closed: the next file opened would be taken for one of them."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)


def _run(words: list[str]) -> int:
    options = usage.parse(_WITH_DAEMON_TEXT, "", words)
    if options is None or (not options.arguments and not options.flag("--version")):
        return _help([])
    if options.flag("--version"):
        sys.stdout.write(f"rdock version {__version__}\n")
        return 0
    launch.debugging = options.flag("--debug")
    _check_globals(options)
    if options.arguments[0] in groups() and options.arguments[1:2] in ([], ["--help"], ["-h"], ["help"]):
        return _help(options.arguments[:1])
    name, rest = find(options.arguments)
    if name == "help":
        return _help([word for word in rest if word not in ("--help", "-h")])
    command = COMMANDS[name]
    module = _module_of(command)
    function = command.place.partition(":")[2]
    parsed = usage.parse(getattr(module, text_name(function)), name, rest)
    if parsed is None:
        sys.stdout.write("\n" + getattr(module, text_name(function)) + "\n")
        return 0
    try:
        chosen = {key: options.text(f"--{key}") for key in ("id-mode", "storage-driver")}
        config.override(**{key.replace("-", "_"): value for key, value in chosen.items() if value is not None})
        paths.settle()
        if command.needs_root or (command.reads_store and _is_anything_left()):
            enter(sweep=command.sweeps, keep_groups=command.keeps_groups)
        if _when_imported is not None:
            _when_imported()
        code: int = getattr(module, function)(parsed)
        sys.stdout.flush()
        return code
    except RdockError as e:
        return complain(e, command.failure if e.exit_code == 1 else e.exit_code)


def _help(words: list[str]) -> int:
    from rdock.cli import help

    sys.stdout.write(help.page(words))
    return 0


def _check_globals(options: usage.Options) -> None:
    """Take what is harmless of Docker's global options, and refuse what cannot be."""
    level = options.text("--log-level")
    if level is not None and level.lower() not in _LOG_LEVELS:
        raise InvalidParameter(f"unable to parse logging level: {level}")
    config_directory = options.text("--config")
    if config_directory:
        # Logins are there; as the variable has it, so that helpers know as well.
        os.environ["DOCKER_CONFIG"] = os.path.abspath(config_directory)
    # Where a client keeps its certificates is of no matter to one that connects to no daemon.
    for name in ("--tlscacert", "--tlscert", "--tlskey"):
        options.text(name)
    asked = {name: options.text(name) for name in ("--host", "--context")}
    asked |= {name: "" for name in ("--tls", "--tlsverify") if options.flag(name)}
    for name, value in asked.items():
        if value is not None and (name, value) != ("--context", "default"):
            from rdock.cli import refusals

            raise refusals.of_daemon(name, value)


def enter(*, sweep: bool = True, keep_groups: bool = False) -> None:
    """Become root of the user's own namespaces, and clear away what killed processes left, unless it is to be seen."""
    from rdock.container import removal
    from rdock.runtime import rootless

    global _directory
    try:
        _directory = os.getcwd()
    except OSError:
        pass  # it was removed
    settings = config.current()
    entered = rootless.enter(settings.id_mode, settings.holder_linger, keep_groups=keep_groups)
    if entered.mode == "single" and settings.id_mode == "auto":
        _tell_of_one_id()
    if sweep:
        removal.sweep()


def callers_directory() -> str:
    """Where the command was given, which may not be there in the user's namespaces; empty if it was removed."""
    return _directory


def _tell_of_one_id() -> None:
    """Say once, plainly, what is not possible here."""
    from rdock.state import probes

    if probes.first_time("told of one id"):
        sys.stderr.write(
            "rdock: note: you have one user id only: all files in containers are yours, chown to others fails, and -u\n"
            "takes only root. `rdock doctor` tells how to get more. This is said once.\n"
        )


def _is_anything_left() -> bool:
    """Whether a killed process left something that has to be cleared away before the store is shown."""
    from rdock.container import removal
    from rdock.storage import staging

    return bool(removal.abandoned()) or staging.is_anything_left()


def text_name(function: str) -> str:
    return function.strip("_").upper() + "_TEXT"


def find(words: list[str]) -> tuple[str, list[str]]:
    """The command that the words begin with, under its short name, and the words after it.

    Raises UsageError in Docker's words if there is none, NotThereYet if Docker has one.
    """
    for count in (2, 1):
        name = " ".join(words[:count])
        name, *implied = ALIASES.get(name, name).split(" --")
        if name in COMMANDS or name == "help":
            return name, [*(f"--{option}" for option in implied), *words[count:]]
    refuse_missing(words)
    from rdock.cli import help

    raise help.unknown_command(words)


def refuse_missing(words: list[str]) -> None:
    """Raise NotThereYet or Unsupported if Docker has the command that rdock lacks."""
    from rdock.cli import docker_names

    known = docker_names.missing_command(words)
    if known is not None:
        raise known


def text_of(command: Command) -> str:
    text: str = getattr(_module_of(command), text_name(command.place.partition(":")[2]))
    return text


def _module_of(command: Command) -> ModuleType:
    # What importlib.import_module does, without importlib, whose `warnings` and others are a millisecond.
    name = f"rdock.cli.{command.place.partition(':')[0]}"
    __import__(name)
    return sys.modules[name]


def all_texts() -> list[str]:
    """Every help text, for the table of grammars and for tests."""
    return [_WITH_DAEMON_TEXT, *(text_of(command) for command in COMMANDS.values())]


def groups() -> set[str]:
    """Docker's nouns of which rdock has a command: the first words of the longer spellings."""
    return {name.partition(" ")[0] for name in (*ALIASES, *COMMANDS) if " " in name}
