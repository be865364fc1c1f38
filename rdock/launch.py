"""The one door to external programs, and to the log of what rdock itself does.

A helper is looked up on the host's PATH (never inside a container's root), started with a list of
arguments, an environment made from nothing, and a closed standard input. A frozen rdock carries
helpers of its own and must not pass its loader's variables on.
"""

from __future__ import annotations

import os
import sys

from rdock.errors import SystemFailure, Unavailable, printable
from rdock.linux import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Distributions keep some helpers out of an ordinary user's PATH.
_SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
_PACKAGE = {
    "newuidmap": "uidmap",
    "newgidmap": "uidmap",
    "fuse-overlayfs": "fuse-overlayfs",
    "slirp4netns": "slirp4netns",
    "pasta": "passt",
    "crun": "crun",
    "runc": "runc",
}

debugging = False
_warned: set[str] = set()


def debug(text: str) -> None:
    """A line of the log, shown with `--debug`."""
    if debugging:
        os.write(2, f"rdock[{os.getpid()}]: {text}\n".encode("utf-8", "replace"))


def warn(text: str) -> None:
    """Tell the user, once in this process, of what is amiss and left aside."""
    if text not in _warned:
        _warned.add(text)
        os.write(2, f"WARNING: {printable(text)}\n".encode())


def is_frozen() -> bool:
    """Whether this is the packed program (PyInstaller) rather than Python on the source."""
    return bool(getattr(sys, "frozen", False))


def bundled() -> str:
    """The directory of files shipped inside the packed program."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def init_program() -> str:
    """The small static program that is a container's init with `--init`, and its last step before execve."""
    return os.path.join(bundled(), "rdock", "helpers", f"init-{os.uname().machine}")


def find_program(name: str) -> str | None:
    """Absolute path of an external program, or None. A name with a slash is taken as a path."""
    if "/" in name:
        return os.path.abspath(name) if os.access(name, os.X_OK) else None
    directories = [d for d in os.environ.get("PATH", "").split(":") if d.startswith("/")]
    for directory in dict.fromkeys((*directories, *_SYSTEM_PATH)):
        path = os.path.join(directory, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    carried = os.path.join(bundled(), "helpers", name)
    return carried if is_frozen() and os.access(carried, os.X_OK) else None


def program(name: str) -> str:
    """As find_program, but raises Unavailable with the command that installs it."""
    path = find_program(name)
    if path is None:
        package = _PACKAGE.get(name, name)
        raise Unavailable(f"{name} is not installed", hint=f"sudo apt-get install {package}")
    return path


def environment() -> dict[str, str]:
    """The environment of every helper: where to find things and how to speak, nothing of the caller's."""
    return {"PATH": ":".join(_SYSTEM_PATH), "LC_ALL": "C.UTF-8"}


def users_environment() -> dict[str, str]:
    """The caller's environment, for a program that is the user's own; without what the packed program's loader set."""
    found = dict(os.environ)
    if is_frozen():
        before = found.pop("LD_LIBRARY_PATH_ORIG", None)
        found.pop("LD_LIBRARY_PATH", None)
        found |= {"LD_LIBRARY_PATH": before} if before is not None else {}
    return found


def spawn(
    argv: Sequence[str],
    *,
    keep: Sequence[int] = (),
    stdin: int = -1,
    stdout: int = -1,
    stderr: int = -1,
    variables: dict[str, str] | None = None,
) -> int:
    """Start a helper and return its pid; the caller waits for it.

    Only the descriptors in `keep` are inherited, under their own numbers. Its standard streams are
    /dev/null unless descriptors are given, its environment `environment()`. Raises SystemFailure when it
    cannot be started.
    """
    debug("exec " + " ".join(argv))
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in keep:
        os.set_inheritable(fd, True)
    try:
        return os.posix_spawn(
            argv[0],
            list(argv),
            environment() if variables is None else variables,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stdin if stdin >= 0 else null, 0),
                (os.POSIX_SPAWN_DUP2, stdout if stdout >= 0 else null, 1),
                (os.POSIX_SPAWN_DUP2, stderr if stderr >= 0 else null, 2),
            ],
            setsigmask=(),
            setsigdef=(signals.SIGINT, signals.SIGQUIT, signals.SIGTERM, signals.SIGPIPE, signals.SIGHUP),
        )
    except OSError as e:
        raise SystemFailure(f"cannot start {argv[0]}: {os.strerror(e.errno or 0)}") from e
    finally:
        for fd in keep:
            os.set_inheritable(fd, False)
        os.close(null)


def run(argv: Sequence[str], *, keep: Sequence[int] = ()) -> tuple[int, str]:
    """Run a helper to its end: exit status and what it printed, both streams together.

    Reads while it runs, so that a talkative helper cannot block; keeps the last 64 KiB.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        pid = spawn(argv, keep=keep, stdout=write_end, stderr=write_end)
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    output = b""
    while chunk := os.read(read_end, 65536):
        output = (output + chunk)[-65536:]
    os.close(read_end)
    return wait(pid), output.decode("utf-8", "replace").strip()


def converse(argv: Sequence[str], text: bytes, limit: int = 1 << 20) -> tuple[int, bytes]:
    """Run a program of the user's that reads `text` and answers: exit status and up to `limit` bytes of its answer.

    What is said is in memory alone and never in the log; the program's complaints go to the user.
    """
    said = os.memfd_create("text", os.MFD_CLOEXEC)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(said, text)
        os.lseek(said, 0, os.SEEK_SET)
        pid = spawn(argv, stdin=said, stdout=write_end, stderr=2, variables=users_environment())
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(said)
        os.close(write_end)
    answer = b""
    while chunk := os.read(read_end, 65536):
        answer = (answer + chunk)[:limit]
    os.close(read_end)
    return wait(pid), answer


def wait(pid: int) -> int:
    """Reap a child: its exit status, 128+n if a signal ended it."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else 128 - status
