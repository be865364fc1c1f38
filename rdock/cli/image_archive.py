"""load, import, save: images from archives, and archives of images."""

from __future__ import annotations

import os
import sys

from rdock.cli import output_file
from rdock.cli.usage import Options
from rdock.errors import InvalidParameter, RdockError, printable
from rdock.image import archive, platforms
from rdock.scope import scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LOAD_TEXT = """\
Usage:  rdock load [OPTIONS]

Load an image from a tar archive or STDIN

Aliases:
  rdock image load, rdock load

Options:
  -i, --input string      Read from tar archive file, instead of STDIN
      --platform string   Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g.,
                          "linux/amd64")
  -q, --quiet             Suppress the load output
"""


def load(options: Options) -> int:
    path = options.text("--input")
    platform = platforms.parse(options.text("--platform"))
    if path is None and os.isatty(0):
        raise InvalidParameter("requested load from stdin, but stdin is empty")
    with _open(path) as fd:
        try:
            archive.load(fd, platform=platform, say=_say, warn=_silent if options.flag("--quiet") else _warn)
        except RdockError as e:
            raise type(e)(f"cannot load {path or 'from stdin'}: {e.message}", e.hint) from e
    return 0


IMPORT_TEXT = """\
Usage:  rdock import [OPTIONS] file|URL|- [REPOSITORY[:TAG]]

Import the contents from a tarball to create a filesystem image

Aliases:
  rdock image import, rdock import

Options:
  -c, --change list       Apply Dockerfile instruction to the created image
  -m, --message string    Set commit message for imported image
      --platform string   Set platform if server is multi-platform capable
"""


def import_(options: Options) -> int:
    source, *rest = options.arguments
    wanted = archive.Import(
        changes=tuple(options.list("--change")),
        message=options.text("--message") or f"Imported from {source}",
        name=rest[0] if rest else "",
        platform=platforms.parse(options.text("--platform")),
    )
    if source.lower().startswith(("http://", "https://")):
        from rdock.image import remote

        with remote.download(source) as chunks:
            archive.import_tree(chunks, wanted, say=_say, warn=_warn)
        return 0
    from rdock.image import blobs

    with _open(source if source != "-" else None) as fd:
        archive.import_tree(blobs.read_chunks(fd), wanted, say=_say, warn=_warn)
    return 0


SAVE_TEXT = """\
Usage:  rdock save [OPTIONS] IMAGE [IMAGE...]

Save one or more images to a tar archive (streamed to STDOUT by default)

Aliases:
  rdock image save, rdock save

Options:
      --compression string   Compress the archive: gzip, zstd or none (default "none")
      --format string        Save as docker-archive (uncompressed layers), or as oci-archive; by default as both in
                             one, which keeps every digest
  -o, --output string        Write to a file, instead of STDOUT
      --platform string      Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g.,
                             "linux/amd64")

The name of the file does not matter: what is compressed, and how, is said by --compression alone, or left to another
program: rdock save IMAGE | zstd >FILE. `rdock load` finds out by itself.
"""


def save(options: Options) -> int:
    from rdock.image import saving

    path, form = options.text("--output"), options.text("--format") or ""
    compress = options.text("--compression") or ""
    platform = platforms.parse(options.text("--platform"))
    if path in (None, "", "-", "/dev/stdout"):
        path = None
        if os.isatty(1):
            raise InvalidParameter("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    else:
        output_file.check(path, "failed to save image")
    with output_file.destination(path) as fd:
        saving.save(options.arguments, fd, form=form, compress=compress, platform=platform)
    return 0


@scope
def _open(path: str | None) -> Iterator[int]:
    """A file that the user named, or the standard input."""
    if path is None:
        yield 0
        return
    fd = archive.open_file(path)
    try:
        yield fd
    finally:
        os.close(fd)


def _say(line: str) -> None:
    sys.stdout.write(printable(line) + "\n")
    sys.stdout.flush()


def _warn(line: str) -> None:
    sys.stderr.write(f"WARNING: {printable(line)}\n")


def _silent(_: str) -> None:
    pass
