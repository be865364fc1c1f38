"""Into the namespaces of a container that runs, for another one that is to share some of them.

A go-between leaves the monitor's user namespace for the other container's, makes there what the new one
has for itself, and clones the new process 1 as a child of the monitor (as in join.py). It cannot come
back, hence a process of its own. All imports stand at the top, as in child.py.
"""

from __future__ import annotations

import os

from rdock import launch
from rdock.linux import mount as m
from rdock.linux import namespaces, prctl, sockets
from rdock.linux.inroot import O_PATH, RESOLVE_NO_SYMLINKS, open_in_root
from rdock.runtime import identity
from rdock.runtime.channel import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

CLONE_PARENT = 0x00008000


def clone(
    joined: dict[str, int], flags: int, what: dict[str, Any], run: Callable[[], NoReturn]
) -> tuple[int, dict[str, int]]:
    """Clone a process into the namespaces of `joined` and new ones of `flags`: its pid, and its namespaces.

    `what` is the OCI process object. The process is a child of the caller and hidden from the first moment
    on; `run` is its life. The namespaces are its mount, network and user ones, as descriptors. Raises Failed.
    """
    ours, theirs = sockets.packet_pair()
    go_between = os.fork()
    if go_between == 0:
        ours.close()
        _go(joined, flags, what, run, theirs)
    theirs.close()
    try:
        data, fds = sockets.receive_fds(ours, 4096, 4)
    finally:
        ours.close()
        os.waitpid(go_between, 0)
    if len(fds) != 2 or not data.isdigit():
        for fd in fds:
            os.close(fd)
        step, number = data.decode(errors="replace").partition(":")[::2]
        raise Failed(step or "join the other container", int(number or 0), "")
    return int(data), {"mount": fds[0], "network": fds[1], "user": os.dup(joined["user"])}


def _go(
    joined: dict[str, int], flags: int, what: dict[str, Any], run: Callable[[], NoReturn], end: sockets.socket
) -> NoReturn:
    step = "join the other container"
    try:
        # Of a process that is hidden, the kernel's root alone may write to it.
        identity.set_oom_score(what)
        # Processes of the other container may see what is cloned here, and trace what is dumpable.
        prctl.set_dumpable(False)
        prctl.set_arguments()
        namespaces.enter(dict(joined))
        identity.become_root()
        prctl.set_dumpable(False)
        step = "make namespaces"
        namespaces.unshare(flags)
        own = [os.open(namespaces.file_of(kind), os.O_RDONLY | os.O_CLOEXEC) for kind in ("mount", "network")]
        step = "fork"
        pid = namespaces.clone(CLONE_PARENT)
        if pid == 0:
            end.close()
            for fd in own:
                os.close(fd)
            run()
        sockets.send_fds(end, b"%d" % pid, own)
    except OSError as e:
        end.send(f"{step}:{e.errno or 0}".encode())
    except BaseException as e:
        launch.debug(f"go-between: {type(e).__name__}: {e}")
    finally:
        os._exit(0)


def clone_tree(user: int, mount: int, path: str) -> int:
    """A detached copy of what is mounted at `path` in a container with these namespaces, to be moved elsewhere.

    Raises OSError.
    """
    ours, theirs = sockets.packet_pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _send_tree(user, mount, path, theirs)
    theirs.close()
    try:
        data, fds = sockets.receive_fds(ours, 64, 1)
    finally:
        ours.close()
        os.waitpid(pid, 0)
    if not fds:
        number = int(data or 0)
        raise OSError(number, os.strerror(number), path)
    return fds[0]


def _send_tree(user: int, mount: int, path: str, end: sockets.socket) -> NoReturn:
    try:
        prctl.set_dumpable(False)
        namespaces.setns(user, namespaces.CLONE_NEWUSER)
        namespaces.setns(mount, namespaces.CLONE_NEWNS)
        prctl.set_dumpable(False)
        root = os.open("/", O_PATH | os.O_DIRECTORY)
        sockets.send_fds(end, b"0", [m.detached(open_in_root(root, path, O_PATH, 0, RESOLVE_NO_SYMLINKS))])
    except OSError as e:
        end.send(b"%d" % (e.errno or 0))
    finally:
        os._exit(0)
