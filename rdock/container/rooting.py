"""The root of a container that starts: a mount namespace of its keeper's, the root in it, and what is mounted inside.

Made once for a start, it outlives monitors and the runs of a restart policy.
"""

from __future__ import annotations

import os

from rdock import paths
from rdock.container import owners, spec
from rdock.container.containers import Container
from rdock.linux import mount as m
from rdock.linux import namespaces
from rdock.storage import driver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def mount_root(container: Container, layers: Sequence[str]) -> None:
    """Enter a mount namespace of this process's own and mount the root there. Raises RdockError, OSError."""
    if container.rootfs:
        ready = driver.binder(container.rootfs)
    else:
        ready = driver.mounter(
            container.driver, layers, container.directory,
            read_only=container.host_config.readonly_rootfs, owners=owners.shifted(container),
        )  # fmt: skip
    namespaces.unshare(namespaces.CLONE_NEWNS)
    m.set_propagation("/", m.MS_SLAVE)
    if container.host_config.init:
        # The container's root may own it, and may be allowed to remount.
        m.protect(spec.init_program(container.host_config))
    os.makedirs(container.root, mode=0o700, exist_ok=True)
    ready(container.root)


def prepare_mounts(container: Container, *, first: bool) -> dict[str, str]:
    """What the container's mounts need; the sources by their destinations. Raises RdockError."""
    if not container.mount_points:
        return {}
    from rdock.container import mounting

    return mounting.Preparation(container).run(first=first)


def release(container: Container) -> None:
    """Unmount all of it, or the places could not be removed in this mount namespace. Never fails."""
    for place in (container.root, paths.container_mounts(container.id)):
        try:
            m.umount(place, m.MNT_DETACH)
        except OSError:
            pass  # the start failed before it was mounted, or there is nothing
    if container.mount_points:
        from rdock.container import mounting

        mounting.release(container)
