"""run: create and start a container, and stay with it unless detached."""

from __future__ import annotations

import os
import sys

from rdock.cli import container_create, container_options
from rdock.cli.attachment import stay
from rdock.cli.main import complain
from rdock.cli.usage import Options
from rdock.container import starting, streams
from rdock.container.relay import Attached
from rdock.errors import InvalidParameter
from rdock.linux import tty

RUN_TEXT = container_options.help_text(
    """\
Usage:  rdock run [OPTIONS] IMAGE [COMMAND] [ARG...]

Create and run a new container from an image

Aliases:
  rdock container run, rdock run

Options:
""",
    """\
  -d, --detach                   Run container in background and print container ID
      --detach-keys string       Override the key sequence for detaching a container
      --sig-proxy                Proxy received signals to the process (default true)
""",
)


def run(options: Options) -> int:
    detach, terminal = options.flag("--detach"), options.flag("--tty")
    keys = streams.parse_detach_keys(options.text("--detach-keys") or "")
    proxy = not options.given("--sig-proxy") or options.flag("--sig-proxy")
    if terminal and options.flag("--interactive") and not detach and not os.isatty(0):
        return complain(InvalidParameter("the input device is not a TTY"), 1)  # not 125, as with Docker
    made = container_create.make(options, detach=detach, starts=True)
    config = made.container.config
    is_shown = config.attach_stdout or config.attach_stderr
    if not is_shown:
        # Before the start, as Docker: who has the id can look at and remove what has failed to start.
        sys.stdout.write(made.container.id + "\n")
        sys.stdout.flush()
    try:
        connection, _ = starting.start(
            made, tty.console_size() if terminal else None, attached=proxy and not detach
        )  # fmt: skip
    except BaseException:
        made.lock.release()
        raise
    if detach:
        return 0
    stdin = config.attach_stdin and config.open_stdin
    attached = Attached(stdin, config.attach_stdout, config.attach_stderr, terminal, keys, proxy)
    code = stay(connection, attached, made.container)
    return code if is_shown else 0  # whoever only feeds a container is not told how it ended
