"""inspect: all that is known of containers and images."""

from __future__ import annotations

import sys

from rdock.cli.main import complain
from rdock.cli.usage import Options
from rdock.container import containers, inspect
from rdock.errors import InvalidParameter, NoSuchContainer, NoSuchImage, NoSuchObject, NotFound
from rdock.image import describe, images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INSPECT_TEXT = """\
Usage:  rdock inspect [OPTIONS] NAME|ID [NAME|ID...]

Return low-level information on rdock objects

Aliases:
  rdock container inspect, rdock image inspect, rdock inspect

Options:
  -f, --format string   Format output using a custom template
      --type string     Return JSON for specified type: container or image
"""


def inspect_(options: Options) -> int:
    kind = options.text("--type") or ""
    if kind not in ("", "container", "image"):
        raise InvalidParameter(f'"{kind}" is not a valid value for --type')
    found: list[dict[str, Any]] = []
    missing: list[NotFound] = []
    for name in options.arguments:
        try:
            found.append(_describe(name, kind))
        except NotFound as e:
            missing.append(e)
    text = options.text("--format")
    if text and text != "json":
        from rdock.cli import template

        for item in found:
            sys.stdout.write(template.render(text, item) + "\n")
    else:
        import json  # of the dear ones, see tests/unit/test_start.py

        sys.stdout.write(json.dumps(found, indent=4, ensure_ascii=False) + "\n")
    return max([complain(error, 1) for error in missing], default=0)


def _describe(name: str, kind: str) -> dict[str, Any]:
    if kind != "image":
        try:
            return inspect.describe(containers.lookup(name))
        except NoSuchContainer:
            if kind == "container":
                raise
    try:
        return describe.inspect(images.lookup(name))
    except NoSuchImage:
        if kind == "image":
            raise
        raise NoSuchObject(name) from None
