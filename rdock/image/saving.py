"""Images out of the store: `save` as docker-archive, as OCI layout, or as both in one.

The default is what docker writes since version 25: an OCI layout with a docker-archive's manifest.json beside
it, over the same blobs. Docker, podman, skopeo and umoci all read it; who reads the layout gets every digest
as it was, of manifest and layers too. The blobs go out as they are stored, compressed or not, and are hashed on
their way: what is damaged is not passed on. Equal images give equal archives: no time and no owner is in them.
The archive as a whole can be compressed on top, which `load` finds out by itself, as other tools do.
"""

from __future__ import annotations

import hashlib
import os
import tarfile

from rdock.errors import DataLoss, InvalidParameter, SystemFailure, reason
from rdock.image import blobs, compression, images, journal, platforms, reference
from rdock.image.images import Image
from rdock.image.manifest import OCI_INDEX, Json, Platform, encode
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeAlias

# The name of a format: whether the archive is an OCI layout, and whether a docker-archive.
FORMATS = {
    "": (True, True),
    "docker-archive": (False, True),
    "oci-archive": (True, False),
    "oci": (True, False),
}

# The name of a compression of the archive: that of the stream.
COMPRESSIONS = {"": "", "none": "", **{kind: kind for kind in compression.WRITTEN}}

_BLOCK = 512
_RECORD = 20 * _BLOCK


class Chosen(Value):
    """An image to save, with the names that it shall have in the archive (long form)."""

    image: Image
    names: tuple[str, ...]


def save(
    names: Sequence[str], fd: int, *, form: str = "", compress: str = "", platform: Platform | None = None
) -> None:
    """Write an archive of these images to an open file or pipe.

    `form` is one of FORMATS, `compress` of COMPRESSIONS. Nothing is written unless all images are there with all
    their parts. Raises NoSuchImage, InvalidParameter; Unavailable where zstd is missing; DataLoss for a damaged blob,
    which may come up in the middle.
    """
    if form not in FORMATS:
        raise InvalidParameter(f'unknown format "{form}": must be one of docker-archive, oci-archive')
    if compress not in COMPRESSIONS:
        raise InvalidParameter(f'unknown compression "{compress}": must be one of gzip, zstd, none')
    is_layout, is_docker = FORMATS[form]
    with journal.hold():  # nobody removes what is being written
        chosen = choose(names)
        for each in chosen:
            platforms.check_provided(platform, each.image, (_familiar(each) or [each.image.id[:12]])[0])
        _check_parts(chosen)
        archive = _Archive(fd, COMPRESSIONS[compress])
        if is_layout:
            _write_layout(archive, chosen, with_docker=is_docker)
        else:
            _write_docker(archive, chosen)
        archive.end()
        for each in chosen:
            images.note("save", each.image.id, (_familiar(each) or [""])[0])


def choose(names: Iterable[str]) -> list[Chosen]:
    """The images that are named, each once, in this order (moby: tarexport, parseNames).

    A repository without a tag stands for all its tags; an image given by id or digest has no name in the archive.
    """
    found: dict[str, tuple[Image, list[str]]] = {}
    for name in names:
        for image, tag in _named(name):
            tags = found.setdefault(image.id, (image, []))[1]
            if tag and tag not in tags:
                tags.append(tag)
    return [Chosen(image, tuple(tags)) for image, tags in found.values()]


def _named(name: str) -> list[tuple[Image, str]]:
    try:
        parsed = reference.parse(name)
    except InvalidParameter:
        return [(images.lookup(name), "")]
    if parsed.digest or name.startswith("sha256:"):
        return [(images.lookup(name), "")]
    if parsed.tag:
        return [(images.lookup(name), str(parsed))]
    tags = [
        (image, tag)
        for image in images.list_images()
        for tag in image.references
        if "@" not in tag and reference.parse(tag).name == parsed.name
    ]
    return sorted(tags, key=lambda each: each[1]) or [(images.lookup(name), "")]


def _check_parts(chosen: Iterable[Chosen]) -> None:
    for each in chosen:
        for layer in each.image.manifest.layers:
            if blobs.size(layer.digest) != layer.size:
                problem = "is missing" if not blobs.exists(layer.digest) else "is damaged"
                raise DataLoss(
                    f"cannot save image {each.image.id[:12]}: blob {layer.digest} of a layer {problem}",
                    hint="rdock system check --images tells what else is",
                )


# -- the two forms ---------------------------------------------------------------------------------


def _write_layout(archive: _Archive, chosen: Sequence[Chosen], *, with_docker: bool) -> None:
    """Documents first, so that a reader of a pipe knows at once what comes."""
    archive.document("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    descriptors = [descriptor for each in chosen for descriptor in _descriptors(each)]
    archive.document("index.json", encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors}))
    if with_docker:
        listed = [
            {
                "Config": _blob_name(each.image.manifest.config.digest),
                "RepoTags": _familiar(each) or None,
                "Layers": [_blob_name(layer.digest) for layer in each.image.manifest.layers],
            }
            for each in chosen
        ]
        archive.document("manifest.json", encode_list(listed))
        archive.document("repositories", encode(_repositories(chosen)))
    archive.directory("blobs/")
    archive.directory("blobs/sha256/")
    needed: set[str] = set()
    for each in chosen:
        manifest = each.image.manifest
        needed |= {each.image.manifest_digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)}
    for digest in sorted(needed):
        archive.blob(_blob_name(digest), digest)


def _descriptors(chosen: Chosen) -> Iterator[Json]:
    """One for each name of an image, as docker lists them; the annotations are containerd's and the OCI's."""
    image = chosen.image
    for name in chosen.names or ("",):
        found: Json = {
            "mediaType": image.manifest.media_type,
            "digest": image.manifest_digest,
            "size": image.manifest_size,
        }
        if name:
            tag = reference.parse(name).tag
            found["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag}
        if image.config.os and image.config.architecture:
            found["platform"] = {"architecture": image.config.architecture, "os": image.config.os}
            if image.config.variant:
                found["platform"]["variant"] = image.config.variant
        yield found


def _write_docker(archive: _Archive, chosen: Sequence[Chosen]) -> None:
    """What docker wrote before version 25, and podman does: layers uncompressed, under their DiffIDs."""
    listed = [
        {
            "Config": f"{each.image.id}.json",
            "RepoTags": _familiar(each) or None,
            "Layers": [f"{diff_id.removeprefix('sha256:')}.tar" for diff_id in each.image.config.diff_ids],
        }
        for each in chosen
    ]
    archive.document("manifest.json", encode_list(listed))
    archive.document("repositories", encode(_repositories(chosen)))
    stored: dict[str, str] = {}
    for each in chosen:
        archive.document(f"{each.image.id}.json", each.image.config.raw)
        layers = each.image.manifest.layers
        stored |= {diff_id: layer.digest for diff_id, layer in zip(each.image.config.diff_ids, layers, strict=True)}
    for diff_id, digest in sorted(stored.items()):
        name = f"{diff_id.removeprefix('sha256:')}.tar"
        if digest == diff_id:
            archive.blob(name, digest)
        else:
            archive.decompressed(name, digest, diff_id)


def _repositories(chosen: Iterable[Chosen]) -> Json:
    """The names as docker had them before version 1.10: repository → tag → topmost layer."""
    found: Json = {}
    for each in chosen:
        top = each.image.chain_ids[-1:] or [each.image.id]
        for name in each.names:
            parsed = reference.parse(name)
            found.setdefault(parsed.familiar_name, {})[parsed.tag] = top[0]
    return found


def _familiar(chosen: Chosen) -> list[str]:
    return [reference.parse(name).familiar for name in chosen.names]


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{reference.digest_hex(digest)}"


def encode_list(items: list[Json]) -> bytes:
    return b"[" + b",".join(map(encode, items)) + b"]"


# -- the tar archive -------------------------------------------------------------------------------


class _Archive:
    """A tar archive that is written from its beginning to its end, compressed or not."""

    def __init__(self, fd: int, kind: str) -> None:
        self.fd = fd
        self.size = 0
        """Of what has been written, before it is compressed."""
        self.compressor = compression.compressor(kind) if kind else None

    def directory(self, name: str) -> None:
        self._header(name, 0, kind=tarfile.DIRTYPE, mode=0o755)

    def document(self, name: str, content: bytes) -> None:
        self._header(name, len(content))
        self._write(content)
        self._pad(len(content))

    def blob(self, name: str, digest: str) -> None:
        """A blob as it is stored. Raises DataLoss if it is not what its digest says."""
        self._stream(name, blobs.size(digest), blobs.chunks(digest), digest)

    def decompressed(self, name: str, digest: str, diff_id: str) -> None:
        """The content of a compressed blob, which is read twice: its size has to be known first."""
        size = sum(map(len, compression.open_stream(blobs.chunks(digest))[1]))
        self._stream(name, size, compression.open_stream(blobs.chunks(digest))[1], diff_id)

    def _stream(self, name: str, size: int, chunks: Iterator[bytes], digest: str) -> None:
        found, written = hashlib.sha256(), 0
        self._header(name, size)
        # Reading and hashing run beside writing.
        source = compression.in_thread(_hashing(chunks, found.update))
        try:
            for chunk in source:
                written += len(chunk)
                if written > size:
                    break
                self._write(chunk)
        finally:
            source.close()
        if written != size or "sha256:" + found.hexdigest() != digest:
            raise DataLoss(f"blob {digest} is damaged", hint="rdock system check --images tells what else is")
        self._pad(size)

    def end(self) -> None:
        """The end mark, and zeros up to a whole record."""
        self._write(b"\0" * (2 * _BLOCK))
        self._write(b"\0" * (-self.size % _RECORD))
        if self.compressor is not None:
            self._put(self.compressor.flush())

    def _header(self, name: str, size: int, kind: bytes = tarfile.REGTYPE, mode: int = 0o644) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.type, member.mode = size, kind, mode
        self._write(member.tobuf(tarfile.GNU_FORMAT))

    def _pad(self, size: int) -> None:
        self._write(b"\0" * (-size % _BLOCK))

    def _write(self, data: bytes) -> None:
        self.size += len(data)
        self._put(data if self.compressor is None else self.compressor.compress(data))

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self.fd, rest) :]
        except BrokenPipeError:
            raise
        except OSError as e:
            raise SystemFailure(f"cannot write the archive: {reason(e)}") from e


def _hashing(chunks: Iterator[bytes], update: Update) -> Iterator[bytes]:
    for chunk in chunks:
        update(chunk)
        yield chunk


if TYPE_CHECKING:
    Update: TypeAlias = Callable[[bytes], object]
