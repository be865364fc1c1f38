"""A container's own view of the network: its /etc/hosts, hostname and resolv.conf.

The three files are made anew at each start, below the container's directory, and bind-mounted over
the image's.
"""

from __future__ import annotations

import os

from rdock.errors import InvalidParameter
from rdock.network.subnet import Subnet
from rdock.state import record

MODES = ("none", "host", "slirp4netns")
_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def parse_mode(text: str) -> str:
    """The network of a container from `--network`; Docker's default names mean the default here.

    Raises InvalidParameter for one that does not exist.
    """
    if text in ("", "default", "bridge"):
        return "slirp4netns"
    if text not in MODES:
        raise InvalidParameter(f"network {text} not found")
    return text


def write_files(directory: str, mode: str, hostname: str, subnet: Subnet) -> dict[str, str]:
    """Write the files into `directory`; target in the container → path. `subnet` is that of the private network."""
    contents = {
        "hosts": _read_host_file("/etc/hosts") or _HOSTS
        if mode == "host"
        else _HOSTS + _own_line(mode, hostname, subnet),
        "hostname": hostname + "\n",
        "resolv.conf": resolv_conf(mode, subnet),
    }
    found = {}
    for name, text in contents.items():
        path = os.path.join(directory, name)
        record.write_text(path, text, durable=False, mode=0o644)
        found[f"/etc/{name}"] = path
    return found


def _own_line(mode: str, hostname: str, subnet: Subnet) -> str:
    return f"{subnet.address if mode == 'slirp4netns' else '127.0.1.1'}\t{hostname}\n"


def resolv_conf(mode: str, subnet: Subnet) -> str:
    """The host's resolver settings, with slirp4netns's own resolver in place of the host's servers.

    That one asks the host's, also those on the host's loopback (systemd-resolved), which the container
    could not reach itself.
    """
    lines = _read_host_file("/etc/resolv.conf").splitlines()
    if mode != "slirp4netns":
        return "".join(line + "\n" for line in lines)
    kept = [line for line in lines if line.split(" ")[0] in ("search", "domain", "options")]
    return "".join(line + "\n" for line in [*kept, f"nameserver {subnet.resolver}"])


def _read_host_file(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError:
        return ""
