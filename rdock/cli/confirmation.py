"""The question that commands ask which remove much."""

from __future__ import annotations

import sys


def confirm(warning: str) -> bool:
    """Warn, ask on the terminal, and tell whether the answer was yes; no answer is none."""
    sys.stdout.write(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
