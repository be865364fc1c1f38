"""logs: what containers have written."""

from __future__ import annotations

import os

from rdock.cli.usage import Options
from rdock.container import containers, logs
from rdock.errors import InvalidParameter

LOGS_TEXT = """\
Usage:  rdock logs [OPTIONS] CONTAINER

Fetch the logs of a container

Aliases:
  rdock container logs, rdock logs

Options:
  -f, --follow        Follow log output
  -n, --tail string   Number of lines to show from the end of the logs
  -t, --timestamps    Show timestamps
"""


def logs_(options: Options) -> int:
    container = containers.lookup(options.arguments[0])
    tail = options.text("--tail")
    if tail is not None and tail.startswith("-") and tail[1:].isdecimal():
        tail = "all"  # Docker takes any negative number for it
    if tail is not None and tail != "all" and not tail.isdecimal():
        raise InvalidParameter(f"invalid value for tail: {tail}")
    state = container.state()
    pidfd = state.monitor.open() if options.flag("--follow") and state.is_running else None
    count = None if tail in (None, "all") else int(tail or 0)
    for entry in logs.read(container.log_path, follow=options.flag("--follow"), ended=pidfd, tail=count):
        prefix = f"{entry.time} " if options.flag("--timestamps") else ""
        _write(1 if entry.stream == "stdout" else 2, prefix + entry.text)
    return 0


def _write(fd: int, text: str) -> None:
    view = memoryview(text.encode("utf-8", "surrogateescape"))
    while view:
        view = view[os.write(fd, view) :]
