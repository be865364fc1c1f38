"""A user's own seccomp profile: Docker's format (archMap, includes, excludes), or OCI's, to the OCI object.

Docker's rules depend on the machine and on the capabilities of the container, so what is stored is the
file's content, and the object is made from it for each run.
"""

from __future__ import annotations

import os

from rdock import jsontext
from rdock.errors import InvalidParameter, reason
from rdock.linux import seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

_MOST_BYTES = 4 << 20
# uname's machine: the name in includes and excludes, which is Go's, and the OCI one.
_MACHINES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
}
_BOTH_ARCHITECTURES = (
    "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
)
_BOTH_NAMES = "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"


def read(path: str) -> str:
    """The content of a profile's file, as JSON without blanks. Raises InvalidParameter in Docker's words."""
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as e:
        raise InvalidParameter(f"opening seccomp profile ({path}) failed: open {path}: {reason(e)}") from e
    try:
        if len(content) > _MOST_BYTES:
            raise ValueError(f"larger than {_MOST_BYTES} bytes")
        return jsontext.render(jsontext.parse(content))
    except (ValueError, RecursionError) as e:
        raise InvalidParameter(f"compacting json for seccomp profile ({path}) failed: {e}") from e


def resolve(text: str, capabilities: Collection[str]) -> dict[str, Any] | None:
    """The OCI object for a container with this bounding set; None for a profile that is empty.

    Raises InvalidParameter for what is no profile.
    """
    try:
        profile = _object(jsontext.parse(text), "a profile")
        if not profile.get("defaultAction") and not profile.get("syscalls"):
            return None
        seccomp.flag_bits(_list(profile, "flags"))
        found = {
            "defaultAction": profile.get("defaultAction"),
            "architectures": _architectures(profile),
            "syscalls": [_rule(rule) for rule in _list(profile, "syscalls") if _holds(rule, capabilities)],
        }
        if profile.get("defaultErrnoRet") is not None:
            found["defaultErrnoRet"] = profile["defaultErrnoRet"]
    except (ValueError, TypeError, RecursionError) as e:
        raise InvalidParameter(f"Decoding seccomp profile failed: {e}") from e
    return found


def check(text: str, capabilities: Collection[str]) -> None:
    """Raises InvalidParameter for a profile of which no filter can be made."""
    profile = resolve(text, capabilities)
    if profile is None:
        return
    try:
        seccomp.compile_profile(profile)
    except ValueError as e:
        raise InvalidParameter(f"Decoding seccomp profile failed: {e}") from e
    except FileNotFoundError:
        pass  # no library: said at the start, for every profile alike
    except OSError as e:
        raise InvalidParameter(f"seccomp profile: {e.filename or 'libseccomp'}: {reason(e)}") from e


def _architectures(profile: dict[str, Any]) -> list[Any]:
    given, by_machine = _list(profile, "architectures"), _list(profile, "archMap")
    if given and by_machine:
        raise ValueError(_BOTH_ARCHITECTURES)
    native = _MACHINES.get(os.uname().machine, ("", ""))[1]
    for entry in by_machine:
        if _object(entry, "archMap").get("architecture") == native:
            return [native, *_list(entry, "subArchitectures")]
    return given


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    names = _list(rule, "names")
    if rule.get("name"):
        if names:
            raise ValueError(_BOTH_NAMES)
        names = [rule["name"]]
    found = {"names": names, "action": rule.get("action")}
    for key in ("args", "errnoRet"):
        if rule.get(key) is not None:
            found[key] = rule[key]
    return found


def _holds(rule: Any, capabilities: Collection[str]) -> bool:
    """Whether a rule is for this machine and this container."""
    rule = _object(rule, "syscalls")
    machine = _MACHINES.get(os.uname().machine, ("", ""))[0]
    includes, excludes = (
        _object(rule.get("includes") or {}, "includes"),
        _object(rule.get("excludes") or {}, "excludes"),
    )
    if machine in _list(excludes, "arches") or set(_list(excludes, "caps")) & set(capabilities):
        return False
    if excludes.get("minKernel") and _kernel() >= _version(excludes["minKernel"]):
        return False
    if _list(includes, "arches") and machine not in _list(includes, "arches"):
        return False
    if not set(_list(includes, "caps")) <= set(capabilities):
        return False
    return not includes.get("minKernel") or _kernel() >= _version(includes["minKernel"])


def _kernel() -> tuple[int, int]:
    return _version(".".join(os.uname().release.split("-")[0].split(".")[:2]))


def _version(text: Any) -> tuple[int, int]:
    major, _, minor = str(text).partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise ValueError(f"minKernel: not a version: {text!r}")
    return int(major), int(minor)


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what}: not an object")
    return value


def _list(where: dict[str, Any], key: str) -> list[Any]:
    found = where.get(key) or []
    if not isinstance(found, list):
        raise ValueError(f"{key}: not a list")
    return found
