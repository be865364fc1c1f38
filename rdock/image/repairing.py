"""Damage to images: finding it by reading everything, and repairing what the store itself can repair.

A blob is what its digest says, or it is damaged; then it is worth nothing, and is removed so that a load or
a pull of the same image brings it again. What registries have of it was fetched before (refetching.py). An unpacked
layer is compared with what unpacking its blob again gives: contents, modes, owners, times, attributes, and what is
there too much. That takes as long as loading the image did, and the room of one layer, but no list of files has to be
kept up. A damaged layer is replaced by the one just unpacked. Containers keep what they have written: it lies on top
of the layers, and is not touched.
"""

from __future__ import annotations

import hashlib
import os
import stat

from rdock import paths
from rdock.errors import DataLoss, NotFound, RdockError
from rdock.image import blobs, catalog, checking, images, layer
from rdock.image.images import Image
from rdock.launch import debug
from rdock.state import record
from rdock.storage import layers, remembered, staging
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_SHOWN = 3
# Each level has two directories open.
_MAX_DEPTH = 200
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20


def damage() -> Iterator[str]:
    """One line for each blob that is not what its digest says, and each layer whose files were changed.

    For a process that is root of the user's namespaces, and so can see all files.
    """
    for digest, found in damaged_blobs():
        yield f"blob {digest}: its content has the digest {found}"
    for part in _parts():
        names = _changed(part)
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            yield f"layer {part.chain[:12]}: changed since it was unpacked: {', '.join(names[:_SHOWN])}{more}"


def repair(*, thorough: bool, standing: Collection[str]) -> list[str]:
    """Repair what can be; `thorough` looks for damage by reading everything. What cannot be repaired, a line each.

    `standing` are the ChainIDs of layers that running containers stand on, which are left as they are.
    """
    hold = record.Lock(paths.image_hold())
    catalog.prepare()
    if not hold.acquire(wait=False):
        return ["images: others are at work on them now; nothing was repaired"]
    try:
        _drop_names()
        for digest in [found for found, _ in damaged_blobs()] if thorough else _of_wrong_size():
            debug(f"removing {digest}, which is damaged")
            blobs.remove(digest)
        _drop_needless()
        refused = list(_repair_layers(standing, thorough=thorough))
    finally:
        hold.release()
    return [*refused, *_beyond_repair()]


# -- names and blobs -------------------------------------------------------------------------------


def _drop_names() -> None:
    """Forget the names that lead to images that are not there."""
    with catalog.locked():
        state = catalog.read()  # which leaves them out
        found = record.read(paths.repositories()) or {}
        if found.get("references", {}) != state.references:
            record.write(paths.repositories(), {"references": state.references}, durable=True)


def damaged_blobs() -> Iterator[tuple[str, str]]:
    """Digests of blobs, and those that their contents have. Each file is read once in the life of a process."""
    for digest in checking.stored():
        path = blobs.blob_path(digest)
        try:
            about = os.stat(path)
            if _good.get(digest) == _version(about):
                continue
            found = hashlib.sha256()
            for chunk in blobs.chunks(digest):
                found.update(chunk)
        except (NotFound, FileNotFoundError):
            continue  # it was removed meanwhile
        except (OSError, RdockError) as e:
            debug(f"cannot read blob {digest}: {e}")
            yield digest, "that cannot be read"
            continue
        if "sha256:" + found.hexdigest() != digest:
            yield digest, "sha256:" + found.hexdigest()
        else:
            _good[digest] = _version(about)


_good: dict[str, tuple[int, ...]] = {}
"""Of the blobs that were read and were good, how their files could be told from others that take their places."""


def _version(about: os.stat_result) -> tuple[int, ...]:
    return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _of_wrong_size() -> list[str]:
    return [
        descriptor.digest
        for image in images.list_images()
        for descriptor in image.manifest.layers
        if blobs.exists(descriptor.digest) and blobs.size(descriptor.digest) != descriptor.size
    ]


def _drop_needless() -> None:
    """Remove what no image needs, unless an image is damaged: what it needs is not known then."""
    state = catalog.read()
    found = images.list_images()
    if len(found) != len(state.entries):
        return
    digests: set[str] = set()
    chains: set[str] = set()
    for image in found:
        manifest = image.manifest
        digests |= {image.manifest_digest, manifest.config.digest, *(each.digest for each in manifest.layers)}
        chains |= set(image.chain_ids)
    for digest in checking.stored():
        if digest not in digests:
            blobs.remove(digest)
    for chain in layers.chains():
        if chain not in chains:
            layers.remove(chain)


def _beyond_repair() -> Iterator[str]:
    """The images that are not whole, and what helps."""
    state = catalog.read()
    for entry in state.entries.values():
        names = state.references_of(entry.image_id)
        who = ", ".join(map(images.familiar, names)) or "without a name"
        says = f"image {entry.image_id[:12]} ({who}) cannot be repaired"
        try:
            image = images.lookup(entry.image_id)
        except (NotFound, DataLoss) as e:
            yield f"{says}: {e.message}; {_help(names)}"
            continue
        for descriptor in image.manifest.layers:
            if blobs.size(descriptor.digest) != descriptor.size:
                yield f"{says}: the data of a layer is lost; {_help(names)}"
                break


def _help(names: list[str]) -> str:
    """What brings back an image with these names."""
    # By its digest: a tag may name another image by now.
    at = [images.familiar(name) for name in names if "@" in name]
    return f"rdock pull {at[0]}, or load it again" if at else "load it again"


# -- layers ----------------------------------------------------------------------------------------


class _Part(Value):
    """A layer of some image."""

    chain: str
    parent: str
    diff_id: str
    digest: str


def _parts() -> Iterator[_Part]:
    """The layers of all images, each once, as far as their blobs are there."""
    seen: set[str] = set()
    for image in images.list_images():
        for part in _parts_of(image):
            if part.chain not in seen and blobs.exists(part.digest):
                seen.add(part.chain)
                yield part


def _parts_of(image: Image) -> Iterator[_Part]:
    parent = ""
    for chain, diff_id, descriptor in zip(image.chain_ids, image.config.diff_ids, image.manifest.layers, strict=True):
        yield _Part(chain, parent, diff_id, descriptor.digest)
        parent = chain


def _fill(part: _Part) -> layers.Fill:
    return lambda root: layer.apply(blobs.chunks(part.digest), root)


def _changed(part: _Part) -> list[str]:
    """What in an unpacked layer is not as its blob has it; nothing for a layer that would be unpacked again anyway."""
    if layers.find(part.chain) is None or not os.path.isdir(os.path.join(layers.directory(part.chain), "diff")):
        return []
    found: list[str] = []
    try:
        with layers.stage(_fill(part)) as staged:
            if staged.content.diff_id != part.diff_id:
                return []  # the blob is damaged, which is told elsewhere
            stored = os.open(os.path.join(layers.directory(part.chain), "diff"), _DIRECTORY)
            try:
                fresh = os.open("diff", _DIRECTORY, dir_fd=staged.entry.fd)
                try:
                    _compare(stored, fresh, "", found, 0)
                    if _owners(layers.directory(part.chain)) != _owners(staged.entry.path):
                        found.append(f"({remembered.INDEX})")
                finally:
                    os.close(fresh)
            finally:
                os.close(stored)
    except (OSError, RdockError) as e:
        debug(f"cannot compare layer {part.chain[:12]}: {e}")
    return found


def _repair_layers(standing: Collection[str], *, thorough: bool) -> Iterator[str]:
    for part in _parts():
        place = layers.directory(part.chain)
        if os.path.lexists(place):
            whole = layers.is_whole(place)
            if whole and not (thorough and _changed(part)):
                continue
            if part.chain in standing:
                yield f"layer {part.chain[:12]}: a running container stands on it; stop it and repair again"
                continue
            try:
                layers.replace(part.chain, part.parent, part.diff_id, _fill(part))
            except RdockError as e:
                yield f"layer {part.chain[:12]}: cannot be unpacked again: {e.message}"
    for place in layers.places():
        # That of another id map, which is unpacked again when it is needed; or its image has no blob for it.
        chain = os.path.basename(place).removesuffix("-single")
        if not layers.is_whole(place) and chain not in standing:
            staging.discard(place)


def _compare(stored: int, fresh: int, below: str, found: list[str], depth: int) -> None:
    """Note the names below two open directories that are not the same in both."""
    ours, wanted = set(os.listdir(stored)), set(os.listdir(fresh))
    found += [below + name for name in sorted(ours ^ wanted)]
    for name in sorted(ours & wanted):
        path = below + name
        one, other = (os.stat(name, dir_fd=fd, follow_symlinks=False) for fd in (stored, fresh))
        if _facts(name, one) != _facts(name, other) or not _same_content(stored, fresh, name, one):
            found.append(path)
        if stat.S_ISDIR(one.st_mode) and stat.S_ISDIR(other.st_mode) and depth < _MAX_DEPTH:
            inner = os.open(name, _DIRECTORY, dir_fd=stored)
            try:
                twin = os.open(name, _DIRECTORY, dir_fd=fresh)
                try:
                    _compare(inner, twin, path + "/", found, depth + 1)
                finally:
                    os.close(twin)
            finally:
                os.close(inner)


def _owners(place: str) -> bytes:
    """What is remembered beside a layer of the owners in it."""
    try:
        with open(os.path.join(place, remembered.INDEX), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _facts(name: str, found: os.stat_result) -> tuple[int, ...]:
    is_directory = stat.S_ISDIR(found.st_mode)
    # Directories that the archive does not list, and the marks of what is removed, have the time of the unpacking.
    is_timeless = is_directory or stat.S_ISCHR(found.st_mode) or name.startswith(".wh.")
    size, time = 0 if is_directory else found.st_size, 0 if is_timeless else found.st_mtime_ns
    return found.st_mode, found.st_uid, found.st_gid, size, time, found.st_rdev


def _same_content(stored: int, fresh: int, name: str, about: os.stat_result) -> bool:
    """Whether a file, a link or a directory with the same facts in two directories is the same."""
    if stat.S_ISLNK(about.st_mode):
        return os.readlink(name, dir_fd=stored) == os.readlink(name, dir_fd=fresh)
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
        return True
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    one = os.open(name, flags, dir_fd=stored)
    try:
        other = os.open(name, flags, dir_fd=fresh)
        try:
            if _attributes(one) != _attributes(other):
                return False
            while stat.S_ISREG(about.st_mode):
                data = os.read(one, _CHUNK)
                if data != os.read(other, _CHUNK):
                    return False
                if not data:
                    break
            return True
        finally:
            os.close(other)
    finally:
        os.close(one)


def _attributes(fd: int) -> dict[str, bytes]:
    return {name: os.getxattr(fd, name) for name in os.listxattr(fd)}
