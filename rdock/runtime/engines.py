"""The two ways to execute a bundle: rdock's own runtime, or an external OCI runtime such as crun or runc.

Both take the same config.json and behave alike; the monitor does not know which one it has.
"""

from __future__ import annotations

from rdock.runtime import parent
from rdock.runtime.parent import Created, Meanwhile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from rdock.runtime.external import External


BUILTIN = "rdock"


class Builtin:
    """rdock's own: the OCI operations (runtime spec 1.2, runtime.md) as the monitor uses them."""

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
        return parent.create(spec, stdio, program=program, join_cgroup=join_cgroup, meanwhile=meanwhile)

    def start(self, created: Created) -> None:
        parent.start(created)

    def delete(self, container_id: str, bundle: str) -> None:
        """Nothing of it outlives its process."""


Engine: TypeAlias = "Builtin | External"


def choose(name: str) -> Engine:
    """The engine of that name or path. Raises Unavailable if it is not installed."""
    if name == BUILTIN:
        return Builtin()
    from rdock.runtime.external import External

    return External(name)
