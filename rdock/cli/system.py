"""info, version, doctor: what this machine offers and what rdock makes of it."""

from __future__ import annotations

import json
import os
import platform
import sys

from rdock import __version__
from rdock.cli.go_values import to_json
from rdock.cli.inspect_types import typed
from rdock.cli.output import write
from rdock.cli.template import render
from rdock.cli.usage import Options
from rdock.container import diagnosis
from rdock.container.spec import OCI_VERSION

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
    return _show(diagnosis.info(), options.text("--format"))


def _show(facts: Mapping[str, Any], template: str | None) -> int:
    if template == "json":
        write(to_json(typed(facts)) + "\n")
    elif template:
        write(render(template, typed(facts)) + "\n")
    else:
        for name, value in facts.items():
            kinds = value if isinstance(value, dict) else {"": value}
            for kind, found in kinds.items():
                text = ", ".join(map(str, found)) if isinstance(found, list) else str(found)
                sys.stdout.write(f"{name}{kind and '.'}{kind}: {text}\n")
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
