"""The root of a container, mounted for reading in a session: `mount`.

Of one that runs it is the very mount that the container has, as it changes, without what is mounted in it. Of another
its layers are stacked anew: to be written to they would have to be the container's alone, and nothing holds its run
lock as long as a session's mount is there. For the same reason nobody keeps it from being started or removed. Who
wants to write uses `cp`.
"""

from __future__ import annotations

import os

from rdock import paths
from rdock.container.containers import Container, State
from rdock.errors import NotFound, SystemFailure, Unavailable, reason
from rdock.image import images
from rdock.linux import mount as m
from rdock.linux import namespaces
from rdock.storage import driver, session_mounts


def mount(container: Container) -> str:
    """Mount a container's root, unless it is mounted; where. Raises SystemFailure, Unavailable."""
    target = mounted().get(container.id)
    if target is not None:
        return target
    try:
        state = container.state()
        tree = _of_monitor(container, state) if state.is_running else -1
        layers = _layers(container) if tree < 0 else []
        target = session_mounts.prepare(paths.mounted_containers(), container.id)
        if tree < 0:
            session_mounts.stack(layers, target)
            return target
        place = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            m.move(tree, place, m.MS_RDONLY)
        finally:
            os.close(place)
            os.close(tree)
    except OSError as e:
        where = e.filename or paths.mounted_containers()
        raise SystemFailure(f"cannot mount container {container.name}: {where}: {reason(e)}") from e
    return target


def _of_monitor(container: Container, state: State) -> int:
    """A copy of the mount that is in the namespace of keeper and monitor; -1 if neither is there."""
    ours = os.open(namespaces.file_of("mount"), os.O_RDONLY | os.O_CLOEXEC)
    directory = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for who in (state.keeper, state.monitor):
            try:
                theirs = os.open(namespaces.file_of("mount", who.pid), os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                if not who.is_alive():
                    continue
                # A mount can be copied only from within its namespace.
                namespaces.setns(theirs, namespaces.CLONE_NEWNS)
                root = os.open(container.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    return m.detached(root)
                finally:
                    os.close(root)
            finally:
                os.close(theirs)
                namespaces.setns(ours, namespaces.CLONE_NEWNS)
        return -1
    finally:
        os.fchdir(directory)
        os.close(directory)
        os.close(ours)


def _layers(container: Container) -> list[str]:
    if container.rootfs:
        return [container.rootfs]
    copied = os.path.join(container.directory, "root")
    if os.path.isdir(copied):
        return [copied]
    below = images.root_directories(images.lookup(container.image))
    upper = os.path.join(container.directory, "upper")
    layers = [upper, *below] if os.path.isdir(upper) else list(below)
    if len(layers) > 1:
        hint = "start it first, or copy from it with rdock cp"
        if container.driver == "fuse-overlayfs":
            raise Unavailable("a container of fuse-overlayfs that does not run cannot be mounted", hint=hint)
        problem = driver.probe("overlay")
        if problem:
            raise Unavailable(f"several layers are mounted with the overlay driver only: {problem}", hint=hint)
    return layers


def mounted() -> dict[str, str]:
    """The containers that are mounted here, by id, and where."""
    return session_mounts.mounted(paths.mounted_containers())


def unmount(container_id: str) -> None:
    """Raises NotFound if the container is not mounted, SystemFailure if somebody is in it."""
    target = mounted().get(container_id)
    if target is None:
        raise NotFound(f"container {container_id[:12]} is not mounted")
    try:
        session_mounts.take_away(target)
    except OSError as e:
        raise SystemFailure(f"cannot unmount container {container_id[:12]}: {target}: {reason(e)}") from e
