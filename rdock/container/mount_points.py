"""The mount points of containers: settled when one is created, and who uses which volume.

Creating a container and removing a volume exclude each other by the volumes' lock: whoever holds it sees every
container that uses a volume. The volumes of a new container are made after it is in its place, and made again
where they are missing when it starts, so that a create that is killed leaves none that nobody refers to.
"""

from __future__ import annotations

from rdock.container import containers
from rdock.container.config import Config, HostConfig
from rdock.container.containers import Container
from rdock.errors import InvalidParameter, RdockError
from rdock.scope import scope
from rdock.state import record
from rdock.volume import points, targets, volumes
from rdock.volume.points import MountPoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def of(container: Container) -> list[MountPoint]:
    """What is mounted in a container besides rdock's own, in the order in which it was settled."""
    if container.mount_points is None:
        return _from_binds(container.host_config.binds)
    return [record.from_json(MountPoint, found, container.directory) for found in container.mount_points]


def _from_binds(binds: list[str]) -> list[MountPoint]:
    """Of a container that was made before there were volumes."""
    found = []
    for bind in binds:
        try:
            found.append(points.from_bind(bind))
        except InvalidParameter:
            continue
    return found


# -- creating --------------------------------------------------------------------------------------


@scope
def settled(config: Config, host: HostConfig) -> Iterator[list[MountPoint]]:
    """The mount points of a container that is about to be put in its place, which happens inside the `with`.

    Raises InvalidParameter in Docker's words, NoSuchContainer, NoSuchImage.
    """
    found = _settle(config, host)
    if not host.volumes_from and not any(point.type == "volume" for point in found):
        yield found
        return
    with volumes.locked():
        yield _settle(config, host) if host.volumes_from else found


def make_volumes(found: Iterable[MountPoint]) -> None:
    """Make those volumes that are not there. Only under the volumes' lock. Raises Conflict, SystemFailure."""
    for point in found:
        if point.type == "volume":
            volumes.create(
                point.name, driver=point.driver, options=point.options.get("DriverOpts"),
                labels=point.options.get("Labels"),
            )  # fmt: skip


def _settle(config: Config, host: HostConfig) -> list[MountPoint]:
    found: dict[str, MountPoint] = {}
    for text in host.volumes_from:
        name, read_only = parse_volumes_from(text)
        for point in of(containers.lookup(name)):
            found[point.destination] = point._replace(rw=False) if read_only else point
    own: dict[str, MountPoint] = {}
    for point in (*map(points.from_bind, host.binds), *map(points.from_mount, host.mounts)):
        if point.destination in own or point.destination in host.tmpfs:
            raise InvalidParameter(f"Duplicate mount point: {point.destination}")
        own[point.destination] = _complete(point)
    found |= own
    for target in config.volumes:
        destination = targets.check(target, f"invalid volume specification: '{target}'")
        if destination not in found and destination not in host.tmpfs:
            found[destination] = _complete(MountPoint("volume", destination, driver=volumes.DRIVER))
    return list(found.values())


def _complete(point: MountPoint) -> MountPoint:
    if point.type == "volume" and not point.name:
        labels = {volumes.ANONYMOUS: "", **point.options.get("Labels", {})}
        return point._replace(name=volumes.invent_name(), options={**point.options, "Labels": labels})
    if point.type == "image":
        from rdock.image import images

        return point._replace(options={**point.options, "Image": images.lookup(point.source).id})
    return point


def parse_volumes_from(text: str) -> tuple[str, bool]:
    """`CONTAINER[:ro|rw]` → the container, and whether read-only. Raises InvalidParameter in Docker's words."""
    name, colon, mode = text.partition(":")
    if not name:
        raise InvalidParameter(f"malformed volumes-from specification: {text}" if text else
                               "volumes-from specification cannot be an empty string")  # fmt: skip
    words = mode.split(",")
    if colon and (any(word not in ("ro", "rw", "z", "Z") for word in words) or {"ro", "rw"} <= {*words}):
        raise InvalidParameter(f"invalid mode: {mode}")
    return name, "ro" in words


# -- users -----------------------------------------------------------------------------------------


def volume_names(container: Container) -> list[str]:
    return [point.name for point in of(container) if point.type == "volume"]


def users() -> dict[str, list[str]]:
    """The ids of the containers that use each volume, by its name, whether they run or not."""
    found: dict[str, list[str]] = {}
    for container in containers.all_containers():
        for name in dict.fromkeys(volume_names(container)):
            found.setdefault(name, []).append(container.id)
    return found


def withdraw_anonymous(container: Container) -> list[str]:
    """Let the volumes of a container disappear that nobody has named and nobody else uses; for staging.delete.

    Never fails: a volume that stays is there for `volume prune`.
    """
    found = of(container)
    if not any(_is_anonymous(point) for point in found):
        return []
    try:
        with volumes.locked():
            return withdraw_unused(found, container.id)
    except RdockError:
        return []


def withdraw_unused(found: Iterable[MountPoint], user: str = "") -> list[str]:
    """The same of some mount points, of which one container may be a user. Only under the volumes' lock."""
    gone, others = [], users()
    for name in dict.fromkeys(point.name for point in found if _is_anonymous(point)):
        if others.get(name, []) in ([], [user]):
            try:
                gone.append(volumes.withdraw(name))
            except RdockError:
                continue
    return gone


def _is_anonymous(point: MountPoint) -> bool:
    """Whether it was made with the container that names it, or with the one that this has it from."""
    return point.type == "volume" and volumes.ANONYMOUS in point.options.get("Labels", {})
