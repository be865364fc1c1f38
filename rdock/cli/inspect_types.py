"""The Go types behind the objects of `inspect`: which JSON objects are structs, which maps, and what null is.

Docker fills a template in from its structs, where a field that is not set has a value all the same, and only
if that fails from the JSON text. Both ways give other texts for null and for what is missing.
"""

from __future__ import annotations

from rdock.cli.go_values import NIL, Map, NilSlice, Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_EMPTY = Struct()
# Maps by their key, with the zero of their values.
_MAPS: dict[str, Any] = {
    "Annotations": "", "Data": "", "Details": "", "DriverOpts": "", "ExposedPorts": _EMPTY, "Labels": "", "LogConfig.Config": "",
    "Networks": NIL, "PortBindings": NilSlice(), "Ports": NilSlice(), "StorageOpt": "", "Sysctls": "", "Tmpfs": "",
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
}  # fmt: skip


def typed(value: Any, key: str = "", parent: str = "") -> Any:
    """A JSON value that stands under `key` of the object under `parent`, as the Go value that it was."""
    if isinstance(value, dict):
        for name in (f"{parent}.{key}", key):
            if name in _MAPS:
                return Map.of(_MAPS[name], {inner: typed(item, name + ".") for inner, item in value.items()})
        made = Struct((name, typed(item, name, key)) for name, item in value.items())
        hidden = _HIDDEN.get(key, {})
        made.hidden = {name: item for name, item in hidden.items() if name not in value}
        return made
    if isinstance(value, list):
        return [typed(item, key) for item in value]
    if value is None:
        if key in _MAPS:
            return Map.of(_MAPS[key], None)
        return NIL if key in _POINTERS or key == "Networks." else NilSlice()
    return value
