"""images, load, import, tag, rmi: the image commands."""

from __future__ import annotations

import os
import sys

from rdock.cli import output
from rdock.cli.main import complain
from rdock.cli.usage import Options
from rdock.container import containers
from rdock.errors import InvalidParameter, NoSuchImage, RdockError, Unsupported, printable
from rdock.image import archive, filters, reference
from rdock.image import images as store
from rdock.image.images import Image, Use
from rdock.values import Value

IMAGES_TEXT = """\
Usage:  rdock images [OPTIONS] [REPOSITORY[:TAG]]

List images

Aliases:
  rdock image ls, rdock image list, rdock images

Options:
  -a, --all             Show all images (default hides intermediate images)
      --digests         Show digests
  -f, --filter filter   Filter output based on conditions provided
      --format string   Format output using a custom template:
                        'table':            Print output in table format with column headers (default)
                        'table TEMPLATE':   Print output in table format using the given Go template
                        'json':             Print in JSON format
                        'TEMPLATE':         Print output using the given Go template.
      --no-trunc        Don't truncate output
  -q, --quiet           Only show image IDs
"""

_COLUMNS = {
    "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "ID": "IMAGE ID", "CreatedSince": "CREATED",
    "Size": "SIZE",
}  # fmt: skip


def images(options: Options) -> int:
    # There are no intermediate images to hide, so `--all` shows nothing more; as in Docker with BuildKit.
    options.flag("--all")
    digests = options.flag("--digests")
    name = options.arguments[0] if options.arguments else ""
    whole = options.flag("--no-trunc")
    rows = [
        output.Row(_Shown(image, *names, whole=whole), _FIELDS, "*formatter.imageContext")
        for image in filters.select(store.list_images(), options.list("--filter"), name)
        for names in _names(image, digests=digests)
    ]
    columns = {field: title for field, title in _COLUMNS.items() if digests or field != "Digest"}
    output.show(rows, columns, options, quiet_key="ID")
    return 0


def _names(image: Image, *, digests: bool) -> list[tuple[str, str, str]]:
    """A line for each repository and tag, with `digests` also for each digest, as docker/cli groups them."""
    tags: dict[str, list[str]] = {}
    found: dict[str, list[str]] = {}
    for text in image.references:
        parsed = reference.parse(text)
        if parsed.digest:
            found.setdefault(parsed.familiar_name, []).append(parsed.digest)
        else:
            tags.setdefault(parsed.familiar_name, []).append(parsed.tag)
    none = "<none>"
    lines = []
    for repository in sorted({*tags, *found}):
        shown = found.get(repository, [none]) if digests else [none]
        lines += [(repository, tag, digest) for tag in tags.get(repository, [none]) for digest in shown]
    return lines or [(none, none, none)]


class _Shown(Value):
    """A line of the list."""

    image: Image
    repository: str
    tag: str
    digest: str
    whole: bool


def _id(shown: _Shown) -> str:
    return f"sha256:{shown.image.id}" if shown.whole else shown.image.id[:12]


def _size(shown: _Shown) -> str:
    return output.size(shown.image.size, 3)


_FIELDS: output.Table = {
    "ID": _id,
    "Repository": lambda shown: shown.repository,
    "Tag": lambda shown: shown.tag,
    "Digest": lambda shown: shown.digest,
    "CreatedSince": lambda shown: f"{output.age(shown.image.created)} ago" if shown.image.created > 0 else "N/A",
    "CreatedAt": lambda shown: output.local_time(shown.image.created) if shown.image.created > 0 else "N/A",
    "Size": _size,
    "VirtualSize": lambda shown: output.size(shown.image.size),
    "SharedSize": lambda _: "N/A",
    "UniqueSize": lambda _: "N/A",
    "Containers": lambda _: "N/A",
}


LOAD_TEXT = """\
Usage:  rdock load [OPTIONS]

Load an image from a tar archive or STDIN

Aliases:
  rdock image load, rdock load

Options:
  -i, --input string   Read from tar archive file, instead of STDIN
  -q, --quiet          Suppress the load output
"""


def load(options: Options) -> int:
    path = options.text("--input")
    if path is None and os.isatty(0):
        raise InvalidParameter("requested load from stdin, but stdin is empty")
    fd = archive.open_file(path) if path is not None else 0
    try:
        archive.load(fd, say=_say, warn=_silent if options.flag("--quiet") else _warn)
    except RdockError as e:
        raise type(e)(f"cannot load {path or 'from stdin'}: {e.message}", e.hint) from e
    return 0


IMPORT_TEXT = """\
Usage:  rdock import [OPTIONS] file|- [REPOSITORY[:TAG]]

Import the contents from a tarball to create a filesystem image

Aliases:
  rdock image import, rdock import

Options:
  -c, --change list      Apply Dockerfile instruction to the created image
  -m, --message string   Set commit message for imported image
"""


def import_(options: Options) -> int:
    path, *rest = options.arguments
    if path.startswith(("http://", "https://")):
        raise Unsupported(f"cannot import from a URL: {path}", hint=f"curl -fL {path} | rdock import - NAME")
    fd = archive.open_file(path) if path != "-" else 0
    archive.import_tree(
        fd,
        changes=options.list("--change"),
        message=options.text("--message") or "",
        name=rest[0] if rest else "",
        say=_say,
        warn=_warn,
    )
    return 0


TAG_TEXT = """\
Usage:  rdock tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]

Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE

Aliases:
  rdock image tag, rdock tag
"""


def tag(options: Options) -> int:
    store.tag(*options.arguments)
    return 0


RMI_TEXT = """\
Usage:  rdock rmi [OPTIONS] IMAGE [IMAGE...]

Remove one or more images

Aliases:
  rdock image rm, rdock image remove, rdock rmi

Options:
  -f, --force   Force removal of the image
"""


def rmi(options: Options) -> int:
    code = 0
    for name in options.arguments:
        try:
            for line in store.remove_image(name, force=options.flag("--force"), uses=_uses):
                _say(line)
        except RdockError as e:
            failed = complain(e, 1)
            # With --force a missing image is reported but no failure, as in Docker.
            if not (options.flag("--force") and isinstance(e, NoSuchImage)):
                code = failed
    return code


def _uses() -> list[Use]:
    return [
        Use(container.id, container.image, running=container.state().is_running)
        for container in containers.all_containers()
    ]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _warn(line: str) -> None:
    sys.stderr.write(f"WARNING: {printable(line)}\n")


def _silent(_: str) -> None:
    pass
