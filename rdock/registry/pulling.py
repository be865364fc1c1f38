"""Pulling an image: its documents first, then its layers, each verified, stored and unpacked while it comes.

The layers are fetched a few at a time; each is written to the store, decompressed and unpacked in one pass
over its bytes, so that when the last byte is there the image is. An image is recorded once all of it is
verified: of a pull that fails nothing stays (`image.journal`). What a killed one has brought stays until the next
command that changes images, and is taken over if that is a pull which needs it.
"""

from __future__ import annotations

import threading
import time

from rdock.errors import DataLoss, RdockError, Unsupported
from rdock.image import blobs, catalog, images, journal, storing
from rdock.image.manifest import (
    CONFIG_TYPES,
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    chain_ids,
    host_platform,
)
from rdock.image.reference import digest_hex
from rdock.registry import receiving
from rdock.registry.client import Client, Fetched
from rdock.registry.progress import Report
from rdock.storage import layers
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    from rdock.image.journal import Journal
    from rdock.image.reference import Reference

    T = TypeVar("T")

# As Docker's `max-concurrent-downloads`.
AT_ONCE = 3
_MAX_NESTING = 3


class Pulled(Value):
    """What came of a pull."""

    image_id: str
    digest: str
    """Of the document that the name leads to: the manifest, or the index that lists it."""
    is_new: bool
    """Whether the name led elsewhere before, or nowhere."""


def pull(
    wanted: Reference,
    report: Report,
    *,
    platform: Platform | None = None,
    sweep: Callable[[], None] = journal.sweep,
) -> Pulled:
    """Fetch the image that a reference with tag or digest names, for this machine or for `platform`, and name it.

    `sweep` clears away what killed processes left, before all else unless it is of use here: then at the end.
    Raises NotFound, Unauthorized and their like from the registry; DataLoss for what is not what it claims to
    be; Unsupported for what is no image.
    """
    client = Client(wanted.domain, wanted.path)
    top = client.manifest(wanted.digest or wanted.tag)
    names = [str(wanted._replace(tag="", digest=top.digest))] + ([] if wanted.digest else [str(wanted)])
    found = _choose(client, top, platform)
    manifest = Manifest.from_json(found.content)
    is_begun = receiving.is_begun(layer.digest for layer in manifest.layers)
    if not is_begun:
        sweep()
    try:
        with journal.adding() as making:
            report.line(f"{wanted.digest or wanted.tag}: Pulling from {wanted.path}")
            there = _name(digest_hex(manifest.config.digest), names)
            if there is not None:
                images.note("pull", there.image_id, wanted.familiar)
                return there._replace(digest=top.digest)
            config = _config(client, manifest)
            _fetch_layers(client, manifest, config, making, report)
            image = storing.store_documents(config, found.content, list(manifest.layers), making)
            storing.record_images([(image, names)])
    finally:
        if is_begun:
            sweep()
    images.note("pull", config.id, wanted.familiar)
    for chain in chain_ids(config.diff_ids):
        storing.warn_of_notes(chain, report.warn)
    return Pulled(config.id, top.digest, is_new=True)


def _name(image_id: str, names: list[str]) -> Pulled | None:
    """Let the names lead to that image if it is in the store, where it may have another manifest: other compression."""
    with catalog.change() as state:
        if image_id not in state.entries:
            return None
        is_new = any(state.references.get(name) != image_id for name in names)
        state.references |= dict.fromkeys(names, image_id)
        return Pulled(image_id, "", is_new)


def _choose(client: Client, top: Fetched, platform: Platform | None) -> Fetched:
    """The image's manifest: what was asked for, or what an index of platforms leads to."""
    found = top
    for _ in range(_MAX_NESTING):
        if found.media_type not in INDEX_TYPES:
            break
        chosen = Index.from_json(found.content).choose(platform or host_platform())
        found = client.manifest(chosen.digest)
    if found.media_type not in MANIFEST_TYPES:
        raise Unsupported(f"unsupported manifest media type {found.media_type[:100]!r}")
    return found


def _config(client: Client, manifest: Manifest) -> ImageConfig:
    kind = manifest.config.media_type
    if kind not in CONFIG_TYPES:
        raise Unsupported(f"unsupported media type {kind[:100]}: this is an artifact, not a container image")
    raw = receiving.document(client, manifest.config)
    config = ImageConfig.from_json(raw)
    if config.os and config.os != "linux":
        raise Unsupported(f"image operating system {config.os[:40]!r} cannot be used on this platform")
    if len(manifest.layers) != len(config.diff_ids):
        raise DataLoss(f"{len(manifest.layers)} layers in the manifest for {len(config.diff_ids)} in the image config")
    for layer in manifest.layers:
        if "foreign" in layer.media_type or "nondistributable" in layer.media_type:
            raise Unsupported(f"layer {layer.digest}: foreign layers are not fetched")
    return config


# -- layers ----------------------------------------------------------------------------------------


def _fetch_layers(client: Client, manifest: Manifest, config: ImageConfig, making: Journal, report: Report) -> None:
    known = images.known_layers()
    parent = ""
    jobs = []
    for descriptor, diff_id, chain in zip(manifest.layers, config.diff_ids, chain_ids(config.diff_ids), strict=True):
        report.layer(descriptor.digest, "Pulling fs layer")
        jobs.append((descriptor, diff_id, chain, parent))
        parent = chain
    fetch = _Fetch(client, making, report, known)
    in_parallel(jobs, fetch.layer, fetch.stopped)


class _Fetch:
    """The fetching of one image's layers, by several threads."""

    def __init__(self, client: Client, making: Journal, report: Report, known: set[tuple[str, str]]) -> None:
        self.client, self.making, self.report, self.known = client, making, report, known
        self.stopped = threading.Event()
        self._guard = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}

    def layer(self, job: tuple[Descriptor, str, str, str]) -> None:
        """Have a layer's blob stored and its content unpacked, whatever of it is there already."""
        descriptor, diff_id, chain, parent = job
        digest = descriptor.digest
        # An image may have the same layer twice.
        with self._guard:
            turn = self._turns.setdefault(digest, threading.Lock())
        with turn:
            there = blobs.size(digest) == descriptor.size and blobs.exists(digest)
            is_unpacked = layers.find(chain) is not None
            if there and is_unpacked and (digest, diff_id) in self.known:
                self.report.layer(digest, "Already exists")
                return
            if not is_unpacked:
                self.making.note_layer(chain)
            if there:
                # Of a pull that was killed, or of another layer; that the two belong together is to be seen.
                storing.unpack(blobs.chunks(digest), diff_id, chain, parent)
            else:
                self._download(descriptor, diff_id, chain, parent)
            self.report.layer(digest, "Already exists" if there and is_unpacked else "Pull complete")

    def _download(self, descriptor: Descriptor, diff_id: str, chain: str, parent: str) -> None:
        self.making.note_blob(descriptor.digest)
        anew = False
        while True:
            transfer = _Transfer(self, descriptor)
            try:
                with receiving.Writer(descriptor.digest, descriptor.size, anew=anew) as writer:
                    try:
                        storing.unpack(transfer.run(writer), diff_id, chain, parent)
                        writer.commit()
                    finally:
                        transfer.end()
                return
            except DataLoss as e:
                # Where the bytes are the right ones it is the image that is wrong; else it may be their source.
                is_inherited = not anew and writer.inherited > 0
                if transfer.is_whole or not (is_inherited or self.client.distrust(descriptor.digest)):
                    if "sha256:" in e.message:
                        raise
                    raise DataLoss(f"blob {descriptor.digest}: {e.message}", e.hint) from e
                anew = True
                self.report.layer(descriptor.digest, "Retrying")


class _Transfer:
    """One attempt at a blob. Its bytes are produced by a thread that may outlive a failure, asleep in a read."""

    def __init__(self, fetch: _Fetch, descriptor: Descriptor) -> None:
        self._fetch, self._descriptor = fetch, descriptor
        self._guard, self._ended = threading.Lock(), threading.Event()
        self.is_whole = False
        """Whether all has come, and is what it should be."""

    def run(self, writer: receiving.Writer) -> Iterator[bytes]:
        """The bytes of the blob, written to the store on their way. Raises DataLoss, and what the registry's raise."""
        digest, size, report = self._descriptor.digest, self._descriptor.size, self._fetch.report
        for chunk in writer.begin():
            self._check()
            yield chunk
        for chunk in receiving.pieces(self._fetch.client, self._descriptor, writer.size, self._wait):
            with self._guard:
                self._check()
                writer.write(chunk)
            report.layer(digest, "Downloading", writer.size, size)
            yield chunk
        writer.check()
        self.is_whole = True
        report.layer(digest, "Download complete")

    def end(self) -> None:
        """From now on nothing is written."""
        with self._guard:
            self._ended.set()

    def _check(self) -> None:
        if self._ended.is_set() or self._fetch.stopped.is_set():
            raise Stopped

    def _wait(self, seconds: float) -> None:
        self._fetch.report.layer(self._descriptor.digest, "Retrying")
        self._fetch.stopped.wait(seconds)
        self._check()


# -- several at once -------------------------------------------------------------------------------


class Stopped(RdockError):
    """Another part of the same work has failed; never shown."""

    def __init__(self) -> None:
        super().__init__("stopped")


def in_parallel(jobs: Iterable[T], work: Callable[[T], None], stopped: threading.Event, at_once: int = AT_ONCE) -> None:
    """Do all the work, some of it at a time; the first failure ends the rest and is raised.

    `work` is to look at `stopped` from time to time. An interrupt ends all as a failure does.
    """
    waiting = iter(jobs)
    guard = threading.Lock()
    failures: list[BaseException] = []

    def take() -> None:
        while not stopped.is_set():
            with guard:
                job = next(waiting, None)
            if job is None:
                return
            try:
                work(job)
            except BaseException as e:
                with guard:
                    failures.append(e)
                stopped.set()

    threads = [threading.Thread(target=take, daemon=True) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive() and not stopped.is_set():
                thread.join(0.1)
    except BaseException:
        stopped.set()
        raise
    finally:
        # Who sleeps in a read of a server that says nothing is not waited for.
        deadline = time.monotonic() + 5
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    for failure in failures:
        if not isinstance(failure, Stopped):
            raise failure
    if failures:
        raise failures[0]
