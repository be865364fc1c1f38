"""User and group id maps of a user namespace (user_namespaces(7)): which ids there are, and how to write them.

Three ways lead to a map, called modes: `subids` (the setuid helpers newuidmap and newgidmap write the
ranges of /etc/subuid and /etc/subgid), `direct` (the caller holds CAP_SETUID over its own namespace and
writes any range itself), `single` (one id each, which every user may write). In all of them id 0 inside
is the caller, so that what the caller owns outside is root's inside. No process is started here: for
newuidmap only the arguments are made.
"""

from __future__ import annotations

from rdock.linux import kernelfile
from rdock.linux.capabilities import KNOWN
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SUBUID = "/etc/subuid"
SUBGID = "/etc/subgid"
MODES = ("subids", "direct", "single")

# The last 32-bit number is (uid_t) -1, "no id".
ID_MAX = 0xFFFFFFFE
# One write(2) to uid_map must be shorter than a page; a hundred of the longest lines are.
MAX_LINES = 100
# Where nothing is reserved for root's containers: the first ids that neither useradd (SUB_UID_MAX in
# login.defs(5)) nor systemd (its table of UIDs and GIDs) hands out. A fixed place, since the ids are
# on disk in the store and must be the same next time.
UNRESERVED = 0x70000000
RANGE_SIZE = 65536
# Who owns what has no owner inside (/proc/sys/kernel/overflowuid).
NOBODY = 65534


class Range(Value):
    """Consecutive ids outside of the namespace."""

    start: int
    size: int


class Mapping(Value):
    """Consecutive ids inside the namespace, and what they are outside."""

    inside: int
    outside: int
    size: int


class IdMap(Value):
    """A whole map, and how it has to be written."""

    mode: str
    uids: tuple[Mapping, ...]
    gids: tuple[Mapping, ...]

    @property
    def size(self) -> int:
        """How many ids there are inside, of the kind that has fewer."""
        return min(sum(m.size for m in self.uids), sum(m.size for m in self.gids))


class Maps(Value):
    """A map of user ids and one of group ids: inside, and in rdock's own namespace (`outside`)."""

    uids: tuple[Mapping, ...]
    gids: tuple[Mapping, ...]

    @property
    def is_one_to_one(self) -> bool:
        return all(m.inside == m.outside for m in (*self.uids, *self.gids))

    def to_json(self) -> dict[str, list[list[int]]]:
        """For a record: lists of three numbers under `Uids` and `Gids`."""
        kinds = (("Uids", self.uids), ("Gids", self.gids))
        return {kind: [[m.inside, m.outside, m.size] for m in mappings] for kind, mappings in kinds}

    def owner_outside(self, uid: int, gid: int) -> tuple[int, int]:
        """What an owner inside is for rdock; the caller, who is nobody there, for one who does not exist inside."""
        return outside(self.uids, uid) or 0, outside(self.gids, gid) or 0

    def owner_inside(self, uid: int, gid: int) -> tuple[int, int]:
        """What an owner is inside."""
        found = inside(self.uids, uid), inside(self.gids, gid)
        return NOBODY if found[0] is None else found[0], NOBODY if found[1] is None else found[1]


# -- ranges --------------------------------------------------------------------------------------


def parse_ranges(text: str, owners: Iterable[str]) -> list[Range]:
    """The ranges of subuid(5) that belong to any of these owners (a login name, a number), in order.

    Lines that are not `owner:start:count` are passed over, as newuidmap does, and so are impossible ranges.
    """
    wanted = frozenset(owners)
    found = []
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) == 3 and fields[0] in wanted:
            found.append((fields[1], fields[2]))
    return _valid(found)


def parse_getsubids(text: str) -> list[Range]:
    """The ranges that `getsubids NAME` prints, for users of a directory service: `0: NAME 100000 65536`."""
    lines = [line.split() for line in text.splitlines()]
    return _valid([(f[2], f[3]) for f in lines if len(f) == 4 and f[0].endswith(":")])


def read_ranges(path: str, username: str, uid: int) -> list[Range]:
    """The ranges of a user in /etc/subuid or /etc/subgid, by name and by number; none if it cannot be read.

    In both files the number is the user's uid. Pass an empty name if the user has none.
    """
    return parse_ranges(_read(path), [name for name in (username, str(uid)) if name])


def free_range() -> Range:
    """Ids that no user has in /etc/subuid or /etc/subgid, for one who is to get some."""
    start = 100000
    for path in (SUBUID, SUBGID):
        for line in _read(path).splitlines():
            fields = line.split(":")
            if len(fields) == 3 and fields[1].isdecimal() and fields[2].isdecimal():
                start = max(start, int(fields[1]) + int(fields[2]))
    return Range(start, RANGE_SIZE)


def ranges_for_root(path: str) -> list[Range]:
    """The range that real root gives to containers: root's own, that of `containers`, or an unreserved one."""
    text = _read(path)
    for owner in (("root", "0"), ("containers",)):
        if found := parse_ranges(text, owner):
            return found
    everyone = parse_ranges(text, {line.partition(":")[0] for line in text.splitlines()})
    start = UNRESERVED
    while taken := [r for r in everyone if r.start < start + RANGE_SIZE and start < r.start + r.size]:
        start = max(r.start + r.size for r in taken)
    return [Range(start, RANGE_SIZE)]


def _valid(pairs: Iterable[tuple[str, str]]) -> list[Range]:
    ranges = []
    for start, count in pairs:
        # isascii: str.isdigit and int also take the digits of other scripts.
        if all(t.isascii() and t.isdigit() and len(t) <= 10 for t in (start, count)):
            found = Range(int(start), int(count))
            # Id 0 in a range would hand out the real root; newuidmap would even write it.
            if found.start > 0 and found.size > 0 and found.start + found.size - 1 <= ID_MAX:
                ranges.append(found)
    return ranges


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


# -- planning ------------------------------------------------------------------------------------


def may_write_directly(effective: int, uid: int) -> bool:
    """Whether a process with these effective capabilities may write any map of its namespace's ids.

    Since Linux 5.12 a map that has the parent's id 0 in it also takes CAP_SETFCAP (user_namespaces(7)).
    """
    needed = ["CAP_SETUID", "CAP_SETGID", *(["CAP_SETFCAP"] if uid == 0 else [])]
    return all(effective >> KNOWN[name] & 1 for name in needed)


def plan(
    mode: str,
    *,
    uid: int,
    gid: int,
    subuids: Sequence[Range] = (),
    subgids: Sequence[Range] = (),
    helpers: bool = False,
    direct: bool = False,
    offered_uids: Sequence[Range] = (),
    offered_gids: Sequence[Range] = (),
) -> IdMap:
    """The map for a mode, or for `auto` the best that is possible.

    `subuids` and `subgids` are what the caller may use beside its own id, `helpers` says whether
    newuidmap and newgidmap are there, `direct` is the answer of may_write_directly, `offered_*` are the
    ids that exist in the caller's namespace (`offered`). Raises ValueError, with the reason as its
    text, when the mode that was asked for is not possible.
    """
    if mode == "auto":
        # Directly is as good as through the helpers, and saves the start of two programs. Where there is one id
        # only, as below `unshare --map-root-user`, setgroups(2) is off as well.
        if direct and sum(r.size for r in offered_uids) != 1:
            mode = "direct"
        else:
            mode = "subids" if helpers and subuids and subgids else "single"
    if mode == "direct":
        if not direct:
            raise ValueError("writing id maps directly needs CAP_SETUID and CAP_SETGID (and CAP_SETFCAP for root)")
        return IdMap(mode, _direct(uid, subuids, offered_uids), _direct(gid, subgids, offered_gids))
    if mode == "subids":
        if not helpers:
            raise ValueError("newuidmap and newgidmap are not installed")
        for ranges, path in ((subuids, SUBUID), (subgids, SUBGID)):
            if not ranges:
                raise ValueError(f"no subordinate ids for this user in {path}")
        return IdMap(mode, _mappings(uid, subuids), _mappings(gid, subgids))
    if mode == "single":
        return IdMap(mode, (Mapping(0, uid, 1),), (Mapping(0, gid, 1),))
    raise ValueError(f"unknown id mode: {mode}")


def offered(kind: str = "uid", process: str = "self") -> list[Range]:
    """The ids that exist in the namespace of a process, from /proc/PID/uid_map or gid_map."""
    return [Range(m.inside, m.size) for m in read_map(kind, process)]


def within(ranges: Sequence[Range], existing: Sequence[Range]) -> list[Range]:
    """Those of the ranges that exist as a whole, each in one of the others."""
    return [r for r in ranges if any(e.start <= r.start and r.start + r.size <= e.start + e.size for e in existing)]


def everything(ranges: Sequence[Range]) -> bool:
    """Whether these are all ids, as in the initial namespace, so that some range has to be chosen."""
    return sum(r.size for r in ranges) > ID_MAX - RANGE_SIZE


def _direct(own: int, reserved: Sequence[Range], existing: Sequence[Range]) -> tuple[Mapping, ...]:
    # In an outer container nobody else uses the ids that it was given, so all are taken as they are;
    # on a whole machine only those that are set aside.
    return _mappings(own, reserved if everything(existing) or not existing else existing)


def _mappings(own: int, ranges: Iterable[Range]) -> tuple[Mapping, ...]:
    """The caller's id as 0, then the ranges without holes. No id may occur twice, or the kernel says EINVAL."""
    used = [Range(own, 1)]
    mappings = [Mapping(0, own, 1)]
    position = 1
    for wanted in ranges:
        for piece in _without(wanted, used):
            if len(mappings) == MAX_LINES:
                break
            last = mappings[-1]
            # One line where the ids go on in both columns, so that a plain 0..N stays a single extent,
            # except between the ranges of a file, each of which newuidmap wants to see by itself.
            if last.outside + last.size == piece.start and wanted.start <= last.outside:
                mappings[-1] = Mapping(last.inside, last.outside, last.size + piece.size)
            else:
                mappings.append(Mapping(position, piece.start, piece.size))
            position += piece.size
        used.append(wanted)
    return tuple(mappings)


def _without(wanted: Range, used: Iterable[Range]) -> list[Range]:
    pieces = [wanted]
    for hole in used:
        left = []
        for piece in pieces:
            end, hole_end = piece.start + piece.size, hole.start + hole.size
            if hole.start >= end or hole_end <= piece.start:
                left.append(piece)
                continue
            if piece.start < hole.start:
                left.append(Range(piece.start, hole.start - piece.start))
            if hole_end < end:
                left.append(Range(hole_end, end - hole_end))
        pieces = left
    return pieces


# -- maps ----------------------------------------------------------------------------------------


def contains(mappings: Iterable[Mapping], inside: int) -> bool:
    """Whether an id of the namespace is mapped, so that a process or file can have it."""
    return any(m.inside <= inside < m.inside + m.size for m in mappings)


def outside(mappings: Iterable[Mapping], inside: int) -> int | None:
    """What an id of the namespace is outside; None if it is not mapped."""
    for m in mappings:
        if m.inside <= inside < m.inside + m.size:
            return m.outside + inside - m.inside
    return None


def inside(mappings: Iterable[Mapping], outside: int) -> int | None:
    """What an id of the parent namespace is inside; None if it does not exist there."""
    for m in mappings:
        if m.outside <= outside < m.outside + m.size:
            return m.inside + outside - m.outside
    return None


def split(mappings: Iterable[Mapping], existing: Iterable[Mapping]) -> tuple[Mapping, ...]:
    """The same cut where the ids of the parent namespace, whose map `existing` is, are cut; without those it lacks.

    Each line of a map must lie in one line of its parent's, or the kernel says EPERM.
    """
    pieces = []
    parents = sorted(existing, key=lambda e: e.inside)
    for m in mappings:
        for e in parents:
            start, end = max(m.outside, e.inside), min(m.outside + m.size, e.inside + e.size)
            if start < end:
                pieces.append(Mapping(m.inside + start - m.outside, start, end - start))
    return tuple(pieces)


def map_text(mappings: Iterable[Mapping]) -> str:
    """The content for /proc/PID/uid_map or gid_map."""
    return "".join(f"{m.inside} {m.outside} {m.size}\n" for m in mappings)


def parse_map(text: str) -> tuple[Mapping, ...]:
    """The reverse of map_text, also of the kernel's own columns. Raises ValueError."""
    mappings = []
    for line in text.splitlines():
        first, beyond, size = (int(field) for field in line.split())
        mappings.append(Mapping(first, beyond, size))
    return tuple(mappings)


def read_map(kind: str = "uid", process: str = "self") -> tuple[Mapping, ...]:
    """The map that a process lives under. Raises OSError."""
    with open(f"/proc/{process}/{kind}_map", encoding="utf-8") as file:
        return parse_map(file.read())


def helper_arguments(pid: int, mappings: Iterable[Mapping]) -> list[str]:
    """The arguments of newuidmap(1) and newgidmap(1) for a process whose user namespace is new."""
    return [str(pid), *(str(number) for m in mappings for number in (m.inside, m.outside, m.size))]


def write(process: str, idmap: IdMap) -> None:
    """Write the maps of a process (`self`, or a pid) in `direct` or `single` mode; a map is written once.

    `direct` is written from outside, by the process that holds the capabilities; `single` also by the
    process in the new namespace itself. Raises OSError, with the file's name.
    """
    if idmap.mode == "single":
        # Without CAP_SETGID outside, a group map is only taken when setgroups(2) is off (CVE-2014-8989).
        kernelfile.write(f"/proc/{process}/setgroups", "deny")
    kernelfile.write(f"/proc/{process}/uid_map", map_text(idmap.uids))
    kernelfile.write(f"/proc/{process}/gid_map", map_text(idmap.gids))
