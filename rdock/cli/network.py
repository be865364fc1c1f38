"""network rm, prune, connect, disconnect: what is done to networks that are there."""

from __future__ import annotations

import sys

from rdock.cli.confirmation import confirm
from rdock.cli.main import complain
from rdock.cli.network_create import words
from rdock.cli.usage import Options
from rdock.container import containers, network_removal, pruning
from rdock.errors import InvalidParameter, NotFound, RdockError, UsageError, printable
from rdock.network import addresses, names, networks, wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RM_TEXT = """\
Usage:  rdock network rm NETWORK [NETWORK...]

Remove one or more networks

Aliases:
  rdock network rm, rdock network remove

Options:
  -f, --force   Do not error if the network does not exist
"""


def rm(options: Options) -> int:
    code = 0
    for name in options.arguments:
        try:
            network_removal.remove(name)
        except RdockError as e:
            if not (options.flag("--force") and isinstance(e, NotFound)):
                code = complain(e, 1)
            continue
        sys.stdout.write(printable(name) + "\n")
        sys.stdout.flush()
    return code


PRUNE_TEXT = """\
Usage:  rdock network prune [OPTIONS]

Remove all unused networks

Options:
      --filter filter   Provide filter values (e.g. "until=<timestamp>")
  -f, --force           Do not prompt for confirmation
"""


def prune(options: Options) -> int:
    wanted = pruning.parse_filters(options.list("--filter"))
    warning = "This will remove all custom networks not used by at least one container."
    if not options.flag("--force") and not confirm(warning):
        return 0
    removed = network_removal.prune(wanted)
    if removed:
        sys.stdout.write("Deleted Networks:\n" + "".join(f"{name}\n" for name in removed) + "\n")
    return 0


CONNECT_TEXT = """\
Usage:  rdock network connect [OPTIONS] NETWORK CONTAINER

Connect a container to a network

Options:
      --alias strings           Add network-scoped alias for the container
      --driver-opt strings      driver options for the network
      --gw-priority int         Highest gw-priority provides the default gateway. Accepts positive and negative values.
      --ip string               IPv4 address (e.g., "172.30.100.104")
      --ip6 string              IPv6 address (e.g., "2001:db8::33")
      --link list               Add link to another container
      --link-local-ip strings   Add a link-local address for the container
"""


def connect(options: Options) -> int:
    settings = _endpoint_settings(options)
    network, container = options.arguments
    found = networks.lookup(network)
    from rdock.container import joining

    joining.connect(containers.lookup(container), found, settings)
    return 0


def _endpoint_settings(options: Options) -> dict[str, Any]:
    """EndpointSettings of Docker's API."""
    ipam: dict[str, Any] = {}
    for name, key, version in (("--ip", "IPv4Address", 4), ("--ip6", "IPv6Address", 6)):
        text = options.text(name)
        if text:
            ipam[key] = _address(text, version)
    if options.list("--link-local-ip"):
        ipam["LinkLocalIPs"] = [wanted.check_link_local(text) for text in words(options.list("--link-local-ip"))]
    return {
        "IPAMConfig": ipam,
        "Aliases": words(options.list("--alias")),
        "Links": _links(options),
        "DriverOpts": _driver_options(words(options.list("--driver-opt"))),
        "GwPriority": options.number("--gw-priority") or 0,
    }


def _address(text: str, version: int) -> str:
    """In the one spelling that addresses are compared in."""
    try:
        found = addresses.parse(text)
        if found.version == version:
            return str(found)
    except InvalidParameter:
        pass
    raise InvalidParameter(f"invalid IPv{version} address: {text}")


def _links(options: Options) -> list[str]:
    """Raises UsageError in pflag's words."""
    for text in options.list("--link"):
        try:
            names.parse_link(text)
        except InvalidParameter as e:
            raise UsageError(f'invalid argument "{text}" for "--link" flag: {e.message}', options.hint) from None
    return options.list("--link")


def _driver_options(values: list[str]) -> dict[str, str]:
    found = {}
    for value in values:
        key, equals, content = value.partition("=")
        if not equals:
            raise InvalidParameter("invalid key/value pair format in driver options")
        found[key.strip()] = content.strip()
    return found


DISCONNECT_TEXT = """\
Usage:  rdock network disconnect [OPTIONS] NETWORK CONTAINER

Disconnect a container from a network

Options:
  -f, --force   Force the container to disconnect from a network
"""


def disconnect(options: Options) -> int:
    network, container = options.arguments
    found = networks.lookup(network)
    from rdock.container import joining

    joining.disconnect(containers.lookup(container), found, force=options.flag("--force"))
    return 0
