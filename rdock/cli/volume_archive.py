"""volume export, volume import: the content of a volume as a tar archive; podman's commands."""

from __future__ import annotations

import os
import sys

from rdock.cli import output_file
from rdock.cli.usage import Options
from rdock.container import volume_transfer
from rdock.errors import InvalidParameter, printable

EXPORT_TEXT = """\
Usage:  rdock volume export [OPTIONS] VOLUME

Export the content of a volume as a tar archive

Owners are those that containers see.

Options:
  -o, --output string   Write to a file, instead of STDOUT
"""


def export(options: Options) -> int:
    path = options.text("--output")
    if path in (None, "", "-", "/dev/stdout"):
        path = None
        if os.isatty(1):
            raise InvalidParameter("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    else:
        output_file.check(path, "failed to export volume")
    pieces = volume_transfer.export(options.arguments[0], _warn)
    first = next(pieces)  # a volume that is not there leaves no file
    with output_file.destination(path) as fd:
        output_file.write(fd, first)
        for piece in pieces:
            output_file.write(fd, piece)
    return 0


IMPORT_TEXT = """\
Usage:  rdock volume import VOLUME [SOURCE]

Import the content of a tar archive, compressed or not, into a volume

SOURCE is a file, or - for STDIN, as without one. What is in the volume and not in the archive stays.
"""


def import_(options: Options) -> int:
    from rdock.image import archive, blobs

    name, source = [*options.arguments, "-"][:2]
    if source == "-":
        volume_transfer.import_(name, blobs.read_chunks(0), _warn)
        return 0
    fd = archive.open_file(source)
    try:
        volume_transfer.import_(name, blobs.read_chunks(fd), _warn)
    finally:
        os.close(fd)
    return 0


def _warn(line: str) -> None:
    sys.stderr.write(f"WARNING: {printable(line)}\n")
