"""Which namespaces a container shares, with the host or with another container: `--pid`, `--ipc`, `--uts` …

Without root, all containers' user namespaces are siblings, and whoever shares the pid, IPC or network
namespace of another container has to live in that one's user namespace, which owns them. So one container can be
joined, or several that live in the same user namespace.
"""

from __future__ import annotations

import os

from rdock.container import containers
from rdock.container.config import HostConfig
from rdock.container.containers import Container
from rdock.errors import Conflict, InvalidParameter, NoSuchContainer, Unsupported, system_failure
from rdock.linux import mount as m
from rdock.linux import namespaces
from rdock.values import Value

CONTAINER = "container:"
_MODES = {
    "--pid": ("PID", ("", "private", "host", CONTAINER)),
    "--ipc": ("IPC", ("", "none", "private", "shareable", "host", CONTAINER)),
    "--uts": ("UTS", ("", "private", "host")),
    "--userns": ("USER", ("", "host")),
    "--cgroupns": ("CGROUP", ("", "private", "host")),
    "--network": ("network", (CONTAINER,)),
}
_JOINABLE_IPC = ("shareable", "host")


class Shared(Value):
    """What a run shares. Its descriptors stay open until `close`."""

    hosts: tuple[str, ...] = ()
    """Kinds of namespaces that are the host's."""
    paths: dict[str, str] = {}
    """Namespaces of another container, by kind."""
    shared_memory: str = ""
    """What is mounted at /dev/shm; empty: a file system of its own."""
    cgroups: str = ""
    """What is mounted at /sys/fs/cgroup; empty: what the container's cgroup namespace shows."""
    fds: tuple[int, ...] = ()

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


NOTHING_SHARED = Shared()


def parse(option: str, text: str | None) -> str:
    """The value of one of these options, another container by its full id. Raises InvalidParameter, NoSuchContainer."""
    text = text or ""
    name, known = _MODES[option]
    if text.startswith(CONTAINER) and CONTAINER in known and text != CONTAINER:
        return CONTAINER + containers.resolve(text.removeprefix(CONTAINER))
    if option == "--userns" and text not in known:
        from rdock.container import userns

        userns.parse(text)
        return text
    if text not in known or text == CONTAINER:
        raise InvalidParameter(f"invalid IPC mode: {text}" if name == "IPC" else f"{option}: invalid {name} mode")
    return text


def check(host: HostConfig, *, starts: bool) -> None:
    """Refuse what cannot be: with `starts` also other containers that do not run, as they must by then.

    Raises Conflict in Docker's words, Unsupported.
    """
    for kind, mode in modes(host).items():
        if mode.startswith(CONTAINER):
            if host.external_runtime:
                raise Unsupported(f"--{kind} {CONTAINER}…: only rdock's own runtime can join another container")
            if starts:
                _donor(kind, mode)


def modes(host: HostConfig) -> dict[str, str]:
    """How a container stands to the namespaces that it may share with another one, by kind."""
    network = host.network_mode if host.network_mode.startswith(CONTAINER) else ""
    return {"pid": host.pid_mode, "ipc": host.ipc_mode, "network": network}


def _donor(kind: str, mode: str) -> Container:
    container_id = mode.removeprefix(CONTAINER)
    what = kind if kind == "network" else kind.upper()
    try:
        donor = containers.load(container_id)
    except NoSuchContainer:
        raise Conflict(f"cannot join {what} of a non running container: {container_id}") from None
    if not donor.state().can_be_signalled:
        raise Conflict(f"cannot join {what} of a non running container: {container_id}")
    ipc = donor.host_config.ipc_mode
    if kind == "ipc" and ipc not in _JOINABLE_IPC and not ipc.startswith(CONTAINER):
        raise Conflict(
            f"can't join IPC of container {container_id}: non-shareable IPC "
            "(hint: use IpcMode:shareable for the donor container)"
        )
    return donor


def network_mark(container: Container) -> str:
    """A file that is there when another container has been in the network namespace of this run."""
    return os.path.join(container.bundle, "network.shared")


def prepare(container: Container) -> Shared:
    """Open what the container's next run shares. The caller is its monitor, in its own mount namespace.

    Raises Conflict in Docker's words, InvalidParameter, SystemFailure.
    """
    host = container.host_config
    hosts = [kind for kind, mode in modes(host).items() if mode == "host"]
    hosts += ["uts"] if host.uts_mode == "host" else []
    hosts += ["cgroup"] if host.cgroupns_mode == "host" else []
    opened: dict[str, int] = {}
    memory = -1
    try:
        for kind, mode in modes(host).items():
            if not mode.startswith(CONTAINER):
                continue
            donor = _donor(kind, mode)
            if kind == "network":
                # Before it is opened, and so before the donor's end finds out whether it lives on.
                os.close(os.open(network_mark(donor), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            found = _open(donor, kind)
            if kind not in found:  # it is the host's there as well
                hosts.append(kind)
                _close(found)
                continue
            if "user" in opened and not os.path.sameopenfile(opened["user"], found["user"]):
                _close(found)
                raise InvalidParameter("cannot join two containers whose user namespaces are different ones")
            if kind == "ipc":
                from rdock.runtime import neighbour  # long there, in a process that runs containers

                memory = neighbour.clone_tree(found["user"], found["mount"], "/dev/shm")
            _close({"user": opened.pop("user", -1), "mount": found.pop("mount")})
            opened |= found
        cgroups = _read_only_groups(container) if "cgroup" in hosts else ""
    except OSError as e:
        _close({**opened, "memory": memory})
        raise system_failure("cannot join the other container", e) from e
    except BaseException:
        _close({**opened, "memory": memory})
        raise
    return Shared(
        hosts=tuple(hosts),
        paths={kind: m.through(fd) for kind, fd in opened.items()},
        shared_memory=m.through(memory) if memory >= 0 else "/dev/shm" if "ipc" in hosts else "",
        cgroups=cgroups,
        fds=tuple(fd for fd in (*opened.values(), memory) if fd >= 0),
    )


def _open(donor: Container, kind: str) -> dict[str, int]:
    state = donor.state()
    fds = namespaces.open_all(state.pid, ("user", "mount", kind))
    if not state.process.is_alive():
        _close(fds)  # what was opened may be that of another with its pid
        raise Conflict(f"cannot join {kind.upper()} of a non running container: {donor.id}")
    return fds


def _close(fds: dict[str, int]) -> None:
    for fd in fds.values():
        if fd >= 0:
            os.close(fd)


def _read_only_groups(container: Container) -> str:
    """The host's control groups as nobody in the container can write to them, whatever its capabilities.

    The mount is made out here, and copied into the container's mount namespace with what it may not lose
    (CVE-2023-25809, mount_namespaces(7)).
    """
    place = os.path.join(container.bundle, "cgroup")
    os.makedirs(place, mode=0o700, exist_ok=True)
    if os.path.ismount(place):
        return place  # of an earlier run
    source, target = os.open("/sys/fs/cgroup", os.O_PATH), os.open(place, os.O_PATH)
    try:
        flags = m.MS_RDONLY | m.MS_NOSUID | m.MS_NODEV | m.MS_NOEXEC
        if not m.bind_with(source, target, flags, m.MS_SLAVE, recursive=True):
            raise Unsupported("--cgroupns host: needs Linux 5.12 or later")
    finally:
        os.close(source)
        os.close(target)
    return place
