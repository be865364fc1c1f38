"""volume create, rm, prune: what makes and removes volumes."""

from __future__ import annotations

import sys

from rdock.cli import output
from rdock.cli.confirmation import confirm
from rdock.cli.main import complain
from rdock.cli.network_create import pairs
from rdock.cli.usage import Options
from rdock.container import request
from rdock.errors import NotFound, RdockError, printable
from rdock.volume import volumes

CREATE_TEXT = """\
Usage:  rdock volume create [OPTIONS] [VOLUME]

Create a volume

Without a name it has 64 hexadecimal digits. Options are those of mount(8): type=tmpfs, o=bind with a folder of the
host's as device, type=overlay.

Options:
  -d, --driver string   Specify volume driver name (default "local")
      --label list      Set metadata for a volume
  -o, --opt map         Set driver specific options (default map[])
"""


def create(options: Options) -> int:
    name = (options.arguments or [""])[0]
    labels = request.parse_labels(options.list("--label"))
    with volumes.locked():
        made = volumes.create(
            name, driver=options.text("--driver") or volumes.DRIVER, options=pairs(options.list("--opt")),
            labels=labels,
        )  # fmt: skip
    sys.stdout.write(f"{made.name}\n")
    return 0


RM_TEXT = """\
Usage:  rdock volume rm [OPTIONS] VOLUME [VOLUME...]

Remove one or more volumes. You cannot remove a volume that is in use by a container

Aliases:
  rdock volume rm, rdock volume remove

Options:
  -f, --force   Do not error if the volume does not exist
"""


def rm(options: Options) -> int:
    from rdock.container import volume_removal

    code = 0
    for name in options.arguments:
        try:
            volume_removal.remove(name)
        except RdockError as e:
            if not (options.flag("--force") and isinstance(e, NotFound)):
                code = complain(e, 1)
                continue
        sys.stdout.write(printable(name) + "\n")
        sys.stdout.flush()
    return code


PRUNE_TEXT = """\
Usage:  rdock volume prune [OPTIONS]

Remove unused local volumes

Those that have a name are kept, unless --all is given.

Options:
  -a, --all             Remove all unused volumes, not just anonymous ones
      --filter filter   Provide filter values (e.g. "label=<label>")
  -f, --force           Do not prompt for confirmation
"""


def prune(options: Options) -> int:
    from rdock.container import volume_removal

    wanted, by_filter = volume_removal.parse_filters(options.list("--filter"))
    everything = options.flag("--all") or bool(by_filter)
    which = "all" if everything else "anonymous"
    warning = f"This will remove {which} local volumes not used by at least one container."
    if not options.flag("--force") and not confirm(warning):
        return 0
    removed, freed = volume_removal.prune(wanted, everything=everything)
    if removed:
        sys.stdout.write("Deleted Volumes:\n" + "".join(f"{name}\n" for name in removed) + "\n")
    sys.stdout.write(f"Total reclaimed space: {output.size(freed)}\n")
    return 0
