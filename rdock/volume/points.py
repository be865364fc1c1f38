"""What is to be mounted where in a container: one point for each, from `-v` and from the API's Mount objects.

What is wrong with one is told here, in the words of Docker's daemon; what the command line says before that is in
mount_syntax.py. Nothing is made or looked up.
"""

from __future__ import annotations

import os

from rdock.errors import InvalidParameter
from rdock.values import Value
from rdock.volume import targets, volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TYPES = ("bind", "volume", "tmpfs", "image", "devpts")
PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_CONSISTENCIES = ("consistent", "cached", "delegated", "default")


class MountPoint(Value):
    """Something that is mounted in a container. A volume's source is its own to know."""

    type: str
    """bind, volume, tmpfs, image or devpts."""
    destination: str
    source: str = ""
    """Of a bind the path on the host, of an image its name."""
    name: str = ""
    """Of a volume."""
    driver: str = ""
    mode: str = ""
    """As it was written in `-v`."""
    rw: bool = True
    propagation: str = ""
    options: dict[str, Any] = {}
    """What else was asked for, true or not empty: NoCopy, Subpath, Labels, DriverOpts (of a volume); NonRecursive,
    Recursive (`writable` or `readonly`), Create, Overlay, UpperDir, WorkDir (of a bind); Chown (of both); SizeBytes,
    Mode (of a tmpfs); Subpath, Image (its id) of an image."""

    def describe(self) -> dict[str, Any]:
        """Docker's MountPoint, as `inspect` shows it."""
        named = {"Name": self.name} if self.name else {}
        source = volumes.Volume(self.name, "").mountpoint if self.type == "volume" and self.name else self.source
        driven = {"Driver": self.driver} if self.driver else {}
        return {
            "Type": self.type, **named, "Source": source, "Destination": self.destination, **driven,
            "Mode": self.mode, "RW": self.rw, "Propagation": self.propagation,
        }  # fmt: skip


# -- from -v ---------------------------------------------------------------------------------------

# Options of which one of each group can be given (moby: volume/mounts/linux_parser.go).
_GROUPS = (("ro", "rw"), ("z", "Z"), PROPAGATIONS, ("nocopy",), _CONSISTENCIES[:3], ("U",), ("O",))
_OVERLAYS = ("upperdir", "workdir")


def from_bind(text: str) -> MountPoint:
    """A stored `-v`, SOURCE:TARGET[:OPTIONS]. Raises InvalidParameter."""
    source, target, mode = [*text.split(":"), ""][:3]
    if not mode and _are_options(target):
        raise InvalidParameter(f"invalid volume specification: '{text}'")
    words = [word for word in mode.split(",") if word]
    if not _are_options(mode):
        raise InvalidParameter(f"invalid mode: {mode}")
    what = f"invalid volume specification: '{text}'"
    destination = targets.check(target, what)
    rw = "ro" not in words
    options: dict[str, Any] = {"Chown": True} if "U" in words else {}
    propagation = next((word for word in words if word in PROPAGATIONS), "")
    if source.startswith("/"):
        if "nocopy" in words:
            raise InvalidParameter(f"{what}: invalid mode: {mode}: nocopy is for volumes")
        options |= {"Create": True} | _overlay(words, what)
        return MountPoint(
            "bind", destination, os.path.normpath("/" + source.lstrip("/")), mode=mode, rw=rw,
            propagation=propagation or "rprivate", options=options,
        )  # fmt: skip
    if propagation:
        raise InvalidParameter(f"{what}: invalid mode: {mode}: propagation is for binds")
    if "O" in words:
        raise InvalidParameter(f"{what}: invalid mode: {mode}: an overlay is for binds")
    if "nocopy" in words:
        options["NoCopy"] = True
    return MountPoint(
        "volume", destination, name=_volume_name(source), driver=volumes.DRIVER, mode=mode, rw=rw, options=options
    )


def _are_options(mode: str) -> bool:
    words = mode.split(",") if mode else []
    plain = [word for word in words if word.partition("=")[0] not in _OVERLAYS or "O" not in words]
    if any(not any(word in group for group in _GROUPS) for word in plain):
        return False
    return all(sum(word in group for word in plain) <= 1 for group in _GROUPS)


def _overlay(words: list[str], what: str) -> dict[str, Any]:
    if "O" not in words:
        return {}
    found = dict(word.partition("=")[::2] for word in words if "=" in word)
    if bool(found.get("upperdir")) != bool(found.get("workdir")):
        raise InvalidParameter(f"{what}: upperdir and workdir of an overlay go together")
    for path in found.values():
        if not path.startswith("/"):
            raise InvalidParameter(f"{what}: '{path}' must be absolute")
    return {"Overlay": True, "UpperDir": found.get("upperdir", ""), "WorkDir": found.get("workdir", "")}


def _volume_name(name: str) -> str:
    try:
        return volumes.check_name(name)
    except InvalidParameter as e:
        raise InvalidParameter(f"create {name}: {e.message}") from e


# -- from --mount ----------------------------------------------------------------------------------


def from_mount(mount: dict[str, Any]) -> MountPoint:
    """One of HostConfig.Mounts. Raises InvalidParameter in the words of moby's validateMountConfig."""
    kind = mount.get("Type") or ""
    what = f'invalid mount config for type "{kind}"'
    if kind not in TYPES:
        raise InvalidParameter(f"{what}: mount type unknown")
    target, source = mount.get("Target") or "", mount.get("Source") or ""
    if not target:
        raise InvalidParameter(f"{what}: field Target must not be empty")
    if kind in ("bind", "image") and not source:
        raise InvalidParameter(f"{what}: field Source must not be empty")
    if kind in ("tmpfs", "devpts") and source:
        raise InvalidParameter(f"{what}: field Source must not be specified")
    if (mount.get("Consistency") or "default") not in _CONSISTENCIES:
        raise InvalidParameter(f"{what}: invalid consistency: {mount['Consistency']}")
    destination = targets.check(target, what)
    rw = not mount.get("ReadOnly")
    return _MAKERS[kind](mount, what, destination, source, rw)


def _bind(mount: dict[str, Any], what: str, destination: str, source: str, rw: bool) -> MountPoint:
    given = mount.get("BindOptions") or {}
    if not source.startswith("/"):
        raise InvalidParameter(f"{what}: invalid mount path: '{source}' mount path must be absolute")
    propagation = given.get("Propagation") or "rprivate"
    if propagation not in PROPAGATIONS:
        raise InvalidParameter(f"{what}: invalid propagation mode: {propagation}")
    options = {"NonRecursive": True} if given.get("NonRecursive") else {}
    if given.get("ReadOnlyNonRecursive") and given.get("ReadOnlyForceRecursive"):
        raise InvalidParameter(f"{what}: read-only can be recursive or not, not both")
    recursive = "writable" if given.get("ReadOnlyNonRecursive") else ""
    recursive = "readonly" if given.get("ReadOnlyForceRecursive") else recursive
    return MountPoint(
        "bind", destination, os.path.normpath("/" + source.lstrip("/")), rw=rw, propagation=propagation,
        options=options | ({"Recursive": recursive} if recursive else {})
        | ({"Create": True} if given.get("CreateMountpoint") else {}),
    )  # fmt: skip


def _volume(mount: dict[str, Any], what: str, destination: str, source: str, rw: bool) -> MountPoint:
    given = mount.get("VolumeOptions") or {}
    subpath = check_subpath(given.get("Subpath") or "", what)
    if not source and not rw:
        raise InvalidParameter(f"{what}: must not set ReadOnly mode when using anonymous volumes")
    if not source and subpath:
        raise InvalidParameter(f"{what}: must not set Subpath when using anonymous volumes")
    driver = given.get("DriverConfig") or {}
    found = {
        "NoCopy": bool(given.get("NoCopy")), "Subpath": subpath, "Labels": given.get("Labels") or {},
        "DriverOpts": driver.get("Options") or {},
    }  # fmt: skip
    return MountPoint(
        "volume", destination, name=_volume_name(source) if source else "",
        driver=driver.get("Name") or volumes.DRIVER, rw=rw,
        options={key: value for key, value in found.items() if value},
    )  # fmt: skip


def _tmpfs(mount: dict[str, Any], what: str, destination: str, source: str, rw: bool) -> MountPoint:
    given = mount.get("TmpfsOptions") or {}
    if (given.get("SizeBytes") or 0) < 0:
        raise InvalidParameter(f"{what}: invalid tmpfs size: {given['SizeBytes']}")
    options = {key: given[key] for key in ("SizeBytes", "Mode") if given.get(key)}
    return MountPoint("tmpfs", destination, rw=rw, options=options)


def _image(mount: dict[str, Any], what: str, destination: str, source: str, rw: bool) -> MountPoint:
    subpath = check_subpath((mount.get("ImageOptions") or {}).get("Subpath") or "", what)
    return MountPoint("image", destination, source, rw=False, options={"Subpath": subpath} if subpath else {})


def _devpts(mount: dict[str, Any], what: str, destination: str, source: str, rw: bool) -> MountPoint:
    return MountPoint("devpts", destination, rw=rw)


_MAKERS = {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs, "image": _image, "devpts": _devpts}


def check_subpath(path: str, what: str) -> str:
    """A path below a volume or an image. Raises InvalidParameter for one that leads out of it."""
    if path and (path.startswith("/") or ".." in path.split("/") or "\0" in path):
        raise InvalidParameter(f"{what}: subpath must be a relative path within the volume")
    return os.path.normpath(path) if path else ""
