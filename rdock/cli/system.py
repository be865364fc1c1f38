"""info, version, doctor: what this machine offers and what rdock makes of it."""

from __future__ import annotations

import json
import os
import platform
import sys

from rdock import __version__
from rdock.cli.go_values import to_json
from rdock.cli.inspect_types import typed
from rdock.cli.output import binary_size, write
from rdock.cli.template import render
from rdock.cli.usage import Options
from rdock.container import diagnosis, information
from rdock.container.spec import OCI_VERSION
from rdock.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

# Of Docker's API: the version whose objects rdock shows, and the first that knows them.
API_VERSION, MIN_API_VERSION = "1.45", "1.24"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

VERSION_TEXT = """\
Usage:  rdock version [OPTIONS]

Show the rdock version information

Options:
  -f, --format string   Format output using a custom template
"""


def version(options: Options) -> int:
    """In Docker's shape. There is no server: what it would say, rdock says of itself."""
    machine = _ARCHITECTURES.get(platform.machine(), platform.machine())
    both = {"Version": __version__, "ApiVersion": API_VERSION, "Os": "linux", "Arch": machine}
    engine = {
        "ApiVersion": API_VERSION,
        "Arch": machine,
        "KernelVersion": os.uname().release,
        "MinAPIVersion": MIN_API_VERSION,
        "Os": "linux",
        "PythonVersion": platform.python_version(),
    }
    runtime = {"OCI": OCI_VERSION}
    facts: dict[str, dict[str, Any]] = {
        "Client": {**both, "DefaultAPIVersion": API_VERSION, "PythonVersion": platform.python_version()},
        "Server": {
            "Platform": {"Name": "rdock"},
            "Components": [
                {"Name": "Engine", "Version": __version__, "Details": engine},
                {"Name": "rdock", "Version": __version__, "Details": runtime},
            ],
            **both,
            "MinAPIVersion": MIN_API_VERSION,
            "KernelVersion": os.uname().release,
        },
    }
    template = options.text("--format")
    if template and template != "json":
        # Docker's templates have the names of its program, where its JSON has others.
        for side in facts.values():
            side["APIVersion"] = side["ApiVersion"]
    if template:
        return _show(facts, template)
    client = [("Version", __version__), ("API version", API_VERSION), ("Python version", platform.python_version()),
              ("OS/Arch", f"linux/{machine}")]  # fmt: skip
    server = [("Version", __version__), ("API version", f"{API_VERSION} (minimum version {MIN_API_VERSION})"),
              ("OS/Arch", f"linux/{machine}"), ("Kernel version", os.uname().release)]  # fmt: skip
    sys.stdout.write("Client:\n" + _lines(client, 1) + "\nServer: rdock\n Engine:\n" + _lines(server, 2))
    sys.stdout.write(" rdock:\n" + _lines([("Version", __version__), ("OCI", OCI_VERSION)], 2))
    return 0


def _lines(facts: Sequence[tuple[str, str]], indent: int) -> str:
    """As docker/cli aligns them: all values in one column."""
    return "".join(f"{' ' * indent}{name + ':':<{20 - indent}}{value}\n" for name, value in facts)


INFO_TEXT = """\
Usage:  rdock info [OPTIONS]

Display system-wide information

Aliases:
  rdock system info, rdock info

Options:
  -f, --format string   Format output using a custom template
"""


def info(options: Options) -> int:
    known, template = information.info(), options.text("--format")
    if template:
        return _show(known, template)
    rows = [*_SHOWN, *((_spaced(key), key) for key in _OF_RDOCK if known[key] != "")]
    client = {" Version": __version__, " Debug Mode": "false"}
    sys.stdout.write("Client:\n" + "".join(f"{name}: {value}\n" for name, value in client.items()) + "\nServer:\n")
    for name, key in rows:
        value = known[key]
        text = (
            binary_size(value) if key == "MemTotal" else str(value).lower() if isinstance(value, bool) else str(value)
        )
        sys.stdout.write(f" {name}: {printable(text)}\n")
    registries, security = known["RegistryConfig"], known["SecurityOptions"]
    insecure = [name for name, index in registries["IndexConfigs"].items() if not index["Secure"]]
    for title, lines in (
        ("Plugins", [f"{kind}: {' '.join(names)}" for kind, names in known["Plugins"].items() if names]),
        ("Security Options", [text.removeprefix("name=").replace(",profile=", ": ") for text in security]),
        ("Insecure Registries", [*insecure, *registries["InsecureRegistryCIDRs"]]),
        ("Registry Mirrors", registries["Mirrors"]),
    ):
        if lines:
            sys.stdout.write(f" {title}:\n" + "".join(f"  {printable(line)}\n" for line in lines))
    return 0


# As docker/cli shows them, under its words; then what is rdock's own.
_SHOWN = (
    ("Containers", "Containers"), (" Running", "ContainersRunning"), (" Paused", "ContainersPaused"),
    (" Stopped", "ContainersStopped"), ("Images", "Images"), ("Server Version", "ServerVersion"),
    ("Storage Driver", "Driver"), ("Logging Driver", "LoggingDriver"), ("Cgroup Driver", "CgroupDriver"),
    ("Cgroup Version", "CgroupVersion"), ("Default Runtime", "DefaultRuntime"), ("Kernel Version", "KernelVersion"),
    ("Operating System", "OperatingSystem"), ("OSType", "OSType"), ("Architecture", "Architecture"), ("CPUs", "NCPU"),
    ("Total Memory", "MemTotal"), ("Name", "Name"), ("Docker Root Dir", "DockerRootDir"),
    ("Live Restore Enabled", "LiveRestoreEnabled"),
)  # fmt: skip
_OF_RDOCK = (
    "IdMode", "Ids", "CgroupParent", "DefaultNetwork", "WayOut", "ClientAddresses", "RuntimeRoot", "PythonVersion",
)  # fmt: skip


def _spaced(key: str) -> str:
    """`IdMode` → `Id Mode`."""
    return "".join(f" {letter}" if letter.isupper() else letter for letter in key).strip()


def _show(facts: Mapping[str, Any], template: str) -> int:
    write((to_json(typed(facts)) if template == "json" else render(template, typed(facts))) + "\n")
    return 0


DOCTOR_TEXT = """\
Usage:  rdock doctor [OPTIONS]

Check what this machine allows and how to fix the rest

Ends with 0 if containers can run, with 1 if they cannot.

Options:
      --json   Print the findings as JSON
"""


def doctor(options: Options) -> int:
    findings = diagnosis.examine()
    if options.flag("--json"):
        shown = [finding._asdict() for finding in findings]
        sys.stdout.write(json.dumps(shown, indent=4) + "\n")
    else:
        for finding in findings:
            sys.stdout.write(f"[{finding.status:^7}] {finding.name}: {finding.detail}\n")
            if finding.fix:
                sys.stdout.write(f"          fix: {finding.fix}\n")
    return 1 if any(finding.status == diagnosis.MISSING for finding in findings) else 0
