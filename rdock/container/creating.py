"""How a container is created: its name and its record, with its run lock held until it is started or let go."""

from __future__ import annotations

import os

from rdock import paths
from rdock.container import containers, events, names, owners
from rdock.container.config import Config, HostConfig
from rdock.container.containers import Container
from rdock.errors import Conflict, system_failure
from rdock.image import images
from rdock.image.images import Image
from rdock.runtime import rootless
from rdock.state import record, timestamp
from rdock.state.record import Lock
from rdock.storage import driver, staging
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Made(Value):
    """A container that was just created, with its run lock, which the caller owns."""

    container: Container
    lock: Lock


def create(
    image: Image | None,
    image_name: str,
    config: Config,
    host: HostConfig,
    name: str = "",
    *,
    networks: dict[str, Any],
    rootfs: str = "",
) -> Made:
    """Create a container from an image, or on the directory `rootfs` without one; nothing of it runs yet.

    The configuration is already merged with the image's. Raises Conflict if the name is taken.
    """
    container_id = os.urandom(32).hex()
    if name:
        containers.check_name(name)
    config = config._replace(hostname=config.hostname or container_id[:12])
    try:
        os.makedirs(paths.container_locks(), mode=0o700, exist_ok=True)
        lock = containers.run_lock(container_id)
        lock.acquire()
    except OSError as e:
        raise system_failure("cannot create the container", e) from e
    try:
        name = _take_name(name, container_id)
        container = Container(
            id=container_id,
            name=name,
            created=timestamp.now(),
            image=image.id if image else "",
            image_name=image_name,
            config=config,
            host_config=host,
            driver=driver.chosen(),
            id_mode=rootless.entered().mode,
            networks=networks,
            rootfs=rootfs,
            mount_points=[],
        )
        if owners.may_differ(host):
            from rdock.container import userns

            with userns.settled(container) as container:
                container = _place_with_mounts(container)
        elif config.volumes or host.binds or host.mounts or host.volumes_from:
            container = _place_with_mounts(container)
        else:
            _place(container)
    except BaseException as e:
        containers.drop_name(name, container_id)
        lock.remove()
        if isinstance(e, OSError):
            raise system_failure("cannot create the container", e) from e
        raise
    events.note(container, "create")
    return Made(container, lock)


def _place(container: Container) -> None:
    """Put a container on record, if its image is still there. Raises NoSuchImage, OSError."""
    with staging.entry() as entry:
        containers.save(container, entry.path)
        with images.unchanged():
            for image_id in filter(None, (container.image, *container.mounted_images)):
                images.lookup(image_id)
            os.rename(entry.path, container.directory)
            entry.placed = True


def _place_with_mounts(container: Container) -> Container:
    """The same with its mount points, and the volumes among them."""
    from rdock.container import mount_points

    with mount_points.settled(container.config, container.host_config) as points:
        container = container._replace(mount_points=[record.to_json(point) for point in points])
        _place(container)
        try:
            mount_points.make_volumes(points)
        except BaseException:
            staging.discard(container.directory)
            for gone in mount_points.withdraw_unused(points):
                staging.delete(gone)
            raise
    return container


def _take_name(name: str, container_id: str) -> str:
    """The wanted name, or one that is made up and free."""
    if name:
        containers.take_name(name, container_id)
        return name
    while True:
        name = names.invent()
        try:
            containers.take_name(name, container_id)
            return name
        except Conflict:
            continue
