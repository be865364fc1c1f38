"""Whose ids a container's ids are: its id map below rdock's own user namespace, and what follows from it for files.

rdock lives in a namespace where 0 is the caller and 1, 2 … are his subordinate ids. Mostly a container has the
same ids, one to one; another map is made when the container is (userns.py), is on its record, and lasts as long as it.

In layers, and in what a container has written to its root, files have the ids that they have inside, whatever
the map: so a layer serves every map, and `commit`, `diff` and `export` need not know of any. fuse-overlayfs shows
them to the kernel as the map has it (uidmapping, gidmapping). The kernel's overlay cannot do that: it would take
idmapped mounts, and mount_setattr(2) gives them only to who is root over the file system (EPERM in a user namespace
for all but a tmpfs or the like), and never on an overlay itself (EINVAL, as of Linux 6.18). A copied tree has the
owners of the map, and is read with them turned back.
"""

from __future__ import annotations

from rdock.errors import InvalidParameter
from rdock.linux import idmap
from rdock.linux.idmap import Mapping, Maps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rdock.container.config import HostConfig
    from rdock.container.containers import Container


def own() -> Maps:
    """rdock's own namespace, one to one."""
    return Maps(*(tuple(Mapping(m.inside, m.inside, m.size) for m in idmap.read_map(kind)) for kind in ("uid", "gid")))


def recorded(container: Container) -> Maps | None:
    """The map of a container that has one of its own."""
    if not container.owners:
        return None
    uids, gids = (tuple(Mapping(*entry) for entry in container.owners[kind]) for kind in ("Uids", "Gids"))
    return Maps(uids, gids)


def maps(container: Container) -> Maps:
    """The id map of a container. Raises InvalidParameter where there are not the ids for it."""
    found, here = recorded(container), own()
    if found is None:
        return here
    cut = Maps(idmap.split(found.uids, here.uids), idmap.split(found.gids, here.gids))
    for had, has in ((found.uids, cut.uids), (found.gids, cut.gids)):
        if sum(m.size for m in had) != sum(m.size for m in has):
            raise InvalidParameter(
                f"container {container.name} was made with more user ids than there are now",
                hint="use the --id-mode that it was made with",
            )
    return cut


def may_differ(host: HostConfig) -> bool:
    """Whether a new container may get another map than rdock's own, which userns.py then tells."""
    others = (host.pid_mode, host.ipc_mode, host.network_mode)
    return bool(host.own) or host.userns_mode not in ("", "host") or any(mode[:10] == "container:" for mode in others)


def shifted(container: Container) -> Maps | None:
    """The map by which the files of a container's root are shown with other owners than they have in the store.

    None where that is not so: in a map one to one; in one of a single id, whose files are all that id's; and for a
    root that is a directory of the user's, which is taken as it is.
    """
    if not container.owners or container.id_mode == "single" or container.rootfs:
        return None
    return recorded(container)
