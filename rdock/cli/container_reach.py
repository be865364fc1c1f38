"""exec: into a running container."""

from __future__ import annotations

import os

from rdock.cli.usage import Options
from rdock.container import attach, containers, exec, request
from rdock.container.attach import Attached
from rdock.container.config import read_env_file
from rdock.errors import InvalidParameter, SystemFailure
from rdock.linux import tty

EXEC_TEXT = """\
Usage:  rdock exec [OPTIONS] CONTAINER COMMAND [ARG...]

Execute a command in a running container

Aliases:
  rdock container exec, rdock exec

Options:
  -d, --detach           Detached mode: run command in the background
  -e, --env list         Set environment variables
      --env-file list    Read in a file of environment variables
  -i, --interactive      Keep STDIN open even if not attached
      --privileged       Give extended privileges to the command
  -t, --tty              Allocate a pseudo-TTY
  -u, --user string      Username or UID (format: "<name|uid>[:<group|gid>]")
  -w, --workdir string   Working directory inside the container
"""


def exec_(options: Options) -> int:
    name, *words = options.arguments
    detach, terminal = options.flag("--detach"), options.flag("--tty")
    stdin = options.flag("--interactive") and not detach
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
    )
    container = containers.lookup(name)
    connection, _ = exec.start(container, wanted, tty.console_size() if terminal else None)
    if detach:
        return 0
    ended = attach.relay(connection, Attached(stdin, True, True, terminal))
    if ended is None:
        raise SystemFailure("the session's monitor was killed")
    return int(ended["code"])
