"""The staging directory: where objects are made before a rename puts them in their place.

Each entry is locked (flock) by the process that makes it, so `sweep`, which every command that changes
the store runs first, can tell the rubbish of a killed process from work in progress. What is to be
removed is moved here as well: it vanishes from its place at once, and is deleted even if this process
is killed half-way.
"""

from __future__ import annotations

import fcntl
import os

from rdock import paths
from rdock.errors import SystemFailure, reason
from rdock.linux.tree import remove_tree
from rdock.scope import scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry:
    """A directory in staging that belongs to this process until it is closed.

    Whoever has renamed it to its final place must say so with `placed`, else closing removes it;
    `kept` leaves it to the next sweep.
    """

    def __init__(self) -> None:
        self.place = open_staging()
        while True:
            self.name = os.urandom(8).hex()
            os.mkdir(self.name, 0o700, dir_fd=self.place)
            try:
                self.fd = os.open(self.name, _DIRECTORY, dir_fd=self.place)
            except FileNotFoundError:
                continue
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            # A sweeper may have been faster than the lock, and have taken it for rubbish.
            if os.fstat(self.fd).st_nlink:
                break
            os.close(self.fd)
        self.path = os.path.join(paths.staging(), self.name)
        self.placed = False
        self.kept = False

    def close(self) -> None:
        try:
            if not self.placed and not self.kept:
                remove_tree(self.place, self.name)
        except OSError:
            # The disk may be failing or the entry be in use; the next command sweeps it.
            pass
        finally:
            os.close(self.fd)
            os.close(self.place)


@scope
def entry() -> Iterator[Entry]:
    """A staging directory for the length of a `with`. Raises SystemFailure."""
    try:
        made = Entry()
    except OSError as e:
        raise SystemFailure(f"cannot make a directory in {paths.staging()}: {reason(e)}") from e
    try:
        yield made
    finally:
        made.close()


def open_staging() -> int:
    """The directory itself, made if need be."""
    path = paths.staging()
    try:
        return os.open(path, _DIRECTORY)
    except FileNotFoundError:
        paths.make_private(paths.data())
        paths.make_private(path)
        return os.open(path, _DIRECTORY)


def discard(path: str) -> None:
    """Remove a file or a whole tree of the store; that it is gone already is no error. Raises SystemFailure."""
    delete(withdraw(path))


def withdraw(path: str) -> str:
    """Take a file or a tree out of the store, in one step; what is to be deleted now, empty if it was gone.

    That deleting it takes long, fails, or is left to a later sweep harms nobody. Raises SystemFailure.
    """
    try:
        place = open_staging()
        try:
            name = os.urandom(8).hex()
            os.rename(path, name, dst_dir_fd=place)
            return name
        except FileNotFoundError:
            return ""
        finally:
            os.close(place)
    except OSError as e:
        raise SystemFailure(f"cannot remove {path}: {reason(e)}") from e


def delete(name: str) -> None:
    """Delete what `withdraw` has named. Raises SystemFailure."""
    if not name:
        return
    try:
        place = open_staging()
        try:
            remove_tree(place, name)
        finally:
            os.close(place)
    except OSError as e:
        raise SystemFailure(f"cannot delete {paths.staging()}/{name}: {reason(e)}") from e


# An entry with this file in it lists what was to be made or removed; see image/journal.py.
JOURNAL = "journal"


def sweep(finish: Callable[[str], bool] | None = None) -> None:
    """Remove what killed processes left in staging. Never fails: what cannot be removed stays for the next time.

    `finish` is given the path of each journal found and says whether it is dealt with; without it
    journals stay.
    """
    try:
        place = os.open(paths.staging(), _DIRECTORY)
    except OSError:
        return
    try:
        for name in os.listdir(place):
            _sweep_entry(place, name, finish)
    except OSError:
        pass
    finally:
        os.close(place)


def is_anything_left() -> bool:
    """Whether there is something that nobody works on, without touching it."""
    return bool(left_behind())


def left_behind() -> list[str]:
    """What nobody works on, by name."""
    try:
        place = os.open(paths.staging(), _DIRECTORY)
    except OSError:
        return []
    try:
        return [name for name in sorted(os.listdir(place)) if not _is_locked(place, name)]
    except OSError:
        return []
    finally:
        os.close(place)


def _is_locked(place: int, name: str) -> bool:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _sweep_entry(place: int, name: str, finish: Callable[[str], bool] | None) -> None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except FileNotFoundError:
        return
    except OSError:
        # Not openable, such as a link: nothing that anybody works on.
        fd = -1
    try:
        if fd >= 0:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        journal = os.path.join(paths.staging(), name, JOURNAL)
        if os.path.exists(journal) and (finish is None or not finish(journal)):
            return
        remove_tree(place, name)
    except OSError:
        pass
    finally:
        if fd >= 0:
            os.close(fd)
