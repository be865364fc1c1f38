"""Looking through the store of images for what does not fit together. Changes nothing; takes no lock for long."""

from __future__ import annotations

import os

from rdock import paths
from rdock.errors import DataLoss, NotFound, RdockError
from rdock.image import blobs, catalog, images
from rdock.image.catalog import Catalog
from rdock.image.images import Image
from rdock.image.manifest import digest_of
from rdock.state import record
from rdock.storage import layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def findings() -> Iterator[str]:
    """One line for each thing that is wrong. Contents are not read: that is `repairing.damage`."""
    try:
        state = catalog.read()
        yield from _names(state)
    except RdockError as e:
        yield e.message
        return
    blobs_needed: set[str] = set()
    chains_needed: set[str] = set()
    for entry in state.entries.values():
        blobs_needed.add(entry.digest)
        try:
            image = images.lookup(entry.image_id)
        except (NotFound, DataLoss) as e:
            if entry.image_id in catalog.read().entries:
                yield f"image {entry.image_id[:12]}: {e.message}"
            continue
        blobs_needed |= {image.manifest.config.digest, *(layer.digest for layer in image.manifest.layers)}
        chains_needed |= set(image.chain_ids)
        yield from _layer_blobs(image)
    if not _is_somebody_at_work():
        yield from _needless(blobs_needed, chains_needed)
    yield from _layer_records()


def _names(state: Catalog) -> Iterator[str]:
    repositories = record.read(paths.repositories()) or {}
    for name, image_id in sorted(repositories.get("references", {}).items()):
        if image_id not in state.entries:
            yield f"image name {name}: leads to {str(image_id)[:12]}, which is not there"


def _layer_blobs(image: Image) -> Iterator[str]:
    for layer in image.manifest.layers:
        if not blobs.exists(layer.digest):
            yield f"image {image.id[:12]}: blob {layer.digest} of a layer is missing"
        elif blobs.size(layer.digest) != layer.size:
            yield f"image {image.id[:12]}: blob {layer.digest} has {blobs.size(layer.digest)} bytes, not {layer.size}"


def _needless(needed: set[str], chains: set[str]) -> Iterator[str]:
    for digest in stored():
        if digest not in needed:
            yield f"blob {digest}: no image needs it"
    for chain in layers.chains():
        if chain not in chains:
            yield f"layer {chain[:12]}: no image needs it"


def stored() -> list[str]:
    """The digests of all blobs that are there."""
    try:
        names = sorted(os.listdir(paths.blobs()))
    except OSError:
        return []
    return ["sha256:" + name for name in names if len(name) == len(digest_of(b"")) - len("sha256:")]


def _is_somebody_at_work() -> bool:
    """Whether parts of images are being made or used that no record refers to yet."""
    if not os.path.exists(paths.image_hold()):
        return False
    lock = record.Lock(paths.image_hold())
    try:
        return not lock.acquire(wait=False)
    finally:
        lock.release()


def _layer_records() -> Iterator[str]:
    try:
        names = sorted(os.listdir(paths.layers()))
    except OSError:
        return
    for name in names:
        path = os.path.join(paths.layers(), name)
        if name.endswith(".lock"):
            if not record.is_locked(path):
                yield f"layer {name[:12]}: its lock was left by a process that was killed"
        elif not name.endswith(".tmp"):
            yield from _layer_record(name, path)


def _layer_record(name: str, path: str) -> Iterator[str]:
    try:
        found = record.read(os.path.join(path, "layer.json"))
        if found is None:
            yield f"layer {name[:12]}: it has no record"
        else:
            layers.Layer.from_json(found)
    except RdockError as e:
        yield f"layer {name[:12]}: {e.message}"
    if not os.path.isdir(os.path.join(path, "diff")):
        yield f"layer {name[:12]}: its files are missing"
