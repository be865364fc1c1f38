"""Volumes: what there is, how it is found, made and removed.

A volume is a directory beside a record of what it is; Docker's layout. It is put in its place by one rename and
taken away by one, so a process that dies leaves the whole or nothing. Changes, and the creation of containers that
use volumes, are made under the volumes' lock; reading takes none. Who uses a volume is the containers' to know.
"""

from __future__ import annotations

import os

from rdock import paths
from rdock.errors import Conflict, DataLoss, InvalidParameter, NoSuchVolume, NotFound, SystemFailure, reason
from rdock.scope import scope
from rdock.state import record, timestamp
from rdock.state.events import record_event
from rdock.state.record import Lock
from rdock.storage import staging
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

DRIVER = "local"
SCOPE = "local"
ANONYMOUS = "com.docker.volume.anonymous"
"""The label of volumes that nobody has named."""
_NAME_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME_REST = _NAME_FIRST | frozenset("_.-")
_LONGEST_NAME = 255  # a directory has this name (NAME_MAX)


class Volume(Value):
    """One volume as it was made."""

    name: str
    created: str
    driver: str = DRIVER
    labels: dict[str, str] = {}
    options: dict[str, str] = {}

    @property
    def mountpoint(self) -> str:
        return paths.volume_data(self.name)

    @property
    def is_anonymous(self) -> bool:
        return ANONYMOUS in self.labels


# -- names -----------------------------------------------------------------------------------------


def check_name(name: str) -> str:
    """Raise InvalidParameter in Docker's words unless a volume can be called so."""
    if len(name) == 1:
        raise InvalidParameter("volume name is too short, names should be at least two alphanumeric characters")
    if not name or name[0] not in _NAME_FIRST or not set(name) <= _NAME_REST:
        raise InvalidParameter(
            f'"{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are '
            "allowed. If you intended to pass a host directory, use absolute path"
        )
    if len(name) > _LONGEST_NAME:
        raise InvalidParameter(f'"{name[:20]}…" is too long for a volume name: {_LONGEST_NAME} characters at most')
    return name


def invent_name() -> str:
    """The name of an anonymous volume: 64 hex digits."""
    return os.urandom(32).hex()


# -- finding ---------------------------------------------------------------------------------------


def names() -> list[str]:
    """The names of all volumes, also of those whose record is damaged, in order."""
    try:
        return sorted(name for name in os.listdir(paths.volumes()) if name[0] in _NAME_FIRST)
    except OSError:
        return []


def find(name: str) -> Volume | None:
    """The volume of this name, if there is one. Raises DataLoss if its record is damaged."""
    if not name or "/" in name or name[0] not in _NAME_FIRST or not os.path.isdir(paths.volume(name)):
        return None
    path = _record(paths.volume(name))
    hint = f"rdock volume rm {name} removes it, rdock volume export {name} has its content"
    try:
        found = record.read(path)
        if found is None:
            if not os.path.isdir(paths.volume(name)):
                return None  # it was removed just now
            raise DataLoss(f"cannot read {path}: it is missing")
        return record.from_json(Volume, {**found, "Name": name}, path)
    except DataLoss as e:
        raise DataLoss(e.message, hint) from None


def lookup(name: str) -> Volume:
    """As find. Raises NoSuchVolume in Docker's words if there is none."""
    found = find(name)
    if found is None:
        raise NoSuchVolume(name)
    return found


def all_volumes(damaged: list[DataLoss] | None = None) -> list[Volume]:
    """Every volume by name; what is wrong with those whose record is damaged goes to `damaged`."""
    found = []
    for name in names():
        try:
            volume = find(name)
        except DataLoss as e:
            if damaged is not None:
                damaged.append(e)
            continue
        if volume is not None:
            found.append(volume)
    return found


def _record(directory: str) -> str:
    return os.path.join(directory, "volume.json")


# -- making ----------------------------------------------------------------------------------------


@scope
def locked() -> Iterator[None]:
    """The volumes' lock, held for moments only."""
    paths.make_private(paths.data())
    paths.make_private(paths.volumes())
    try:
        lock = Lock(os.path.join(paths.volumes(), ".lock"))
        lock.acquire()
    except OSError as e:
        raise SystemFailure(f"cannot lock the volumes: {reason(e)}") from e
    try:
        yield
    finally:
        lock.release()


def create(
    name: str,
    *,
    driver: str = DRIVER,
    options: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Volume:
    """Make a volume, or find that it is there. An anonymous one if it has no name. Only under the volumes' lock.

    Raises InvalidParameter; NotFound for a driver that is not there; Conflict if there is one with other options.
    """
    wanted = dict(options or {})
    if not name:
        name, labels = invent_name(), {ANONYMOUS: "", **(labels or {})}
    try:
        check_name(name)
        if driver not in ("", DRIVER):
            raise NotFound(f'error looking up volume plugin {driver}: plugin "{driver}" not found')
        if wanted:
            from rdock.volume import local_options

            local_options.check(wanted)
        there = find(name)
        if there is not None:
            if wanted and wanted != there.options:
                raise Conflict(
                    f"driver '{DRIVER}' already has volume '{name}' with other options: volume name must be unique"
                )
            return there
    except (InvalidParameter, NotFound, Conflict) as e:
        raise type(e)(f"create {name}: {e.message}", e.hint) from e
    volume = Volume(name, timestamp.now(), DRIVER, dict(labels or {}), wanted)
    with staging.entry() as entry:
        try:
            data = os.path.join(entry.path, "_data")
            os.mkdir(data, 0o755)
            os.chmod(data, 0o755)  # whatever the caller's umask is
            record.write(_record(entry.path), record.to_json(volume), durable=True)
            os.rename(entry.path, paths.volume(name))
        except OSError as e:
            raise SystemFailure(f"create {name}: {reason(e)}") from e
        entry.placed = True
    note(volume.name, "create")
    return volume


# -- removing --------------------------------------------------------------------------------------


def withdraw(name: str, used_by: Iterable[str] = ()) -> str:
    """Let a volume disappear; its files, for staging.delete. Only under the volumes' lock.

    `used_by` are the ids of containers that use it. Raises Conflict in Docker's words, NoSuchVolume, SystemFailure.
    """
    if name not in names():
        raise NoSuchVolume(name)
    users = list(used_by)
    if users:
        raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
    if os.path.lexists(paths.mounted_volume(name)):
        from rdock.volume import local_options

        local_options.unmount(name)
    gone = staging.withdraw(paths.volume(name))
    note(name, "destroy")
    return gone


def note(name: str, action: str, **attributes: str) -> None:
    """Note in the journal that something has happened to a volume, in Docker's words. Never fails."""
    record_event("volume", action, name, {"driver": DRIVER, **attributes})
