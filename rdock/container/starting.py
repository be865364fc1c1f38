"""How a container is started: it is claimed by its run lock, and a keeper is forked, which does the rest.

A module of its own for its imports: what the keeper and the monitor need has to be there before they are
forked, and the commands that start nothing do without it.
"""

from __future__ import annotations

import os
import sys

from rdock import paths
from rdock.container import attach, containers, events, held_signals, keeper, lifecycle, removal
from rdock.container.containers import Container
from rdock.container.creating import Made
from rdock.errors import Conflict, RdockError, system_failure
from rdock.image import images
from rdock.linux import sockets
from rdock.state import record


def claim(container: Container) -> Made | None:
    """Take a container that exists, to start it; None if it runs already.

    One that is being started or is coming to its end is awaited. Raises Conflict in Docker's words, and
    NoSuchContainer if it is removed meanwhile.
    """
    os.makedirs(paths.container_locks(), mode=0o700, exist_ok=True)
    lock = containers.run_lock(container.id)
    patience = lifecycle.PATIENCE
    while True:
        state = container.state()
        if state.status == "paused":
            raise Conflict("cannot start a paused container, try unpause instead")
        if not state.can_start:
            return None
        if lock.acquire(wait=False):
            break
        if state.monitor_pid and not state.is_attended and patience <= 0:
            raise lifecycle.in_use_elsewhere(container, "start")
        patience -= lifecycle.await_step(state, container.id)
    try:
        made = Made(containers.load(container.id), lock)
        if made.container.state().can_start:
            return made
    except BaseException:
        lock.remove()
        raise
    lock.remove()
    return None


def start(
    made: Made, console_size: tuple[int, int] | None = None, *, attached: bool = False
) -> tuple[sockets.socket, int]:
    """Start a created container: the connection to its streams, and the pid of its keeper.

    With `attached` signals are held back from the moment on from which they are for the container; until
    then, as while an image is unpacked, they end the command.

    The keeper is a child of this process; whoever stays reaps it. Returns when the container's
    program runs. Raises what kept it from running; a container with `auto_remove` is gone then.
    """
    container = made.container
    try:
        os.makedirs(container.bundle, mode=0o700, exist_ok=True)
        record.remove(container.stop_mark)
        directories = [] if container.rootfs else images.root_directories(images.lookup(container.image))
        if container.mount_points or container.host_config.binds:
            from rdock.container import mount_points, mounting

            mounting.make_sources(container, mount_points.of(container))
    except BaseException as e:
        _give_up(made)
        if isinstance(e, OSError):
            raise system_failure("cannot start the container", e) from e
        raise
    ours, theirs = sockets.packet_pair()
    order = keeper.Order(container, directories, theirs, made.lock, console_size)
    if attached:
        held_signals.hold_back()
    pid = os.fork()
    if pid == 0:
        ours.close()
        keeper.run(order)
    theirs.close()
    made.lock.release()
    try:
        missing = attach.await_start(ours)
    except attach.MonitorGone:
        successor = _attach_to_successor(container)
        if successor is None:
            os.waitpid(pid, 0)
            raise
        return successor, pid
    except BaseException:
        os.waitpid(pid, 0)
        raise
    if missing:
        sys.stderr.write(f"rdock: note: this container has no way out of here: {missing}\n")
    return ours, pid


def _attach_to_successor(container: Container) -> sockets.socket | None:
    """The streams of a container whose monitor was killed just when the program had begun to run."""
    try:
        connection = attach.connect(container.bundle)
        attach.await_start(connection)
    except (OSError, RdockError):
        return None
    return connection


def _give_up(made: Made) -> None:
    """A container whose start did not come about, before there was a monitor to clear up."""
    if made.container.host_config.auto_remove:
        removal.remove_files(made.container, volumes=True)
    removal.remove_bundle(made.container.id)
    made.lock.remove()


def restart(container: Container, seconds: int | None = None, number: int | None = None) -> None:
    """Stop a container if it runs, and start it. Raises what stop and start raise."""
    lifecycle.stop(container, seconds, number, keep=True)
    made = claim(container)
    if made is not None:
        start(made)
    events.note(container, "restart")
