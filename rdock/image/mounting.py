"""The root of an image, mounted for reading: `image mount`.

The mount is in the mount namespace of a session (`rdock unshare`) and ends with it; nowhere else it would be seen by
anybody. Nothing keeps the image from being removed meanwhile. An image of one layer is that layer's directory; several
take the kernel's overlay, since a fuse-overlayfs would live on after the session.
"""

from __future__ import annotations

from rdock import paths
from rdock.errors import NotFound, SystemFailure, Unavailable, reason
from rdock.image import images
from rdock.image.images import Image
from rdock.storage import driver, session_mounts


def mount(image: Image) -> str:
    """Mount an image, unless it is mounted; where. Raises SystemFailure, Unavailable."""
    target = mounted().get(image.id)
    if target is not None:
        return target
    directories = images.root_directories(image)
    problem = driver.probe("overlay") if len(directories) > 1 else ""
    if problem:
        raise Unavailable(f"an image of several layers is mounted with the overlay driver only: {problem}")
    target = paths.mounted_images()
    try:
        target = session_mounts.prepare(target, image.id)
        session_mounts.stack(directories, target)
    except OSError as e:
        raise SystemFailure(f"cannot mount image {image.id[:12]}: {e.filename or target}: {reason(e)}") from e
    return target


def mounted() -> dict[str, str]:
    """The images that are mounted here, by id, and where."""
    return session_mounts.mounted(paths.mounted_images())


def unmount(image_id: str) -> None:
    """Raises NotFound if the image is not mounted, SystemFailure if somebody is in it."""
    target = mounted().get(image_id)
    if target is None:
        raise NotFound(f"image {image_id[:12]} is not mounted")
    try:
        session_mounts.take_away(target)
    except OSError as e:
        raise SystemFailure(f"cannot unmount image {image_id[:12]}: {target}: {reason(e)}") from e
