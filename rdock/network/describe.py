"""Networks in the shape of Docker's API, for `network inspect`."""

from __future__ import annotations

from rdock.network import options, plumbing
from rdock.network.networks import BRIDGE_NAME, DEFAULT, SCOPE
from rdock.state import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from rdock.network.leases import Lease
    from rdock.network.networks import Network


def inspect(network: Network, on: Iterable[Lease]) -> dict[str, Any]:
    """A network and who is on it: NetworkInspect of Docker's API."""
    # What Docker makes by itself has no options of IPAM, what a client asks for has an empty set of them.
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": network.created or timestamp.ZERO,
        "Scope": SCOPE,
        "Driver": network.driver,
        "EnableIPv4": True,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": None if network.is_predefined else {},
            "Config": [pool.to_json() for pool in network.pools] or None,
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {lease.container: _endpoint(network, lease) for lease in on},
        "Options": _of_default(network) if network.name == DEFAULT else network.options,
        "Labels": network.labels,
    }


def _of_default(network: Network) -> dict[str, str]:
    """What the options of the default network would be if somebody had made it."""
    return {
        "com.docker.network.bridge.default_bridge": "true",
        plumbing.ICC_OPTION: "true",
        "com.docker.network.bridge.enable_ip_masquerade": "true",
        options.HOST_BINDING: "0.0.0.0",
        BRIDGE_NAME: network.bridge,
        plumbing.MTU_OPTION: str(plumbing.MTU),
    }


def _endpoint(network: Network, lease: Lease) -> dict[str, str]:
    """EndpointResource of Docker's API."""
    found = {"Name": lease.name, "EndpointID": lease.endpoint, "MacAddress": lease.mac}
    for key, version, address in (("IPv4Address", 4, lease.address), ("IPv6Address", 6, lease.address6)):
        pool = network.pool(version)
        found[key] = f"{address}/{pool.block.length}" if pool and address else ""
    return found
