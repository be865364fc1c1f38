"""A container's own view of the network: its /etc/hosts, hostname and resolv.conf.

The three files are made anew at each start, below the container's directory, and bind-mounted over
the image's.
"""

from __future__ import annotations

import os

from rdock.linux import sockets
from rdock.network import names
from rdock.state import record
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


# Bytes of a hosts file that are looked at.
_LONGEST = 1 << 20
_NAMES = ("hosts", "hostname", "resolv.conf")


class Resolving(Value):
    """What a user has to say about names: HostConfig's ExtraHosts and Dns…, and Config's Domainname."""

    domain: str = ""
    extra_hosts: list[str] = []
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []


_NOTHING_SAID = Resolving()


def write_files(
    directory: str,
    mode: str,
    hostname: str,
    addresses: list[str],
    nameserver: str,
    resolving: Resolving = _NOTHING_SAID,
    *,
    is_named: bool = False,
    links: Iterable[tuple[str, str]] = (),
    host_address: str = "",
) -> dict[str, str]:
    """Write the files into `directory`; target in the container → path.

    `addresses` are the container's own, `nameserver` that of who answers on its networks; nothing without such.
    `is_named`: that one knows names of containers, and asks the servers that the user gives. `links` are addresses of
    others and what these are called here; `host_address` is where the host's loopback is reached, if that is open.
    """
    own = _read_host_file("/etc/hosts") or _HOSTS if mode == "host" else _HOSTS
    own += "" if own.endswith("\n") else "\n"
    contents = {
        "hosts": own
        + _extra_lines(resolving, is_apart=bool(addresses), host_address=host_address)
        + "".join(f"{address}\t{called}\n" for address, called in links)
        + _own_lines(mode, hostname, addresses, resolving),
        "hostname": hostname + "\n",
        "resolv.conf": resolv_conf(nameserver, resolving, is_named=is_named),
    }
    for name, text in contents.items():
        record.write_text(os.path.join(directory, name), text, durable=False, mode=0o644)
    return files_of(directory)


def files_of(directory: str) -> dict[str, str]:
    """The files in there: target in the container → path."""
    return {f"/etc/{name}": os.path.join(directory, name) for name in _NAMES}


def move_host(directory: str, name: str, address: str) -> None:
    """Give the one whose first name this is another address in the hosts file of a container that runs. Never fails.

    In place, for it is mounted there; what the container has written to it stays.
    """
    # The container, whose file it is, may hold a lease on it: without O_NONBLOCK an open waits until the kernel takes
    # that away (fs.lease-break-time, 45 s). At its next start it knows better.
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(os.path.join(directory, "hosts"), flags)
    except OSError:
        return
    try:
        text = os.pread(fd, _LONGEST, 0)
        lines = text.splitlines(keepends=True)
        for number, line in enumerate(lines):
            words = line.split()
            if words[1:2] == [name.encode()] and b"#" not in words[0]:
                lines[number] = address.encode() + line[line.index(words[0]) + len(words[0]) :]
        changed = b"".join(lines)
        if changed != text and len(text) < _LONGEST:
            os.pwrite(fd, changed, 0)
            os.ftruncate(fd, len(changed))
    except OSError:
        pass  # it is on a full disk, say: at its next start it knows better
    finally:
        os.close(fd)


def _own_lines(mode: str, hostname: str, addresses: list[str], resolving: Resolving) -> str:
    if mode == "host":
        return ""
    names = f"{hostname}.{resolving.domain} {hostname}" if resolving.domain else hostname
    return "".join(f"{address}\t{names}\n" for address in addresses or ["127.0.1.1"])


def _extra_lines(resolving: Resolving, *, is_apart: bool, host_address: str) -> str:
    lines = []
    for entry in resolving.extra_hosts:
        name, address = names.split_extra_host(entry)
        if address == names.HOST_GATEWAY:
            # Where nothing leads to the host, or all does, it is reached at its own loopback if at all. From behind
            # slirp4netns, which keeps the loopback closed, at the address that it has for others.
            address = host_address or (_address_of_host() if is_apart else "") or "127.0.0.1"
        lines.append(f"{address}\t{name}\n")
    return "".join(lines)


def _address_of_host() -> str:
    """The host's own address towards the world; empty if it has no way there."""
    probe = sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM)
    try:
        probe.connect(("192.0.2.1", 9))  # of a network that is nowhere (RFC 5737); nothing is sent
        return str(probe.getsockname()[0])
    except OSError:
        return ""
    finally:
        probe.close()


def resolv_conf(nameserver: str, resolving: Resolving = _NOTHING_SAID, *, is_named: bool = False) -> str:
    """The host's resolver settings, with the network's own name server, if it has one, in place of the host's.

    That one asks the host's, also those on the host's loopback (systemd-resolved), which the container
    could not reach itself. What the user gives takes the place of what the host has, kind by kind, as in Docker.
    """
    lines = _read_host_file("/etc/resolv.conf").splitlines()
    given = {"nameserver": resolving.servers, "search": resolving.search, "options": resolving.options}
    if not any(given.values()) and not nameserver:
        return "".join(line + "\n" for line in lines)
    kept = {kind: [line for line in lines if _kind(line) == kind] for kind in given}
    kept["search"] += [line for line in lines if _kind(line) == "domain"]
    if nameserver:
        kept["nameserver"] = [f"nameserver {nameserver}"]
    if resolving.servers and not is_named:
        kept["nameserver"] = [f"nameserver {server}" for server in resolving.servers]
    if resolving.search:
        kept["search"] = [] if "." in resolving.search else ["search " + " ".join(resolving.search)]
    if resolving.options:
        kept["options"] = ["options " + " ".join(resolving.options)]
    if is_named and not any(option.startswith("ndots:") for option in resolving.options):
        # Names of containers have no dot, and are to be asked for as they are (libnetwork's default).
        kept["options"].append("options ndots:0")
    return "".join(line + "\n" for kind in ("search", "options", "nameserver") for line in kept[kind])


def _kind(line: str) -> str:
    return (line.split() or [""])[0]


def _read_host_file(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(_LONGEST)
    except OSError:
        return ""
