"""From what a user writes to a container's configuration: the values of options, checked and completed.

Both doors use these. Everything is refused here, before anything is made.
"""

from __future__ import annotations

import os

from rdock import config as settings
from rdock.container.config import SHM_SIZE, Config, merge_env, stop_signal
from rdock.errors import InvalidParameter
from rdock.launch import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rdock.image.manifest import ImageConfig

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def merge(config: Config, image: ImageConfig, *, given_command: bool) -> Config:
    """Complete a configuration with what the image says, by Docker's rules.

    An entrypoint that is given, even an empty one, takes the image's command away.
    """
    entrypoint, command = config.entrypoint, config.cmd
    if entrypoint is None:
        entrypoint = list(image.entrypoint or [])
        if not given_command:
            command = list(image.cmd or [])
    merged = config._replace(
        entrypoint=entrypoint,
        cmd=command or [],
        env=merge_env(list(image.env), config.env),
        user=config.user or image.user,
        working_dir=config.working_dir or check_directory(image.working_dir) or "/",
        labels={**image.labels, **config.labels},
        exposed_ports={**{port: {} for port in image.exposed_ports}, **config.exposed_ports},
        volumes={**{target: {} for target in image.volumes}, **config.volumes},
        stop_signal=config.stop_signal or image.stop_signal,
    )
    if not merged.entrypoint and not merged.cmd:
        raise InvalidParameter("no command specified")
    if merged.volumes:
        _check_volumes(merged)
    stop_signal(merged.stop_signal)
    return merged


def _check_volumes(merged: Config) -> None:
    from rdock.volume import targets

    for target in merged.volumes:
        targets.check(target, f"invalid volume specification: '{target}'")


def expand_env(entries: list[str], environment: Mapping[str, str]) -> list[str]:
    """`-e NAME` copies the caller's variable, if there is one. Raises InvalidParameter for no name."""
    found = []
    for entry in entries:
        name, equals, _ = entry.partition("=")
        if not name:
            raise InvalidParameter(f"invalid environment variable: {entry}")
        if equals:
            found.append(entry)
        elif name in environment:
            found.append(f"{name}={environment[name]}")
    return found


def parse_labels(entries: list[str]) -> dict[str, str]:
    labels = {}
    for entry in entries:
        name, _, value = entry.partition("=")
        if not name.strip():
            raise InvalidParameter(f"invalid label '{entry}': empty name")
        labels[name] = value
    return labels


def check_hostname(name: str) -> str:
    """It ends up in files of the container, so it must be one word (RFC 1123; Linux allows 64 bytes)."""
    good = len(name) <= 64 and all(part and part.isascii() and _is_label(part) for part in name.split("."))
    if name and not good:
        raise InvalidParameter(f"invalid hostname format: {name!r}")
    return name


def _is_label(part: str) -> bool:
    return part.replace("-", "").replace("_", "").isalnum() and part[0] != "-" and part[-1] != "-"


def check_directory(path: str) -> str:
    if path and not path.startswith("/"):
        raise InvalidParameter(f"the working directory '{path}' is invalid, it needs to be an absolute path")
    return os.path.normpath("/" + path.lstrip("/")) if path else ""


def parse_size(text: str | None, option: str) -> int:
    """`64m`, `1g`, `65536` → bytes. Raises InvalidParameter."""
    if text is None:
        return SHM_SIZE
    lower = text.lower().removesuffix("ib").removesuffix("b")
    number, unit = (lower[:-1], lower[-1:]) if lower[-1:] in _UNITS and lower else (lower, "")
    try:
        size = int(float(number) * _UNITS[unit])
    except (ValueError, OverflowError):
        size = -1
    if size < 0:
        raise InvalidParameter(f'invalid argument "{text}" for "{option}" flag: invalid size: \'{text}\'')
    return size


def parse_tmpfs(entries: list[str]) -> dict[str, str]:
    if not entries:
        return {}
    from rdock.volume import targets

    found = {}
    for entry in entries:
        target, _, options = entry.partition(":")
        for option in filter(None, options.split(",")):
            name = option.partition("=")[0]
            if name not in _TMPFS_OPTIONS:
                raise InvalidParameter(f"invalid tmpfs option: '{option}'")
        found[targets.check(target, "invalid tmpfs")] = options
    return found


_TMPFS_OPTIONS = frozenset(
    "ro rw suid nosuid dev nodev exec noexec size mode uid gid nr_inodes nr_blocks noatime relatime".split()
)


def default_runtime() -> str:
    return settings.current().runtime


def check_runtime(name: str) -> str:
    """Raises InvalidParameter in Docker's words for a runtime that is not there."""
    if name != "rdock" and find_program(name) is None:
        raise InvalidParameter(f"unknown or invalid runtime name: {name}")
    return name


def check_domain(name: str) -> str:
    """An NIS domain name, which also goes into /etc/hosts. Raises InvalidParameter."""
    try:
        return check_hostname(name)
    except InvalidParameter:
        raise InvalidParameter(f"invalid domainname format: {name!r}") from None


def check_group(text: str) -> str:
    """A name or a number for `--group-add`; whether the image has it is seen at the start."""
    if not text or not text.isprintable() or ":" in text or "," in text:
        raise InvalidParameter(f"unable to find group {text}: no matching entries in group file")
    return text


def parse_expose(entries: list[str]) -> list[str]:
    """`80`, `8000-8010/udp` → 80/tcp, 8000/udp … Raises InvalidParameter in Docker's words."""
    from rdock.network import endpoint

    found = []
    for entry in entries:
        if ":" in entry:
            raise InvalidParameter(f"invalid port format for --expose: {entry}")
        try:
            found += [binding.key for binding in endpoint.parse_publish(entry)]
        except InvalidParameter as e:
            raise InvalidParameter(f"invalid range format for --expose: {entry}, error: {e.message}") from e
    return found


def parse_annotations(entries: list[str]) -> dict[str, str]:
    """Raises InvalidParameter."""
    found = dict(entry.partition("=")[::2] for entry in entries)
    if "" in found:
        raise InvalidParameter("invalid annotation: empty name")
    return found


def check_init(path: str | None, directory: str) -> str:
    """The program of `--init-path`, absolute. Raises InvalidParameter."""
    if path is None:
        return ""
    found = os.path.realpath(os.path.join(directory, path))
    if not os.path.isfile(found) or not os.access(found, os.X_OK):
        raise InvalidParameter(f"container-init binary not found on the host: {path}")
    return found


def check_rootfs(path: str, directory: str) -> str:
    """The directory of `--rootfs`, absolute. Raises InvalidParameter."""
    found = os.path.realpath(os.path.join(directory, path))
    if not os.path.isdir(found):
        raise InvalidParameter(f"rootfs {path} is no directory")
    if found == "/":
        raise InvalidParameter("rootfs / is the host's own")
    return found


def parse_restart_policy(text: str) -> dict[str, Any]:
    """`--restart NAME[:COUNT]` → HostConfig.RestartPolicy. Raises InvalidParameter in Docker's words."""
    name, colon, count = (text or "no").partition(":")
    if not name:
        raise InvalidParameter("invalid restart policy format: no policy provided before colon")
    most = 0
    if colon:
        digits = count.removeprefix("-")
        if not digits.isascii() or not digits.isdecimal() or len(digits) > 9:
            raise InvalidParameter("invalid restart policy format: maximum retry count must be an integer")
        most = int(count)
    if name not in _RESTARTS:
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or "
            "'unless-stopped'"
        )
    if most and name != "on-failure":
        raise InvalidParameter("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if most < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    return {"Name": name, "MaximumRetryCount": most}


_RESTARTS = ("no", "always", "on-failure", "unless-stopped")
