"""exec: into a running container."""

from __future__ import annotations

import os

from rdock.cli.attachment import carry
from rdock.cli.main import enter
from rdock.cli.usage import Options
from rdock.container import attach, containers, events, exec, request, streams
from rdock.container.config import read_env_file
from rdock.container.containers import Container
from rdock.container.relay import Attached, Detached
from rdock.errors import Conflict, InvalidParameter, RdockError
from rdock.linux import sockets, tty

EXEC_TEXT = """\
Usage:  rdock exec [OPTIONS] CONTAINER COMMAND [ARG...]

Execute a command in a running container

Aliases:
  rdock container exec, rdock exec

Options:
  -d, --detach               Detached mode: run command in the background
      --detach-keys string   Override the key sequence for detaching a container
  -e, --env list             Set environment variables
      --env-file list        Read in a file of environment variables
  -i, --interactive          Keep STDIN open even if not attached
  -l, --latest               Act on the latest created container
      --privileged           Give extended privileges to the command
  -t, --tty                  Allocate a pseudo-TTY
  -u, --user string          Username or UID (format: "<name|uid>[:<group|gid>]")
  -w, --workdir string       Working directory inside the container
"""


def exec_(options: Options) -> int:
    container, words = _target(options)
    detach, terminal = options.flag("--detach"), options.flag("--tty")
    stdin = options.flag("--interactive") and not detach
    keys = streams.parse_detach_keys(options.text("--detach-keys") or "")
    if terminal and stdin and not os.isatty(0):
        raise InvalidParameter("the input device is not a TTY")
    env = []
    for path in options.list("--env-file"):
        env += read_env_file(path, os.environ)
    wanted = exec.Request(
        args=words,
        env=env + request.expand_env(options.list("--env"), dict(os.environ)),
        user=options.text("--user") or "",
        directory=request.check_directory(options.text("--workdir") or ""),
        terminal=terminal,
        stdin=stdin,
        privileged=options.flag("--privileged"),
        console_size=tty.console_size() if terminal else None,
    )
    connection = _start(container, wanted)
    if detach:
        return 0
    try:
        return carry(connection, Attached(stdin, True, True, terminal, keys))
    except Detached:
        raise _left() from None


def _target(options: Options) -> tuple[Container, list[str]]:
    """The container that is meant, and the words after it."""
    if options.flag("--latest"):
        return containers.latest(), options.arguments
    return containers.lookup(options.arguments[0]), options.arguments[1:]


def _start(container: Container, wanted: exec.Request) -> sockets.socket:
    try:
        return exec.start(container, wanted)
    except exec.MonitorAway:
        enter()
        return exec.start_here(container, wanted)


def _left() -> RdockError:
    """What Docker's `attach` and `exec` end with when the detach keys were typed."""
    return RdockError("read escape sequence")


ATTACH_TEXT = """\
Usage:  rdock attach [OPTIONS] CONTAINER

Attach local standard input, output, and error streams to a running container

Aliases:
  rdock container attach, rdock attach

Options:
      --detach-keys string   Override the key sequence for detaching a container
  -l, --latest               Act on the latest created container
      --no-stdin             Do not attach STDIN
      --sig-proxy            Proxy all received signals to the process (default true)
"""


def attach_(options: Options) -> int:
    keys = streams.parse_detach_keys(options.text("--detach-keys") or "")
    container, _ = _target(options)
    state = container.state()
    if state.status == "paused":
        raise Conflict("cannot attach to a paused container, unpause it first")
    if state.status == "restarting":
        raise Conflict("cannot attach to a restarting container, wait until it is running")
    if not state.can_attach:
        raise Conflict("cannot attach to a stopped container, start it first")
    config = container.config
    connection = attach.attach_to(container)
    attached = Attached(
        config.open_stdin and not options.flag("--no-stdin"), True, True, config.tty, keys,
        not options.given("--sig-proxy") or options.flag("--sig-proxy"),
    )  # fmt: skip
    events.note(container, "attach")
    try:
        return carry(connection, attached, container.bundle)
    except Detached:
        events.note(container, "detach")
        raise _left() from None
