"""Which network a container is given: the value of `--network`."""

from __future__ import annotations

from rdock import config

MODES = ("none", "host", "slirp4netns")


def parse(text: str) -> str:
    """The network of a container from `--network`; without one it is the default.

    Raises NotFound for one that does not exist.
    """
    if text in ("", "default"):
        return config.current().network
    if text in (*MODES, "bridge"):
        return text
    from rdock.network import networks

    return networks.lookup(text).name
