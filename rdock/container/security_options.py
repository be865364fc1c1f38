"""`--security-opt`: what of Docker's security options there is without root, and what they say of a container."""

from __future__ import annotations

from rdock.container import seccomp_default, seccomp_profile
from rdock.errors import InvalidParameter, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

_NO_NEW = "no-new-privileges"
_SPECIAL = ("unconfined", "builtin")
# What does nothing here, in the words that ask for nothing.
_IDLE = {"apparmor": ("unconfined",), "label": ("disable",), "systempaths": ("unconfined",)}
_NOT_ENFORCED = {
    "apparmor": "AppArmor profiles cannot be set without root: only unconfined is possible",
    "label": "SELinux labels are not set by rdock: only disable is possible",
}


def parse(options: list[str], capabilities: Collection[str]) -> list[str]:
    """The options as they are stored: a seccomp profile by its content, as Docker does.

    `capabilities`: the container's bounding set. Raises InvalidParameter, Unsupported.
    """
    return [_parse(option, capabilities) for option in options]


def _parse(option: str, capabilities: Collection[str]) -> str:
    name, equals, value = option.partition("=")
    if not equals and name != _NO_NEW:
        name, equals, value = option.partition(":")
    if name == _NO_NEW:
        if value not in ("", "true", "false"):
            raise InvalidParameter(f"invalid --security-opt {option}: supported values are true, false")
        return option
    if not value:
        raise InvalidParameter(f'invalid --security-opt: "{option}"')
    if name == "seccomp":
        if value in _SPECIAL:
            return f"seccomp={value}"
        text = seccomp_profile.read(value)
        seccomp_profile.check(text, capabilities)
        return f"seccomp={text}"
    if name == "credentialspec":
        raise Unsupported("--security-opt credentialspec is for containers of Windows")
    if name not in _IDLE:
        raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
    if value not in _IDLE[name]:
        if name in _NOT_ENFORCED:
            raise Unsupported(f"--security-opt {option}: {_NOT_ENFORCED[name]}")
        raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
    return f"{name}={value}"


def no_new_privileges(options: list[str]) -> bool:
    wanted = False
    for option in options:
        name, _, value = option.replace(":", "=", 1).partition("=")
        if name == _NO_NEW:
            wanted = value in ("", "true")
    return wanted


def shows_system_paths(options: list[str]) -> bool:
    """Whether the kernel's files in /proc and /sys are to be neither masked nor read-only."""
    return "systempaths=unconfined" in options


def seccomp(options: list[str], capabilities: Collection[str]) -> dict[str, Any] | None:
    """The OCI object of the filter; None for no filter. Raises InvalidParameter."""
    chosen = "builtin"
    for option in options:
        name, _, value = option.partition("=")
        if name == "seccomp":
            chosen = value
    if chosen == "unconfined":
        return None
    if chosen == "builtin":
        return seccomp_default.profile(capabilities)
    return seccomp_profile.resolve(chosen, capabilities)
