"""The processes of a container, by the machine's own ps: nothing of the image is executed (CVE-2022-1227)."""

from __future__ import annotations

from rdock import launch
from rdock.container.containers import Container
from rdock.container.processes import inside as in_container
from rdock.errors import Conflict, InvalidParameter, NotRunning, SystemFailure


def processes(container: Container, arguments: list[str]) -> list[list[str]]:
    """What `ps ARGUMENTS` says of a container's processes: rows of cells, the first with the titles.

    Raises NotRunning, Conflict; Unavailable without ps; InvalidParameter if it refuses the arguments or tells no pid.
    """
    state = container.state()
    if state.status == "restarting":
        raise Conflict(f"container {container.id} is restarting, wait until the container is running")
    if not state.can_be_signalled:
        raise NotRunning(container.id)
    alone = container.host_config.has_own_pids
    inside = {str(pid) for pid, _ in in_container(state.pid, alone=alone)}
    status, text = launch.run([launch.program("ps"), *(arguments or ["-ef"])])
    lines = text.splitlines()
    if status or not lines:
        raise InvalidParameter(f"ps: {text or 'no output'}".split("\n")[0])
    titles = lines[0].split()
    if "PID" not in titles:
        raise SystemFailure("Couldn't find PID field in ps output")
    place = titles.index("PID")
    rows = [line.split(None, len(titles) - 1) for line in lines[1:]]
    return [titles, *(row for row in rows if len(row) > place and row[place] in inside)]
