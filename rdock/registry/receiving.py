"""Receiving blobs: taken up again where a connection breaks, and where a pull was killed in their midst.

What a server gives that is not of the blob's digest is asked of the next one (Client.distrust). Blobs are bytes
here; what they hold is the business of who pulls.
"""

from __future__ import annotations

import fcntl
import os
import time

from rdock import launch, paths
from rdock.errors import DataLoss, RegistryUnavailable
from rdock.image import blobs, storing
from rdock.registry.client import Client, Cut
from rdock.scope import scope
from rdock.storage import staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rdock.image.manifest import Descriptor

# A connection that brought less than so many bytes was fruitless, and after so many in a row nothing is hoped for.
ENOUGH, FRUITLESS = 64 << 10, 4
PAUSE = 0.5
# In staging, beside a blob that is being fetched: a link to nowhere, which says what is to become of it.
_LABEL = "digest"
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


def pieces(client: Client, descriptor: Descriptor, start: int, wait: Callable[[float], object]) -> Iterator[bytes]:
    """The content of a blob from `start` on, unchecked; over several connections if need be.

    `wait` is called with seconds before each further connection. Raises RegistryUnavailable when these bring
    hardly anything, and what Client.blob raises.
    """
    done, fruitless = start, 0
    while done < descriptor.size or descriptor.size == 0:
        before = done
        try:
            for chunk in client.blob(descriptor.digest, before):
                done += len(chunk)
                yield chunk
            return
        except Cut as e:
            fruitless = 0 if done - before >= ENOUGH else fruitless + 1
            if fruitless >= FRUITLESS:
                why = f"the connection broke again and again: {e.message}"
                raise RegistryUnavailable(f"blob {descriptor.digest}: {why}") from e
            wait(PAUSE * 2**fruitless)


def document(client: Client, descriptor: Descriptor) -> bytes:
    """A small blob, such as a config, verified. Raises DataLoss, and what `pieces` raises."""
    while True:
        try:
            return storing.small_blob(descriptor, pieces(client, descriptor, 0, time.sleep))
        except DataLoss:
            if not client.distrust(descriptor.digest):
                raise


# -- what a kill leaves --------------------------------------------------------------------------


class Writer(blobs.Writer):
    """A blob on its way to the store, which begins with what a killed pull has received of it."""

    def __init__(self, digest: str, size: int, *, anew: bool = False) -> None:
        """With `anew` nothing is taken over. Raises SystemFailure."""
        super().__init__(digest, size)
        self.inherited = 0
        """How many bytes there are to be read by `begin`, unverified."""
        try:
            os.symlink(digest, _LABEL, dir_fd=self._staged.fd)
            if not anew:
                self._inherit(digest, size)
        except OSError as e:
            # Then it is not taken over, or will not be.
            launch.debug(f"{digest}: {e}")

    def _inherit(self, digest: str, size: int) -> None:
        for name in staging.left_behind():
            if _label(name) != digest:
                continue
            with closing(os.open(os.path.join(paths.staging(), name), os.O_RDONLY | os.O_DIRECTORY | _FLAGS)) as place:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with closing(os.open("blob", os.O_RDWR | _FLAGS, dir_fd=place)) as found:
                    if not 0 < os.fstat(found).st_size <= size:
                        continue
                    os.rename("blob", "blob", src_dir_fd=place, dst_dir_fd=self._staged.fd)
                    os.dup2(found, self.fd, inheritable=False)
                    self.inherited = os.fstat(found).st_size
                    return

    def __enter__(self) -> Writer:
        return self

    def begin(self) -> Iterator[bytes]:
        """What is there already; to be read to its end before something is written."""
        while self.size < self.inherited:
            chunk = os.read(self.fd, min(blobs.CHUNK, self.inherited - self.size))
            if not chunk:
                raise DataLoss(f"blob {self.expected}: what was received earlier is damaged")
            self._hash.update(chunk)
            self.size += len(chunk)
            yield chunk


@scope
def closing(fd: int) -> Iterator[int]:
    """A descriptor for the length of a `with`."""
    try:
        yield fd
    finally:
        os.close(fd)


def _label(name: str) -> str:
    try:
        return os.readlink(os.path.join(paths.staging(), name, _LABEL))
    except OSError:
        return ""


def is_begun(digests: Iterable[str]) -> bool:
    """Whether a pull that was killed has left something of one of these blobs."""
    wanted = set(digests)
    for name in staging.left_behind():
        if _label(name) in wanted:
            return True
        try:
            with open(os.path.join(paths.staging(), name, staging.JOURNAL), encoding="utf-8") as file:
                if not wanted.isdisjoint(file.read().split()):
                    return True
        except (OSError, ValueError):
            continue
    return False
