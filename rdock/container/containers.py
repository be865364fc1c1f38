"""Containers on disk: the record of what each was asked to be, its state, names and lookup.

`container.json` is written once by create (and by rename and update), `state.json` by the monitor
of the last run. The status that users see is derived from both and stored nowhere.
"""

from __future__ import annotations

import os

from rdock import paths
from rdock.container.config import Config, HostConfig
from rdock.errors import Conflict, DataLoss, InvalidParameter, NoSuchContainer, SystemFailure
from rdock.launch import debug
from rdock.linux.process import Identity
from rdock.state import record
from rdock.state.record import Lock, is_locked
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ID_LENGTH = 64


class State(Value):
    """Docker's `State`, as the last monitor left it, and who that monitor and process 1 are."""

    pid: int = 0
    pid_start: int = 0
    monitor_pid: int = 0
    monitor_start: int = 0
    boot: str = ""
    started_at: str = ""
    finished_at: str = ""
    exit_code: int = 0
    error: str = ""
    finished: bool = False
    cgroup: str = ""
    """Directory of the container's control group; empty where none is delegated."""
    paused: bool = False
    held: bool = False
    """It is paused only as long as a command needs it to be, such as commit."""
    restarting: bool = False
    """The last run has ended, and the monitor waits before the next."""
    restart_count: int = 0
    stopped_by_user: bool = False
    """What ended or is to end it was asked for, so that no restart policy brings it back."""
    kept: bool = False
    """It stays after the end that was asked for, though it is one that goes with its process."""
    ports: dict[str, list[dict[str, str]]] = {}
    """The published ports in force, with those of the host that were chosen."""
    subnet: str = ""
    """The private network's addresses (Subnet.text in network/subnet.py)."""
    keeper_pid: int = 0
    keeper_start: int = 0

    @property
    def process(self) -> Identity:
        return Identity(self.pid, self.pid_start, self.boot)

    @property
    def monitor(self) -> Identity:
        return Identity(self.monitor_pid, self.monitor_start, self.boot)

    @property
    def keeper(self) -> Identity:
        """Who puts another monitor in the place of one that is killed."""
        return Identity(self.keeper_pid, self.keeper_start, self.boot)

    @property
    def is_attended(self) -> bool:
        """Whether somebody sees to the container's end."""
        return self.monitor.is_alive() or self.keeper.is_alive()

    @property
    def status(self) -> str:
        """Docker's word: created, running, paused, restarting, exited."""
        ended = "exited" if self.started_at else "created"
        if self.finished or not self.monitor_pid or not (self.process.is_alive() or self.is_attended):
            return ended
        if self.restarting:
            return "restarting"
        if not self.started_at:
            return "created"
        return "paused" if self.paused else "running"

    # What may be done to a container in this state. Docker's `Running` also holds while it is paused or between
    # two runs.

    @property
    def is_running(self) -> bool:
        return self.status in ("running", "paused", "restarting")

    @property
    def can_start(self) -> bool:
        return self.status in ("created", "exited")

    @property
    def can_be_signalled(self) -> bool:
        return self.status in ("running", "paused")

    @property
    def can_exec(self) -> bool:
        return self.status == "running"

    @property
    def can_attach(self) -> bool:
        return self.status == "running"

    @property
    def can_pause(self) -> bool:
        return self.status == "running"

    @property
    def can_unpause(self) -> bool:
        return self.status == "paused"

    @property
    def can_be_removed(self) -> bool:
        return not self.is_running


class Container(Value):
    """One container as it was created."""

    id: str
    name: str
    created: str
    image: str
    """Id of the image, 64 hex digits."""
    image_name: str
    """How the image was named when the container was made."""
    config: Config
    host_config: HostConfig
    driver: str
    id_mode: str
    networks: dict[str, Any] = {}
    """Docker's EndpointSettings of the networks that it is on, by their names."""
    rootfs: str = ""
    """The directory that is its root, of one without an image."""
    owners: dict[str, Any] = {}
    """The id map, if it is not rdock's own one to one; see owners.py."""
    mount_points: list[dict[str, Any]] | None = None
    """What is mounted inside, settled at its creation; see mount_points.py. None: by an rdock without volumes."""

    @property
    def published(self) -> dict[str, list[dict[str, str]]]:
        """The ports to publish, in the API's shape: those named, and with `-P` all that are exposed besides."""
        host = self.host_config
        exposed = self.config.exposed_ports if host.publish_all_ports else ()
        return {**{key: [{"HostIp": "", "HostPort": ""}] for key in exposed}, **host.port_bindings}

    @property
    def mounted_images(self) -> list[str]:
        """The ids of images that are mounted inside."""
        return [point["Options"]["Image"] for point in self.mount_points or () if point.get("Type") == "image"]

    @property
    def short_id(self) -> str:
        return self.id[:12]

    @property
    def directory(self) -> str:
        return paths.container(self.id)

    @property
    def log_path(self) -> str:
        return os.path.join(self.directory, f"{self.id}-json.log")

    @property
    def stop_mark(self) -> str:
        """A file that is there when the container was stopped and its monitor could not be told."""
        return os.path.join(self.directory, "stopped")

    @property
    def bundle(self) -> str:
        return paths.container_runtime(self.id)

    @property
    def root(self) -> str:
        """Where the root is mounted, in the mount namespace of the monitor only."""
        return os.path.join(self.bundle, "merged")

    def state(self) -> State:
        """What the last monitor wrote; if that cannot be read, a state that says so and lets it be removed."""
        try:
            state = self.recorded_state()
        except DataLoss as e:
            return State(finished=True, error=e.message)
        if not state.finished and state.status == "exited":
            # It was killed with its monitor, by hand or by a reboot; nobody saw how it ended.
            return state._replace(exit_code=137, error="the container's monitor was killed")
        return state

    def recorded_state(self) -> State:
        """What the last monitor wrote, as it is. Raises DataLoss."""
        path = os.path.join(self.directory, "state.json")
        found = record.read(path)
        return record.from_json(State, found, path) if found else State()

    def write_state(self, state: State, *, durable: bool) -> None:
        record.write(os.path.join(self.directory, "state.json"), record.to_json(state), durable=durable)

    def note_state(self, state: State, *, durable: bool) -> None:
        """Record what has happened, also where the container itself has filled the disk. Never fails."""
        try:
            self.write_state(state, durable=durable)
        except SystemFailure as e:
            debug(e.message)
            try:
                record.overwrite(os.path.join(self.directory, "state.json"), record.to_json(state))
            except SystemFailure as again:
                debug(again.message)


def save(container: Container, directory: str) -> None:
    """Write container.json into `directory`, which is the container's or the one it is being made in."""
    content = record.to_json(container)
    content["Config"] = record.to_json(container.config)
    content["HostConfig"] = record.to_json(container.host_config)
    # A container that goes with its process does not outlive a power cut either.
    record.write(os.path.join(directory, "container.json"), content, durable=not container.host_config.auto_remove)


def load(container_id: str) -> Container:
    """The container with this full id. Raises NoSuchContainer, and DataLoss if its record is damaged."""
    path = os.path.join(paths.container(container_id), "container.json")
    hint = f"rdock rm -f {container_id[:12]} removes what is left of it"
    try:
        found = record.read(path)
    except DataLoss as e:
        raise DataLoss(e.message, hint) from e
    if found is None:
        raise NoSuchContainer(container_id)
    try:
        found["Config"] = record.from_json(Config, found["Config"], path)
        found["HostConfig"] = record.from_json(HostConfig, found["HostConfig"], path)
        return record.from_json(Container, found, path)
    except DataLoss as e:
        raise DataLoss(e.message, hint) from e
    except KeyError as e:
        raise DataLoss(f"cannot read {path}: {e.args[0]} is missing", hint) from e


def as_it_is(container: Container) -> Container:
    """The same as it is on record by now, if it is."""
    try:
        return load(container.id)
    except (NoSuchContainer, DataLoss):
        return container


def ids() -> list[str]:
    """The ids of all containers, in no order."""
    try:
        return [name for name in os.listdir(paths.containers()) if len(name) == ID_LENGTH]
    except FileNotFoundError:
        return []


def all_containers(damaged: list[DataLoss] | None = None) -> list[Container]:
    """Every container, newest first; one that is removed meanwhile is left out.

    One whose record is damaged, too; what is wrong with it goes to `damaged`.
    """
    found = []
    for container_id in ids():
        try:
            found.append(load(container_id))
        except NoSuchContainer:
            continue
        except DataLoss as e:
            if damaged is not None:
                damaged.append(e)
    return sorted(found, key=lambda container: container.created, reverse=True)


def latest() -> Container:
    """The container that was created last. Raises NoSuchContainer if there is none."""
    found = all_containers()
    if not found:
        raise NoSuchContainer("latest")
    return found[0]


def lookup(reference: str) -> Container:
    """A container by full id, name, or the beginning of its id.

    Raises NoSuchContainer; InvalidParameter when several ids begin so; DataLoss.
    """
    return load(resolve(reference))


def resolve(reference: str) -> str:
    """The id behind what `lookup` takes."""
    if not reference or "/" in reference.lstrip("/") or reference.startswith("."):
        raise NoSuchContainer(reference)
    if len(reference) == ID_LENGTH and os.path.isdir(paths.container(reference)):
        return reference
    named = _named(reference.lstrip("/"))
    if named is not None:
        return named
    matches = [container_id for container_id in ids() if container_id.startswith(reference)]
    if len(matches) > 1:
        raise InvalidParameter(f"multiple IDs found with provided prefix: {reference}")
    if not matches:
        raise NoSuchContainer(reference)
    return matches[0]


# -- names ---------------------------------------------------------------------------------------


def _named(name: str) -> str | None:
    """The id that a name stands for; None also when that container never came to be."""
    try:
        container_id = os.readlink(os.path.join(paths.names(), name))
    except OSError:
        return None
    return container_id if os.path.isdir(paths.container(container_id)) else None


def check_name(name: str) -> str:
    """Raises InvalidParameter in Docker's words unless the name is one."""
    allowed = name.isascii() and len(name) > 1 and len(name) <= 255 and name[0].isalnum()
    if not allowed or any(not (character.isalnum() or character in "_.-") for character in name):
        raise InvalidParameter(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return name


def take_name(name: str, container_id: str) -> None:
    """Make a name stand for an id. Raises Conflict in Docker's words when it stands for another."""
    os.makedirs(paths.names(), mode=0o700, exist_ok=True)
    with names_lock():
        link_name(name, container_id)


def link_name(name: str, container_id: str) -> None:
    """The same for who has the lock of names."""
    link = os.path.join(paths.names(), name)
    try:
        os.symlink(container_id, link)
        return
    except FileExistsError:
        pass
    # Only what a killed create left behind may be replaced.
    owner = _named(name)
    if (owner is not None and owner != container_id) or _is_being_made(link):
        raise Conflict(
            f'Conflict. The container name "/{name}" is already in use by container "{owner or os.readlink(link)}". '
            "You have to remove (or rename) that container to be able to reuse that name."
        )
    record.remove(link)
    os.symlink(container_id, link)


def _is_being_made(link: str) -> bool:
    """Whether the create that took this name is still at work."""
    return is_locked(run_lock(os.readlink(link)).path)


def rewrite(container_id: str, **fields: Any) -> Container:
    """Write a container's record anew with other values in it, for who has the lock of names.

    Raises NoSuchContainer, DataLoss.
    """
    changed = load(container_id)._replace(**fields)
    try:
        save(changed, changed.directory)
    except SystemFailure:
        if not os.path.isdir(changed.directory):
            raise NoSuchContainer(container_id) from None  # it was removed meanwhile
        raise
    return changed


def drop_names(container_id: str) -> None:
    """Free whatever name stands for a container that is no more."""
    try:
        names = os.listdir(paths.names())
    except OSError:
        return
    for name in names:
        drop_name(name, container_id)


def drop_name(name: str, container_id: str) -> None:
    """Free a name, if it still stands for this container."""
    try:
        with names_lock():
            unlink_name(name, container_id)
    except OSError:
        pass


def unlink_name(name: str, container_id: str) -> None:
    """The same for who has the lock of names."""
    link = os.path.join(paths.names(), name)
    try:
        if os.readlink(link) == container_id:
            os.unlink(link)
    except OSError:
        pass


def names_lock() -> Lock:
    """Of names, and of the records of containers that exist. Its file tells of a rename; see changing.py."""
    return Lock(os.path.join(paths.names(), ".lock"))


# -- locks ---------------------------------------------------------------------------------------


def copy_lock(container_id: str) -> Lock:
    """Held, beside the run lock, while files are copied into or out of a container that does not run.

    Its file is there afterwards only if who did that was killed.
    """
    return Lock(os.path.join(paths.container(container_id), "copy.lock"))


def run_lock(container_id: str) -> Lock:
    """The lock of a container, whose file is there only while somebody is at work or was killed at it.

    Held by the command that creates or starts it and then, inherited through fork, by its monitor
    until the end. Whoever gets it knows that nobody is at work there: what lies about is rubbish.
    """
    return Lock(os.path.join(paths.container_locks(), container_id))
