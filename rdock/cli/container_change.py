"""rename, update, prune: what containers are called and how they are kept."""

from __future__ import annotations

import sys

from rdock.cli import output
from rdock.cli.confirmation import confirm
from rdock.cli.container_manage import each
from rdock.cli.usage import Options
from rdock.container import changing, containers, pruning, request
from rdock.container.containers import Container
from rdock.errors import InvalidParameter

RENAME_TEXT = """\
Usage:  rdock rename CONTAINER NEW_NAME

Rename a container

Aliases:
  rdock container rename, rdock rename
"""


def rename(options: Options) -> int:
    old, new = options.arguments
    changing.rename(containers.lookup(old), new.lstrip("/"))
    return 0


UPDATE_TEXT = """\
Usage:  rdock update [OPTIONS] CONTAINER [CONTAINER...]

Update configuration of one or more containers

Aliases:
  rdock container update, rdock update

Options:
  -l, --label list       Set meta data on a container
      --name string      Give the container another name
      --restart string   Restart policy to apply when a container exits
"""


def update(options: Options) -> int:
    if not any(options.given(name) for name in ("--label", "--name", "--restart")):
        raise InvalidParameter("you must provide one or more flags when using this command")
    if options.given("--name") and len(options.arguments) > 1:
        raise InvalidParameter("only one container can be given a name")
    labels = request.parse_labels(options.list("--label"))
    policy = request.parse_restart_policy(options.text("--restart") or "") if options.given("--restart") else None

    def one(container: Container) -> None:
        changing.update(container, labels, policy)
        if options.given("--name"):
            changing.rename(container, options.text("--name") or "")

    return each(options, one)


PRUNE_TEXT = """\
Usage:  rdock container prune [OPTIONS]

Remove all stopped containers

Options:
      --filter filter   Provide filter values (e.g. "until=<timestamp>")
  -f, --force           Do not prompt for confirmation
"""


def prune(options: Options) -> int:
    wanted = pruning.parse_filters(options.list("--filter"))
    which = "stopped containers that match the filters" if wanted else "stopped containers"
    if not options.flag("--force") and not confirm(f"This will remove all {which}."):
        return 0
    removed, freed = pruning.prune(wanted)
    if removed:
        sys.stdout.write("Deleted Containers:\n" + "".join(f"{container_id}\n" for container_id in removed) + "\n")
    sys.stdout.write(f"Total reclaimed space: {output.size(freed)}\n")
    return 0
