"""The hub: killed at bad moments, short of descriptors, and what it keeps of others; and which network leads out."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rdock.state.record import Lock
from tests.cli.conftest import wait_for
from tests.cli.test_bridge import LOGGING_WEB, SLEEP, address, connects, kill, net, processes, reaches
from tests.cli.test_network import fetch, free_port, host_address, server
from tests.conftest import STARTER
from tests.program import Rdock

__all__ = ["net"]


def hub_socket(rdock: Rdock) -> Path:
    (found,) = rdock.home.runtime.rglob("network-*.sock")
    return found


def connections(rdock: Rdock) -> int:
    """To the hub, those included that it has not accepted yet."""
    return Path("/proc/net/unix").read_text().count(hub_socket(rdock).name) - 1


# -- killed ------------------------------------------------------------------------------------------


def test_a_monitor_does_not_wait_for_another_hub(net: Rdock) -> None:
    port = free_port()
    net.ok("run", "-d", "--name", "web", "--network", "front", "-p", f"{port}:80", *LOGGING_WEB)
    net.ok("run", "-d", "--name", "user", "--network", "front", *SLEEP)
    (hub,) = processes(net, "rdock-network")
    with contextlib.closing(_Held(net.home.data / "networks" / ".hub.lock")):
        os.kill(hub, signal.SIGKILL)
        wait_for(lambda: len(processes(net, "rdock-seeker")) == 2, "both look for another hub, which nobody can make")
        begin = time.monotonic()
        assert net.ok("exec", "user", "echo", "well") == "well"
        assert reaches(net, "user", address(net, "web")) and b"page" in fetch(port)
        net.ok("network", "connect", "back", "user")
        assert "eth1" in net.ok("exec", "user", "ls", "/sys/class/net")
        net.ok("stop", "-t", "0", "user")
        assert time.monotonic() - begin < 20
        assert not processes(net, "rdock-network")
    wait_for(lambda: bool(processes(net, "rdock-network")), "another hub")
    net.ok("start", "user")
    wait_for(lambda: reaches(net, "user", "web"), "names, of the new hub, in the old namespace")


class _Held:
    """A lock that a test has, so that nobody else gets on."""

    def __init__(self, path: Path) -> None:
        self.lock = Lock(str(path))
        self.lock.acquire()

    def close(self) -> None:
        self.lock.release()


def test_who_looks_for_a_hub_is_killed(net: Rdock) -> None:
    net.ok("run", "-d", "--name", "web", "--network", "front", *LOGGING_WEB)
    with contextlib.closing(_Held(net.home.data / "networks" / ".hub.lock")):
        os.kill(processes(net, "rdock-network")[0], signal.SIGKILL)
        wait_for(lambda: len(processes(net, "rdock-seeker")) == 1, "who looks for another hub")
        kill(net, "rdock-seeker")
    wait_for(lambda: bool(processes(net, "rdock-network")), "another hub")
    net.ok("run", "-d", "--name", "user", "--network", "front", *SLEEP)
    wait_for(lambda: reaches(net, "user", "web"), "the web server")


def test_the_hub_is_killed_before_it_has_welcomed_a_newcomer(net: Rdock) -> None:
    net.ok("run", "-d", "--name", "web", "--network", "front", *LOGGING_WEB)
    (hub,) = processes(net, "rdock-network")
    before = connections(net)
    os.kill(hub, signal.SIGSTOP)
    try:
        starting = net.start("run", "-d", "--name", "user", "--network", "front", *SLEEP)
        wait_for(lambda: connections(net) > before, "a newcomer, who is not let in")
    finally:
        os.kill(hub, signal.SIGKILL)
    out, err = starting.communicate(timeout=30)
    assert starting.returncode == 0, (out, err)
    wait_for(lambda: reaches(net, "user", "web"), "the web server")


# -- what it has -------------------------------------------------------------------------------------


def test_the_hub_is_short_of_descriptors(net: Rdock) -> None:
    """Who waits is let in later; until then it rests."""
    net.ok("run", "-d", "--name", "user", "--network", "front", *SLEEP)
    (hub,) = processes(net, "rdock-network")
    most = resource.prlimit(hub, resource.RLIMIT_NOFILE)
    resource.prlimit(hub, resource.RLIMIT_NOFILE, (32, most[1]))
    place = os.open(hub_socket(net).parent, os.O_PATH)
    welcome: list[Guest] = []
    waiting: list[Guest] = []
    try:
        while len(waiting) < 3:
            guest = Guest(f"/proc/self/fd/{place}/{hub_socket(net).name}")
            (waiting if waiting or not guest.is_welcome() else welcome).append(guest)
            assert len(welcome) < 32
        assert len(welcome) >= 3
        before = _ticks(hub)
        time.sleep(1)
        spent = (_ticks(hub) - before) / os.sysconf("SC_CLK_TCK")
        assert spent < 0.3, "it asks again and again whether it may accept"
        for guest in welcome[:3]:
            guest.socket.close()
        wait_for(lambda: all(guest.is_welcome() for guest in waiting), "those in whose place there is room now")
    finally:
        for guest in welcome + waiting:
            guest.socket.close()
        os.close(place)
        resource.prlimit(hub, resource.RLIMIT_NOFILE, most)
    net.ok("run", "--rm", "--network", "front", STARTER, "true")
    assert processes(net, "rdock-network") == [hub]


class Guest:
    """One who has connected to the hub."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(path)
        self.greeting = b""

    def is_welcome(self) -> bool:
        """Whether the hub has greeted it by now."""
        self.socket.settimeout(0.3)
        if not self.greeting:
            try:
                self.greeting, fds, _, _ = socket.recv_fds(self.socket, 4096, 1)
            except TimeoutError:
                return False
            for fd in fds:
                os.close(fd)
        return self.greeting[:1] == b"h"


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_the_hub_keeps_no_mounts_of_a_container(net: Rdock) -> None:
    net.ok("run", "-d", "--name", "first", "--network", "front", *SLEEP)
    net.ok("run", "-d", "--name", "second", "--network", "front", *SLEEP)
    for _ in range(2):
        mounts = [_mounts(net, title) for title in ("rdock-network", "rdock-holder", "rdock-keeper")]
        assert mounts[0] == mounts[1], "it is where the holder is"
        assert not mounts[0] & mounts[2]
        kill(net, "rdock-network")


def _mounts(rdock: Rdock, title: str) -> set[str]:
    """The mount namespaces of those processes."""
    pids = [str(pid) for pid in processes(rdock, title)]
    script = 'for pid; do readlink "/proc/$pid/ns/mnt"; done'
    return set(rdock.ok("unshare", "sh", "-c", script, "sh", *pids).split())


# -- the default route -------------------------------------------------------------------------------


@pytest.fixture
def priorities(net: Rdock) -> Iterator[Rdock]:
    net.ok("network", "create", "--ipv6", "dual")
    yield net
    net.ok("rm", "-f", "web")
    net.ok("network", "rm", "dual")


def test_gw_priority_while_it_runs(priorities: Rdock) -> None:
    rdock, port = priorities, free_port()
    rdock.ok("run", "-d", "--name", "web", "--network", "front", "-p", f"{port}:80", *LOGGING_WEB)

    def leads_to(network: str) -> bool:
        template = f'{{{{(index .NetworkSettings.Networks "{network}").Gateway}}}}'
        gateway = rdock.ok("inspect", "-f", template, "web")
        found = re.findall(r"^default via (\S+)", rdock.ok("exec", "web", "ip", "route"), re.M)
        return found == [gateway] and b"page" in fetch(port)

    assert leads_to("front")
    rdock.ok("network", "connect", "--gw-priority", "-1", "back", "web")
    assert leads_to("front")
    rdock.ok("network", "connect", "--gw-priority", "5", "dual", "web")
    assert leads_to("dual")
    assert rdock.ok("exec", "web", "ip", "-6", "route").count("default via") == 1
    rdock.ok("network", "connect", "--gw-priority", "9", "closed", "web")
    assert leads_to("dual"), "an internal network leads nowhere"
    rdock.ok("network", "disconnect", "dual", "web")
    assert leads_to("front")
    rdock.ok("network", "disconnect", "front", "web")
    assert leads_to("back")
    rdock.ok("network", "connect", "front", "web")
    assert leads_to("front")
    rdock.ok("restart", "-t", "0", "web")
    assert leads_to("front")


# -- networks that are removed while there is no hub -------------------------------------------------


def _shared(rdock: Rdock, *command: str) -> str:
    """What a program says in the shared network namespace."""
    (hub,) = processes(rdock, "rdock-network")
    script = 'for fd in /proc/"$1"/fd/*; do case $(readlink "$fd") in net:*) break; esac; done; shift; '
    return rdock.ok("unshare", "sh", "-c", script + 'exec nsenter --net="$fd" "$@"', "sh", str(hub), *command)


def _ways_out(rdock: Rdock) -> str:
    return _shared(rdock, "/usr/sbin/nft", "list", "set", "inet", "rdock", "outward")


def test_a_network_is_removed_while_there_is_no_hub(net: Rdock) -> None:
    """Its bridge goes, and its way out: a later one of the same name and addresses has neither."""
    bridge = "com.docker.network.bridge.name=mine"
    words = ("network", "create", "-o", bridge, "--subnet", "10.109.0.0/24")
    net.ok("run", "-d", "--name", "other", *SLEEP)
    try:
        for stopped in (False, True):
            net.ok(*words, "gone")
            net.ok("run", "--rm", "--network", "gone", STARTER, "true")
            before = _shared(net, "/usr/sbin/ip", "-o", "link")
            assert "mine:" in before and '"mine"' in _ways_out(net)
            (hub,), monitors = processes(net, "rdock-network"), processes(net, "rdock-monitor")
            for pid in monitors if stopped else ():
                os.kill(pid, signal.SIGSTOP)
            os.kill(hub, signal.SIGKILL)
            try:
                net.ok("network", "rm", "gone")
            finally:
                for pid in monitors if stopped else ():
                    os.kill(pid, signal.SIGCONT)
            wait_for(lambda: processes(net, "rdock-network") not in ([], [hub]), "another hub")  # noqa: B023
            assert "mine:" not in _shared(net, "/usr/sbin/ip", "-o", "link")
            assert '"mine"' not in _ways_out(net) and '"rdock0"' in _ways_out(net)
    finally:
        net("network", "rm", "gone")


def test_a_network_is_removed_while_the_hub_does_not_answer(net: Rdock) -> None:
    net.ok("run", "-d", "--name", "other", *SLEEP)
    net.ok("network", "create", "--subnet", "10.109.0.0/24", "gone")
    net.ok("run", "--rm", "--network", "gone", STARTER, "true")
    (hub,) = processes(net, "rdock-network")
    os.kill(hub, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        net.ok("network", "rm", "gone")
        assert time.monotonic() - begin < 10
    finally:
        os.kill(hub, signal.SIGCONT)
    net.ok("network", "create", "--subnet", "10.109.0.0/24", "next")
    try:
        # Two bridges with these addresses would have one route between them.
        net.ok("run", "--rm", "--network", "next", STARTER, "sh", "-c", "ping -c 1 -W 2 10.109.0.1")
        assert _shared(net, "/usr/sbin/ip", "-4", "-o", "addr").count("10.109.0.1/") == 1
    finally:
        net.ok("network", "rm", "next")


# -- slirp4netns that ends ---------------------------------------------------------------------------


def test_the_way_out_comes_back_however_often_it_is_killed(net: Rdock) -> None:
    net.ok("run", "-d", "--name", "user", "--network", "front", *SLEEP)
    pauses = []
    for _ in range(6):
        kill(net, "slirp4netns")
        begin = time.monotonic()
        (pid,) = processes(net, "slirp4netns")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: processes(net, "slirp4netns") not in ([], [pid]), "another one")  # noqa: B023
        pauses.append(time.monotonic() - begin)
        if pauses[-1] > 3:
            break
    assert pauses[-1] > 1, "it is not started without a pause"
    with server("0.0.0.0") as port:
        wait_for(lambda: connects(net, "user", host_address(), port), "the way out")


def test_whoever_starts_a_container_is_told_that_there_is_no_way_out(own_rdock: Rdock, tmp_path: Path) -> None:
    """Once, and why; one that is to have none is not told."""
    rdock = own_rdock
    program = tmp_path / "slirp4netns"
    program.write_text("#!/bin/sh\necho 'cannot do it' >&2\nexit 1\n")
    program.chmod(0o755)
    tmp_path.chmod(0o755)
    rdock.ok("network", "create", "--internal", "closed")
    environment = {"PATH": f"{tmp_path}:/usr/local/bin:/usr/bin:/bin"}
    note = "rdock: note: this container has no way out of here: slirp4netns failed: cannot do it\n"
    result = rdock("run", "-d", "--name", "user", *SLEEP, env=environment)
    assert (result.code, result.err) == (0, note)
    result = rdock("run", "--rm", "--network", "closed", STARTER, "true", env=environment)
    assert (result.code, result.err) == (0, "")
    program.unlink()
    program.symlink_to("/usr/bin/slirp4netns")
    with server("0.0.0.0") as port:
        wait_for(lambda: connects(rdock, "user", host_address(), port), "the way out, now that there can be one")
    rdock.ok("restart", "-t", "0", "user")
    rdock.ok("rm", "-f", "user")
    rdock.ok("network", "rm", "closed")
