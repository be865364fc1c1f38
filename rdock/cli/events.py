"""events: what has happened, and what happens."""

from __future__ import annotations

import sys
import time

from rdock.cli.usage import Options
from rdock.container import event_reading
from rdock.errors import UsageError, printable
from rdock.state import moment, timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rdock.container.event_reading import Event

EVENTS_TEXT = """\
Usage:  rdock events [OPTIONS]

Get real time events from the server

Aliases:
  rdock system events, rdock events

Options:
  -f, --filter filter   Filter output based on conditions provided
      --format string   Format output using a custom template:
                        'json':             Print in JSON format
                        'TEMPLATE':         Print output using the given Go template.
      --since string    Show all events created since timestamp
      --until string    Stream events until this timestamp
"""


def events(options: Options) -> int:
    since, until = (
        moment.parse(text, name.removeprefix("--")) if (text := options.text(name)) else None
        for name in ("--since", "--until")
    )
    template = options.text("--format") or ""
    for found in event_reading.read(_filters(options), since=since, until=until):
        if found:
            sys.stdout.write("".join(_shown(event, template) + "\n" for event in found))
            sys.stdout.flush()
    return 0


def _filters(options: Options) -> dict[str, list[str]]:
    filters: dict[str, list[str]] = {}
    for text in options.list("--filter"):
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(
                f'invalid argument "{text}" for "-f, --filter" flag: bad format of filter (expected name=value)',
                options.hint,
            )
        filters.setdefault(name.strip().lower(), []).append(value.strip())
    return filters


def _shown(event: Event, template: str) -> str:
    if not template:
        return line(event)
    if template in ("json", "{{json .}}"):
        from rdock.cli.go_values import to_json

        return to_json(event.record)
    from rdock.cli import template as go

    fields = {
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "Scope": "local",
        "Time": event.time // 1_000_000_000,
        "TimeNano": event.time,
        "Status": event.record.get("status", ""),
        "ID": event.record.get("id", ""),
        "From": event.record.get("from", ""),
    }
    return go.render(template, fields)


def line(event: Event) -> str:
    """`2026-01-01T12:00:00.000000000+01:00 container start ID (image=…, name=…)`"""
    attributes = ", ".join(f"{name}={value}" for name, value in sorted(event.attributes.items()))
    text = f"{event.kind} {event.action} {event.id}" + (f" ({attributes})" if attributes else "")
    return f"{_local_time(event.time)} {printable(text)}"


def _local_time(ns: int) -> str:
    shift = time.localtime(ns // 1_000_000_000).tm_gmtoff
    text = timestamp.fixed(ns + shift * 1_000_000_000).removesuffix("Z")
    minutes = abs(shift) // 60
    zone = f"{'-' if shift < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}" if shift else "Z"
    return text + zone
