"""Image archives into the store: `load` of docker-archives and OCI layouts, `import_tree` of a root tree.

Everything is verified before an image is recorded, and all images of an archive are recorded together
at the end: of an archive that is cut off or damaged nothing stays. A layer is stored and unpacked in
one pass over its bytes. What is worth saying goes to the functions the caller gives.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import ExitStack

from rdock.errors import DataLoss, InvalidParameter, NotFound, SystemFailure, Unsupported, reason
from rdock.image import blobs, compression, images, journal, layer, platforms, reference, storing
from rdock.image.changes import apply_changes
from rdock.image.journal import Journal
from rdock.image.manifest import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_LAYER,
    Descriptor,
    ImageConfig,
    Index,
    Json,
    Manifest,
    Platform,
    chain_ids,
    encode,
    host_platform,
    parse_document,
)
from rdock.image.members import DirectoryMembers, Members, SeekableMembers, SpooledMembers, can_seek
from rdock.state import timestamp
from rdock.storage import layers, staging
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeAlias

Say: TypeAlias = "Callable[[str], None]"

_MAX_NESTING = 3


class _Found(Value):
    """An image of an archive, before its layers are stored."""

    config: bytes
    manifest: bytes
    """Empty if the archive has none, as a docker-archive."""
    layers: list[str]
    """Names of members, lowest first."""
    references: list[str]


def _silent(_: str) -> None:
    pass


def open_file(path: str) -> int:
    """A file that the user named, open for reading. Raises NotFound, SystemFailure."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"open {path}: no such file or directory") from None
    except OSError as e:
        raise SystemFailure(f"open {path}: {reason(e)}") from e


# -- load ----------------------------------------------------------------------------------------


def load(fd: int, *, platform: Platform | None = None, say: Say = _silent, warn: Say = _silent) -> list[str]:
    """Load all images of an archive, a file or a pipe, compressed or not, or of an image layout's directory; their ids.

    Of an image for several platforms the one for `platform` is taken, or that for this machine.
    Says `Loaded image: NAME:TAG`, or the id of an image without a name. Raises DataLoss when the archive
    is not what it claims to be.
    """
    journal.sweep()
    with ExitStack() as stack:
        making = stack.enter_context(journal.adding())
        members: Members
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            members = DirectoryMembers(fd)
        elif can_seek(fd):
            members = SeekableMembers(fd)
        else:
            members = SpooledMembers(blobs.read_chunks(fd), stack.enter_context(staging.entry()))
        stored = [
            (_store_image(found, members, making, warn), found.references) for found in _find_images(members, platform)
        ]
        storing.record_images(stored)
    for image, names in stored:
        for name in names:
            images.note("load", image.config.id, reference.parse(name).familiar)
            say(f"Loaded image: {reference.parse(name).familiar}")
        if not names:
            images.note("load", image.config.id)
            say(f"Loaded image ID: sha256:{image.config.id}")
    return [image.config.id for image, _ in stored]


def _find_images(members: Members, platform: Platform | None) -> list[_Found]:
    # Newer docker writes both descriptions; the OCI one keeps the digest of the manifest.
    if "oci-layout" in members and "index.json" in members:
        wanted = platform or host_platform()
        found = _merged(_oci_images(members, members.small("index.json"), [], 0, wanted))
    elif "manifest.json" in members:
        found = list(_docker_images(members))
    else:
        raise DataLoss("not an image archive: it has neither a manifest.json nor an index.json")
    if not found:
        raise DataLoss("invalid image archive: it has no image for this platform")
    if platform is not None:
        found = [each for each in found if platforms.fits(ImageConfig.from_json(each.config), platform)]
        if not found:
            raise NotFound(f"no image in the archive provides the specified platform ({platform})")
    return found


def _merged(found: Iterable[_Found]) -> list[_Found]:
    """An image with several names is listed once for each of them."""
    images: dict[bytes, _Found] = {}
    for each in found:
        known = images.setdefault(each.manifest, each._replace(references=[]))
        known.references.extend(name for name in each.references if name not in known.references)
    return list(images.values())


def _docker_images(members: Members) -> Iterator[_Found]:
    listed = parse_document(members.small("manifest.json"), "manifest.json")
    if not isinstance(listed, list):
        raise DataLoss("invalid manifest.json: not a list")
    for item in listed:
        if not isinstance(item, dict):
            raise DataLoss("invalid manifest.json: not a list of objects")
        config, tags, names = item.get("Config"), item.get("RepoTags") or [], item.get("Layers") or []
        if not isinstance(config, str) or not _are_texts(tags) or not _are_texts(names):
            raise DataLoss("invalid manifest.json: not of the form Config, RepoTags, Layers")
        try:
            references = [str(reference.parse(tag).tagged()) for tag in tags]
        except InvalidParameter as e:
            raise DataLoss(f"invalid manifest.json: {e.message}") from None
        yield _Found(members.small(config), b"", [name.removeprefix("./") for name in names], references)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _oci_images(members: Members, text: bytes, names: list[str], depth: int, wanted: Platform) -> Iterator[_Found]:
    """The images of an index: all that it lists at the top, and of an index below it the one for a platform."""
    index = Index.from_json(text)
    if depth > _MAX_NESTING:
        raise DataLoss("invalid image archive: indexes nested too deeply")
    for descriptor in index.manifests if depth == 0 else [index.choose(wanted)]:
        named = names or _oci_names(descriptor.annotations)
        if descriptor.media_type in INDEX_TYPES:
            yield from _oci_images(members, _document(members, descriptor), named, depth + 1, wanted)
        elif descriptor.media_type in MANIFEST_TYPES:
            if "vnd.docker.reference.type" in descriptor.annotations:
                continue
            raw = _document(members, descriptor)
            manifest = Manifest.from_json(raw)
            config = _document(members, manifest.config)
            yield _Found(config, raw, [_blob_member(layer.digest) for layer in manifest.layers], named)
        else:
            raise Unsupported(f"unsupported media type in image archive: {descriptor.media_type[:100]!r}")


def _oci_names(annotations: dict[str, str]) -> list[str]:
    """What the image is called: containerd's annotation is a whole name, the OCI one may be a tag only."""
    name = annotations.get("io.containerd.image.name", "")
    other = annotations.get("org.opencontainers.image.ref.name", "")
    try:
        if name or ":" in other or "/" in other:
            return [str(reference.parse(name or other)._replace(digest="").tagged())]
    except InvalidParameter as e:
        # The OCI annotation has a wider grammar; what is no name for Docker in it is none here either.
        if name:
            raise DataLoss(f"invalid image archive: name {name[:200]!r}: {e.message}") from None
    return []


def _document(members: Members, descriptor: Descriptor) -> bytes:
    """A JSON blob of an OCI archive, verified."""
    data = members.small(_blob_member(descriptor.digest))
    found = "sha256:" + hashlib.sha256(data).hexdigest()
    if found != descriptor.digest or len(data) != descriptor.size:
        raise DataLoss(f"blob {descriptor.digest}: content has the digest {found}")
    return data


def _blob_member(digest: str) -> str:
    return f"blobs/sha256/{reference.digest_hex(digest)}"


# -- storing -------------------------------------------------------------------------------------


def _store_image(found: _Found, members: Members, making: Journal, warn: Say) -> storing.Stored:
    config = ImageConfig.from_json(found.config)
    if config.os and config.os != "linux":
        raise Unsupported(f"cannot load image: operating system {config.os[:40]!r} is not supported")
    if len(found.layers) != len(config.diff_ids):
        raise DataLoss(
            f"invalid image archive: {len(found.layers)} layers for the {len(config.diff_ids)} of the image config"
        )
    given = Manifest.from_json(found.manifest).layers if found.manifest else ()
    descriptors = []
    parent = ""
    for number, (name, chain) in enumerate(zip(found.layers, chain_ids(config.diff_ids), strict=True)):
        announced = given[number] if given else None
        descriptors.append(_store_layer(members, name, announced, config.diff_ids[number], (chain, parent), making))
        storing.warn_of_notes(chain, warn)
        parent = chain
    return storing.store_documents(config, found.manifest, descriptors, making)


def _store_layer(
    members: Members, name: str, announced: Descriptor | None, diff_id: str, chains: tuple[str, str], making: Journal
) -> Descriptor:
    """Store a layer's blob and unpack it, each unless it is there; its descriptor."""
    chain, parent = chains
    digest = announced.digest if announced else members.digest(name)
    if not digest and blobs.exists(diff_id):
        # A docker-archive does not tell digests, but its layers are uncompressed, and this one is there.
        digest = diff_id
    if layers.find(chain) is None:
        making.note_layer(chain)
    if digest and members.digest(name) not in ("", digest):
        raise DataLoss(f"blob {digest}: content has the digest {members.digest(name)}")
    if digest and not blobs.exists(digest):
        making.note_blob(digest)
        members.move_to_store(name)
    if digest and blobs.exists(digest):
        if announced and blobs.size(digest) != announced.size:
            raise DataLoss(f"blob {digest}: {blobs.size(digest)} bytes instead of the {announced.size} announced")
        storing.unpack(blobs.chunks(digest), diff_id, chain, parent)
    else:
        with blobs.Writer(digest, announced.size if announced else None) as writer:
            storing.unpack(storing.copying(members.chunks(name), writer), diff_id, chain, parent)
            making.note_blob(writer.check())
            digest = writer.commit()
    if announced:
        return announced
    return Descriptor(storing.layer_type(digest), digest, blobs.size(digest))


# -- import --------------------------------------------------------------------------------------


class Import(Value):
    """What an image made of a root tree shall be."""

    changes: tuple[str, ...] = ()
    """Instructions of a Dockerfile."""
    message: str = "Imported from -"
    name: str = ""
    platform: Platform | None = None


def import_tree(chunks: Iterator[bytes], asked: Import, *, say: Say = _silent, warn: Say = _silent) -> str:
    """Make an image of a tar archive of a root tree; its id. Says `sha256:ID`.

    Raises InvalidParameter for a bad name or change, DataLoss for a bad archive.
    """
    wanted = reference.parse(asked.name).tagged() if asked.name else None
    if wanted is not None and wanted.digest:
        raise InvalidParameter("cannot import digest reference")
    platform = asked.platform or host_platform()
    if platform.os != "linux":
        raise Unsupported(f"operating system {platform.os[:40]!r} is not supported")
    run = apply_changes({}, asked.changes)
    journal.sweep()
    with journal.adding() as making, blobs.Writer() as writer:
        kind, stream = _importable(chunks, writer)
        with layers.stage(lambda root: layer.apply(stream, root, strict_end=True)) as staged:
            diff_id = staged.content.diff_id
            (chain,) = chain_ids([diff_id])
            if layers.find(chain) is None:
                making.note_layer(chain)
            layers.adopt(staged, chain, "")
        digest = writer.digest
        if not blobs.exists(digest):
            making.note_blob(digest)
            writer.commit()
        described = Descriptor(OCI_LAYER + storing.LAYER_SUFFIX[kind], digest, writer.size)
        config = ImageConfig.from_json(encode(_imported_config(diff_id, run, asked.message, platform)))
        storing.record_images(
            [(storing.store_documents(config, b"", [described], making), [str(wanted)] if wanted else [])]
        )
        storing.warn_of_notes(chain, warn)
    images.note("import", config.id, wanted.familiar if wanted else "")
    say(f"sha256:{config.id}")
    return config.id


def _importable(chunks: Iterator[bytes], writer: blobs.Writer) -> tuple[str, Iterator[bytes]]:
    """The stream to unpack, which writes the blob on its way: as it came if layers may be compressed so."""
    start = next(chunks, b"")
    while start and len(start) < 8 and (more := next(chunks, b"")):
        start += more

    def everything() -> Iterator[bytes]:
        if start:
            yield start
        yield from chunks

    kind = compression.detect(start)
    if kind in storing.LAYER_SUFFIX:
        return kind, storing.copying(everything(), writer)
    return "", storing.copying(compression.open_stream(everything())[1], writer)


def _imported_config(diff_id: str, run: Json, message: str, platform: Platform) -> Json:
    created = timestamp.now()
    config: Json = {"architecture": platform.architecture, "os": platform.os, "created": created, "config": run}
    if platform.variant:
        config["variant"] = platform.variant
    config["history"] = [{"created": created, "comment": message}]
    config["rootfs"] = {"type": "layers", "diff_ids": [diff_id]}
    return config
