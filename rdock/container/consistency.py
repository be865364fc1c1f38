"""Looking through the whole store for what does not fit together, and mending what can be mended without a doubt.

Everything is found by looking at it from outside, as a command may that holds no lock: what others are at work
on is inconsistent for moments. So each thing that is found is looked for again before it is told. Mending is
what every command does for those that were killed (removal.py), freeing names that lead nowhere, and repairing
images from what the store itself holds (image/repairing.py).
"""

from __future__ import annotations

import os
import time

from rdock import paths
from rdock.container import containers, filters, removal
from rdock.container.containers import ID_LENGTH, Container, State
from rdock.errors import DataLoss, NoSuchContainer, RdockError
from rdock.image import catalog, checking, images
from rdock.linux import process
from rdock.network import leases, networks
from rdock.state import record
from rdock.storage import layers, staging
from rdock.volume import volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds. Who makes or removes something is through by then, or still there to be seen the third time.
_PAUSE = 0.2
_LOOKS = 3


def findings(*, thorough: bool = False) -> list[str]:
    """One line for each thing that is wrong, and stays so.

    `thorough` also reads all data of images, for which the process has to be root of the user's namespaces.
    """
    found = list(dict.fromkeys(_look()))
    for _ in range(_LOOKS - 1):
        if not found:
            break
        time.sleep(_PAUSE)
        again = set(_look())
        found = [line for line in found if line in again]
    if thorough:
        from rdock.image import repairing

        found += repairing.damage()
    return found


def mend(*, thorough: bool = False) -> list[str]:
    """Bring to an end what was left half-done, free names that lead nowhere, and repair images.

    For a process that is root of the user's namespaces. What runs is not touched: everything is done under its lock.
    What cannot be repaired is told, a line each.
    """
    from rdock.container import network_removal
    from rdock.image import journal, repairing

    removal.sweep()
    journal.sweep()
    for container_id in containers.ids():
        _mend_container(container_id)
    for directory in _of_records():
        record.sweep(directory)
    for name, container_id in _links():
        container = _load(container_id)
        is_known = os.path.isdir(paths.container(container_id))
        if (not is_known and not _is_at_work(container_id)) or (container is not None and container.name != name):
            containers.drop_name(name, container_id)
    network_removal.mend_leases()
    return repairing.repair(thorough=thorough, standing=_standing())


def _standing() -> set[str]:
    """The ChainIDs of the layers that running containers stand on."""
    known = _images() or {}
    return {
        chain
        for container in containers.all_containers()
        if container.driver != "copy" and container.state().is_running
        for chain in known.get(container.image, ())
    }


def _mend_container(container_id: str) -> None:
    container = _load(container_id)
    if container is None:
        return
    state = container.state()
    if _is_forsaken(_recorded(container)) and not state.is_attended:
        removal.finish_abandoned(container_id)
    if dict(_links()).get(container.name) is None and os.path.isdir(container.directory):
        try:
            containers.take_name(container.name, container_id)
        except RdockError:
            pass  # somebody was faster


# -- looking ---------------------------------------------------------------------------------------


def _look() -> Iterator[str]:
    yield from _containers()
    yield from _names()
    yield from _locks()
    yield from _run_directories()
    for name in staging.left_behind():
        yield f"staging {name}: left by a process that was killed"
    yield from checking.findings()
    yield from _networks()
    yield from _volumes()
    yield from _temporary_files()


def _containers() -> Iterator[str]:
    try:
        entries = sorted(os.listdir(paths.containers()))
    except OSError:
        return
    links = dict(_links())
    known = _images()
    for name in entries:
        if name.startswith("."):
            continue
        if len(name) != ID_LENGTH:
            yield f"containers/{name}: is not a container"
            continue
        try:
            container = containers.load(name)
        except NoSuchContainer:
            if os.path.isdir(paths.container(name)):
                yield f"container {name[:12]}: it has no record"
            continue
        except RdockError as e:
            yield f"container {name[:12]}: {e.message}"
            continue
        who = f"container {container.short_id} ({container.name})"
        target = links.get(container.name)
        if target != container.id:
            yield f"{who}: its name " + (f"leads to {target[:12]}" if target else "leads nowhere")
        yield from (f"{who}: {text}" for text in (*_state(container), *_root(container, known)))


def _state(container: Container) -> Iterator[str]:
    try:
        state = container.recorded_state()
    except DataLoss as e:
        yield e.message
        return
    if _is_forsaken(state):
        yield "it is recorded as running, and nobody is there who sees to it"
    elif state.pid and not state.finished and not state.process.is_alive() and not state.is_attended:
        yield "it is recorded as running, and does not run"


def _is_forsaken(state: State | None) -> bool:
    """Whether a run was begun and not brought to its end, and monitor and keeper are gone."""
    return state is not None and bool(state.monitor_pid) and not state.finished and not state.is_attended


def _recorded(container: Container) -> State | None:
    try:
        return container.recorded_state()
    except DataLoss:
        return None


def _root(container: Container, known: dict[str, list[str]] | None) -> Iterator[str]:
    if container.rootfs:
        if not os.path.isdir(container.rootfs):
            yield f"its root {container.rootfs} is not there"
        return
    if known is None:
        return  # the list of images cannot be read, which is told elsewhere
    chains = known.get(container.image)
    if chains is None:
        yield f"its image {container.image[:12]} is not there"
    elif container.driver != "copy" and container.state().is_running:
        there = set(layers.chains())
        for chain in chains:
            if chain not in there:
                yield f"layer {chain[:12]}, on which it stands, is not there"


def _images() -> dict[str, list[str]] | None:
    """The ChainIDs of all images, by id; those of a damaged one are not known."""
    try:
        found: dict[str, list[str]] = {image_id: [] for image_id in catalog.read().entries}
        return found | {image.id: image.chain_ids for image in images.list_images()}
    except RdockError:
        return None


def _names() -> Iterator[str]:
    for name, container_id in _links():
        if not os.path.isdir(paths.container(container_id)):
            if not _is_at_work(container_id):
                yield f"name {name}: leads nowhere"
            continue
        container = _load(container_id)
        if container is not None and container.name != name:
            yield f"name {name}: leads to container {container.short_id}, which is called {container.name}"
    try:
        others = [entry.name for entry in os.scandir(paths.names()) if not entry.is_symlink() and entry.name != ".lock"]
    except OSError:
        return
    yield from (f"name {name}: is not a link" for name in sorted(others))


def _locks() -> Iterator[str]:
    for container_id in sorted(removal.abandoned()):
        yield f"lock {container_id[:12]}: left by a process that was killed"


def _run_directories() -> Iterator[str]:
    for container_id in removal.bundles_left():
        yield f"run directory {container_id[:12]}: left by a process that was killed"
    try:
        removed = sorted(os.listdir(paths.removed()))
    except OSError:
        return
    yield from (f"run directory {name[:12]}: its removal was broken off" for name in removed)


def _networks() -> Iterator[str]:
    damaged: list[DataLoss] = []
    for network in networks.all_networks(damaged):
        if problem := leases.damage(network.id):
            yield f"network {network.name}: {problem}"
    yield from (f"network: {error.message}" for error in damaged)
    for network_id in leases.forsaken():
        yield f"network {network_id[:12]}: it is no more, and a list of who is on it is left"


def _volumes() -> Iterator[str]:
    damaged: list[DataLoss] = []
    for volume in volumes.all_volumes(damaged):
        if not os.path.isdir(volume.mountpoint) and os.path.isdir(paths.volume(volume.name)):
            yield f"volume {volume.name}: its content {volume.mountpoint} is not there"
    yield from (f"volume: {error.message}" for error in damaged)


def _temporary_files() -> Iterator[str]:
    for directory in _of_records():
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith(".tmp") and not record.is_locked(path) and os.path.lexists(path):
                yield f"file {path}: left by a process that was killed"


def _of_records() -> list[str]:
    """The directories in which records are written."""
    holders = os.path.join(paths.holders(), process.boot_id())
    shared = [
        paths.data(),
        paths.networks(),
        *map(paths.volume, volumes.names()),
        paths.images(),
        paths.cache(),
        filters.cache(),
        holders,
        paths.layers(),
    ]
    each = [os.path.join(paths.layers(), chain) for chain in layers.chains()]
    return [*shared, *each, *map(paths.container, containers.ids())]


def _links() -> list[tuple[str, str]]:
    """The names of containers, and what they lead to."""
    found = []
    try:
        for entry in os.scandir(paths.names()):
            if entry.is_symlink():
                found.append((entry.name, os.readlink(entry.path)))
    except OSError:
        pass  # there are none, or one went meanwhile, which a second look shows
    return sorted(found)


def _load(container_id: str) -> Container | None:
    try:
        return containers.load(container_id)
    except RdockError:
        return None


def _is_at_work(container_id: str) -> bool:
    try:
        return record.is_locked(containers.run_lock(container_id).path)
    except OSError:
        return False
