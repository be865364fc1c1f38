"""info, version, doctor: what this machine offers and what rdock makes of it."""

from __future__ import annotations

import json
import os
import platform
import sys

from rdock import __version__
from rdock.cli.template import render
from rdock.cli.usage import Options
from rdock.container import diagnosis
from rdock.container.spec import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION_TEXT = """\
Usage:  rdock version [OPTIONS]

Show the rdock version information

Options:
  -f, --format string   Format output using a custom template
"""


def version(options: Options) -> int:
    facts = {
        "Version": __version__,
        "OCIVersion": OCI_VERSION,
        "PythonVersion": platform.python_version(),
        "Os": "linux",
        "Arch": platform.machine(),
        "KernelVersion": os.uname().release,
    }
    return _show(facts, options.text("--format"))


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


def _show(facts: Mapping[str, object], template: str | None) -> int:
    if template == "json":
        sys.stdout.write(json.dumps(facts) + "\n")
    elif template:
        sys.stdout.write(render(template, facts) + "\n")
    else:
        for name, value in facts.items():
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            sys.stdout.write(f"{name}: {text}\n")
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
