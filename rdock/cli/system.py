"""info, version, doctor: what this machine offers and what rdock makes of it."""

from __future__ import annotations

import json
import os
import platform
import sys

from rdock import __version__, config, paths
from rdock.cli.usage import Options
from rdock.container import containers
from rdock.runtime import rootless
from rdock.storage import driver

VERSION_TEXT = """\
Usage:  rdock version [OPTIONS]

Show the rdock version information

Options:
  -f, --format string   Format output using a custom template
"""


def version(options: Options) -> int:
    facts = {
        "Version": __version__, "OCIVersion": "1.2.0", "PythonVersion": platform.python_version(),
        "Os": "linux", "Arch": platform.machine(), "KernelVersion": os.uname().release,
    }  # fmt: skip
    if options.text("--format") == "json":
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        sys.stdout.write("".join(f"{name + ':':<16}{value}\n" for name, value in facts.items()))
    return 0
