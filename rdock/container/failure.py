"""Errors on their way from a process in the background to the command that shows them."""

from __future__ import annotations

from rdock import errors
from rdock.errors import RdockError, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def describe(error: RdockError) -> dict[str, str]:
    """An error as the payload of an `f` packet; see stdio.py."""
    return {"class": type(error).__name__, "message": error.message, "hint": error.hint}


def recreate(found: dict[str, Any]) -> RdockError:
    """The error that was described, of the same kind, so that it has the same exit code."""
    kind = getattr(errors, str(found["class"]), None)
    if not (isinstance(kind, type) and issubclass(kind, RdockError)):
        kind = SystemFailure
    error = kind.__new__(kind)
    RdockError.__init__(error, str(found["message"]), str(found["hint"]))
    return error
