"""The processes of a container, as they are seen from outside."""

from __future__ import annotations

import os

from rdock.linux import namespaces


def inside(first: int, *, alone: bool) -> list[tuple[int, str]]:
    """The processes in the namespace of `first`, and all that descend from them, with their states.

    Not only its descendants: those of exec have a parent outside. The pid namespace if the container is `alone`
    in it, else the mount namespace, which it always has for itself.
    """
    parents: dict[int, int] = {}
    states: dict[int, str] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                    fields = file.read(1024).rpartition(b")")[2].split()
            except OSError:
                continue
            parents[int(name)], states[int(name)] = int(fields[1]), fields[0].decode()
    inside = {first} | _in_namespace(first, "pid" if alone else "mount", parents)
    # Parents mostly have lower numbers; where they do not, once more.
    while more := {pid for pid, parent in parents.items() if parent in inside and pid not in inside}:
        inside |= more
    return [(pid, states[pid]) for pid in sorted(inside) if pid in states]


def _in_namespace(first: int, kind: str, candidates: dict[int, int]) -> set[int]:
    wanted = _namespace(first, kind)
    return {pid for pid in candidates if wanted and _namespace(pid, kind) == wanted}


def _namespace(pid: int, kind: str) -> str:
    try:
        return os.readlink(namespaces.file_of(kind, pid))
    except OSError:
        return ""
