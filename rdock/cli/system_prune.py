"""system prune: stopped containers, unused networks, dangling images and, if asked for, unused volumes, in one go."""

from __future__ import annotations

import sys

from rdock.cli import output
from rdock.cli.confirmation import confirm
from rdock.cli.image import uses
from rdock.cli.usage import Options
from rdock.container import network_removal, pruning, volume_removal
from rdock.errors import InvalidParameter, printable
from rdock.image import pruning as image_pruning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PRUNE_TEXT = """\
Usage:  rdock system prune [OPTIONS]

Remove unused data

Options:
  -a, --all             Remove all unused images not just dangling ones
      --filter filter   Provide filter values (e.g. "label=<key>=<value>")
  -f, --force           Do not prompt for confirmation
      --volumes         Prune anonymous volumes
"""


def prune(options: Options) -> int:
    texts = options.list("--filter")
    with_volumes, everything = options.flag("--volumes"), options.flag("--all")
    if with_volumes and any(text.startswith("until=") for text in texts):
        raise InvalidParameter('ERROR: The "until" filter is not supported with "--volumes"')
    wanted, of_images = pruning.parse_filters(texts), image_pruning.parse_filters(texts)
    of_volumes = volume_removal.parse_filters(texts)[0] if with_volumes else []
    warning = _warning(texts, with_volumes=with_volumes, everything=everything)
    if not options.flag("--force") and not confirm(warning):
        return 0
    removed, freed = pruning.prune(wanted)
    _tell("Containers", removed)
    _tell("Networks", network_removal.prune(wanted))
    if with_volumes:
        removed, more = volume_removal.prune(of_volumes, everything=False)
        _tell("Volumes", removed)
        freed += more
    report, more = image_pruning.prune(of_images, everything=everything, uses=uses)
    _tell("Images", report)
    sys.stdout.write(f"Total reclaimed space: {output.size(freed + more)}\n")
    return 0


def _warning(texts: list[str], *, with_volumes: bool, everything: bool) -> str:
    lines = ["all stopped containers", "all networks not used by at least one container"]
    if with_volumes:
        lines.append("all anonymous volumes not used by at least one container")
    lines.append(
        "all images without at least one container associated to them" if everything else "all dangling images"
    )
    said = "This will remove:\n" + "".join(f"  - {line}\n" for line in lines)
    if texts:
        said += "\n  Items to be pruned will be filtered with:\n" + "".join(
            f"  - {printable(text)}\n" for text in texts
        )
    return said


def _tell(what: str, lines: Iterable[str]) -> None:
    found = [printable(line) + "\n" for line in lines]
    if found:
        sys.stdout.write(f"Deleted {what}:\n" + "".join(found) + "\n")
