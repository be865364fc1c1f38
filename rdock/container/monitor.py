"""The monitor: the process that outlives the command, one for each running container.

It makes the container's namespaces, starts process 1, carries its streams, waits for its end and records
it, starts it again if its restart policy says so, and takes away what is left. Forked by the keeper
(keeper.py), which is forked by the command that starts the container, in the holder's namespaces and with
that command's imports; both hold the container's run lock until the end.
"""

from __future__ import annotations

import os
import time

from rdock import jsontext, launch
from rdock.container import background, containers, events, exec, logs, removal, rooting, session, stdio
from rdock.container.containers import Container, State
from rdock.container.logs import LogWriter
from rdock.container.pausing import Pausing
from rdock.container.run import MOST_FDS, Heritage, Run
from rdock.errors import DataLoss, InvalidParameter, RdockError, system_failure
from rdock.linux import process, sockets
from rdock.linux.children import Children
from rdock.runtime.channel import Failed
from rdock.state import record, timestamp
from rdock.state.record import Lock
from rdock.storage import staging
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Seconds before a container is started again: doubled each time, up to the most, until a run has lasted.
_FIRST_DELAY = 0.1
_MOST_DELAY = 60.0
_LASTED = 10.0
_FAILURES = (RdockError, Failed, OSError, EOFError)
# Nobody knows how process 1 ended.
_UNKNOWN = 255


class Order(Value):
    """What the command asks of the keeper it forks."""

    container: Container
    layers: list[str]
    """Directories of the image's layers, topmost first."""
    connection: sockets.socket
    """To the command: `s` or `f`, then the streams of one who is attached from the start."""
    lock: Lock
    console_size: tuple[int, int] | None


class Monitor:
    """One container's monitor. `prepare` is the keeper's; then comes `work` or `resume`, in a process of its own."""

    def __init__(self, order: Order) -> None:
        self.container = order.container
        self.order = order
        self.sources: dict[str, str] = {}
        """What of the container's mounts was prepared, by their destinations; see mounting.py."""
        self.run = Run(self.container, self.sources)
        self.keeper_pid = self.keeper_start = 0
        self.state = _fresh(self.container)
        self.started_before = self.state.started_at
        self.server = stdio.Server(
            on_signal=self._kill,
            on_request=self._obey,
            on_close=lambda name: self._tell_keeper(b"d" + name.encode()),
            kept=not self.container.host_config.auto_remove,
            stdin_once=self.container.config.stdin_once,
        )
        self.keeper: sockets.socket | None = None
        self.pausing = Pausing(self)
        self.stops = False
        """Someone is at it: the end that comes is not to be followed by another start."""

    def prepare(self) -> bool:
        """Make what outlives a monitor: the socket, the mounts. False if that failed, which was told and recorded."""
        self.keeper_pid = os.getpid()
        self.keeper_start = process.start_time(self.keeper_pid)
        try:
            self.server.listener = sockets.listen(self.container.bundle, "attach.sock")
            self.server.listener.setblocking(False)
            rooting.mount_root(self.container, self.order.layers)
            self.sources.update(rooting.prepare_mounts(self.container, first=not self.state.started_at))
        except (RdockError, OSError) as e:
            self._fail(e)
            return False
        return True

    def _settle_in(self, keeper: sockets.socket) -> None:
        """What each monitor has for itself. Raises OSError, RdockError."""
        self.keeper = keeper
        self.children = Children()
        self.server.watch(self.children.wake, self._mind_children)
        config = self.container.config
        how = self.container.host_config.log_config
        # Not the keeper's, to be inherited: it may have been rotated away by then.
        self.server.log = self.log = LogWriter(
            self.container.log_path, how, logs.attributes(how, config.labels, config.env)
        )

    def work(self, keeper: sockets.socket) -> None:
        """Start the container and see to it until its end."""
        try:
            self._settle_in(keeper)
            self._start(self.order.console_size)
        except _FAILURES as e:
            self._fail(e)
            return
        self.server.add_client(self.order.connection)
        wiring = self.run.wiring
        self.server.broadcast(b"s" + (wiring.missing.encode() if wiring is not None else b""))
        self._attend(os.pidfd_open(self.run.pid))

    def resume(self, keeper: sockets.socket, heritage: Heritage | None) -> None:
        """Go on where a monitor that was killed has left."""
        self._settle_in(keeper)
        record.sweep(self.container.directory)
        self.state = self.container.recorded_state()
        self.stops = self.state.stopped_by_user
        self.run.inherit(heritage, self.state.cgroup, self.state.ports)
        if self.state.finished or self.state.restarting or heritage is None:
            # The end is on record, or there was not yet a run to go on with; who died may have been about to let go of
            # the rest.
            self._release_run()
            if self.state.finished:
                self._take_away(self.state.exit_code)
                return
            self.note(self.state)
            self._clear_run()
            self._attend(-1)
            return
        self.note(self.state)
        self.pausing.end_hold()  # who held it was connected with the one before
        self.run.serve(self.server)
        self._watch_network()
        self.run.watch_inherited(self.server, self._mend_network)
        pidfd = self.state.process.open()
        self._attend(-1 if pidfd is None else pidfd)

    def _mind_children(self) -> None:
        self._mend_network(self.children.reap_all_but(self.run.pid))

    def _mend_network(self, ended: list[int]) -> None:
        try:
            if self.run.mend_network(ended):
                self._renew_heritage()
        except (RdockError, OSError) as e:
            launch.debug(f"the network is gone: {e}")  # as it would be without this

    # -- run after run -------------------------------------------------------------------------

    def _start(self, console_size: tuple[int, int] | None) -> None:
        """Begin a run. Raises one of _FAILURES."""
        self.started_before = self.state.started_at
        self.run.make_group()
        self._record(self.state._replace(started_at="", cgroup=self.run.group_path))
        self.run.create(console_size)
        # Recorded before the program runs: whoever finds it running must also find this.
        pid = self.run.pid
        begun = self.state._replace(
            pid=pid, pid_start=process.start_time(pid), ports=self.run.bindings, subnet=self.run.network_base,
            started_at=timestamp.now(), restarting=False, paused=False,
        )  # fmt: skip
        self._record(begun)
        self._leave_heritage()
        self.run.start()
        self._tell_keeper(b"s")
        self.run.serve(self.server)
        self._watch_network()
        self.tell("start")

    def _watch_network(self) -> None:
        if self.run.wiring is not None:
            self.run.wiring.watch(self.server, self._renew_heritage)

    def _renew_heritage(self) -> None:
        """What there is of the present run has changed, which goes on."""
        self._leave_heritage()
        self._tell_keeper(b"s")

    def _leave_heritage(self) -> None:
        heritage = self.run.heritage()
        fds = heritage.fds
        while len(fds) > MOST_FDS:
            self._tell_keeper(b"f", fds[:MOST_FDS])
            fds = fds[MOST_FDS:]
        self._tell_keeper(b"r" + jsontext.render(heritage.to_json()).encode(), fds)

    def _tell_keeper(self, packet: bytes, fds: list[int] | tuple[()] = ()) -> None:
        if self.keeper is None:
            return  # this is the keeper
        try:
            sockets.send_fds(self.keeper, packet, fds)
        except OSError:
            pass  # the keeper was killed; then this container has no second chance

    def _attend(self, ended: int) -> None:
        """See to the present run and to those that follow by the restart policy; -1: it is over already."""
        delay = _FIRST_DELAY
        while True:
            began = time.monotonic()
            code = self._await_end(ended) if self.run.pid else self.state.exit_code
            if time.monotonic() - began > _LASTED:
                delay = _FIRST_DELAY
            if not self._shall_restart(code) or not self._await_restart(code, delay):
                break
            delay = min(2 * delay, _MOST_DELAY)
            self.state = self.state._replace(restart_count=self.state.restart_count + 1)
            try:
                self.run = Run(self.container, self.sources)
                self._start(None)
            except _FAILURES as e:
                self._fail(e)
                return
            ended = os.pidfd_open(self.run.pid)
        self._finish(code)

    def _await_end(self, ended: int) -> int:
        """Carry the streams until process 1 has ended: its exit code."""
        if ended >= 0:
            self.server.run(ended)
            os.close(ended)
        code = self._exit_code()
        self.log.flush()
        now = timestamp.now()
        self.state = self.state._replace(
            pid=0, pid_start=0, ports={}, paused=False, held=False, finished_at=now, exit_code=code
        )  # fmt: skip
        seconds = (timestamp.to_ns(now) - timestamp.to_ns(self.state.started_at)) // 1_000_000_000
        self.tell("die", exitCode=str(code), execDuration=str(seconds))
        return code

    def _exit_code(self) -> int:
        """It stays with the kernel until it is on record: should this process be killed now, the keeper gets it."""
        try:
            found = os.waitid(os.P_PID, self.run.pid, os.WEXITED | os.WNOWAIT)
            assert found is not None
            return found.si_status if found.si_code == os.CLD_EXITED else 128 + found.si_status
        except ChildProcessError:
            pass
        assert self.keeper is not None
        try:
            packet = self.keeper.recv(64)
            return int(packet[1:]) if packet[:1] == b"c" else _UNKNOWN
        except OSError:
            return _UNKNOWN  # the keeper was killed too, after the monitor whose place this one takes

    def _shall_restart(self, code: int) -> bool:
        """What the restart policy says, as it is now: it can be changed while the container runs."""
        if self.stops or self.container.host_config.auto_remove or os.path.exists(self.container.stop_mark):
            return False
        try:
            policy = containers.load(self.container.id).host_config.restart_policy
        except RdockError:
            return False
        name, most = policy.get("Name"), int(policy.get("MaximumRetryCount") or 0)
        if name == "on-failure":
            wanted = code != 0 and (most == 0 or self.state.restart_count < most)
        else:
            wanted = name in ("always", "unless-stopped")
        if wanted:
            self.server.settle()  # who has stopped it may have said so at the last moment
        return wanted and not self.stops

    def _await_restart(self, code: int, seconds: float) -> bool:
        """Wait between two runs; False if the container was stopped meanwhile."""
        if self.run.pid:
            self.note(self.state._replace(restarting=True))
            self._release_run()
            self.server.close_streams()
            self.server.dismiss_attached(b"x", {"code": code})
            self._clear_run()
        return not self.server.rest(seconds)

    def _clear_run(self) -> None:
        self.run.disconnect(wait=True)
        self.run.end_group()

    def _release_run(self) -> None:
        """Let go of process 1, after its end is on record."""
        self.run.release()
        self._tell_keeper(b"e")

    def _note_ports(self) -> None:
        """After a change of networks, with which published ports come and go."""
        self._renew_heritage()
        self.run.bindings = self.run.require_wiring().publishing.bindings
        if self.run.bindings != self.state.ports:
            self.note(self.state._replace(ports=self.run.bindings))

    # -- requests --------------------------------------------------------------------------------

    def _obey(self, connection: sockets.socket, request: dict[str, Any]) -> dict[str, Any] | None:
        """Do what a command asks for. Raises RdockError; ValueError and its like for nonsense."""
        match request.pop("do"):
            case "exec":
                self._exec(connection, exec.Request.from_json(request))
                return None
            case "pause":
                self.pausing.pause()
            case "unpause":
                self.pausing.unpause()
            case "hold":
                self.pausing.hold(connection)
            case "connect":
                self.run.require_wiring().add(request["network"], request["settings"])
                self._note_ports()
            case "disconnect":
                self.run.require_wiring().remove(request["network"])
                self._note_ports()
            case "stop":
                self._note_stop(keep=bool(request.get("keep")))
            case what:
                raise InvalidParameter(f"the container's monitor does not know how to {what}")
        return {}

    def _exec(self, connection: sockets.socket, request: exec.Request) -> None:
        exec.check(self.container, self.state)
        try:
            pid = os.fork()
        except OSError as e:
            raise system_failure("cannot start the session", e) from e
        if pid == 0:
            session.run(self.container, self.state, request, connection)

    def _note_stop(self, *, keep: bool) -> None:
        self.stops = True
        self.note(self.state._replace(stopped_by_user=True, kept=self.state.kept or keep))
        self.server.interrupt()

    def _kill(self, number: int) -> None:
        if self.run.pid:
            try:
                os.kill(self.run.pid, number)
            except ProcessLookupError:
                pass

    # -- the end ---------------------------------------------------------------------------------

    def _finish(self, code: int) -> None:
        """Record the end."""
        self.state = self.state._replace(finished=True, restarting=False)
        # That of one that goes is for a successor, should one come to it.
        self.container.note_state(self.state, durable=not self._goes())
        if self.run.pid:
            self._release_run()
        self._take_away(code)

    def _goes(self) -> bool:
        """Whether the container goes with its process."""
        return self.container.host_config.auto_remove and not self.state.kept

    def _take_away(self, code: int) -> None:
        """The rest of the end: tell of it, and leave nothing."""
        self.log.close()
        # Those who wait hear of the end when the container's ports and name are free and it is listed no
        # more; deleting its files, and its network, takes as long as it takes.
        self.run.disconnect(wait=bool(self.run.bindings))
        withdrawn = self._withdraw() if self._goes() else []
        self.server.announce(b"x", {"code": code})
        self._clean_up()
        for name in withdrawn:
            staging.delete(name)
        self._tell_keeper(b"g")
        self.order.lock.remove()  # a slow reader keeps nothing but this process
        self.server.stop_listening()
        self.run.disconnect(wait=True)
        self.server.finish()

    def _fail(self, failure: Exception) -> None:
        """Bring a start that failed to its end, and tell of it."""
        error = background.explain_start(failure, self.container)
        self.run.abandon()
        code = error.exit_code if error.exit_code in (126, 127) else 128
        ended = self.state._replace(
            pid=0, pid_start=0, ports={}, finished=True, restarting=False, exit_code=code, error=error.message,
            started_at=self.started_before,
        )  # fmt: skip
        self.container.note_state(ended, durable=True)
        self._tell_keeper(b"e")  # or slirp4netns is kept alive by its copies
        self.run.disconnect(wait=True)
        if self._goes():
            removal.remove_files(self.container, volumes=True)
        self._clean_up()
        self._tell_keeper(b"g")
        self.order.lock.remove()
        background.send_failure(self.order.connection, error)
        self.server.announce(b"x", {"code": code})

    def tell(self, action: str, **attributes: str) -> None:
        """Put what has happened into the journal, under the name that the container has by now."""
        events.note(containers.as_it_is(self.container), action, **attributes)

    def _record(self, state: State) -> None:
        """Record a state before something is done. Raises SystemFailure."""
        self._sign(state)
        self.container.write_state(self.state, durable=False)

    def note(self, state: State) -> None:
        """Record a state after it has come about, or where it counts for more than its record."""
        self._sign(state)
        self.container.note_state(self.state, durable=False)

    def _sign(self, state: State) -> None:
        own = os.getpid()
        self.state = state._replace(
            monitor_pid=own, monitor_start=process.start_time(own), keeper_pid=self.keeper_pid,
            keeper_start=self.keeper_start, boot=process.boot_id(), finished=False, error="",
        )  # fmt: skip

    def _withdraw(self) -> list[str]:
        try:
            return removal.withdraw(self.container, volumes=True)
        except RdockError as e:
            launch.debug(e.message)
            self.container.note_state(self.state, durable=True)
            return []

    def _clean_up(self) -> None:
        self.run.end_group()
        rooting.release(self.container)
        removal.remove_bundle(self.container.id)


def _fresh(container: Container) -> State:
    """What a new start keeps of the state that earlier ones have left."""
    try:
        before = container.recorded_state()
    except DataLoss:
        return State()
    return State(started_at=before.started_at, finished_at=before.finished_at)
