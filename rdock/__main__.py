"""The way in: `python -m rdock`, scripts/rdock on the source, and the packed program.

scripts/rdock starts the interpreter isolated and without its site module, which halves the time until the
first line runs; where our source and the installed packages are is then ours to say.
"""

from __future__ import annotations

import os
import sys


def find_packages() -> None:
    """Name the checkout and, if there is one, the environment's packages; last, so that none can hide Python's own."""
    site = sys._xoptions.get("rdock_site")
    if site is not None:
        sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        if site:
            sys.path.append(os.path.abspath(site))


if __name__ == "__main__":
    import gc

    # What is imported stays: looking through it for garbage again and again takes a tenth of a start. main enables it.
    gc.disable()
    find_packages()
    try:
        importer = None
        if not hasattr(sys, "frozen"):
            from rdock import bytecode

            importer = bytecode.install()
        from rdock.cli.main import main

        code = main(sys.argv[1:], importer.close if importer else None)
        if importer:
            importer.update()
    except KeyboardInterrupt:
        code = 130  # while modules were still being imported
    # All is said and written; taking the interpreter down in order would cost another 3 ms.
    os._exit(code)
