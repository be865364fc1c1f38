"""What a container's mounts need before they can be made inside: volumes, images, overlays of folders.

Runs in the container's keeper, in its own mount namespace, once for a start: what is prepared here lasts over the
restarts of a policy and over the death of a monitor, and ends with the namespace. Every path below a volume, an image
or the root is resolved by the kernel without leaving it.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock import paths
from rdock.container import containers, mount_points, owners
from rdock.container.containers import Container
from rdock.errors import InvalidParameter, RdockError, SystemFailure, reason, system_failure
from rdock.linux import mount as m
from rdock.linux.inroot import O_PATH, RESOLVE_NO_SYMLINKS, open_in_root
from rdock.state.record import is_locked
from rdock.volume import filling, local_options, volumes
from rdock.volume.points import MountPoint

_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def make_sources(container: Container, found: list[MountPoint]) -> None:
    """What has to be there before the container's own mount namespace is made: folders, volumes, shared mounts.

    A source of `-v` that is missing becomes a directory, as with Docker. Raises InvalidParameter, SystemFailure.
    """
    for point in found:
        if point.type == "bind" and not os.path.lexists(point.source):
            if not point.options.get("Create"):
                raise InvalidParameter(
                    f'invalid mount config for type "bind": bind source path does not exist: {point.source}'
                )
            try:
                os.makedirs(point.source, exist_ok=True)
            except OSError as e:
                raise system_failure("cannot make the source of a mount", e) from e
    if not any(point.type == "volume" for point in found):
        return
    with volumes.locked():
        mount_points.make_volumes(found)
        for name in dict.fromkeys(point.name for point in found if point.type == "volume"):
            options = volumes.lookup(name).options
            if not local_options.is_shared(options):
                continue
            if not _is_used(name, container.id):
                local_options.unmount(name)  # what was in it has gone with who used it
            if not local_options.is_mounted(name):
                local_options.mount(name, options)


def release(container: Container) -> None:
    """Take shared mounts of volumes away that nobody else uses by now; what was in a tmpfs is gone. Never fails."""
    found = [point for point in mount_points.of(container) if point.type == "volume"]
    for point in found:
        volumes.note(point.name, "unmount", container=container.id)
    if not any(os.path.lexists(paths.mounted_volume(point.name)) for point in found):
        return
    try:
        with volumes.locked():
            for name in dict.fromkeys(point.name for point in found):
                if os.path.lexists(paths.mounted_volume(name)) and not _is_used(name, container.id):
                    local_options.unmount(name)
    except RdockError:
        pass  # the next start takes it away, and the end of the last container all


def _is_used(name: str, but_by: str) -> bool:
    """Whether another container that uses a volume runs, or is being started or coming to its end."""
    users = mount_points.users().get(name, [])
    return any(is_locked(containers.run_lock(user).path) for user in users if user != but_by)


class Preparation:
    """The sources of a container's mounts, by their destinations, where they are not simply what was named."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.sources: dict[str, str] = {}
        self._place = paths.container_mounts(container.id)
        self._count = 0
        self._root = -1

    def run(self, *, first: bool) -> dict[str, str]:
        """Prepare everything; `first`: it is the container's first start. Raises RdockError."""
        self._root = os.open(self.container.root, O_PATH | os.O_DIRECTORY)
        try:
            for point in mount_points.of(self.container):
                try:
                    if point.type == "volume":
                        self._volume(point, first=first)
                    elif point.type == "bind":
                        self._bind(point)
                    elif point.type == "image":
                        self._image(point)
                except OSError as e:
                    raise SystemFailure(f"cannot prepare the mount at {point.destination}: {reason(e)}") from e
        finally:
            os.close(self._root)
        return self.sources

    def fill_volumes(self, root: int) -> None:
        """What the first start does for volumes that are empty, for who gets at them before it. Raises RdockError."""
        self._root = root
        for point in mount_points.of(self.container):
            if point.type == "volume" and not volumes.lookup(point.name).options:
                self._fill(point, copies=True, mounted="")

    # -- volumes -------------------------------------------------------------------------------------

    def _volume(self, point: MountPoint, *, first: bool) -> None:
        options = volumes.lookup(point.name).options
        source, writable = local_options.source(point.name, options)
        self._fill(
            point,
            copies=first and (not options or local_options.is_tmpfs(options)),
            mounted=source if options else "",
        )
        if point.options.get("Subpath"):
            self.sources[point.destination] = self._below(source, point, read_only=not writable)
        else:
            self.sources[point.destination] = source if writable else self._bound(source, read_only=True)
        if point.options.get("Chown"):
            self._chown(source)
        volumes.note(
            point.name, "mount", container=self.container.id, destination=point.destination,
            propagation=point.propagation, **{"read/write": "true" if point.rw else "false"},
        )  # fmt: skip

    def _fill(self, point: MountPoint, *, copies: bool, mounted: str) -> None:
        """Give an empty volume what the image has in its place; `mounted`: where one is that is a mount of its own."""
        place = -1
        if copies and not point.options.get("NoCopy") and not point.options.get("Subpath"):
            try:
                place = open_in_root(self._root, point.destination, _READ)
            except FileNotFoundError:
                pass
            except OSError as e:
                if e.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise InvalidParameter(
                        f"cannot mount volume over existing file, file exists {point.destination}"
                    ) from e
                raise
        try:
            if not mounted:
                filling.fill(point.name, place if place >= 0 else None)
            elif place >= 0:
                filling.fill_mounted(point.name, mounted, place)
        finally:
            if place >= 0:
                os.close(place)

    def _below(self, source: str, point: MountPoint, *, read_only: bool = False) -> str:
        """A part of a volume or an image: bound while it is held open, so that it stays what it was found to be."""
        subpath = point.options["Subpath"]
        above = os.open(source, O_PATH | os.O_DIRECTORY)
        try:
            try:
                found = open_in_root(above, subpath, O_PATH, 0, RESOLVE_NO_SYMLINKS)
            except OSError as e:
                raise InvalidParameter(
                    f"failed to mount {point.type} subpath {subpath} of {point.name or point.source}: {reason(e)}"
                ) from e
            try:
                return self._bound(m.through(found), read_only=read_only)
            finally:
                os.close(found)
        finally:
            os.close(above)

    # -- binds ---------------------------------------------------------------------------------------

    def _bind(self, point: MountPoint) -> None:
        if point.options.get("Chown"):
            self._chown(point.source)
        if point.options.get("Overlay"):
            self.sources[point.destination] = self._overlay(point)
        elif point.options.get("NonRecursive"):
            try:
                self.sources[point.destination] = self._bound(point.source, read_only=False)
            except OSError as e:
                if e.errno != errno.EINVAL:
                    raise
                # What the machine's root has mounted there covers something (mount_namespaces(7), locked mounts).
                raise InvalidParameter(
                    f"{point.source}: what is mounted below cannot be left out by an ordinary user"
                ) from e
        elif not point.rw and point.options.get("Recursive") == "writable":
            # The mount itself cannot be written to, those below can: what it is made of here it is inside.
            place = self._new_place(directory=os.path.isdir(point.source))
            m.bind(point.source, place)
            m.remount_bind(place, m.MS_RDONLY)
            self.sources[point.destination] = place
        elif point.options.get("Recursive") == "readonly":
            self.sources[point.destination] = self._recursively_read_only(point)

    def _recursively_read_only(self, point: MountPoint) -> str:
        place = self._new_place(directory=os.path.isdir(point.source))
        source, target = os.open(point.source, O_PATH), os.open(place, O_PATH)
        try:
            if not m.bind_with(source, target, m.MS_RDONLY, m.MS_PRIVATE, recursive=True):
                raise InvalidParameter(f"{point.source}: this kernel cannot make what is below read-only (Linux 5.12)")
        finally:
            os.close(source)
            os.close(target)
        return place

    def _overlay(self, point: MountPoint) -> str:
        """podman's `:O`: what the container changes in a folder of the host's goes elsewhere."""
        if not os.path.isdir(point.source):
            raise InvalidParameter(f"{point.source}: an overlay is for a directory")
        upper, work = point.options.get("UpperDir"), point.options.get("WorkDir")
        if not upper:
            # Each start begins anew, as podman's do.
            own = self._new_file_system("mode=700")
            upper, work = os.path.join(own, "upper"), os.path.join(own, "work")
            os.mkdir(upper, 0o755)
            os.mkdir(work, 0o755)
            found = os.stat(point.source)
            os.chown(upper, found.st_uid, found.st_gid)
            os.chmod(upper, stat.S_IMODE(found.st_mode))
        place = self._new_place()
        fds = [os.open(path, O_PATH | os.O_DIRECTORY) for path in (point.source, upper, work or "")]
        try:
            lower, above, working = map(m.through, fds)
            data = f"lowerdir={lower},upperdir={above},workdir={working},userxattr"
            m.mount("overlay", place, "overlay", 0, data)
        finally:
            for fd in fds:
                os.close(fd)
        return place

    def _chown(self, path: str) -> None:
        """`:U`: all of it to the container's user."""
        from rdock.container import ownership, users

        user = users.resolve(self._root, self.container.config.user, self.container.host_config.group_add)
        maps = owners.maps(self.container)
        users.check_mapped(user, maps.uids, maps.gids)
        ownership.give(path, *maps.owner_outside(user.uid, user.gid))

    # -- images --------------------------------------------------------------------------------------

    def _image(self, point: MountPoint) -> None:
        from rdock.image import images
        from rdock.storage import copytree, driver

        directories = images.root_directories(images.lookup(point.options["Image"]))
        if len(directories) == 1:
            whole = self._bound(directories[0], read_only=True)
        elif not driver.probe("overlay"):
            whole = self._new_place()
            fds = [os.open(path, O_PATH | os.O_DIRECTORY) for path in directories]
            try:
                data = f"lowerdir={':'.join(map(m.through, fds))},userxattr"
                m.mount("overlay", whole, "overlay", m.MS_RDONLY, data)
            finally:
                for fd in fds:
                    os.close(fd)
        else:
            # Nothing can stack the layers here; a copy goes with the container.
            whole = os.path.join(self.container.directory, f"image-{point.options['Image']}")
            if not os.path.isdir(whole):
                half = whole + ".half"
                os.makedirs(half, exist_ok=True)
                copytree.merge(directories, half, share=False)
                os.rename(half, whole)
            whole = self._bound(whole, read_only=True)
        self.sources[point.destination] = self._below(whole, point) if point.options.get("Subpath") else whole

    # -- places --------------------------------------------------------------------------------------

    def _bound(self, source: str, *, read_only: bool) -> str:
        place = self._new_place(directory=os.path.isdir(source))
        m.bind(source, place, recursive=False)
        if read_only:
            m.remount_bind(place, m.MS_RDONLY)
        return place

    def _new_file_system(self, options: str) -> str:
        place = self._new_place()
        m.mount("tmpfs", place, "tmpfs", m.MS_NOSUID | m.MS_NODEV, options)
        return place

    def _new_place(self, *, directory: bool = True) -> str:
        """A new place to mount on, in a file system of the mount namespace's own.

        So all of it is taken away by one umount, and whoever deletes the run directory never meets what is mounted.
        """
        if not self._count:
            os.makedirs(self._place, mode=0o700, exist_ok=True)
            m.mount("tmpfs", self._place, "tmpfs", m.MS_NOSUID | m.MS_NODEV, "mode=700,size=1m")
            m.set_propagation(self._place, m.MS_PRIVATE)
        self._count += 1
        path = os.path.join(self._place, str(self._count))
        if directory:
            os.mkdir(path, 0o700)
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return path
