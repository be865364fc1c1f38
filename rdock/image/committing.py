"""A new image from what has changed above another one: the layer, the config, the record.

The layer is written, compressed, hashed and unpacked into the layer store in one pass, so that the store holds just
what the blob says. Nothing is recorded before all of it is there; see journal.py for what a crash leaves.
"""

from __future__ import annotations

import zlib

from rdock.errors import Conflict
from rdock.image import blobs, compression, images, journal, layer, storing
from rdock.image.images import Image
from rdock.image.journal import Journal
from rdock.image.manifest import (
    MAX_LAYERS,
    OCI_LAYER,
    Descriptor,
    ImageConfig,
    Json,
    chain_ids,
    encode,
    parse_object,
)
from rdock.image.reference import Reference
from rdock.state import timestamp
from rdock.storage import layers
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# The DiffID of an archive without members: such a layer is none (moby: layer.IsEmpty).
_EMPTY = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


class Step(Value):
    """What is told of a new image beside what is in it."""

    run: Json
    """The run part of its config."""
    created_by: str
    author: str = ""
    comment: str = ""


def commit(base_id: str, changeset: Iterator[bytes], step: Step, name: Reference | None) -> str:
    """Make an image of a changeset, a tar archive, above an image of the store; its id.

    Raises NoSuchImage, Conflict if it has too many layers, and what reading the changeset raises: then nothing stays.
    """
    journal.sweep()
    with journal.adding() as making, blobs.Writer() as writer:
        base = images.lookup(base_id)
        if len(base.manifest.layers) >= MAX_LAYERS:
            raise Conflict("max depth exceeded")
        # That of another tool's image may be of Docker's kinds, which an OCI manifest has other names for.
        described = [Descriptor(storing.layer_type(one.digest), one.digest, one.size) for one in base.manifest.layers]
        diff_ids = list(base.config.diff_ids)
        with layers.stage(lambda root: layer.apply(_compressing(changeset, writer), root, strict_end=True)) as staged:
            diff_id = staged.content.diff_id
            is_empty = diff_id == _EMPTY
            if not is_empty:
                diff_ids.append(diff_id)
                parent, chain = ["", *chain_ids(diff_ids)][-2:]
                if layers.find(chain) is None:
                    making.note_layer(chain)
                layers.adopt(staged, chain, parent)
        if not is_empty:
            if not blobs.exists(writer.digest):
                making.note_blob(writer.digest)
                writer.commit()
            described.append(Descriptor(OCI_LAYER + "+gzip", writer.digest, writer.size))
        document = _document(base, step, diff_ids, is_empty=is_empty)
        return _record(document, described, name, making)


def _compressing(chunks: Iterator[bytes], writer: blobs.Writer) -> Iterator[bytes]:
    """The chunks as they come, which are written to the blob in gzip form on the way."""
    compressor = zlib.compressobj(compression.LEVEL, zlib.DEFLATED, 31)
    for chunk in chunks:
        if data := compressor.compress(chunk):
            writer.write(data)
        yield chunk
    writer.write(compressor.flush())


def _document(base: Image, step: Step, diff_ids: list[str], *, is_empty: bool) -> Json:
    """The config of the new image: the base's but for what is new, and what told of how the base was made."""
    document = parse_object(base.config.raw, "image config")
    for key in ("container", "container_config", "docker_version", "author", "comment", "id", "parent"):
        document.pop(key, None)
    created = timestamp.now()
    entry: Json = {"created": created, "created_by": step.created_by}
    entry |= {"author": step.author} if step.author else {}
    entry |= {"comment": step.comment} if step.comment else {}
    entry |= {"empty_layer": True} if is_empty else {}
    document |= {"author": step.author} if step.author else {}
    document["created"] = created
    document["config"] = step.run
    document["history"] = [*(document.get("history") or []), entry]
    document["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    return document


def _record(document: Json, described: list[Descriptor], name: Reference | None, making: Journal) -> str:
    stored = storing.store_documents(ImageConfig.from_json(encode(document)), b"", described, making)
    storing.record_images([(stored, [str(name)] if name is not None else [])])
    return stored.config.id
