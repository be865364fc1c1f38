"""wait, stop, kill, rm, pause, unpause: what is done to containers that exist."""

from __future__ import annotations

import sys

from rdock.cli.main import complain
from rdock.cli.usage import Options
from rdock.container import containers, control, lifecycle
from rdock.container.containers import Container
from rdock.errors import DataLoss, InvalidParameter, NoSuchContainer, RdockError, UsageError, printable
from rdock.linux import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_TEXT = """\
Usage:  rdock wait [OPTIONS] CONTAINER [CONTAINER...]

Block until one or more containers stop, then print their exit codes

Aliases:
  rdock container wait, rdock wait

Options:
  -l, --latest   Act on the latest created container
"""


def wait(options: Options) -> int:
    def one(container: Container) -> str:
        return str(lifecycle.wait(container))

    return each(options, one)


STOP_TEXT = """\
Usage:  rdock stop [OPTIONS] CONTAINER [CONTAINER...]

Stop one or more running containers

Aliases:
  rdock container stop, rdock stop

Options:
  -l, --latest          Act on the latest created container
  -s, --signal string   Signal to send to the container
  -t, --timeout int     Seconds to wait before killing the container
"""


def stop(options: Options) -> int:
    seconds = options.number("--timeout")
    number = signal_of(options.text("--signal"))

    def one(container: Container) -> None:
        lifecycle.stop(container, seconds, number)

    return each(options, one)


KILL_TEXT = """\
Usage:  rdock kill [OPTIONS] CONTAINER [CONTAINER...]

Kill one or more running containers

Aliases:
  rdock container kill, rdock kill

Options:
  -l, --latest          Act on the latest created container
  -s, --signal string   Signal to send to the container
"""


def kill(options: Options) -> int:
    number = signal_of(options.text("--signal")) or 9

    def one(container: Container) -> None:
        lifecycle.kill(container, number)

    return each(options, one, failure="cannot kill container: ")


RM_TEXT = """\
Usage:  rdock rm [OPTIONS] CONTAINER [CONTAINER...]

Remove one or more containers

Aliases:
  rdock container rm, rdock container remove, rdock rm

Options:
  -f, --force     Force the removal of a running container (uses SIGKILL)
      --latest    Act on the latest created container
  -l, --link      Remove the specified link
  -v, --volumes   Remove anonymous volumes associated with the container
"""


def rm(options: Options) -> int:
    if options.flag("--link"):
        return _drop_links(options)
    force, volumes = options.flag("--force"), options.flag("--volumes")

    def one(container: Container) -> None:
        lifecycle.remove(container, force=force, volumes=volumes)

    return each(options, one, missing_is_fine=force, if_damaged=lifecycle.remove_damaged if force else None)


def _drop_links(options: Options) -> int:
    from rdock.container import linking

    code = 0
    for name in options.arguments:
        try:
            linking.remove(name)
        except RdockError as e:
            code = complain(e, 1)
            continue
        sys.stdout.write(printable(name) + "\n")
    return code


def signal_of(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return signals.number_of(text)
    except ValueError:
        raise InvalidParameter(f"invalid signal: {text}") from None


def each(
    options: Options,
    action: Callable[[Container], str | None],
    *,
    missing_is_fine: bool = False,
    if_damaged: Callable[[str], str | None] | None = None,
    failure: str = "",
    failed: list[str] | None = None,
) -> int:
    """Do something to each container named: prints its answer or its name; 1 if one of them failed.

    `if_damaged` is what to do, by id, with one whose record cannot be read; `failure` is what Docker says, and the
    container's name, before what was wrong; into `failed` go the names.
    """
    code = 0
    for reference in references(options):
        try:
            container_id = containers.resolve(reference)
            try:
                answer = action(containers.load(container_id))
            except DataLoss:
                if if_damaged is None:
                    raise
                answer = if_damaged(container_id)
            sys.stdout.write((reference if answer is None else answer) + "\n")
            sys.stdout.flush()
        except RdockError as e:
            complain(RdockError(f"{failure}{reference}: {e.message}", e.hint) if failure else e, 1)
            if failed is not None:
                failed.append(reference)
            if not (missing_is_fine and isinstance(e, NoSuchContainer)):
                code = 1
    return code


def references(options: Options) -> list[str]:
    """The containers that a command names, also by `--latest`."""
    if not options.knows("--latest") or not options.flag("--latest"):
        return options.arguments
    if options.arguments:
        raise UsageError("--latest and containers cannot be used together", options.hint)
    return [containers.latest().id]


PAUSE_TEXT = """\
Usage:  rdock pause [OPTIONS] CONTAINER [CONTAINER...]

Pause all processes within one or more containers

Aliases:
  rdock container pause, rdock pause

Options:
  -l, --latest   Act on the latest created container
"""


def pause(options: Options) -> int:
    def one(container: Container) -> None:
        control.pause(container)

    return each(options, one)


UNPAUSE_TEXT = """\
Usage:  rdock unpause [OPTIONS] CONTAINER [CONTAINER...]

Unpause all processes within one or more containers

Aliases:
  rdock container unpause, rdock unpause

Options:
  -l, --latest   Act on the latest created container
"""


def unpause(options: Options) -> int:
    def one(container: Container) -> None:
        control.unpause(container)

    return each(options, one)
