"""top, port: what a running container does and where it is reached."""

from __future__ import annotations

import sys

from rdock.cli import output
from rdock.cli.usage import Options
from rdock.container import containers, top
from rdock.errors import NotFound
from rdock.network import endpoint

TOP_TEXT = """\
Usage:  rdock top CONTAINER [ps OPTIONS]

Display the running processes of a container

Aliases:
  rdock container top, rdock top
"""


def top_(options: Options) -> int:
    name, *words = options.arguments
    rows = top.processes(containers.lookup(name), words)
    sys.stdout.write("".join(line + "\n" for line in output.table(rows, least=20)))
    return 0


PORT_TEXT = """\
Usage:  rdock port CONTAINER [PRIVATE_PORT[/PROTO]]

List port mappings or a specific mapping for the container

Aliases:
  rdock container port, rdock port
"""


def port(options: Options) -> int:
    container = containers.lookup(options.arguments[0])
    state = container.state()
    ports = state.ports if state.is_running else {}
    if len(options.arguments) == 1:
        lines = [
            f"{key} -> {text}"
            for key, entries in sorted(ports.items(), key=_by_number)
            for text in endpoint.addresses(entries)
        ]
    else:
        wanted = endpoint.parse_private_port(options.arguments[1])
        lines = endpoint.addresses(ports.get(wanted, []))
        if not lines:
            raise NotFound(f"no public port '{wanted}' published for {options.arguments[0]}")
    sys.stdout.write("".join(line + "\n" for line in lines))
    return 0


def _by_number(port: tuple[str, object]) -> tuple[int, str]:
    number, _, protocol = port[0].partition("/")
    return int(number), protocol
