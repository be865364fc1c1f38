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

# The name of rdock's own runtime, in `--runtime` and in a container's record.
BUILTIN = "rdock"


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
        number = isinstance(default, float)
        if isinstance(value, bool) or not isinstance(value, (int, float) if number else str):
            raise InvalidParameter(f"{path}: {key}: not a {'number' if number else 'string'}")
        values[field] = value
    return check(Settings(**values), path)


def check(settings: Settings, where: str) -> Settings:
    if settings.storage_driver and settings.storage_driver not in STORAGE_DRIVERS:
        raise InvalidParameter(
            f"{where}: unknown storage driver: {settings.storage_driver} (one of {', '.join(STORAGE_DRIVERS)})"
        )
    if settings.id_mode not in ID_MODES:
        raise InvalidParameter(f"{where}: unknown id mode: {settings.id_mode} (one of {', '.join(ID_MODES)})")
    if not 0 <= settings.holder_linger <= 10:
        raise InvalidParameter(f"{where}: holder-linger: not between 0 and 10 seconds")
    return settings
