"""commit, diff, export, image diff: what a container's root is turned into."""

from __future__ import annotations

import os
import sys

from rdock.cli import output_file
from rdock.cli.usage import Options
from rdock.container import containers, roots
from rdock.errors import InvalidParameter, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rdock.storage.differences import Change

COMMIT_TEXT = """\
Usage:  rdock commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]

Create a new image from a container's changes

Aliases:
  rdock container commit, rdock commit

Options:
  -a, --author string    Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
  -c, --change list      Apply Dockerfile instruction to the created image
      --iidfile string   Write the image ID to a file
  -m, --message string   Commit message
  -p, --pause            Pause container during commit (default true)
  -q, --quiet            Do not warn of what an image cannot hold
"""


def commit(options: Options) -> int:
    from rdock.container import committing

    name, target = [*options.arguments, ""][:2]
    id_file = options.text("--iidfile")
    if id_file:
        output_file.check(id_file, "failed to write the image ID")

    def make() -> str:
        image_id = committing.commit(
            containers.lookup(name),
            name=target,
            author=options.text("--author") or "",
            message=options.text("--message") or "",
            changes=options.list("--change"),
            pause=options.flag("--pause") if options.given("--pause") else True,
            warn=_silent if options.flag("--quiet") else _warn,
        )
        return f"sha256:{image_id}"

    if id_file:
        with output_file.destination(id_file) as fd:
            image_id = make()
            output_file.write(fd, image_id.encode())
    else:
        image_id = make()
    sys.stdout.write(f"{image_id}\n")
    return 0


DIFF_TEXT = """\
Usage:  rdock diff CONTAINER

Inspect changes to files or directories on a container's filesystem

Aliases:
  rdock container diff, rdock diff
"""


def diff(options: Options) -> int:
    if not options.arguments[0]:
        raise InvalidParameter("Container name cannot be empty")
    with roots.opened(containers.lookup(options.arguments[0])) as root:
        _show(root.changes())
        root.check()
    return 0


IMAGE_DIFF_TEXT = """\
Usage:  rdock image diff IMAGE [IMAGE]

Inspect changes to an image's root

They are from the layers below its last one to the image, or from another image to it.
"""


def image_diff(options: Options) -> int:
    from rdock.image import images
    from rdock.storage.differences import compare
    from rdock.storage.union import Union

    name, *other = options.arguments
    directories = images.root_directories(images.lookup(name))
    below = images.root_directories(images.lookup(other[0])) if other else directories[1:]
    with Union(directories) as now, Union(below) as before:
        _show(compare(now, before))
    return 0


def _show(changes: Iterable[Change]) -> None:
    for change in changes:
        path = change.path.decode("utf-8", "surrogateescape")
        sys.stdout.write(f"{change.kind} /{printable(path)}\n")


EXPORT_TEXT = """\
Usage:  rdock export [OPTIONS] CONTAINER

Export a container's filesystem as a tar archive

Aliases:
  rdock container export, rdock export

Options:
  -o, --output string   Write to a file, instead of STDOUT
"""


def export(options: Options) -> int:
    from rdock.image.packing import pack

    path = options.text("--output")
    if not path and os.isatty(1):
        raise InvalidParameter("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    container = containers.lookup(options.arguments[0])
    if path:
        output_file.check(path, "failed to export container")
    with roots.opened(container) as root:

        def archive() -> Iterator[bytes]:
            yield from pack(root.everything(), root.now, is_layer=False, note=_warn, known=root.known)
            root.check()

        with output_file.destination(path) as fd:
            for chunk in archive():
                output_file.write(fd, chunk)
    return 0


def _warn(line: str) -> None:
    sys.stderr.write(f"WARNING: {printable(line)}\n")


def _silent(_: str) -> None:
    pass
