"""Which network a container is given: the value of `--network`."""

from __future__ import annotations

from rdock import config, paths
from rdock.errors import InvalidParameter, RdockError

MODES = ("none", "host", "slirp4netns", "pasta")
PRIVATE = ("slirp4netns", "pasta")
"""Those with a network of their own behind a program of their own, which may have options: `slirp4netns:mtu=1400`."""


def kind(mode: str) -> str:
    """A network mode without its options."""
    name = mode.partition(":")[0]
    return name if name in PRIVATE else mode


def parse(text: str) -> str:
    """The network of a container from `--network`; without one it is the default.

    Raises NotFound for one that does not exist, InvalidParameter and Unsupported for options that it cannot have.
    """
    if text in ("", "default"):
        return _default()
    if text in (*MODES, "bridge"):
        return text
    if kind(text) in PRIVATE:
        from rdock.network import private

        private.check(text)
        return text
    from rdock.network import networks

    return networks.lookup(text).name


def _default() -> str:
    text = config.current().network
    if ":" in text:
        from rdock.network import private

        try:
            private.check(text)
        except RdockError as e:
            raise InvalidParameter(f"{paths.settings()}: network: {e.message}", e.hint) from e
    return text
