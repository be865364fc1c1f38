"""The process that becomes the container's process 1: the ordered list of steps, then execve.

Runs in new namespaces, forked by parent.py, single-threaded. Nothing may be imported here once the
root has changed, so every import of this module and of all that it reaches stands at the top. A step
that fails is reported by name, errno and path through the channel, and the process ends.
"""

from __future__ import annotations

import os

from rdock.linux import namespaces, netdev, prctl, process, signals, sockets
from rdock.linux.inroot import make_directory
from rdock.runtime import identity, rootfs, streams
from rdock.runtime.channel import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def run(spec: dict[str, Any], channel: Channel, stdio: tuple[int, int, int], program: bytes | None) -> NoReturn:
    """Never returns: execve, or a failure sent and an exit."""
    step = "start"
    try:
        for step, action in _steps(spec, channel, stdio, program):  # noqa: B007 - the name is used below
            action()
    except OSError as e:
        channel.send_failure(step, e)
    except BaseException as e:  # a bug, or a message that did not come: say so, never unwind into the parent's code
        channel.send_failure(f"{step} ({type(e).__name__}: {e})", OSError(0, ""))
    finally:
        os._exit(127)


def _steps(spec: dict[str, Any], channel: Channel, stdio: tuple[int, int, int], program: bytes | None) -> Any:
    """The whole start of a container, in order; each step with the name it has in an error."""
    what = spec["process"]
    linux = spec["linux"]
    kinds = {namespace["type"] for namespace in linux["namespaces"] if not namespace.get("path")}
    root = -1
    last_step: identity.LastStep

    def keep_last_step() -> None:
        nonlocal last_step
        last_step = identity.prepare_last_step()

    # What the parent has to do first: id maps and cgroup.
    yield "await maps", lambda: channel.expect("maps")
    sources: list[int] = []

    def prepare() -> None:
        nonlocal root, sources
        sources = rootfs.open_sources(spec)
        root = rootfs.prepare(spec["root"]["path"], linux.get("rootfsPropagation", ""))

    # Still as the caller: the container's root may be somebody who cannot pass the caller's own folders.
    yield "prepare root", prepare
    yield "become root", lambda: _become_root(kinds)
    # Not before there are maps: until then no file seems to belong to anybody in here.
    yield "prepare last step", keep_last_step
    yield "new session", os.setsid
    yield "reset signals", signals.reset
    if "user" in kinds:
        yield "oom score", lambda: identity.set_oom_score(what)
    # From here on this process is visible inside the pid namespace; its links must lead nowhere.
    yield "hide", lambda: prctl.set_dumpable(False)
    yield "cgroup namespace", lambda: namespaces.unshare(namespaces.CLONE_NEWCGROUP) if "cgroup" in kinds else None
    yield "set hostname", lambda: _set_hostname(spec, kinds)
    yield "bring up loopback", lambda: netdev.set_up("lo") if "network" in kinds else None
    yield "umask", _clear_umask
    for operation in rootfs.plan(spec, sources):
        yield operation.describe(), lambda o=operation: o.execute(root)
    if what.get("terminal"):
        yield "open terminal", lambda: rootfs.bind_console(root, streams.open_terminal(root, channel, what))
    yield "set sysctl", lambda: rootfs.write_sysctls(root, linux.get("sysctl", {}))
    for operation in rootfs.protections(spec):
        yield operation.describe(), lambda o=operation: o.execute(root)
    yield "make working directory", lambda: _make_directory(root, what["cwd"])
    yield "pivot_root", lambda: rootfs.pivot(root, read_only=bool(spec["root"].get("readonly")))

    if not what.get("terminal"):
        yield "connect stdio", lambda: streams.connect(root, stdio, what["user"])
    kept = {0, 1, 2, root, channel.fileno()} | ({last_step.trampoline} - {-1})
    yield "report ready", lambda: channel.send("ready")
    yield "await start", lambda: channel.expect("start")
    yield "close descriptors", lambda: process.close_all_but(kept)
    yield f"chdir {what['cwd']}", lambda: identity.enter_directory(root, what["cwd"])
    yield "close root", lambda: os.close(root)
    yield "take identity", lambda: identity.take(what, program)
    yield "exec", lambda: identity.execute(what, last_step, channel.fileno())


def _become_root(kinds: set[str]) -> None:
    if "user" in kinds:
        identity.become_root()


def _set_hostname(spec: dict[str, Any], kinds: set[str]) -> None:
    if "uts" in kinds and spec.get("hostname"):
        sockets.sethostname(spec["hostname"])
    if "uts" in kinds and spec.get("domainname"):
        namespaces.set_domain_name(spec["domainname"])


def _clear_umask() -> None:
    os.umask(0o022)


def _make_directory(root: int, path: str) -> None:
    """The image's WORKDIR or `-w` is made if it is missing, as Docker does."""
    try:
        os.close(make_directory(root, path))
    except OSError:
        pass  # the chdir that follows says what is wrong with it
