"""Taking containers away, and the rubbish of processes that were killed.

Whoever removes a container holds its run lock. The order makes every instant safe: the directory
leaves the store by one rename, then the name is free, then files are deleted; a process that dies in
between leaves only what `sweep` finds by its lock that nobody holds.
"""

from __future__ import annotations

import os

from rdock import paths
from rdock.container import changing, containers, events
from rdock.container.containers import Container, State
from rdock.errors import NoSuchContainer, RdockError
from rdock.linux import process, signals
from rdock.linux.tree import remove_path
from rdock.state import record, timestamp
from rdock.storage import staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def remove_files(container: Container, *, volumes: bool) -> None:
    """Remove a container that does not run: its record, its writable layer, its log, its name.

    With `volumes` those too that nobody has named and nobody else uses.
    """
    for name in withdraw(container, volumes=volumes):
        staging.delete(name)


def withdraw(container: Container, *, volumes: bool) -> list[str]:
    """Let a container that does not run disappear; its files, for staging.delete."""
    try:
        container = containers.load(container.id)  # it may have been renamed since it was read
    except RdockError:
        pass
    names = []
    if volumes and any(point.get("Type") == "volume" for point in container.mount_points or ()):
        from rdock.container import mount_points

        # Before the container: should this process be killed in between, it can be removed again, with all of them.
        names += mount_points.withdraw_anonymous(container)
    names.append(staging.withdraw(container.directory))
    containers.drop_name(container.name, container.id)
    events.note(container, "destroy")
    return names


def remove_bundle(container_id: str) -> None:
    """Remove the run directory: out of sight in one step, then for good."""
    try:
        os.makedirs(paths.removed(), mode=0o700, exist_ok=True)
        gone = os.path.join(paths.removed(), f"{container_id}.{os.getpid()}")
        os.rename(paths.container_runtime(container_id), gone)
        remove_path(gone)
    except OSError:
        pass  # not there; or in use, then the next sweep takes it


def bundles_left() -> Iterator[str]:
    """The run directories of containers at which nobody is at work: the lock is made before and removed after them.

    Those of containers that are not in this store are another store's, which shares the runtime directory.
    """
    try:
        found = os.listdir(os.path.join(paths.runtime(), "containers"))
    except OSError:
        return
    for container_id in found:
        is_ours = os.path.isdir(paths.container(container_id))
        if is_ours and not os.path.exists(containers.run_lock(container_id).path):
            yield container_id


def _sweep_removed() -> None:
    try:
        for name in os.listdir(paths.removed()):
            remove_path(os.path.join(paths.removed(), name))
    except OSError:
        pass


def abandoned() -> list[str]:
    """The ids of containers at which somebody was at work who is no more."""
    try:
        return [found for found in os.listdir(paths.container_locks()) if not _is_at_work(found)]
    except OSError:
        return []


def _is_at_work(container_id: str) -> bool:
    try:
        return record.is_locked(containers.run_lock(container_id).path)
    except OSError:
        return True


def sweep() -> None:
    """Bring what killed processes left to an end: finish their containers, remove half-made things."""
    from rdock.container import filters

    for container_id in abandoned():
        finish_abandoned(container_id)
    for container_id in bundles_left():
        finish_abandoned(container_id)  # under the lock: somebody may just begin
    _sweep_removed()
    changing.finish()
    staging.sweep(_finish_journal)
    holders = os.path.join(paths.holders(), process.boot_id())
    for directory in (paths.data(), paths.images(), paths.cache(), filters.cache(), holders):
        record.sweep(directory)


def finish_abandoned(container_id: str) -> None:
    """Finish one container and remove its run directory, unless somebody is at work there. Never fails."""
    lock = containers.run_lock(container_id)
    try:
        if lock.acquire(wait=False):
            finish(container_id)
            remove_bundle(container_id)
            lock.remove()
    except (OSError, RdockError):
        pass
    finally:
        lock.release()


def _finish_journal(path: str) -> bool:
    """Bring what was done to images to its end; the journal says what it was about."""
    from rdock.image import journal

    return journal.finish(path)


def _undo_runtime(container: Container) -> None:
    """An external runtime's process 1 does not end with its monitor, and may not have been recorded yet."""
    if not container.host_config.external_runtime:
        return
    from rdock.runtime import engines

    try:
        engines.choose(container.host_config.external_runtime).delete(container.id, container.bundle)
    except RdockError:
        pass  # it is not installed any more


def finish(container_id: str) -> None:
    """Bring a container whose monitor was killed to its end, under its run lock."""
    from rdock.linux import cgroup  # ps, which only looks whether there is such a one, does without

    # Found by its name: the record that tells of it may not have been written yet, or be gone already.
    group = cgroup.find(f"rdock-{container_id}")
    try:
        container = containers.load(container_id)
    except NoSuchContainer:
        containers.drop_names(container_id)
        if group:
            group.end()
        return
    _undo_runtime(container)
    state = container.state()
    if not state.finished:
        _kill_process(container, state)
        if state.cgroup:
            cgroup.Cgroup(state.cgroup).end()
        if state.monitor_pid:
            ended = state._replace(
                pid=0, pid_start=0, ports={}, finished=True, exit_code=137, finished_at=timestamp.now(),
                error="the container's monitor was killed",
            )  # fmt: skip
            container.note_state(ended, durable=True)
    if group:
        group.end()
    if container.host_config.own:
        from rdock.container import handing_over

        handing_over.at_end(container)
    record.sweep(container.directory)
    copying = containers.copy_lock(container_id).path
    # It goes with its process, and has not had one if all that was killed was a copying of files.
    is_kept = not state.started_at and os.path.exists(copying)
    record.remove(copying)
    if container.host_config.auto_remove and not is_kept:
        remove_files(container, volumes=True)


def _kill_process(container: Container, state: State) -> None:
    """End a process 1 that nobody attends to any more, and what it would leave behind."""
    from rdock.linux import namespaces
    from rdock.runtime import remains

    pidfd = state.process.open()
    if pidfd is None:
        return
    own: dict[str, int] = {}
    try:
        if not container.host_config.has_own_pids:
            own = namespaces.open_all(state.pid, ("mount",))
        signals.pidfd_send_signal(pidfd, signals.SIGKILL)
        process.wait_exit(pidfd, 10)
        remains.end(own)
    except OSError:
        pass  # it has just ended
    finally:
        for fd in (pidfd, *own.values()):
            os.close(fd)
