"""The facts of `rdock info`: what is there and what is used, in Docker's spelling where Docker has the fact."""

from __future__ import annotations

import os
import platform

from rdock import __version__, config, launch, paths
from rdock.container import containers
from rdock.image import images
from rdock.linux import cgroup, idmap
from rdock.runtime import rootless
from rdock.storage import driver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def info() -> dict[str, Any]:
    """All of them; for a process that can enter the user's namespaces. Raises what that raises."""
    settings = config.current()
    entered = rootless.entered()
    states = [container.state().status for container in containers.all_containers()]
    group = cgroup.probe()
    return {
        "Containers": len(states),
        "ContainersRunning": states.count("running"),
        "ContainersPaused": states.count("paused"),
        "ContainersStopped": states.count("exited") + states.count("created"),
        "Images": len(images.list_images()),
        "Driver": driver.chosen(),
        "DockerRootDir": paths.data(),
        "Name": os.uname().nodename,
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs" if group else "none",
        "IdMode": entered.mode,
        "Ids": min(sum(entry.size for entry in idmap.read_map(kind)) for kind in ("uid", "gid")),
        "CgroupVersion": "2" if group else "none delegated",
        "CgroupParent": group.parent if group else "",
        "DefaultRuntime": settings.runtime,
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "macvlan", "null"],
            "Authorization": None,
            "Log": ["json-file", "local", "none"],
        },
        "DefaultNetwork": settings.network,
        "WayOut": "slirp4netns" if launch.find_program("slirp4netns") else "",
        "ClientAddresses": _client_addresses(),
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"],
        "KernelVersion": os.uname().release,
        "OperatingSystem": _operating_system(),
        "OSType": "linux",
        "Architecture": platform.machine(),
        "NCPU": os.cpu_count() or 0,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "DataRoot": paths.data(),
        "RuntimeRoot": paths.runtime(),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": [name for name in settings.insecure_registries if "/" in name],
            "IndexConfigs": {
                "docker.io": {
                    "Name": "docker.io",
                    "Mirrors": list(settings.registry_mirrors),
                    "Secure": True,
                    "Official": True,
                },
                **{
                    name: {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
                    for name in settings.insecure_registries
                    if "/" not in name
                },
            },
            "Mirrors": list(settings.registry_mirrors),
        },
        "Swarm": {"LocalNodeState": "inactive"},
        "LiveRestoreEnabled": True,
        "Warnings": None,
        "ServerVersion": __version__,
        "PythonVersion": platform.python_version(),
    }


def _client_addresses() -> str:
    """Whether servers in containers see who their clients are; the hub, if there is one, knows what the kernel can."""
    from rdock.network import hub

    use = hub.use_existing()
    if use is not None:
        use.connection.close()
        os.close(use.namespace)
        if not use.transparent:
            return "not kept: the kernel lacks the socket expression of nftables, or policy routing"
    return "kept, but for those of the loopback"


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
