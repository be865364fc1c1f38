"""Why a machine does not allow user namespaces, and the line that lifts the ban."""

from __future__ import annotations

import os

_SWITCHES = (
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
    ("/proc/sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=28633"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


def why() -> str:
    """The line that lifts the ban, if a known switch is the cause."""
    for path, value, line in _SWITCHES:
        try:
            with open(path, encoding="utf-8") as file:
                if file.read().strip() == value:
                    return line
        except OSError:
            continue
    if _in_chroot():
        return "user namespaces cannot be made inside a chroot"
    return "an outer container's seccomp filter or a security module may forbid user namespaces"


def _in_chroot() -> bool:
    try:
        here, there = os.stat("/"), os.stat("/proc/1/root/")
    except OSError:
        return False
    return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)
