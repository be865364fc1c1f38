"""The two ways to execute a bundle: rdock's own runtime, or an external OCI runtime such as crun or runc.

Both take the same config.json and behave alike; the monitor does not know which one it has.
"""

from __future__ import annotations

import os

from rdock.runtime import parent, remains
from rdock.runtime.parent import Created, Meanwhile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from rdock.runtime.external import External


class Builtin:
    """rdock's own: the OCI operations (runtime spec 1.2, runtime.md) as the monitor uses them."""

    def __init__(self) -> None:
        self.remains: dict[str, int] = {}
        """Descriptors of the namespaces by which to find what process 1 may leave behind; see remains.py."""

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
            spec, stdio, program=program, join_cgroup=join_cgroup, meanwhile=meanwhile, remains=self.remains
        )

    def start(self, created: Created) -> None:
        parent.start(created)

    def delete(self, container_id: str, bundle: str) -> None:
        """Nothing of it outlives its process, unless it has no pid namespace of its own."""
        if not self.remains:
            return
        remains.end(self.remains)
        for fd in self.remains.values():
            os.close(fd)
        self.remains.clear()


Engine: TypeAlias = "Builtin | External"


def choose(name: str) -> Engine:
    """The OCI runtime of that name or path, rdock's own for an empty one. Raises Unavailable if it is not there."""
    if not name:
        return Builtin()
    from rdock.runtime.external import External

    return External(name)
