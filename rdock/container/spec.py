"""From a container to its OCI runtime spec (config.json, version 1.2), the same for every runtime.

Pure translation: what is asked for is in the container's record, where its root is mounted and who
its user is are arguments, nothing is read or changed here. Image content has no say in isolation:
from the image come only arguments, environment, directory and user, already merged into the record.
"""

from __future__ import annotations

from rdock import launch
from rdock.container import capability_sets, seccomp_default
from rdock.container.config import DEFAULT_PATH, SHM_SIZE, merge_env
from rdock.container.containers import Container
from rdock.container.users import User
from rdock.errors import InvalidParameter
from rdock.linux.idmap import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
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


def build(
    container: Container,
    *,
    user: User,
    files: dict[str, str],
    uids: tuple[Mapping, ...],
    gids: tuple[Mapping, ...],
    cgroup_path: str = "",
    console_size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The spec of a container's next run.

    `files` are the generated ones (target → path on the host), `uids` and `gids` the map of the user
    namespace that rdock itself is in. Raises InvalidParameter.
    """
    config, host = container.config, container.host_config
    capabilities = capability_sets.resolve(host.cap_add, host.cap_drop, host.privileged)
    namespaces = ["user", "pid", "mount", "uts", "ipc", "cgroup"]
    if host.network_mode != "host":
        namespaces.append("network")
    spec: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "root": {"path": container.root, "readonly": host.readonly_rootfs},
        "hostname": config.hostname,
        "process": process(
            container,
            user=user,
            args=([INIT_PATH, "--"] if host.init else []) + (config.entrypoint or []) + (config.cmd or []),
            env=config.env,
            cwd=config.working_dir or "/",
            terminal=config.tty,
            capabilities=capabilities,
            console_size=console_size,
        ),
        "mounts": _mounts(container, files, gids, cgroup=bool(cgroup_path)),
        "linux": {
            "namespaces": [{"type": kind} for kind in namespaces],
            "uidMappings": _identity(uids),
            "gidMappings": _identity(gids),
            "sysctl": _sysctls(host.network_mode, gids),
        },
        "annotations": {"org.opencontainers.image.ref.name": container.image_name},
    }
    if cgroup_path:
        spec["linux"]["cgroupsPath"] = cgroup_path
    if not host.privileged:
        spec["linux"]["maskedPaths"] = MASKED_PATHS
        spec["linux"]["readonlyPaths"] = READONLY_PATHS
        if "seccomp=unconfined" not in host.security_opt:
            spec["linux"]["seccomp"] = seccomp_default.profile(capabilities)
    return spec


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
        "noNewPrivileges": _no_new_privileges(container.host_config.security_opt),
    }  # fmt: skip
    if console_size:
        result["consoleSize"] = {"height": console_size[0], "width": console_size[1]}
    return result


def _no_new_privileges(options: list[str]) -> bool:
    wanted = False
    for option in options:
        name, _, value = option.replace(":", "=", 1).partition("=")
        if name == "no-new-privileges":
            wanted = value in ("", "true")
    return wanted


def _identity(mappings: tuple[Mapping, ...]) -> list[dict[str, int]]:
    """The container's ids are those of rdock's own namespace, one to one."""
    return [{"containerID": entry.inside, "hostID": entry.inside, "size": entry.size} for entry in mappings]


def _sysctls(network_mode: str, gids: tuple[Mapping, ...]) -> dict[str, str]:
    """Inside its own network a container may bind low ports and ping, as with Docker."""
    if network_mode == "host":
        return {}
    last = -1
    for entry in sorted(gids, key=lambda entry: entry.inside):
        if entry.inside == last + 1:
            last += entry.size
    return {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": f"0 {last}"}


def _mounts(
    container: Container, files: dict[str, str], gids: tuple[Mapping, ...], *, cgroup: bool
) -> list[dict[str, Any]]:
    host = container.host_config
    has_tty_group = any(entry.inside <= 5 < entry.inside + entry.size for entry in gids)
    devpts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *(["gid=5"] if has_tty_group else [])]
    read_only = [] if host.privileged else ["ro"]
    groups = []
    if cgroup:
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
    # To a tmpfs no bytes mean no limit; to Docker, its default.
    shm_size = host.shm_size or SHM_SIZE
    mounts = [
        _mount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", "devpts", devpts),
        sys,
        _mount("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
        _mount("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", f"size={shm_size}"]),
        *groups,
        *(_mount(target, "bind", source, ["rbind", "rprivate"]) for target, source in files.items()),
    ]
    wanted = {
        target: _mount(target, "tmpfs", "tmpfs", _tmpfs_options(options)) for target, options in host.tmpfs.items()
    }
    for bind in host.binds:
        source, target, options = split_bind(bind)
        wanted[target] = _mount(target, "bind", source, ["rbind", "rprivate", *options])
    if host.init:
        wanted[INIT_PATH] = _mount(INIT_PATH, "bind", launch.init_program(), ["bind", "ro", "nosuid", "nodev"])
    # Outer directories first, else they would cover the inner ones.
    return mounts + [wanted[target] for target in sorted(wanted, key=lambda path: path.count("/"))]


def _mount(target: str, fstype: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": fstype, "source": source, "options": options}


def _tmpfs_options(text: str) -> list[str]:
    return ["noexec", "nosuid", "nodev", *filter(None, text.split(","))]


def split_bind(bind: str) -> tuple[str, str, list[str]]:
    """A stored bind, SOURCE:TARGET[:OPTIONS], in which colons of the source are not possible."""
    source, target, *options = bind.split(":")
    return source, target, [o for o in (options[0].split(",") if options else []) if o in ("ro", "rw")]
