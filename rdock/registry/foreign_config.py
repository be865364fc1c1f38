"""What the machine's other tools have been told of registries, read only: Docker's daemon.json, registries.conf.

containers-registries.conf(5), version 2: [[registry]] tables and their mirrors, from /etc/containers and the
user's own, each with its directory of drop-ins. The list of registries for unqualified names is left aside: such a
name is Docker Hub's. A file that is broken is told of once and left out, for it may matter to nobody.
"""

from __future__ import annotations

import os
import tomllib

from rdock import jsontext, launch, paths
from rdock.errors import reason
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_FILE = 4 << 20


class Mirror(Value):
    location: str
    insecure: bool = False
    only: str = ""
    """`digest-only`, `tag-only`, or empty: what it is asked for."""


class Known(Value):
    """One [[registry]]."""

    prefix: str
    location: str
    insecure: bool
    blocked: bool
    mirrors: tuple[Mirror, ...]
    path: str
    """The file that says so."""


class Foreign(Value):
    """All of it."""

    hub_mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    registries: tuple[Known, ...] = ()
    aliases: dict[str, str] = {}


def load() -> Foreign:
    hub_mirrors, insecure = _docker()
    registries: dict[str, Known] = {}
    aliases: dict[str, str] = {}
    for path in _files():
        try:
            with open(path, "rb") as file:
                text = file.read(_MAX_FILE)
            found = tomllib.loads(text.decode())
            # Of two tables for one prefix the later file's counts.
            registries |= {known.prefix: known for known in _registries(found, path)}
            aliases |= {k: v for k, v in _as(dict, found.get("aliases", {})).items() if isinstance(v, str)}
        except FileNotFoundError:
            continue
        except OSError as e:
            launch.warn(f"{path} is left out: {reason(e)}")
        except (ValueError, TypeError, RecursionError) as e:
            launch.warn(f"{path} is left out: {e}")
    return Foreign(hub_mirrors, insecure, tuple(registries.values()), aliases)


def _docker() -> tuple[tuple[str, ...], tuple[str, ...]]:
    path = paths.docker_daemon_config()
    try:
        with open(path, "rb") as file:
            found = _as(dict, jsontext.parse(file.read(_MAX_FILE)))
        return _texts(found.get("registry-mirrors", [])), _texts(found.get("insecure-registries", []))
    except FileNotFoundError:
        pass
    except OSError as e:
        launch.warn(f"{path} is left out: {reason(e)}")
    except (ValueError, TypeError, RecursionError) as e:
        launch.warn(f"{path} is left out: {e}")
    return (), ()


def _files() -> list[str]:
    """The user's registries.conf takes the place of the machine's; drop-ins come after, by name."""
    directories = paths.containers_config()
    chief = [os.path.join(directory, "registries.conf") for directory in directories]
    found = [next((path for path in reversed(chief) if os.path.exists(path)), chief[0])]
    for path in chief:
        try:
            names = sorted(name for name in os.listdir(f"{path}.d") if name.endswith(".conf"))
        except OSError:
            continue
        found += [os.path.join(f"{path}.d", name) for name in names]
    return found


def _registries(found: dict[str, Any], path: str) -> list[Known]:
    result = []
    for table in _as(list, found.get("registry", [])):
        table = _as(dict, table)
        location = _as(str, table.get("location", ""))
        prefix = _as(str, table.get("prefix", "")) or location
        if not prefix:
            raise ValueError("a registry has neither a location nor a prefix")
        mirrors = tuple(_mirror(mirror, table) for mirror in _as(list, table.get("mirror", [])))
        insecure, blocked = (_as(bool, table.get(key, False)) for key in ("insecure", "blocked"))
        result.append(Known(prefix, location or prefix, insecure, blocked, mirrors, path))
    return result


def _mirror(found: object, registry: dict[str, Any]) -> Mirror:
    table: dict[str, Any] = _as(dict, found)
    only = _as(str, table.get("pull-from-mirror", "all"))
    if _as(bool, registry.get("mirror-by-digest-only", False)):
        only = "digest-only"
    location = _as(str, table.get("location", ""))
    if not location or only not in ("all", "digest-only", "tag-only"):
        raise ValueError(f"a mirror of {registry.get('location') or registry.get('prefix')} is malformed")
    return Mirror(location, _as(bool, table.get("insecure", False)), "" if only == "all" else only)


def _texts(found: object) -> tuple[str, ...]:
    return tuple(_as(str, text) for text in _as(list, found))


def _as(kind: type, found: object) -> Any:
    if type(found) is not kind:
        raise TypeError(f"{str(found)[:60]!r} is not a {kind.__name__}")
    return found
