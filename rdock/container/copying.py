"""`cp`: files and directories between a container and the host, by the rules that Docker documents for it.

What is copied where follows from what both paths are and how they are spelled (docs.docker.com, `docker container
cp`; moby's pkg/archive/copy.go): a source directory is copied with its name into a destination that is a directory,
and takes the destination's name where nothing is yet; with `/.` at its end only what is in it. The messages are
Docker's. Paths of the container are resolved below its root by the kernel, those of the host as its user's.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock.container.places import Place
from rdock.errors import InvalidParameter, NotFound, RdockError, SystemFailure, printable, reason
from rdock.linux import idmap
from rdock.linux.inroot import O_PATH, destination, open_in_root
from rdock.scope import scope
from rdock.storage.placing import mount_id
from rdock.storage.treecopy import Owner, TreeCopy
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rdock.linux.idmap import Maps

# What a file belongs to whose owner is not among the ids of this user (proc(5), overflowuid).
_OVERFLOW = 65534


class Source(Value):
    """What is to be copied."""

    fd: int
    """O_PATH; of a link only if the link itself is meant."""
    name: str
    """The name that it gets in a directory; empty if what is in it is meant."""
    path: str
    """As it was spelled."""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(os.fstat(self.fd).st_mode)


class Destination(Value):
    """Where it goes: the name is one that is there, or is to be; without one it is the directory itself."""

    directory: int
    name: str
    exists: bool
    asserts_directory: bool
    """Whether it is spelled as a directory is."""


# -- spelling --------------------------------------------------------------------------------------


def split(argument: str) -> tuple[str, str]:
    """The container and the path of an argument; no container for a path of the host (docker/cli, splitCpArg)."""
    if argument.startswith("/"):
        return "", argument
    container, colon, path = argument.partition(":")
    if not colon or container.startswith("."):
        return "", argument
    return container, path


def _asserts_directory(path: str) -> bool:
    return path.endswith(("/", "/.")) or path == "."


def _clean(path: str) -> str:
    """A path of a container from its root, `..` taken away by the letters, as Docker does."""
    return "/" + os.path.normpath("/" + path).lstrip("/")


def _base(path: str) -> str:
    """The name that a source gets: none where it is spelled with `.` at its end, or is a root."""
    stripped = path.rstrip("/")
    name = stripped.rpartition("/")[2]
    return "" if name == "." else name


# -- sources ---------------------------------------------------------------------------------------


@scope
def source_inside(place: Place, name: str, path: str, *, follow: bool) -> Iterator[Source]:
    """What lies at a path of a container, which the caller knows by `name`. Raises NotFound, InvalidParameter."""
    cleaned = _clean(_checked(path))
    asserts = _asserts_directory(path)
    try:
        fd = open_in_root(place.root, cleaned, O_PATH | (0 if follow or asserts else os.O_NOFOLLOW))
    except OSError as e:
        raise _unreachable(name, path, e) from e
    try:
        source = Source(fd, _base(path) if _base(path) != ".." else os.path.basename(cleaned), path)
        if asserts and not source.is_directory:
            raise InvalidParameter(f"{path}: not a directory")
        yield source
    finally:
        os.close(fd)


@scope
def source_outside(path: str, *, follow: bool) -> Iterator[Source]:
    """What lies at a path of the host. Raises SystemFailure."""
    asserts = _asserts_directory(path)
    try:
        fd = os.open(path, O_PATH | (0 if follow or asserts else os.O_NOFOLLOW))
    except OSError as e:
        raise SystemFailure(f"lstat {path}: {reason(e)}") from e
    try:
        name = _base(path)
        if name == ".." or (not name and path.strip("/") and not path.endswith(".")):
            name = os.path.basename(os.path.abspath(path))
        yield Source(fd, name, path)
    finally:
        os.close(fd)


def _checked(path: str) -> str:
    if not path:
        raise InvalidParameter("bad parameter: path cannot be empty")
    if "\0" in path:
        raise InvalidParameter("bad parameter: path holds a null byte")
    return path


def _unreachable(name: str, path: str, error: OSError) -> RdockError:
    if error.errno == errno.ENOENT:
        return NotFound(f"Could not find the file {path} in container {name}")
    if error.errno == errno.ENOTDIR:
        return InvalidParameter(f"{path}: not a directory")
    return SystemFailure(f"cannot reach {path} in container {name}: {reason(error)}")


# -- destinations ----------------------------------------------------------------------------------


@scope
def destination_inside(place: Place, name: str, path: str) -> Iterator[Destination]:
    """Where a path of a container leads, which may be to nothing yet; its directory has to be there.

    Raises NotFound, InvalidParameter; also if nothing may be written there.
    """
    try:
        found = _find_inside(place, name, path)
    except OSError as e:
        raise _unreachable(name, path, e) from e
    try:
        _refuse_read_only(place, found.directory)
        yield found
    finally:
        os.close(found.directory)


def _find_inside(place: Place, name: str, path: str) -> Destination:
    cleaned, asserts = _clean(_checked(path)), _asserts_directory(path)
    exists = True
    try:
        fd = open_in_root(place.root, cleaned, O_PATH)
    except FileNotFoundError:
        _refuse_dangling(place, name, cleaned)
        exists = False
    if exists:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            return Destination(fd, "", True, asserts)
        try:
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                raise InvalidParameter(
                    f'destination "{name}:{path}" must be a directory or a regular file: got a device'
                )
            _refuse_read_only(place, fd)
        finally:
            os.close(fd)
        if asserts:
            raise InvalidParameter(f"{path}: not a directory")
    parent, last = os.path.split(destination(place.root, cleaned))
    try:
        directory = open_in_root(place.root, parent, O_PATH | os.O_DIRECTORY)
    except NotADirectoryError:
        raise InvalidParameter("extraction point is not a directory") from None
    except FileNotFoundError:
        shown = os.path.dirname(path.rstrip("/")) or "/"
        raise NotFound(f"Could not find the file {shown} in container {name}") from None
    return Destination(directory, last, exists, asserts)


def _refuse_dangling(place: Place, name: str, path: str) -> None:
    """A link that leads to nothing is no destination."""
    try:
        fd = open_in_root(place.root, path, O_PATH | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        target = os.readlink("", dir_fd=fd)
    except OSError:
        return  # it came to be just now
    finally:
        os.close(fd)
    shown = os.path.normpath(os.path.join(os.path.dirname(path), target))
    raise NotFound(f"Could not find the file {shown} in container {name}")


def _refuse_read_only(place: Place, fd: int) -> None:
    if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
        what = "container rootfs" if mount_id(fd) == mount_id(place.root) else "mounted volume"
        raise InvalidParameter(f"{what} is marked read-only")


@scope
def destination_outside(path: str) -> Iterator[Destination]:
    """Where a path of the host leads, in the same way (docker/cli, ValidateOutputPath; CopyInfoDestinationPath).

    Raises InvalidParameter, SystemFailure.
    """
    try:
        found = _find_outside(path)
    except NotADirectoryError:
        raise InvalidParameter(f"{path}: not a directory") from None
    except OSError as e:
        raise SystemFailure(f"lstat {path}: {reason(e)}") from e
    try:
        yield found
    finally:
        os.close(found.directory)


def _find_outside(path: str) -> Destination:
    asserts = _asserts_directory(path)
    above = os.path.dirname(os.path.normpath(path))
    if above and not os.path.exists(above):
        raise InvalidParameter(f'invalid output path: directory "{above}" does not exist')
    exists = True
    try:
        fd = os.open(path, O_PATH)
    except FileNotFoundError:
        exists = False
    if exists:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            return Destination(fd, "", True, asserts)
        os.close(fd)
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise InvalidParameter(f'invalid output path: "{path}" must be a directory or a regular file: got a device')
    # As for Docker a link that leads to nothing yet is one to what shall be made.
    target = os.path.realpath(path)
    directory = os.open(os.path.dirname(target), O_PATH | os.O_DIRECTORY)
    return Destination(directory, os.path.basename(target), exists, asserts)


# -- the act ---------------------------------------------------------------------------------------


def transfer(source: Source, target: Destination, copier: TreeCopy) -> None:
    """Copy by the rules. Raises InvalidParameter in Docker's words; what TreeCopy raises."""
    is_directory = source.is_directory
    path = source.path.rstrip("/") if source.name else source.path.rstrip("/").removesuffix("/.")
    if not target.name:
        if is_directory and not source.name:
            copier.fill(source.fd, target.directory, path)
        else:
            copier.copy(source.fd, target.directory, source.name, path)
        return
    if target.exists and is_directory:
        raise InvalidParameter("cannot copy directory")
    if not target.exists and target.asserts_directory and not is_directory:
        raise InvalidParameter("no such directory")
    copier.copy(source.fd, target.directory, target.name, path)


def copier_out(place: Place, *, archive: bool, note: Callable[[str], None]) -> TreeCopy:
    """For copies to the host: they belong to the caller; with `archive` to the ids that they have in the container.

    What was set-user-ID or set-group-ID of somebody in the container never becomes so of the caller's on the host.
    """
    keep = archive and not _has_one_id()
    owner, bits = _same if keep else _nobody_else, 0o7777 & ~(stat.S_ISUID | stat.S_ISGID)
    return TreeCopy(owner=owner, reowns=keep, note=note, hollow=place.kernels, mode_bits=bits)


def copier_in(maps: Maps, *, archive: bool, note: Callable[[str], None]) -> TreeCopy:
    """For copies into a container: they belong to its root; with `archive` to whom they belong as seen from there.

    `maps` are the container's; who has no number in it is root there, too.
    """
    root = maps.owner_outside(0, 0)

    def mapped(found: os.stat_result) -> Owner:
        uid, gid = found.st_uid, found.st_gid
        return root[0] if uid == _OVERFLOW else uid, root[1] if gid == _OVERFLOW else gid

    keep = archive and not _has_one_id()
    return TreeCopy(owner=mapped if keep else lambda _: root, reowns=keep, note=note, privileges=True)


def _has_one_id() -> bool:
    return min(sum(entry.size for entry in idmap.read_map(kind)) for kind in ("uid", "gid")) == 1


def _nobody_else(_: os.stat_result) -> Owner:
    return None


def _same(found: os.stat_result) -> Owner:
    return found.st_uid, found.st_gid


def message(size: str, target: str) -> str:
    """What Docker says at the end."""
    return f"Successfully copied {size} to {printable(target)}\n"
