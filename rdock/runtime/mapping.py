"""The id map of this user on this machine: which mode is possible, which ids are his, and who writes them.

Imported only when a holder is made.
"""

from __future__ import annotations

import os
import pwd

from rdock import launch
from rdock.errors import Unavailable
from rdock.linux import capabilities, idmap
from rdock.linux.idmap import IdMap


def id_map(mode: str) -> IdMap:
    """The id map that this user gets on this machine. Raises Unavailable when a forced mode is not possible."""
    uid, gid = os.getuid(), os.getgid()
    direct = idmap.may_write_directly(capabilities.current().effective, uid)
    user = login_name(uid)
    helpers = bool(launch.find_program("newuidmap") and launch.find_program("newgidmap"))
    if direct and uid == 0 and idmap.everything(idmap.offered("uid")):
        subuids, subgids = idmap.ranges_for_root(idmap.SUBUID), idmap.ranges_for_root(idmap.SUBGID)
    else:
        subuids = idmap.read_ranges(idmap.SUBUID, user, uid)
        subgids = idmap.read_ranges(idmap.SUBGID, user, uid)
        if helpers and not direct and not (subuids and subgids):
            subuids, subgids = _directory_service_ranges(user)
        # In an outer container not all that the files promise need exist.
        subuids = idmap.within(subuids, idmap.offered("uid"))
        subgids = idmap.within(subgids, idmap.offered("gid"))
    try:
        return idmap.plan(
            mode,
            uid=uid,
            gid=gid,
            subuids=subuids,
            subgids=subgids,
            helpers=helpers,
            direct=direct,
            offered_uids=idmap.offered("uid") if direct else (),
            offered_gids=idmap.offered("gid") if direct else (),
        )
    except ValueError as e:
        hint = hint_for_ids(user) if mode == "subids" else "use --id-mode auto, which takes the best that is possible"
        raise Unavailable(f"id mode {mode} is not possible: {e}", hint=hint) from e


def _directory_service_ranges(user: str) -> tuple[list[idmap.Range], list[idmap.Range]]:
    """What libsubid knows, for users that are in no file (LDAP, SSSD)."""
    tool = launch.find_program("getsubids")
    if tool is None:
        return [], []
    uids, gids = (launch.run([tool, *flags, user]) for flags in ((), ("-g",)))
    return (
        idmap.parse_getsubids(uids[1]) if uids[0] == 0 else [],
        idmap.parse_getsubids(gids[1]) if gids[0] == 0 else [],
    )


def write_maps(pid: int, plan: IdMap) -> None:
    """Give a process whose user namespace is new its maps, by the helpers or directly."""
    if plan.mode != "subids":
        idmap.write(str(pid), plan)
        return
    for tool, mappings in (("newuidmap", plan.uids), ("newgidmap", plan.gids)):
        status, text = launch.run([launch.program(tool), *idmap.helper_arguments(pid, mappings)])
        if status:
            raise Unavailable(f"{tool} failed: {text}", hint="check /etc/subuid, /etc/subgid, or use --id-mode single")


def login_name(uid: int) -> str:
    """The name of a user; the number of one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def hint_for_ids(user: str) -> str:
    """The line that gives a user ids of his own, that nobody else has."""
    free = idmap.free_range()
    ids = f"{free.start}-{free.start + free.size - 1}"
    return f"sudo usermod --add-subuids {ids} --add-subgids {ids} {user}"
