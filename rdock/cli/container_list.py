"""ps: the list of containers."""

from __future__ import annotations

from rdock.cli import output
from rdock.cli.main import complain
from rdock.cli.usage import Options
from rdock.container import containers, inspect
from rdock.container.containers import Container, State
from rdock.errors import DataLoss, printable
from rdock.state import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PS_TEXT = """\
Usage:  rdock ps [OPTIONS]

List containers

Aliases:
  rdock container ls, rdock container list, rdock container ps, rdock ps

Options:
  -a, --all             Show all containers (default shows just running)
      --format string   Format output using a custom template
  -n, --last int        Show n last created containers (includes all states) (default -1)
  -l, --latest          Show the latest created container (includes all states)
      --no-trunc        Don't truncate output
  -q, --quiet           Only display container IDs
"""

_PS_COLUMNS = {
    "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "RunningFor": "CREATED", "Status": "STATUS",
    "Ports": "PORTS", "Names": "NAMES",
}  # fmt: skip


def ps(options: Options) -> int:
    last = _last(options)
    whole = options.flag("--no-trunc")
    rows = []
    damaged: list[DataLoss] = []
    for container in containers.all_containers(damaged)[:last]:
        state = container.state()
        if state.is_running or options.flag("--all") or last is not None:
            rows.append(_row(container, state, whole=whole))
    output.show(rows, _PS_COLUMNS, options, quiet_key="ID")
    return max([complain(error, 1) for error in damaged], default=0)


def _last(options: Options) -> int | None:
    """How many to show whatever their state; none asked for, as Docker has it, are 0 and any negative number."""
    last = options.number("--last")
    if last in (None, -1) and options.flag("--latest"):
        return 1
    return last if last is not None and last > 0 else None


def _row(container: Container, state: State, *, whole: bool) -> dict[str, Any]:
    config = container.config
    command = " ".join((config.entrypoint or []) + (config.cmd or []))
    created = timestamp.to_ns(container.created) / 1e9
    return {
        "ID": container.id if whole else container.short_id,
        "Image": container.image_name,
        "Command": _quoted(command if whole or len(command) <= 20 else command[:19] + "…"),
        "CreatedAt": container.created,
        "RunningFor": output.age(created) + " ago",
        "Status": status_text(state),
        "State": state.status,
        "Ports": inspect.describe_ports(state),
        "Names": container.name,
        "Labels": ",".join(f"{name}={value}" for name, value in config.labels.items()),
        "Mounts": ",".join(bind.split(":")[0] for bind in container.host_config.binds),
        "Networks": container.host_config.network_mode,
    }


def _quoted(text: str) -> str:
    """As Go's strconv.Quote: what an image calls its command must not steer the terminal."""
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def status_text(state: State) -> str:
    """Docker's sentence: `Up 2 minutes`, `Exited (0) 3 seconds ago`."""
    if state.is_running:
        since = output.age(timestamp.to_ns(state.started_at) / 1e9)
        return f"Up {since}" + (" (Paused)" if state.paused else "")
    if state.status == "created":
        return "Created"
    if not state.finished_at:
        return f"Exited ({state.exit_code})"
    return f"Exited ({state.exit_code}) {output.age(timestamp.to_ns(state.finished_at) / 1e9)} ago"
