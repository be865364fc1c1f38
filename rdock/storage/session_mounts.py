"""Mounts for reading in the mount namespace of a session (`rdock unshare`): of images, and of containers' roots.

They end with the session, and nowhere else they would be seen by anybody. Each kind has a place, a file system of the
session's own, in which a mount has the id of what it shows as its name.
"""

from __future__ import annotations

import os

from rdock.linux import mount as m


def prepare(place: str, identity: str) -> str:
    """The directory to mount on. Raises OSError."""
    os.makedirs(place, mode=0o700, exist_ok=True)
    if not any(entry.target == place for entry in m.mountinfo()):
        m.mount("tmpfs", place, "tmpfs", m.MS_NOSUID | m.MS_NODEV, "mode=700,size=1m")
    target = os.path.join(place, identity)
    os.makedirs(target, 0o700, exist_ok=True)  # one that failed may have left it
    return target


def stack(directories: list[str], target: str) -> None:
    """Mount layers, topmost first, as one root. Raises OSError."""
    if len(directories) > 1:
        _overlay(directories, target)
    elif directories:
        m.bind(directories[0], target)
        m.remount_bind(target, m.MS_RDONLY)
    else:
        m.mount("tmpfs", target, "tmpfs", m.MS_RDONLY | m.MS_NOSUID | m.MS_NODEV, "mode=755,size=4k")


def _overlay(directories: list[str], target: str) -> None:
    fds = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in directories]
    try:
        # In this way a path is short, and holds no character that an option cannot hold.
        m.mount("overlay", target, "overlay", m.MS_RDONLY, f"lowerdir={':'.join(map(m.through, fds))},userxattr")
    finally:
        for fd in fds:
            os.close(fd)


def mounted(place: str) -> dict[str, str]:
    """What is mounted there, by id, and where."""
    targets = [entry.target for entry in m.mountinfo() if os.path.dirname(entry.target) == place]
    return {os.path.basename(target): target for target in targets}


def take_away(target: str) -> None:
    """Unmount one of them. Raises OSError if somebody is in it."""
    m.umount(target)
    os.rmdir(target)
