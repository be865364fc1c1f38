"""What a container was asked to be: Docker's Config (portable) and HostConfig (of this machine).

Also the parsers of the values in them that users write (sizes, environment files); the doors use
these, so that the command line and the API understand the same words.
"""

from __future__ import annotations

from rdock.config import BUILTIN
from rdock.errors import InvalidParameter, reason
from rdock.linux import signals
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHM_SIZE = 64 << 20


class Config(Value):
    """Docker's `Config`: independent of the machine. Lists and dicts as the API has them."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, Any] = {}
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] = []
    cmd: list[str] | None = None
    image: str = ""
    volumes: dict[str, Any] = {}
    working_dir: str = ""
    entrypoint: list[str] | None = None
    labels: dict[str, str] = {}
    stop_signal: str = ""
    stop_timeout: int | None = None


class HostConfig(Value):
    """Docker's `HostConfig`: what the container gets of this machine. Lists and dicts as the API has them."""

    binds: list[str] = []
    container_id_file: str = ""
    log_config: dict[str, Any] = {"Type": "json-file", "Config": {}}
    network_mode: str = "default"
    port_bindings: dict[str, list[dict[str, str]]] = {}
    publish_all_ports: bool = False
    """Ports that are exposed, by the image too, are published on ports of the kernel's choice."""
    restart_policy: dict[str, Any] = {"Name": "no", "MaximumRetryCount": 0}
    auto_remove: bool = False
    annotations: dict[str, str] = {}
    cap_add: list[str] = []
    cap_drop: list[str] = []
    cgroupns_mode: str = "private"
    dns: list[str] = []
    dns_options: list[str] = []
    dns_search: list[str] = []
    extra_hosts: list[str] = []
    """`name:address`, for /etc/hosts."""
    group_add: list[str] = []
    ipc_mode: str = "private"
    links: list[str] = []
    """To containers on the default network, ID:ALIAS; see linking.py."""
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] = []
    tmpfs: dict[str, str] = {}
    mounts: list[dict[str, Any]] = []
    """The API's Mount objects, of `--mount`."""
    volumes_from: list[str] = []
    """`CONTAINER[:ro|rw]`."""
    uts_mode: str = ""
    userns_mode: str = ""
    own: str = ""
    """`me`: what is written to bind mounts belongs to the caller; rdock's own (handing_over.py)."""
    init: bool = False
    init_path: str = ""
    """An init program of the host's, in the place of rdock's own."""
    shm_size: int = SHM_SIZE
    sysctls: dict[str, str] = {}
    runtime: str = BUILTIN
    devices: list[dict[str, str]] = []
    """PathOnHost, PathInContainer, CgroupPermissions."""
    ulimits: list[dict[str, Any]] = []
    """Name, Soft, Hard."""

    @property
    def has_own_pids(self) -> bool:
        """Whether the container has a pid namespace of its own."""
        return self.pid_mode in ("", "private")

    @property
    def external_runtime(self) -> str:
        """The name or path of the OCI runtime that runs the container; empty if rdock does itself."""
        return "" if self.runtime == BUILTIN else self.runtime


def read_env_file(path: str, environment: Mapping[str, str] | None) -> list[str]:
    """The lines of an `--env-file`, as Docker reads them: NAME=VALUE, or NAME to copy from
    `environment`, the caller's; of a `--label-file`, without one, NAME alone.

    Blank lines and those starting with `#` are skipped, nothing is unquoted. Raises InvalidParameter
    with the line number.
    """
    kind, what = ("env", "variable") if environment is not None else ("label", "label")
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read(16 << 20).split("\n")
    except OSError as e:
        raise InvalidParameter(f"open {path}: {reason(e)}") from e
    except UnicodeDecodeError as e:
        raise InvalidParameter(f"invalid {kind} file ({path}): not UTF-8 at byte {e.start}") from e
    found = []
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r").lstrip(" \t")
        if not text or text.startswith("#"):
            continue
        name, equals, _ = text.partition("=")
        if not name:
            raise InvalidParameter(f"invalid {kind} file ({path}): line {number}: no {what} name on line '{text}'")
        if any(character in name for character in " \t\0"):
            raise InvalidParameter(f"invalid {kind} file ({path}): line {number}: {what} '{name}' contains whitespaces")
        if equals or environment is None:
            found.append(text)
        elif name in environment:
            found.append(f"{name}={environment[name]}")
    return found


def merge_env(*sources: Sequence[str]) -> list[str]:
    """Later settings win, each variable keeps its first place.

    An entry without `=`, or with an empty name, is left out: an image may hold such, and it must not
    pull a variable of the host in (CVE-2026-57231).
    """
    merged: dict[str, str] = {}
    for source in sources:
        for entry in source:
            name, equals, _ = entry.partition("=")
            if name and equals and "\0" not in entry:
                merged[name] = entry
    return list(merged.values())


def stop_signal(text: str) -> int:
    """The number of a stop signal, SIGTERM by default. Raises InvalidParameter in Docker's words."""
    try:
        return signals.number_of(text or "SIGTERM")
    except ValueError:
        raise InvalidParameter(f"invalid signal: {text}") from None
