"""cp: files and directories between a container and the host."""

from __future__ import annotations

import os
import sys

from rdock.cli import output, output_file
from rdock.cli.usage import Options
from rdock.container import containers, copying, events, owners, places
from rdock.errors import InvalidParameter, SystemFailure, printable, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rdock.container.containers import Container

CP_TEXT = """\
Usage:  rdock cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-
        rdock cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH

Copy files/folders between a container and the local filesystem

Use '-' as the source to read a tar archive from stdin and extract it to a directory in a
container. Use '-' as the destination to stream a tar archive of a container source to stdout.

Aliases:
  rdock container cp, rdock cp

Options:
  -a, --archive       Archive mode (copy all uid/gid information)
  -L, --follow-link   Always follow symbol link in SRC_PATH
  -q, --quiet         Suppress progress output during copy. Progress output is automatically
                      suppressed if no terminal is attached
"""


def cp(options: Options) -> int:
    source, target = options.arguments
    if not source:
        raise InvalidParameter("source can not be empty")
    if not target:
        raise InvalidParameter("destination can not be empty")
    (source_container, source_path), (target_container, target_path) = copying.split(source), copying.split(target)
    if source_container and target_container:
        raise InvalidParameter("copying between containers is not supported")
    archive, follow = options.flag("--archive"), options.flag("--follow-link")
    if source_container:
        size = _copy_out(source_container, source_path, target_path, archive=archive, follow=follow)
        shown = os.path.abspath(target_path) if target_path != "-" else ""
    elif target_container:
        size = _copy_in(source_path, target_container, target_path, archive=archive, follow=follow)
        shown = target
    else:
        raise InvalidParameter("must specify at least one container source")
    if shown and not options.flag("--quiet"):
        sys.stderr.write(copying.message(output.size(size, 3), shown))
    return 0


def _copy_out(name: str, path: str, target: str, *, archive: bool, follow: bool) -> int:
    container = containers.lookup(name)
    size = 0
    with places.opened(container) as place, copying.source_inside(place, name, path, follow=follow) as source:
        if target == "-":
            from rdock.container import copy_archive

            with output_file.destination(None) as fd:
                for chunk in copy_archive.stream(place, source, _warn):
                    output_file.write(fd, chunk)
        else:
            copier = copying.copier_out(place, archive=archive, note=_warn)
            with copying.destination_outside(target) as destination, copier:
                copying.transfer(source, destination, copier)
            size = copier.size
    events.note(container, "archive-path")
    return size


def _copy_in(path: str, name: str, target: str, *, archive: bool, follow: bool) -> int:
    container = containers.lookup(name)
    if path == "-":
        return _unpack(container, name, target, archive=archive)
    copier = copying.copier_in(owners.maps(container), archive=archive, note=_warn)
    with (
        copying.source_outside(path, follow=follow) as source,
        places.opened(container) as place,
        copying.destination_inside(place, name, target) as destination,
        copier,
    ):
        copying.transfer(source, destination, copier)
    events.note(container, "extract-to-dir")
    return copier.size


def _unpack(container: Container, name: str, target: str, *, archive: bool) -> int:
    from rdock.container import copy_archive

    with places.opened(container) as place, copying.destination_inside(place, name, target) as destination:
        if destination.name:
            raise InvalidParameter(f'destination "{name}:{target}" must be a directory')
        maps = owners.maps(container)
        size = copy_archive.unpack(_input(), destination.directory, maps, archive=archive, note=_warn)
    events.note(container, "extract-to-dir")
    return size


def _input() -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(0, 1 << 18)
        except OSError as e:
            raise SystemFailure(f"cannot read the standard input: {reason(e)}") from e
        if not chunk:
            return
        yield chunk


def _warn(line: str) -> None:
    sys.stderr.write(f"WARNING: {printable(line)}\n")
