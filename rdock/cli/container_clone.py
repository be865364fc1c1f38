"""container exists, container clone: what podman has beside Docker's commands."""

from __future__ import annotations

import sys

from rdock.cli.usage import Options
from rdock.container import containers, creating, lifecycle
from rdock.container.containers import Container
from rdock.errors import Conflict, NoSuchContainer
from rdock.image import images

EXISTS_TEXT = """\
Usage:  rdock container exists CONTAINER

Check if a container exists: exit code 0 if it does, 1 if it does not
"""


def exists(options: Options) -> int:
    try:
        containers.resolve(options.arguments[0])
    except NoSuchContainer:
        return 1
    return 0


CLONE_TEXT = """\
Usage:  rdock container clone [OPTIONS] CONTAINER [NAME] [IMAGE]

Create a container like another one, with a writable layer of its own

Options:
      --destroy       Remove the original
  -f, --force         Remove the original even if it runs
      --name string   Assign a name to the container
      --run           Start the new container
"""


def clone(options: Options) -> int:
    original = containers.lookup(options.arguments[0])
    name, image_name = [*options.arguments[1:], "", ""][:2]
    image_name = image_name or original.image_name
    if options.flag("--destroy") and original.state().is_running and not options.flag("--force"):
        raise Conflict(f"cannot remove container {original.name}: it runs: use --force")
    config = original.config
    if config.hostname == original.short_id:
        config = config._replace(hostname="")  # it was not chosen, and the new one gets its own
    made = creating.create(
        None if original.rootfs else images.lookup(image_name if options.arguments[2:] else original.image),
        image_name,
        config,
        original.host_config,
        options.text("--name") or name or _free_name(original),
        networks=original.networks,
        rootfs=original.rootfs,
    )
    sys.stdout.write(made.container.id + "\n")
    sys.stdout.flush()
    if options.flag("--destroy"):
        lifecycle.remove(original, force=options.flag("--force"))
    if options.flag("--run"):
        from rdock.container import starting

        starting.start(made)
    else:
        made.lock.remove()
    return 0


def _free_name(original: Container) -> str:
    """`web-clone`, `web-clone1` …"""
    number = 0
    while True:
        name = f"{original.name}-clone{number or ''}"
        try:
            containers.resolve(name)
        except NoSuchContainer:
            return name
        number += 1
