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


def program(profile: dict[str, Any] | None) -> bytes | None:
    """The BPF program of an OCI seccomp object; None for none.

    Raises Unavailable when libseccomp is missing: a container without its filter is never started in
    silence.
    """
    if profile is None:
        return None
    try:
        path = os.path.join(paths.cache(), "seccomp", seccomp.cache_key(profile))
        cached = _read(path)
        if cached is not None:
            return cached
        made = seccomp.compile_profile(profile)
    except (OSError, ValueError) as e:
        raise Unavailable(
            f"cannot make the seccomp filter: {e}",
            hint="sudo apt-get install libseccomp2, or use --security-opt seccomp=unconfined",
        ) from e
    _remember(path, made)
    return made


def save(bundle: str, made: bytes) -> None:
    """Leave a running container's filter beside its bundle, for exec."""
    with open(os.path.join(bundle, _SAVED), "wb") as file:
        file.write(made)


def saved(bundle: str) -> bytes | None:
    """The filter of a running container; None if it has none. Raises SystemFailure if it is lost."""
    found = _read(os.path.join(bundle, _SAVED))
    if found is None:
        spec = record.read(os.path.join(bundle, "config.json"))
        if spec is None or "seccomp" in spec["linux"]:
            raise SystemFailure("the container's seccomp filter is gone")
    return found


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            found = file.read()
    except OSError:
        return None
    return found if found and len(found) % INSTRUCTION == 0 else None


def _remember(path: str, made: bytes) -> None:
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(made)
        os.rename(temporary, path)
    except (OSError, RdockError):
        pass  # without a cache it is made again next time
