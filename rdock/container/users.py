"""Who `-u` or the image's USER is: names looked up in the image's /etc/passwd and /etc/group.

The files are read through a descriptor of the container's root, with a limit on their size; they are
hostile like everything in an image. Ids are limited to 31 bits, so that none wraps (CVE-2024-40635).
"""

from __future__ import annotations

from rdock.errors import InvalidParameter
from rdock.linux import idmap
from rdock.linux.idmap import Mapping
from rdock.linux.inroot import read_small_file
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Reader: TypeAlias = "Callable[[str], bytes | None]"

MAX_ID = (1 << 31) - 1


class User(Value):
    """A process's identity inside a container."""

    uid: int
    gid: int
    groups: list[int]
    home: str
    name: str = ""
    added: list[int] = []
    """Those of `groups` that were asked for by `--group-add`."""


def resolve(root: int | Reader, wanted: str, extra_groups: list[str] | tuple[()] = ()) -> User:
    """`[user|uid][:group|gid]` as Docker resolves it; an empty text is root.

    `root` is a descriptor of the root, or what reads a file of it that is not mounted.

    What is a number is an id, also where the image has a user of that name: `-u 1000` means 1000.
    Supplementary groups are the primary one, so that no change of it gets rid of what it is denied
    (CVE-2022-36109), those of the image's /etc/group that list the user, and `extra_groups`; none
    from the file when a group is given, as Docker has it. Raises InvalidParameter in Docker's words.
    """
    name, _, group = wanted.partition(":")
    passwd = _entries(root, "/etc/passwd", 7)
    groups = _entries(root, "/etc/group", 4)
    number = _number(name, wanted) if name else 0
    if number is None:
        entry = next((e for e in passwd if e[0] == name), None)
    else:
        entry = next((e for e in passwd if _is_number(e[2]) and int(e[2]) == number), None)
    if entry is not None:
        uid, gid = _field(entry[2], name), _field(entry[3], name)
        login, home = entry[0], entry[5] or "/"
    elif number is not None:
        uid, gid, login, home = number, 0, "", "/"
    else:
        raise InvalidParameter(f"unable to find user {name}: no matching entries in passwd file")
    if group:
        gid = _group(groups, group, wanted)
    supplementary = [gid]
    if not group and login:
        supplementary += [_field(e[2], e[0]) for e in groups if login in e[3].split(",")]
    added = [_group(groups, extra, extra) for extra in extra_groups]
    return User(uid, gid, list(dict.fromkeys(supplementary + added)), home, login, added)


def check_mapped(user: User, uids: tuple[Mapping, ...], gids: tuple[Mapping, ...]) -> None:
    """Raises InvalidParameter for a user whose ids do not exist in the container, as with one id only."""
    wanted = [("user", user.uid, uids), ("group", user.gid, gids), *(("group", gid, gids) for gid in user.added)]
    for kind, number, mappings in wanted:
        if not idmap.contains(mappings, number):
            count = sum(entry.size for entry in mappings)
            raise InvalidParameter(
                f"cannot run as {kind} {number}: containers have {count} id{'s' * (count != 1)} here",
                hint="rdock doctor tells how to get more",
            )


def _entries(root: int | Reader, path: str, fields: int) -> list[list[str]]:
    """The lines of a file, split at colons; a short line is filled up with empty fields."""
    content = (read_small_file(root, path) if isinstance(root, int) else root(path)) or b""
    lines = (line.split(":") for line in content.decode("utf-8", "surrogateescape").split("\n") if line.strip())
    return [parts + [""] * (fields - len(parts)) for parts in lines]


def _number(text: str, wanted: str) -> int | None:
    """A numeric id, None if the text is no number. Raises InvalidParameter outside 0..2^31-1."""
    if not _is_number(text.removeprefix("-")):
        return None
    if not 0 <= int(text) <= MAX_ID:
        raise InvalidParameter(f"uids and gids must be in range 0-{MAX_ID}: {wanted}")
    return int(text)


def _is_number(text: str) -> bool:
    """Of a length that int() takes; it refuses thousands of digits."""
    return text.isascii() and text.isdecimal() and len(text) <= 20


def _field(text: str, owner: str) -> int:
    """An id from the image's files."""
    number = _number(text, owner)
    if number is None:
        raise InvalidParameter(f"malformed id of {owner} in the image's /etc/passwd or /etc/group")
    return number


def _group(groups: list[list[str]], text: str, wanted: str) -> int:
    number = _number(text, wanted)
    if number is not None:
        return number
    entry = next((e for e in groups if e[0] == text), None)
    if entry is None:
        raise InvalidParameter(f"unable to find group {text}: no matching entries in group file")
    return _field(entry[2], text)
