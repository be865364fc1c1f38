"""mount, unmount: a look at a container's root from a session; podman's commands."""

from __future__ import annotations

import sys

from rdock.cli.image_mount import check_session
from rdock.cli.usage import Options
from rdock.container import containers, root_mounting
from rdock.errors import InvalidParameter

MOUNT_TEXT = """\
Usage:  rdock mount [OPTIONS] [CONTAINER...]

Mount a container's root for reading

Prints where; without a container, which are mounted. Below `rdock unshare` only: nobody else would see it.

Aliases:
  rdock container mount, rdock mount

Options:
  -a, --all        Mount all containers
  -l, --latest     Mount the latest created container
      --no-trunc   Do not truncate IDs
"""


def mount(options: Options) -> int:
    check_session("mount", "container")
    wanted = [containers.lookup(name) for name in options.arguments]
    if options.flag("--all"):
        wanted = containers.all_containers()
    elif options.flag("--latest"):
        wanted.append(containers.latest())
    for container in wanted:
        sys.stdout.write(root_mounting.mount(container) + "\n")
    if not wanted and not options.flag("--all"):
        for container_id, target in root_mounting.mounted().items():
            shown = container_id if options.flag("--no-trunc") else container_id[:12]
            sys.stdout.write(f"{shown}  {target}\n")
    return 0


UNMOUNT_TEXT = """\
Usage:  rdock unmount [OPTIONS] [CONTAINER...]

Unmount a container's root

Aliases:
  rdock container umount, rdock container unmount, rdock umount, rdock unmount

Options:
  -a, --all      Unmount all containers that are mounted
  -l, --latest   Unmount the latest created container
"""


def unmount(options: Options) -> int:
    check_session("unmount", "container")
    wanted = [containers.resolve(name) for name in options.arguments]
    if options.flag("--all"):
        wanted = list(root_mounting.mounted())
    elif options.flag("--latest"):
        wanted.append(containers.latest().id)
    elif not wanted:
        raise InvalidParameter("you must provide at least one name or id")
    for container_id in wanted:
        root_mounting.unmount(container_id)
        sys.stdout.write(container_id + "\n")
    return 0
