"""Sockets of a network namespace, for a process that is in another and has no way back from there."""

from __future__ import annotations

import _thread
import errno

from rdock.linux import namespaces, sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def maker(namespace: int) -> Callable[[int, int], sockets.socket]:
    """What makes sockets, by family and kind, in the namespace of a descriptor, which stays open. It raises OSError.

    A thread enters it, as threads may alone (setns(2)), and ends. That takes a tenth of a millisecond.
    """

    def make(family: int, kind: int) -> sockets.socket:
        made: list[sockets.socket | OSError] = []
        busy = _thread.allocate_lock()
        busy.acquire()

        def work() -> None:
            try:
                namespaces.setns(namespace, namespaces.CLONE_NEWNET)
                made.append(sockets.socket(family, kind))
            except OSError as e:
                made.append(e)
            finally:
                busy.release()

        try:
            _thread.start_new_thread(work, ())
        except RuntimeError as e:
            raise OSError(errno.EAGAIN, str(e)) from e
        busy.acquire()
        found = made[0] if made else OSError(errno.ENOMEM, "no socket")
        if isinstance(found, OSError):
            raise found
        return found

    return make
