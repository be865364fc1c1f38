"""Parts of images that no record refers to: kept while somebody works on them, removed if he dies.

Blobs and layers get their final names one by one, before the image that needs them is recorded, and
lose them one by one after it is struck off. Whoever does either writes down first, in a journal in
staging, what it is about. If he finishes, or fails, or is killed and the next command finds the
journal, everything in it that no image needs is removed.

`hold` keeps such parts from being taken for garbage: it is a shared lock, and only who gets it alone
removes. Nobody waits for that; the journal stays until the next command instead.
"""

from __future__ import annotations

import os

from rdock import paths
from rdock.errors import DataLoss, NotFound, RdockError, SystemFailure, reason
from rdock.image import blobs, catalog
from rdock.image.manifest import ImageConfig, Manifest, chain_ids
from rdock.image.reference import is_digest, is_hex
from rdock.scope import scope
from rdock.state import record
from rdock.storage import layers, staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Journal:
    """The list of what is being made or removed, one line each."""

    def __init__(self, entry: staging.Entry) -> None:
        self.path = os.path.join(entry.path, staging.JOURNAL)
        self.entry = entry

    def note_blob(self, digest: str) -> None:
        self._note("blob", digest)

    def note_layer(self, chain: str) -> None:
        self._note("layer", chain)

    def note_image(self, manifest: Manifest, chains: Iterable[str]) -> None:
        for digest in (manifest.config.digest, *(layer.digest for layer in manifest.layers)):
            self.note_blob(digest)
        for chain in chains:
            self.note_layer(chain)

    def _note(self, kind: str, name: str) -> None:
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, f"{kind} {name}\n".encode())
            finally:
                os.close(fd)
        except OSError as e:
            raise SystemFailure(f"cannot write {self.path}: {reason(e)}") from e


@scope
def hold() -> Iterator[None]:
    """While this lasts, no part of an image is removed as garbage, whether an image needs it or not."""
    catalog.prepare()
    lock = record.Lock(paths.image_hold(), shared=True)
    try:
        lock.acquire()
    except OSError as e:
        raise SystemFailure(f"cannot lock {paths.image_hold()}: {reason(e)}") from e
    try:
        yield
    finally:
        lock.release()


@scope
def adding() -> Iterator[Journal]:
    """For whoever makes parts of images; what no image needs at the end of the `with` goes."""
    with removing() as journal, hold():
        yield journal


@scope
def removing() -> Iterator[Journal]:
    """For whoever strikes images off; what is noted goes at the end, unless another image needs it."""
    with staging.entry() as entry:
        journal = Journal(entry)
        try:
            yield journal
        finally:
            entry.kept = not finish(journal.path)


def sweep() -> None:
    """Clear away what killed commands left. Every command that changes images begins with it; never fails."""
    staging.sweep(finish)
    layers.sweep_locks()
    layers.settle_all()


def finish(journal: str) -> bool:
    """Remove what a journal lists and no image needs; False if that must wait."""
    try:
        with open(journal, encoding="utf-8") as file:
            lines = [line.split() for line in file]
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    lock = record.Lock(paths.image_hold())
    try:
        if not lock.acquire(wait=False):
            return False
        needed = _needed()
        for line in reversed(lines):
            # The last line may have been cut off by the kill, before what it is about was begun.
            if len(line) != 2 or line[1] in needed:
                continue
            if line[0] == "blob" and is_digest(line[1]):
                blobs.remove(line[1])
            elif line[0] == "layer" and is_hex(line[1], 64):
                layers.remove(line[1])
    except (OSError, RdockError):
        return False
    finally:
        lock.release()
    return True


def _needed() -> set[str]:
    """The digests and ChainIDs that images need."""
    needed: set[str] = set()
    for entry in catalog.read().entries.values():
        needed.add(entry.digest)
        # What is damaged cannot be used, so it needs nothing.
        try:
            manifest = Manifest.from_json(blobs.read(entry.digest))
            needed.update((manifest.config.digest, *(layer.digest for layer in manifest.layers)))
            needed.update(chain_ids(ImageConfig.from_json(blobs.read(manifest.config.digest)).diff_ids))
        except (NotFound, DataLoss):
            continue
    return needed
