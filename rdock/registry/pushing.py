"""Pushing an image: the layers that the registry lacks, then the config, then the manifest by its tag.

Everything goes as it is stored, so that a pull gives back the digests that a push said.
"""

from __future__ import annotations

import os
import threading

from rdock.image import blobs, catalog, reference
from rdock.image.images import Image
from rdock.image.manifest import Descriptor
from rdock.registry.client import Client
from rdock.registry.progress import Report
from rdock.registry.pulling import Stopped, in_parallel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rdock.image.reference import Reference

# As Docker's `max-concurrent-uploads`.
AT_ONCE = 5


def push(image: Image, target: Reference, report: Report) -> tuple[str, int]:
    """Send an image to the registry that `target` names, by its tag; the manifest's digest and size.

    The image is known by that digest from then on. Raises Unauthorized and its like from the registry, DataLoss if the store is damaged.
    """
    raw = blobs.read(image.manifest_digest)
    client = Client(target.domain, target.path, push=True)
    upload = _Upload(client, report, _relatives(image, target))
    # A layer that an image has twice is sent once.
    descriptors = list({descriptor.digest: descriptor for descriptor in image.manifest.layers}.values())
    for descriptor in descriptors:
        report.layer(descriptor.digest, "Preparing")
    in_parallel(descriptors, upload.layer, upload.stopped, AT_ONCE)
    config = image.manifest.config
    if client.has_blob(config.digest) < 0:
        client.upload_blob(config.digest, config.size, lambda offset: _from(config.digest, offset))
    digest = client.put_manifest(target.tag, image.manifest.media_type, raw)
    with catalog.change() as state:
        if image.id in state.entries:
            state.references[str(target._replace(tag="", digest=digest))] = image.id
    return digest, len(raw)


def _relatives(image: Image, target: Reference) -> list[str]:
    """The repositories at the same registry that this image is known by, from which its layers may be had."""
    known = [reference.parse(name) for name in image.references]
    return sorted({other.path for other in known if other.domain == target.domain} - {target.path})


class _Upload:
    """The sending of one image's layers, by several threads."""

    def __init__(self, client: Client, report: Report, relatives: list[str]) -> None:
        self.client, self.report, self.relatives = client, report, relatives
        self.stopped = threading.Event()

    def layer(self, descriptor: Descriptor) -> None:
        """Have the registry own a layer, by what costs least."""
        digest, size = descriptor.digest, descriptor.size
        if self.client.has_blob(digest) >= 0:
            self.report.layer(digest, "Layer already exists")
            return
        for relative in self.relatives:
            if self.client.mount_blob(digest, relative):
                self.report.layer(digest, f"Mounted from {relative}")
                return
        self.report.layer(digest, "Pushing", 0, size)

        def content(offset: int) -> Iterator[bytes]:
            done = offset
            for chunk in _from(digest, offset):
                if self.stopped.is_set():
                    raise Stopped
                yield chunk
                done += len(chunk)
                self.report.layer(digest, "Pushing", done, size)

        self.client.upload_blob(digest, size, content)
        self.report.layer(digest, "Pushed")


def _from(digest: str, offset: int) -> Iterator[bytes]:
    fd = blobs.open_blob(digest)
    try:
        os.lseek(fd, offset, os.SEEK_SET)
        yield from blobs.read_chunks(fd)
    finally:
        os.close(fd)
