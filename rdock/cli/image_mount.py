"""unshare, image mount, image unmount: a look at images from where rdock's containers live; podman's commands."""

from __future__ import annotations

import os
import sys

from rdock import paths
from rdock.cli.usage import Options
from rdock.errors import CannotExecute, CommandNotFound, InvalidParameter, reason
from rdock.image import images, mounting
from rdock.linux import mount as m
from rdock.linux import namespaces
from rdock.runtime import rootless

UNSHARE_TEXT = """\
Usage:  rdock unshare [COMMAND] [ARG...]

Run a command as root of the user's own namespaces

Without one, a shell. It sees the files of containers and images with the owners that they have
in there, and may change and remove what your other ids have left in your folders. What it mounts
is seen by it alone, and ends with it. RDOCK_GRAPHROOT and RDOCK_RUNROOT tell where rdock keeps
its files. With one id only it works too, and there are no other ids.
"""


def unshare(options: Options) -> int:
    argv = options.arguments or [os.environ.get("SHELL") or "/bin/sh"]
    if not rootless.entered().in_session:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        m.set_propagation("/", m.MS_SLAVE)
    # The namespaces are in use as long as what is started here lives.
    for fd in rootless.held():
        os.set_inheritable(fd, True)
    # As podman tells those of its own store.
    environment = {**os.environ, "RDOCK_GRAPHROOT": paths.data(), "RDOCK_RUNROOT": paths.runtime()}
    try:
        os.execvpe(argv[0], argv, environment)
    except FileNotFoundError:
        raise CommandNotFound(f"{argv[0]}: command not found") from None
    except OSError as e:
        raise CannotExecute(f"{argv[0]}: {reason(e)}") from e


MOUNT_TEXT = """\
Usage:  rdock image mount [IMAGE...]

Mount an image's root for reading

Prints where; without an image, which are mounted. Below `rdock unshare` only: nobody else would see it.
"""


def mount(options: Options) -> int:
    check_session("mount", "image")
    for name in options.arguments:
        sys.stdout.write(mounting.mount(images.lookup(name)) + "\n")
    if not options.arguments:
        for image_id, target in mounting.mounted().items():
            sys.stdout.write(f"{image_id[:12]}  {target}\n")
    return 0


UNMOUNT_TEXT = """\
Usage:  rdock image unmount IMAGE [IMAGE...]

Unmount an image's root
"""


def unmount(options: Options) -> int:
    check_session("unmount", "image")
    for name in options.arguments:
        image_id = images.lookup(name).id
        mounting.unmount(image_id)
        sys.stdout.write(image_id + "\n")
    return 0


def check_session(verb: str, what: str) -> None:
    """Raise InvalidParameter unless the caller is in a session."""
    if not rootless.entered().in_session:
        command = f"image {verb} IMAGE" if what == "image" else f"{verb} CONTAINER"
        raise InvalidParameter(
            f"cannot {verb} {'an' if what == 'image' else 'a'} {what} where nobody would see it",
            hint=f"rdock unshare sh -c 'rdock {command}; …', or rdock unshare for a shell",
        )
