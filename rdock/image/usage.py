"""How much of the disk images take: what they share is counted once.

An image is on the disk twice: as the blobs that it came in, which save and push give back, and as unpacked
layers, on which containers stand. Docker's SIZE of an image is that of its files; here both count.
"""

from __future__ import annotations

from rdock.image import blobs
from rdock.image.images import Image
from rdock.storage import layers
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_LAYER, _BLOB = "layer", "blob"


class Shares(Value):
    """The bytes of one image on the disk."""

    shared: int
    """What other images need as well."""
    unique: int
    """What goes with the image."""

    @property
    def total(self) -> int:
        return self.shared + self.unique


class Usage:
    """The parts of images, each with its size, and who needs them."""

    def __init__(self, images: Iterable[Image]) -> None:
        self.parts = {image.id: _parts(image) for image in images}
        self._needed: dict[tuple[str, str], int] = {}
        for parts in self.parts.values():
            for part in parts:
                self._needed[part] = self._needed.get(part, 0) + 1
        self._sizes: dict[tuple[str, str], int] = {}

    def total(self) -> int:
        """The bytes of all images together."""
        return sum(map(self._size, self._needed))

    def reclaimable(self, used: Collection[str]) -> int:
        """The bytes that come free if all images but those in use (ids) are removed."""
        kept = {part for image_id in used for part in self.parts.get(image_id, ())}
        return sum(self._size(part) for part in self._needed if part not in kept)

    def of(self, image: Image) -> Shares:
        parts = self.parts[image.id]
        shared = sum(self._size(part) for part in parts if self._needed[part] > 1)
        return Shares(shared, sum(map(self._size, parts)) - shared)

    def content(self, image: Image) -> int:
        """The bytes of an image's blobs."""
        return sum(self._size(part) for part in self.parts[image.id] if part[0] == _BLOB)

    def _size(self, part: tuple[str, str]) -> int:
        if part not in self._sizes:
            kind, name = part
            self._sizes[part] = blobs.size(name) if kind == _BLOB else layers.size(name)
        return self._sizes[part]


def _parts(image: Image) -> set[tuple[str, str]]:
    manifest = image.manifest
    digests = (image.manifest_digest, manifest.config.digest, *(layer.digest for layer in manifest.layers))
    return {(_BLOB, digest) for digest in digests} | {(_LAYER, chain) for chain in image.chain_ids}
