"""A container as Docker's API shows it: the object of `inspect`, and what `ps` says of mounts, networks and ports.

Keys stand in the order of the API's structs, maps are sorted; what is null and what is empty there is so here.
"""

from __future__ import annotations

import os

from rdock.container.containers import Container, State
from rdock.network import endpoint, modes
from rdock.network.subnet import Subnet
from rdock.state import record, timestamp
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from rdock.container.size import Size
    from rdock.network.leases import Lease
    from rdock.network.networks import Network

RUNNING = ("running", "paused", "restarting")


def describe(container: Container, size: Size | None = None) -> dict[str, Any]:
    """The whole object; with `size` also what the container holds on disk."""
    state = container.state()
    status = state.status
    args = (container.config.entrypoint or []) + (container.config.cmd or [])
    found = {
        "Id": container.id,
        "Created": container.created,
        "Path": args[0] if args else "",
        "Args": args[1:],
        "State": _state(state, status),
        "Image": f"sha256:{container.image}" if container.image else "",
        **({"Rootfs": container.rootfs} if container.rootfs else {}),
        "ResolvConfPath": os.path.join(container.directory, "resolv.conf"),
        "HostnamePath": os.path.join(container.directory, "hostname"),
        "HostsPath": os.path.join(container.directory, "hosts"),
        "LogPath": container.log_path,
        "Name": f"/{container.name}",
        "RestartCount": state.restart_count,
        "Driver": container.driver,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": _host_config(container),
        "GraphDriver": {"Data": _graph(container), "Name": container.driver},
        "Mounts": mounts(container),
        "Config": _config(container),
        "NetworkSettings": _network(container, state, status),
        "IdMode": container.id_mode,
    }
    if size is None:
        return found
    place = list(found).index("Mounts")
    items = list(found.items())
    return dict([*items[:place], ("SizeRw", size.writable), ("SizeRootFs", size.root), *items[place:]])


def _state(state: State, status: str) -> dict[str, Any]:
    running = status in RUNNING
    return {
        "Status": status,
        "Running": running,
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": False,
        "Dead": status == "dead",
        "Pid": state.pid if running and status != "restarting" else 0,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started_at or timestamp.ZERO,
        "FinishedAt": state.finished_at or timestamp.ZERO,
    }


# -- configuration ---------------------------------------------------------------------------------

# What Docker shows for a value that is not set. ABSENT: the key itself is left out (Go's omitempty).
ABSENT = object()
_CONFIG: dict[str, Any] = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False,
    "ExposedPorts": ABSENT, "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": None, "Cmd": None,
    "Healthcheck": ABSENT, "ArgsEscaped": ABSENT, "Image": "", "Volumes": None, "WorkingDir": "", "Entrypoint": None,
    "NetworkDisabled": ABSENT, "MacAddress": ABSENT, "OnBuild": None, "Labels": {}, "StopSignal": ABSENT,
    "StopTimeout": ABSENT, "Shell": ABSENT,
}  # fmt: skip
_HOST_CONFIG: dict[str, Any] = {
    "Binds": None, "ContainerIDFile": "", "LogConfig": {}, "NetworkMode": "", "PortBindings": {}, "RestartPolicy": {},
    "AutoRemove": False, "VolumeDriver": "", "VolumesFrom": None, "ConsoleSize": [0, 0], "Annotations": ABSENT,
    "CapAdd": None, "CapDrop": None, "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [],
    "ExtraHosts": None, "GroupAdd": None, "IpcMode": "", "Cgroup": "", "Links": None, "OomScoreAdj": 0, "PidMode": "",
    "Privileged": False, "PublishAllPorts": False, "ReadonlyRootfs": False, "SecurityOpt": None, "StorageOpt": ABSENT,
    "Tmpfs": ABSENT, "UTSMode": "", "UsernsMode": "", "ShmSize": 0, "Sysctls": ABSENT, "Runtime": ABSENT,
    "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "", "BlkioWeight": 0,
    "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [], "BlkioDeviceReadIOps": [],
    "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0,
    "CpusetCpus": "", "CpusetMems": "", "Devices": [], "DeviceCgroupRules": None, "DeviceRequests": None,
    "MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": None, "OomKillDisable": None, "PidsLimit": None,
    "Ulimits": [], "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0, "Mounts": ABSENT,
    "MaskedPaths": None, "ReadonlyPaths": None, "Init": ABSENT,
}  # fmt: skip


def _in_shape(values: Mapping[str, Any], shape: Mapping[str, Any]) -> dict[str, Any]:
    """Values under the keys of a shape, in its order and spelling; what the shape does not know comes last."""
    given = {key.lower(): value for key, value in values.items()}
    found = {}
    for key, zero in shape.items():
        value = given.pop(key.lower(), None) or zero
        if value is not ABSENT:
            found[key] = value
    spelled = {key.lower(): key for key in values}
    # rdock's own, which Docker's programs do not know, only where they say something.
    return found | {spelled[key]: value for key, value in given.items() if value}


def _sorted(found: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(found.items()))


def _config(container: Container) -> dict[str, Any]:
    config = container.config
    values = record.to_json(config) | {"Image": config.image or container.image_name}
    if config.exposed_ports or container.host_config.port_bindings:
        # As in Docker, a port that is published is exposed.
        ports = {*config.exposed_ports, *container.host_config.port_bindings}
        values["ExposedPorts"] = {port: {} for port in sorted(ports)}
    found = _in_shape(values, _CONFIG)
    if config.stop_timeout == 0:
        found["StopTimeout"] = 0
    return found | {"Labels": _sorted(config.labels)}


def _host_config(container: Container) -> dict[str, Any]:
    host = container.host_config
    values = record.to_json(host)
    if not host.privileged:
        from rdock.container import spec

        values |= {"MaskedPaths": spec.MASKED_PATHS, "ReadonlyPaths": spec.READONLY_PATHS}
    if host.links:
        values["Links"] = _links(container)
    return _in_shape({key: _sorted(v) if key in _MAPS else v for key, v in values.items()}, _HOST_CONFIG)


def _links(container: Container) -> list[str] | None:
    """As the daemon tells them: `/TARGET:/CONTAINER/ALIAS`, of those targets that exist."""
    from rdock.container import containers, linking
    from rdock.errors import RdockError

    found = []
    for alias, target in linking.of(container).items():
        try:
            found.append(f"/{containers.load(target).name}:/{container.name}/{alias}")
        except RdockError:
            continue
    return sorted(found) or None


_MAPS = ("Annotations", "PortBindings", "Sysctls", "Tmpfs")


# -- storage ---------------------------------------------------------------------------------------


def _graph(container: Container) -> dict[str, str] | None:
    """Where its layers lie; the copy driver has none, nor has a root without an image."""
    if container.driver == "copy" or container.rootfs:
        return None
    from rdock import paths
    from rdock.errors import DataLoss, NotFound
    from rdock.image import images

    try:
        chains = images.lookup(container.image).chain_ids
    except (NotFound, DataLoss):
        chains = []
    return {
        "LowerDir": ":".join(os.path.join(paths.layer(chain), "diff") for chain in reversed(chains)),
        "MergedDir": container.root,
        "UpperDir": os.path.join(container.directory, "upper"),
        "WorkDir": os.path.join(container.directory, "work"),
    }


def mounts(container: Container) -> list[dict[str, Any]]:
    """Docker's Mounts: binds, volumes and what else was mounted with `--mount`, but not with `--tmpfs`."""
    if not container.mount_points and not container.host_config.binds:
        return []
    from rdock.container import mount_points

    return [point.describe() for point in mount_points.of(container)]


# -- networks --------------------------------------------------------------------------------------


def network_names(container: Container) -> list[str]:
    """The networks that a container is in."""
    if container.networks:
        return sorted(container.networks)
    mode = modes.kind(container.host_config.network_mode)
    return ["bridge"] if mode == "default" else [mode] if mode in modes.MODES else []


def _network(container: Container, state: State, status: str) -> dict[str, Any]:
    running = status in ("running", "paused")
    own = running and container.host_config.network_mode != "host"
    endpoints = _endpoints(container, state, running=running)
    # The fields of the default network stand outside as well, where they were before there were others.
    first = endpoints.get("bridge") or (_endpoint() if container.networks else next(iter(endpoints.values()), {}))
    return {
        "Bridge": "",
        # The network namespace is as good as its process, and is known by it.
        "SandboxID": container.id if own else "",
        "SandboxKey": f"/proc/{state.pid}/ns/net" if own else "",
        "Ports": _sorted({**dict.fromkeys(container.config.exposed_ports), **state.ports}) if running else {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": first.get("EndpointID", ""),
        "Gateway": first.get("Gateway", ""),
        "GlobalIPv6Address": first.get("GlobalIPv6Address", ""),
        "GlobalIPv6PrefixLen": first.get("GlobalIPv6PrefixLen", 0),
        "IPAddress": first.get("IPAddress", ""),
        "IPPrefixLen": first.get("IPPrefixLen", 0),
        "IPv6Gateway": first.get("IPv6Gateway", ""),
        "MacAddress": first.get("MacAddress", ""),
        "Networks": endpoints,
    }


def _endpoint(**known: Any) -> dict[str, Any]:
    """Docker's EndpointSettings with what is known of them."""
    return {
        "IPAMConfig": None, "Links": None, "Aliases": None, "MacAddress": "", "DriverOpts": None, "GwPriority": 0,
        "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "", "IPPrefixLen": 0,
        "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": None, **known,
    }  # fmt: skip


def _endpoints(container: Container, state: State, *, running: bool) -> dict[str, Any]:
    """NetworkSettings.Networks of the API."""
    if not container.networks:
        known = {}
        if running and state.subnet:
            subnet = Subnet.parse(state.subnet)
            known = {"Gateway": subnet.gateway, "IPAddress": subnet.address, "IPPrefixLen": subnet.length}
        return {name: _endpoint(**known) for name in network_names(container)}
    from rdock.network import leases, networks

    found = {}
    for name, settings in sorted(container.networks.items()):
        network = networks.find(name)
        lease = leases.of_network(network.id).get(container.id) if network and running else None
        found[name] = _endpoint(**settings, NetworkID=network.id if network else "")
        if network and lease:
            found[name] |= _connected(network, lease)
    return found


def _connected(network: Network, lease: Lease) -> dict[str, Any]:
    pool, pool6 = network.pool(4), network.pool(6)
    return {
        "EndpointID": lease.endpoint, "MacAddress": lease.mac, "IPAddress": lease.address,
        "Gateway": str(pool.gateway) if pool and not network.internal else "",
        "IPPrefixLen": pool.block.length if pool else 0, "GlobalIPv6Address": lease.address6,
        "IPv6Gateway": str(pool6.gateway) if pool6 and not network.internal else "",
        "GlobalIPv6PrefixLen": pool6.block.length if pool6 else 0,
        "DNSNames": [lease.name, *lease.names] if lease.names else None,
    }  # fmt: skip


# -- ports -----------------------------------------------------------------------------------------


class Port(Value):
    """A port of a running container: exposed, or published with an address and a public number."""

    private: int
    ip: str
    public: int
    protocol: str

    @property
    def order(self) -> tuple[int, str, int, str]:
        return self.private, self.ip, self.public, self.protocol


def ports(container: Container, state: State) -> list[Port]:
    """Those of a container that runs, in the order in which Docker shows them."""
    found = []
    for key, bindings in {**dict.fromkeys(container.config.exposed_ports), **state.ports}.items():
        number, _, protocol = key.partition("/")
        if not endpoint.is_number(number):
            continue  # an image may call anything a port
        private, protocol = int(number), protocol or "tcp"
        found += [
            Port(private, entry["HostIp"] or "0.0.0.0", int(entry["HostPort"] or 0), protocol)
            for entry in bindings or ()
        ] or [Port(private, "", 0, protocol)]
    return sorted(found, key=lambda port: port.order)


def describe_ports(container: Container, state: State, status: str) -> str:
    """The PORTS column of `ps`: `80/tcp`, `0.0.0.0:8080->80/tcp`; ports in a row are drawn together."""
    if status not in ("running", "paused") or not (state.ports or container.config.exposed_ports):
        return ""
    return _join_ports(ports(container, state))


def _join_ports(found: Sequence[Port]) -> str:
    """As docker/cli: first the finished runs, then the last run of each kind, then those with another number."""
    runs: dict[tuple[str, str], tuple[int, int]] = {}
    shown: list[str] = []
    moved: list[str] = []
    for port in found:
        if port.ip and port.public != port.private:
            moved.append(f"{_bracketed(port.ip)}:{port.public}->{port.private}/{port.protocol}")
            continue
        kind = port.ip, port.protocol
        first, last = runs.get(kind, (port.private, port.private - 1))
        if port.private != last + 1:
            shown.append(_run(kind, first, last))
            first = port.private
        runs[kind] = first, port.private
    return ", ".join([*shown, *(_run(kind, *run) for kind, run in runs.items()), *moved])


def _run(kind: tuple[str, str], first: int, last: int) -> str:
    ip, protocol = kind
    numbers = str(first) if first == last else f"{first}-{last}"
    return f"{_bracketed(ip)}:{numbers}->{numbers}/{protocol}" if ip else f"{numbers}/{protocol}"


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
