"""Which network a container is given: the value of `--network`."""

from __future__ import annotations

from rdock.errors import InvalidParameter, NotThereYet

MODES = ("none", "host", "slirp4netns")


def parse(text: str) -> str:
    """The network of a container from `--network`; Docker's default names mean the default here.

    Raises InvalidParameter for one that does not exist.
    """
    if text in ("", "default", "bridge"):
        return "slirp4netns"
    if text.startswith("container:"):
        raise NotThereYet(f"'--network {text}' is not there yet")
    if text not in MODES:
        raise InvalidParameter(f"network {text} not found")
    return text
