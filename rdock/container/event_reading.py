"""What has happened, as `events` and the API tell it: read from the journal, filtered as Docker filters."""

from __future__ import annotations

import os

from rdock import jsontext, paths
from rdock.errors import InvalidParameter
from rdock.linux import rotated
from rdock.linux.inotify import Inotify
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, TypeAlias

    Filters: TypeAlias = "Mapping[str, Sequence[str]]"


class Event(Value):
    """One thing that has happened."""

    kind: str
    action: str
    id: str
    attributes: dict[str, str]
    time: int
    """Nanoseconds since the epoch."""
    record: dict[str, Any]
    """As it is in the journal, which is Docker's JSON of it."""


def read(
    filters: Filters, *, since: int | None = None, until: int | None = None, follow: bool = True
) -> Iterator[list[Event]]:
    """The events since a time, in lists of what was found at once; from now on if neither time is given.

    Times are nanoseconds since the epoch. With `follow` it goes on until the time `until` has come. Raises
    InvalidParameter for filters that there are not.
    """
    _check(filters)
    path = paths.events()
    watch = None
    if follow:
        paths.make_private(paths.data())
        watch = Inotify(os.path.dirname(path))
    files = rotated.open_all(path)
    if since is None and until is None:
        for file in files:
            file.at = file.size
    for lines in rotated.read(files, path, watch, deadline=until):
        found = [event for line in lines if line and (event := _parse(line)) is not None]
        yield [event for event in found if _is_in(event, since, until) and matches(event, filters)]


def _is_in(event: Event, since: int | None, until: int | None) -> bool:
    return (since is None or event.time >= since) and (until is None or event.time <= until)


def _parse(line: bytes) -> Event | None:
    """An event of the journal; None for a damaged line. One may stand behind another's half, of a full disk."""
    for start in (0, line.rfind(b'{"status":'), line.rfind(b'{"Type":')):
        try:
            found = jsontext.parse(line[max(0, start) :])
            actor = found["Actor"]
            attributes = {str(name): str(value) for name, value in actor["Attributes"].items()}
            ns = int(found["timeNano"])
            return Event(str(found["Type"]), str(found["Action"]), str(actor["ID"]), attributes, ns, found)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return None


# -- filters ---------------------------------------------------------------------------------------


def matches(event: Event, filters: Filters) -> bool:
    """Whether an event fits one value of each filter, and all of `label`."""
    return all(_FILTERS[name](event, values) for name, values in filters.items() if values)


def _check(filters: Filters) -> None:
    for name in filters:
        if name not in _FILTERS:
            raise InvalidParameter(f"invalid filter '{name}'")


def _by_name(kind: str) -> Callable[[Event, Sequence[str]], bool]:
    """For the id or the name of an object, or how they begin."""

    def fits(event: Event, values: Sequence[str]) -> bool:
        names = (event.id, event.attributes.get("name", "")) if event.kind == kind else ()
        return any(name.startswith(value) for value in values for name in names if name)

    return fits


def _of_image(event: Event, values: Sequence[str]) -> bool:
    if event.kind == "image":
        names = {event.id, event.attributes.get("name", "")}
    else:
        names = {event.attributes.get("image", "")} if event.kind == "container" else set()
    names |= {_without_tag(name) for name in names}
    return bool(names & set(values))


def _without_tag(name: str) -> str:
    name = name.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def _of_labels(event: Event, values: Sequence[str]) -> bool:
    for value in values:
        name, equals, wanted = value.partition("=")
        if name not in event.attributes or (equals and event.attributes[name] != wanted):
            return False
    return True


# Docker's filters for objects that rdock has none of fit nothing.
_FILTERS: dict[str, Callable[[Event, Sequence[str]], bool]] = {
    **dict.fromkeys(("config", "daemon", "node", "plugin", "secret", "service"), lambda event, values: False),
    "container": _by_name("container"),
    # `exec_create: sh -c …` is an exec_create.
    "event": lambda event, values: event.action in values or event.action.partition(":")[0] in values,
    "image": _of_image,
    "label": _of_labels,
    "network": _by_name("network"),
    "scope": lambda event, values: "local" in values,
    "type": lambda event, values: event.kind in values,
    "volume": _by_name("volume"),
}
