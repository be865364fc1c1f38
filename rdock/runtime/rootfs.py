"""The container's root: a plan of mounts, devices and masks that can be printed, then executed, then entered.

Runs in the container's own user and mount namespaces, before pivot_root. Every place inside the root
is resolved by the kernel below the root's descriptor (linux/inroot.py) and used through that very
descriptor, so image content, also while it changes, chooses nothing outside (CVE-2021-30465,
CVE-2025-31133, CVE-2025-52881). OCI runtime spec 1.2: config.md `mounts`, config-linux.md.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock.linux import mount as m
from rdock.linux.inroot import O_PATH, RESOLVE_NO_SYMLINKS, make_directory, make_file, open_in_root
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FLAGS = {
    "ro": (m.MS_RDONLY, True), "rw": (m.MS_RDONLY, False),
    "nosuid": (m.MS_NOSUID, True), "suid": (m.MS_NOSUID, False),
    "nodev": (m.MS_NODEV, True), "dev": (m.MS_NODEV, False),
    "noexec": (m.MS_NOEXEC, True), "exec": (m.MS_NOEXEC, False),
    "sync": (m.MS_SYNCHRONOUS, True), "async": (m.MS_SYNCHRONOUS, False),
    "dirsync": (m.MS_DIRSYNC, True),
    "noatime": (m.MS_NOATIME, True), "atime": (m.MS_NOATIME, False),
    "nodiratime": (m.MS_NODIRATIME, True), "diratime": (m.MS_NODIRATIME, False),
    "relatime": (m.MS_RELATIME, True), "norelatime": (m.MS_RELATIME, False),
    "strictatime": (m.MS_STRICTATIME, True), "nostrictatime": (m.MS_STRICTATIME, False),
    "bind": (m.MS_BIND, True), "rbind": (m.MS_BIND | m.MS_REC, True),
    "defaults": (0, True),
}  # fmt: skip
PROPAGATION = {
    "private": m.MS_PRIVATE, "rprivate": m.MS_PRIVATE | m.MS_REC,
    "slave": m.MS_SLAVE, "rslave": m.MS_SLAVE | m.MS_REC,
    "shared": m.MS_SHARED, "rshared": m.MS_SHARED | m.MS_REC,
    "unbindable": m.MS_UNBINDABLE, "runbindable": m.MS_UNBINDABLE | m.MS_REC,
}  # fmt: skip

# /dev of every container: bound from the host, since a user namespace may not make device nodes.
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
    "core": "/proc/kcore",
}


# Where Docker's own file systems are; in their places images have no say.
_OWN = ("/dev", "/dev/shm")
_KERNELS = ("/proc", "/sys")
_PROC_ROOT_INODE = 1
# The source of a bind that is a mount already, and only has to find its place (linux/mount.py: detached).
_DESCRIPTOR = "/proc/self/fd/"


class Mount(Value):
    """One entry of the spec's `mounts`."""

    target: str
    source: str
    fstype: str
    flags: int
    propagation: int
    data: str
    opened: int = -1
    """The source of a bind, if it is open already (`open_sources`)."""

    @classmethod
    def from_spec(cls, entry: dict[str, Any], opened: int = -1) -> Mount:
        flags, propagation, data = 0, 0, []
        for option in entry.get("options", ()):
            if option in _FLAGS:
                flag, on = _FLAGS[option]
                flags = flags | flag if on else flags & ~flag
            elif option in PROPAGATION:
                propagation = PROPAGATION[option]
            else:
                data.append(option)
        if entry.get("type") == "bind":
            flags |= m.MS_BIND
        fstype = entry.get("type", "none")
        return cls(
            entry["destination"],
            entry.get("source", ""),
            "cgroup2" if fstype == "cgroup" else fstype,
            flags,
            propagation,
            ",".join(data),
            opened,
        )

    def describe(self) -> str:
        if self.flags & m.MS_BIND:
            return f"bind {self.source} on {self.target} (flags {self.flags:#x})"
        return f"mount {self.fstype} on {self.target} (flags {self.flags:#x}, {self.data})"

    def execute(self, root: int) -> None:
        if self.flags & m.MS_BIND:
            if self._bind(root):
                return
        else:
            if self.fstype == "tmpfs" and self.target not in _OWN:
                # Wherever the image's links say: /var/run is often one.
                target = make_directory(root, self.target)
                _check_not_proc(root, target, self.target)
            else:
                # A link at /proc, /sys or /dev would put the real one where nothing looks for it.
                target = _directory_without_links(root, self.target)
            try:
                m.mount(self.source or self.fstype, m.through(target), self.fstype, self.flags, self.data)
            except OSError as e:
                raise OSError(e.errno, e.strerror, self.target) from e
            finally:
                os.close(target)
        # The whole tree is private already, or at most a slave (see `prepare`).
        if self.propagation and self.propagation != m.MS_PRIVATE | m.MS_REC:
            with _Opened(root, self.target) as fd:
                m.mount("", m.through(fd), "", self.propagation)

    def _bind(self, root: int) -> bool:
        """Whether the propagation is set too."""
        source = os.open(self.source, O_PATH) if self.opened < 0 else self.opened
        try:
            directory = stat.S_ISDIR(os.fstat(source).st_mode)
            if self.target in _KERNELS:
                target = _directory_without_links(root, self.target)
            else:
                target = (make_directory if directory else make_file)(root, self.target)
            rest = self.flags & ~(m.MS_BIND | m.MS_REC)
            try:
                _check_not_proc(root, target, self.target)
                if self.target == "/dev/shm" and self.source.startswith(_DESCRIPTOR):
                    m.move(int(self.source.removeprefix(_DESCRIPTOR)), target, rest)
                    return True
                # Who shares the target's volume may exchange it at any moment, so flags are not set afterwards.
                if m.bind_with(source, target, rest, self.propagation, recursive=bool(self.flags & m.MS_REC)):
                    return True
                m.mount(m.through(source), m.through(target), "", self.flags & (m.MS_BIND | m.MS_REC))
            except OSError as e:
                raise OSError(e.errno, e.strerror, self.target) from e
            finally:
                os.close(target)
        finally:
            os.close(source)
        if rest:
            with _Opened(root, self.target) as fd:
                m.remount_bind(m.through(fd), rest)
        return False


class Devices(Value):
    """The nodes, links and console of a fresh /dev."""

    extra: tuple[str, ...]
    terminal: bool

    def describe(self) -> str:
        return "devices " + " ".join((*DEVICES, *self.extra))

    def execute(self, root: int) -> None:
        with _Opened(root, "/dev", RESOLVE_NO_SYMLINKS) as dev:
            for name, number in DEVICES.items():
                _bind_device(f"/dev/{name}", number, dev, name)
            for path in self.extra:
                _bind_device(path, None, root, path)
            for name, target in _LINKS.items():
                try:
                    os.symlink(target, name, dir_fd=dev)
                except FileExistsError:
                    pass


class Mask(Value):
    """A path of the kernel's that a container has no business to read."""

    path: str

    def describe(self) -> str:
        return f"mask {self.path}"

    def execute(self, root: int) -> None:
        target = _open_protected(root, self.path)
        if target is None:
            return
        try:
            if stat.S_ISDIR(os.fstat(target).st_mode):
                m.mount("tmpfs", m.through(target), "tmpfs", m.MS_RDONLY, "size=0k,nr_inodes=1")
            else:
                null = _open_device("/dev/null", DEVICES["null"])
                try:
                    m.bind(m.through(null), m.through(target), recursive=False)
                finally:
                    os.close(null)
        except OSError as e:
            raise OSError(e.errno, e.strerror, self.path) from e
        finally:
            os.close(target)


class ReadOnly(Value):
    """A path that stays visible and cannot be written."""

    path: str

    def describe(self) -> str:
        return f"read-only {self.path}"

    def execute(self, root: int) -> None:
        target = _open_protected(root, self.path)
        if target is None:
            return
        try:
            # With what is mounted below, as in a /proc that is the host's.
            if not m.bind_with(target, target, m.MS_RDONLY, m.MS_PRIVATE, recursive=True):
                m.bind(m.through(target), m.through(target))
                with _Opened(root, self.path, RESOLVE_NO_SYMLINKS) as fd:
                    m.remount_bind(m.through(fd), m.MS_RDONLY)
        except OSError as e:
            raise OSError(e.errno, e.strerror, self.path) from e
        finally:
            os.close(target)


Operation = Mount | Devices | Mask | ReadOnly


def open_sources(spec: dict[str, Any]) -> list[int]:
    """Descriptors of what will be bound, one for each of the spec's mounts; -1 where that is none, or cannot be opened.

    To be called before the process takes the ids of the container's root, unless that is the caller as well: then none
    are opened. The mount itself tells what is wrong.
    """
    linux = spec.get("linux", {})
    ids = [*linux.get("uidMappings", ()), *linux.get("gidMappings", ())]
    if all(entry["containerID"] == entry["hostID"] for entry in ids):
        return []
    found = []
    for entry in spec.get("mounts", ()):
        fd = -1
        if entry.get("type") == "bind":
            try:
                fd = os.open(entry["source"], O_PATH)
            except OSError:
                pass
        found.append(fd)
    return found


def plan(spec: dict[str, Any], sources: list[int] | tuple[()] = ()) -> list[Operation]:
    """What will be done to the root, in order. `sources` is what `open_sources` has found."""
    linux = spec.get("linux", {})
    entries = spec.get("mounts", ())
    mounts = [
        Mount.from_spec(entry, opened) for entry, opened in zip(entries, sources or [-1] * len(entries), strict=True)
    ]
    steps: list[Operation] = list(mounts)
    own_dev = any(mount.target == "/dev" and mount.fstype == "tmpfs" for mount in mounts)
    if own_dev:
        extra = tuple(device["path"] for device in linux.get("devices", ()))
        steps.append(Devices(extra, bool(spec["process"].get("terminal"))))
    return steps


def protections(spec: dict[str, Any]) -> list[Operation]:
    """What closes the root at the end, when nothing needs to be written there any more."""
    linux = spec.get("linux", {})
    return [
        *(Mask(path) for path in linux.get("maskedPaths", ())),
        *(ReadOnly(path) for path in linux.get("readonlyPaths", ())),
    ]


def prepare(path: str, propagation: str = "") -> int:
    """Make the root a mount of its own in a private tree; its descriptor.

    With the spec's `rootfsPropagation` of a slave the tree is one, for mounts that are to see what their sources see.
    """
    is_slave = propagation in ("slave", "rslave")
    m.set_propagation("/", m.MS_SLAVE if is_slave else m.MS_PRIVATE)
    m.bind(path, path)
    if is_slave:
        m.set_propagation(path, m.MS_PRIVATE)
    return os.open(path, O_PATH | os.O_DIRECTORY)


def write_sysctls(root: int, values: dict[str, str]) -> None:
    """Set kernel parameters of the new namespaces, through the container's own fresh /proc only."""
    for key, value in values.items():
        path = "/proc/sys/" + key.replace(".", "/")
        fd = open_in_root(root, path, os.O_WRONLY, 0, RESOLVE_NO_SYMLINKS)
        try:
            if os.fstat(fd).st_dev != _proc_device(root):
                raise OSError(errno.EXDEV, "is not the kernel's")
            os.write(fd, value.encode())
        except OSError as e:
            raise OSError(e.errno, e.strerror, path) from e
        finally:
            os.close(fd)


def bind_console(root: int, slave: int) -> None:
    """Put the terminal at /dev/console, where init systems look for it."""
    with _Opened(root, "/dev", RESOLVE_NO_SYMLINKS) as dev:
        fd = os.open("console", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=dev)
        try:
            m.mount(m.through(slave), m.through(fd), "", m.MS_BIND)
        finally:
            os.close(fd)


def pivot(root: int, *, read_only: bool) -> None:
    """Make the prepared root the root, and let go of the host's."""
    old = os.open("/", O_PATH | os.O_DIRECTORY)
    if read_only:
        m.remount_bind(m.through(root), m.MS_RDONLY)
    os.fchdir(root)
    m.pivot_root(".", ".")
    # The old root now lies on top of the new one. As a slave nothing done to it reaches the host.
    os.fchdir(old)
    m.set_propagation(".", m.MS_SLAVE)
    m.umount(".", m.MNT_DETACH)
    os.close(old)
    os.chdir("/")


class _Opened:
    """An O_PATH descriptor inside the root for the length of a `with`."""

    def __init__(self, root: int, path: str, resolve: int = 0) -> None:
        self.fd = open_in_root(root, path, O_PATH, 0, resolve)

    def __enter__(self) -> int:
        return self.fd

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def _open_protected(root: int, path: str) -> int | None:
    """A path that is to be closed; None if this kernel does not have it. All else stops the start."""
    try:
        return open_in_root(root, path, O_PATH, 0, RESOLVE_NO_SYMLINKS)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _proc_device(root: int) -> int:
    """The device number of the proc file system at /proc; -1 if something else is there."""
    try:
        with _Opened(root, "/proc", RESOLVE_NO_SYMLINKS) as proc:
            found = os.fstat(proc)
            return found.st_dev if found.st_ino == _PROC_ROOT_INODE else -1
    except OSError:
        return -1


def _check_not_proc(root: int, target: int, path: str) -> None:
    """Refuse what a link of the image leads to /proc: it would hide the kernel's files (CVE-2019-16884)."""
    if os.fstat(target).st_dev == _proc_device(root):
        raise OSError(errno.EPERM, "leads to /proc in this image", path)


def _directory_without_links(root: int, path: str) -> int:
    try:
        return open_in_root(root, path, O_PATH | os.O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS)
    except FileNotFoundError:
        os.close(make_directory(root, path))
        return open_in_root(root, path, O_PATH | os.O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS)
    except OSError as e:
        if e.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "is a symbolic link in the image", path) from e
        raise


def _open_device(path: str, number: tuple[int, int] | None) -> int:
    """The descriptor of a device of the host that is what its name says."""
    fd = os.open(path, O_PATH | os.O_NOFOLLOW)
    found = os.fstat(fd)
    right = stat.S_ISCHR(found.st_mode) or (number is None and stat.S_ISBLK(found.st_mode))
    if not right or (number and (os.major(found.st_rdev), os.minor(found.st_rdev)) != number):
        os.close(fd)
        raise OSError(errno.ENODEV, "is not the device it should be", path)
    return fd


def _bind_device(source: str, number: tuple[int, int] | None, base: int, target: str) -> None:
    device = _open_device(source, number)
    try:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            place = os.open(target, flags, 0o666, dir_fd=base)
        except OSError:  # something is mounted there already, or directories are missing
            place = make_file(base, target, 0o666)
        try:
            m.bind(m.through(device), m.through(place), recursive=False)
        finally:
            os.close(place)
    finally:
        os.close(device)
