"""Removal of directory trees by descriptor: nothing in them is followed, however deep or hostile they are."""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Descriptors are held open along one branch; deeper directories are first moved up.
_MAX_DEPTH = 64


def remove_tree(parent: int, name: str | bytes) -> None:
    """Remove what `name` in the directory `parent` is, with all below it; that it is gone already is no error.

    Another process may be removing the same tree. Raises OSError.
    """
    raw = os.fsencode(name)
    try:
        os.unlink(raw, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except OSError as e:
        if e.errno not in (errno.EISDIR, errno.EPERM):
            raise
    try:
        fd = _open(raw, parent)
    except FileNotFoundError:
        return
    try:
        while _empty(fd, fd, 0):
            pass
    finally:
        os.close(fd)
    try:
        os.rmdir(raw, dir_fd=parent)
    except FileNotFoundError:
        pass


def remove_path(path: str) -> None:
    """The same for a path of rdock's own store, whose parents are no one else's."""
    parent = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_tree(parent, os.path.basename(path))
    finally:
        os.close(parent)


def _empty(fd: int, top: int, depth: int) -> bool:
    """Remove the content of a directory; whether something was too deep and has been moved up into `top`."""
    moved = False
    with os.scandir(fd) as entries:
        found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if not is_directory:
            _ignore_missing(os.unlink, name, fd)
            continue
        if depth >= _MAX_DEPTH:
            os.rename(name, os.urandom(12).hex(), src_dir_fd=fd, dst_dir_fd=top)
            moved = True
            continue
        try:
            inner = _open(name, fd)
        except FileNotFoundError:
            continue
        try:
            moved |= _empty(inner, top, depth + 1)
        finally:
            os.close(inner)
        _ignore_missing(os.rmdir, name, fd)
    return moved


def _open(name: bytes, parent: int) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        # Only its owner without CAP_DAC_OVERRIDE gets here; the descriptor makes sure that no link is followed.
        fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{fd}", 0o700)
        finally:
            os.close(fd)
        return os.open(name, _DIRECTORY, dir_fd=parent)


def _ignore_missing(remove: Callable[..., None], name: bytes, parent: int) -> None:
    try:
        try:
            remove(name, dir_fd=parent)
        except PermissionError:
            # A directory that may not be written to, for the same owner as above.
            os.fchmod(parent, 0o700)
            remove(name, dir_fd=parent)
    except FileNotFoundError:
        pass
