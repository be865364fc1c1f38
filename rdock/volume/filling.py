"""Copy-up: the first container that uses an empty volume gives it what its image has at that place.

The copy is made beside the volume, put there whole by one rename, and then moved into the volume entry by entry; at
any instant a process may die, and the next start goes on: half a copy is never taken for a whole one, and what
another container has written into the volume meanwhile stays. All of it is done under the volume's own lock, so that
of several first starts one does it, and the others wait.
"""

from __future__ import annotations

import os
import stat

from rdock import paths
from rdock.errors import SystemFailure, reason
from rdock.linux.tree import remove_path
from rdock.state.record import Lock
from rdock.storage import copytree

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def fill(name: str, source: int | None) -> None:
    """Fill a volume if it is empty, from an open directory of the image; without one only go on with what was begun.

    Raises SystemFailure, after which the volume is as it was.
    """
    directory = paths.volume(name)
    ready = os.path.join(directory, "ready")
    if source is None and not os.path.lexists(ready):
        return
    try:
        with Lock(os.path.join(directory, ".lock")):
            if source is not None and not os.path.lexists(ready) and not os.listdir(paths.volume_data(name)):
                half = os.path.join(directory, "copy")
                remove_path(half)
                os.mkdir(half, 0o700)
                try:
                    copytree.merge([f"/proc/self/fd/{source}"], half, share=False)
                except BaseException:
                    remove_path(half)
                    raise
                os.rename(half, ready)
            if os.path.lexists(ready):
                _move(ready, paths.volume_data(name))
    except OSError as e:
        raise SystemFailure(f"cannot copy the image's content into volume {name}: {reason(e)}") from e


def fill_mounted(name: str, place: str, source: int) -> None:
    """Fill a volume that is a tmpfs, if it is empty; what a process that dies leaves of it goes with the tmpfs.

    Raises SystemFailure.
    """
    try:
        with Lock(os.path.join(paths.volume(name), ".lock")):
            if not os.listdir(place):
                copytree.merge([f"/proc/self/fd/{source}"], place, share=False)
    except OSError as e:
        raise SystemFailure(f"cannot copy the image's content into volume {name}: {reason(e)}") from e


def _move(ready: str, data: str) -> None:
    """Everything into the volume, but what is there already; then the directory's own owner, mode and time."""
    here, there = os.open(ready, _DIRECTORY), -1
    try:
        there = os.open(data, _DIRECTORY)
        found = os.fstat(here)
        # A directory that is moved changes its `..`, for which its owner must be able to write to it; root is.
        for entry in os.listdir(here):
            try:
                os.stat(entry, dir_fd=there, follow_symlinks=False)
            except FileNotFoundError:
                os.rename(entry, entry, src_dir_fd=here, dst_dir_fd=there)
        os.fchown(there, found.st_uid, found.st_gid)
        os.fchmod(there, stat.S_IMODE(found.st_mode))
        for attribute in os.listxattr(here):
            if attribute.startswith("user."):
                os.setxattr(there, attribute, os.getxattr(here, attribute))
        os.utime(there, ns=(found.st_atime_ns, found.st_mtime_ns))
    finally:
        os.close(here)
        if there >= 0:
            os.close(there)
    remove_path(ready)
