"""`--own me`: whatever a container writes to the folders that are bound into it belongs to the caller.

Mostly that is so from the start: the container's user is the caller on the host, root as always, another one by its id
map (userns.py). What other ids have written, such as a server's that root has started, is handed over when the
container ends, and after an exec. rdock may do that, being root over the caller's subordinate ids; nobody else's
files can change hands, nor can those of another folder (linux/taking.py). Files that were there before, and have
not been touched, stay whose they were.

Not by a file system in between: one in user space makes every read and write slower, and idmapped mounts are not for
ordinary users' file systems (owners.py); and a map cannot have two ids that are the same one outside.

What has to be done is noted before the container runs, so that whoever comes first after everything was killed
does it (removal.py).
"""

from __future__ import annotations

import os
import time

from rdock import paths
from rdock.container import mount_points
from rdock.container.containers import Container
from rdock.errors import DataLoss, SystemFailure
from rdock.launch import debug
from rdock.linux import namespaces
from rdock.linux.inroot import O_PATH
from rdock.linux.taking import Taking
from rdock.runtime import rootless
from rdock.state import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Nanoseconds. The kernel takes the times of files from a clock that is some milliseconds late.
_LATE = 100_000_000


def note(container: Container) -> None:
    """Note the folders and files that the next run of a container may write to. Raises SystemFailure."""
    sources = []
    for point in mount_points.of(container):
        if point.type == "bind" and point.rw and not point.options.get("Overlay"):
            try:
                found = os.stat(point.source)
            except OSError:
                continue  # the mount will say so
            sources.append({"Path": point.source, "Device": found.st_dev, "Inode": found.st_ino})
    since = time.time_ns() - _LATE
    try:
        # Of a run after which that could not be done, as by a command in another id mode.
        earlier = record.read(_place(container))
        since = min(since, int(earlier["Since"])) if earlier else since
    except (DataLoss, KeyError, TypeError, ValueError):
        pass
    record.write(_place(container), {"Since": since, "Sources": sources}, durable=False)


def forget(container: Container) -> None:
    """A run that was noted did not come about."""
    record.remove(_place(container))


def _own_places() -> list[str]:
    return [paths.data(), paths.runtime(), paths.cache()]


def _place(container: Container) -> str:
    return os.path.join(container.directory, "handing-over.json")


def at_end(container: Container) -> None:
    """Hand over what a run that has ended has written. Never fails."""
    if not container.host_config.own or rootless.entered().mode != container.id_mode:
        return  # the next run's end is time enough
    _take(container, frozenset())
    record.remove(_place(container))


def after_exec(container: Container, pid: int) -> None:
    """The same while it runs; `pid` is its process 1. Never fails.

    What belongs to ids that processes in it still have is left for the end: a server goes on needing its files.
    """
    if container.host_config.own:
        _take(container, _ids_at_work(pid))


def _take(container: Container, spared: frozenset[int]) -> None:
    try:
        found = record.read(_place(container))
        if found is None:
            return
        passed = {(about.st_dev, about.st_ino) for about in map(os.stat, filter(os.path.isdir, _own_places()))}
        taking = Taking(int(found["Since"]), passed=passed, spared=spared)
        for source in found["Sources"]:
            _take_source(taking, source)
        debug(f"handed over to the caller: {taking.taken}, not possible: {taking.failed}")
    except (OSError, SystemFailure, DataLoss, KeyError, TypeError, ValueError) as e:
        debug(f"nothing was handed over: {e}")


def _take_source(taking: Taking, source: dict[str, Any]) -> None:
    """By its path, if that still leads to what was bound: it may lie in a folder that the container writes to."""
    try:
        fd = os.open(source["Path"], O_PATH)
    except OSError:
        return
    try:
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) == (source["Device"], source["Inode"]):
            taking.take(fd)
    finally:
        os.close(fd)


def _ids_at_work(pid: int) -> frozenset[int]:
    """The user ids of all processes in the user namespace of a process."""
    found: set[int] = set()
    try:
        namespace = os.stat(namespaces.file_of("user", pid))
    except OSError:
        return frozenset()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            theirs = os.stat(namespaces.file_of("user", name))
            if (theirs.st_dev, theirs.st_ino) == (namespace.st_dev, namespace.st_ino):
                with open(f"/proc/{name}/status", encoding="utf-8", errors="replace") as file:
                    line = next(line for line in file if line.startswith("Uid:"))
                found |= {int(word) for word in line.split()[1:]}
        except (OSError, StopIteration):
            continue
    return frozenset(found)
