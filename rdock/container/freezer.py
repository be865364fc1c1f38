"""Pausing a container: by the freezer of its control group, else by stopping its processes one by one.

The freezer is complete and unseen from inside. Without a delegated group every process is sent SIGSTOP,
again and again until none is left that runs, since they may fork meanwhile; a shell inside that looks for
stopped children can notice.
"""

from __future__ import annotations

import os
import time

from rdock.container import processes
from rdock.errors import SystemFailure
from rdock.linux import signals
from rdock.linux.cgroup import Cgroup

# How often the list of processes is gone through. One that makes others faster than they are stopped loses in the
# end, since it is stopped itself.
_ROUNDS = 1000
_STILL = "TtZX"


def freeze(group: Cgroup | None, pid: int, *, alone: bool) -> None:
    """Stop all processes of the container whose process 1 is `pid`.

    `alone`: it has a pid namespace of its own. Raises SystemFailure if they do not stop, and lets them go on.
    """
    try:
        if group is not None and os.path.exists(f"{group.path}/cgroup.freeze"):
            group.freeze()
            return
        for _ in range(_ROUNDS):
            if not _stop(processes.inside(pid, alone=alone)):
                return
            time.sleep(0.001)
        raise TimeoutError("its processes do not stop")
    except OSError as e:
        thaw(group, pid, alone=alone)
        raise SystemFailure(f"cannot pause the container: {e.strerror or e}") from e


def thaw(group: Cgroup | None, pid: int, *, alone: bool) -> None:
    """Let them go on."""
    if group is not None and os.path.exists(f"{group.path}/cgroup.freeze"):
        try:
            group.thaw()
        except OSError as e:
            raise SystemFailure(f"cannot unpause the container: {e.strerror or e}") from e
        return
    for each, _ in processes.inside(pid, alone=alone):
        _send(each, signals.SIGCONT)


def _stop(found: list[tuple[int, str]]) -> bool:
    """Whether one had to be stopped."""
    running = [pid for pid, state in found if state not in _STILL]
    for pid in running:
        _send(pid, signals.SIGSTOP)
    return bool(running)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
