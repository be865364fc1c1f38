"""Who the container's program is: groups, ids, capabilities, limits, filter, directory; and its execve.

The tail of both ways into a container, a new process 1 (child.py) and exec (join.py). Runs in the
container's namespaces; imports at the top only, nothing can be imported once the root has changed.
OCI runtime spec 1.2, config.md `process`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat

from rdock import launch
from rdock.linux import capabilities, kernelfile, seccomp
from rdock.linux.inroot import open_in_root
from rdock.linux.prctl import leave_session_keyring
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_NAMES = "AS CORE CPU DATA FSIZE MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK"
_LIMITS = {f"RLIMIT_{name}": getattr(resource, f"RLIMIT_{name}", -1) for name in _NAMES.split()} | {"RLIMIT_LOCKS": 10}


def set_limits(process: dict[str, Any]) -> None:
    """Resource limits. Raises OSError for one above the caller's own hard limit, which an ordinary user cannot pass."""
    for limit in process.get("rlimits", ()):
        try:
            resource.setrlimit(_LIMITS[limit["type"]], (_limit(limit["soft"]), _limit(limit["hard"])))
        except (ValueError, OSError) as e:
            name = limit["type"].removeprefix("RLIMIT_").lower()
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), f"ulimit {name}") from e


def _limit(value: int) -> int:
    return resource.RLIM_INFINITY if value < 0 or value >= 1 << 63 else value


def set_oom_score(process: dict[str, Any]) -> None:
    """Of the caller, who is not hidden yet (prctl.set_dumpable)."""
    score = process.get("oomScoreAdj")
    if score is not None:
        kernelfile.write("/proc/self/oom_score_adj", str(score))


def enter_directory(root: int, path: str) -> None:
    """Change to the working directory, which must really lie inside the root.

    Links of /proc that lead elsewhere (`/proc/self/fd/7`) are refused by the kernel (CVE-2024-21626).
    """
    fd = open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    try:
        os.fchdir(fd)
    finally:
        os.close(fd)
    os.getcwd()


def take(process: dict[str, Any], program: bytes | None) -> None:
    """Become the container's user with its capabilities, and load the seccomp filter.

    Without no_new_privs the filter needs CAP_SYS_ADMIN, so it comes before that is given up, and every
    call from here to execve must be one that it allows.
    """
    user = process["user"]
    caps = process.get("capabilities", {})
    sets = {name: capabilities.mask(caps.get(name, ())) for name in ("bounding", "effective", "permitted", "ambient")}
    set_limits(process)
    _forget_keys(filtered=bool(program))
    capabilities.limit(sets["bounding"])
    no_new_privileges = bool(process.get("noNewPrivileges"))
    if program and not no_new_privileges:
        seccomp.install(program)
    set_groups(user.get("additionalGids", ()))
    os.setresgid(user["gid"], user["gid"], user["gid"])
    os.setresuid(user["uid"], user["uid"], user["uid"])
    os.umask(user.get("umask", 0o022))
    capabilities.settle(
        effective=sets["effective"], permitted=sets["permitted"], inheritable=0, ambient=sets["ambient"]
    )
    if no_new_privileges:
        capabilities.set_no_new_privileges()
        if program:
            seccomp.install(program)


def _forget_keys(*, filtered: bool) -> None:
    """The keys of the caller's session (Kerberos tickets, passphrases) are not the container's."""
    try:
        leave_session_keyring()
    except OSError as e:
        # No keys in this kernel; or, with too many keyrings already, the filter keeps the container from them.
        if e.errno != errno.ENOSYS and not filtered:
            raise


def set_groups(gids: list[int] | tuple[()]) -> None:
    """The supplementary groups, instead of the caller's on the host.

    In a namespace with one id setgroups(2) is denied for good, and the ids of other groups do not exist
    there: the caller's own stay, as they would for any process of the caller's.
    """
    try:
        os.setgroups(gids)
    except PermissionError:
        # Not by capability, then by the namespace. /proc, which would tell, may be another's by now.
        if not capabilities.current().effective & capabilities.mask(["CAP_SETGID"]):
            raise


def become_root() -> None:
    """Take the ids of root in a user namespace that was just entered.

    In a map of one id that is not 0 there is no root: whoever has the capabilities is the caller as he was.
    """
    set_groups(())
    for take_id in (os.setresgid, os.setresuid):
        try:
            take_id(0, 0, 0)
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise


def find_program(name: str, environment: dict[str, str]) -> str:
    """Where execvp would find a command, seen from inside the container.

    Raises FileNotFoundError, or PermissionError when a file is there that cannot be executed.
    """
    if "/" in name:
        return name
    denied = ""
    for directory in environment.get("PATH", "").split(":"):
        path = os.path.join(directory or ".", name)
        try:
            found = os.stat(path)
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode):
            if os.access(path, os.X_OK, effective_ids=True):
                return path
            denied = path
    if denied:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
    raise FileNotFoundError(errno.ENOENT, "executable file not found in $PATH", name)


def environment_of(process: dict[str, Any]) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in process.get("env", ()))


class LastStep(Value):
    """How execve is done; prepared while the host's files can still be read."""

    own: tuple[int, int]
    """Device and inode of rdock's own executable."""
    trampoline: int
    """A sealed memory file that holds the program for the last step; -1 where it is not needed."""


def prepare_last_step() -> LastStep:
    """Before the root changes: see whether the container's ids could write to our executable, and if so
    make the trampoline (packaging/init/init.c).

    A hostile image can name /proc/self/exe as its interpreter, so that what is executing at that moment
    becomes a file for it to write to. The system's Python belongs to an id that does not exist in the
    container; a Python or a packed rdock in the user's home belongs to the container's root.
    """
    own = os.stat("/proc/self/exe")
    overflow = 65534
    if own.st_uid == overflow:
        return LastStep((own.st_dev, own.st_ino), -1)
    fd = os.memfd_create("exec", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(launch.init_program(), "rb") as file:
        os.write(fd, file.read())
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    return LastStep((own.st_dev, own.st_ino), fd)


def execute(process: dict[str, Any], last_step: LastStep, channel: int) -> NoReturn:
    """execve the container's program. Raises OSError with the name of what was asked for.

    `channel` is closed by a good execve; through the trampoline a failure comes out of it as errno.
    """
    environment = environment_of(process)
    args = process["args"]
    path = find_program(args[0], environment)
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if (found.st_dev, found.st_ino) == last_step.own and not _is_mounted_here(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if last_step.trampoline >= 0:
            os.set_inheritable(channel, True)
            os.execve(last_step.trampoline, ["exec", str(channel), path, *args], environment)
        os.execve(path, args, environment)
    except OSError as e:
        raise OSError(e.errno, e.strerror, args[0]) from e


def _is_mounted_here(path: str) -> bool:
    """Whether what is rdock's own executable was found by a mount of the container's: the user has the host's /usr
    there, say. By /proc/self/exe it is found where the host has it, on a mount that the container does not see.
    """
    mounts = []
    for name in (path, "/proc/self/exe"):
        fd = os.open(name, os.O_PATH | os.O_CLOEXEC)
        try:
            with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
                mounts.append(next(line for line in file if line.startswith("mnt_id:")))
        except (OSError, StopIteration):
            return False  # without /proc it cannot be told
        finally:
            os.close(fd)
    return mounts[0] != mounts[1]
