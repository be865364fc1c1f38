"""Removing volumes that no container uses: one by name, or those that filters choose."""

from __future__ import annotations

from rdock.container import containers, mount_points
from rdock.container.size import held
from rdock.errors import Conflict, DataLoss, InvalidParameter, NotFound, RdockError
from rdock.launch import debug
from rdock.storage import staging
from rdock.volume import volumes
from rdock.volume.volumes import Volume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

Filters = list[tuple[str, str]]


def remove(name: str) -> None:
    """Remove a volume, also one whose record is damaged.

    For a process that is root of the user's namespaces. Raises NoSuchVolume and Conflict in Docker's words.
    """
    with volumes.locked():
        gone = volumes.withdraw(name, mount_points.users().get(name, ()))
    staging.delete(gone)


def parse_filters(texts: list[str]) -> tuple[Filters, bool | None]:
    """`label=…` and `label!=…`, and what `all=…` says, if it is there. Raises InvalidParameter in Docker's words."""
    found, everything = [], None
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key not in ("label", "label!", "all"):
            raise InvalidParameter(f"invalid filter '{key}'")
        if key == "all":
            if value.lower() not in ("1", "0", "true", "false"):
                raise InvalidParameter(f"invalid filter 'all={value}'")
            everything = value.lower() in ("1", "true")
        else:
            found.append((key, value))
    return found, everything


def prune(filters: Filters, *, everything: bool) -> tuple[list[str], int]:
    """Remove what nobody uses: anonymous volumes, or with `everything` all; their names, and the bytes in them.

    Raises DataLoss if the record of a container cannot be read, which may use any of them.
    """
    damaged: list[DataLoss] = []
    containers.all_containers(damaged)
    for error in damaged:
        raise DataLoss(f"cannot tell which volumes are in use: {error.message}", error.hint)
    removed, freed = [], 0
    for volume in volumes.all_volumes([]):
        if not (everything or volume.is_anonymous) or not _passes(volume.labels, filters):
            continue
        size = held(volume.mountpoint)
        try:
            remove(volume.name)
        except (Conflict, NotFound, DataLoss):
            continue  # it is in use, or somebody was faster
        except RdockError as e:
            debug(e.message)
            continue
        removed.append(volume.name)
        freed += size
    return removed, freed


def _passes(labels: Mapping[str, str], filters: Filters) -> bool:
    for key, text in filters:
        name, equals, value = text.partition("=")
        if (name in labels and (not equals or labels[name] == value)) != (key == "label"):
            return False
    return True


def describe(volume: Volume) -> dict[str, Any]:
    """Docker's Volume, as `volume inspect` shows it."""
    return {
        "CreatedAt": volume.created[:19] + "Z",
        "Driver": volume.driver,
        "Labels": dict(sorted(volume.labels.items())) or None,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": dict(sorted(volume.options.items())) or None,
        "Scope": volumes.SCOPE,
    }
