"""`--userns` and `--own`: which id map a container gets, settled when it is made.

podman's modes for users without root: `keep-id` has the caller's own id inside under the number that it has on
the host, or another one; `nomap` does without it; `auto` has a range of ids that no other such container has. The
maps are podman's, too: root inside is the first of the caller's subordinate ids where it is not the caller.
Imported only where one of them is asked for.
"""

from __future__ import annotations

import os

from rdock import paths
from rdock.container import containers, owners, sharing, users
from rdock.container.containers import Container
from rdock.errors import InvalidParameter, Unavailable, Unsupported
from rdock.image import images
from rdock.linux.idmap import Mapping, Maps
from rdock.linux.inroot import O_PATH, read_small_file
from rdock.runtime import rootless
from rdock.scope import scope
from rdock.state.record import Lock
from rdock.storage.union import Union, open_file
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rdock.container.config import HostConfig

KEEP_ID, NOMAP, AUTO, OWN = "keep-id", "nomap", "auto", "me"
_OPTIONS: dict[str, tuple[str, ...]] = {KEEP_ID: ("uid", "gid"), NOMAP: (), AUTO: ("size",)}
# Of a range whose size nobody has chosen, as in podman; and the id above which `auto` hands nothing out, since what
# belongs to nobody must not belong to somebody.
_LEAST, _MOST = 1024, 65533
_READ_LIMIT = 1 << 20


class Mode(Value):
    """A mode and its options."""

    name: str
    options: dict[str, int]


def parse(text: str) -> Mode:
    """`keep-id[:uid=N,gid=N]`, `nomap`, `auto[:size=N]`. Raises InvalidParameter in the words of Docker and podman."""
    name, colon, rest = text.partition(":")
    if name not in _OPTIONS or (colon and not _OPTIONS[name]):
        raise InvalidParameter("--userns: invalid USER mode")
    found = {}
    for part in rest.split(",") if colon else ():
        key, equals, value = part.partition("=")
        if not equals:
            raise InvalidParameter(f'--userns: invalid option specified: "{part}"')
        if key not in _OPTIONS[name]:
            raise InvalidParameter(f'--userns: unknown option specified: "{key}"')
        if not (value.isascii() and value.isdecimal()):
            raise InvalidParameter(f'--userns: invalid {key}: parsing "{value}": invalid syntax')
        if len(value) > 20 or int(value) > users.MAX_ID or (key == "size" and int(value) == 0):
            raise InvalidParameter(f'--userns: invalid {key}: parsing "{value}": value out of range')
        found[key] = int(value)
    return Mode(name, found)


def check_own(text: str, host: HostConfig) -> str:
    """The value of `--own`. Raises InvalidParameter."""
    if text != OWN:
        raise InvalidParameter(f'invalid argument "{text}" for "--own" flag: it can only be {OWN}')
    mode = host.userns_mode.partition(":")[0]
    if mode in (NOMAP, AUTO):
        raise InvalidParameter(f"conflicting options: --own and --userns={mode}, in which you have no id")
    return text


def default_user(text: str) -> str:
    """Who runs in a container of this mode, if nobody is named: with keep-id the caller."""
    if text.partition(":")[0] != KEEP_ID:
        return ""
    uid, gid = _kept(parse(text))
    return f"{uid}:{gid}"


def _kept(mode: Mode) -> tuple[int, int]:
    caller = rootless.entered()
    return mode.options.get("uid", caller.uid), mode.options.get("gid", caller.gid)


@scope
def settled(container: Container) -> Iterator[Container]:
    """A new container with its map on its record, which is to be saved before the end of the `with`.

    Raises InvalidParameter and Unavailable where there cannot be such a map.
    """
    if container.host_config.userns_mode.partition(":")[0] != AUTO:
        yield _with(container, _map(container))
        return
    # Until the record is there that says which ids are taken.
    with Lock(os.path.join(paths.data(), "userns.lock")):
        yield _with(container, _map(container))


def _with(container: Container, maps: Maps) -> Container:
    if maps.is_one_to_one:
        return container
    container = container._replace(owners=maps.to_json())
    if owners.shifted(container) is not None:
        from rdock.storage import driver

        container = container._replace(driver=driver.chosen_for_owners())
    return container


def _map(container: Container) -> Maps:
    """Raises InvalidParameter, Unavailable."""
    host, here = container.host_config, owners.own()
    donors = _donors(host)
    if not donors:
        return _own_map(container, here)
    # Who shares a namespace of another container lives in that one's user namespace, and so under its map.
    asked = _own_map(container, here) if host.own or host.userns_mode not in ("", "host") else None
    for donor in donors:
        theirs = owners.recorded(donor) or here
        mode = donor.host_config.userns_mode.partition(":")[0]
        if mode in (NOMAP, AUTO) or (asked or theirs) != theirs:
            raise InvalidParameter(
                f"conflicting options: a container that shares a namespace of {donor.name} has its user ids as well, "
                + (f"which are made for {donor.name} alone" if mode in (NOMAP, AUTO) else "which are others")
            )
    return owners.recorded(donors[0]) or here


def _donors(host: HostConfig) -> list[Container]:
    modes = [mode for mode in sharing.modes(host).values() if mode.startswith(sharing.CONTAINER)]
    return [containers.load(mode.removeprefix(sharing.CONTAINER)) for mode in modes]


def _own_map(container: Container, here: Maps) -> Maps:
    host = container.host_config
    if host.userns_mode in ("", "host"):
        user = users.resolve(_Files(container).read, container.config.user)
        # Root is the caller as it is; who else it becomes is seen to when it ends (handing_over.py).
        return here if user.uid == 0 or not host.own else _keeping(user.uid, user.gid, here, f"user {user.uid}")
    mode = parse(host.userns_mode)
    if mode.name == KEEP_ID:
        return _keeping(*_kept(mode), here, f"--userns={KEEP_ID}")
    if _count(here.uids) < 2 or _count(here.gids) < 2:
        raise Unavailable(
            f"--userns={mode.name} needs user ids besides your own, and there are none here",
            hint="rdock doctor tells how to get some",
        )
    if host.external_runtime:
        # It takes the ids of the container's root before it opens anything, and that one cannot pass the directories,
        # with mode 0700, in which the container's root is mounted (see runtime/child.py).
        raise Unsupported(
            f"--userns={mode.name}: only rdock's own runtime can open your files for a container without your id",
            hint="leave out --runtime, or give --runtime rdock",
        )
    if mode.name == NOMAP:
        return Maps(*((Mapping(0, 1, _count(mappings) - 1),) for mappings in (here.uids, here.gids)))
    size = mode.options.get("size") or _size_for(container)
    start = _free(size, min(_count(here.uids), _count(here.gids)), _taken())
    return Maps((Mapping(0, start, size),), (Mapping(0, start, size),))


def _count(mappings: tuple[Mapping, ...]) -> int:
    return sum(m.size for m in mappings)


def _keeping(uid: int, gid: int, here: Maps, what: str) -> Maps:
    """The map in which the caller has these numbers. Raises InvalidParameter."""
    return Maps(_around(uid, _count(here.uids), "user", what), _around(gid, _count(here.gids), "group", what))


def _around(own: int, count: int, kind: str, what: str) -> tuple[Mapping, ...]:
    """`own` is the caller, the other ids are the subordinate ones in their order."""
    if count == 1:
        return (Mapping(own, 0, 1),)
    if own >= count:
        raise InvalidParameter(
            f"{what}: {kind} id {own} is beyond the {count} ids that a container has here",
            hint="--userns=keep-id:uid=1000,gid=1000 has you under other numbers inside",
        )
    pieces = [Mapping(0, 1, own), Mapping(own, 0, 1), Mapping(own + 1, own + 1, count - own - 1)]
    return tuple(piece for piece in pieces if piece.size)


# -- auto ------------------------------------------------------------------------------------------


def _taken() -> list[tuple[int, int]]:
    """First and last ids of the ranges that containers have for themselves, those that do not run as well."""
    found = []
    for container in containers.all_containers():
        maps = owners.recorded(container)
        if maps is not None and container.host_config.userns_mode.partition(":")[0] == AUTO:
            found += [(m.outside, m.outside + m.size - 1) for m in (*maps.uids, *maps.gids)]
    return found


def _free(size: int, count: int, taken: list[tuple[int, int]]) -> int:
    """The first of so many ids in a row that are free; the highest there are, where images have hardly any users.

    Raises InvalidParameter in podman's words.
    """
    last = min(count - 1, _MOST)
    for first_taken, last_taken in sorted(taken, reverse=True):
        if last - size >= last_taken:
            break
        last = min(last, first_taken - 1)
    if last - size + 1 < 1:
        raise InvalidParameter(
            f"--userns=auto: could not find enough available IDs: {size} in a row",
            hint="other containers have them: rdock ps -a --format '{{.Names}}' shows which there are",
        )
    return last - size + 1


def _size_for(container: Container) -> int:
    """How many ids the image has users and groups for, as podman counts: the highest but for nobody's."""
    files = _Files(container)
    user = users.resolve(files.read, container.config.user, container.host_config.group_add)
    ids = [user.uid, user.gid, *user.groups]
    for path, columns in (("/etc/passwd", (2, 3)), ("/etc/group", (2,))):
        for line in (files.read(path) or b"").decode("utf-8", "surrogateescape").splitlines():
            fields = line.split(":")
            texts = [fields[column] for column in columns if column < len(fields)]
            ids += [int(text) for text in texts if text.isascii() and text.isdecimal() and len(text) < 6]
    return max(_LEAST, *(number + 1 for number in ids if number < _MOST))


# -- what it stands on -----------------------------------------------------------------------------


class _Files:
    """Files of a root that is not mounted yet."""

    def __init__(self, container: Container) -> None:
        self.container = container

    def read(self, path: str) -> bytes | None:
        if self.container.rootfs:
            root = os.open(self.container.rootfs, O_PATH | os.O_DIRECTORY)
            try:
                return read_small_file(root, path, _READ_LIMIT)
            finally:
                os.close(root)
        with Union(images.root_directories(images.lookup(self.container.image))) as union:
            try:
                parts = union.resolve(os.fsencode(path))
                directory = union.open(parts[:-1])
                found = directory.find(parts[-1]) if directory and parts else None
                if directory is None or found is None or found.stat.st_size > _READ_LIMIT:
                    return None
                fd = open_file(directory.parts[found.layer], parts[-1])
            except OSError:
                return None
            try:
                return os.read(fd, _READ_LIMIT)
            finally:
                os.close(fd)
