"""What all ways into the image store share: a layer stored and unpacked in one pass, documents, the record.

Everything is verified before an image is recorded, and it is recorded last; what was put there before is in the
caller's journal, and goes if no image comes of it.
"""

from __future__ import annotations

import hashlib
import os

from rdock.errors import DataLoss, Unsupported
from rdock.image import blobs, catalog, compression, layer
from rdock.image.manifest import (
    MAX_DOCUMENT,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
    Manifest,
    encode,
)
from rdock.storage import layers
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    from rdock.image.journal import Journal

Say: TypeAlias = "Callable[[str], None]"

LAYER_SUFFIX = {"": "", "gzip": "+gzip", "zstd": "+zstd"}
"""What the media type of a layer ends with, by its compression."""


class Stored(Value):
    """An image all parts of which are in the store."""

    config: ImageConfig
    manifest_digest: str
    manifest_size: int
    media_type: str


def record_images(stored: list[tuple[Stored, list[str]]]) -> None:
    """List the images and their names, all or none."""
    blobs.flush()
    with catalog.change() as state:
        for image, names in stored:
            state.add(image.config.id, image.manifest_digest, image.manifest_size, image.media_type)
            for name in names:
                state.references[name] = image.config.id


def store_documents(config: ImageConfig, raw: bytes, descriptors: list[Descriptor], making: Journal) -> Stored:
    """Store config and manifest; an image that came without a manifest gets one."""
    config_digest = "sha256:" + config.id
    if not raw:
        described = Descriptor(OCI_CONFIG, config_digest, len(config.raw))
        raw = encode(Manifest(OCI_MANIFEST, described, tuple(descriptors)).to_json())
    manifest = Manifest.from_json(raw)
    if manifest.config.digest != config_digest:
        raise DataLoss("invalid image: the manifest is of another image config")
    making.note_blob(config_digest)
    blobs.put(config.raw)
    making.note_blob("sha256:" + hashlib.sha256(raw).hexdigest())
    return Stored(config, blobs.put(raw), len(raw), manifest.media_type)


def small_blob(descriptor: Descriptor, chunks: Iterable[bytes]) -> bytes:
    """A document that arrives as a blob, verified. Raises DataLoss."""
    if descriptor.size > MAX_DOCUMENT:
        raise DataLoss(f"blob {descriptor.digest}: {descriptor.size} bytes are too many for a document")
    data = b""
    for chunk in chunks:
        data += chunk
        if len(data) > descriptor.size:
            break
    found = "sha256:" + hashlib.sha256(data).hexdigest()
    if found != descriptor.digest or len(data) != descriptor.size:
        raise DataLoss(f"blob {descriptor.digest}: content has the digest {found}")
    return data


def copying(chunks: Iterable[bytes], writer: blobs.Writer) -> Iterator[bytes]:
    for chunk in chunks:
        writer.write(chunk)
        yield chunk


def unpack(chunks: Iterator[bytes], diff_id: str, chain: str, parent: str) -> None:
    """Unpack a layer unless it is there, and verify it in any case: each stream is read to its end."""
    unpacked = False

    def fill(root: int) -> layers.Content:
        nonlocal unpacked
        unpacked = True
        return layer.apply(chunks, root)

    layers.ensure(chain, parent, diff_id, fill)
    if not unpacked:
        found = hashlib.sha256()
        for chunk in compression.open_stream(chunks)[1]:
            found.update(chunk)
        if "sha256:" + found.hexdigest() != diff_id:
            raise DataLoss(f"layer {diff_id}: content has the digest sha256:{found.hexdigest()}")


def layer_type(digest: str) -> str:
    fd = blobs.open_blob(digest)
    try:
        kind = compression.detect(os.pread(fd, 8, 0))
    finally:
        os.close(fd)
    if kind not in LAYER_SUFFIX:
        raise Unsupported(f"unsupported compression of a layer: {kind}")
    return OCI_LAYER + LAYER_SUFFIX[kind]


def warn_of_notes(chain: str, warn: Say) -> None:
    found = layers.get(chain)
    for note in found.notes:
        warn(note)
    if found.foreign:
        warn(
            f"{found.foreign} files belong to other users in the image; with one id only all of them are yours,"
            " and commit and export remember the others"
        )
