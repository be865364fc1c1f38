"""The way out of a network namespace: slirp4netns, a TCP/IP stack in user space, and its published ports.

One slirp4netns serves one container's namespace. It lives as long as the write end of a pipe is open,
which the container's monitor holds, and a copy of it its keeper: when both have ended, however, so does
slirp4netns. The host's loopback addresses are closed to the container; names are answered by an address
of its own, which asks the resolvers of the host. slirp4netns(1) describes addresses, options and the
socket's JSON.
"""

from __future__ import annotations

import os
import select

from rdock import jsontext, launch
from rdock.errors import Conflict, InvalidParameter, SystemFailure, Unavailable
from rdock.linux import sockets
from rdock.network.endpoint import Bindings, PortBinding
from rdock.network.ports import check_privileged
from rdock.network.slirp_options import NONE, SlirpOptions
from rdock.network.subnet import Subnet
from rdock.values import Value

# The largest that slirp takes: fewer, bigger packets are several times faster through a TAP device.
MTU = 65520
_READY_SECONDS = 20.0
_SOCKET = "slirp4netns.sock"
# Of the interface of one that has IPv6, where slirp announces its prefix and no more: the rest of the address follows
# from this one (RFC 4291, appendix A), and so is known before there is an interface.
_MAC = "02:00:00:00:01:00"
ADDRESS6 = "fd00::ff:fe00:100"
"""The container's own with enable_ipv6, from a second after its start."""


class Uplink(Value):
    """A slirp4netns that was started; `ready` waits for it."""

    pid: int
    alive: int
    """The descriptor whose last copy keeps it alive."""
    ready_fd: int
    directory: str
    log: int
    """The read end of a pipe that takes what it prints, and stays open: without it a word would be its end."""


def find() -> str:
    """The path of slirp4netns. Raises Unavailable if it, or the device that it needs, is missing."""
    program = launch.find_program("slirp4netns")
    if program is None:
        raise Unavailable(
            "slirp4netns is not installed, which a container's own network needs",
            hint="sudo apt-get install slirp4netns, or use --network host or none",
        )
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise Unavailable("cannot open /dev/net/tun", hint="sudo chmod 666 /dev/net/tun, or use --network host or none")
    return program


def start(user: int, network: int, directory: str, subnet: Subnet, options: SlirpOptions = NONE) -> Uplink:
    """Start the uplink of a network namespace, with addresses of `subnet`; its socket lies in `directory`, if named.

    `network` and `user` are descriptors of the namespace and of the user namespace that owns it, -1 if that is ours.

    Raises Unavailable if slirp4netns or /dev/net/tun is missing.
    """
    program = find()
    # By descriptor: the path may be longer than the address of a socket can be.
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if directory else -1
    more = [f"--api-socket=/proc/self/fd/{place}/{_SOCKET}"] if directory else []
    more += [f"--userns-path=/proc/self/fd/{user}"] if user >= 0 else []
    more += _as_arguments(options)
    exit_end, alive = os.pipe2(os.O_CLOEXEC)
    ready_fd, ready_end = os.pipe2(os.O_CLOEXEC)
    # It prints for as long as it lives and nobody reads that after the start: a full pipe refuses the rest.
    log, log_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        pid = launch.spawn(
            [
                program, "--configure", f"--cidr={subnet.cidr}", "--enable-sandbox", "--enable-seccomp",
                f"--exit-fd={exit_end}", f"--ready-fd={ready_end}", *more,
                "--netns-type=path", f"/proc/self/fd/{network}", "tap0",
            ],
            keep=tuple(fd for fd in (exit_end, ready_end, place, user, network) if fd >= 0),
            stdout=log_end,
            stderr=log_end,
        )  # fmt: skip
    except BaseException:
        for fd in (alive, ready_fd, log):
            os.close(fd)
        raise
    finally:
        for fd in (exit_end, ready_end, log_end, place):
            if fd >= 0:
                os.close(fd)
    return Uplink(pid, alive, ready_fd, directory, log)


def _as_arguments(options: SlirpOptions) -> list[str]:
    found = [f"--mtu={options.mtu or MTU}"]
    found += [] if options.allow_host_loopback else ["--disable-host-loopback"]
    found += ["--enable-ipv6", f"--macaddress={_MAC}"] if options.enable_ipv6 else []
    found += [f"--outbound-addr={options.outbound_addr}"] if options.outbound_addr else []
    found += [f"--outbound-addr6={options.outbound_addr6}"] if options.outbound_addr6 else []
    return found


def await_ready(uplink: Uplink) -> None:
    """Wait until the interface is configured. Raises SystemFailure with what slirp4netns printed."""
    try:
        poll = select.poll()
        poll.register(uplink.ready_fd, select.POLLIN)
        ready = bool(poll.poll(_READY_SECONDS * 1000)) and os.read(uplink.ready_fd, 1) == b"1"
        if not ready:
            raise SystemFailure(f"slirp4netns failed: {'; '.join(_printed(uplink)) or 'no answer'}")
    finally:
        os.close(uplink.ready_fd)


def _printed(uplink: Uplink) -> list[str]:
    try:
        return os.read(uplink.log, 65536).decode("utf-8", "replace").strip().splitlines()
    except BlockingIOError:
        return []


def let_go(uplink: Uplink) -> None:
    """Let it end. Its ports are free when `reap` has returned."""
    os.close(uplink.alive)


def reap(uplink: Uplink) -> None:
    """Wait for its end, in which the kernel takes its interface apart, for some twenty milliseconds."""
    try:
        launch.wait(uplink.pid)
    except ChildProcessError:
        # Another has started it, whose place this process has taken.
        try:
            ended = os.pidfd_open(uplink.pid)
        except ProcessLookupError:
            pass
        else:
            poll = select.poll()
            poll.register(ended, select.POLLIN)
            poll.poll(_READY_SECONDS * 1000)
            os.close(ended)
    os.close(uplink.log)


def publish(uplink: Uplink, wanted: list[PortBinding]) -> Bindings:
    """Forward ports of the host; the bindings in force, with the ports that were chosen.

    Raises Conflict in Docker's words if a port is taken, Unavailable with the fix if it is below the
    first one that an ordinary user may have.
    """
    bindings: Bindings = {}
    for binding in wanted:
        port = binding.host_port or free_port(binding.host_ip, binding.protocol)
        if ":" in binding.host_ip:
            raise InvalidParameter(
                f"cannot publish on {binding.host_ip}: slirp4netns forwards from IPv4 addresses only"
            )
        check_privileged(port)
        answer = _ask(
            uplink.directory,
            {
                "execute": "add_hostfwd",
                "arguments": {
                    "proto": binding.protocol,
                    "host_addr": binding.host_ip or "0.0.0.0",
                    "host_port": port,
                    "guest_port": binding.container_port,
                },
            },
        )
        if "error" in answer:
            raise Conflict(f"Bind for {binding.host_ip or '0.0.0.0'}:{port} failed: port is already allocated")
        entry = {"HostIp": binding.host_ip or "0.0.0.0", "HostPort": str(port)}
        bindings.setdefault(binding.key, []).append(entry)
    return bindings


def free_port(ip: str, protocol: str) -> int:
    """A port that is free at this moment, from the kernel's own choice."""
    kind = sockets.SOCK_DGRAM if protocol == "udp" else sockets.SOCK_STREAM
    probe = sockets.socket(sockets.AF_INET, kind)
    try:
        probe.bind((ip or "0.0.0.0", 0))
        return int(probe.getsockname()[1])
    finally:
        probe.close()


def _ask(directory: str, question: dict[str, object]) -> dict[str, object]:
    """One exchange with slirp4netns: it answers one JSON object and closes."""
    try:
        connection = sockets.connect(directory, _SOCKET, sockets.SOCK_STREAM)
        try:
            connection.settimeout(_READY_SECONDS)
            connection.sendall(jsontext.render(question).encode())
            connection.shutdown(sockets.SHUT_WR)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        finally:
            connection.close()
    except OSError as e:
        raise SystemFailure(f"slirp4netns does not answer: {e}") from e
    found = jsontext.parse(answer or b"{}")
    return found if isinstance(found, dict) else {}
