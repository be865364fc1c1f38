"""run: create and start a container, and stay with it unless detached."""

from __future__ import annotations

import os
import sys

from rdock.cli.attachment import stay
from rdock.cli.main import callers_directory
from rdock.cli.usage import Options
from rdock.container import capability_sets, containers, lifecycle, request
from rdock.container.config import Config, HostConfig, read_env_file, stop_signal
from rdock.container.relay import Attached
from rdock.errors import InvalidParameter, Unavailable
from rdock.image import starter
from rdock.linux import tty
from rdock.network import endpoint, sandbox, uplink

RUN_TEXT = """\
Usage:  rdock run [OPTIONS] IMAGE [COMMAND] [ARG...]

Create and run a new container from an image

Aliases:
  rdock container run, rdock run

Options:
      --cap-add list             Add Linux capabilities
      --cap-drop list            Drop Linux capabilities
  -d, --detach                   Run container in background and print container ID
      --entrypoint string        Overwrite the default ENTRYPOINT of the image
  -e, --env list                 Set environment variables
      --env-file list            Read in a file of environment variables
  -h, --hostname string          Container host name
      --init                     Run an init inside the container that forwards signals and reaps processes
  -i, --interactive              Keep STDIN open even if not attached
  -l, --label list               Set meta data on a container
      --name string              Assign a name to the container
      --network string           Connect a container to a network: slirp4netns, host or none
      --privileged               Give extended privileges to this container
  -p, --publish list             Publish a container's port(s) to the host
      --pull string              Pull image before running (always, missing, never)
  -q, --quiet                    Suppress the pull output
      --read-only                Mount the container's root filesystem as read only
      --rm                       Automatically remove the container and its associated anonymous volumes when it exits
      --runtime string           Runtime to use for this container: rdock, or the name or path of an OCI runtime
      --security-opt list        Security Options
      --shm-size string          Size of /dev/shm
      --stop-signal string       Signal to stop the container
      --stop-timeout int         Timeout (in seconds) to stop a container
      --tmpfs list               Mount a tmpfs directory
  -t, --tty                      Allocate a pseudo-TTY
  -u, --user string              Username or UID (format: <name|uid>[:<group|gid>])
  -v, --volume list              Bind mount a volume
  -w, --workdir string           Working directory inside the container
"""


def run(options: Options) -> int:
    detach, terminal = options.flag("--detach"), options.flag("--tty")
    if terminal and options.flag("--interactive") and not detach and not os.isatty(0):
        raise InvalidParameter("the input device is not a TTY")
    name, *words = options.arguments
    config, host = _config(options, words), _host_config(options)
    if options.given("--name"):
        containers.check_name(options.text("--name") or "")
    image = starter.find(name, options.text("--pull") or "missing")
    config = request.merge(config, image.config, given_command=bool(words))
    made = lifecycle.create(image, name, config, host, options.text("--name") or "")
    try:
        connection, _ = lifecycle.start(made, tty.console_size() if terminal else None, attached=not detach)
    except BaseException:
        made.lock.release()
        raise
    if detach:
        sys.stdout.write(made.container.id + "\n")
        return 0
    return stay(connection, Attached(config.open_stdin, True, True, terminal), made.container)


def _config(options: Options, words: list[str]) -> Config:
    env = []
    for path in options.list("--env-file"):
        env += read_env_file(path, os.environ)
    env += request.expand_env(options.list("--env"), dict(os.environ))
    detach, stdin = options.flag("--detach"), options.flag("--interactive")
    entrypoint = options.text("--entrypoint")
    signal_name = options.text("--stop-signal") or ""
    if signal_name:
        stop_signal(signal_name)
    return Config(
        hostname=request.check_hostname(options.text("--hostname") or ""),
        user=options.text("--user") or "",
        attach_stdin=stdin and not detach,
        attach_stdout=not detach,
        attach_stderr=not detach,
        exposed_ports={
            binding.key: {} for text in options.list("--publish") for binding in endpoint.parse_publish(text)
        },
        tty=options.flag("--tty"),
        open_stdin=stdin,
        stdin_once=stdin and not detach,
        env=env,
        cmd=words or None,
        image=options.arguments[0],
        working_dir=request.check_directory(options.text("--workdir") or ""),
        entrypoint=None if entrypoint is None else [entrypoint] if entrypoint else [],
        labels=request.parse_labels(options.list("--label")),
        stop_signal=signal_name,
        stop_timeout=options.number("--stop-timeout"),
    )


def _bind(text: str) -> str:
    """The caller's directory, which may have been removed, counts only for what is relative to it."""
    directory = callers_directory()
    if text.startswith(".") and not directory:
        raise InvalidParameter(f"invalid volume specification: '{text}': getwd: no such file or directory")
    return request.parse_bind(text, directory)


def _network_mode(options: Options) -> str:
    """The network that is asked for. Where the default one is not possible and nothing is to be published, none."""
    mode = sandbox.parse_mode(options.text("--network") or "")
    if options.given("--network") or options.list("--publish"):
        return mode
    try:
        uplink.find()
    except Unavailable as e:
        sys.stderr.write(f"rdock: note: this container has no network: {e.message}\n{e.hint}\n")
        return "none"
    return mode


def _host_config(options: Options) -> HostConfig:
    published = [binding for text in options.list("--publish") for binding in endpoint.parse_publish(text)]
    capability_sets.resolve(options.list("--cap-add"), options.list("--cap-drop"), options.flag("--privileged"))
    return HostConfig(
        binds=[_bind(text) for text in options.list("--volume")],
        network_mode=_network_mode(options),
        port_bindings=endpoint.to_bindings(published),
        auto_remove=options.flag("--rm"),
        cap_add=options.list("--cap-add"),
        cap_drop=options.list("--cap-drop"),
        privileged=options.flag("--privileged"),
        readonly_rootfs=options.flag("--read-only"),
        security_opt=request.check_security_options(options.list("--security-opt")),
        tmpfs=request.parse_tmpfs(options.list("--tmpfs")),
        init=options.flag("--init"),
        shm_size=request.parse_size(options.text("--shm-size"), "--shm-size"),
        runtime=request.check_runtime(options.text("--runtime") or request.default_runtime()),
    )
