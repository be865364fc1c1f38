"""What is done to containers that exist: kill, stop, wait, remove; each an ordered list of steps.

The doors call these. Everything here assumes that the process is root of its small world.
"""

from __future__ import annotations

import os
import time

from rdock import paths
from rdock.container import attach, containers, control, events, removal
from rdock.container.config import stop_signal
from rdock.container.containers import Container, State
from rdock.errors import Conflict, NoSuchContainer, NotRunning, system_failure
from rdock.linux import process, signals
from rdock.state.record import is_locked
from rdock.storage import staging

STOP_SECONDS = 10
# How long a lock may outlive the monitor that is dead to all appearance, in seconds; the kernel drops it at once.
PATIENCE = 5.0


def kill(container: Container, number: int) -> None:
    """Send a signal to process 1. Raises NotRunning.

    One that stops a container, by Docker's rule any if it has no stop signal of its own, keeps it from being
    restarted, and is heard by one that is paused.
    """
    state = container.state()
    if not state.is_running:
        raise NotRunning(container.id)
    own = container.config.stop_signal
    stops = not own or number in (signals.SIGKILL, stop_signal(own))
    if stops:
        control.announce_stop(container)
    if state.status == "restarting":
        return
    pidfd = state.process.open()
    if pidfd is None:
        raise NotRunning(container.id)
    try:
        signals.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise NotRunning(container.id) from None
    finally:
        os.close(pidfd)
    events.note(container, "kill", signal=str(number))
    if stops:
        control.go_on_if_paused(container, state)


def stop(container: Container, seconds: int | None = None, number: int | None = None, *, keep: bool = False) -> bool:
    """Ask process 1 to end, and kill it after a grace of `seconds` (-1: never); False if it did not run.

    Returns when the monitor has recorded the end. `keep`: see control.announce_stop.
    """
    if not container.state().is_running:
        return False
    if seconds is None:
        seconds = STOP_SECONDS if container.config.stop_timeout is None else container.config.stop_timeout
    number = number or stop_signal(container.config.stop_signal)
    while True:
        # Again each time: the restart policy may just be starting it, or its monitor be another by now.
        control.announce_stop(container, keep=keep)
        state = container.state()
        if not state.is_running:
            break
        if not _end_process(container, state, seconds, number):
            await_step(state, container.id)  # it has just ended, or is between two runs
    await_monitor(container)
    events.note(containers.as_it_is(container), "stop")
    return True


def _end_process(container: Container, state: State, seconds: int, number: int) -> bool:
    """Send process 1 a signal, and SIGKILL after the grace. False if there is none."""
    pidfd = state.process.open()
    if pidfd is None:
        return False
    try:
        signals.pidfd_send_signal(pidfd, number)
        events.note(container, "kill", signal=str(number))
        control.go_on_if_paused(container, state)
        if not process.wait_exit(pidfd, None if seconds < 0 else seconds):
            signals.pidfd_send_signal(pidfd, signals.SIGKILL)
            events.note(container, "kill", signal=str(signals.SIGKILL))
            process.wait_exit(pidfd)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
    return True


def await_monitor(container: Container) -> None:
    """Wait until the monitor of a run has recorded the end and cleaned up.

    It then gives its lock back, and may live on: a client that reads slowly is still to get the rest. Who has
    started the container again meanwhile has the lock, and is not waited for.
    """
    path = containers.run_lock(container.id).path
    while is_locked(path):
        state = container.state()
        if state.is_running:
            return
        await_step(state, container.id)


def wait(container: Container) -> int:
    """Wait until the container has ended, at once if it does not run; its exit code."""
    state = container.state()
    while state.is_running:
        # Its monitor says it, since a container with `auto_remove` leaves no record.
        code = attach.await_end(container.bundle)
        if code is not None:
            await_monitor(container)
            return code
        state = container.state()
        if state.is_running and state.is_attended:
            await_step(state, container.id)  # another monitor is about to take the place of one that was killed
            state = container.state()  # the old one knows by now that it has ended, and not how
            continue
        await_monitor(container)
        removal.finish_abandoned(container.id)
        if not os.path.isdir(container.directory):
            raise NoSuchContainer(container.id)
        state = container.state()
    if not os.path.isdir(container.directory):
        raise NoSuchContainer(container.id)
    return state.exit_code


def remove(container: Container, *, force: bool = False, volumes: bool = False) -> None:
    """Remove a container and all that is its own, with `volumes` its anonymous ones too.

    One that is being started is awaited first.

    Raises Conflict in Docker's words if it runs, unless `force`, which kills it first.
    """
    try:
        os.makedirs(paths.container_locks(), mode=0o700, exist_ok=True)
        lock = containers.run_lock(container.id)
        patience = PATIENCE
        while os.path.isdir(container.directory):
            state = container.state()
            if state.is_running:
                if not force:
                    how = ": stop the container before removing or force remove"
                    if state.status == "paused":
                        how = " and must be unpaused first"
                    raise Conflict(f'cannot remove container "{container.name}": container is {state.status}{how}')
                stop(container, 0, signals.SIGKILL)
            elif lock.acquire(wait=False):
                break
            elif state.monitor_pid and not state.is_attended and patience <= 0:
                raise in_use_elsewhere(container, "remove")
            else:
                patience -= await_step(state, container.id)
        else:
            return
    except OSError as e:
        raise system_failure(f"cannot remove container {container.name}", e) from e
    try:
        removal.remove_files(container, volumes=volumes or container.host_config.auto_remove)
        removal.remove_bundle(container.id)
    finally:
        lock.remove()


def in_use_elsewhere(container: Container, action: str) -> Conflict:
    """What to say of a container whose lock is held by nobody who could be seen from here."""
    return Conflict(
        f"cannot {action} container {container.name}: it is in use by another machine, or in another "
        "pid namespace, that shares this store"
    )


def await_step(state: State, container_id: str) -> float:
    """Give those who start a container, or end one, a moment to get on: its length in seconds.

    The lock tells nothing here: who starts a container keeps it for the container's whole life. Those who copy files
    say so by another one, and may take as long as they want.
    """
    if is_locked(containers.copy_lock(container_id).path):
        time.sleep(0.01)
        return 0
    pidfd = state.monitor.open()
    if pidfd is None:
        time.sleep(0.01)  # there is no monitor yet, or no more
        return 0.01
    process.wait_exit(pidfd, 0.05)
    os.close(pidfd)
    return 0.05


def remove_damaged(container_id: str) -> None:
    """Remove a container whose record cannot be read. Raises Conflict if a process is at work there."""
    try:
        os.makedirs(paths.container_locks(), mode=0o700, exist_ok=True)
        lock = containers.run_lock(container_id)
        if not lock.acquire(wait=False):
            raise Conflict(f"cannot remove container {container_id}: it is in use, and its record cannot be read")
        try:
            staging.discard(paths.container(container_id))
            containers.drop_names(container_id)
            removal.remove_bundle(container_id)
        finally:
            lock.remove()
    except OSError as e:
        raise system_failure(f"cannot remove container {container_id}", e) from e
