"""The platform that a user asks for, `OS[/ARCH[/VARIANT]]`, and whether an image is for it."""

from __future__ import annotations

from rdock.errors import InvalidParameter, NotFound
from rdock.image.images import Image
from rdock.image.manifest import ImageConfig, Platform, host_platform

_SYSTEMS = ("linux", "windows", "darwin", "freebsd")
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm"}


def parse(text: str | None) -> Platform | None:
    """`OS[/ARCH[/VARIANT]]`, or an architecture alone. Raises InvalidParameter in containerd's words."""
    if not text:
        return None
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(part.replace("_", "").replace("-", "").isalnum() for part in parts):
        raise InvalidParameter(f'"{text}" is an invalid component of a platform: invalid argument')
    if len(parts) == 1:
        if parts[0] in _SYSTEMS:
            return Platform(parts[0], host_platform().architecture)
        return Platform("linux", _ARCHITECTURES.get(parts[0], parts[0]))
    return Platform(parts[0], _ARCHITECTURES.get(parts[1], parts[1]), *parts[2:])


def fits(config: ImageConfig, wanted: Platform) -> bool:
    """Whether an image is for a platform; a variant that one of them does not tell is no obstacle."""
    same = (config.os or "linux", config.architecture) == (wanted.os, wanted.architecture)
    return same and (not wanted.variant or not config.variant or wanted.variant == config.variant)


def check(wanted: Platform | None, image: Image, name: str) -> None:
    """Raise InvalidParameter in Docker's words if a container shall be made of an image that is another platform's."""
    if wanted is not None and not fits(image.config, wanted):
        actual = Platform(image.config.os, image.config.architecture, image.config.variant)
        raise InvalidParameter(
            f"image with reference {name} was found but does not match the specified platform: wanted {wanted}, "
            f"actual: {actual}"
        )


def check_provided(wanted: Platform | None, image: Image, name: str) -> None:
    """Raise NotFound in Docker's words if an image that is asked for by platform is another one's."""
    if wanted is not None and not fits(image.config, wanted):
        raise NotFound(f"image with reference {name} was found but does not provide the specified platform ({wanted})")
