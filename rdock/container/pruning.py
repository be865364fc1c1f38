"""Removing all containers that do not run, or those of them that filters choose."""

from __future__ import annotations

from rdock.container import containers, lifecycle
from rdock.container.size import Sizes
from rdock.errors import Conflict, InvalidParameter, NoSuchContainer
from rdock.state import moment, timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

Filters = list[tuple[str, str]]


def parse_filters(texts: list[str]) -> Filters:
    """`KEY=VALUE` of `--filter`: until, label, label!. Raises InvalidParameter in Docker's words."""
    found = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key not in ("until", "label", "label!"):
            raise InvalidParameter(f"invalid filter '{key}'")
        if key == "until":
            value = str(moment.parse(value, "until"))
        found.append((key, value))
    return found


def prune(filters: Filters) -> tuple[list[str], int]:
    """Remove what does not run and passes the filters: their ids, and the bytes that were theirs."""
    removed, freed = [], 0
    sizes = Sizes()
    for container in containers.all_containers():
        if not container.state().can_be_removed or not passes(container.created, container.config.labels, filters):
            continue
        size = sizes.of(container).writable
        try:
            lifecycle.remove(container)
        except (Conflict, NoSuchContainer):
            continue  # it was started, or removed, meanwhile
        removed.append(container.id)
        freed += size
    return removed, freed


def passes(created: str, labels: Mapping[str, str], filters: Filters) -> bool:
    """Whether what was created then and has these labels is among those that the filters choose."""
    return all(_passes(created, labels, key, value) for key, value in filters)


def _passes(created: str, labels: Mapping[str, str], key: str, value: str) -> bool:
    if key == "until":
        return timestamp.to_ns(created) < int(value)
    name, equals, wanted = value.partition("=")
    return (name in labels and (not equals or labels[name] == wanted)) == (key == "label")
