"""system check: whether all that is stored fits together."""

from __future__ import annotations

import sys

from rdock.cli.main import enter
from rdock.cli.usage import Options
from rdock.container import consistency
from rdock.errors import printable

CHECK_TEXT = """\
Usage:  rdock system check [OPTIONS]

Look through everything that is stored for what does not fit together

Prints a line for each thing that is wrong, and ends with 1 if there is one.

Options:
      --images   Verify the content of all images, too: what was stored, and the files that were unpacked from it
  -r, --repair   Bring to an end what was left half-done, free names that lead nowhere, and unpack damaged layers again
"""


def check(options: Options) -> int:
    thorough = options.flag("--images")
    if thorough:
        enter(sweep=False)  # files in layers belong to other ids
    found = consistency.findings(thorough=thorough)
    lost: list[str] = []
    if found and options.flag("--repair"):
        enter()
        lost = consistency.mend(thorough=thorough)
        left = consistency.findings(thorough=thorough)
        for line in found:
            if line not in left:
                sys.stdout.write(f"repaired: {printable(line)}\n")
        found = [*left, *(line for line in lost if line not in left)]
    for line in found:
        sys.stdout.write(printable(line) + "\n")
    if not found:
        sys.stdout.write("no problems found\n")
    return 1 if found else 0
