"""The caller's account in a container that has the caller's ids: its lines in /etc/passwd and /etc/group.

Only with `--userns=keep-id`, and where the image has no such user, or group. As in podman the lines are added to
the container's own files, so that useradd, which replaces them, goes on working; in a root that is read-only, or a
folder of the user's, copies with them are mounted on top.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat

from rdock.container import mount_points, userns
from rdock.container.containers import Container
from rdock.launch import debug
from rdock.linux.inroot import make_file, open_in_root, read_small_file
from rdock.runtime import rootless
from rdock.state import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rdock.linux.idmap import Maps

_LONGEST = 1 << 20


def add(container: Container, root: int, maps: Maps) -> dict[str, str]:
    """See to it that the caller has a name inside. `root` is the container's, mounted; what to mount on it, by target.

    Never fails: a program may well do without.
    """
    if container.host_config.userns_mode.partition(":")[0] != userns.KEEP_ID:
        return {}
    uid, gid = maps.owner_inside(0, 0)
    found = {}
    for path, number, line in (("/etc/passwd", uid, _passwd), ("/etc/group", gid, _group)):
        try:
            content = read_small_file(root, path, _LONGEST)
            if content is None and _is_there(root, path):
                continue  # it is no file, or has no end: then it cannot be told who is in it
            content = content or b""
            entries = [text.split(b":") for text in content.splitlines()]
            if any(len(entry) > 2 and entry[2] == b"%d" % number for entry in entries):
                continue
            taken = {os.fsdecode(entry[0]) for entry in entries}
            text = ("" if not content or content.endswith(b"\n") else "\n") + line(container, uid, gid, taken)
            if container.host_config.readonly_rootfs or container.rootfs:
                place = os.path.join(container.directory, os.path.basename(path))
                record.write_bytes(place, content + os.fsencode(text), durable=False, mode=0o644)
                found[path] = place
            else:
                _append(root, path, os.fsencode(text), maps.owner_outside(0, 0))
        except OSError as e:
            debug(f"{path} in the container does not get its line: {e}")
    return found


def _is_there(root: int, path: str) -> bool:
    try:
        os.close(open_in_root(root, path))
    except FileNotFoundError:
        return False
    return True


def _append(root: int, path: str, text: bytes, owner: tuple[int, int]) -> None:
    try:
        fd = open_in_root(root, path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        os.close(make_file(root, path))
        fd = open_in_root(root, path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY)
        os.fchown(fd, *owner)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.write(fd, text)
    finally:
        os.close(fd)


def _passwd(container: Container, uid: int, gid: int, taken: set[str]) -> str:
    try:
        entry = pwd.getpwuid(rootless.entered().uid)
        name, about, own_home = entry.pw_name, entry.pw_gecos, entry.pw_dir
    except KeyError:
        name, about, own_home = str(uid), "", ""
    home = own_home if _is_mounted(container, own_home) else container.config.working_dir or "/"
    return f"{_free(name, uid, taken)}:*:{uid}:{gid}:{about}:{home}:/bin/sh\n"


def _group(container: Container, uid: int, gid: int, taken: set[str]) -> str:
    try:
        name = grp.getgrgid(rootless.entered().gid).gr_name
    except KeyError:
        name = str(gid)
    return f"{_free(name, gid, taken)}:x:{gid}:\n"


def _free(name: str, number: int, taken: set[str]) -> str:
    """The image may have another user of that name."""
    return str(number) if name in taken else name


def _is_mounted(container: Container, home: str) -> bool:
    """Whether the caller's own home, or a folder around it, is in the container at its place."""
    targets = [point.destination.rstrip("/") for point in mount_points.of(container)]
    return len(home) > 1 and any(target and f"{home}/".startswith(f"{target}/") for target in targets)


def give(maps: Maps, files: Iterable[str]) -> None:
    """Have generated files belong to the container's root. Raises OSError."""
    for path in files:
        os.chown(path, *maps.owner_outside(0, 0))
