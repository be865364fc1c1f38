"""What is damaged or missing of images, fetched again from the registries that they are known to be at: just that.

An image that was pulled or pushed has `name@digest` among its names, and all its parts have digests, so whatever
comes is what was lost or is refused. A part takes the place of the damaged one once it is verified. Containers and
unpacked layers are not touched.
"""

from __future__ import annotations

import time

from rdock.errors import DataLoss, NotFound, RdockError
from rdock.image import blobs, catalog, images, journal, reference, storing
from rdock.image.manifest import INDEX_TYPES, Descriptor, ImageConfig, Index, Manifest, chain_ids, digest_of
from rdock.launch import debug
from rdock.registry import receiving
from rdock.registry.client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TypeAlias

    from rdock.image.catalog import Entry
    from rdock.image.journal import Journal
    from rdock.image.reference import Reference

    Tell: TypeAlias = Callable[[str, str, int, int], None]
    """Of a part: its digest, what is done with it, and how many bytes are there of how many."""

# Of the images in an index, looked at for the one that is wanted.
_MAX_LISTED = 50


def restore(tell: Tell, *, damaged: Collection[str] = (), only: str = "") -> list[str]:
    """Fetch again what images lack, or the image with the id `only`; a line for each one that could not be made whole.

    What is missing, has the wrong size or, of documents, the wrong content is found here; `damaged` are digests of
    blobs known to be bad besides. Images that are at no registry are left to the caller, and to `load`.
    """
    state = catalog.read()
    lacking = [
        (entry, sources)
        for entry in state.entries.values()
        if only in ("", entry.image_id)
        and (sources := [reference.parse(name) for name in state.references_of(entry.image_id) if "@" in name])
        and not _is_whole(entry, damaged)
    ]
    if not lacking:
        return []
    failed: list[str] = []
    with journal.adding() as making:
        for entry, sources in lacking:
            problems = []
            for where in sources:
                try:
                    _Restoring(entry, where, making, tell, damaged).run()
                    break
                except RdockError as e:
                    problems.append(f"image {entry.image_id[:12]}: cannot be fetched from {where.name}: {e.message}")
            else:
                failed += problems
    return failed


def _is_whole(entry: Entry, damaged: Collection[str]) -> bool:
    try:
        manifest = Manifest.from_json(blobs.read(entry.digest))
        ImageConfig.from_json(blobs.read(manifest.config.digest))
    except RdockError as e:
        debug(f"image {entry.image_id[:12]}: {e.message}")
        return False
    return all(_is_there(layer, damaged) for layer in manifest.layers)


def _is_there(layer: Descriptor, damaged: Collection[str]) -> bool:
    return layer.digest not in damaged and blobs.exists(layer.digest) and blobs.size(layer.digest) == layer.size


class _Restoring:
    """Making one image whole from one repository."""

    def __init__(self, entry: Entry, where: Reference, making: Journal, tell: Tell, damaged: Collection[str]) -> None:
        self.entry, self.where, self.source = entry, where, Client(where.domain, where.path)
        self.making, self.tell, self.damaged = making, tell, damaged

    def run(self) -> None:
        """Raises RdockError; what was fetched until then stays."""
        try:
            self._complete(Manifest.from_json(self._own_manifest()), is_own=True)
        except NotFound as e:
            # The registry has the image with its layers in another form, as after a push, which compresses them.
            debug(e.message)
            raw = self._their_manifest(e)
            self._complete(Manifest.from_json(raw), is_own=False)
            self._adopt(raw)

    # -- documents ---------------------------------------------------------------------------------

    def _own_manifest(self) -> bytes:
        digest = self.entry.digest
        try:
            return blobs.read(digest)
        except (NotFound, DataLoss):
            content = self.source.manifest(digest).content
            self._store(digest, content)
            self.tell(digest, "Fetched again", 0, 0)
            return content

    def _their_manifest(self, reason: NotFound) -> bytes:
        """The manifest by which the registry has this image. Raises `reason` if that is the one we have."""
        top = self.source.manifest(self.where.digest)
        found = [top.content]
        if top.media_type in INDEX_TYPES:
            # Of which platform the image is its config tells, and may be what is lost.
            listed = Index.from_json(top.content).manifests[:_MAX_LISTED]
            found = [self.source.manifest(one.digest).content for one in listed]
        for raw in found:
            is_it = Manifest.from_json(raw).config.digest == "sha256:" + self.entry.image_id
            if is_it and digest_of(raw) != self.entry.digest:
                return raw
        raise reason

    def _adopt(self, raw: bytes) -> None:
        """List the image by another manifest of it, all parts of which are there."""
        digest = digest_of(raw)
        self._store(digest, raw)
        blobs.flush()
        with catalog.change() as state:
            entry = state.entries.get(self.entry.image_id)
            if entry is not None:
                media_type = Manifest.from_json(raw).media_type
                state.entries[entry.image_id] = entry._replace(digest=digest, size=len(raw), media_type=media_type)

    def _store(self, digest: str, content: bytes) -> None:
        """Store a document, in place of what may be there under its digest. Raises DataLoss."""
        self.making.note_blob(digest)
        with blobs.Writer(digest, len(content)) as writer:
            writer.write(content)
            writer.commit()

    # -- blobs -------------------------------------------------------------------------------------

    def _complete(self, manifest: Manifest, *, is_own: bool) -> None:
        """Fetch what is not there of the parts of a manifest."""
        config = self._config(manifest)
        chains = chain_ids(config.diff_ids)
        known = set() if is_own else images.known_layers()
        for layer, diff_id, chain, parent in zip(manifest.layers, config.diff_ids, chains, ["", *chains], strict=False):
            if not _is_there(layer, self.damaged):
                self._fetch(layer)
            if not is_own and (layer.digest, diff_id) not in known:
                # Of our own manifest it was verified when the image came.
                storing.unpack(blobs.chunks(layer.digest), diff_id, chain, parent)

    def _config(self, manifest: Manifest) -> ImageConfig:
        digest = manifest.config.digest
        if digest != "sha256:" + self.entry.image_id:
            raise DataLoss("its manifest does not fit its config")
        try:
            raw = blobs.read(digest)
        except (NotFound, DataLoss):
            self._fetch(manifest.config)
            raw = blobs.read(digest)
        config = ImageConfig.from_json(raw)
        if len(manifest.layers) != len(config.diff_ids):
            raise DataLoss("its manifest does not fit its config")
        return config

    def _fetch(self, part: Descriptor) -> None:
        """Store a blob; when it is not what it should be, another server's, if there is one. Raises RdockError."""
        self.making.note_blob(part.digest)
        while True:
            try:
                with blobs.Writer(part.digest, part.size) as writer:
                    for chunk in receiving.pieces(self.source, part, 0, time.sleep):
                        writer.write(chunk)
                        self.tell(part.digest, "Downloading", writer.size, part.size)
                    writer.commit()
                break
            except DataLoss:
                if not self.source.distrust(part.digest):
                    raise
        self.tell(part.digest, "Fetched again", 0, 0)
