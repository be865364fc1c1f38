"""commit, diff, export, image diff: what a container's root is turned into."""

from __future__ import annotations

import os
import stat
import sys

from rdock.cli.usage import Options
from rdock.container import containers, roots
from rdock.errors import InvalidParameter, SystemFailure, printable, reason

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
    image_id = committing.commit(
        containers.lookup(name),
        name=target,
        author=options.text("--author") or "",
        message=options.text("--message") or "",
        changes=options.list("--change"),
        pause=options.flag("--pause") if options.given("--pause") else True,
        warn=_silent if options.flag("--quiet") else _warn,
    )
    if id_file is not None:
        _write_text(id_file, f"sha256:{image_id}")
    sys.stdout.write(f"sha256:{image_id}\n")
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
        _check_output(path)
    with roots.opened(container) as root:

        def archive() -> Iterator[bytes]:
            yield from pack(root.everything(), root.now, is_layer=False, note=_warn)
            root.check()

        if path:
            _write_file(path, archive())
        else:
            sys.stdout.flush()
            for chunk in archive():
                _write(1, chunk)
    return 0


# -- files -----------------------------------------------------------------------------------------


def _check_output(path: str) -> None:
    """Docker's complaints about a place for a file, before any work is done."""
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise InvalidParameter(
            f'failed to export container: invalid output path: directory "{directory}" does not exist'
        )
    if os.path.isdir(path):
        raise InvalidParameter(f'failed to export container: invalid output path: "{path}" is a directory')


def _write_file(path: str, chunks: Iterator[bytes]) -> None:
    """Write a file that appears when it is whole; what is there and is no file, such as /dev/null, is written to."""
    is_file = not os.path.exists(path) or stat.S_ISREG(os.stat(path).st_mode)
    path = os.path.realpath(path)
    half = os.path.join(os.path.dirname(path), f".rdock-{os.urandom(6).hex()}") if is_file else path
    flags = os.O_WRONLY | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if is_file else 0)
    try:
        fd = os.open(half, flags, 0o600)
        try:
            for chunk in chunks:
                _write(fd, chunk)
        finally:
            os.close(fd)
        if is_file:
            os.rename(half, path)
            half = ""
    except OSError as e:
        raise SystemFailure(f"failed to export container: {path}: {reason(e)}") from e
    finally:
        if is_file and half:
            try:
                os.unlink(half)
            except OSError:
                pass


def _write_text(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as e:
        raise SystemFailure(f"cannot write {path}: {reason(e)}") from e


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _warn(line: str) -> None:
    sys.stderr.write(f"WARNING: {printable(line)}\n")


def _silent(_: str) -> None:
    pass
