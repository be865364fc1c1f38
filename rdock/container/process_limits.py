"""Limits and parameters of the kernel's that a container may be given: ulimits, sysctls, the OOM score.

Here they are checked, in Docker's words; the runtime sets them. What an ordinary user may not set is
refused up front, since the kernel would refuse it at every start: a ulimit above the caller's own hard
limit (runc and crun fail there as well, and a limit that is silently another one misleads).
"""

from __future__ import annotations

import resource

from rdock.errors import InvalidParameter
from rdock.linux.kernelfile import read_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Docker's, which lack RLIMIT_AS.
_ULIMITS = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
)  # fmt: skip
# Those of the kernel's parameters that belong to a namespace.
_OF_IPC = (
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
    "kernel.shmmni", "kernel.shm_rmid_forced",
)  # fmt: skip
_LIMITS = {name: getattr(resource, f"RLIMIT_{name.upper()}", -1) for name in _ULIMITS}


def parse_ulimit(text: str) -> dict[str, Any]:
    """`NAME=SOFT[:HARD]` as the API has it; -1 is unlimited. Raises InvalidParameter in go-units' words."""
    name, equals, values = text.partition("=")
    if not equals:
        raise InvalidParameter(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise InvalidParameter(f"invalid ulimit type: {name}")
    numbers = values.split(":")
    if len(numbers) > 2:
        raise InvalidParameter(f"too many limit value arguments - {values}, can only have up to two, `soft[:hard]`")
    soft, hard = _integer(numbers[0]), _integer(numbers[-1])
    if hard != -1 and soft == -1:
        raise InvalidParameter(
            f"ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
        )
    if hard != -1 and soft > hard:
        raise InvalidParameter(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    _check_allowed(name, hard)
    return {"Name": name, "Soft": soft, "Hard": hard}


def _integer(text: str) -> int:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not digits.isascii() or not digits.isdecimal():
        raise InvalidParameter(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    if len(digits) > 19 or not -(1 << 63) <= int(text) < 1 << 63:
        raise InvalidParameter(f'strconv.ParseInt: parsing "{text}": value out of range')
    if int(text) < -1:
        raise InvalidParameter(f"invalid ulimit value: {text}: -1 is unlimited")
    return int(text)


def _check_allowed(name: str, hard: int) -> None:
    number = _LIMITS[name]
    if number < 0:
        return
    most = resource.getrlimit(number)[1]
    if most != resource.RLIM_INFINITY and (hard < 0 or hard > most):
        wanted = "unlimited" if hard < 0 else hard
        raise InvalidParameter(f"ulimit {name}: {wanted} is above your own hard limit of {most}, which holds here too")


def rlimits(ulimits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As the OCI spec has them."""
    return [
        {"type": f"RLIMIT_{limit['Name'].upper()}", "soft": _unsigned(limit["Soft"]), "hard": _unsigned(limit["Hard"])}
        for limit in ulimits
    ]


def _unsigned(value: int) -> int:
    return value % (1 << 64)  # RLIM_INFINITY is all bits


def parse_sysctls(entries: list[str], *, host_network: bool, host_ipc: bool) -> dict[str, str]:
    """`--sysctl KEY=VALUE`: those of namespaces, which must be the container's own. Raises InvalidParameter."""
    found = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        of_network, of_ipc = key.startswith("net."), key in _OF_IPC or key.startswith("fs.mqueue.")
        parts = key.replace("/", ".").split(".")
        if not equals or not (of_network or of_ipc) or "" in parts or "\n" in value or "\0" in entry:
            raise InvalidParameter(f'invalid argument "{entry}" for "--sysctl" flag: sysctl \'{entry}\' is not allowed')
        if of_network and host_network:
            raise InvalidParameter(f'sysctl "{key}" not allowed in host network namespace')
        if of_ipc and host_ipc:
            raise InvalidParameter(f'sysctl "{key}" is not allowed in the hosts ipc namespace')
        found[key] = value
    return found


def check_oom_score(score: int | None) -> int:
    """Raises InvalidParameter in Docker's words."""
    if score is not None and not -1000 <= score <= 1000:
        raise InvalidParameter(f"Invalid value {score}, range for oom score adj is [-1000, 1000]")
    return score or 0


def possible_oom_score(wanted: int) -> int:
    """The score that can be had: without root nobody goes below his own (proc(5)), as in Docker rootless."""
    return max(wanted, read_number("/proc/self/oom_score_adj"))
