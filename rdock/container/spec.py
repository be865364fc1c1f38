"""From a container to its OCI runtime spec (config.json, version 1.2), the same for every runtime.

Pure translation: what is asked for is in the container's record, where its root is mounted and who
its user is are arguments, nothing is read or changed here. Image content has no say in isolation:
from the image come only arguments, environment, directory and user, already merged into the record.
"""

from __future__ import annotations

import os

from rdock import launch
from rdock.container import capability_sets, process_limits, security_options
from rdock.container.config import DEFAULT_PATH, SHM_SIZE, HostConfig, merge_env
from rdock.container.containers import Container
from rdock.container.sharing import NOTHING_SHARED, Shared
from rdock.container.users import User
from rdock.errors import InvalidParameter
from rdock.linux import idmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

# Nothing newer than 1.0.2 is used in it, and older runtimes refuse a later number.
OCI_VERSION = "1.0.2"

MASKED_PATHS = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
]
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
INIT_PATH = "/sbin/docker-init"
NOTHING_PREPARED: Mapping[str, str] = {}


def build(
    container: Container,
    *,
    user: User,
    files: dict[str, str],
    uids: tuple[idmap.Mapping, ...],
    gids: tuple[idmap.Mapping, ...],
    cgroup_path: str = "",
    console_size: tuple[int, int] | None = None,
    shared: Shared = NOTHING_SHARED,
    devices: list[tuple[str, str]] | tuple[()] = (),
    linked: Sequence[str] = (),
    sources: Mapping[str, str] = NOTHING_PREPARED,
) -> dict[str, Any]:
    """The spec of a container's next run.

    `files` are the generated ones (target → path on the host), `uids` and `gids` the container's id map below the
    user namespace that rdock itself is in, `devices` nodes of the host with their places in the container, `linked` the
    variables that tell of containers it is linked to, `sources` what was prepared for mounts, by their destinations
    (mounting.py).
    Raises InvalidParameter.
    """
    config, host = container.config, container.host_config
    capabilities = capability_sets.resolve(host.cap_add, host.cap_drop, host.privileged)
    hosts = (*shared.hosts, *(["network"] if host.network_mode == "host" else []))
    kinds = [
        kind for kind in ("user", "pid", "mount", "uts", "ipc", "cgroup", "network") if kind not in hosts
    ]  # fmt: skip
    spec: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "root": {"path": container.root, "readonly": host.readonly_rootfs},
        "hostname": config.hostname,
        "process": process(
            container,
            user=user,
            args=([INIT_PATH, "--"] if host.init else []) + command_of(container),
            env=merge_env(linked, config.env),
            cwd=config.working_dir or "/",
            terminal=config.tty,
            capabilities=capabilities,
            console_size=console_size,
        ),
        "mounts": _mounts(container, files, gids, shared, devices, sources, cgroup=bool(cgroup_path)),
        "linux": {
            "namespaces": [
                {"type": kind, "path": shared.paths[kind]} if kind in shared.paths else {"type": kind}
                for kind in kinds
            ],
            "sysctl": {**_sysctls(host.network_mode, gids), **host.sysctls},
        },
        "annotations": {"org.opencontainers.image.ref.name": container.image_name, **host.annotations},
    }  # fmt: skip
    if "uts" in hosts:
        del spec["hostname"]  # it is the host's
    elif config.domainname:
        spec["domainname"] = config.domainname
    if "user" not in shared.paths:
        spec["linux"] |= {"uidMappings": _id_map(uids), "gidMappings": _id_map(gids)}
    if cgroup_path:
        spec["linux"]["cgroupsPath"] = cgroup_path
    if any(point.get("Propagation") not in (None, "", "private", "rprivate") for point in container.mount_points or ()):
        # What is mounted on the host later is seen below such a mount; never the other way round.
        spec["linux"]["rootfsPropagation"] = "rslave"
    if not host.privileged and not security_options.shows_system_paths(host.security_opt):
        spec["linux"]["maskedPaths"] = MASKED_PATHS
        spec["linux"]["readonlyPaths"] = READONLY_PATHS
    profile = None if host.privileged else security_options.seccomp(host.security_opt, capabilities)
    if profile is not None:
        spec["linux"]["seccomp"] = profile
    return spec


def command_of(container: Container) -> list[str]:
    return (container.config.entrypoint or []) + (container.config.cmd or [])


def process(
    container: Container,
    *,
    user: User,
    args: list[str],
    env: list[str],
    cwd: str,
    terminal: bool,
    capabilities: list[str],
    console_size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The spec's `process` object, for process 1 and for exec alike."""
    if not args:
        raise InvalidParameter("no command specified")
    host = container.host_config
    defaults = [DEFAULT_PATH, f"HOSTNAME={container.config.hostname}"]
    if terminal:
        defaults.append("TERM=xterm")
    # A program that is not root starts with no capability in force; the bounding set limits what a
    # setuid program may regain (CVE-2018-10856).
    held = capabilities if user.uid == 0 else []
    result: dict[str, Any] = {
        "terminal": terminal,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups, "umask": 0o022},
        "args": args,
        "env": merge_env(defaults, [f"HOME={user.home}"], env),
        "cwd": cwd,
        "capabilities": {
            "bounding": capabilities, "effective": held, "permitted": held, "inheritable": [], "ambient": [],
        },
        "noNewPrivileges": security_options.no_new_privileges(host.security_opt),
    }  # fmt: skip
    if host.oom_score_adj or host.ulimits:
        result["rlimits"] = process_limits.rlimits(host.ulimits)
        if host.oom_score_adj:
            result["oomScoreAdj"] = process_limits.possible_oom_score(host.oom_score_adj)
    if console_size:
        result["consoleSize"] = {"height": console_size[0], "width": console_size[1]}
    return result


def _id_map(mappings: tuple[idmap.Mapping, ...]) -> list[dict[str, int]]:
    return [{"containerID": entry.inside, "hostID": entry.outside, "size": entry.size} for entry in mappings]


def _sysctls(network_mode: str, gids: tuple[idmap.Mapping, ...]) -> dict[str, str]:
    """Inside its own network a container may bind low ports and ping, as with Docker."""
    if network_mode == "host":
        return {}
    ordered = sorted(gids, key=lambda entry: entry.inside)
    first = ordered[0].inside
    last = first - 1
    for entry in ordered:
        if entry.inside == last + 1:
            last += entry.size
    return {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": f"{first} {last}"}


def _mounts(
    container: Container,
    files: dict[str, str],
    gids: tuple[idmap.Mapping, ...],
    shared: Shared,
    devices: list[tuple[str, str]] | tuple[()],
    sources: Mapping[str, str],
    *,
    cgroup: bool,
) -> list[dict[str, Any]]:
    host = container.host_config
    plain = ["nosuid", "noexec", "nodev"]
    has_tty_group = any(entry.inside <= 5 < entry.inside + entry.size for entry in gids)
    devpts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *(["gid=5"] if has_tty_group else [])]
    read_only = [] if host.privileged else ["ro"]
    groups = []
    if shared.cgroups:
        groups = [_mount("/sys/fs/cgroup", "bind", shared.cgroups, ["rbind", *plain, "ro"])]
    elif cgroup:
        groups = [_mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", *read_only])]
    if host.network_mode == "host":
        # sysfs shows a network namespace, and may be mounted only by who owns that.
        sys = _mount("/sys", "bind", "/sys", ["rbind", "nosuid", "noexec", "nodev", *read_only])
        # The host's groups come with its /sys, and those of the user's session are writable for it (CVE-2023-25809).
        # They are covered, by the container's own if it has one, which could not be mounted right on top of them.
        covered = ["nosuid", "noexec", "nodev", "ro", "mode=755", "size=4k"]
        groups.insert(0, _mount("/sys/fs/cgroup", "tmpfs", "tmpfs", covered))
    else:
        sys = _mount("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", *read_only])
    mounts = [
        # A proc of the host's pid namespace may be mounted only by who owns that.
        _mount("/proc", "bind", "/proc", ["rbind", *plain])
        if "pid" in shared.hosts
        else _mount("/proc", "proc", "proc", plain),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", "devpts", devpts),
        sys,
        *_ipc_mounts(host, shared, plain),
        *groups,
        *(_mount(target, "bind", source, ["rbind", "rprivate"]) for target, source in files.items()),
    ]
    wanted = {
        target: _mount(target, "tmpfs", "tmpfs", _tmpfs_options(options)) for target, options in host.tmpfs.items()
    }
    if container.mount_points or host.binds:
        from rdock.container import mount_entries

        wanted |= mount_entries.of(container, sources, devpts)
    for source, target in devices:
        wanted[target] = _mount(target, "bind", source, ["bind", "nosuid", "noexec"])
    if host.init:
        wanted[INIT_PATH] = _mount(INIT_PATH, "bind", init_program(host), ["bind", "ro", "nosuid", "nodev"])
    # Outer directories first, else they would cover the inner ones.
    return mounts + [wanted[target] for target in sorted(wanted, key=lambda path: path.count("/"))]


def _ipc_mounts(host: HostConfig, shared: Shared, plain: list[str]) -> list[dict[str, Any]]:
    """Where System V's successors are: they show an IPC namespace, the container's own or one that it shares."""
    if "ipc" in shared.hosts:
        queues = [_mount("/dev/mqueue", "bind", "/dev/mqueue", ["bind", *plain])]
        queues = queues if os.path.isdir("/dev/mqueue") else []
    else:
        queues = [_mount("/dev/mqueue", "mqueue", "mqueue", plain)]
    if host.ipc_mode == "none":
        return queues
    if shared.shared_memory:
        return [*queues, _mount("/dev/shm", "bind", shared.shared_memory, ["bind", *plain])]
    # To a tmpfs no bytes mean no limit; to Docker, its default.
    size = host.shm_size or SHM_SIZE
    return [*queues, _mount("/dev/shm", "tmpfs", "shm", [*plain, "mode=1777", f"size={size}"])]


def init_program(host: HostConfig) -> str:
    """The init that `--init` puts before the container's program."""
    return host.init_path or launch.init_program()


def _mount(target: str, fstype: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": fstype, "source": source, "options": options}


def _tmpfs_options(text: str) -> list[str]:
    given = [word for word in text.split(",") if word]
    return [*(word for word in ("noexec", "nosuid", "nodev") if word.removeprefix("no") not in given), *given]
