"""Every directory and file name that rdock owns; the only place that spells them.

Follows the XDG base directory specification. Truth and every lock lie below the data directory; the
runtime directory, which a logout takes away while containers live on, holds only what can be made
again (sockets, mount points).
Paths are plain strings: pathlib alone costs a fifth of the time a container needs to start.
"""

from __future__ import annotations

import os
import stat

from rdock.errors import SystemFailure, reason

_home: dict[str, str] = {}


def _base(variable: str, default: str) -> str:
    """The directory named by an XDG variable; a relative value is ignored, as the specification asks."""
    value = _home.get(variable)
    if value is None:
        value = os.environ.get(variable, "")
        if not value.startswith("/"):
            value = os.path.join(os.environ.get("HOME") or os.path.expanduser("~"), default)
        value = _home[variable] = os.path.join(value, "rdock")
    return value


def data() -> str:
    return _base("XDG_DATA_HOME", ".local/share")


def config() -> str:
    return _base("XDG_CONFIG_HOME", ".config")


def cache() -> str:
    return _base("XDG_CACHE_HOME", ".cache")


def runtime() -> str:
    """The private directory for sockets and mount points, gone at reboot.

    Below XDG_RUNTIME_DIR if that is ours; else below /run/user/UID; else, as under cron, su or in CI,
    a 0700 directory keyed by uid in /tmp, or, if somebody else has made that one, in the data directory.
    The directory of another user is never used. While something runs, the one it was started in is
    kept to, though another has come with a login meanwhile.
    """
    value = _home.get("runtime")
    if value is None:
        uid = os.getuid()
        bases = [os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"]
        found = [os.path.join(base, "rdock") for base in bases if base.startswith("/") and _is_private(base, uid)]
        value = _home["runtime"] = _runtime_in_use(uid) or (found[0] if found else _runtime_without_login(uid))
    return value


def _runtime_without_login(uid: int) -> str:
    place = f"/tmp/rdock-{uid}"
    return place if _is_private(place, uid) or not os.path.lexists(place) else os.path.join(data(), "run")


def runtime_note() -> str:
    """A file with the name of the runtime directory that was used last."""
    return os.path.join(data(), "runtime")


def _runtime_in_use(uid: int) -> str:
    try:
        with open(runtime_note(), encoding="utf-8", errors="surrogateescape") as file:
            last = file.read(4096)
        return last if _is_private(last, uid) and os.listdir(os.path.join(last, "containers")) else ""
    except OSError:
        return ""


def settle() -> None:
    """Work out all directories now: inside the user namespace the uid is another one."""
    data(), config(), cache(), runtime()


def _is_private(path: str, uid: int) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid and os.access(path, os.W_OK)


def make_private(path: str) -> str:
    """Make a directory that only its owner can enter, or check that an existing one is just that.

    Raises SystemFailure when it cannot be made, is not ours, or is open to others: the store holds
    setuid files of images, which must not be reachable for other users (CVE-2021-41091).
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            found = os.lstat(path)
        except OSError as e:
            hint = "set HOME, or XDG_DATA_HOME and its like, to a directory of yours"
            raise SystemFailure(f"cannot make directory {path}: {reason(e)}", hint) from e
    except OSError as e:
        raise SystemFailure(f"cannot use directory {path}: {reason(e)}") from e
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise SystemFailure(f"cannot use {path}: not a directory of this user")
    if found.st_mode & 0o077:
        raise SystemFailure(f"cannot use {path}: other users can enter it", hint=f"chmod 700 {path}")
    return path


# -- data: what must survive ---------------------------------------------------------------------


def images() -> str:
    return os.path.join(data(), "images")


def blobs() -> str:
    return os.path.join(images(), "blobs", "sha256")


def image_index() -> str:
    return os.path.join(images(), "index.json")


def repositories() -> str:
    return os.path.join(images(), "repositories.json")


def image_lock() -> str:
    return os.path.join(images(), "images.lock")


def image_hold() -> str:
    """Locked, shared, by whoever makes or uses parts of images that no record refers to yet."""
    return os.path.join(images(), "hold.lock")


def manifest_lists() -> str:
    """Manifest lists that are being put together, one directory each."""
    return os.path.join(data(), "manifests")


def layers() -> str:
    return os.path.join(data(), "layers")


def layer(chain: str) -> str:
    """The directory of the unpacked layer whose ChainID is `chain` (64 hex digits, no prefix)."""
    return os.path.join(data(), "layers", chain)


def networks() -> str:
    """A directory for each network: what it is, and who is on it."""
    return os.path.join(data(), "networks")


def volumes() -> str:
    return os.path.join(data(), "volumes")


def volume(name: str) -> str:
    return os.path.join(data(), "volumes", name)


def volume_data(name: str) -> str:
    """The directory that containers see: Docker's Mountpoint of a volume."""
    return os.path.join(data(), "volumes", name, "_data")


def staging() -> str:
    """Half-made objects; whatever lies here unlocked is rubbish of a process that was killed."""
    return os.path.join(data(), "staging")


def events() -> str:
    """What has happened, a line each; the older half has `.1` behind its name."""
    return os.path.join(data(), "events.jsonl")


def containers() -> str:
    return os.path.join(data(), "containers")


def container(container_id: str) -> str:
    return os.path.join(data(), "containers", container_id)


def container_locks() -> str:
    """Locks of the containers at which somebody is at work, or was when he was killed; each goes with the work."""
    return os.path.join(data(), "containers", ".locks")


def names() -> str:
    """Container names: symbolic links from each name to the id, so that a name is taken by one system call."""
    return os.path.join(data(), "containers", ".names")


def holders() -> str:
    """A directory for each boot, since several machines may share a home."""
    return os.path.join(data(), "holders")


def holder(boot: str, name: str) -> str:
    """The record of the process that holds the user's namespaces; its name is the id mode that was asked for."""
    return os.path.join(holders(), boot, f"{name}.json")


def holder_lock(boot: str, name: str) -> str:
    """Locked, shared, by all who use the holder's namespaces."""
    return os.path.join(holders(), boot, f"{name}.lock")


# -- runtime: what can be made again -------------------------------------------------------------


def container_runtime(container_id: str) -> str:
    """The bundle of a running container: config.json, attach.sock, merged/."""
    return os.path.join(runtime(), "containers", container_id)


def mounted_images() -> str:
    """Where images are mounted, in the mount namespace of a session."""
    return os.path.join(runtime(), "images")


def mounted_containers() -> str:
    """The same for the roots of containers."""
    return os.path.join(runtime(), "roots")


def mounted_volume(name: str) -> str:
    """Where a volume that is a mount of its own (tmpfs, overlay) is mounted, in the holder's mount namespace."""
    return os.path.join(runtime(), "volumes", name)


def container_mounts(container_id: str) -> str:
    """Where a container's monitor prepares what is mounted inside, in its own mount namespace."""
    return os.path.join(container_runtime(container_id), "mounts")


def removed() -> str:
    """Run directories that are being deleted."""
    return os.path.join(runtime(), "removed")


def settings() -> str:
    return os.path.join(config(), "config.json")


def probes() -> str:
    """What was found out about this machine and kernel, so that it is probed once."""
    return os.path.join(cache(), "probes.json")


# -- others' files, shared with them ---------------------------------------------------------------


def _home_directory() -> str:
    return os.environ.get("HOME") or os.path.expanduser("~")


def docker_config() -> str:
    """Docker's client configuration, in which logins are kept."""
    return os.path.join(os.environ.get("DOCKER_CONFIG") or os.path.join(_home_directory(), ".docker"), "config.json")


def login_files() -> list[str]:
    """Where logins are looked for, in order; the first is the one that is written.

    Docker's file, which podman and skopeo read too. But if REGISTRY_AUTH_FILE is set they read that alone,
    so it is the one to share with them; a DOCKER_CONFIG that is set was meant for us.
    """
    named = os.environ.get("REGISTRY_AUTH_FILE", "")
    found = [docker_config()] if os.environ.get("DOCKER_CONFIG") else []
    found += [os.path.abspath(named)] if named else []
    found.append(docker_config())
    runtime_base = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime_base.startswith("/"):
        found.append(os.path.join(runtime_base, "containers", "auth.json"))
    found.append(os.path.join(os.path.dirname(config()), "containers", "auth.json"))
    return list(dict.fromkeys(found))


def containers_config() -> list[str]:
    """Where podman's and skopeo's settings are: the machine's, then the user's."""
    return ["/etc/containers", os.path.join(os.path.dirname(config()), "containers")]


def docker_daemon_config() -> str:
    return "/etc/docker/daemon.json"


def certificate_directories() -> list[str]:
    """What has a directory for each registry with certificates for it (dockerd(8), containers-certs.d(5))."""
    places = [config(), *reversed(containers_config()), "/etc/docker"]
    return [os.path.join(place, "certs.d") for place in places]
