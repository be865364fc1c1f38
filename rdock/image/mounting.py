"""The root of an image, mounted for reading: `image mount`.

The mount is in the mount namespace of a session (`rdock unshare`) and ends with it; nowhere else it would be seen by
anybody. Nothing keeps the image from being removed meanwhile. An image of one layer is that layer's directory; several
take the kernel's overlay, since a fuse-overlayfs would live on after the session.
"""

from __future__ import annotations

import os

from rdock import paths
from rdock.errors import NotFound, SystemFailure, Unavailable, reason
from rdock.image import images
from rdock.image.images import Image
from rdock.linux import mount as m
from rdock.storage import driver


def mount(image: Image) -> str:
    """Mount an image, unless it is mounted; where. Raises SystemFailure, Unavailable."""
    target = mounted().get(image.id)
    if target is not None:
        return target
    directories = images.root_directories(image)
    problem = driver.probe("overlay") if len(directories) > 1 else ""
    if problem:
        raise Unavailable(f"an image of several layers is mounted with the overlay driver only: {problem}")
    target = os.path.join(paths.mounted_images(), image.id)
    try:
        _prepare()
        os.makedirs(target, 0o700, exist_ok=True)  # one that failed may have left it
        if len(directories) > 1:
            _overlay(directories, target)
        elif directories:
            m.bind(directories[0], target)
            m.remount_bind(target, m.MS_RDONLY)
        else:
            m.mount("tmpfs", target, "tmpfs", m.MS_RDONLY | m.MS_NOSUID | m.MS_NODEV, "mode=755,size=4k")
    except OSError as e:
        raise SystemFailure(f"cannot mount image {image.id[:12]}: {e.filename or target}: {reason(e)}") from e
    return target


def _prepare() -> None:
    """A file system of the session's own for the places of mounts, so that nothing is left of them."""
    place = paths.mounted_images()
    os.makedirs(place, mode=0o700, exist_ok=True)
    if not any(entry.target == place for entry in m.mountinfo()):
        m.mount("tmpfs", place, "tmpfs", m.MS_NOSUID | m.MS_NODEV, "mode=700,size=1m")


def _overlay(directories: list[str], target: str) -> None:
    fds = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in directories]
    try:
        # In this way a path is short, and holds no character that an option cannot hold.
        m.mount("overlay", target, "overlay", m.MS_RDONLY, f"lowerdir={':'.join(map(m.through, fds))},userxattr")
    finally:
        for fd in fds:
            os.close(fd)


def mounted() -> dict[str, str]:
    """The images that are mounted here, by id, and where."""
    place = paths.mounted_images()
    targets = [entry.target for entry in m.mountinfo() if os.path.dirname(entry.target) == place]
    return {os.path.basename(target): target for target in targets}


def unmount(image_id: str) -> None:
    """Raises NotFound if the image is not mounted, SystemFailure if somebody is in it."""
    target = mounted().get(image_id)
    if target is None:
        raise NotFound(f"image {image_id[:12]} is not mounted")
    try:
        m.umount(target)
        os.rmdir(target)
    except OSError as e:
        raise SystemFailure(f"cannot unmount image {image_id[:12]}: {target}: {reason(e)}") from e
