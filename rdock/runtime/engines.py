"""The two ways to execute a bundle: rdock's own runtime, or an external OCI runtime such as crun or runc.

Both take the same config.json and behave alike; the monitor does not know which one it has.
"""

from __future__ import annotations

import os

from rdock.linux import namespaces
from rdock.runtime import parent, remains
from rdock.runtime.parent import Created, Meanwhile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from rdock.runtime.external import External


BUILTIN = "rdock"


class Builtin:
    """rdock's own: the OCI operations (runtime spec 1.2, runtime.md) as the monitor uses them."""

    def __init__(self) -> None:
        self._remains: dict[str, int] = {}

    def create(
        self,
        container_id: str,
        bundle: str,
        spec: dict[str, Any],
        stdio: tuple[int, int, int],
        *,
        program: bytes | None,
        join_cgroup: Callable[[int], None],
        meanwhile: Meanwhile,
    ) -> Created:
        return parent.create(
            spec, stdio, program=program, join_cgroup=join_cgroup, meanwhile=meanwhile, remains=self._remains
        )

    def start(self, created: Created) -> None:
        parent.start(created)

    def adopt(self, pid: int, kinds: tuple[str, ...]) -> None:
        """Go on with a container that was started elsewhere, whose process 1 is `pid`.

        `kinds` are the namespaces by which its other processes can be found; none if it has its own pid namespace.
        """
        try:
            self._remains |= namespaces.open_all(pid, kinds)
        except OSError:
            pass  # it has just ended

    def delete(self, container_id: str, bundle: str) -> None:
        """Nothing of it outlives its process, unless it has no pid namespace of its own."""
        if not self._remains:
            return
        remains.end(self._remains)
        for fd in self._remains.values():
            os.close(fd)
        self._remains.clear()


Engine: TypeAlias = "Builtin | External"


def choose(name: str) -> Engine:
    """The engine of that name or path. Raises Unavailable if it is not installed."""
    if name == BUILTIN:
        return Builtin()
    from rdock.runtime.external import External

    return External(name)
