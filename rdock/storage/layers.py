"""The store of unpacked layers: each is unpacked once and never changed, shared by all that stand on it.

`layers/<ChainID>/diff` is what the layer adds, with removed names marked as overlayfs does, and
`layer.json` beside it says what it is; in one-id mode `owners` says whom files belong to. A layer is
made in staging and appears by one rename. How a layer is unpacked is not known here: whoever asks for
one brings a function that fills a directory.

Two things can make a layer unfit although it is there. Files carry the owners of the id map they were
unpacked under, so each map has layers of its own. And layers are not forced to disk: if the machine
went down before the kernel had written one, it is made again from its blob. A record therefore holds
the boot it was made in, until `settle` has seen it on disk.
"""

from __future__ import annotations

import os
import time

from rdock import paths
from rdock.errors import DataLoss, NotFound, SystemFailure, reason
from rdock.launch import debug
from rdock.linux import idmap, process
from rdock.linux.libc import check, libc
from rdock.scope import scope
from rdock.state import record
from rdock.storage import staging
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

# The kernel writes dirty pages back after 30 seconds (vm.dirty_expire_centisecs), so that by then
# waiting for the rest costs next to nothing.
_SETTLE_AFTER = 60


class Content(Value):
    """What filling a directory found out about the layer."""

    diff_id: str
    size: int
    """Bytes in regular files."""
    opaque: bool = False
    """Hides all layers below."""
    foreign: int = 0
    """Files whose owner is only remembered, in one-id mode."""
    notes: tuple[str, ...] = ()
    owners: Mapping[int, tuple[int, int]] = {}
    """By inode number, those that files cannot carry themselves; see remembered.py."""


class Layer(Value):
    """The record of an unpacked layer."""

    chain: str
    parent: str
    diff_id: str
    size: int
    opaque: bool
    foreign: int
    notes: tuple[str, ...]
    ids: str
    boot: str
    """The boot it was unpacked in; empty once it is known to be on disk."""

    def to_json(self) -> record.Json:
        return {**self._asdict(), "notes": list(self.notes)}

    @classmethod
    def from_json(cls, found: record.Json) -> Layer:
        try:
            return cls(**{**{name: found[name] for name in cls._fields}, "notes": tuple(found["notes"])})
        except (KeyError, TypeError) as e:
            raise DataLoss(f"layer record is damaged: {e}") from None


Fill: TypeAlias = "Callable[[int], Content]"


# -- looking ---------------------------------------------------------------------------------------


def find(chain: str) -> Layer | None:
    """The unpacked layer, if it is there and fit for use."""
    layer = _read(directory(chain))
    if layer is None or layer.ids != _ids() or (layer.boot and layer.boot != process.boot_id()):
        return None
    return layer


def _read(place: str) -> Layer | None:
    try:
        found = record.read(os.path.join(place, "layer.json"))
        return Layer.from_json(found) if found is not None else None
    except DataLoss as e:
        # A power cut may have left an empty record; such a layer is made again.
        debug(e.message)
        return None


def get(chain: str) -> Layer:
    layer = find(chain)
    if layer is None:
        raise NotFound(f"layer {chain[:12]} is not unpacked")
    return layer


def stack(found: Sequence[Layer]) -> list[str]:
    """The directories of these layers, which are given topmost first; none below an opaque one."""
    directories = []
    for layer in found:
        directories.append(os.path.join(directory(layer.chain), "diff"))
        if layer.opaque:
            break
    return directories


def size(chain: str) -> int:
    """Bytes in the files of a layer, whether it is fit for use here or not; 0 if it is not unpacked at all."""
    for place in (paths.layer(chain), paths.layer(chain) + "-single"):
        layer = _read(place)
        if layer is not None:
            return layer.size
    return 0


def directory(chain: str) -> str:
    """Where a layer lies: apart for each kind of id map, of which one id only is the one that coexists."""
    return paths.layer(chain) + ("-single" if _ids() == "single" else "")


def remember_owners() -> bool:
    """Whether layers only remember whom their files belong to, since this process has one id."""
    return _ids() == "single"


# -- making ----------------------------------------------------------------------------------------


class Staged(Value):
    """An unpacked layer that has no name yet."""

    entry: staging.Entry
    content: Content


@scope
def stage(fill: Fill) -> Iterator[Staged]:
    """Unpack a layer whose name is not known before its end. Without `adopt` nothing stays."""
    with staging.entry() as entry:
        try:
            os.mkdir("diff", 0o755, dir_fd=entry.fd)
            fd = os.open("diff", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=entry.fd)
        except OSError as e:
            raise SystemFailure(f"cannot make a directory in {entry.path}: {reason(e)}") from e
        try:
            # The caller's umask must not show.
            os.fchmod(fd, 0o755)
            content = fill(fd)
            if content.owners:
                _write_owners(entry, fd, content)
        finally:
            os.close(fd)
        yield Staged(entry, content)


def _write_owners(entry: staging.Entry, fd: int, content: Content) -> None:
    from rdock.storage import remembered  # where there are ids enough nobody needs it

    try:
        remembered.write(entry.fd, fd, content.owners)
    except OSError as e:
        raise SystemFailure(f"cannot write to {entry.path}: {reason(e)}") from e


def adopt(staged: Staged, chain: str, parent: str) -> None:
    """Give a staged layer its place, unless another process was faster."""
    with _lock(chain):
        if find(chain) is None:
            _place(staged, chain, parent)


def ensure(chain: str, parent: str, diff_id: str, fill: Fill) -> Layer:
    """Unpack a layer unless it is there. Others that want the same one wait for the first.

    Raises DataLoss if the content does not have the DiffID.
    """
    found = find(chain)
    if found is not None:
        return found
    with _lock(chain):
        found = find(chain)
        if found is None:
            with stage(fill) as staged:
                if staged.content.diff_id != diff_id:
                    raise DataLoss(f"layer {diff_id}: content has the digest {staged.content.diff_id}")
                found = _place(staged, chain, parent)
    return found


def replace(chain: str, parent: str, diff_id: str, fill: Fill) -> Layer:
    """Unpack a layer in place of the damaged one that is there. Nothing that runs may be standing on it.

    Raises DataLoss if the content does not have the DiffID; then the old one stays.
    """
    with _lock(chain), stage(fill) as staged:
        if staged.content.diff_id != diff_id:
            raise DataLoss(f"layer {diff_id}: content has the digest {staged.content.diff_id}")
        return _place(staged, chain, parent)


def _place(staged: Staged, chain: str, parent: str) -> Layer:
    content, place = staged.content, directory(chain)
    layer = Layer(
        chain=chain, parent=parent, diff_id=content.diff_id, size=content.size, opaque=content.opaque,
        foreign=content.foreign, notes=content.notes, ids=_ids(), boot=process.boot_id(),
    )  # fmt: skip
    record.write(os.path.join(staged.entry.path, "layer.json"), layer.to_json(), durable=False)
    # One of another id map or of a lost boot; nothing that runs can be standing on it.
    staging.discard(place)
    try:
        os.rename(staged.entry.path, place)
    except OSError as e:
        raise SystemFailure(f"cannot make {place}: {reason(e)}") from e
    staged.entry.placed = True
    return layer


@scope
def _lock(chain: str) -> Iterator[None]:
    """Held while a layer is made or removed. Its file goes with it: a waiter sees that and takes a new one."""
    paths.make_private(paths.data())
    paths.make_private(paths.layers())
    path = directory(chain) + ".lock"
    lock = record.Lock(path)
    try:
        lock.acquire()
    except OSError as e:
        raise SystemFailure(f"cannot lock {path}: {reason(e)}") from e
    try:
        yield
    finally:
        record.remove(path)
        lock.release()


# -- removing --------------------------------------------------------------------------------------


def remove(chain: str) -> None:
    """Remove a layer in all its forms. The caller knows that nothing stands on it."""
    for path in (paths.layer(chain), paths.layer(chain) + "-single"):
        staging.discard(path)


def chains() -> list[str]:
    """The ChainIDs of all layers that are there, in any form."""
    try:
        names = os.listdir(paths.layers())
    except OSError:
        return []
    return sorted({name.removesuffix("-single") for name in names if not name.endswith((".lock", ".tmp"))})


def places() -> list[str]:
    """The directories of all layers that are there, in any form."""
    try:
        names = sorted(os.listdir(paths.layers()))
    except OSError:
        return []
    return [os.path.join(paths.layers(), name) for name in names if not name.endswith((".lock", ".tmp"))]


def is_whole(place: str) -> bool:
    """Whether such a directory has its record and its files; not, whether these are the right ones."""
    return _read(place) is not None and os.path.isdir(os.path.join(place, "diff"))


def sweep_locks() -> None:
    """Remove the lock files of processes that were killed while they made a layer. Never fails."""
    try:
        for name in os.listdir(paths.layers()):
            if name.endswith(".lock"):
                path = os.path.join(paths.layers(), name)
                lock = record.Lock(path)
                if lock.acquire(wait=False):
                    record.remove(path)
                    lock.release()
    except OSError:
        pass


# -- on disk ---------------------------------------------------------------------------------------


def settle(found: Iterable[Layer]) -> None:
    """Note of these layers that they are on disk, once they must be. Cheap, and never fails."""
    try:
        waiting = [layer for layer in found if layer.boot and _age(layer) > _SETTLE_AFTER]
        if not waiting:
            return
        fd = os.open(paths.layers(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            check(libc.syncfs(fd))
        finally:
            os.close(fd)
        for layer in waiting:
            record.write(_record(layer.chain), layer._replace(boot="").to_json(), durable=False)
    except (OSError, SystemFailure) as e:
        debug(f"cannot tell whether layers are on disk: {e}")


def settle_all() -> None:
    settle([layer for chain in chains() if (layer := find(chain)) is not None])


def _age(layer: Layer) -> float:
    return time.time() - os.stat(_record(layer.chain)).st_mtime


def _record(chain: str) -> str:
    return os.path.join(directory(chain), "layer.json")


def _ids() -> str:
    """A name for the id map that this process lives under, equal only for maps that put files to the same ids."""
    namespace = os.readlink("/proc/self/ns/user")
    if namespace not in _known_ids:
        _known_ids[namespace] = _read_ids()
    return _known_ids[namespace]


_known_ids: dict[str, str] = {}


def _read_ids() -> str:
    uids, gids = idmap.read_map("uid"), idmap.read_map("gid")
    if min(sum(m.size for m in uids), sum(m.size for m in gids)) == 1:
        return "single"
    return (idmap.map_text(uids) + "/" + idmap.map_text(gids)).replace("\n", ",")
