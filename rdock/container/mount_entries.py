"""The mount points of a container as entries of its OCI spec's `mounts`."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack

from rdock.container import mount_points
from rdock.container.containers import Container
from rdock.errors import RdockError
from rdock.linux import mount as m
from rdock.linux.inroot import O_PATH, RESOLVE_NO_SYMLINKS, open_in_root
from rdock.scope import scope
from rdock.volume import local_options, volumes
from rdock.volume.points import MountPoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any


def of(container: Container, sources: Mapping[str, str], devpts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The entries by their destinations. `sources` are those that were prepared, `devpts` the options of one."""
    return {
        point.destination: {"destination": point.destination, **_entry(point, sources, devpts)}
        for point in mount_points.of(container)
    }


@scope
def at_rest(container: Container) -> Iterator[list[dict[str, Any]]]:
    """The entries, outer ones first, of those that are there also while the container does not run: folders and files
    of the host, and volumes that need no mount of their own.
    """
    found = []
    with ExitStack() as stack:
        for point in mount_points.of(container):
            if point.type not in ("bind", "volume") or point.options.get("Overlay"):
                continue
            try:
                source, writable = _source_at_rest(point, stack)
            except (OSError, RdockError):
                continue  # made when the container is started, or missed then
            options = ["bind" if point.options.get("NonRecursive") else "rbind", "rprivate"]
            options += [] if point.rw and writable else ["ro"]
            found.append(
                {"destination": point.destination, "type": "bind", "source": source, "options": options}
            )  # fmt: skip
        yield sorted(found, key=lambda entry: str(entry["destination"]).count("/"))


def _source_at_rest(point: MountPoint, stack: ExitStack) -> tuple[str, bool]:
    """What is mounted, and whether its own options let it be written to."""
    if point.type == "bind":
        return point.source, True
    options = volumes.lookup(point.name).options
    source, writable = local_options.source(point.name, options)
    if local_options.is_shared(options):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
    if not point.options.get("Subpath"):
        return source, writable
    above = os.open(source, O_PATH | os.O_DIRECTORY)
    stack.callback(os.close, above)
    below = open_in_root(above, point.options["Subpath"], O_PATH, 0, RESOLVE_NO_SYMLINKS)
    stack.callback(os.close, below)
    return m.through(below), writable


def _entry(point: MountPoint, sources: Mapping[str, str], devpts: Sequence[str]) -> dict[str, Any]:
    read_only = [] if point.rw else ["ro"]
    if point.type == "tmpfs":
        return {"type": "tmpfs", "source": "tmpfs", "options": [*_of_tmpfs(point), *read_only]}
    if point.type == "devpts":
        return {"type": "devpts", "source": "devpts", "options": [*devpts, *read_only]}
    source = sources.get(point.destination, point.source)
    if point.options.get("Recursive"):
        read_only = []  # it has been made so, or not so, when it was prepared
    how = "bind" if point.options.get("NonRecursive") else "rbind"
    return {"type": "bind", "source": source, "options": [how, point.propagation or "rprivate", *read_only]}


def _of_tmpfs(point: MountPoint) -> list[str]:
    """Docker's defaults: half of the memory, and everybody may write (moby: daemon/oci_linux.go)."""
    size, mode = point.options.get("SizeBytes"), point.options.get("Mode")
    options = ["noexec", "nosuid", "nodev"]
    options += [f"size={size}"] if size else []
    return [*options, f"mode={mode:o}" if mode else "mode=1777"]
