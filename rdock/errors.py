"""What can go wrong, as kinds × subjects.

A kind says how a caller should react and is moby's (errdefs): not found, conflict, and so on;
a subject says what it was about. Each class knows the exit code of the command line and the HTTP
status of the API. Messages follow Docker's wording where Docker has one: lower case, no final
period, with the name or path that was tried. Low code raises these, only the doors print them.
"""

from __future__ import annotations

import os


class RdockError(Exception):
    """A failure that is explained by one line; `hint` is a second line with the fix, if there is one."""

    http_status = 500
    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


# -- kinds ---------------------------------------------------------------------------------------


class NotFound(RdockError):
    """The named object does not exist."""

    http_status = 404


class InvalidParameter(RdockError):
    """The request can never succeed as it stands."""

    http_status = 400


class Unauthorized(RdockError):
    """Who asked is not known to the registry, or not well enough."""

    http_status = 401


class Forbidden(RdockError):
    """Who asked is known, and may not."""

    http_status = 403


class Conflict(RdockError):
    """The request does not fit the object's present state."""

    http_status = 409


class Unavailable(RdockError):
    """Something needed is missing on this machine or does not answer."""

    http_status = 503


class Unsupported(RdockError):
    """Docker has it, rdock does not."""

    http_status = 501


class SystemFailure(RdockError):
    """The kernel or a helper program refused."""


class DataLoss(RdockError):
    """Stored or received bytes are not what they claim to be."""


# -- subjects ------------------------------------------------------------------------------------


class UsageError(InvalidParameter):
    """The command line does not fit its grammar (exit code 125, as Docker's)."""

    exit_code = 125


class NotThereYet(Unsupported):
    """A command or an option of Docker that rdock lacks, which ends as one that nobody knows does."""

    exit_code = 125


class NoSuchContainer(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"No such container: {name}")


class NoSuchImage(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"No such image: {name}")


class NoSuchVolume(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"get {name}: no such volume")


class NoSuchObject(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"No such object: {name}")


class RegistryUnavailable(Unavailable):
    """A registry cannot be reached, or does not do its work."""


class NotRunning(Conflict):
    def __init__(self, container_id: str) -> None:
        super().__init__(f"container {container_id} is not running")


class CannotExecute(InvalidParameter):
    """The command of a container exists but cannot be executed (exit code 126)."""

    exit_code = 126


class CommandNotFound(InvalidParameter):
    """The command of a container does not exist (exit code 127)."""

    exit_code = 127


def printable(text: str) -> str:
    """A text in one line for a terminal, which does nothing but show it.

    Names and values of images and users come to be in messages, and what is in them is not to steer the
    terminal: control characters, those that turn the direction of writing, and bytes that are no UTF-8 are escaped.
    """
    if text.isprintable():
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # a byte, as os.fsdecode has it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return repr(character)[1:-1]


def reason(error: OSError) -> str:
    """The kernel's words for an OSError, in lower case as in every message: `no such file or directory`."""
    text = error.strerror or os.strerror(error.errno or 0)
    return text[:1].lower() + text[1:]


def system_failure(action: str, error: OSError) -> SystemFailure:
    """`action: path: reason`, the one form in which a failed system call reaches the user."""
    path = error.filename
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    where = f": {path}" if path else ""
    return SystemFailure(f"{action}{where}: {reason(error)}")
