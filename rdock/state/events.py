"""The journal of what has happened: `events.jsonl`, one JSON object a line, in the shape of Docker's events.

Written by every command and monitor, read by `events` (container/event_reading.py). A line is added by one write
to the end of the file, so writers need no lock against each other; the shared lock that each holds for that moment
keeps the file from being rotated under it. Imported by `run`, so it imports next to nothing.
"""

from __future__ import annotations

import fcntl
import os
import time

from rdock import jsontext, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# At this size the file becomes the older one, and that one is forgotten.
MAX_SIZE = 4 << 20
_TRIES = 10


def record_event(kind: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
    """Note that something has happened to an object. Never fails: an event less is no reason to do less.

    `kind` is Docker's Type (container, image, network, volume), `action` its verb (`start`, `exec_create: sh`),
    `id` the full id, or the name of what has no id. Attributes of a container are its labels, `image`, `name`,
    and what the action has to tell, as `exitCode` and `signal`.
    """
    try:
        _append(_line(kind, action, id, attributes, time.time_ns()))
    except (OSError, ValueError, TypeError):
        pass


def _line(kind: str, action: str, id: str, attributes: Mapping[str, str], ns: int) -> bytes:
    event: dict[str, object] = {}
    if kind in ("container", "image"):
        event |= {"status": action, "id": id}
        if attributes.get("image"):
            event["from"] = attributes["image"]
    event |= {
        "Type": kind,
        "Action": action,
        "Actor": {"ID": id, "Attributes": dict(sorted(attributes.items()))},
        "scope": "local",
        "time": ns // 1_000_000_000,
        "timeNano": ns,
    }
    return jsontext.render(event).encode() + b"\n"


def _append(line: bytes) -> None:
    path = paths.events()
    for _ in range(_TRIES):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            if not _is_at(fd, path):
                continue  # it was rotated meanwhile
            os.write(fd, line)
            if os.fstat(fd).st_size >= MAX_SIZE:
                _rotate(fd, path)
            return
        finally:
            os.close(fd)


def _is_at(fd: int, path: str) -> bool:
    ours = os.fstat(fd)
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)


def _rotate(fd: int, path: str) -> None:
    """Begin a new file, unless somebody writes to this one just now: then one of those who come next will."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    if _is_at(fd, path):
        os.rename(path, f"{path}.1")
        # At once, so that there always is one.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
