"""How many bytes a container holds: its writable layer, and all of its root."""

from __future__ import annotations

import os

from rdock.container.containers import Container
from rdock.errors import DataLoss, NotFound
from rdock.image import images
from rdock.values import Value

# Deeper directories are not looked into: each has a descriptor open.
_MAX_DEPTH = 256
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Size(Value):
    """Docker's SizeRw and SizeRootFs, in bytes."""

    writable: int
    root: int


class Sizes:
    """Sizes of several containers; what images take is looked up once each.

    The process has to be root of the user's namespaces to see into directories of other ids.
    """

    def __init__(self) -> None:
        self._images: dict[str, int] = {}

    def of(self, container: Container) -> Size:
        """What cannot be read, since it is damaged or being removed, counts for nothing."""
        own = held(os.path.join(container.directory, "root"))
        if own:  # the copy driver: everything is its own
            return Size(own, own)
        own = held(os.path.join(container.directory, "upper"))
        return Size(own, own + (self._image(container.image) if container.image else 0))

    def _image(self, image_id: str) -> int:
        if image_id not in self._images:
            try:
                self._images[image_id] = images.lookup(image_id).size
            except (NotFound, DataLoss):
                self._images[image_id] = 0
        return self._images[image_id]


def held(path: str) -> int:
    """The bytes in regular files below a directory, a file with several names once; no link is followed."""
    try:
        fd = os.open(path, _DIRECTORY)
    except OSError:
        return 0
    return _held(fd, set(), 0)


def _held(fd: int, seen: set[tuple[int, int]], depth: int) -> int:
    """Takes the descriptor over."""
    total = 0
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if depth < _MAX_DEPTH:
                            total += _held(os.open(entry.name, _DIRECTORY, dir_fd=fd), seen, depth + 1)
                    elif entry.is_file(follow_symlinks=False):
                        found = entry.stat(follow_symlinks=False)
                        key = (found.st_dev, found.st_ino)
                        if found.st_nlink == 1 or key not in seen:
                            total += found.st_size
                            seen.add(key)
                except OSError:
                    continue
    except OSError:
        pass
    finally:
        os.close(fd)
    return total
