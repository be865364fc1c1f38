"""The hub: the process that keeps a user's shared network namespace; see hub.py for what it is to others.

Outside, in the host's network namespace: slirp4netns is started here, and servers of names are asked from here.
"""

from __future__ import annotations

import os
import resource
import select
import time

from rdock import jsontext, launch, paths
from rdock.errors import RdockError, SystemFailure
from rdock.linux import namespaces, nftables, prctl, process, signals, sockets
from rdock.linux.children import Children
from rdock.linux.netlink import Netlink
from rdock.network import dns, firewall, hub, inside, plumbing, resolvers, subnet, uplink, views
from rdock.network.hub import Plan
from rdock.network.uplink import Uplink
from rdock.state import record
from rdock.state.record import Lock
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_MOST_FILES = 4096
# Seconds for which nobody is let in after there was no descriptor for one: whoever waits stays in the queue, so that
# the listener would be ready all the time.
_REST = 0.1
# Seconds before slirp4netns is started again: doubled each time, up to the most, until one has lasted.
_FIRST_PAUSE, _MOST_PAUSE, _LASTED = 0.1, 30.0, 10.0
# With a longer one who comes does not wait for it.
_WAITED_FOR = 4.0


def live(telling: int, plan: Plan, namespace: int) -> NoReturn:
    """The hub's life, from the fork of who needs it to its exit."""
    try:
        os.setsid()
        process.set_name("rdock-network")
        prctl.set_arguments("rdock-network")
        signals.reset()
        for number in (signals.SIGHUP, signals.SIGINT, signals.SIGPIPE):
            signals.signal(number, signals.SIG_IGN)
        process.close_all_but({0, 1, 2, telling, namespace} | plan.keep)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1) if launch.debugging else (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        try:
            plan.settle()
        except OSError as e:
            launch.debug(f"network: {e}")  # it works there, too
        os.chdir("/")
        # Each question that is passed on takes a descriptor.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _MOST_FILES), most))
        hub = _Hub(plan.linger, _open_namespace(namespace))
        hub.listen()
        os.write(telling, b"listening")
        os.close(telling)
        hub.run()
    except BaseException as e:
        launch.debug(f"network: {type(e).__name__}: {e}")
        try:
            os.write(telling, (e.message if isinstance(e, RdockError) else str(e)).encode())
        except OSError:
            pass
    finally:
        os._exit(0)


class _Space(Value):
    """The shared namespace as the hub has it."""

    namespace: int
    udp: sockets.socket
    tcp: sockets.socket
    transparent: bool


def _open_namespace(namespace: int) -> _Space:
    """Make the namespace, or set up again the one that is there, and get the name server's sockets out of it."""
    ours, theirs = sockets.packet_pair()
    pid = os.fork()
    if pid == 0:
        try:
            if namespace >= 0:
                namespaces.enter({"network": namespace})
            else:
                namespaces.unshare(namespaces.CLONE_NEWNET)
            with Netlink() as route, nftables.open_netfilter() as netfilter:
                transparent = firewall.set_up(netfilter, route)
                if namespace >= 0:
                    _sweep(route, netfilter)
            own = os.open(namespaces.file_of("network"), os.O_RDONLY | os.O_CLOEXEC)
            udp, tcp = dns.open_sockets()
            sockets.send_fds(theirs, b"t" if transparent else b"n", [own, udp.fileno(), tcp.fileno()])
        except (OSError, RdockError) as e:
            theirs.send(b"!" + (e.message if isinstance(e, RdockError) else f"{e.filename or ''} {e}".strip()).encode())
        finally:
            os._exit(0)
    theirs.close()
    try:
        packet, fds = sockets.receive_fds(ours, 4096, 3)
    finally:
        ours.close()
        os.waitpid(pid, 0)
    if len(fds) != 3:
        raise SystemFailure(packet[1:].decode() or "its maker has ended")
    return _Space(fds[0], sockets.socket(fileno=fds[1]), sockets.socket(fileno=fds[2]), packet == b"t")


def _sweep(route: Netlink, netfilter: Netlink) -> None:
    """Take away what is left of networks that were removed while there was no hub to ask for the namespace."""
    try:
        plumbing.sweep(route, netfilter)
    except (OSError, RdockError) as e:
        launch.debug(f"network: {e}")


# -- the hub's life --------------------------------------------------------------------------------


class _Hub:
    def __init__(self, linger: float, space: _Space) -> None:
        self.linger, self.space = linger, space
        self.subnet = subnet.choose()
        known, hosts = views.Views(), resolvers.Resolvers()
        self.names = dns.NameServer(space.udp, space.tcp, known.of, hosts.servers, inside.maker(space.namespace))
        self.users: dict[int, sockets.socket] = {}
        self.idle_since = time.monotonic()
        self.rests_until = 0.0
        self.uplink: Uplink | None = None
        self.is_starting = False
        self.way_out: str | None = None
        """Why there is none, empty if there is one; None as long as that is open."""
        self.pause = _FIRST_PAUSE
        self.begun_at = 0.0
        """When the present slirp4netns was started, or the last one."""
        self.retry_at: float | None = None
        """When the next one is to be."""

    def listen(self) -> None:
        """Take the place of whoever was there before, and begin to make the way out."""
        self.children = Children()
        record.remove(os.path.join(paths.runtime(), hub.name()))
        self.listener = sockets.listen(paths.runtime(), hub.name())
        self.listener.setblocking(False)
        self._begin_uplink()

    def run(self) -> None:
        """Serve until nobody has been there for a while."""
        while self.users or not self._may_go():
            for fd, events in self._poll():
                self._see_to(fd, events)
            self.names.tick()
            if self.retry_at is not None and time.monotonic() >= self.retry_at:
                self._begin_uplink()

    def _poll(self) -> list[tuple[int, int]]:
        poll = select.poll()
        rest = self.rests_until - time.monotonic()
        for fd in (self.children.wake, *self.users, *((self.listener.fileno(),) if rest <= 0 else ())):
            poll.register(fd, select.POLLIN)
        if self.uplink is not None and self.is_starting:
            poll.register(self.uplink.ready_fd, select.POLLIN)
        for fd, mask in self.names.wanted().items():
            poll.register(fd, mask)
        waits = [self.names.timeout(), None if self.users else self._rest(), rest if rest > 0 else None]
        waits.append(None if self.retry_at is None else self.retry_at - time.monotonic())
        least = min((wait for wait in waits if wait is not None), default=None)
        return poll.poll(None if least is None else max(0.0, least) * 1000 + 1)

    def _see_to(self, fd: int, events: int) -> None:
        if fd == self.listener.fileno():
            self._welcome()
        elif fd == self.children.wake:
            self._reap()
        elif fd in self.users:
            self._part_from(fd)
        elif self.is_starting and self.uplink is not None and fd == self.uplink.ready_fd:
            self._finish_uplink()
        else:
            self.names.handle(fd, events)

    # -- users -------------------------------------------------------------------------------------

    def _welcome(self) -> bool:
        """Let one in; False if there is none, not if there is one that cannot be let in for now."""
        try:
            user = sockets.accept(self.listener)
        except OSError as e:
            if e.errno in sockets.EXHAUSTED:
                self.rests_until = time.monotonic() + _REST
            return e.errno in sockets.EXHAUSTED
        user.setblocking(False)  # who does not read must not hold up the others
        hello = {"base": self.subnet.base, "transparent": self.space.transparent}
        try:
            sockets.send_fds(user, b"h" + jsontext.render(hello).encode(), [self.space.namespace])
            if self.way_out is not None:
                user.send(b"r" + self.way_out.encode())
        except OSError:
            user.close()
            return True
        self.users[user.fileno()] = user
        return True

    def _part_from(self, fd: int) -> None:
        """A user has nothing to say: it is gone, or talks nonsense."""
        self.users.pop(fd).close()
        self.idle_since = time.monotonic()

    def _rest(self) -> float:
        return self.idle_since + self.linger - time.monotonic()

    def _may_go(self) -> bool:
        """Whether nobody has come for long enough, nor is just about to."""
        if self._rest() > 0:
            return False
        lock = Lock(hub.lock())
        try:
            if not lock.acquire(wait=False):
                self.idle_since += 0.05
                return False
            if self._welcome():
                self.idle_since = max(self.idle_since, self.rests_until - self.linger)
                return False
            record.remove(os.path.join(paths.runtime(), hub.name()))
            return True
        finally:
            lock.release()

    # -- the way out -------------------------------------------------------------------------------

    def _begin_uplink(self) -> None:
        self.begun_at, self.retry_at = time.monotonic(), None
        try:
            self.uplink = uplink.start(-1, self.space.namespace, "", self.subnet)
            self.is_starting = True
        except (RdockError, OSError) as e:
            self._settle("\n".join(filter(None, (e.message, e.hint))) if isinstance(e, RdockError) else str(e))
            self._retry_later()

    def _retry_later(self) -> None:
        """Have another slirp4netns started, at once if the last one has lasted."""
        if time.monotonic() - self.begun_at > _LASTED:
            self.pause = _FIRST_PAUSE
        self.retry_at = time.monotonic() + self.pause
        self.pause = min(2 * self.pause, _MOST_PAUSE)

    def _finish_uplink(self) -> None:
        assert self.uplink is not None
        self.is_starting = False
        try:
            uplink.await_ready(self.uplink)
            self._settle("")
        except RdockError as e:
            self._settle(e.message)

    def _settle(self, way_out: str) -> None:
        """Tell those who wait for it."""
        is_news, self.way_out = self.way_out != way_out, way_out
        if way_out:
            launch.debug(f"network: {way_out}")
        for user in self.users.values() if is_news else ():
            try:
                user.send(b"r" + way_out.encode())
            except OSError:
                pass  # it does not read, or is gone, and is parted from in its turn

    def _reap(self) -> None:
        ended = self.children.reap_all_but(-1)
        if self.uplink is None or self.uplink.pid not in ended:
            return
        if self.is_starting:
            self._finish_uplink()  # in vain
        os.close(self.uplink.alive)
        os.close(self.uplink.log)
        self.uplink = None
        self._retry_later()
        if self.way_out == "":
            if self.pause > _WAITED_FOR:
                self._settle("slirp4netns ends again and again")
            else:
                self.way_out = None  # who comes meanwhile waits for the next one
