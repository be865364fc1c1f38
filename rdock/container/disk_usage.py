"""How much of the disk is taken, by what, and how much of it could come free: `system df`."""

from __future__ import annotations

from rdock.container import containers, mount_points
from rdock.container.containers import Container
from rdock.container.size import Size, Sizes, held
from rdock.image import images
from rdock.image.images import Image
from rdock.image.usage import Usage
from rdock.values import Value
from rdock.volume import volumes
from rdock.volume.volumes import Volume

_ACTIVE = ("running", "paused", "restarting")


class Total(Value):
    """A line of `system df`."""

    kind: str
    count: int
    active: int
    size: int
    """Bytes."""
    reclaimable: int
    """Bytes that removing what is not active gives back."""


class DiskUsage:
    """All images, containers and volumes with their sizes. For a process that is root of the user's namespaces."""

    def __init__(self) -> None:
        self.images: list[Image] = images.list_images()
        self.usage = Usage(self.images)
        self.containers: list[Container] = list(containers.all_containers())
        sizes = Sizes()
        self.sizes: dict[str, Size] = {container.id: sizes.of(container) for container in self.containers}
        self.users: dict[str, int] = {}
        """Number of containers by image id."""
        self.volumes: list[Volume] = volumes.all_volumes([])
        self.volume_sizes: dict[str, int] = {volume.name: held(volume.mountpoint) for volume in self.volumes}
        self.volume_users: dict[str, list[str]] = mount_points.users()
        for container in self.containers:
            self.users[container.image] = self.users.get(container.image, 0) + 1

    def totals(self) -> list[Total]:
        """Docker's four lines. There is no build cache yet."""
        used = [image.id for image in self.images if image.id in self.users]
        active = [container for container in self.containers if container.state().status in _ACTIVE]
        size = sum(each.writable for each in self.sizes.values())
        return [
            Total("Images", len(self.images), len(used), self.usage.total(), self.usage.reclaimable(used)),
            Total(
                "Containers", len(self.containers), len(active), size,
                size - sum(self.sizes[container.id].writable for container in active),
            ),
            Total(
                "Local Volumes", len(self.volumes), sum(volume.name in self.volume_users for volume in self.volumes),
                sum(self.volume_sizes.values()),
                sum(size for name, size in self.volume_sizes.items() if name not in self.volume_users),
            ),
            Total("Build Cache", 0, 0, 0, 0),
        ]  # fmt: skip
