"""The root of a container with what is mounted in it, as `cp` reaches it, whether the container runs or not.

Of one that runs it is the root of its process 1, in whose mount namespace it lies. Of another the storage driver
mounts it, with the binds that the record tells of, in a mount namespace of this process's own and for as long as
this process holds the container's run lock: nobody starts it meanwhile. Either way it is a descriptor, below which
the kernel resolves every path (linux/inroot.py); nothing in there is executed, loaded or asked for a name.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock import paths
from rdock.container import containers, owners
from rdock.container.containers import Container, State
from rdock.errors import NoSuchContainer, SystemFailure, reason
from rdock.linux import mount as m
from rdock.linux import namespaces
from rdock.linux.inroot import O_PATH, RESOLVE_NO_SYMLINKS, open_in_root
from rdock.scope import scope
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rdock.state.record import Lock

# Where a container that runs has the kernel's file systems and the host's devices.
_KERNELS = ("proc", "sys", "dev")


class Place(Value):
    """A container's root for the length of a `with`."""

    container: Container
    root: int
    """Its descriptor, O_PATH."""
    kernels: tuple[tuple[int, int], ...] = ()
    """Directories (device and inode) whose content is the kernel's, and in no archive of Docker's either."""


@scope
def opened(container: Container) -> Iterator[Place]:
    """The root of a container, which stays where it is meanwhile. Raises NoSuchContainer, Conflict, SystemFailure."""
    root = _running(container)
    lock = None
    if root < 0:
        root, lock = _claim(container)
    if lock is None:
        try:
            yield Place(container, root, _kernels(root))
        finally:
            os.close(root)
        return
    from rdock.container import removal

    copying = containers.copy_lock(container.id)
    try:
        container = containers.load(container.id)
        copying.acquire()
        with _mounted(container) as root:
            yield Place(container, root)
    finally:
        removal.remove_bundle(container.id)
        if copying.fd >= 0:
            copying.remove()
        lock.remove()


def _claim(container: Container) -> tuple[int, Lock | None]:
    """The run lock of a container that does not run; or the root of one that has begun to meanwhile."""
    from rdock.container import lifecycle

    os.makedirs(paths.container_locks(), mode=0o700, exist_ok=True)
    lock = containers.run_lock(container.id)
    patience = lifecycle.PATIENCE
    while True:
        state = container.state()
        if lock.acquire(wait=False):
            if not container.state().is_running:
                return -1, lock
            lock.release()
        elif state.monitor_pid and not state.is_attended and patience <= 0:
            raise lifecycle.in_use_elsewhere(container, "copy from or to")
        if not os.path.isdir(container.directory):
            raise NoSuchContainer(container.id)
        patience -= lifecycle.await_step(state, container.id)
        root = _running(container)
        if root >= 0:
            return root, None


def _running(container: Container) -> int:
    """The root of a container that runs; -1 if it does not."""
    state = container.state()
    if not state.is_running:
        return -1
    return _of_process(state) if state.pid else _without_process(container, state)


def _of_process(state: State) -> int:
    """The root of process 1; -1 if it has just ended."""
    try:
        root = os.open(f"/proc/{state.pid}/root", O_PATH | os.O_DIRECTORY)
    except OSError:
        return -1
    if state.process.is_alive():
        return root
    os.close(root)  # it may be that of another with its pid
    return -1


def _without_process(container: Container, state: State) -> int:
    """Between two runs: the root that waits for the next, without mounts in it; -1 if that has just begun."""
    for who in (state.keeper, state.monitor):
        try:
            root = os.open(f"/proc/{who.pid}/root{container.root}", O_PATH | os.O_DIRECTORY)
        except OSError:
            continue
        if who.is_alive():
            return root
        os.close(root)
    return -1


def _kernels(root: int) -> tuple[tuple[int, int], ...]:
    found = []
    for name in _KERNELS:
        try:
            fd = open_in_root(root, name, O_PATH | os.O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS)
        except OSError:
            continue
        about = os.fstat(fd)
        os.close(fd)
        found.append((about.st_dev, about.st_ino))
    return tuple(found)


@scope
def _mounted(container: Container) -> Iterator[int]:
    """The root of a container that does not run, for who has its run lock."""
    from rdock.image import images
    from rdock.storage import driver

    read_only = container.host_config.readonly_rootfs
    if container.rootfs:
        ready = driver.binder(container.rootfs)
    else:
        layers = images.root_directories(images.lookup(container.image))
        shown = owners.shifted(container)
        ready = driver.mounter(container.driver, layers, container.directory, read_only=read_only, owners=shown)
    mounted = False
    root = -1
    try:
        try:
            os.makedirs(container.root, mode=0o700, exist_ok=True)
            namespaces.unshare(namespaces.CLONE_NEWNS)
            m.set_propagation("/", m.MS_SLAVE)
            ready(container.root)
            mounted = True
            root = os.open(container.root, O_PATH | os.O_DIRECTORY)
            _bind(container, root)
            if read_only:
                m.remount_bind(m.through(root), m.MS_RDONLY)
        except OSError as e:
            where = e.filename or container.root
            raise SystemFailure(f"cannot mount the root of container {container.name}: {where}: {reason(e)}") from e
        yield root
    finally:
        if root >= 0:
            os.close(root)
        if mounted:
            # Written to the end before somebody else mounts the same again, since nothing in it is open any more.
            m.umount(container.root, m.MNT_DETACH)


def _bind(container: Container, root: int) -> None:
    from rdock.container import mount_entries, mount_points

    if not container.state().started_at and any(point.type == "volume" for point in mount_points.of(container)):
        from rdock.container.mounting import Preparation

        Preparation(container).fill_volumes(root)
    with mount_entries.at_rest(container) as entries:
        for entry in entries:
            _bind_one(entry, root)


def _bind_one(entry: dict[str, Any], root: int) -> None:
    try:
        about = os.stat(entry["source"])
    except OSError:
        return  # made when the container is started, or missed then
    if not stat.S_ISDIR(about.st_mode) and not stat.S_ISREG(about.st_mode):
        return
    from rdock.runtime import rootfs

    try:
        rootfs.Mount.from_spec(entry).execute(root)
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
            raise
        # The root leads elsewhere by now: the start says what is wrong with it.
