"""Giving a whole tree to another user: `:U` of `-v`, podman's."""

from __future__ import annotations

import os
import stat

from rdock.errors import SystemFailure, reason

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def give(path: str, uid: int, gid: int) -> None:
    """Give a file or directory and all that is below it to a user; links themselves, never what they lead to.

    What is that user's already is left alone: a change would take set-user-ID bits away. Raises SystemFailure.
    """
    try:
        found = os.stat(path)
        differs = (found.st_uid, found.st_gid) != (uid, gid)
        if stat.S_ISDIR(found.st_mode):
            fd = os.open(path, _DIRECTORY & ~os.O_NOFOLLOW)
            try:
                _below(fd, uid, gid)
                if differs:
                    os.fchown(fd, uid, gid)
            finally:
                os.close(fd)
        elif differs:
            os.chown(path, uid, gid)
    except OSError as e:
        where = os.fsdecode(e.filename) if isinstance(e.filename, str | bytes) else path
        raise SystemFailure(f"cannot change the owner of {where}: {reason(e)}") from e


def _below(directory: int, uid: int, gid: int) -> None:
    for name in os.listdir(directory):
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            try:
                fd = os.open(name, _DIRECTORY, dir_fd=directory)
            except FileNotFoundError:
                continue
            try:
                _below(fd, uid, gid)
            finally:
                os.close(fd)
        if (found.st_uid, found.st_gid) != (uid, gid):
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
