"""images, tag, untag, rmi, image prune: which images there are, and what they are called."""

from __future__ import annotations

import sys

from rdock.cli import output
from rdock.cli.confirmation import confirm
from rdock.cli.main import complain
from rdock.cli.usage import Options
from rdock.container import containers
from rdock.errors import InvalidParameter, NoSuchImage, RdockError, printable
from rdock.image import filters, reference
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
      --tree            List what each image consists of, and what it takes on the disk
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
    if options.flag("--tree"):
        for given in ("--quiet", "--no-trunc", "--digests", "--format"):
            if options.given(given):
                raise InvalidParameter(f"{given} is not yet supported with --tree")
        return _tree(filters.select(store.list_images(), options.list("--filter"), name))
    rows = [
        output.Row(_Shown(image, *line, whole=whole), _FIELDS, "*formatter.imageContext")
        for image in filters.select(store.list_images(), options.list("--filter"), name)
        for line in names(image, digests=digests)
    ]
    columns = {field: title for field, title in _COLUMNS.items() if digests or field != "Digest"}
    output.show(rows, columns, options, quiet_key="ID")
    return 0


def _tree(found: list[Image]) -> int:
    """Docker's tree: below each name the platform, of which there is one only here."""
    from rdock.image.usage import Usage

    usage = Usage(store.list_images())
    used = {use.image_id for use in uses()}
    lines = [["IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"]]
    for image in found:
        numbers = [output.size(usage.of(image).total, 3), output.size(usage.content(image), 3)]
        rest = [image.id[:12], *numbers, "U" if image.id in used else ""]
        lines += [[name, *rest] for name in image.tags or ["<untagged>"]]
        config = image.config
        platform = "/".join(part for part in (config.os, config.architecture, config.variant) if part)
        lines.append([f"└─ {platform or 'unknown'}", image.manifest_digest[7:19], *numbers, ""])
    output.write("".join(printable(line.rstrip()) + "\n" for line in output.table(lines)))
    return 0


def names(image: Image, *, digests: bool) -> list[tuple[str, str, str]]:
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


def created_since(image: Image) -> str:
    return f"{output.age(image.created)} ago" if image.created > 0 else "N/A"


def created_at(image: Image) -> str:
    return output.local_time(image.created) if image.created > 0 else "N/A"


_FIELDS: output.Table = {
    "ID": _id,
    "Repository": lambda shown: shown.repository,
    "Tag": lambda shown: shown.tag,
    "Digest": lambda shown: shown.digest,
    "CreatedSince": lambda shown: created_since(shown.image),
    "CreatedAt": lambda shown: created_at(shown.image),
    "Size": _size,
    "VirtualSize": lambda shown: output.size(shown.image.size),
    "SharedSize": lambda _: "N/A",
    "UniqueSize": lambda _: "N/A",
    "Containers": lambda _: "N/A",
}


TAG_TEXT = """\
Usage:  rdock tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]

Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE

Aliases:
  rdock image tag, rdock tag
"""


def tag(options: Options) -> int:
    store.tag(*options.arguments)
    return 0


UNTAG_TEXT = """\
Usage:  rdock untag IMAGE [NAME...]

Take names from an image, all if none is given, and keep it

Aliases:
  rdock image untag, rdock untag
"""


def untag(options: Options) -> int:
    for name in store.untag(options.arguments[0], options.arguments[1:]):
        sys.stdout.write(f"Untagged: {name}\n")
    return 0


RMI_TEXT = """\
Usage:  rdock rmi [OPTIONS] IMAGE [IMAGE...]

Remove one or more images

Aliases:
  rdock image rm, rdock image remove, rdock rmi

Options:
  -f, --force      Force removal of the image
      --no-prune   Do not delete untagged parents
"""


def rmi(options: Options) -> int:
    options.flag("--no-prune")  # an image has no parents here, only layers, which go with the last that needs them
    code = 0
    for name in options.arguments:
        try:
            for line in store.remove_image(name, force=options.flag("--force"), uses=uses):
                _say(line)
        except RdockError as e:
            failed = complain(e, 1)
            # With --force a missing image is reported but no failure, as in Docker.
            if not (options.flag("--force") and isinstance(e, NoSuchImage)):
                code = failed
    return code


PRUNE_TEXT = """\
Usage:  rdock image prune [OPTIONS]

Remove unused images

Options:
  -a, --all             Remove all unused images, not just dangling ones
      --filter filter   Provide filter values (e.g. "until=<timestamp>")
  -f, --force           Do not prompt for confirmation
"""

_WARNINGS = {
    True: "This will remove all images without at least one container associated to them.",
    False: "This will remove all dangling images.",
}


def prune(options: Options) -> int:
    from rdock.image import pruning

    wanted = pruning.parse_filters(options.list("--filter"))
    everything = options.flag("--all")
    if not options.flag("--force") and not confirm(_WARNINGS[everything]):
        return 0
    report, freed = pruning.prune(wanted, everything=everything, uses=uses)
    if report:
        sys.stdout.write("Deleted Images:\n" + "".join(f"{printable(line)}\n" for line in report) + "\n")
    sys.stdout.write(f"Total reclaimed space: {output.size(freed)}\n")
    return 0


def uses() -> list[Use]:
    """Which container uses which image, as its root or as a mount."""
    found = []
    for container in containers.all_containers():
        running = container.state().is_running
        found += [
            Use(container.id, image_id, running=running) for image_id in (container.image, *container.mounted_images)
        ]
    return found


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
