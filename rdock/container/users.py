"""Who `-u` or the image's USER is: names looked up in the image's /etc/passwd and /etc/group.

The files are read through a descriptor of the container's root, with a limit on their size; they are
hostile like everything in an image. Ids are limited to 31 bits, so that none wraps (CVE-2024-40635).
"""

from __future__ import annotations

from typing import NamedTuple

from rdock.errors import InvalidParameter
from rdock.linux.inroot import read_small_file

MAX_ID = (1 << 31) - 1


class User(NamedTuple):
    """A process's identity inside a container."""

    uid: int
    gid: int
    groups: list[int]
    home: str
    name: str = ""


def resolve(root: int, wanted: str, extra_groups: list[str] | tuple[()] = ()) -> User:
    """`[user|uid][:group|gid]` as Docker resolves it; an empty text is root.

    Supplementary groups are those of the image's /etc/group that list the user, and `extra_groups`;
    none from the file when a group is given, as Docker has it. Raises InvalidParameter in Docker's words.
    """
    name, colon, group = wanted.partition(":")
    passwd = _entries(root, "/etc/passwd", 7)
    groups = _entries(root, "/etc/group", 4)
    entry = next((e for e in passwd if e[0] == name), None) if name else None
    number = _number(name, wanted) if name and entry is None else None
    if entry is None and number is not None:
        entry = next((e for e in passwd if e[2] == name), None)
    elif not name:
        number, entry = 0, next((e for e in passwd if e[2] == "0"), None)
    if entry is None and number is None:
        raise InvalidParameter(f"unable to find user {name}: no matching entries in passwd file")
    if entry is not None:
        uid, gid = _field(entry[2], name), _field(entry[3], name)
        login, home = entry[0], entry[5] or "/"
    else:
        assert number is not None
        uid, gid, login, home = number, 0, "", "/"
    if group:
        gid = _group(groups, group, wanted)
    supplementary: list[int] = []
    if not colon and login:
        supplementary = [_field(e[2], e[0]) for e in groups if login in e[3].split(",")]
    supplementary += [_group(groups, g, g) for g in extra_groups]
    return User(uid, gid, list(dict.fromkeys(supplementary)), home, login)


def _entries(root: int, path: str, fields: int) -> list[list[str]]:
    content = read_small_file(root, path) or b""
    lines = (line.split(":") for line in content.decode("utf-8", "surrogateescape").split("\n"))
    return [parts for parts in lines if len(parts) >= fields]


def _number(text: str, wanted: str) -> int | None:
    """A numeric id, None if the text is no number. Raises InvalidParameter outside 0..2^31-1."""
    if not text.lstrip("-").isdecimal() or not text.isascii():
        return None
    if not 0 <= int(text) <= MAX_ID:
        raise InvalidParameter(f"uids and gids must be in range 0-{MAX_ID}: {wanted}")
    return int(text)


def _field(text: str, owner: str) -> int:
    """An id from the image's files."""
    number = _number(text, owner)
    if number is None:
        raise InvalidParameter(f"malformed id of {owner} in the image's /etc/passwd or /etc/group")
    return number


def _group(groups: list[list[str]], text: str, wanted: str) -> int:
    entry = next((e for e in groups if e[0] == text), None)
    if entry is not None:
        return _field(entry[2], text)
    number = _number(text, wanted)
    if number is None:
        raise InvalidParameter(f"unable to find group {text}: no matching entries in group file")
    return number
