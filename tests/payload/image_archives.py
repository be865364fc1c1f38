"""Image archives made by hand: docker-archive and OCI layout, with any part changed on purpose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.payload.tars import directory, end, file, symlink

Json = dict[str, Any]


class Image(NamedTuple):
    """The parts of an image."""

    config: bytes
    layers: list[bytes]
    """As they are stored, compressed or not."""

    @property
    def id(self) -> str:
        return hashlib.sha256(self.config).hexdigest()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def encode(document: Any) -> bytes:
    return json.dumps(document).encode()


def image(*layers: bytes, stored: Sequence[bytes] | None = None, **run: Any) -> Image:
    """An image of these layers (uncompressed tars), `stored` in another form if given."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-02T03:04:05Z",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }
    return Image(encode(config), list(stored or layers))


def simple(text: bytes = b"hello", **run: Any) -> Image:
    """An image with two layers, the second of which removes a file of the first."""
    lower = directory(b"etc") + file(b"etc/name", text) + file(b"etc/gone", b"x") + end()
    upper = file(b"etc/.wh.gone") + file(b"added", text) + end()
    return image(lower, upper, Cmd=["sh"], **run)


def docker_archive(
    *images: tuple[Image, list[str]], manifest_last: bool = False, old_links: bool = False, **replaced: bytes
) -> bytes:
    """A docker-archive; `replaced` gives members another content, by name with _ for the dot."""
    members: list[tuple[bytes, bytes]] = []
    manifest = []
    for found, tags in images:
        names = []
        for layer in found.layers:
            name = digest(layer)[7:]
            if old_links:
                members.append((name.encode() + b".tar", file(name.encode() + b".tar", layer)))
                target = symlink(f"{name[:20]}/layer.tar".encode(), f"../{name}.tar".encode())
                members.append((b"", directory(name[:20].encode()) + target))
                names.append(f"{name[:20]}/layer.tar")
            else:
                members.append((f"{name}/layer.tar".encode(), file(f"{name}/layer.tar".encode(), layer)))
                names.append(f"{name}/layer.tar")
        config = f"{found.id}.json".encode()
        members.append((config, file(config, found.config)))
        manifest.append({"Config": config.decode(), "RepoTags": tags, "Layers": names})
    listed = file(b"manifest.json", replaced.get("manifest_json", encode(manifest)))
    body = b"".join(member for _, member in members)
    return (body + listed if manifest_last else listed + body) + end()


def oci_archive(
    found: Image,
    annotations: Json | None = None,
    *,
    media_type: str = "application/vnd.oci.image.layer.v1.tar",
    damage: str = "",
    nested: bool = False,
    extra: bytes = b"",
) -> bytes:
    """An OCI layout in a tar; `damage` names a part whose content is replaced by another of the same size."""
    manifest = encode(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", found.config),
            "layers": [descriptor(media_type, layer) for layer in found.layers],
        }
    )
    blobs = {"config": found.config, "manifest": manifest}
    blobs |= {f"layer{number}": layer for number, layer in enumerate(found.layers)}
    top = descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    if nested:
        top["platform"] = {"os": "linux", "architecture": "amd64"}
        inner = encode({"schemaVersion": 2, "manifests": [top]})
        blobs["index"] = inner
        top = descriptor("application/vnd.oci.image.index.v1+json", inner)
    if annotations:
        top["annotations"] = annotations
    body = file(b"oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    body += file(b"index.json", encode({"schemaVersion": 2, "manifests": [top]}))
    for part, blob in blobs.items():
        content = blob
        if part == damage:
            content = blob[:-1] + bytes([blob[-1] ^ 1])
        elif damage == f"short {part}":
            content = blob[:-1]
        elif damage == f"no {part}":
            continue
        body += file(f"blobs/sha256/{digest(blob)[7:]}".encode(), content)
    return body + extra + end()


def descriptor(media_type: str, blob: bytes) -> Json:
    return {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}
