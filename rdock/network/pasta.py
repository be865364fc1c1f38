"""A private network by pasta(1), which gives a network namespace the addresses that the host has.

Connections are sockets of the host's on one side and frames of a TAP device on the other, without addresses between
them: the container has the host's address and gateway, and a server the address of its client. One pasta serves one
namespace. rdock gives it the namespaces as its standard input and output, for newer ones close all other descriptors,
and hears from it by its standard error: its process id, once it is at work, or what is wrong.

pasta ends when it is told to, or when the link by which it has found the namespace is gone from the container's
directory, which is so when the container is removed after all who looked after it were killed.

Debian's AppArmor profile (/etc/apparmor.d/usr.bin.passt) lets pasta open /dev/net/tun and namespaces below /proc; how
it takes to such a link is not known, since rdock was not seen with it.
"""

from __future__ import annotations

import os
import select
import signal
import time

from rdock import launch
from rdock.errors import Conflict, InvalidParameter, SystemFailure, Unavailable
from rdock.linux import sockets
from rdock.network import endpoint, ports
from rdock.network.subnet import Subnet
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rdock.network.endpoint import Bindings
    from rdock.network.pasta_options import PastaOptions

FORWARDED_DNS = "169.254.1.1"
"""Where names are asked for if the host's name server is one that the container cannot reach; podman's choice."""
# In a directory where nothing else is: of several files that go at once, early versions may see the first one only.
_LINK = "pasta/netns"
_READY_SECONDS = 20.0
# How long one whose link is gone is waited for that nobody has stopped, in seconds.
_PATIENCE = 2.0
# Of networks that are nowhere (RFC 5737, RFC 3849): nothing is sent there.
_NOWHERE = {sockets.AF_INET: "192.0.2.1", sockets.AF_INET6: "2001:db8::1"}
_SOL_BINDTODEVICE = 25
_WITHOUT = "or use --network bridge"


class Pasta(Value):
    """A pasta that was started and is at work."""

    pid: int
    alive: int
    """A pidfd, by which it is ended."""
    log: int
    """The read end of a pipe that takes what it prints, and stays open: without it a word would be its end."""


def find() -> str:
    """The path of pasta. Raises Unavailable if it, or the device that it needs, is missing."""
    program = launch.find_program("pasta")
    if program is None:
        raise Unavailable("pasta is not installed", hint=f"sudo apt-get install passt, {_WITHOUT}")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise Unavailable("cannot open /dev/net/tun", hint=f"sudo chmod 666 /dev/net/tun, {_WITHOUT}")
    return program


def bind(directory: str, published: Bindings) -> Bindings:
    """Find out which ports of the host can be had: the bindings that are to be in force, for pasta to bind itself.

    Raises what ports.bind raises, InvalidParameter for what pasta cannot do.
    """
    left_over = _unlink(directory)
    wanted = endpoint.from_bindings(published)
    until = time.monotonic() + (_PATIENCE if left_over else 0)
    while True:
        try:
            listeners, bindings = ports.bind(wanted)
            break
        except Conflict:
            if time.monotonic() >= until:
                raise
            time.sleep(0.05)
    for listener in listeners:
        listener.socket.close()
    _check(bindings)
    return bindings


def start(user: int, network: int, directory: str, options: PastaOptions, bindings: Bindings) -> Pasta:
    """Start the pasta of a network namespace, with published ports, and wait until it is at work.

    `network` and `user` are descriptors of the namespace and of the user namespace that owns it. Raises Unavailable
    if pasta is missing, or the host has no way out that could be the container's; Conflict if a port is taken by now,
    SystemFailure with what pasta printed.
    """
    program = find()
    _check_way_out(options)
    _unlink(directory)
    link = os.path.join(directory, _LINK)
    os.makedirs(os.path.dirname(link), mode=0o700, exist_ok=True)
    os.symlink("/proc/self/fd/0", link)
    log, log_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        pid = launch.spawn(
            [
                program, "--foreground", "--quiet", "--config-net", "--userns=/proc/self/fd/1", f"--netns={link}",
                "--pid=/proc/self/fd/2", *_defaults(options, bindings), *options.arguments,
            ],
            stdin=network, stdout=user, stderr=log_end,
        )  # fmt: skip
    except BaseException:
        os.close(log)
        raise
    finally:
        os.close(log_end)
    try:
        alive = os.pidfd_open(pid)
        try:
            _await_ready(log, pid)
        except BaseException:
            signal.pidfd_send_signal(alive, signal.SIGKILL)
            launch.wait(pid)
            os.close(alive)
            raise
    except BaseException:
        os.close(log)
        raise
    return Pasta(pid, alive, log)


def let_go(pasta: Pasta, directory: str) -> None:
    """Let it end. Its ports are free when `reap` has returned."""
    _unlink(directory)
    try:
        signal.pidfd_send_signal(pasta.alive, signal.SIGKILL)  # it leaves nothing
    except ProcessLookupError:
        pass


def reap(pasta: Pasta) -> None:
    """Wait for its end."""
    poll = select.poll()
    poll.register(pasta.alive, select.POLLIN)
    poll.poll(_READY_SECONDS * 1000)
    try:
        launch.wait(pasta.pid)
    except ChildProcessError:
        pass  # another has started it, whose place this process has taken
    os.close(pasta.alive)
    os.close(pasta.log)


# -- what is told of it ------------------------------------------------------------------------------


def addresses(options: PastaOptions) -> list[str]:
    """Those that the container is going to have, IPv4's first."""
    found = []
    for family, off in ((sockets.AF_INET, "ipv6-only"), (sockets.AF_INET6, "ipv4-only")):
        if not options.has(off):
            found.append(options.address("address", family) or _source(family, options))
    return [address for address in found if address]


def nameserver(options: PastaOptions) -> str:
    """Where the container is to ask for names if not where the host does."""
    given = options.address("dns-forward", sockets.AF_INET)
    return given or (FORWARDED_DNS if _has_local_dns(options) else "")


def host_address(options: PastaOptions) -> str:
    """Where the container reaches the host; empty: nowhere, or it is as good as not known."""
    for name in ("map-host-loopback", "map-guest-addr"):
        if found := options.address(name, sockets.AF_INET):
            return found
    if options.maps_gateway:
        return options.address("gateway", sockets.AF_INET) or _gateway("/proc/net/route")[0]
    return ""


def place(pid: int) -> Subnet | None:
    """What IPv4 network the namespace of a process has been given; None if it has none."""
    gateway, networks = _gateway(f"/proc/{pid}/net/route")
    own = _own_address(f"/proc/{pid}/net/fib_trie")
    if not own or not networks:
        return None
    base, length = networks[0]
    return Subnet(base, length, own, gateway)


# -- within ------------------------------------------------------------------------------------------


def _defaults(options: PastaOptions, bindings: Bindings) -> list[str]:
    """What podman has pasta do unless it is told otherwise, and the published ports."""
    found = [] if options.maps_gateway else ["--no-map-gw"]
    published: dict[str, list[str]] = {"tcp": [], "udp": []}
    for key, entries in bindings.items():
        port, _, protocol = key.partition("/")
        for host_port, ips in _by_port(entries).items():
            address = "" if len(ips) > 1 else f"{ips[0]}/"
            published[protocol].append(f"{address}{host_port}:{port}")
    for name, protocol in (("tcp-ports", "tcp"), ("udp-ports", "udp")):
        found += [f"--{name}={spec}" for spec in published[protocol]]
        if not published[protocol] and not options.has(name):
            found.append(f"--{name}=none")
    found += [f"--{name}=none" for name in ("tcp-ns", "udp-ns") if not options.has(name)]
    if _has_local_dns(options) and not options.has("dns-forward"):
        found.append(f"--dns-forward={FORWARDED_DNS}")
    return found


def _by_port(entries: list[dict[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in entries:
        found.setdefault(entry["HostPort"], []).append(entry["HostIp"])
    return found


def _check(bindings: Bindings) -> None:
    """pasta leads a port of the host to one port, from one address or from all."""
    seen: set[tuple[str, str]] = set()
    for key, entries in bindings.items():
        protocol = key.partition("/")[2]
        for port, ips in _by_port(entries).items():
            if (protocol, port) in seen or (len(ips) > 1 and {*ips} != {"0.0.0.0", "::"}):
                raise InvalidParameter(
                    f"cannot publish port {port}/{protocol} at several addresses: pasta takes one, or all"
                )
            seen.add((protocol, port))


def _check_way_out(options: PastaOptions) -> None:
    """Raise Unavailable if there is nothing that could be copied."""
    if any(options.has(name) for name in ("interface", "outbound-if4", "outbound-if6")):
        return
    if not _gateway("/proc/net/route")[0] and not _has_route6():
        raise Unavailable(
            "this machine has no default route, which pasta copies",
            hint="use --network slirp4netns or --network bridge",
        )


def _await_ready(log: int, pid: int) -> None:
    printed = b""
    deadline = time.monotonic() + _READY_SECONDS
    poll = select.poll()
    poll.register(log, select.POLLIN)
    while poll.poll(max(deadline - time.monotonic(), 0) * 1000):
        chunk = os.read(log, 65536)
        printed += chunk
        if not chunk or any(line == b"%d" % pid for line in printed.split(b"\n")[:-1]):
            break
    lines = printed.decode("utf-8", "replace").splitlines()
    if str(pid) in lines:
        return
    # Without a system logger it also complains of that.
    told = [line.strip() for line in lines if line.strip() and "to syslog" not in line]
    if any(line.startswith("Failed to bind any port") for line in told):
        raise Conflict(f"published ports: {'; '.join(told)}")
    # After what is wrong may come pages on how it is used.
    end = next((number for number, line in enumerate(told) if line.startswith("Usage:")), len(told))
    raise SystemFailure(f"pasta failed: {'; '.join(told[:end]) or 'no answer'}")


def _unlink(directory: str) -> bool:
    """Whether there was a link, which a pasta may have followed that is ending now."""
    try:
        os.unlink(os.path.join(directory, _LINK))
    except FileNotFoundError:
        return False
    return True


def _source(family: int, options: PastaOptions) -> str:
    """The host's address towards the world, by the interface that pasta takes; empty if it has none."""
    if family == sockets.AF_INET6 and not _has_route6():
        return ""
    names = ("interface", "outbound-if6" if family == sockets.AF_INET6 else "outbound-if4")
    device = next(filter(None, map(options.value, names)), "")
    probe = sockets.socket(family, sockets.SOCK_DGRAM)
    try:
        if device:
            probe.setsockopt(sockets.SOL_SOCKET, _SOL_BINDTODEVICE, device.encode())
        probe.connect((_NOWHERE[family], 9))
        return str(probe.getsockname()[0])
    except OSError:
        return ""
    finally:
        probe.close()


def _has_local_dns(options: PastaOptions) -> bool:
    """Whether the host's first name server is where the container sees itself: on loopback, or at their address."""
    for line in _lines("/etc/resolv.conf"):
        kind, _, server = line.strip().partition(" ")
        if kind == "nameserver":
            server = server.strip()
            return server.startswith("127.") or server == "::1" or server in addresses(options)
    return False


def _gateway(path: str) -> tuple[str, list[tuple[str, int]]]:
    """From the kernel's table of routes: the default one's gateway, and the networks at hand with their lengths."""
    gateway = ""
    networks = []
    for line in _lines(path)[1:]:
        fields = line.split()
        if len(fields) < 8:
            continue
        destination, via, mask = (int.from_bytes(bytes.fromhex(fields[i])[::-1], "big") for i in (1, 2, 7))
        if not mask:
            gateway = gateway or sockets.inet_ntop(sockets.AF_INET, via.to_bytes(4, "big"))
        elif not via:
            networks.append((sockets.inet_ntop(sockets.AF_INET, destination.to_bytes(4, "big")), mask.bit_count()))
    return gateway, networks


def _own_address(path: str) -> str:
    """The first local address in the kernel's tree of routes that is not loopback's."""
    address = ""
    for line in _lines(path):
        words = line.split()
        if words[:1] == ["|--"]:
            address = words[1]
        elif words[:1] == ["/32"] and words[-1] == "LOCAL" and not address.startswith("127."):
            return address
    return ""


def _has_route6() -> bool:
    """Whether the host has a default route of IPv6, other than the one that refuses."""
    return any(
        fields[0].strip("0") == "" and fields[1] == "00" and fields[9] != "lo"
        for fields in (line.split() for line in _lines("/proc/net/ipv6_route"))
        if len(fields) > 9
    )


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20).splitlines()
    except OSError:
        return []
