"""What the driver `local` takes with `-o`: a volume that is a mount of its own, with the words of mount(8).

An ordinary user may mount a tmpfs, a directory of the host's and an overlay of such; disks and shares of other
machines are for the machine's root, and refused with that reason. A tmpfs or an overlay is mounted once, in the mount
namespace that all containers come from, for as long as one of them that uses it runs: all of them see the same.
"""

from __future__ import annotations

import os

from rdock import paths
from rdock.errors import InvalidParameter, SystemFailure, Unsupported, reason
from rdock.linux import mount as m

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_KNOWN = ("type", "device", "o", "size")
_FLAGS = {
    "ro": m.MS_RDONLY, "rw": 0, "nosuid": m.MS_NOSUID, "nodev": m.MS_NODEV, "noexec": m.MS_NOEXEC,
    "noatime": m.MS_NOATIME, "relatime": m.MS_RELATIME, "suid": 0, "dev": 0, "exec": 0, "defaults": 0,
}  # fmt: skip
_OF_TMPFS = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks")
_OF_OVERLAY = ("lowerdir", "upperdir", "workdir")


def check(options: Mapping[str, str]) -> None:
    """Raises InvalidParameter in Docker's words, Unsupported with the reason for what only root may mount."""
    for name in options:
        if name not in _KNOWN:
            raise InvalidParameter(f'invalid option: "{name}"')
    if "size" in options:
        raise Unsupported("option 'size' is not supported: only the machine's root may limit the size of a directory")
    for name in ("device", "type"):
        if not options.get(name):
            raise InvalidParameter(f'missing required option: "{name}"')
    kind, device = _kind(options), options["device"]
    if kind not in ("tmpfs", "bind", "overlay"):
        raise Unsupported(
            f"type '{kind}' is not supported: an ordinary user may mount tmpfs, bind (o=bind) and overlay only"
        )
    if kind == "bind" and not device.startswith("/"):
        raise InvalidParameter(f"device of a bind must be an absolute path: '{device}'")
    own = {"tmpfs": _OF_TMPFS, "overlay": _OF_OVERLAY, "bind": ("bind", "rbind")}[kind]
    words = _words(options)
    for word in words:
        name, _, value = word.partition("=")
        if name not in _FLAGS and name not in own:
            raise InvalidParameter(f"unknown mount option '{word}' of a volume of type {kind}")
        if name in _OF_OVERLAY and not all(path.startswith("/") for path in value.split(":")):
            raise InvalidParameter(f"'{word}': must be an absolute path")
    given = {word.partition("=")[0] for word in words}
    if kind == "overlay" and ("lowerdir" not in given or ("upperdir" in given) != ("workdir" in given)):
        raise InvalidParameter("an overlay needs lowerdir, and upperdir and workdir together or neither")


def _kind(options: Mapping[str, str]) -> str:
    words = _words(options)
    return "bind" if "bind" in words or "rbind" in words else options["type"]


def _words(options: Mapping[str, str]) -> list[str]:
    return [word for word in options.get("o", "").split(",") if word]


def is_shared(options: Mapping[str, str]) -> bool:
    """Whether it has to be mounted before containers can use it."""
    return bool(options) and _kind(options) != "bind"


def is_tmpfs(options: Mapping[str, str]) -> bool:
    return bool(options) and _kind(options) == "tmpfs"


def source(name: str, options: Mapping[str, str]) -> tuple[str, bool]:
    """What containers mount for a volume, and whether it may be written to."""
    if not options:
        return paths.volume_data(name), True
    writable = "ro" not in _words(options)
    return (paths.mounted_volume(name) if is_shared(options) else options["device"]), writable


def is_mounted(name: str) -> bool:
    place = paths.mounted_volume(name)
    try:
        return os.stat(place).st_dev != os.stat(os.path.dirname(place)).st_dev
    except OSError:
        return False


def mount(name: str, options: Mapping[str, str]) -> None:
    """Mount a volume for which this is needed. Only under the volumes' lock. Raises SystemFailure."""
    place = paths.mounted_volume(name)
    flags, data = 0, []
    for word in _words(options):
        if word.partition("=")[0] in _FLAGS:
            flags |= _FLAGS[word]
        else:
            data.append(word)
    try:
        os.makedirs(place, mode=0o700, exist_ok=True)
        if _kind(options) == "tmpfs":
            # As Docker's tmpfs, which everybody may write to, unless a mode is given.
            m.mount("tmpfs", place, "tmpfs", flags, ",".join(data))
        else:
            _mount_overlay(place, flags, dict(word.partition("=")[::2] for word in data))
    except OSError as e:
        raise SystemFailure(f"failed to mount local volume {name}: {reason(e)}") from e


def _mount_overlay(place: str, flags: int, words: dict[str, str]) -> None:
    fds: list[int] = []
    try:
        parts = []
        for key in ("lowerdir", "upperdir", "workdir"):
            below = words.get(key, "").split(":") if words.get(key) else []
            opened = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in below]
            fds += opened
            if opened:
                parts.append(f"{key}={':'.join(map(m.through, opened))}")
        m.mount("overlay", place, "overlay", flags, ",".join([*parts, "userxattr"]))
    finally:
        for fd in fds:
            os.close(fd)


def unmount(name: str) -> None:
    """Take the mount of a volume away that nobody uses, in all mount namespaces of this user.

    Removing a place takes what others have mounted there away (rename(2) and rmdir(2), since Linux 3.18).
    Raises SystemFailure.
    """
    place = paths.mounted_volume(name)
    try:
        if is_mounted(name):
            m.umount(place, m.MNT_DETACH)
        os.rmdir(place)
    except FileNotFoundError:
        pass
    except OSError as e:
        raise SystemFailure(f"cannot unmount volume {name}: {reason(e)}") from e
