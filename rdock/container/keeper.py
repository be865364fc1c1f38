"""The keeper: the parent of a container's monitor, who puts another in its place should that be killed.

It makes what has to outlive a monitor (mounts, the socket), then sleeps. The monitor leaves it a copy of
what it has of each run: the ends of the program's streams, and of the pipe that keeps slirp4netns alive. A
monitor that is killed loses process 1 to the keeper, since that is a subreaper (prctl(2)), and a new monitor
goes on where the old one was: the container does not notice, its exit code is right, and of its output at
most what the dead one had read and not written is missing from the log. If the keeper is killed the monitor
goes on alone; what is left when both are, the next command clears away.

                monitor → keeper                                   keeper → monitor
    f + fds     descriptors for the next `r`, of which there
                    are more than go with one packet
    r + fds     a run begins; JSON: what the descriptors are       c   exit code of process 1, if the keeper is its
    s           its program has been let run                           parent by now; 255 if nobody knows it
    d           one of its streams is closed, by name
    e           it is over
    g           so is everything: the container may be another's from now on
"""

from __future__ import annotations

import os
import select
import time

from rdock import jsontext, launch
from rdock.container import background, removal, rooting
from rdock.container.monitor import Monitor, Order
from rdock.container.run import MOST_FDS, Heritage
from rdock.errors import SystemFailure
from rdock.linux import prctl, sockets
from rdock.linux.children import Children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["Order", "run"]

# A monitor that fails again and again has a bug, or no memory; nobody is helped by yet another one.
_MOST_SUCCESSORS = 10
_CALM_SECONDS = 60.0
# A fork that fails is tried again, so often, after so many seconds.
_FORKS = 50
_FORK_PAUSE = 0.1


def run(order: Order) -> NoReturn:
    """The keeper's life, from the fork by the command that starts the container to its exit."""
    status = 1
    try:
        background.leave_the_caller("rdock-keeper", order.container.id, {order.connection.fileno(), order.lock.fd})
        prctl.adopt_orphans()
        monitor = Monitor(order)
        if monitor.prepare():
            _Keeper(monitor, order).run()
        status = 0
    except BaseException as e:
        launch.debug(f"keeper: {type(e).__name__}: {e}")
        background.send_failure(order.connection, SystemFailure(f"the monitor failed: {type(e).__name__}: {e}"))
    finally:
        os._exit(status)


class _Keeper:
    def __init__(self, monitor: Monitor, order: Order) -> None:
        self.monitor, self.order = monitor, order
        self.ours, self.theirs = sockets.packet_pair()
        self.children = Children()
        self.heritage: Heritage | None = None
        self.arriving: list[int] = []
        """Descriptors of one that is not there whole yet."""
        self.has_begun = False
        """Whether the program of the present run has been let run."""
        self.codes: dict[int, tuple[float, int]] = {}
        """Of children that are not the monitor: when they were reaped (time.monotonic), and their exit codes."""
        self.is_over = False
        self.deaths: list[float] = []
        self.worker = 0

    def run(self) -> None:
        self._fork(succeeds=False)
        self.order.connection.close()
        while True:
            self._sleep()
            self._listen()
            if self.is_over:
                return  # the monitor has only clients to serve that are slow
            status = self._reap()
            if status is not None and not self._see_to(status):
                return

    def _fork(self, *, succeeds: bool) -> None:
        for fd in self.arriving if succeeds else ():
            os.close(fd)  # who was about to leave them is dead
        self.arriving = []
        self.worker = self._try_to_fork()
        if self.worker:
            return
        status = 1
        try:
            self.children.close()
            background.call_yourself("rdock-monitor", self.order.container.id)
            self.ours.close()
            if succeeds:
                self.monitor.resume(self.theirs, self.heritage)
            else:
                self.monitor.work(self.theirs)
            status = 0
        except BaseException as e:
            launch.debug(f"monitor: {type(e).__name__}: {e}")
            if not succeeds:
                failure = SystemFailure(f"the monitor failed: {type(e).__name__}: {e}")
                background.send_failure(self.order.connection, failure)
        finally:
            os._exit(status)

    def _try_to_fork(self) -> int:
        """Processes may be short for a while, also for what the container itself has made."""
        for _ in range(_FORKS):
            try:
                return os.fork()
            except OSError:
                time.sleep(_FORK_PAUSE)
        return os.fork()

    def _sleep(self) -> None:
        """Until the monitor says something, or a child ends: the monitor, or what the death of another has left us.

        Zombies of the container's would keep its pid namespace, and with that its process 1.
        """
        poll = select.poll()
        poll.register(self.ours.fileno(), select.POLLIN)
        poll.register(self.children.wake, select.POLLIN)
        poll.poll()
        self.children.take()

    def _listen(self) -> None:
        self.ours.setblocking(False)
        try:
            while True:
                packet, fds = sockets.receive_fds(self.ours, 65536, MOST_FDS)
                if packet[:1] == b"d" and self.heritage is not None:
                    self.heritage = self.heritage.without(packet[1:].decode())
                elif packet[:1] in (b"e", b"g"):
                    self._forget()
                    self.is_over = self.is_over or packet[:1] == b"g"
                elif packet[:1] == b"s":
                    self.has_begun = True
                elif packet[:1] == b"f":
                    self.arriving += fds
                elif packet[:1] == b"r":
                    fds, self.arriving = self.arriving + fds, []
                    self._take(Heritage.from_json(jsontext.parse(packet[1:]), fds))
                elif not packet:
                    return
        except BlockingIOError:
            pass

    def _take(self, heritage: Heritage) -> None:
        """Keep what there is of a run, if all of it has come; else what was there before is the better."""
        if len(heritage.fds) != heritage.count:
            launch.debug(f"keeper: {len(heritage.fds)} descriptors of {heritage.count} have come")
            for fd in heritage.fds:
                os.close(fd)
            return
        self._forget()
        self.heritage = heritage

    def _forget(self) -> None:
        if self.heritage is not None:
            for fd in self.heritage.fds:
                os.close(fd)
        self.heritage, self.has_begun = None, False

    def _reap(self) -> int | None:
        """The monitor's status if it has ended, as waitpid(2) has it."""
        ended = None
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == self.worker:
                    ended = status
                else:
                    code = os.waitstatus_to_exitcode(status)
                    self.codes[pid] = time.monotonic(), code if code >= 0 else 128 - code
        except ChildProcessError:
            pass
        if ended is None:
            self._tell_code()
        return ended

    def _code(self) -> int | None:
        """The exit code of the present run's process 1, if it was reaped here. Pids are used again, hence the time."""
        if self.heritage is None:
            return None
        when, code = self.codes.get(self.heritage.pid, (0.0, 0))
        return code if when >= self.heritage.since else None

    def _tell_code(self) -> None:
        code = self._code()
        if code is not None:
            try:
                self.ours.send(b"c%d" % code)
            except OSError:
                pass

    def _see_to(self, status: int) -> bool:
        """Whether there is still something to do now that a monitor has ended so."""
        self._listen()
        if status == 0 or self.is_over:
            return False
        now = time.monotonic()
        self.deaths = [then for then in self.deaths if now - then < _CALM_SECONDS] + [now]
        container = self.monitor.container
        state = container.recorded_state()
        # A process 1 that was never told to go on ends by itself: a first run's is the failure of who has started it,
        # a later one's counts as a run that the restart policy follows.
        can_go_on = (self.heritage is not None and self.has_begun) or state.restarting or state.finished
        can_go_on = can_go_on or state.restart_count > 0
        if not can_go_on or len(self.deaths) > _MOST_SUCCESSORS:
            self._give_up()
            return False
        launch.debug("the monitor was killed: another takes its place")
        # What was said to the dead one is not for the next.
        self.ours.close()
        self.theirs.close()
        self.ours, self.theirs = sockets.packet_pair()
        self._fork(succeeds=True)
        if self._code() is None and self.heritage is not None and not _is_child(self.heritage.pid):
            self.ours.send(b"c255")  # the dead one has reaped it, and not told
        self._tell_code()
        return True

    def _give_up(self) -> None:
        """Bring a container to its end that has no monitor, as one that was killed before the program ran."""
        container = self.monitor.container
        removal.finish(container.id)
        rooting.release(container)
        removal.remove_bundle(container.id)
        self.order.lock.remove()


def _is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
