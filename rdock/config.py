"""rdock's settings: `config.json` in the configuration directory, read once.

The file has the shape of Docker's daemon.json: a flat object with kebab-case keys. An unknown key is
refused by name, since a misspelt setting that is silently ignored is worse than an error.
"""

from __future__ import annotations

from rdock import paths
from rdock.errors import InvalidParameter
from rdock.state import record
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STORAGE_DRIVERS = ("overlay", "fuse-overlayfs", "copy")
ID_MODES = ("auto", "subids", "direct", "single")
NETWORKS = ("bridge", "slirp4netns", "pasta", "none", "host")

# The name of rdock's own runtime, in `--runtime` and in a container's record.
BUILTIN = "rdock"


class Registry(Value):
    """What the user says of one registry."""

    host: str
    mirrors: tuple[str, ...] = ()
    insecure: bool | None = None
    """Whether it may do without TLS, or a certificate that holds; None: nothing is said of it."""


class Settings(Value):
    """What the user has chosen; the defaults are what is probed."""

    storage_driver: str = ""
    """One of STORAGE_DRIVERS; empty: the best that works here."""
    id_mode: str = "auto"
    """How root of the small world is made; one of ID_MODES."""
    runtime: str = BUILTIN
    """`rdock` or the name or path of an OCI runtime."""
    holder_linger: float = 5.0
    """Seconds that the shared namespaces outlive their last user, 0 to 10."""
    network: str = "bridge"
    """What containers are on that name no network; one of NETWORKS, some of which take options."""
    low_ports: str = ""
    """`+8000`: what is added to a published port that is for root only; empty: it is refused."""
    registry_mirrors: tuple[str, ...] = ()
    """URLs of mirrors of Docker Hub, tried in order before it."""
    insecure_registries: tuple[str, ...] = ()
    """Hosts (`host`, `host:port`) and networks (CIDR) that may do without TLS."""
    registries: tuple[Registry, ...] = ()
    """What is said of single registries."""


_current: Settings | None = None


def current() -> Settings:
    global _current
    if _current is None:
        _current = load(paths.settings())
    return _current


def override(**chosen: str) -> None:
    """Let the command line's global options win over the file."""
    global _current
    _current = check(current()._replace(**chosen), "option")


def load(path: str) -> Settings:
    """Read settings; a missing file means the defaults. Raises InvalidParameter."""
    found = record.read(path)
    if found is None:
        return Settings()
    found.pop("format", None)
    values: dict[str, Any] = {}
    for key, value in found.items():
        field = key.replace("-", "_")
        default = getattr(Settings, field, None) if field in Settings._fields and "_" not in key else None
        if default is None:
            raise InvalidParameter(f"{path}: unknown setting: {key}")
        if isinstance(default, tuple):
            values[field] = _registries(path, value) if field == "registries" else _texts(path, key, value)
            continue
        number = isinstance(default, float)
        if isinstance(value, bool) or not isinstance(value, (int, float) if number else str):
            raise InvalidParameter(f"{path}: {key}: not a {'number' if number else 'string'}")
        values[field] = value
    return check(Settings(**values), path)


def _texts(path: str, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise InvalidParameter(f"{path}: {key}: not a list of strings")
    return tuple(value)


def _registries(path: str, value: Any) -> tuple[Registry, ...]:
    if not isinstance(value, dict) or not all(isinstance(found, dict) for found in value.values()):
        raise InvalidParameter(f"{path}: registries: not an object of objects")
    result = []
    for host, found in value.items():
        where = f"registries: {host}"
        for key in found:
            if key not in ("mirrors", "insecure"):
                raise InvalidParameter(f"{path}: {where}: unknown setting: {key}")
        insecure = found.get("insecure")
        if insecure is not None and not isinstance(insecure, bool):
            raise InvalidParameter(f"{path}: {where}: insecure: not true or false")
        result.append(Registry(host, _texts(path, f"{where}: mirrors", found.get("mirrors", [])), insecure))
    return tuple(result)


def check(settings: Settings, where: str) -> Settings:
    if settings.storage_driver and settings.storage_driver not in STORAGE_DRIVERS:
        raise InvalidParameter(
            f"{where}: unknown storage driver: {settings.storage_driver} (one of {', '.join(STORAGE_DRIVERS)})"
        )
    if settings.id_mode not in ID_MODES:
        raise InvalidParameter(f"{where}: unknown id mode: {settings.id_mode} (one of {', '.join(ID_MODES)})")
    if not 0 <= settings.holder_linger <= 10:
        raise InvalidParameter(f"{where}: holder-linger: not between 0 and 10 seconds")
    # Options are looked at where the network is used (network/modes.py).
    if settings.network not in NETWORKS and not settings.network.startswith(("slirp4netns:", "pasta:")):
        raise InvalidParameter(f"{where}: unknown network: {settings.network} (one of {', '.join(NETWORKS)})")
    if settings.low_ports and not 0 < low_port_offset(settings) < 65535:
        raise InvalidParameter(f"{where}: low-ports: not a number to add, as +8000: {settings.low_ports}")
    return settings


def low_port_offset(settings: Settings) -> int:
    """The number in `low-ports`; 0 if there is none."""
    digits = settings.low_ports[1:]
    return int(digits[:6]) if settings.low_ports[:1] == "+" and digits.isdecimal() and digits.isascii() else 0
