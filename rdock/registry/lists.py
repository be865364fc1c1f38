"""Manifest lists: one name for images of several platforms, put together here and pushed when it is whole.

Until then a list is a record, which `annotate` can change. The manifests themselves stay at their registry and
are copied to the list's repository when it is pushed.
"""

from __future__ import annotations

import functools
import hashlib
import os

from rdock import paths
from rdock.errors import Conflict, InvalidParameter, NotFound, Unsupported, system_failure
from rdock.image.manifest import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    ImageConfig,
    Json,
    Manifest,
    encode,
)
from rdock.registry import receiving
from rdock.registry.client import Client, Fetched
from rdock.scope import scope
from rdock.state import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rdock.image.reference import Reference


def fetch(wanted: Reference) -> Fetched:
    """The manifest or index that a name leads to at its registry, as it came. Raises what Client.manifest raises."""
    return Client(wanted.domain, wanted.path).manifest(wanted.digest or wanted.tag)


def described(wanted: Reference, found: Fetched) -> Json:
    """A manifest as `manifest inspect --verbose` shows it: with its platform, which its config tells."""
    manifest = Manifest.from_json(found.content)
    client = Client(wanted.domain, wanted.path)
    config = ImageConfig.from_json(receiving.document(client, manifest.config))
    platform = {"architecture": config.architecture, "os": config.os}
    if config.variant:
        platform["variant"] = config.variant
    descriptor = {"mediaType": found.media_type, "digest": found.digest, "size": len(found.content)}
    return {"Ref": str(wanted), "Descriptor": {**descriptor, "platform": platform}}


def create(name: Reference, members: list[Reference], *, amend: bool) -> None:
    """Begin a list of these manifests, or with `amend` add them to one. Raises Conflict if there is one already."""
    _check_new(name, amend=amend)
    entries = []
    for member in members:
        found = fetch(member)
        if found.media_type in INDEX_TYPES:
            raise Unsupported(f"{member} is a manifest list: a list can hold manifests of images only")
        if found.media_type not in MANIFEST_TYPES:
            raise Unsupported(f"{member}: unsupported manifest media type {found.media_type[:100]!r}")
        entries.append(described(member, found))
    with _locked():
        _check_new(name, amend=amend)
        _write(name, {**_entries(name), **{entry["Ref"]: entry for entry in entries}})


def _check_new(name: Reference, *, amend: bool) -> None:
    if is_here(name) and not amend:
        raise Conflict(f"refusing to amend an existing manifest list with no --amend flag: {name}")


def annotate(name: Reference, member: Reference, changes: dict[str, str | list[str]]) -> None:
    """Change what the list says of the platform of one of its manifests: architecture, os, variant …

    Raises NotFound.
    """
    with _locked():
        entries = _entries(name)
        entry = entries.get(str(member))
        if entry is None:
            raise NotFound(f"manifest for image {member} does not exist in {name}")
        entry["Descriptor"]["platform"] |= changes
        _write(name, entries)


def members(name: Reference) -> list[Json]:
    """What a local list holds, in the order of the members' names. Raises NotFound."""
    if not is_here(name):
        raise NotFound(f"No such manifest: {name.familiar}")
    return [entry for _, entry in sorted(_entries(name).items())]


def is_here(name: Reference) -> bool:
    """Whether such a list is being put together."""
    return os.path.exists(_place(name))


def as_index(name: Reference) -> Json:
    """The list as the registry will get it: Docker's kind if all its manifests are, OCI's otherwise."""
    listed = [entry["Descriptor"] for entry in members(name)]
    if not listed:
        raise InvalidParameter(f"manifest list {name} is empty")
    is_docker = all(descriptor["mediaType"] == DOCKER_MANIFEST for descriptor in listed)
    return {"schemaVersion": 2, "mediaType": DOCKER_INDEX if is_docker else OCI_INDEX, "manifests": listed}


def push(name: Reference) -> str:
    """Send the list, and before it what its repository lacks of its manifests; the list's digest."""
    index = as_index(name)
    content = encode(index)
    target = Client(name.domain, name.path, push=True)
    for entry in members(name):
        _send(entry, name, target)
    return target.put_manifest(name.tag, index["mediaType"], content)


def remove(name: Reference) -> None:
    """Forget a list. Raises NotFound."""
    with _locked():
        if not is_here(name):
            raise NotFound(f"No such manifest: {name.familiar}")
        record.remove(_place(name))


def _send(entry: Json, name: Reference, target: Client) -> None:
    """Have a manifest in the list's repository, with its blobs."""
    from rdock.image import reference

    source, digest = reference.parse(entry["Ref"]), entry["Descriptor"]["digest"]
    if source.domain != name.domain:
        raise InvalidParameter(f"cannot use source images from a different registry than the target image: {source}")
    if source.path == name.path or target.head(digest) == digest:
        return
    origin = Client(source.domain, source.path)
    found = origin.manifest(digest)
    manifest = Manifest.from_json(found.content)
    for blob in (*manifest.layers, manifest.config):
        if target.has_blob(blob.digest) < 0 and not target.mount_blob(blob.digest, source.path):
            target.upload_blob(blob.digest, blob.size, functools.partial(origin.blob, blob.digest))
    target.put_manifest(digest, manifest.media_type, found.content)


def _place(name: Reference) -> str:
    """The list's record; by a hash, since a name may be longer than a file's."""
    return os.path.join(paths.manifest_lists(), hashlib.sha256(str(name).encode()).hexdigest() + ".json")


def _entries(name: Reference) -> dict[str, Json]:
    """By their references."""
    found: dict[str, Json] = (record.read(_place(name)) or {}).get("Manifests", {})
    return found


def _write(name: Reference, entries: dict[str, Json]) -> None:
    record.write(_place(name), {"Name": str(name), "Manifests": entries}, durable=False)


@scope
def _locked() -> Iterator[None]:
    """The lists are this process's alone to change."""
    try:
        os.makedirs(paths.manifest_lists(), mode=0o700, exist_ok=True)
        with record.Lock(os.path.join(paths.manifest_lists(), ".lock")):
            record.sweep(paths.manifest_lists())
            yield
    except OSError as e:
        raise system_failure("cannot keep the manifest list", e) from e
