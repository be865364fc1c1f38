"""start and restart: a container that exists comes to life."""

from __future__ import annotations

from rdock.cli.attachment import stay
from rdock.cli.container_manage import each, signal_of
from rdock.cli.main import complain
from rdock.cli.usage import Options
from rdock.container import attach, containers, starting, streams
from rdock.container.containers import Container
from rdock.container.relay import Attached
from rdock.errors import InvalidParameter, RdockError, Unsupported
from rdock.linux import tty

START_TEXT = """\
Usage:  rdock start [OPTIONS] CONTAINER [CONTAINER...]

Start one or more stopped containers

Aliases:
  rdock container start, rdock start

Options:
  -a, --attach                  Attach STDOUT/STDERR and forward signals
      --checkpoint string       Restore from this checkpoint
      --checkpoint-dir string   Use a custom checkpoint storage directory
      --detach-keys string      Override the key sequence for detaching a container
  -i, --interactive             Attach container's STDIN
  -l, --latest                  Act on the latest created container
      --sig-proxy               Proxy all received signals to the process (default true)
"""


def start(options: Options) -> int:
    if options.given("--checkpoint") or options.given("--checkpoint-dir"):
        raise Unsupported("checkpoints are not supported: they cannot be made without root")
    if options.flag("--attach") or options.flag("--interactive"):
        if len(options.arguments) > 1:
            raise InvalidParameter("you cannot start and attach multiple containers at once")
        return _start_attached(options)

    def one(container: Container) -> None:
        made = starting.claim(container)
        if made is not None:
            starting.start(made)

    failed: list[str] = []
    code = each(options, one, failed=failed)
    if failed:
        complain(RdockError(f"failed to start containers: {', '.join(failed)}"), code)
    return code


def _start_attached(options: Options) -> int:
    container = containers.latest() if options.flag("--latest") else containers.lookup(options.arguments[0])
    config = container.config
    proxy = not options.given("--sig-proxy") or options.flag("--sig-proxy")
    keys = streams.parse_detach_keys(options.text("--detach-keys") or "")
    stdin = options.flag("--interactive") and config.open_stdin
    attached = Attached(stdin, True, True, config.tty, keys, proxy)
    made = starting.claim(container)
    if made is None:
        return stay(attach.attach_to(container), attached, container)
    try:
        connection, _ = starting.start(made, tty.console_size() if config.tty else None, attached=proxy)
    except BaseException:
        made.lock.release()
        raise
    return stay(connection, attached, container)


RESTART_TEXT = """\
Usage:  rdock restart [OPTIONS] CONTAINER [CONTAINER...]

Restart one or more containers

Aliases:
  rdock container restart, rdock restart

Options:
  -l, --latest          Act on the latest created container
  -s, --signal string   Signal to send to the container
  -t, --timeout int     Seconds to wait before killing the container
"""


def restart(options: Options) -> int:
    seconds = options.number("--timeout")
    number = signal_of(options.text("--signal"))

    def one(container: Container) -> None:
        starting.restart(container, seconds, number)

    return each(options, one)
