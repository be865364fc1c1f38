"""The two records of the image store: which images there are, and what they are called.

`index.json` is the index of the OCI image layout and lists a manifest for every image;
`repositories.json` leads from references (name:tag, name@digest) to image ids. Both are changed under
the image lock and read without one.
"""

from __future__ import annotations

from rdock import jsontext, paths
from rdock.errors import DataLoss, SystemFailure, reason
from rdock.image import blobs
from rdock.image.manifest import OCI_INDEX, OCI_MANIFEST
from rdock.image.reference import is_digest, is_hex
from rdock.scope import scope
from rdock.state import record, timestamp
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_ID = "rdock.image.id"
_ADDED = "rdock.image.added"


class Entry(Value):
    """An image as the index lists it."""

    image_id: str
    digest: str
    size: int
    media_type: str
    added: str

    def to_json(self) -> record.Json:
        return {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
            "annotations": {_ID: "sha256:" + self.image_id, _ADDED: self.added},
        }


class Catalog:
    """Both records in memory: entries by image id, and image ids by reference (long form)."""

    def __init__(self, entries: dict[str, Entry], references: dict[str, str]) -> None:
        self.entries = entries
        self.references = references

    def add(self, image_id: str, digest: str, size: int, media_type: str = OCI_MANIFEST) -> None:
        """List an image, unless it is listed already."""
        if image_id not in self.entries:
            self.entries[image_id] = Entry(image_id, digest, size, media_type, timestamp.now())

    def references_of(self, image_id: str) -> list[str]:
        return sorted(name for name, target in self.references.items() if target == image_id)


def read() -> Catalog:
    """The present state. Raises DataLoss when a record is damaged."""
    index = record.read(paths.image_index()) or {}
    entries = {}
    for item in _list(index, "manifests"):
        entry = _entry(item)
        entries[entry.image_id] = entry
    repositories = record.read(paths.repositories()) or {}
    references = repositories.get("references", {})
    if not isinstance(references, dict):
        raise DataLoss(f"cannot read {paths.repositories()}: not a list of references")
    return Catalog(entries, {name: image_id for name, image_id in references.items() if image_id in entries})


@scope
def change() -> Iterator[Catalog]:
    """The state to be changed, under the image lock; written at the end of the `with` if nothing was raised."""
    with locked():
        catalog = read()
        before = dict(catalog.entries), dict(catalog.references)
        yield catalog
        # What is named must be there at any instant: listed first, named after; and the reverse.
        if catalog.entries != before[0] and len(catalog.entries) >= len(before[0]):
            _write_index(catalog)
        if catalog.references != before[1]:
            record.write(paths.repositories(), {"references": catalog.references}, durable=True)
        if len(catalog.entries) < len(before[0]):
            _write_index(catalog)


@scope
def locked(*, shared: bool = False) -> Iterator[None]:
    """The image lock, held for moments only; `shared` is for readers who must not be overtaken."""
    prepare()
    lock = record.Lock(paths.image_lock(), shared=shared)
    try:
        lock.acquire()
    except OSError as e:
        raise SystemFailure(f"cannot lock {paths.image_lock()}: {reason(e)}") from e
    try:
        yield
    finally:
        lock.release()


def prepare() -> None:
    """Make the image store if it is not there yet."""
    paths.make_private(paths.data())
    paths.make_private(paths.images())
    blobs.prepare()


def _write_index(catalog: Catalog) -> None:
    manifests = [entry.to_json() for entry in catalog.entries.values()]
    text = jsontext.render({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})
    record.write_text(paths.image_index(), text, durable=True)


def _list(found: record.Json, key: str) -> list[Any]:
    value = found.get(key, [])
    if not isinstance(value, list):
        raise DataLoss(f"cannot read {paths.image_index()}: {key} is not a list")
    return value


def _entry(item: Any) -> Entry:
    try:
        annotations = item["annotations"]
        image_id = annotations[_ID].removeprefix("sha256:")
        entry = Entry(image_id, item["digest"], item["size"], item["mediaType"], annotations[_ADDED])
        if not is_hex(image_id, 64) or not is_digest(entry.digest):
            raise ValueError("malformed digest")
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise DataLoss(f"cannot read {paths.image_index()}: damaged entry: {e}") from None
    return entry
