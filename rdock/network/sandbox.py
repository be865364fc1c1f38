"""A container's own view of the network: its /etc/hosts, hostname and resolv.conf.

The three files are made anew at each start, below the container's directory, and bind-mounted over
the image's.
"""

from __future__ import annotations

import os

from rdock.linux import sockets
from rdock.network import names
from rdock.network.subnet import Subnet
from rdock.state import record
from rdock.values import Value

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


class Resolving(Value):
    """What a user has to say about names: HostConfig's ExtraHosts and Dns…, and Config's Domainname."""

    domain: str = ""
    extra_hosts: list[str] = []
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []


_NOTHING_SAID = Resolving()


def write_files(
    directory: str, mode: str, hostname: str, subnet: Subnet, resolving: Resolving = _NOTHING_SAID
) -> dict[str, str]:
    """Write the files into `directory`; target in the container → path. `subnet` is that of the private network."""
    own = _read_host_file("/etc/hosts") or _HOSTS if mode == "host" else _HOSTS
    own += "" if own.endswith("\n") else "\n"
    contents = {
        "hosts": own + _extra_lines(mode, subnet, resolving) + _own_line(mode, hostname, subnet, resolving),
        "hostname": hostname + "\n",
        "resolv.conf": resolv_conf(mode, subnet, resolving),
    }
    found = {}
    for name, text in contents.items():
        path = os.path.join(directory, name)
        record.write_text(path, text, durable=False, mode=0o644)
        found[f"/etc/{name}"] = path
    return found


def _own_line(mode: str, hostname: str, subnet: Subnet, resolving: Resolving) -> str:
    if mode == "host":
        return ""
    names = f"{hostname}.{resolving.domain} {hostname}" if resolving.domain else hostname
    return f"{subnet.address if mode == 'slirp4netns' else '127.0.1.1'}\t{names}\n"


def _extra_lines(mode: str, subnet: Subnet, resolving: Resolving) -> str:
    lines = []
    for entry in resolving.extra_hosts:
        name, address = names.split_extra_host(entry)
        if address == names.HOST_GATEWAY:
            # Where nothing leads to the host, or all does, it is reached at its own loopback if at all. From behind
            # slirp4netns, which keeps the loopback closed, at the address that it has for others.
            address = (_address_of_host() if mode == "slirp4netns" else "") or "127.0.0.1"
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


def resolv_conf(mode: str, subnet: Subnet, resolving: Resolving = _NOTHING_SAID) -> str:
    """The host's resolver settings, with slirp4netns's own resolver in place of the host's servers.

    That one asks the host's, also those on the host's loopback (systemd-resolved), which the container
    could not reach itself. What the user gives takes the place of what the host has, kind by kind, as in Docker.
    """
    lines = _read_host_file("/etc/resolv.conf").splitlines()
    given = {"nameserver": resolving.servers, "search": resolving.search, "options": resolving.options}
    if not any(given.values()) and mode != "slirp4netns":
        return "".join(line + "\n" for line in lines)
    kept = {kind: [line for line in lines if _kind(line) == kind] for kind in given}
    kept["search"] += [line for line in lines if _kind(line) == "domain"]
    if mode == "slirp4netns":
        kept["nameserver"] = [f"nameserver {subnet.resolver}"]
    if resolving.servers:
        kept["nameserver"] = [f"nameserver {server}" for server in resolving.servers]
    if resolving.search:
        kept["search"] = [] if "." in resolving.search else ["search " + " ".join(resolving.search)]
    if resolving.options:
        kept["options"] = ["options " + " ".join(resolving.options)]
    return "".join(line + "\n" for kind in ("search", "options", "nameserver") for line in kept[kind])


def _kind(line: str) -> str:
    return (line.split() or [""])[0]


def _read_host_file(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError:
        return ""
