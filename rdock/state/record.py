"""Records: JSON files on disk, shared by processes that never meet. And the locks that guard them.

A record is replaced as a whole, by a temporary file and rename(2), so a reader sees the old text or
the new one and needs no lock. Each has one writer at a time, which holds the lock beside it. Locks
are flock(2): the kernel drops them when their owner dies, however it dies, so none is ever stale.
Lock order: network, container, image; never two containers.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from rdock import jsontext
from rdock.errors import DataLoss, SystemFailure, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias, TypeVar

    T = TypeVar("T")

FORMAT = 1
MAX_RECORD = 64 << 20

Json: TypeAlias = "dict[str, Any]"


def read(path: str) -> Json | None:
    """The record at `path`; None if there is none.

    Raises DataLoss if the file is not a JSON object of a format this version knows. Unknown keys are
    the caller's to ignore.
    """
    try:
        with open(path, "rb") as file:
            # As much as there is: read() makes room for all that it is asked for.
            text = file.read(min(os.fstat(file.fileno()).st_size, MAX_RECORD) + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise SystemFailure(f"cannot read {path}: {reason(e)}") from e
    return parse(text, path)


def parse(text: bytes, path: str) -> Json:
    try:
        if len(text) > MAX_RECORD:
            raise ValueError(f"larger than {MAX_RECORD} bytes")
        record = jsontext.parse(text)
        if not isinstance(record, dict):
            raise ValueError("not an object")
        if record.get("format", FORMAT) != FORMAT:
            raise ValueError(f"written by a newer version (format {record['format']})")
    except (ValueError, RecursionError) as e:
        raise DataLoss(f"cannot read {path}: {e}") from e
    return record


def write(path: str, record: Json, *, durable: bool) -> None:
    """Replace the record at `path`; a crash at any instant leaves the old one or the new one.

    `durable` also survives a power cut (fsync before the rename); it costs some milliseconds and is
    pointless for what a reboot makes void. Raises SystemFailure.
    """
    write_text(path, jsontext.render({"format": FORMAT, **record}), durable=durable)


def write_text(path: str, text: str, *, durable: bool, mode: int = 0o600) -> None:
    """Replace a small text file in the same way as a record."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"), durable=durable, mode=mode)


def write_bytes(path: str, content: bytes, *, durable: bool, mode: int = 0o600) -> None:
    """Replace a small file in the same way as a record.

    One that is the same already stays: to replace a file has ext4 write the new one to the disk at once
    (auto_da_alloc, ext4(5)), and each start makes the same few.
    """
    if not durable and holds(path, content, mode):
        return
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        fd = _open_temporary(temporary, mode)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                os.fsync(fd)
            os.rename(temporary, path)
        finally:
            os.close(fd)
    except OSError as e:
        remove(temporary)
        raise SystemFailure(f"cannot write {path}: {reason(e)}") from e


def holds(path: str, content: bytes, mode: int) -> bool:
    """Whether a file of ours has this content and this mode, and no other name."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        found = os.fstat(fd)
        same = (found.st_mode, found.st_size) == (stat.S_IFREG | mode, len(content))
        same = same and (found.st_uid, found.st_gid, found.st_nlink) == (os.geteuid(), os.getegid(), 1)
        return same and os.read(fd, len(content) + 1) == content
    except OSError:
        return False
    finally:
        os.close(fd)


def _open_temporary(path: str, mode: int) -> int:
    """An empty file, locked for as long as it has that name: `sweep` can tell it from what a killed writer left.

    Another machine or pid namespace that shares the directory may have a writer of the same pid, whose
    content must not be touched before the lock is ours.
    """
    while True:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _same_file(fd, path):
                os.ftruncate(fd, 0)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def overwrite(path: str, record: Json) -> None:
    """Write a record in place, for a disk that is too full for another file: its blocks are there already.

    A crash meanwhile may leave half of it. Raises SystemFailure.
    """
    content = jsontext.render({"format": FORMAT, **record}).encode("utf-8", "surrogateescape")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.write(fd, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.ftruncate(fd, len(content))
        finally:
            os.close(fd)
    except OSError as e:
        raise SystemFailure(f"cannot write {path}: {reason(e)}") from e


def sweep(directory: str) -> None:
    """Remove what writers who were killed left beside the records of a directory. Never fails."""
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        if name.endswith(".tmp"):
            lock = Lock(os.path.join(directory, name))
            try:
                if lock.acquire(wait=False):
                    lock.remove()
            except OSError:
                continue


def remove(path: str) -> None:
    """Unlink a file; that it is gone already, or cannot be reached, is no error."""
    try:
        os.unlink(path)
    except OSError:
        pass


class Lock:
    """An advisory lock on a file that is made if missing; a context manager.

    `shared` allows several owners. With `wait=False` `acquire` answers False instead of sleeping.
    The lock belongs to the open file description: children of fork(2) hold it too, until all have
    closed it. Whoever owns the lock may remove its file: a waiter finds it unlinked and tries the path
    again, so two owners cannot meet on two files. It must then look whether what it wanted still exists.
    """

    def __init__(self, path: str, *, shared: bool = False) -> None:
        self.path = path
        self.fd = -1
        self._how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock. Raises OSError, also FileNotFoundError when the directory does not exist."""
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, self._how | (0 if wait else fcntl.LOCK_NB))
                if _same_file(fd, self.path):
                    self.fd, fd = fd, -1
                    return True
            except OSError as e:
                if e.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    return False
                raise
            finally:
                if fd >= 0:
                    os.close(fd)

    def release(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def is_in_place(self) -> bool:
        """Whether the file that is locked is still the one at the path."""
        return _same_file(self.fd, self.path)

    def remove(self) -> None:
        """Give up the lock, which is owned alone, together with its file; also for children of fork(2) that hold it."""
        remove(self.path)
        if self.fd >= 0:
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        self.release()

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_locked(path: str) -> bool:
    """Whether somebody owns the lock at `path`, which is neither made nor, for longer than the look, taken."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as e:
        if e.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return True
    finally:
        os.close(fd)
    return False


def _same_file(fd: int, path: str) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


# -- values in records ---------------------------------------------------------------------------


def to_json(value: Any) -> Json:
    """A NamedTuple as a JSON object with Docker's key spelling: `working_dir` → `WorkingDir`."""
    return {key.title().replace("_", ""): item for key, item in value._asdict().items()}


def from_json(kind: type[T], found: Json, path: str) -> T:
    """The reverse, for an object from the record at `path`.

    Unknown keys are ignored, missing ones have their defaults, so that versions can meet. Raises DataLoss
    if a field without a default is missing, or a value is not of its field's type.
    """
    shape = _shapes.get(kind)
    if shape is None:
        # By their annotations, which are text, as all here.
        shape = _shapes[kind] = {
            field.title().replace("_", ""): (field, *_types(annotation))
            for field, annotation in kind.__annotations__.items()
        }
    values = {}
    try:
        for key, item in found.items():
            if key in shape:
                field, allowed, inner = shape[key]
                if allowed and type(item) not in allowed:
                    raise _wrong(path, kind, field)
                if inner and item and type(item) is list and any(type(each) is not inner for each in item):
                    raise _wrong(path, kind, field)
                values[field] = item
        return kind(**values)
    except (TypeError, AttributeError) as e:
        raise DataLoss(f"cannot read {path}: {e}") from e


def _wrong(path: str, kind: type, field: str) -> DataLoss:
    return DataLoss(f"cannot read {path}: {field} is not of type {kind.__annotations__[field]}")


def _types(annotation: str) -> tuple[tuple[type, ...], type | None]:
    """The JSON types that an annotation allows (str, list[str], dict[str, Any] | None …), and that of a list's items.

    What is inside a dict is not looked at. No types: one of our own values, which its owner reads.
    """
    allowed: list[type] = []
    inside = None
    for alternative in annotation.split(" | "):
        name, _, inner = alternative.partition("[")
        if name not in _TYPES:
            return (), None
        allowed.append(_TYPES[name])
        if name == "list":
            inside = _TYPES.get(inner[:-1].partition("[")[0])
    return tuple(allowed), inside


# Records are read by the thousand, and their classes are few.
_shapes: dict[type, dict[str, tuple[str, tuple[type, ...], type | None]]] = {}
_TYPES: dict[str, type] = {
    "str": str, "int": int, "bool": bool, "float": float, "list": list, "dict": dict, "None": type(None),
}  # fmt: skip
