"""The monitor's half of a container's start: fork into namespaces, id maps, cgroup, messages.

The OCI operations create and start (runtime spec 1.2, runtime.md) as two functions. The caller must
have one thread only, since clone(2) with a new user namespace asks for that.
"""

from __future__ import annotations

import os

from rdock.linux import kernelfile, namespaces
from rdock.runtime import child, neighbour
from rdock.runtime.channel import Channel, Failed
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, TypeAlias

Meanwhile: TypeAlias = "Callable[[dict[str, int]], None]"


class Created(Value):
    """A container's process 1 that waits to be started."""

    pid: int
    channel: Channel
    terminal: int
    """The pty's master, or -1."""


def create(
    spec: dict[str, Any],
    stdio: tuple[int, int, int],
    *,
    program: bytes | None,
    join_cgroup: Callable[[int], None],
    meanwhile: Meanwhile,
    remains: dict[str, int],
) -> Created:
    """Fork process 1 and build its world up to the point where only execve is missing.

    `program` is the compiled seccomp filter. `join_cgroup` puts the new pid into its cgroup.
    `meanwhile` runs while the child builds the root, with descriptors of the child's user and network
    namespaces: the place to set the network up. `remains` gets the namespaces by which to find the other
    processes of a container that has no pid namespace of its own (remains.py); they are the caller's to close.
    Raises Failed for a step of the child's, whatever the callbacks raise, and leaves nothing behind.
    """
    linux = spec["linux"]
    flags = 0
    joined = {}
    for namespace in linux["namespaces"]:
        kind = namespace["type"]
        if namespace.get("path"):
            joined[kind] = os.open(namespace["path"], os.O_RDONLY | os.O_CLOEXEC)
        elif kind != "cgroup":  # made by the child, once it is in the cgroup that shall be the root
            flags |= namespaces.FLAGS[kind]
    ours, theirs = Channel.pair()

    def run() -> NoReturn:
        ours.close()
        child.run(spec, theirs, stdio, program)

    own: dict[str, int] = {}
    if joined:
        try:
            pid, own = neighbour.clone(joined, flags, spec["process"], run)
        finally:
            for opened in joined.values():
                os.close(opened)
    else:
        pid = namespaces.clone(flags)
        if pid == 0:
            run()
    theirs.close()
    terminal = -1
    try:
        if flags & namespaces.CLONE_NEWUSER:
            write_maps(pid, linux)
        join_cgroup(pid)
        # Opened while they can be: from the next step on the child hides its /proc entries.
        own = own or namespaces.open_all(pid, ("user", "network", "mount"))
        if not flags & namespaces.CLONE_NEWPID:
            # Its user namespace may be that of another container, whose processes live on.
            kinds = ("mount",) if joined else ("mount", "user")
            remains |= {kind: os.dup(own[kind]) for kind in kinds}
        ours.send("maps")
        try:
            meanwhile(own)
        finally:
            for opened in own.values():
                os.close(opened)
        wanted = bool(spec["process"].get("terminal"))
        while True:
            message, master = ours.receive(terminal=wanted and terminal < 0)
            if message is None:
                raise Failed("process 1 ended before it was ready", 0, "")
            if master >= 0:
                terminal = master
            elif message["kind"] == "ready" and wanted == (terminal >= 0):
                return Created(pid, ours, terminal)
            else:
                raise Failed(f"unexpected message {message['kind']}", 0, "")
    except BaseException:
        ours.close()
        if terminal >= 0:
            os.close(terminal)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        raise


def write_maps(pid: int, linux: dict[str, Any]) -> None:
    """The id maps of a container, whose user namespace lies inside our own, where we are root.

    Whether setgroups(2) is allowed there is inherited from ours.
    """
    for kind, key in (("gid", "gidMappings"), ("uid", "uidMappings")):
        lines = [f"{entry['containerID']} {entry['hostID']} {entry['size']}\n" for entry in linux[key]]
        kernelfile.write(f"/proc/{pid}/{kind}_map", "".join(lines))


def start(created: Created) -> None:
    """Let process 1 execute the container's program.

    Raises Failed with step `exec` and the errno when it cannot; the process has then ended and is
    reaped.
    """
    created.channel.send("start")
    try:
        message, _ = created.channel.receive()
        if message is not None:
            raise Failed(f"unexpected message {message['kind']}", 0, "")
    except Failed:
        os.kill(created.pid, 9)  # it has ended, if it is what it should be
        os.waitpid(created.pid, 0)
        raise
    finally:
        created.channel.close()
