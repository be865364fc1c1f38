"""What the monitors of containers and of exec sessions share: a life in the background, and failures to tell."""

from __future__ import annotations

import errno
import os

from rdock import jsontext, launch
from rdock.container import failure
from rdock.container.containers import Container
from rdock.errors import CannotExecute, CommandNotFound, RdockError, SystemFailure, system_failure
from rdock.linux import prctl, process, signals, sockets
from rdock.runtime import rootless
from rdock.runtime.channel import Failed


def leave_the_caller(name: str, container_id: str, keep: set[int]) -> None:
    """Be a process in the background, that holds nothing of who started it but the descriptors in `keep`.

    Shown by ps as `name` and the container that it is for. Not its session and signals, not its terminal (with
    --debug errors still go there), no descriptor that it had open, and not its command line, in which anybody may
    read what `-e` was given.
    """
    os.setsid()
    call_yourself(name, container_id)
    signals.reset()
    for number in (signals.SIGHUP, signals.SIGINT, signals.SIGTERM, signals.SIGPIPE):
        signals.signal(number, signals.SIG_IGN)
    process.close_all_but({0, 1, 2} | keep | rootless.held())
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1) if launch.debugging else (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)
    os.chdir("/")


def call_yourself(name: str, container_id: str) -> None:
    """What ps shows of this process."""
    process.set_name(name)
    prctl.set_arguments(f"{name} {container_id[:12]}")


def send_failure(connection: sockets.socket, error: RdockError) -> None:
    """Tell the command what went wrong, if it is still there."""
    try:
        connection.send(b"f" + jsontext.render(failure.describe(error)).encode())
    except OSError:
        pass


def explain_start(error: Exception, container: Container) -> RdockError:
    """The user's words for what kept a container from running."""
    if isinstance(error, RdockError):
        return error
    if isinstance(error, Failed):
        config = container.config
        return explain_failure(error, ((config.entrypoint or []) + (config.cmd or []))[0])
    if isinstance(error, OSError):
        return system_failure("cannot start the container", error)
    return SystemFailure(f"cannot start the container: {error}")


def explain_failure(failed: Failed, program: str) -> RdockError:
    """The user's words for a step of the runtime that failed, with exit code 126 or 127 from its errno."""
    if failed.step == "exec":
        quoted = f'exec: "{program}"'
        if failed.errno == errno.ENOENT and "/" not in program:
            return CommandNotFound(f"{quoted}: executable file not found in $PATH")
        if failed.errno == errno.ENOENT:
            return CommandNotFound(f"{quoted}: stat {program}: no such file or directory")
        return CannotExecute(f"{quoted}: {os.strerror(failed.errno).lower()}")
    if failed.step.startswith("chdir "):
        return CannotExecute(f'chdir to cwd ("{failed.step[6:]}"): {os.strerror(failed.errno).lower()}')
    why = f": {os.strerror(failed.errno).lower()}" if failed.errno else ""
    path = f": {failed.path}" if failed.path and failed.path not in failed.step else ""
    return SystemFailure(f"cannot start the container: {failed.step}{path}{why}")
