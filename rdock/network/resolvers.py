"""The name servers that the host asks: resolv.conf(5)."""

from __future__ import annotations

import errno
import os

from rdock.linux import sockets

_PATH = "/etc/resolv.conf"
_MOST = 3  # MAXNS of resolv.h
_LARGEST = 65536
# What resolv.conf(5) says of a file that names none.
_DEFAULT = ["127.0.0.1"]


class Resolvers:
    """The servers of a resolv.conf, read again when the file is another."""

    def __init__(self, path: str = _PATH) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = ()
        self._servers: list[str] = []

    def servers(self) -> list[str]:
        """Their addresses, in order, those of a link with its name (fe80::1%eth0).

        A file that is missing or cannot be read names none, so that it is the host itself.
        """
        try:
            info = os.stat(self._path)
            seen = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        except OSError:
            seen = None
        if seen != self._seen:
            self._servers, self._seen = _read(self._path), seen
        return self._servers


def endpoint(server: str, port: int = 53) -> tuple[int, tuple[str, int] | tuple[str, int, int, int]]:
    """Family and socket address of a server. Raises OSError, e.g. for the name of a link that is gone."""
    address, _, link = server.partition("%")
    if ":" not in address:
        return sockets.AF_INET, (address, port)
    if link.isascii() and link.isdecimal():
        scope = int(link[:11])
        if scope >= 1 << 32:
            raise OSError(errno.ENODEV, "no such link", link)
    else:
        scope = sockets.if_nametoindex(link) if link else 0
    return sockets.AF_INET6, (address, port, 0, scope)


def _read(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(_LARGEST)
    except OSError:
        return _DEFAULT
    words = (line.split() for line in text.splitlines() if line.startswith("nameserver"))
    found = [line[1] for line in words if line[0] == "nameserver" and len(line) > 1 and _is_server(line[1])]
    return found[:_MOST] or _DEFAULT


def _is_server(text: str) -> bool:
    """Whether it is an address: what is not would be looked up by the resolver, that waits for us."""
    address, percent, link = text.partition("%")
    if percent and (":" not in address or not link.isascii() or not link.isprintable()):
        return False
    try:
        sockets.inet_pton(sockets.AF_INET6 if ":" in address else sockets.AF_INET, address)
    except (OSError, ValueError):
        return False
    return True
