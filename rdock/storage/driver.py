"""Storage drivers: from layers to a container's root.

Three drivers: `overlay` (the kernel's, Linux 5.11 and later inside a user namespace), `fuse-overlayfs`
(its twin in user space, for kernels and file systems where the other does not work) and `copy` (a
tree of its own for each container, cloned where the file system can). The best that works is found
by trying, once for each machine, kernel and store; `--storage-driver` and the setting force one.

A root is mounted in a mount namespace that belongs to the container alone. When its last process
has gone the mount has gone, and nobody has to remember it.
"""

from __future__ import annotations

import os

from rdock import config, launch, paths
from rdock.errors import RdockError, SystemFailure, Unavailable, reason
from rdock.linux import mount as m
from rdock.linux import namespaces
from rdock.linux.tree import remove_path
from rdock.state import probes, record
from rdock.storage import copytree, staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from rdock.linux.idmap import Mapping, Maps

Mounter: TypeAlias = "Callable[[str], None]"

HINTS = {
    "fuse-overlayfs": "sudo apt-get install fuse-overlayfs; /dev/fuse must be readable and writable for this user",
    "overlay": "needs Linux 5.11 or later and a store on a local file system with extended attributes",
}


# The time of this file is when the tree of a container was complete, with the copy driver.
COPIED = "copied"


def mounter(
    driver: str, layers: Sequence[str], directory: str, *, read_only: bool, owners: Maps | None = None
) -> Mounter:
    """Prepare the root of a container from `layers` (directories, topmost first).

    `directory` is the container's own; what it writes goes there. With `owners` the files are shown with the owners
    that this id map makes of theirs (container/owners.py), which the overlay driver cannot do.

    Calling the result with a directory mounts the root on it. Between the two the caller makes its own mount
    namespace: a fuse-overlayfs started inside would keep the namespace, and so its own mount, alive for ever.
    Raises SystemFailure, Unavailable.
    """
    try:
        if driver == "copy":
            return _copy(layers, directory, read_only=read_only, owners=owners)
        for name in ("upper", "work"):
            path = os.path.join(directory, name)
            try:
                os.mkdir(path, 0o755)
            except FileExistsError:
                continue
            if name == "upper":
                _look_like(path, layers[0])
        if driver == "fuse-overlayfs":
            return _fuse(layers, directory, owners)
        if owners is not None:
            raise SystemFailure("the overlay driver cannot show files with the owners of another user namespace")
        return _overlay(layers, directory)
    except OSError as e:
        raise SystemFailure(f"cannot prepare the root: {e.filename or directory}: {reason(e)}") from e


def _options(layers: Sequence[str], directory: str) -> tuple[str, list[int]]:
    """The overlay's options, and the descriptors that they speak of.

    Paths go in as /proc/self/fd/N: they are short, which matters since the kernel takes one page of
    options for up to 128 layers, and hold none of the characters that an option cannot hold.
    """
    fds = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in layers]
    upper, work = (
        os.open(os.path.join(directory, name), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for name in ("upper", "work")
    )
    lower = ":".join(m.through(fd) for fd in fds)
    return f"lowerdir={lower},upperdir={m.through(upper)},workdir={m.through(work)}", [*fds, upper, work]


def _overlay(layers: Sequence[str], directory: str) -> Mounter:
    def mount(target: str) -> None:
        options, fds = _options(layers, directory)
        try:
            m.mount("overlay", target, "overlay", 0, options + ",userxattr")
        except OSError as e:
            raise SystemFailure(f"cannot mount the root with the overlay driver: {reason(e)}") from e
        finally:
            for fd in fds:
                os.close(fd)

    return mount


def _fuse(layers: Sequence[str], directory: str, owners: Maps | None) -> Mounter:
    program = launch.program("fuse-overlayfs")
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        raise Unavailable(f"cannot open /dev/fuse: {reason(e)}", hint="sudo chmod 666 /dev/fuse") from e
    options, fds = _options(layers, directory)
    if owners is not None:
        options += f",uidmapping={_id_map(owners.uids)},gidmapping={_id_map(owners.gids)}"
    waiting, go = os.pipe2(os.O_CLOEXEC)
    try:
        # libfuse takes a descriptor that is mounted by others in place of a mount point. It gives up when it
        # reads from one that is not mounted yet, so it is executed only then.
        launch.spawn(
            ["/bin/sh", "-c", 'read -r _ && exec "$@"', "sh", program, "-f", "-o", options, f"/dev/fd/{device}"],
            keep=[*fds, device],
            stdin=waiting,
        )
    finally:
        for fd in (*fds, waiting):
            os.close(fd)

    def mount(target: str) -> None:
        try:
            data = f"fd={device},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
            m.mount("fuse-overlayfs", target, "fuse.fuse-overlayfs", 0, data)
            os.write(go, b"\n")
        except OSError as e:
            raise SystemFailure(f"cannot mount the root with the fuse-overlayfs driver: {reason(e)}") from e
        finally:
            os.close(go)
            os.close(device)

    return mount


def _id_map(mappings: Sequence[Mapping]) -> str:
    """For fuse-overlayfs(1): the first id in the store, the first that is shown, how many."""
    return ":".join(f"{m.inside}:{m.outside}:{m.size}" for m in mappings)


def binder(directory: str) -> Mounter:
    """For a root that is a directory as it is, without layers."""
    return lambda target: m.bind(directory, target)


def _copy(layers: Sequence[str], directory: str, *, read_only: bool, owners: Maps | None) -> Mounter:
    tree = os.path.join(directory, "root")
    if not os.path.isdir(tree):
        half = tree + ".tmp"
        remove_path(half)
        os.mkdir(half, 0o755)
        copytree.merge(layers, half, share=read_only, owners=owners)
        # What is touched later was touched by the container.
        record.write_text(os.path.join(directory, COPIED), "", durable=False)
        os.rename(half, tree)
    return lambda target: m.bind(tree, target)


def _look_like(path: str, layer: str) -> None:
    """The root directory itself, which the topmost layer describes, is the upper one's from the start."""
    found = os.stat(layer)
    os.chown(path, found.st_uid, found.st_gid)
    os.chmod(path, found.st_mode & 0o7777)
    copytree.copy_attributes(layer, path)


# -- choice --------------------------------------------------------------------------------------


def chosen() -> str:
    """The storage driver for new containers: the one that is forced, else the best that works.

    Raises Unavailable when the forced one does not work here.
    """
    forced = config.current().storage_driver
    if forced:
        why = probe(forced) and probe(forced, anew=True)  # what was missing may be there by now
        if why:
            raise Unavailable(f"storage driver {forced} does not work here: {why}", hint=HINTS[forced])
        return forced
    return next(driver for driver in config.STORAGE_DRIVERS if not probe(driver))


def chosen_for_owners() -> str:
    """The storage driver for a new container whose files are to be shown with other owners; see container/owners.py.

    A driver that is forced and cannot do that is passed over: it was chosen for its speed. Raises Unavailable.
    """
    if config.current().storage_driver in ("fuse-overlayfs", "copy"):
        return chosen()
    return "copy" if probe("fuse-overlayfs") else "fuse-overlayfs"


def probe(driver: str, *, anew: bool = False) -> str:
    """Empty if the driver works on this machine and store, else the reason why not."""
    if driver == "copy":
        return ""
    paths.make_private(paths.data())
    return probes.remembered(driver, lambda: _try(driver), anew=anew)


def _try(driver: str) -> str:
    """Mount a small root in a child with its own mount namespace, write to it, delete from it.

    Raises SystemFailure when the trial itself cannot be set up, which says nothing of the driver.
    """
    with staging.entry() as entry:
        for name in ("layer", "own", "target"):
            os.mkdir(os.path.join(entry.path, name), 0o755)
        for name in ("changed", "deleted"):
            record.write_text(os.path.join(entry.path, "layer", name), "below", durable=False)
        return _in_child(driver, entry.path)


def _in_child(driver: str, base: str) -> str:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        try:
            os.write(write_end, _outcome(driver, base).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write_end)
    answer = b""
    while chunk := os.read(read_end, 4096):
        answer += chunk
    os.close(read_end)
    if launch.wait(pid):
        raise SystemFailure(f"the trial of the {driver} driver was killed")
    return answer.decode()


def _outcome(driver: str, base: str) -> str:
    try:
        return _trial(driver, base)
    except RdockError as e:
        return e.message
    except OSError as e:
        return f"{e.filename or driver}: {reason(e)}"


def _trial(driver: str, base: str) -> str:
    layer, own, target = (os.path.join(base, name) for name in ("layer", "own", "target"))
    ready = mounter(driver, [layer], own, read_only=False)
    namespaces.unshare(namespaces.CLONE_NEWNS)
    m.set_propagation("/", m.MS_PRIVATE)
    ready(target)
    with open(os.path.join(target, "changed"), "a", encoding="utf-8") as file:
        file.write(" and above")
    os.unlink(os.path.join(target, "deleted"))
    seen = os.listdir(target)
    with open(os.path.join(layer, "changed"), encoding="utf-8") as file:
        below = file.read()
    m.umount(target, m.MNT_DETACH)
    return "" if seen == ["changed"] and below == "below" else "it does not behave like an overlay"
