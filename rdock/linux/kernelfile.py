"""Files of the kernel's that take one value, such as those of /proc and of control groups."""

from __future__ import annotations

import errno
import os


def write(path: str, text: str) -> None:
    """Write a value in one write(2), as the kernel wants it. Raises OSError, with the file's name."""
    # Not open(): its O_CREAT answers EACCES, not ENOENT, where the kernel has no such file.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    except OSError as e:
        raise OSError(e.errno or errno.EIO, e.strerror, path) from e
    finally:
        os.close(fd)


def read_number(path: str) -> int:
    """The one number in a file. Raises OSError, ValueError."""
    with open(path, encoding="utf-8") as file:
        return int(file.read())
