"""What Docker has and rdock will never have, and why: the reason is part of what the user is told.

Where an option stands in a command's help text, that counts, and not what is said of it here.
"""

from __future__ import annotations

from rdock.errors import Unsupported

_ONE_MACHINE = "rdock is for one machine, and this is for clusters"
_WINDOWS = "only Docker on Windows has it"
_CHECKPOINTS = "only the machine's root may save and restore processes"
_NO_DAEMON = "rdock has no daemon: it works on this machine, as you"
_OLD_CGROUPS = "only version 1 of the kernel's control groups has it"

COMMANDS = {
    "checkpoint": _CHECKPOINTS,
    "config": _ONE_MACHINE,
    "context": _NO_DAEMON,
    "node": _ONE_MACHINE,
    "plugin": "plugins belong to Docker's daemon, which rdock does without",
    "secret": _ONE_MACHINE,
    "service": _ONE_MACHINE,
    "stack": _ONE_MACHINE,
    "swarm": _ONE_MACHINE,
    "trust": "Docker Content Trust has come to its end, and rdock has never had it",
    "container checkpoint": _CHECKPOINTS,
    "volume update": _ONE_MACHINE,
}

OPTIONS = {
    "--checkpoint": _CHECKPOINTS,
    "--checkpoint-dir": _CHECKPOINTS,
    "--cpu-count": _WINDOWS,
    "--cpu-percent": _WINDOWS,
    "--cpu-rt-period": _OLD_CGROUPS,
    "--cpu-rt-runtime": _OLD_CGROUPS,
    "--device-cgroup-rule": "only the machine's root may limit what is done to a device",
    "--disable-content-trust": "images are not checked against Docker's Notary servers",
    "--io-maxbandwidth": _WINDOWS,
    "--io-maxiops": _WINDOWS,
    "--isolation": _WINDOWS,
    "--kernel-memory": "the kernel has no such limit any more",
    "--memory-swappiness": _OLD_CGROUPS,
    "--oom-kill-disable": _OLD_CGROUPS,
    "--squash": "Docker has it no more since BuildKit builds its images",
    "--storage-opt": "only the machine's root may limit the size of a container",
    "--use-api-socket": _NO_DAEMON,
    "--volume-driver": "drivers of volumes are plugins of Docker's daemon",
}

# Those of clusters that mean something else, and are wanted, in other commands.
_OF_COMMANDS = {
    "network create": "--config-from --config-only --ingress --scope",
    "volume create": """
        --availability --group --limit-bytes --required-bytes --scope --secret --sharing --topology-preferred
        --topology-required --type""",
    "volume ls": "--cluster",
}


def of_command(first: str, second: str) -> Unsupported | None:
    for name in (first, f"{first} {second}"):
        if name in COMMANDS:
            return Unsupported(f"'rdock {name}' is not supported: {COMMANDS[name]}")
    return None


def reason_against(command: str, option: str) -> str:
    """Why a command will not have an option, or nothing."""
    return _ONE_MACHINE if option in _OF_COMMANDS.get(command, "").split() else OPTIONS.get(option, "")


def of_option(command: str, option: str, shown: str) -> Unsupported | None:
    reason = reason_against(command, option)
    if not reason:
        return None
    error = Unsupported(f"{shown} is not supported: {reason}")
    error.exit_code = 125
    return error


def of_daemon(option: str, value: str) -> Unsupported:
    """Against a global option that names a daemon to work with."""
    error = Unsupported(f"'rdock {option} {value}'".replace(" '", "'") + f" is not supported: {_NO_DAEMON}")
    error.exit_code = 125
    return error
