"""The filters of `ps`: which containers `--filter KEY=VALUE` keeps, by moby's rules.

Several values of one key are alternatives, different keys must all fit; of labels each must fit. Everything
that is wrong with a filter is said before a container is looked at.
"""

from __future__ import annotations

from rdock.container import containers, inspect
from rdock.container.containers import Container, State
from rdock.errors import InvalidParameter, UsageError
from rdock.network import endpoint
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    Values: TypeAlias = Sequence[str]

STATUSES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
_HEALTH = ("starting", "healthy", "unhealthy", "none")
_PORT_KEYS = ("publish", "expose")  # one test for both, as in moby
_TRUE, _FALSE = ("1", "true"), ("0", "false")


class Candidate(Value):
    """A container that may be shown."""

    container: Container
    state: State
    status: str


Test: TypeAlias = "Callable[[Candidate], bool]"


class Selection:
    """What the filters of one command keep."""

    def __init__(self, tests: Iterable[Test], *, every_status: bool) -> None:
        self._tests = list(tests)
        self.every_status = every_status
        """Whether containers that do not run are wanted, too: the filters speak of a status."""

    def __bool__(self) -> bool:
        return bool(self._tests)

    def fits(self, candidate: Candidate) -> bool:
        return all(test(candidate) for test in self._tests)


def parse(filters: Iterable[str]) -> Selection:
    """The selection that `KEY=VALUE` filters make.

    Raises InvalidParameter in Docker's words, UsageError for what has no `=`; NoSuchContainer for one that
    `before` or `since` names.
    """
    wanted: dict[str, list[str]] = {}
    for text in filters:
        if not text:
            continue
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(
                f'invalid argument "{text}" for "-f, --filter" flag: bad format of filter (expected name=value)'
            )
        wanted.setdefault(key.strip().lower(), []).append(value.strip())
    for key in wanted:
        if key not in _MAKERS and key not in _PORT_KEYS:
            raise InvalidParameter(f"invalid filter '{key}'")
    ports = {key: wanted.pop(key, []) for key in _PORT_KEYS}
    tests = [_MAKERS[key](values) for key, values in wanted.items()]
    if any(ports.values()):
        tests.append(_ports(_port_set("publish", ports["publish"]), _port_set("expose", ports["expose"])))
    return Selection(tests, every_status="status" in wanted)


def _no_filter(key: str, value: str) -> InvalidParameter:
    return InvalidParameter(f"invalid filter '{key}={value}'")


# -- one test for each key -------------------------------------------------------------------------


def _id(values: Values) -> Test:
    return lambda candidate: any(candidate.container.id.startswith(value) for value in values)


def _name(values: Values) -> Test:
    """Each is a regular expression, for the name with or without the slash before it; a wrong one fits nothing."""
    import re

    patterns = []
    for value in values:
        try:
            patterns.append(re.compile(value))
        except (re.error, OverflowError, RecursionError):
            continue
    return lambda candidate: (
        any(
            pattern.search(name)
            for pattern in patterns
            for name in (candidate.container.name, f"/{candidate.container.name}")
        )
        or any(value in (candidate.container.name, f"/{candidate.container.name}") for value in values)
    )


def _label(values: Values) -> Test:
    pairs = [value.partition("=") for value in values]

    def test(candidate: Candidate) -> bool:
        labels = candidate.container.config.labels
        return all(name in labels and (not equals or labels[name] == content) for name, equals, content in pairs)

    return test


def _exited(values: Values) -> Test:
    try:
        codes = {int(value) for value in values}
    except ValueError:
        bad = next(value for value in values if not value.lstrip("+-").isdecimal())
        raise _no_filter("exited", bad) from None
    return lambda candidate: (
        candidate.status not in ("running", "paused", "restarting")
        and bool(candidate.state.started_at)
        and candidate.state.exit_code in codes
    )


def _status(values: Values) -> Test:
    for value in values:
        if value not in STATUSES:
            raise _no_filter("status", value)
    return lambda candidate: candidate.status in values


def _health(values: Values) -> Test:
    for value in values:
        if value not in _HEALTH:
            raise _no_filter("health", value)
    # No container has a health check.
    return lambda _: "none" in values


def _isolation(_: Values) -> Test:
    """Of Windows only."""
    return lambda _: True


def _is_task(values: Values) -> Test:
    """Nothing is a task of a swarm here."""
    for value in values:
        if value.lower() not in _TRUE + _FALSE:
            raise _no_filter("is-task", value)
    wanted = {value.lower() in _TRUE for value in values}
    if len(wanted) > 1:
        raise _no_filter("is-task", f"[{' '.join(values)}]")
    return lambda _: False in wanted


def _ancestor(values: Values) -> Test:
    """Containers of an image, or of one that stands on all its layers."""
    from rdock.image import images

    ids: set[str] = set()
    for value in values:
        try:
            found = images.find(value)
        except InvalidParameter:
            continue  # to Docker it is an image that is not there
        if found is None:
            continue
        ids.add(found.id)
        below = list(found.config.diff_ids)
        if below:
            ids.update(i.id for i in images.list_images() if list(i.config.diff_ids[: len(below)]) == below)
    return lambda candidate: candidate.container.image in ids


def _before(values: Values) -> Test:
    limit = containers.lookup(values[-1])
    return lambda candidate: candidate.container.created < limit.created


def _since(values: Values) -> Test:
    limit = containers.lookup(values[-1])
    return lambda candidate: candidate.container.created > limit.created


def _volume(values: Values) -> Test:
    """By the name of a volume, the source of a bind, or where it is mounted."""

    def test(candidate: Candidate) -> bool:
        return any(
            value in (mount.get("Name") or mount["Source"], mount["Destination"])
            for mount in inspect.mounts(candidate.container)
            for value in values
        )

    return test


def _network(values: Values) -> Test:
    return lambda candidate: any(value in inspect.network_names(candidate.container) for value in values)


# -- ports -----------------------------------------------------------------------------------------


def _port_set(key: str, values: Values) -> set[str]:
    """`80`, `80/udp`, `80-90/tcp` → the ports in the shape of the API."""
    found: set[str] = set()
    for value in values:
        if ":" in value:
            raise InvalidParameter(f"filter for '{key}' should not contain ':': {value}")
        numbers, slash, protocol = value.partition("/")
        first, dash, last = numbers.partition("-")
        last = last if dash else first
        if not (endpoint.is_number(first) and endpoint.is_number(last)):
            raise InvalidParameter(f"error while looking up for {key} {value}: invalid start port '{first}'")
        low, high = int(first), int(last)
        if not low <= high <= 65535:
            raise InvalidParameter(f"error while looking up for {key} {value}: invalid range specified")
        found.update(f"{port}/{protocol.lower() if slash else 'tcp'}" for port in range(low, high + 1))
    return found


def _ports(published: set[str], exposed: set[str]) -> Test:
    def test(candidate: Candidate) -> bool:
        if candidate.status not in ("running", "paused"):
            return False
        return any(
            f"{port.public}/{port.protocol}" in published or f"{port.private}/{port.protocol}" in exposed
            for port in inspect.ports(candidate.container, candidate.state)
        )

    return test


_MAKERS: dict[str, Callable[[Values], Test]] = {
    "ancestor": _ancestor,
    "before": _before,
    "exited": _exited,
    "health": _health,
    "id": _id,
    "is-task": _is_task,
    "isolation": _isolation,
    "label": _label,
    "name": _name,
    "network": _network,
    "since": _since,
    "status": _status,
    "volume": _volume,
}
