"""What is damaged or missing of images, fetched again from the registries that they are known to be at: just that.

An image that was pulled or pushed has `name@digest` among its names, and all its parts have digests, so whatever
comes is what was lost or is refused. A part takes the place of the damaged one once it is verified. Containers and
unpacked layers are not touched. Registries are behind `Source`: this room knows of none.
"""

from __future__ import annotations

from rdock.errors import DataLoss, NotFound, RdockError, SystemFailure
from rdock.image import blobs, catalog, images, journal, reference, storing
from rdock.image.manifest import INDEX_TYPES, Descriptor, ImageConfig, Index, Manifest, chain_ids, digest_of
from rdock.launch import debug

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Protocol, TypeAlias

    from rdock.image.catalog import Entry
    from rdock.image.journal import Journal
    from rdock.image.reference import Reference

    class Document(Protocol):
        """A manifest or an index as it came."""

        @property
        def media_type(self) -> str: ...
        @property
        def content(self) -> bytes: ...

    class Source(Protocol):
        """A repository at a registry. Its methods raise RdockError; `blob` OSError when a connection breaks."""

        def manifest(self, digest: str, /) -> Document: ...
        def blob(self, digest: str, offset: int = 0, /) -> Iterator[bytes]: ...
        def distrust(self, digest: str, /) -> None: ...

    Open: TypeAlias = Callable[[Reference], Source]
    """The repository that a reference names."""
    Tell: TypeAlias = Callable[[str, str, int, int], None]
    """Of a part: its digest, what is done with it, and how many bytes are there of how many."""

# How often the fetching of a blob is resumed without a single byte more.
_FRUITLESS = 3
# Of the images in an index, looked at for the one that is wanted.
_MAX_LISTED = 50


def restore(open_: Open, tell: Tell, *, damaged: Collection[str] = (), only: str = "") -> list[str]:
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
                    _Restoring(entry, where, open_(where), making, tell, damaged).run()
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

    def __init__(
        self, entry: Entry, where: Reference, source: Source, making: Journal, tell: Tell, damaged: Collection[str]
    ) -> None:
        self.entry, self.where, self.source = entry, where, source
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
        """Store a blob; of one that is not what it should be, another server is asked once. Raises RdockError."""
        digest = part.digest
        self.making.note_blob(digest)
        for attempt in (1, 2):
            try:
                with blobs.Writer(digest, part.size) as writer:
                    self._receive(part, writer)
                    writer.commit()
                break
            except DataLoss:
                self.source.distrust(digest)
                if attempt == 2:
                    raise
        self.tell(digest, "Fetched again", 0, 0)

    def _receive(self, part: Descriptor, writer: blobs.Writer) -> None:
        """All bytes of a blob; resumed where a connection breaks."""
        fruitless = 0
        while writer.size < part.size:
            before = writer.size
            try:
                for chunk in self.source.blob(part.digest, before):
                    writer.write(chunk)
                    self.tell(part.digest, "Downloading", writer.size, part.size)
                return
            except OSError as e:
                fruitless = 0 if writer.size > before else fruitless + 1
                if fruitless >= _FRUITLESS:
                    raise SystemFailure(f"blob {part.digest}: the connection broke again and again: {e}") from e
