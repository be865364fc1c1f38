"""Pulling an image: its documents first, then its layers, each verified, stored and unpacked while it comes.

The layers are fetched a few at a time; each is written to the store, decompressed and unpacked in one pass
over its bytes, so that when the last byte is there the image is. An image is recorded once all of it is
verified: of a pull that fails, or is killed, nothing stays (`image.journal`).
"""

from __future__ import annotations

import threading
import time

from rdock.errors import DataLoss, RdockError, SystemFailure, Unsupported
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
from rdock.registry.client import Client, Cut, Fetched
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
# How often a layer is resumed without a single byte more.
_FRUITLESS = 4
_PAUSE = 0.5


class Pulled(Value):
    """What came of a pull."""

    image_id: str
    digest: str
    """Of the document that the name leads to: the manifest, or the index that lists it."""
    is_new: bool
    """Whether the name led elsewhere before, or nowhere."""


def pull(wanted: Reference, report: Report, *, platform: Platform | None = None) -> Pulled:
    """Fetch the image that a reference with tag or digest names, for this machine or for `platform`, and name it.

    Raises NotFound, Unauthorized and their like from the registry; DataLoss for what is not what it claims to
    be; Unsupported for what is no image.
    """
    client = Client(wanted.domain, wanted.path)
    top = client.manifest(wanted.digest or wanted.tag)
    names = [str(wanted._replace(tag="", digest=top.digest))] + ([] if wanted.digest else [str(wanted)])
    journal.sweep()
    with journal.adding() as making:
        found = _choose(client, top, platform)
        report.line(f"{wanted.digest or wanted.tag}: Pulling from {wanted.path}")
        manifest = Manifest.from_json(found.content)
        there = _name(digest_hex(manifest.config.digest), names)
        if there is not None:
            images.note("pull", there.image_id, wanted.familiar)
            return there._replace(digest=top.digest)
        config = _config(client, manifest)
        _fetch_layers(client, manifest, config, making, report)
        image = storing.store_documents(config, found.content, list(manifest.layers), making)
        storing.record_images([(image, names)])
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
    raw = storing.small_blob(manifest.config, client.blob(manifest.config.digest))
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
            if there and layers.find(chain) is not None and (digest, diff_id) in self.known:
                self.report.layer(digest, "Already exists")
                return
            if layers.find(chain) is None:
                self.making.note_layer(chain)
            if there:
                storing.unpack(blobs.chunks(digest), diff_id, chain, parent)
            else:
                self._download(descriptor, diff_id, chain, parent)
            self.report.layer(digest, "Pull complete")

    def _download(self, descriptor: Descriptor, diff_id: str, chain: str, parent: str) -> None:
        self.making.note_blob(descriptor.digest)
        with blobs.Writer(descriptor.digest, descriptor.size) as writer:
            # The bytes are produced by a thread that may outlive a failure, asleep in a read.
            guard, ended = threading.Lock(), threading.Event()

            def write(chunk: bytes) -> None:
                with guard:
                    if ended.is_set() or self.stopped.is_set():
                        raise Stopped
                    writer.write(chunk)

            try:
                storing.unpack(self._receive(descriptor, writer, write), diff_id, chain, parent)
                writer.commit()
            finally:
                with guard:
                    ended.set()

    def _receive(self, descriptor: Descriptor, writer: blobs.Writer, write: Callable[[bytes], None]) -> Iterator[bytes]:
        """The bytes of a blob, written to the store on their way; resumed where a connection breaks."""
        fruitless = 0
        while writer.size < descriptor.size or descriptor.size == 0:
            before = writer.size
            if self.stopped.is_set():
                raise Stopped
            try:
                for chunk in self.client.blob(descriptor.digest, before):
                    write(chunk)
                    self.report.layer(descriptor.digest, "Downloading", writer.size, descriptor.size)
                    yield chunk
                break
            except Cut as e:
                fruitless = 0 if writer.size > before else fruitless + 1
                if fruitless >= _FRUITLESS:
                    raise SystemFailure(f"blob {descriptor.digest}: the connection broke again and again: {e}") from e
                self.report.layer(descriptor.digest, "Retrying")
                self.stopped.wait(_PAUSE * 2**fruitless)
        writer.check()
        self.report.layer(descriptor.digest, "Download complete")


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
