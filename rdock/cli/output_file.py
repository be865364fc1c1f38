"""Files that a command writes for its user: an archive (`-o`), an id (`--iidfile`).

They appear under their names when they are whole, and a command that is killed leaves nothing behind.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock.errors import InvalidParameter, SystemFailure, reason
from rdock.scope import scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)


def check(path: str, failure: str) -> None:
    """Raise InvalidParameter unless an archive can be written there, in the words of Docker's ValidateOutputPath.

    `failure` is what the message begins with, such as "failed to save image".
    """
    directory = os.path.dirname(os.path.normpath(path))
    if directory and not os.path.exists(directory):
        raise InvalidParameter(f'{failure}: invalid output path: directory "{directory}" does not exist')
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if stat.S_ISDIR(mode):
        raise InvalidParameter(f"{failure}: open {path}: is a directory")
    if stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and os.path.realpath(path) != os.devnull):
        raise InvalidParameter(
            f'{failure}: invalid output path: "{path}" must be a directory or a regular file: got a device'
        )


@scope
def destination(path: str | None) -> Iterator[int]:
    """A file to write, which takes its name when the `with` ends without an error; else nothing stays.

    A pipe and /dev/null are written as they are, and so is the standard output, which no path means. Raises
    SystemFailure; BrokenPipeError.
    """
    if not path:
        try:
            yield 1
        except BrokenPipeError:
            raise
        except OSError as e:
            raise SystemFailure(f"cannot write to the standard output: {reason(e)}") from e
        return
    target = os.path.realpath(path)
    named = ""
    try:
        is_file = not target.startswith("/proc/") and (not os.path.exists(target) or os.path.isfile(target))
        if is_file:
            fd, named = _new_file(target)
        else:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as e:
        raise SystemFailure(f"open {path}: {reason(e)}") from e
    try:
        try:
            yield fd
            if is_file:
                # Images may be removed because they are in an archive: it must outlast a power cut.
                os.fdatasync(fd)
                named = named or _name(fd, target)
        finally:
            os.close(fd)
        if is_file:
            os.rename(named, target)
            named = ""
    except BrokenPipeError:
        raise
    except OSError as e:
        raise SystemFailure(f"cannot write {path}: {reason(e)}") from e
    finally:
        if named:
            try:
                os.unlink(named)
            except OSError:
                pass


def write(fd: int, data: bytes) -> None:
    """Write all of it. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _new_file(target: str) -> tuple[int, str]:
    """A file beside the target: without a name, so that it goes with this process, where the file system can."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(os.path.dirname(target), flags | os.O_TMPFILE, 0o600), ""
    except OSError as e:
        if e.errno not in _NO_UNNAMED_FILES:
            raise
    name = _beside(target)
    return os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600), name


def _name(fd: int, target: str) -> str:
    """Give it a first name, since a link does not replace what is there."""
    name = _beside(target)
    # The directory means nothing with an absolute path, but has Python call linkat, which alone follows the link.
    os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=fd, follow_symlinks=True)
    return name


def _beside(target: str) -> str:
    """A name that is not taken, and not too long where the target's is not."""
    return os.path.join(os.path.dirname(target), f".rdock-{os.urandom(6).hex()}.tmp")
