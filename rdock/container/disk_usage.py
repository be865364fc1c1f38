"""How much of the disk is taken, by what, and how much of it could come free: `system df`."""

from __future__ import annotations

from rdock.container import containers
from rdock.container.containers import Container
from rdock.container.size import Size, Sizes
from rdock.image import images
from rdock.image.images import Image
from rdock.image.usage import Usage
from rdock.values import Value

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
    """All images and containers with their sizes. For a process that is root of the user's namespaces."""

    def __init__(self) -> None:
        self.images: list[Image] = images.list_images()
        self.usage = Usage(self.images)
        self.containers: list[Container] = list(containers.all_containers())
        sizes = Sizes()
        self.sizes: dict[str, Size] = {container.id: sizes.of(container) for container in self.containers}
        self.users: dict[str, int] = {}
        """Number of containers by image id."""
        for container in self.containers:
            self.users[container.image] = self.users.get(container.image, 0) + 1

    def totals(self) -> list[Total]:
        """Docker's four lines. There are no volumes and no build cache yet."""
        used = [image.id for image in self.images if image.id in self.users]
        active = [container for container in self.containers if container.state().status in _ACTIVE]
        size = sum(each.writable for each in self.sizes.values())
        return [
            Total("Images", len(self.images), len(used), self.usage.total(), self.usage.reclaimable(used)),
            Total(
                "Containers", len(self.containers), len(active), size,
                size - sum(self.sizes[container.id].writable for container in active),
            ),
            Total("Local Volumes", 0, 0, 0, 0),
            Total("Build Cache", 0, 0, 0, 0),
        ]  # fmt: skip
