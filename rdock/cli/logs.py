"""logs: what a container has written, and writes."""

from __future__ import annotations

import os

from rdock.cli.usage import Options
from rdock.container import containers, log_reading
from rdock.errors import InvalidParameter, Unsupported
from rdock.state import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rdock.container.log_reading import Entry

LOGS_TEXT = """\
Usage:  rdock logs [OPTIONS] CONTAINER

Fetch the logs of a container

Aliases:
  rdock container logs, rdock logs

Options:
      --details        Show extra details provided to logs
  -f, --follow         Follow log output
      --since string   Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
  -n, --tail string    Number of lines to show from the end of the logs (default "all")
  -t, --timestamps     Show timestamps
      --until string   Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42
                       minutes)
"""


def logs(options: Options) -> int:
    tail = _tail(options.text("--tail"))
    since, until = (_moment(options.text(name), name) for name in ("--since", "--until"))
    container = containers.lookup(options.arguments[0])
    if container.host_config.log_config.get("Type") == "none":
        raise Unsupported("configured logging driver does not support reading")
    follow = options.flag("--follow")
    state = container.state()
    # The keeper, since a monitor that is killed has a successor.
    ended = (state.keeper.open() or state.monitor.open()) if follow and state.is_running else None
    wanted = log_reading.Range(tail, since, until)
    for entries in log_reading.read(container.log_path, wanted, follow=follow, ended=ended):
        _show(entries, times=options.flag("--timestamps"), details=options.flag("--details"))
    return 0


def _tail(text: str | None) -> int | None:
    if text is None or text == "all" or (text.startswith("-") and text[1:].isdecimal()):
        return None  # Docker takes any negative number for all
    if not text.isdecimal() or not text.isascii():
        raise InvalidParameter(f"invalid value for tail: {text}")
    return int(text[:18])  # there are not so many lines


def _moment(text: str | None, option: str) -> int | None:
    if not text:
        return None
    from rdock.state import moment

    return moment.parse(text, option.removeprefix("--"))


def _show(entries: list[Entry], *, times: bool, details: bool) -> None:
    """Print entries to the streams they came from, those of one stream that follow each other at once."""
    stream, texts = "", [""]
    for entry in entries:
        if entry.stream != stream:
            _write(stream, "".join(texts))
            stream, texts = entry.stream, []
        if times:
            texts.append(f"{timestamp.fixed(entry.time)} ")
        if details:
            texts.append(f"{_details(entry.attributes)} ")
        texts.append(entry.text)
    _write(stream, "".join(texts))


def _details(attributes: dict[str, str]) -> str:
    """`name=value,…`, escaped as in a URL."""
    if not attributes:
        return ""
    from urllib.parse import quote_plus

    return ",".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in sorted(attributes.items()))


def _write(stream: str, text: str) -> None:
    view = memoryview(text.encode("utf-8", "replace"))
    while view:
        view = view[os.write(2 if stream == "stderr" else 1, view) :]
