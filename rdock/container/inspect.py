"""A container as Docker's API shows it: the object of `inspect`, and the fields of `ps`."""

from __future__ import annotations

import os

from rdock.container.containers import Container, State
from rdock.network import endpoint
from rdock.network.subnet import PREFIX_LENGTH, Subnet
from rdock.state import record, timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def describe(container: Container) -> dict[str, Any]:
    """The whole object."""
    state = container.state()
    config, host = container.config, container.host_config
    args = (config.entrypoint or []) + (config.cmd or [])
    return {
        "Id": container.id,
        "Created": container.created,
        "Path": args[0] if args else "",
        "Args": args[1:],
        "State": {
            "Status": state.status,
            "Running": state.is_running,
            "Paused": state.status == "paused",
            "Restarting": False,
            "OOMKilled": False,
            "Dead": False,
            "Pid": state.pid if state.is_running else 0,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": state.started_at or timestamp.ZERO,
            "FinishedAt": state.finished_at or timestamp.ZERO,
        },
        "Image": f"sha256:{container.image}" if container.image else "",
        **({"Rootfs": container.rootfs} if container.rootfs else {}),
        "ResolvConfPath": os.path.join(container.directory, "resolv.conf"),
        "HostnamePath": os.path.join(container.directory, "hostname"),
        "HostsPath": os.path.join(container.directory, "hosts"),
        "LogPath": container.log_path,
        "Name": f"/{container.name}",
        "RestartCount": 0,
        "Driver": container.driver,
        "Platform": "linux",
        "IdMode": container.id_mode,
        "HostConfig": record.to_json(host),
        "GraphDriver": {
            "Name": container.driver,
            "Data": {
                "UpperDir": os.path.join(container.directory, "upper"),
                "WorkDir": os.path.join(container.directory, "work"),
                "MergedDir": container.root,
            },
        },
        "Mounts": _mounts(container),
        "Config": record.to_json(config),
        "NetworkSettings": _network(container, state),
    }


def _mounts(container: Container) -> list[dict[str, Any]]:
    found = []
    for bind in container.host_config.binds:
        source, target, *mode = bind.split(":")
        options = mode[0].split(",") if mode else []
        found.append(
            {
                "Type": "bind", "Source": source, "Destination": target, "Mode": ",".join(options),
                "RW": "ro" not in options, "Propagation": "rprivate",
            }
        )  # fmt: skip
    return found


def _network(container: Container, state: State) -> dict[str, Any]:
    mode, running = container.host_config.network_mode, state.is_running
    ports = {**dict.fromkeys(container.config.exposed_ports), **state.ports}
    connected = running and bool(state.subnet)
    subnet = Subnet(state.subnet)
    address = {
        "IPAddress": subnet.address if connected else "",
        "IPPrefixLen": PREFIX_LENGTH if connected else 0,
        "Gateway": subnet.gateway if connected else "",
    }
    return {"Ports": ports if running else {}, **address, "Networks": {mode: {**address}}}


def describe_ports(state: State) -> str:
    return endpoint.describe(state.ports) if state.is_running else ""
