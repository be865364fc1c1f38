"""exec's way into a running container: enter its namespaces, then the tail of the same list of steps.

Three processes: the session's monitor stays outside; a go-between enters the namespaces; its clone,
made a child of the monitor, is born in the container's pid namespace and becomes the program. All
imports stand at the top, as in child.py.
"""

from __future__ import annotations

import errno
import os

from rdock import launch
from rdock.linux import namespaces, prctl, process, signals
from rdock.linux.cgroup import Cgroup
from rdock.linux.inroot import O_PATH
from rdock.runtime import identity, streams
from rdock.runtime.channel import Channel, Failed
from rdock.runtime.identity import LastStep
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

CLONE_PARENT = 0x00008000
KINDS = ("user", "cgroup", "ipc", "uts", "network", "pid", "mount")
# The steps that fail when the container is about to end.
ENTERING = ("join cgroup", "enter namespaces", "fork")


class Joined(Value):
    """A process that runs in the container; a child of this process."""

    pid: int
    terminal: int
    """The pty's master, or -1."""


def start(
    fds: dict[str, int], what: dict[str, Any], stdio: tuple[int, int, int], program: bytes | None, group: str
) -> Joined:
    """Execute `what` (an OCI process object) in a running container.

    `fds` are the namespaces (KINDS) of its process 1, which are closed here; `group` is the directory of
    its control group, empty if it has none. Raises Failed for a step that failed, OSError when the
    namespaces cannot be entered.
    """
    ours, theirs = Channel.pair()
    go_between = os.fork()
    if go_between == 0:
        ours.close()
        _enter(fds, group, what, theirs, stdio, program)
    theirs.close()
    for fd in fds.values():
        os.close(fd)
    child = terminal = -1
    try:
        while True:
            message, master = ours.receive(terminal=what["terminal"] and terminal < 0)
            if message is None:
                break
            if master >= 0:
                terminal = master
            elif message["kind"] == "child" and child < 0:
                child = _own_child(message.get("pid"), go_between)
            else:
                raise Failed(f"unexpected message {message['kind']}", 0, "")
        if child < 0 or (what["terminal"] and terminal < 0):
            raise Failed("fork", errno.ESRCH, "")  # killed before it was that far, with the container's control group
    except BaseException:
        if terminal >= 0:
            os.close(terminal)
        if child > 0:
            os.kill(child, 9)
            os.waitpid(child, 0)
        raise
    finally:
        os.waitpid(go_between, 0)
        ours.close()
    return Joined(child, terminal)


def _own_child(pid: object, go_between: int) -> int:
    """A pid that came over the channel, which a tracer in the container might have got hold of."""
    try:
        if isinstance(pid, int) and pid != go_between:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            return pid
    except (OSError, OverflowError):
        pass
    raise Failed("the go-between named a stranger", 0, "")


def _enter(
    fds: dict[str, int],
    group: str,
    what: dict[str, Any],
    channel: Channel,
    stdio: tuple[int, int, int],
    program: bytes | None,
) -> NoReturn:
    """The go-between."""
    step = "join cgroup"
    try:
        if group:
            _join(Cgroup(group))
        step = "enter namespaces"
        last_step = identity.prepare_last_step()
        identity.set_oom_score(what)
        # Not visible in the container before its links lead nowhere, and its command line tells nothing.
        prctl.set_dumpable(False)
        prctl.set_arguments()
        namespaces.enter(fds)
        identity.become_root()
        prctl.set_dumpable(False)
        step = "fork"
        pid = namespaces.clone(CLONE_PARENT)
        if pid == 0:
            _run(what, channel, stdio, program, last_step)
        channel.send("child", pid=pid)
    except OSError as e:
        channel.send_failure(step, e)
    except BaseException as e:
        channel.send_failure(f"{step} ({type(e).__name__}: {e})", OSError(0, ""))
    finally:
        os._exit(0)


def _join(group: Cgroup) -> None:
    """Go into the container's control group, unless that cannot be reached from here.

    Who moves a process must be allowed to write to the lowest group above both places (cgroups(7)), and
    the shell of a login is in a scope of the system's, beside the user's own groups. Such an exec is not
    frozen with the container; it ends with it all the same, being in its pid namespace.
    """
    try:
        group.add(os.getpid())
    except PermissionError as e:
        launch.debug(f"exec outside of the container's control group: {e}")


def _run(
    what: dict[str, Any],
    channel: Channel,
    stdio: tuple[int, int, int],
    program: bytes | None,
    last_step: LastStep,
) -> NoReturn:
    """The new process, in all of the container's namespaces."""
    step = "start"
    try:
        os.setsid()
        signals.reset()
        root = os.open("/", O_PATH | os.O_DIRECTORY)
        if what["terminal"]:
            step = "open terminal"
            streams.open_terminal(root, channel, what)
        else:
            step = "connect stdio"
            streams.connect(root, stdio, what["user"])
        step = "close descriptors"
        process.close_all_but({0, 1, 2, root, channel.fileno()} | ({last_step.trampoline} - {-1}))
        step = f"chdir {what['cwd']}"
        identity.enter_directory(root, what["cwd"])
        os.close(root)
        step = "take identity"
        identity.take(what, program)
        step = "exec"
        identity.execute(what, last_step, channel.fileno())
    except OSError as e:
        channel.send_failure(step, e)
    except BaseException as e:
        channel.send_failure(f"{step} ({type(e).__name__}: {e})", OSError(0, ""))
    finally:
        os._exit(127)
