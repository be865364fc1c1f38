"""How a new thing gets its name in a directory that others may be at work in, and takes the place of what had it.

It is made elsewhere and renamed, so that there is always the old one or the new one, whole. What something is mounted
on is not replaced: the mount would be gone in the other mount namespace, without a word.
"""

from __future__ import annotations

import errno
import os

from rdock.errors import Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)


def mount_id(fd: int) -> str:
    """Which mount a descriptor lies in (proc(5), fdinfo)."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return next((line.split()[1] for line in file if line.startswith("mnt_id:")), "")


def new_file(there: int) -> tuple[int, str]:
    """A file in a directory: without a name, so that it goes with this process, where the file system can."""
    try:
        return os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=there), ""
    except OSError as e:
        if e.errno not in _NO_UNNAMED_FILES:
            raise
    name = _beside()
    return os.open(name, CREATE, 0o600, dir_fd=there), name


def give_name(fd: int, there: int, name: str) -> None:
    """Give a file a name, or one more."""
    # The first directory means nothing with an absolute path, but has Python call linkat, which alone follows the link.
    os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=there, dst_dir_fd=there, follow_symlinks=True)


def place(make: Callable[[str], None], there: int, name: str, path: str) -> None:
    """Have something made under its name, or in the place of what has the name."""
    try:
        make(name)
        return
    except FileExistsError:
        pass
    new = _beside()
    make(new)
    put(there, new, name, path)


def put(there: int, new: str, name: str, path: str) -> None:
    """Let a thing take the place of another. On failure it is removed."""
    try:
        try:
            now = os.open(name, HANDLE, dir_fd=there)
        except FileNotFoundError:
            pass
        else:
            try:
                if mount_id(now) != mount_id(there):
                    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            finally:
                os.close(now)
        os.rename(new, name, src_dir_fd=there, dst_dir_fd=there)
    except OSError as e:
        remove(there, new)
        if e.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
            raise Conflict(f'cannot overwrite directory "{name}" with non-directory "{path}"') from e
        raise
    # Two names of one file are both left by rename(2).
    remove(there, new)


def remove(there: int, name: str) -> None:
    """Remove a thing that is no directory, if it is there."""
    try:
        os.unlink(name, dir_fd=there)
    except FileNotFoundError:
        pass


def _beside() -> str:
    return f".rdock-{os.urandom(6).hex()}.tmp"
