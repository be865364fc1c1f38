"""system check: whether all that is stored fits together."""

from __future__ import annotations

import sys

from rdock.cli.main import enter
from rdock.cli.progress import report_on
from rdock.cli.usage import Options
from rdock.container import consistency
from rdock.errors import printable

CHECK_TEXT = """\
Usage:  rdock system check [OPTIONS]

Look through everything that is stored for what does not fit together

Prints a line for each thing that is wrong, and ends with 1 if there is one.

Options:
      --images   Verify the content of all images, too: what was stored, and the files that were unpacked from it
  -r, --repair   Bring to an end what was left half-done, free names that lead nowhere, fetch what images lack from the
                 registries that they came from, and unpack damaged layers again
"""


def check(options: Options) -> int:
    # Malformed JSON is told in other words once this is loaded, as by the registry's client, and findings are compared.
    import json  # noqa: F401

    thorough = options.flag("--images")
    if thorough:
        enter(sweep=False)  # files in layers belong to other ids
    found = consistency.findings(thorough=thorough)
    lost: list[str] = []
    if found and options.flag("--repair"):
        enter()
        lost = [*_refetch(thorough=thorough), *consistency.mend(thorough=thorough)]
        left = consistency.findings(thorough=thorough)
        for line in found:
            if line not in left:
                sys.stdout.write(f"repaired: {printable(line)}\n")
        found = list(dict.fromkeys([*left, *lost]))
    for line in found:
        sys.stdout.write(printable(line) + "\n")
    if not found:
        sys.stdout.write("no problems found\n")
    return 1 if found else 0


def _refetch(*, thorough: bool) -> list[str]:
    """Fetch what images lack; a line for each that could not be made whole.

    `thorough` reads all blobs for it. What is fetched is told on the error output.
    """
    from rdock.image import repairing
    from rdock.registry import refetching

    report = report_on(sys.stderr)
    damaged = [digest for digest, _ in repairing.damaged_blobs()] if thorough else []
    return refetching.restore(report.layer, damaged=damaged)
