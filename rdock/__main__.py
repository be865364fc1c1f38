"""The way in: `python -m rdock`, scripts/rdock on the source, and the packed program.

scripts/rdock starts the interpreter isolated and without its site module, which halves the time until the
first line runs; where our source and the installed packages are is then ours to say.
"""

from __future__ import annotations

import gc
import os
import sys


def find_packages() -> None:
    """Name the checkout and, if there is one, the environment's packages; last, so that none can hide Python's own."""
    site = sys._xoptions.get("rdock_site")
    if site is not None:
        sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        if site:
            sys.path.append(os.path.abspath(site))


def start() -> int:
    """The command line of this process, with what makes its start short: its exit code."""
    # What is imported stays: looking through it for garbage again and again takes a tenth of a start.
    gc.disable()
    find_packages()
    importer = None
    if not hasattr(sys, "frozen"):
        from rdock import bytecode

        importer = bytecode.install()
    from rdock.cli.main import main

    def all_is_imported() -> None:
        # Nor is it looked through later, in this process or those forked from it.
        gc.freeze()
        gc.enable()

    code = main(sys.argv[1:], all_is_imported)
    if importer:
        importer.update()
    return code


if __name__ == "__main__":
    try:
        exit_code = start()
    except KeyboardInterrupt:
        exit_code = 130  # while modules were still being imported
    # All is said and written; taking the interpreter down in order would cost another 3 ms.
    os._exit(exit_code)
