"""Where in a container something may be mounted."""

from __future__ import annotations

import os

from rdock.errors import InvalidParameter


def check(target: str, what: str) -> str:
    """A target in its shortest spelling: absolute, not the root, and not below /proc; /sys is the kernel's alone.

    `what` begins the message, as in "invalid tmpfs: …". Raises InvalidParameter. A mount over /proc would hide what
    rdock itself checks there (CVE-2019-16884).
    """
    if not target.startswith("/"):
        raise InvalidParameter(f"{what}: invalid mount path: '{target}' mount path must be absolute")
    if "\0" in target:
        raise InvalidParameter(f"{what}: invalid mount path: a NUL byte cannot be in it")
    path = os.path.normpath("/" + target.lstrip("/"))
    if path == "/":
        raise InvalidParameter(f"{what}: invalid specification: destination can't be '/'")
    if path == "/proc" or path.startswith("/proc/") or path == "/sys":
        inside = path[:5].rstrip("/")
        raise InvalidParameter(f"{what}: '{target}' cannot be mounted because it is inside {inside}")
    return path
