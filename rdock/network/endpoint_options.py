"""The options of an endpoint (`--network name=…,driver-opt=KEY=VALUE`): what its interface is called, and its sysctls.

They are those of Docker's bridge and macvlan drivers. One that is not known is refused, as is a network's.
"""

from __future__ import annotations

from rdock.errors import InvalidParameter
from rdock.linux import links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

INTERFACE = "com.docker.network.endpoint.ifname"
"""What the interface is called in the container."""
SYSCTLS = "com.docker.network.endpoint.sysctls"
"""Settings of the interface: `net.ipv4.conf.IFNAME.log_martians=1`, with commas between."""
_PLACE = "IFNAME"
_TREES = ("net.ipv4.", "net.ipv6.", "net.mpls.")


def check(options: Mapping[str, str]) -> None:
    """Raise InvalidParameter unless all that is given can be done."""
    for key, value in options.items():
        if key == INTERFACE:
            _check_name(value)
        elif key == SYSCTLS:
            sysctls(options)
        else:
            raise InvalidParameter(f"an endpoint has no option {key}", f"it has: {INTERFACE}, {SYSCTLS}")


def _check_name(name: str) -> None:
    """`lo` is there already."""
    if not links.is_name(name) or name == "lo":
        raise InvalidParameter(f"invalid interface name: '{name}'")


def sysctls(options: Mapping[str, str]) -> dict[str, str]:
    """The settings: where they are below /proc/sys, with IFNAME for the interface → values.

    Raises InvalidParameter, also for one that is not an interface's: those of a container are `--sysctl`.
    """
    found = {}
    for text in filter(None, options.get(SYSCTLS, "").split(",")):
        key, equals, value = text.strip().partition("=")
        words = key.split(".")
        if not equals or not value or "/" in key or "" in words or "" in value.split("\n"):
            raise InvalidParameter(f"invalid endpoint sysctl '{text}': it is net.FAMILY.KIND.{_PLACE}.NAME=VALUE")
        if not key.startswith(_TREES) or words.count(_PLACE) != 1 or words[3] != _PLACE:
            raise InvalidParameter(
                f"invalid endpoint sysctl '{text}': of an interface, it is net.FAMILY.KIND.{_PLACE}.NAME"
            )
        found["/".join(words)] = value
    return found


def path(place: str, interface: str) -> str:
    """The file of one of `sysctls`."""
    return f"/proc/sys/{place.replace(_PLACE, interface)}"
