"""The starter image, carried inside rdock, so that `run` works where no registry is in reach."""

from __future__ import annotations

import os

from rdock import launch
from rdock.errors import InvalidParameter, NoSuchImage, Unavailable
from rdock.image import images
from rdock.image.images import Image

NAME = "rdock/starter"
PULL_POLICIES = ("always", "missing", "never")


def find(name: str, pull: str) -> Image:
    """The image for a new container; the starter appears in the store when it is first asked for.

    Raises NoSuchImage, and Unavailable where it would have to come from a registry.
    """
    if pull not in PULL_POLICIES:
        raise InvalidParameter(f'invalid pull option: \'{pull}\': must be one of "always", "missing" or "never"')
    found = images.find(name)
    if found is None and pull != "never" and name in (NAME, f"{NAME}:latest", f"docker.io/{NAME}:latest"):
        from rdock.image import archive  # most runs find their image, and need no part of it

        fd = archive.open_file(os.path.join(launch.bundled(), "rdock", "starter", "starter.tar.gz"))
        try:
            archive.load(fd)
        finally:
            os.close(fd)
        found = images.find(name)
    if found is not None and pull != "always":
        return found
    if found is None and pull == "never":
        raise NoSuchImage(images.shown(name))
    raise _no_registry(name, found)


def _no_registry(name: str, found: Image | None) -> Unavailable:
    shown = images.shown(name)
    if found is not None:
        return Unavailable(
            f"cannot pull '{shown}': pulling from a registry is not there yet",
            hint="--pull missing, the default, takes the image that is there",
        )
    near = images.similar(name)
    hint = "rdock load -i FILE or rdock import FILE NAME; rdock/starter is built in"
    if near:
        hint = f"there is {', '.join(near[:5])}" + (f" and {len(near) - 5} more" if len(near) > 5 else "")
    return Unavailable(f"Unable to find image '{shown}' locally: pulling from a registry is not there yet", hint)
