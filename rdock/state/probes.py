"""What was found out about this machine by trying, remembered so that it is tried once.

An answer holds for one kernel and one store; `rdock doctor` asks anew. It is a cache: a missing or
damaged file only costs the trying.
"""

from __future__ import annotations

import os

from rdock import paths
from rdock.errors import RdockError
from rdock.state import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def remembered(name: str, probe: Callable[[], str], *, anew: bool = False) -> str:
    """The answer of `probe` for this kernel and store: empty for yes, else the reason why not."""
    key = f"{name} {os.uname().release} {os.stat(paths.data()).st_dev}"
    known = _read()
    if key in known and not anew:
        return str(known[key])
    answer = probe()
    _write({**_read(), key: answer})
    return answer


def first_time(name: str) -> bool:
    """Whether this name is new here; for what is to be said once."""
    known = _read()
    if name in known:
        return False
    _write({**known, name: True})
    return True


def _read() -> record.Json:
    try:
        return record.read(paths.probes()) or {}
    except RdockError:
        return {}


def _write(known: record.Json) -> None:
    try:
        os.makedirs(paths.cache(), mode=0o700, exist_ok=True)
        record.write(paths.probes(), known, durable=False)
    except (OSError, RdockError):
        pass
