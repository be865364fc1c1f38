"""The Go types behind the objects of `inspect`: which JSON objects are structs, which maps, and what null is.

Docker fills a template in from its structs, where a field that is not set has a value all the same, and only
if that fails from the JSON text. Both ways give other texts for null and for what is missing.
"""

from __future__ import annotations

from rdock.cli.go_values import MISSING, NIL, Map, NilSlice, Struct, Time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_OTHER_NAMES = {"ID": "Id", "HostIP": "HostIp", "DNS": "Dns", "DNSOptions": "DnsOptions", "DNSSearch": "DnsSearch"}


class Object(Struct):
    """A struct of Docker's API, some of whose fields have another name in Go than in JSON."""

    order: Sequence[str] = ()

    def names(self) -> list[str]:
        return [*self.order] or super().names()

    def field(self, name: str) -> Any:
        if name == "ContainerJSONBase":
            return self  # the struct that most fields are embedded by
        return super().field(_OTHER_NAMES.get(name, name))


_EMPTY = Struct()
_ENDPOINT = Struct.fromkeys(("Name", "EndpointID", "MacAddress", "IPv4Address", "IPv6Address"), "")
# Maps by their key, with the zero of their values.
_MAPS: dict[str, Any] = {
    "Annotations": "", "AuxiliaryAddresses": "", "Containers": _ENDPOINT,
    "Data": "", "Details": "", "DriverOpts": "", "ExposedPorts": _EMPTY, "Labels": "",
    "LogConfig.Config": "",
    "IPAM.Options": "", "Network.Options": "", "Volume.Options": "",
    "Networks": NIL, "PortBindings": MISSING, "Ports": MISSING, "StorageOpt": "", "Sysctls": "", "Tmpfs": "",
    "Volumes": _EMPTY,
}  # fmt: skip
_POINTERS = (
    "Descriptor", "GraphDriver", "Health", "Healthcheck", "IPAMConfig", "Init", "MemorySwappiness", "OomKillDisable",
    "PidsLimit", "SizeRootFs", "SizeRw", "StopTimeout",
)  # fmt: skip
# What JSON leaves out when it is not set, by the struct's key; that of the whole object is empty.
_HIDDEN: dict[str, Mapping[str, Any]] = {
    "": {"SizeRw": NIL, "SizeRootFs": NIL},
    "State": {"Health": NIL},
    "Config": {
        "ExposedPorts": Map.of(_EMPTY, None), "Healthcheck": NIL, "ArgsEscaped": False, "NetworkDisabled": False,
        "MacAddress": "", "StopSignal": "", "StopTimeout": NIL, "Shell": NilSlice(),
    },
    "HostConfig": {
        "Annotations": Map.of("", None), "StorageOpt": Map.of("", None), "Tmpfs": Map.of("", None),
        "Sysctls": Map.of("", None), "Runtime": "", "Mounts": NilSlice(), "Init": NIL,
    },
    "Mounts": {"Type": "", "Name": "", "Driver": ""},
    "IPAM.Config": {"IPRange": "", "Gateway": "", "AuxiliaryAddresses": Map.of("", None)},
    "Network": {"Peers": NilSlice(), "Services": Map.of(NIL, None)},
}  # fmt: skip

_MOUNT = ("Type", "Name", "Source", "Destination", "Driver", "Mode", "RW", "Propagation")


def typed(value: Any, key: str = "", parent: str = "") -> Any:
    """A JSON value that stands under `key` of the object under `parent`, as the Go value that it was."""
    if isinstance(value, dict):
        for name in (f"{parent}.{key}", key):
            if name in _MAPS:
                return Map.of(_MAPS[name], {inner: typed(item, name + ".") for inner, item in value.items()})
        made = Object((name, typed(item, name, key)) for name, item in value.items())
        hidden = _HIDDEN.get(f"{parent}.{key}", _HIDDEN.get(key, {}))
        made.hidden = {name: item for name, item in hidden.items() if name not in value}
        made.is_pointer = f"{parent}.{key}" != "IPAM.Config" and (
            key in ("Config", "HostConfig", "NetworkSettings", "State") or key == "Networks."
        )
        if key == "Mounts" and parent != "HostConfig":
            made.order = _MOUNT
        return made
    if isinstance(value, list):
        return [typed(item, key, parent) for item in value]
    if value is None:
        for name in (f"{parent}.{key}", key):
            if name in _MAPS:
                return Map.of(_MAPS[name], None)
        return NIL if key in _POINTERS or key == "Networks." else NilSlice()
    return Time(value) if (parent, key) == ("Network", "Created") else value
