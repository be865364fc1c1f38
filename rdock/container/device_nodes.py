"""`--device`: nodes of the host's /dev that a container gets, by bind mounts.

A user namespace may not make device nodes, and which operations a device takes can be limited only with
a device control group, which is root's: a device is given as it is, with whatever the caller's ids and
its mode allow, or not at all.
"""

from __future__ import annotations

import os
import stat

from rdock.errors import InvalidParameter, Unsupported, reason

_ALL = "rwm"


def parse(text: str) -> dict[str, str]:
    """`HOST[:CONTAINER][:MODE]` as the API has it. Raises InvalidParameter in Docker's words, Unsupported."""
    parts = text.split(":")
    mode = _ALL
    if len(parts) > 3:
        raise InvalidParameter(f"bad format for path: {text}")
    if len(parts) == 3:
        if not _is_mode(parts[2]):
            raise InvalidParameter(f"bad mode specified: {parts[2]}")
        mode = parts.pop()
    elif len(parts) == 2 and _is_mode(parts[1]):
        mode = parts.pop()
    source, target = parts[0], parts[-1]
    if not source:
        raise InvalidParameter(f"bad format for path: {text}")
    for path in (source, target):
        if not path.startswith("/"):
            raise InvalidParameter(f"{path} is not an absolute path")
    if not {"r", "w"} <= set(mode):
        raise Unsupported(
            f"--device {text}: a device cannot be limited to '{mode}' without root",
            hint="leave the mode out, or use rwm: a program of the container can do to it what you can",
        )
    return {"PathOnHost": source, "PathInContainer": os.path.normpath(target), "CgroupPermissions": mode}


def _is_mode(text: str) -> bool:
    return bool(text) and set(text) <= set(_ALL) and len(set(text)) == len(text)


def gather(devices: list[dict[str, str]]) -> list[tuple[str, str]]:
    """The nodes themselves, as (path on the host, path in the container); all in it for a directory.

    Symbolic links on the host are followed. Raises InvalidParameter in Docker's words.
    """
    found = []
    for device in devices:
        source, target = os.path.realpath(device["PathOnHost"]), device["PathInContainer"]
        try:
            mode = os.stat(source).st_mode
            if stat.S_ISDIR(mode):
                nodes = [(path, target + path[len(source) :]) for path in _nodes_below(source)]
            else:
                nodes = [(source, target)] if _is_device(mode) else []
        except OSError as e:
            raise _refusal(device, reason(e)) from e
        if not nodes:
            raise _refusal(device, "not a device node")
        found += nodes
    return found


def _refusal(device: dict[str, str], why: str) -> InvalidParameter:
    return InvalidParameter(
        f'error gathering device information while adding custom device "{device["PathOnHost"]}": {why}'
    )


def _nodes_below(directory: str) -> list[str]:
    """Links in it are left out, as are what Docker leaves out: terminals and shared memory, which containers have."""
    found = []
    for base, directories, files in os.walk(directory):
        directories[:] = sorted(name for name in directories if name not in ("pts", "shm", "fd", "mqueue", ".udev"))
        for name in sorted(files):
            path = os.path.join(base, name)
            if name != "console" and _is_device(os.lstat(path).st_mode):
                found.append(path)
    return found


def _is_device(mode: int) -> bool:
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
