"""The compiled seccomp filters of containers: made once by libseccomp, then read from the cache."""

from __future__ import annotations

import os

from rdock import paths
from rdock.errors import RdockError, SystemFailure, Unavailable
from rdock.linux import seccomp
from rdock.linux.seccomp import INSTRUCTION
from rdock.state import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SAVED = "seccomp.bpf"


def cache() -> str:
    return os.path.join(paths.cache(), "seccomp")


def program(profile: dict[str, Any] | None) -> bytes | None:
    """The BPF program of an OCI seccomp object; None for none.

    Raises Unavailable when libseccomp is missing: a container without its filter is never started in
    silence.
    """
    if profile is None:
        return None
    try:
        path = os.path.join(cache(), seccomp.cache_key(profile))
        cached = _read(path)
        if cached:
            return cached
        made = seccomp.compile_profile(profile)
    except (OSError, ValueError) as e:
        raise Unavailable(
            f"cannot make the seccomp filter: {e}",
            hint="sudo apt-get install libseccomp2, or use --security-opt seccomp=unconfined",
        ) from e
    _remember(path, made)
    return made


def save(directory: str, made: bytes | None) -> None:
    """Leave a running container's filter in its directory, for exec; an empty file if it has none."""
    path = os.path.join(directory, _SAVED)
    if _read(path) == (made or b""):
        return  # from the last start
    with open(path, "wb") as file:
        file.write(made or b"")


def saved(directory: str) -> bytes | None:
    """The filter of a running container; None if it has none. Raises SystemFailure if it is lost."""
    found = _read(os.path.join(directory, _SAVED))
    if found is None:
        raise SystemFailure("the container's seccomp filter is gone")
    return found or None


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            found = file.read()
    except OSError:
        return None
    return found if len(found) % INSTRUCTION == 0 else None


def _remember(path: str, made: bytes) -> None:
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        record.write_bytes(path, made, durable=False)
    except (OSError, RdockError):
        pass  # without a cache it is made again next time
