"""The options that run and create share: their help, and from what the user wrote to a container's configuration.

Everything is checked here, before anything is made. Modules for the rarer options are imported where they
are asked for.
"""

from __future__ import annotations

import os
import sys

from rdock.cli.main import callers_directory
from rdock.cli.usage import Options
from rdock.container import capability_sets, request, streams
from rdock.container.config import Config, HostConfig, read_env_file, stop_signal
from rdock.errors import InvalidParameter, Unavailable
from rdock.network import modes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any, TypeVar

    from rdock.network.endpoint import Bindings, PortBinding

    T = TypeVar("T")

_SHARED = """\
      --add-host list            Add a custom host-to-IP mapping (host:ip)
      --annotation map           Add an annotation to the container (passed through to the OCI runtime)
  -a, --attach list              Attach to STDIN, STDOUT or STDERR
      --cap-add list             Add Linux capabilities
      --cap-drop list            Drop Linux capabilities
      --cgroupns string          Cgroup namespace to use (host|private)
      --cidfile string           Write the container ID to the file
      --device list              Add a host device to the container
      --dns list                 Set custom DNS servers
      --dns-option list          Set DNS options
      --dns-search list          Set custom DNS search domains
      --domainname string        Container NIS domain name
      --entrypoint string        Overwrite the default ENTRYPOINT of the image
  -e, --env list                 Set environment variables
      --env-file list            Read in a file of environment variables
      --expose list              Expose a port or a range of ports
      --group-add list           Add additional groups to join
  -h, --hostname string          Container host name
      --init                     Run an init inside the container that forwards signals and reaps processes
      --init-path string         Use this program of the host for --init
  -i, --interactive              Keep STDIN open even if not attached
      --ipc string               IPC mode to use
      --isolation string         Container isolation technology
      --link list                Add link to another container
      --link-local-ip list       Container IPv4/IPv6 link-local addresses
  -l, --label list               Set meta data on a container
      --label-file list          Read in a line delimited file of labels
      --log-driver string        Logging driver for the container: json-file, local or none
      --log-opt list             Log driver options: max-size, max-file, labels, env
      --mount mount              Attach a filesystem mount to the container
      --name string              Assign a name to the container
      --ip string                IPv4 address (e.g., 172.30.100.104)
      --ip6 string               IPv6 address (e.g., 2001:db8::33)
      --mac-address string       Container MAC address (e.g., 92:d0:c6:0a:29:33)
      --network network          Connect a container to a network, or: none, host, slirp4netns[:OPT,..], pasta[:OPT,..]
      --network-alias list       Add network-scoped alias for the container
      --no-healthcheck           Disable any container-specified HEALTHCHECK
      --oom-score-adj int        Tune host's OOM preferences (-1000 to 1000)
      --own string               Give what is written to bind mounts to you: me
      --pid string               PID namespace to use
      --platform string          Set platform if server is multi-platform capable
      --privileged               Give extended privileges to this container
  -p, --publish list             Publish a container's port(s) to the host
  -P, --publish-all              Publish all exposed ports to random ports
      --pull string              Pull image before running (always, missing, never)
  -q, --quiet                    Suppress the pull output
      --read-only                Mount the container's root filesystem as read only
      --replace                  Remove a container of the same name first
      --restart string           Restart policy to apply when a container exits (default no)
      --rm                       Automatically remove the container and its associated anonymous volumes when it exits
      --rootfs                   The argument is no image, but a directory that becomes the root
      --runtime string           Runtime to use for this container: rdock, or the name or path of an OCI runtime
      --security-opt list        Security Options
      --shm-size string          Size of /dev/shm
      --stop-signal string       Signal to stop the container
      --stop-timeout int         Timeout (in seconds) to stop a container
      --sysctl map               Sysctl options
      --tmpfs list               Mount a tmpfs directory
  -t, --tty                      Allocate a pseudo-TTY
      --ulimit ulimit            Ulimit options
  -u, --user string              Username or UID (format: <name|uid>[:<group|gid>])
      --userns string            User namespace to use (host|keep-id[:uid=N,gid=N]|nomap|auto[:size=N])
      --uts string               UTS namespace to use
  -v, --volume list              Bind mount a volume
      --volumes-from list        Mount volumes from the specified container(s)
  -w, --workdir string           Working directory inside the container
"""
_PLAIN_MODES = [[mode] for mode in (*modes.MODES, "bridge", "default")]
# Nothing follows from this here: health is not looked after.
IDLE = ("--no-healthcheck",)


def help_text(head: str, own: str = "") -> str:
    """A command's help: its head, then the shared options and its own ones in the order of their names."""
    lines = (_SHARED + own).splitlines(keepends=True)
    return head + "".join(sorted(lines, key=lambda line: line.partition("--")[2]))


def check_together(options: Options, *, detach: bool, starts: bool) -> None:
    """Refuse options that contradict each other, in Docker's words, and those that make no sense on Linux."""
    if detach and options.given("--attach"):
        raise InvalidParameter("conflicting options: cannot specify both --attach and --detach")
    if options.flag("--rm") and (options.text("--restart") or "no") != "no":
        raise InvalidParameter("conflicting options: cannot specify both --restart and --rm")
    if options.flag("--replace") and not options.text("--name"):
        raise InvalidParameter("cannot replace container without --name being set")
    if options.text("--uts") == "host" and options.text("--hostname"):
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
    if options.text("--uts") == "host" and options.text("--domainname"):
        raise InvalidParameter("conflicting options: domainname and the UTS mode")
    if (options.text("--isolation") or "default") != "default":
        from rdock.cli import refusals

        command = "run" if starts else "create"
        raise refusals.of_option(command, "--isolation", f"'rdock {command} --isolation'") or AssertionError


def each(options: Options, name: str, parse: Callable[[str], T]) -> list[T]:
    """The values of an option, parsed; what is wrong with one is told as pflag tells it."""
    found = []
    for text in options.list(name):
        try:
            found.append(parse(text))
        except InvalidParameter as e:
            raise InvalidParameter(f'invalid argument "{text}" for "{name}" flag: {e.message}', e.hint) from e
    return found


def config(options: Options, words: list[str], *, detach: bool) -> Config:
    """The portable part. Raises InvalidParameter."""
    env = []
    for path in options.list("--env-file"):
        env += read_env_file(path, os.environ)
    env += request.expand_env(options.list("--env"), dict(os.environ))
    labels = [line for path in options.list("--label-file") for line in read_env_file(path, None)]
    signal_name = options.text("--stop-signal") or ""
    if signal_name:
        stop_signal(signal_name)
    entrypoint, stdin = options.text("--entrypoint"), options.flag("--interactive")
    wanted = streams.parse_streams(options.list("--attach")) or {"stdout", "stderr"}
    wanted = set() if detach else wanted | ({"stdin"} if stdin else set())
    published = [binding.key for binding in _published(options)]
    return Config(
        hostname=_hostname(options),
        domainname=request.check_domain(options.text("--domainname") or ""),
        user=options.text("--user") or _default_user(options),
        attach_stdin="stdin" in wanted,
        attach_stdout="stdout" in wanted,
        attach_stderr="stderr" in wanted,
        exposed_ports={key: {} for key in published + request.parse_expose(options.list("--expose"))},
        tty=options.flag("--tty"),
        open_stdin=stdin,
        stdin_once=stdin and "stdin" in wanted,
        env=env,
        cmd=words or None,
        image=options.arguments[0],
        working_dir=request.check_directory(options.text("--workdir") or ""),
        entrypoint=None if entrypoint is None else [entrypoint] if entrypoint else [],
        labels=request.parse_labels(labels + options.list("--label")),
        stop_signal=signal_name,
        stop_timeout=options.number("--stop-timeout"),
        volumes={target: {} for bind, target in _volumes(options) if not bind},
    )


def _default_user(options: Options) -> str:
    """Empty: the image's."""
    if not options.text("--userns"):
        return ""
    from rdock.container import userns

    return userns.default_user(options.text("--userns") or "")


def _hostname(options: Options) -> str:
    if options.text("--uts") == "host" or (options.text("--network") == "host" and not options.text("--hostname")):
        return os.uname().nodename
    if (options.text("--network") or "").startswith("container:"):
        from rdock.container import containers

        return containers.lookup((options.text("--network") or "").partition(":")[2]).config.hostname
    return request.check_hostname(options.text("--hostname") or "")


def host_config(options: Options, network_mode: str) -> HostConfig:
    """What it gets of this machine. Raises InvalidParameter, Unsupported, NoSuchContainer."""
    privileged = options.flag("--privileged")
    capabilities = capability_sets.resolve(options.list("--cap-add"), options.list("--cap-drop"), privileged)
    host = HostConfig(
        **_mounts(options),
        container_id_file=options.text("--cidfile") or "",
        log_config=streams.parse_log_config(options.text("--log-driver") or "", options.list("--log-opt")),
        network_mode=network_mode,
        port_bindings=_port_bindings(options),
        publish_all_ports=options.flag("--publish-all"),
        restart_policy=request.parse_restart_policy(options.text("--restart") or ""),
        auto_remove=options.flag("--rm"),
        annotations=request.parse_annotations(options.list("--annotation")),
        cap_add=options.list("--cap-add"),
        cap_drop=options.list("--cap-drop"),
        privileged=privileged,
        readonly_rootfs=options.flag("--read-only"),
        security_opt=_security(options, capabilities),
        tmpfs=request.parse_tmpfs(options.list("--tmpfs")),
        init=options.flag("--init") or options.given("--init-path"),
        init_path=request.check_init(options.text("--init-path"), callers_directory()),
        group_add=[request.check_group(text) for text in options.list("--group-add")],
        shm_size=request.parse_size(options.text("--shm-size"), "--shm-size"),
        runtime=request.check_runtime(options.text("--runtime") or request.default_runtime()),
        links=_links(options, network_mode),
        **_modes(options),
        **_names(options),
    )
    limits = [name for name in ("--ulimit", "--sysctl", "--oom-score-adj") if options.given(name)]
    if limits:
        host = _with_limits(options, host)
    if options.given("--own"):
        from rdock.container import userns

        host = host._replace(own=userns.check_own(options.text("--own") or "", host))
    if options.given("--device"):
        from rdock.container import device_nodes
        from rdock.volume import targets

        devices = each(options, "--device", device_nodes.parse)
        for device in devices:
            targets.check(device["PathInContainer"], "invalid device")
        device_nodes.gather(devices)
        host = host._replace(devices=devices)
    return host


def _links(options: Options, network_mode: str) -> list[str]:
    """Those on the default network; others are settings of an endpoint."""
    if not options.list("--link"):
        return []
    from rdock.container import linking
    from rdock.network import names

    each(options, "--link", names.parse_link)
    return linking.settle(options.list("--link")) if network_mode == "bridge" else []


def _published(options: Options) -> list[PortBinding]:
    if not options.list("--publish"):
        return []
    from rdock.network import endpoint

    return [binding for text in options.list("--publish") for binding in endpoint.parse_publish(text)]


def _port_bindings(options: Options) -> Bindings:
    published = _published(options)
    if not published:
        return {}
    from rdock.network import endpoint

    return endpoint.to_bindings(published)


def _security(options: Options, capabilities: Collection[str]) -> list[str]:
    if not options.list("--security-opt"):
        return []
    from rdock.container import security_options

    return security_options.parse(options.list("--security-opt"), capabilities)


def _modes(options: Options) -> dict[str, Any]:
    given = [name for name in ("--pid", "--ipc", "--uts", "--userns", "--cgroupns") if options.given(name)]
    if not given:
        return {}
    from rdock.container import sharing

    found = {f"{name[2:]}_mode": sharing.parse(name, options.text(name)) for name in given}
    return {name: mode for name, mode in found.items() if mode}


def _names(options: Options) -> dict[str, Any]:
    if not any(options.given(name) for name in ("--add-host", "--dns", "--dns-option", "--dns-search")):
        return {}
    from rdock.network import names

    return {
        "extra_hosts": each(options, "--add-host", names.parse_extra_host),
        "dns": each(options, "--dns", names.parse_dns),
        "dns_options": each(options, "--dns-option", names.parse_dns_option),
        "dns_search": each(options, "--dns-search", names.parse_dns_search),
    }


def _with_limits(options: Options, host: HostConfig) -> HostConfig:
    from rdock.container import process_limits

    ulimits = {limit["Name"]: limit for limit in each(options, "--ulimit", process_limits.parse_ulimit)}
    score = process_limits.check_oom_score(options.number("--oom-score-adj"))
    possible = process_limits.possible_oom_score(score)
    if possible != score:
        sys.stderr.write(f"rdock: note: the OOM score will be {possible}: without root it cannot be below your own\n")
    return host._replace(
        ulimits=list(ulimits.values()),
        oom_score_adj=score,
        sysctls=process_limits.parse_sysctls(
            options.list("--sysctl"), host_network=host.network_mode == "host", host_ipc=host.ipc_mode == "host"
        ),
    )


def _volumes(options: Options) -> list[tuple[str, str]]:
    """The values of `-v`: a bind, or nothing and the place of an anonymous volume.

    The caller's directory, which may have been removed, counts only for what is relative to it.
    """
    if not options.given("--volume"):
        return []
    from rdock.volume import mount_syntax

    return [mount_syntax.parse_volume(text, callers_directory()) for text in options.list("--volume")]


def _mounts(options: Options) -> dict[str, Any]:
    if not any(options.given(name) for name in ("--volume", "--mount", "--volumes-from")):
        return {}
    from rdock.container import mount_points
    from rdock.volume import mount_syntax

    for text in options.list("--volumes-from"):
        mount_points.parse_volumes_from(text)
    return {
        "binds": [bind for bind, _ in _volumes(options) if bind],
        "mounts": each(options, "--mount", lambda text: mount_syntax.parse_mount(text, callers_directory())),
        "volumes_from": options.list("--volumes-from"),
    }


# What cannot be with the network of another container, in the words of docker/cli.
_NOT_SHARED = {
    "--hostname": "hostname", "--dns": "dns", "--add-host": "custom host-to-IP mapping",
    "--mac-address": "mac-address", "--publish": "port publishing", "--publish-all": "port publishing",
    "--expose": "port exposing",
}  # fmt: skip


def _of_another(options: Options, text: str) -> str:
    """The mode of a container that is in the network of another."""
    from rdock.container import sharing

    for name, what in _NOT_SHARED.items():
        if options.given(name):
            kind = "container type network mode" if "port" in what else "network mode"
            raise InvalidParameter(f"conflicting options: {what} and the {kind}")
    if any(options.given(name) for name in ("--ip", "--ip6")):
        raise InvalidParameter("user specified IP address is supported on user defined networks only")
    if options.given("--network-alias"):
        raise InvalidParameter("network-scoped aliases are only supported for user-defined networks")
    if options.given("--link"):
        raise InvalidParameter(
            "conflicting options: container type network can't be used with links. "
            "This would result in undefined behavior"
        )
    return sharing.parse("--network", text)


_OF_ENDPOINT = ("--ip", "--ip6", "--mac-address", "--network-alias", "--link", "--link-local-ip")


def networks(options: Options) -> tuple[str, dict[str, Any]]:
    """The network mode, and Docker's EndpointSettings of the networks that it is to be on.

    Raises InvalidParameter and NotFound in Docker's words.
    """
    texts = options.list("--network")
    if len(texts) == 1 and texts[0].startswith("container:"):
        return _of_another(options, texts[0]), {}
    if any(options.given(name) for name in _OF_ENDPOINT) or len(texts) > 1 or texts[:1] not in ([], *_PLAIN_MODES):
        from rdock.network import wanted

        given = wanted.Given(
            aliases=options.list("--network-alias"), ip=options.text("--ip") or "", ip6=options.text("--ip6") or "",
            mac=options.text("--mac-address") or "", links=options.list("--link"),
            link_local=options.list("--link-local-ip"),
        )  # fmt: skip
        return wanted.parse(texts, given)
    mode = modes.parse(texts[0] if texts else "")
    if mode == "bridge":
        return mode, {mode: {}}
    if texts or options.list("--publish") or modes.kind(mode) != "slirp4netns":
        return mode, {}
    return ("none" if _tell_of_no_way_out() else mode), {}


def _tell_of_no_way_out() -> bool:
    """Tell if there can be no slirp4netns. Other containers, and published ports, can be reached all the same."""
    from rdock.network import uplink

    try:
        uplink.find()
    except Unavailable as e:
        sys.stderr.write(f"rdock: note: this container has no way out of here: {e.message}\n{e.hint}\n")
        return True
    return False
