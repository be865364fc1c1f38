"""What this machine offers, what rdock makes of it, and the line that mends each missing piece.

Every finding is tried, not guessed. `rdock info` shows what is used, `rdock doctor` what is wrong.
"""

from __future__ import annotations

import os

from rdock import config, launch, paths
from rdock.errors import RdockError
from rdock.linux import cgroup, idmap, mount, seccomp
from rdock.runtime import mapping, rootless
from rdock.storage import driver
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Slower by far, or less of Docker's experience; still working.
OK, LIMITED, MISSING = "ok", "limited", "missing"


class Finding(Value):
    """One thing that was tried."""

    name: str
    status: str
    detail: str
    fix: str = ""
    """The exact line that mends it; empty if nothing has to be, or can be, done."""


def examine() -> list[Finding]:
    """Try everything that rdock can use. Enters the user's namespaces if that is possible."""
    sysctls = _sysctls()  # before the namespaces are entered: there the host's groups have other numbers
    findings = [_namespaces()]
    if findings[0].status != MISSING:
        findings += [_ids(), _store(), *_storage()]
    return [*findings, _network(), _seccomp(), _cgroups(), _runtime_directory(), *sysctls, *_runtimes()]


def _namespaces() -> Finding:
    settings = config.current()
    try:
        entered = rootless.enter(settings.id_mode, settings.holder_linger)
    except RdockError as e:
        return Finding("user namespaces", MISSING, e.message, e.hint)
    return Finding("user namespaces", OK, f"entered as root, id mode {entered.mode}")


def _ids() -> Finding:
    size = min(sum(entry.size for entry in idmap.read_map(kind)) for kind in ("uid", "gid"))
    if size > 1:
        return Finding("ids", OK, f"{size} user and group ids")
    return Finding(
        "ids",
        LIMITED,
        "one id only: all files are yours, chown to others fails, -u takes only root",
        ids_fix(rootless.entered().uid),
    )


def ids_fix(uid: int) -> str:
    """The line that gives a user more ids."""
    name = mapping.login_name(uid)
    lines = []
    if not (launch.find_program("newuidmap") and launch.find_program("newgidmap")):
        lines.append("sudo apt-get install uidmap")
    if not all(idmap.read_ranges(path, name, uid) for path in (idmap.SUBUID, idmap.SUBGID)):
        lines.append(mapping.hint_for_ids(name))
    return " && ".join(lines) or "use --id-mode auto"


def _storage() -> list[Finding]:
    found = []
    for name in config.STORAGE_DRIVERS:
        why = driver.probe(name, anew=True)
        fix = driver.HINTS[name] if why else ""
        found.append(Finding(f"storage driver {name}", LIMITED if why else OK, why or "works", fix))
    return found


# File systems of other machines. What two of them lock, or see of each other's processes, is not to be relied on.
_SHARED = ("nfs", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "9p", "fuse.sshfs", "fuse.glusterfs", "afs")


def _store() -> Finding:
    kind = file_system(paths.data(), mount.mountinfo())
    if kind.startswith(_SHARED):
        return Finding(
            "store",
            LIMITED,
            f"{paths.data()} is on {kind}: for one machine at a time",
            "set XDG_DATA_HOME to a directory on a local disk",
        )
    return Finding("store", OK, f"{paths.data()} ({kind})")


def file_system(path: str, mounts: Sequence[mount.MountPoint]) -> str:
    """The type of the file system that a path lies on."""
    path = os.path.realpath(path)
    found = ""
    longest = -1
    for mounted in mounts:
        top = mounted.target.rstrip("/")
        if (path == top or path.startswith(top + "/")) and len(top) >= longest:
            found, longest = mounted.fstype, len(top)
    return found


def _network() -> Finding:
    if launch.find_program("slirp4netns") is None:
        why, fix = "no slirp4netns", "sudo apt-get install slirp4netns"
    elif not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        why, fix = "cannot open /dev/net/tun", "sudo chmod 666 /dev/net/tun"
    else:
        more = " and pasta" if launch.find_program("pasta") else "; pasta (sudo apt-get install passt) is not needed"
        return Finding("network", OK, f"slirp4netns{more}")
    return Finding("network", LIMITED, f"{why}: containers reach each other and not the world", fix)


def _seccomp() -> Finding:
    try:
        version = seccomp.library_version()
    except OSError:
        return Finding("seccomp", MISSING, "no libseccomp: no filter can be made", "sudo apt-get install libseccomp2")
    if not seccomp.available():
        return Finding("seccomp", MISSING, "this kernel takes no filters", "")
    return Finding("seccomp", OK, f"libseccomp {version}")


def _cgroups() -> Finding:
    found = cgroup.probe()
    if found is None:
        return Finding(
            "control groups", LIMITED, "none delegated: no limits, and pause stops processes one by one",
            "systemd-run --user --scope -p Delegate=yes -- $SHELL, where the machine runs cgroup v2 and systemd",
        )  # fmt: skip
    return Finding("control groups", OK, f"{found.parent}, controllers: {' '.join(found.controllers) or 'none'}")


def _runtime_directory() -> Finding:
    return Finding("runtime directory", OK, paths.runtime())


def _sysctls() -> list[Finding]:
    first = _numbers("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    ports = Finding("low ports", OK, "can be published")
    if first and first[0] > 80:
        fix = "sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80"
        ports = Finding("low ports", LIMITED, f"ports below {first[0]} cannot be published", fix)
    groups = _numbers("/proc/sys/net/ipv4/ping_group_range")
    ping = Finding("ping", OK, "containers can ping the world")
    # slirp4netns sends echo requests by a socket that the host allows to groups in this range.
    if groups and not groups[0] <= os.getgid() <= groups[-1]:
        fix = 'sudo sysctl -w net.ipv4.ping_group_range="0 2147483647"'
        ping = Finding("ping", LIMITED, "containers can ping only themselves", fix)
    return [ports, ping]


def _numbers(path: str) -> list[int]:
    try:
        with open(path, encoding="utf-8") as file:
            return [int(word) for word in file.read().split()]
    except (OSError, ValueError):
        return []


def _runtimes() -> list[Finding]:
    others = [name for name in ("crun", "runc") if launch.find_program(name)]
    unfit = _controllers_beside_v1() if "crun" in others else []
    if not unfit:
        return [Finding("runtimes", OK, ", ".join(["rdock", *others]))]
    others.remove("crun")
    return [
        Finding("runtimes", OK, ", ".join(["rdock", *others])),
        Finding(
            "runtime crun", LIMITED,
            f"refuses this machine's mixture of cgroups: version 1, and {' '.join(unfit)} in version 2",
            "boot with systemd.unified_cgroup_hierarchy=1, or stay with --runtime rdock",
        ),
    ]  # fmt: skip


def _controllers_beside_v1(top: str = "/sys/fs/cgroup") -> list[str]:
    """What a version 2 that is mounted beside version 1 has; crun takes such a machine only if that is nothing."""
    if os.path.exists(f"{top}/cgroup.controllers"):
        return []
    try:
        with open(f"{top}/unified/cgroup.controllers", encoding="utf-8") as file:
            return file.read().split()
    except OSError:
        return []
