"""The starter image, carried inside rdock, so that `run` works where no registry is in reach."""

from __future__ import annotations

import os

from rdock import launch
from rdock.errors import InvalidParameter, NoSuchImage
from rdock.image import images
from rdock.image.images import Image

NAME = "rdock/starter"
PULL_POLICIES = ("always", "missing", "never")


def find(name: str, pull: str) -> Image | None:
    """The image for a new container, None if it has to be pulled first; the starter is there when it is asked for.

    Raises NoSuchImage where nothing may be pulled.
    """
    if pull not in PULL_POLICIES:
        raise InvalidParameter(f'invalid pull option: \'{pull}\': must be one of "always", "missing" or "never"')
    found = images.find(name)
    if found is None and pull != "never" and is_it(name):
        from rdock.image import archive  # most runs find their image, and need no part of it

        fd = archive.open_file(os.path.join(launch.bundled(), "rdock", "starter", "starter.tar.gz"))
        try:
            archive.load(fd)
        finally:
            os.close(fd)
        found = images.find(name)
    if found is None and pull == "never":
        raise NoSuchImage(images.shown(name))
    return None if pull == "always" and not is_it(name) else found


def is_it(name: str) -> bool:
    """Whether a name is the starter's, which is in no registry."""
    return name in (NAME, f"{NAME}:latest", f"docker.io/{NAME}:latest")
