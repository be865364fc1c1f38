"""create: a container that is ready to be started. And what run has in common with it."""

from __future__ import annotations

import os
import sys

from rdock.cli import container_options
from rdock.cli.main import callers_directory
from rdock.cli.usage import Options
from rdock.container import containers, creating, request, sharing
from rdock.container.config import Config, HostConfig
from rdock.container.creating import Made
from rdock.errors import InvalidParameter, NoSuchContainer, RdockError, printable, reason
from rdock.image import images, platforms, starter
from rdock.image.manifest import ImageConfig
from rdock.runtime import rootless
from rdock.state import probes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rdock.image.images import Image
    from rdock.image.manifest import Platform

CREATE_TEXT = container_options.help_text("""\
Usage:  rdock create [OPTIONS] IMAGE [COMMAND] [ARG...]

Create a new container

Aliases:
  rdock container create, rdock create

Options:
""")


def create(options: Options) -> int:
    made = make(options, detach=False, starts=False)
    made.lock.remove()
    sys.stdout.write(made.container.id + "\n")
    return 0


def make(options: Options, *, detach: bool, starts: bool) -> Made:
    """Create the container that the options ask for; `starts`: it is about to be started.

    Raises the RdockError that says what is wrong, before anything is made.
    """
    container_options.check_together(options, detach=detach, starts=starts)
    name, *words = options.arguments
    config = container_options.config(options, words, detach=detach)
    network_mode, networks = container_options.networks(options)
    if network_mode == "host" and (options.list("--publish") or options.flag("--publish-all")):
        sys.stderr.write("WARNING: Published ports are discarded when using host network mode\n")
    host = container_options.host_config(options, network_mode)
    sharing.check(host, starts=starts)
    _tell_of_own_id(config, host)
    container_name = options.text("--name") or ""
    if options.given("--name"):
        containers.check_name(container_name)
    platform = platforms.parse(options.text("--platform"))
    cidfile = _IdFile(host.container_id_file)
    try:
        image, rootfs = None, ""
        if options.flag("--rootfs"):
            rootfs = request.check_rootfs(name, callers_directory())
        else:
            policy = options.text("--pull") or "missing"
            image = starter.find(name, policy)
            fits = image is None or platform is None or platforms.fits(image.config, platform)
            if not fits and policy == "missing" and not starter.is_it(name):
                image = None  # the registry may have it for this platform too
            if image is None:
                image = _pull(name, platform, quiet=options.flag("--quiet"))
            platforms.check(platform, image, name)
        own = image.config if image else ImageConfig.from_json(b'{"os": "linux"}')
        config = request.merge(config, own, given_command=bool(words))
        if options.flag("--replace"):
            _remove(container_name)
        made = creating.create(image, name, config, host, container_name, networks=networks, rootfs=rootfs)
        cidfile.write(made.container.id)
    except BaseException:
        cidfile.remove()
        raise
    return made


def _pull(name: str, platform: Platform | None, *, quiet: bool) -> Image:
    """Have the image come from its registry; names much like it in the store are worth a hint if it does not."""
    from rdock.cli import transfer

    there = images.find(name)
    if there is None:
        sys.stderr.write(f"Unable to find image '{printable(images.shown(name))}' locally\n")
    try:
        transfer.fetch(name, platform, quiet=quiet)
    except RdockError as e:
        near = images.similar(name) if there is None else []
        if there is not None and not e.hint:
            e.hint = f"the image that is there is for {there.config.os}/{there.config.architecture}"
        if near and not e.hint:
            e.hint = f"there is {', '.join(near[:5])}" + (f" and {len(near) - 5} more" if len(near) > 5 else "")
        raise
    return images.lookup(name)


def _tell_of_own_id(config: Config, host: HostConfig) -> None:
    """Docker's `-u $(id -u)`, for files of one's own in a folder of the host, does the opposite here: say so, once."""
    own = str(rootless.entered().uid)
    if host.own or host.userns_mode not in ("", "host"):
        return
    if (
        config.user.partition(":")[0] != own
        or own == "0"
        or not any(bind.startswith("/") and ":ro" not in bind for bind in host.binds)
    ):
        return
    if probes.first_time("told of own id"):
        sys.stderr.write(
            f"rdock: note: in a container root is you, and user {own} is somebody else, who may not write to your "
            "folders.\nLeave out -u, or add --userns=keep-id, to have files of your own. This is said once.\n"
        )


def _remove(name: str) -> None:
    from rdock.container import lifecycle

    try:
        lifecycle.remove(containers.lookup(name), force=True)
    except NoSuchContainer:
        pass


class _IdFile:
    """`--cidfile`: made before the container, so that nobody else's is overwritten, and gone if there is none."""

    def __init__(self, path: str) -> None:
        self._path = os.path.join(callers_directory(), path) if path else ""
        self._fd = -1
        if not path:
            return
        try:
            # O_EXCL follows no link (CVE-2026-53489).
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o644)
        except FileExistsError:
            raise InvalidParameter(
                f"container ID file found, make sure the other container isn't running or delete {path}"
            ) from None
        except OSError as e:
            raise InvalidParameter(f"failed to create the container ID file: open {path}: {reason(e)}") from e

    def write(self, container_id: str) -> None:
        if self._fd < 0:
            return
        try:
            os.write(self._fd, container_id.encode())
            os.close(self._fd)
        except OSError as e:
            raise RdockError(f"failed to write the container ID to the file: {self._path}: {reason(e)}") from e
        self._fd = -1

    def remove(self) -> None:
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        try:
            os.unlink(self._path)
        except OSError:
            pass
