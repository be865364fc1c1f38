"""Pushing an image: the layers that the registry lacks, then the config, then the manifest by its tag.

What is compressed goes as it is stored, so that a pull gives back the digests that were pulled. A plain layer is
compressed on its way, which makes another manifest of the same image.
"""

from __future__ import annotations

import os
import threading
import zlib

from rdock.image import blobs, catalog, compression, images, reference
from rdock.image.images import Image
from rdock.image.manifest import Descriptor, Manifest, encode
from rdock.registry.client import Client
from rdock.registry.progress import Report
from rdock.registry.pulling import Stopped, in_parallel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rdock.image.reference import Reference

# As Docker's `max-concurrent-uploads`.
AT_ONCE = 5


def push(image: Image, target: Reference, report: Report) -> tuple[str, int]:
    """Send an image to the registry that `target` names, by its tag; the manifest's digest and size.

    The image is known by that digest from then on. Raises Unauthorized and its like from the registry, DataLoss if
    the store is damaged.
    """
    client = Client(target.domain, target.path, push=True)
    upload = _Upload(client, report, _relatives(image, target), _sent_before(client, image, target))
    # A layer that an image has twice is sent once.
    descriptors = list({descriptor.digest: descriptor for descriptor in image.manifest.layers}.values())
    for descriptor in descriptors:
        report.layer(descriptor.digest, "Preparing")
    in_parallel(descriptors, upload.layer, upload.stopped, AT_ONCE)
    config = image.manifest.config
    if client.has_blob(config.digest) < 0:
        client.upload_blob(config.digest, config.size, lambda offset: _from(config.digest, offset))
    raw = blobs.read(image.manifest_digest)
    if upload.sent:
        layers = tuple(upload.sent.get(layer.digest, layer) for layer in image.manifest.layers)
        raw = encode(image.manifest._replace(layers=layers).to_json())
    digest = client.put_manifest(target.tag, image.manifest.media_type, raw)
    with catalog.change() as state:
        if image.id in state.entries:
            state.references[str(target._replace(tag="", digest=digest))] = image.id
    images.note("push", image.id, target.familiar)
    return digest, len(raw)


def _sent_before(client: Client, image: Image, target: Reference) -> dict[str, Descriptor]:
    """As what the image's plain layers went to this repository earlier, if they are there still.

    What they are when compressed is not kept, and the same push again is to be quick.
    """
    if not any(_is_plain(layer) for layer in image.manifest.layers):
        return {}
    for name in map(reference.parse, image.references):
        if name.digest and name.name == target.name and client.head(name.digest) == name.digest:
            there = Manifest.from_json(client.manifest(name.digest).content)
            if there.config.digest == image.manifest.config.digest and len(there.layers) == len(image.manifest.layers):
                return {own.digest: sent for own, sent in zip(image.manifest.layers, there.layers, strict=True)}
    return {}


def _is_plain(layer: Descriptor) -> bool:
    """Whether a layer is stored as a tar that is not compressed, as those of imports and docker-archives."""
    return layer.media_type.endswith(".tar")


def _relatives(image: Image, target: Reference) -> list[str]:
    """The repositories at the same registry that this image is known by, from which its layers may be had."""
    known = [reference.parse(name) for name in image.references]
    return sorted({other.path for other in known if other.domain == target.domain} - {target.path})


class _Upload:
    """The sending of one image's layers, by several threads."""

    def __init__(self, client: Client, report: Report, relatives: list[str], known: dict[str, Descriptor]) -> None:
        self.client, self.report, self.relatives, self.known = client, report, relatives, known
        self.stopped = threading.Event()
        self.sent: dict[str, Descriptor] = {}
        """What has another form at the registry than here, by its digest here."""

    def layer(self, descriptor: Descriptor) -> None:
        """Have the registry own a layer, by what costs least."""
        known = self.known.get(descriptor.digest)
        if known is not None and self.client.has_blob(known.digest) >= 0:
            self.sent[descriptor.digest] = known
            self.report.layer(descriptor.digest, "Layer already exists")
        elif _is_plain(descriptor) and descriptor.size:
            self._compressed(descriptor)
        else:
            self._send(descriptor, descriptor.digest, lambda offset: _from(descriptor.digest, offset))

    def _compressed(self, descriptor: Descriptor) -> None:
        """Send a plain layer in gzip form, as Docker does: half the bytes for everybody who pulls it."""
        digest = descriptor.digest
        self.report.layer(digest, "Compressing")
        compressor = zlib.compressobj(compression.LEVEL, zlib.DEFLATED, 31)
        with blobs.Writer() as writer:
            for chunk in blobs.chunks(digest):
                if self.stopped.is_set():
                    raise Stopped
                if data := compressor.compress(chunk):
                    writer.write(data)
            writer.write(compressor.flush())
            kind = descriptor.media_type + (".gzip" if ".docker." in descriptor.media_type else "+gzip")
            sent = Descriptor(kind, writer.digest, writer.size)
            self._send(sent, digest, lambda offset: _pieces(writer.fd, offset))
        self.sent[digest] = sent

    def _send(self, descriptor: Descriptor, shown: str, open_at: Callable[[int], Iterator[bytes]]) -> None:
        """`shown` is the digest by which the layer is known here."""
        if self.client.has_blob(descriptor.digest) >= 0:
            self.report.layer(shown, "Layer already exists")
            return
        for relative in self.relatives:
            if self.client.mount_blob(descriptor.digest, relative):
                self.report.layer(shown, f"Mounted from {relative}")
                return
        size = descriptor.size
        self.report.layer(shown, "Pushing", 0, size)

        def content(offset: int) -> Iterator[bytes]:
            done = offset
            for chunk in open_at(offset):
                if self.stopped.is_set():
                    raise Stopped
                yield chunk
                done += len(chunk)
                self.report.layer(shown, "Pushing", done, size)

        self.client.upload_blob(descriptor.digest, size, content)
        self.report.layer(shown, "Pushed")


def _pieces(fd: int, offset: int) -> Iterator[bytes]:
    while chunk := os.pread(fd, blobs.CHUNK, offset):
        yield chunk
        offset += len(chunk)


def _from(digest: str, offset: int) -> Iterator[bytes]:
    fd = blobs.open_blob(digest)
    try:
        yield from _pieces(fd, offset)
    finally:
        os.close(fd)
