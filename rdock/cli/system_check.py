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
      --images   Verify the content of all images, too
  -r, --repair   Bring to an end what was left half-done, and free names that lead nowhere
"""


def check(options: Options) -> int:
    thorough = options.flag("--images")
    found = consistency.findings(thorough=thorough)
    if found and options.flag("--repair"):
        enter()
        consistency.mend()
        left = consistency.findings(thorough=thorough)
        for line in found:
            if line not in left:
                sys.stdout.write(f"repaired: {printable(line)}\n")
        found = left
    for line in found:
        sys.stdout.write(printable(line) + "\n")
    if not found:
        sys.stdout.write("no problems found\n")
    return 1 if found else 0
