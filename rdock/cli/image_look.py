"""history, image inspect, image exists: what is known of an image."""

from __future__ import annotations

from rdock.cli import output
from rdock.cli.usage import Options
from rdock.errors import printable
from rdock.image import describe, images, platforms
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HISTORY_TEXT = """\
Usage:  rdock history [OPTIONS] IMAGE

Show the history of an image

Aliases:
  rdock image history, rdock history

Options:
      --format string     Format output using a custom template:
                          'table':            Print output in table format with column headers (default)
                          'table TEMPLATE':   Print output in table format using the given Go template
                          'json':             Print in JSON format
                          'TEMPLATE':         Print output using the given Go template.
  -H, --human             Print sizes and dates in human readable format (default true)
      --no-trunc          Don't truncate output
      --platform string   Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g.,
                          "linux/amd64")
  -q, --quiet             Only show image IDs
"""


def history(options: Options) -> int:
    (name,) = options.arguments
    platform = platforms.parse(options.text("--platform"))
    image = images.lookup(name)
    platforms.check_provided(platform, image, name)
    human = options.flag("--human") if options.given("--human") else True
    whole = options.flag("--no-trunc")
    rows = [output.Row(_Step(step, human, whole), _FIELDS, "*image.historyContext") for step in describe.history(image)]
    output.show(rows, _COLUMNS if human else _PLAIN_COLUMNS, options, quiet_key="ID")
    return 0


class _Step(Value):
    """A line of the history."""

    step: dict[str, Any]
    human: bool
    whole: bool


_COLUMNS = {"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT"}
_PLAIN_COLUMNS = {
    "ID": "IMAGE", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT",
}  # fmt: skip
_CREATED_BY_LENGTH = 45


def _id(shown: _Step) -> str:
    found: str = shown.step["Id"]
    return found if shown.whole or not found.startswith("sha256:") else found[7:19]


def _created_at(shown: _Step) -> str:
    import time

    moment = images.timestamp(shown.step["Created"])
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)) if moment > 0 else "N/A"


def _created_since(shown: _Step) -> str:
    moment = images.timestamp(shown.step["Created"])
    if not shown.human:
        return _created_at(shown)
    return f"{output.age(moment)} ago" if moment > 0 else "N/A"


def _created_by(shown: _Step) -> str:
    text = printable(shown.step["CreatedBy"].replace("\t", " "))
    if not shown.whole and len(text) > _CREATED_BY_LENGTH:
        text = text[: _CREATED_BY_LENGTH - 1] + "…"
    return text


_FIELDS: output.Table = {
    "ID": _id,
    "CreatedSince": _created_since,
    "CreatedAt": _created_at,
    "CreatedBy": _created_by,
    "Size": lambda shown: output.size(shown.step["Size"], 3) if shown.human else str(shown.step["Size"]),
    "Comment": lambda shown: printable(shown.step["Comment"]),
}


EXISTS_TEXT = """\
Usage:  rdock image exists IMAGE

Check if an image exists

Ends with 0 if it does, with 1 if it does not, and with 125 if that cannot be told.
"""


def exists(options: Options) -> int:
    return 0 if images.find(options.arguments[0]) is not None else 1
