"""The root of a container as `diff`, `export` and `commit` read it, whether it runs or not.

It is read in the store, below all mounts: of volumes, /proc or the generated /etc/hosts nothing is seen but the
places that were made to mount them on, and `diff` and `commit` leave those out too.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from rdock.container import mount_points, owners
from rdock.container.containers import Container
from rdock.container.spec import INIT_PATH
from rdock.errors import DataLoss, InvalidParameter, NoSuchContainer, RdockError, SystemFailure, reason
from rdock.image import images
from rdock.linux.inroot import RESOLVE_NO_SYMLINKS, open_in_root
from rdock.scope import scope
from rdock.storage import layers
from rdock.storage.differences import Change, Parts, compare
from rdock.storage.driver import COPIED
from rdock.storage.union import Union, open_file
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rdock.storage.remembered import Owners

# Where rdock's own mounts are; see spec.py and sandbox.py.
_OWN = ("/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
_FUSE, _COPY = "fuse-overlayfs", "copy"


class Root(Value):
    """What a container sees, and what its image has."""

    container: Container
    now: Union
    image: Union | None
    since: int
    known: Owners | None
    """Who knows whom files belong to where they themselves do not tell."""

    def changes(self) -> Iterator[Change]:
        """What is different from the image. Raises InvalidParameter if there is none; SystemFailure."""
        if self.image is None:
            raise InvalidParameter(f"container {self.container.name} has no image to compare with")
        yield from self._read(compare(self.now, self.image, hidden=self._mounts(), since=self.since))

    def everything(self) -> Iterator[Change]:
        """All that is there. Raises SystemFailure, NoSuchContainer."""
        yield from self._read(compare(self.now, None))

    def _read(self, changes: Iterator[Change]) -> Iterator[Change]:
        while True:
            # What whoever reads does with a change is not in the `try`.
            try:
                change = next(changes, None)
            except OSError as e:
                raise _failure(self.container, e) from e
            if change is None:
                return
            yield change

    def check(self) -> None:
        """To be called after the reading: of a container that is removed meanwhile things seem deleted."""
        if not os.path.isdir(self.container.directory):
            raise NoSuchContainer(self.container.id)

    def _mounts(self) -> set[Parts]:
        host = self.container.host_config
        targets = [*_OWN, *host.tmpfs, *(point.destination for point in mount_points.of(self.container))]
        targets += [device.get("PathInContainer", "") for device in host.devices]
        targets += [INIT_PATH] if host.init else []
        found = set()
        for target in targets:
            try:
                found.add(self.now.resolve(os.fsencode(target)))
            except OSError:
                continue  # a circle of links: nothing can be mounted there
        return found - {()}


@scope
def opened(container: Container) -> Iterator[Root]:
    """The root of a container for the length of a `with`. Raises SystemFailure, NoSuchContainer, NoSuchImage."""
    below = [] if container.rootfs else images.root_directories(images.lookup(container.image))
    marks = container.driver == _FUSE
    now, since = _own(container, below)
    shown = owners.shifted(container) if container.driver == _COPY else None
    with ExitStack() as stack:
        try:
            union = stack.enter_context(Union(now, marks=marks, owners=shown))
            image = stack.enter_context(Union(below, marks=marks)) if not container.rootfs else None
        except OSError as e:
            raise _failure(container, e) from e
        _flush(container)
        yield Root(container, union, image, since, stack.enter_context(remembered_owners(container, below)))


@scope
def remembered_owners(container: Container, below: list[str], above: Parts = ()) -> Iterator[Owners | None]:
    """Who knows the owners of a container's files, which are asked for by paths that begin at `above`, for a `with`.

    None where there are ids enough. `below` are the image's layers. Raises SystemFailure.
    """
    if not layers.remember_owners():
        yield None
        return
    from rdock.storage.remembered import Owners

    try:
        known = Owners(below, marks=container.driver == _FUSE, above=above)
    except (OSError, DataLoss) as e:
        why = reason(e) if isinstance(e, OSError) else e.message
        raise SystemFailure(f"cannot read the owners of the image's files: {why}") from e
    with known:
        yield known


def _failure(container: Container, error: OSError) -> RdockError:
    if not os.path.isdir(container.directory):
        return NoSuchContainer(container.id)
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    return SystemFailure(f"cannot read the root of container {container.name}: {path}: {reason(error)}")


def _own(container: Container, below: list[str]) -> tuple[list[str], int]:
    """The directories of the root as the container has it, and the time since when it has changed things in them."""
    if container.rootfs:
        return [container.rootfs], 0
    copied = os.path.join(container.directory, "root")
    if os.path.isdir(copied):
        try:
            return [copied], os.stat(os.path.join(container.directory, COPIED)).st_mtime_ns
        except FileNotFoundError:
            return [copied], 0
    upper = os.path.join(container.directory, "upper")
    # One that was never started has nothing of its own yet.
    return [upper, *below] if os.path.isdir(upper) else list(below), 0


def _flush(container: Container) -> None:
    """Have the kernel hand to fuse-overlayfs what it holds back of files that are open for writing.

    It does when any descriptor of the file is closed (fuse_flush in fs/fuse/file.c). Never fails.
    """
    state = container.state()
    upper = os.path.join(container.directory, "upper")
    if container.driver != _FUSE or not state.is_running or not os.path.isdir(upper):
        return
    for pid in (state.keeper_pid, state.monitor_pid):
        try:
            # The root is mounted in their mount namespace only, and without the container's other mounts.
            mounted = os.open(f"/proc/{pid}/root{container.root}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            with Union([upper], marks=True) as union:
                for change in compare(union, None):
                    _close_file(mounted, change)
        except OSError:
            pass
        finally:
            os.close(mounted)
        return


def _close_file(mounted: int, change: Change) -> None:
    try:
        above = b"/".join(change.parts[:-1])
        directory = open_in_root(mounted, above, os.O_PATH | os.O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS)
        try:
            os.close(open_file(directory, change.parts[-1]))
        finally:
            os.close(directory)
    except OSError:
        pass  # it is no file, or no longer there
