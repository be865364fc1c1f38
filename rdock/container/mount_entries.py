"""The mount points of a container as entries of its OCI spec's `mounts`."""

from __future__ import annotations

from rdock.container import mount_points
from rdock.container.containers import Container
from rdock.volume.points import MountPoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


def of(container: Container, sources: Mapping[str, str], devpts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The entries by their destinations. `sources` are those that were prepared, `devpts` the options of one."""
    return {
        point.destination: {"destination": point.destination, **_entry(point, sources, devpts)}
        for point in mount_points.of(container)
    }


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
