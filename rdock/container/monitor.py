"""The monitor: the process that outlives the command, one for each running container.

It makes the container's root and namespaces, starts process 1, carries its streams, waits for its end
and records it, and takes away what is left. Forked by the command that starts the container, in its
namespaces (the holder's) and with its imports; it holds the container's run lock until it ends.
"""

from __future__ import annotations

import os

from rdock import jsontext, launch
from rdock.container import background, filters, removal, spec, stdio, users
from rdock.container.containers import Container, State
from rdock.container.logs import LogWriter
from rdock.errors import RdockError, SystemFailure, system_failure
from rdock.linux import cgroup, idmap, namespaces, process, sockets
from rdock.linux import mount as m
from rdock.linux.inroot import O_PATH
from rdock.network import endpoint, sandbox, subnet, uplink
from rdock.network.uplink import Uplink
from rdock.runtime import engines
from rdock.runtime.channel import Failed
from rdock.runtime.engines import Engine
from rdock.runtime.parent import Created
from rdock.state import record, timestamp
from rdock.state.record import Lock
from rdock.storage import driver, staging
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class Order(Value):
    """What the command asks of the monitor it forks."""

    container: Container
    layers: list[str]
    """Directories of the image's layers, topmost first."""
    connection: sockets.socket
    """To the command: `s` or `f`, then the streams of one who is attached from the start."""
    lock: Lock
    console_size: tuple[int, int] | None


def run(order: Order) -> NoReturn:
    """The monitor's life, from fork to exit."""
    status = 1
    try:
        background.leave_the_caller("rdock-monitor", {order.connection.fileno(), order.lock.fd})
        _Monitor(order).run()
        status = 0
    except BaseException as e:
        launch.debug(f"monitor: {type(e).__name__}: {e}")
        background.send_failure(order.connection, SystemFailure(f"the monitor failed: {type(e).__name__}: {e}"))
    finally:
        os._exit(status)


class _Monitor:
    def __init__(self, order: Order) -> None:
        self.container = order.container
        self.order = order
        self.engine: Engine = engines.choose(self.container.host_config.runtime)
        self.uplink: Uplink | None = None
        self.bindings: endpoint.Bindings = {}
        self.let_go = False
        self.subnet = subnet.choose()
        self.group: cgroup.Cgroup | None = None
        self.pid = 0
        self.created: Created | None = None
        self.state = State()

    def run(self) -> None:
        log = LogWriter(self.container.log_path)
        kept = not self.container.host_config.auto_remove
        server = stdio.Server(
            log=log,
            on_signal=self._kill,
            listener=self._listen(),
            kept=kept,
            stdin_once=self.container.config.stdin_once,
        )
        try:
            self._start(server)
        except (RdockError, Failed, OSError, EOFError) as e:
            error = self._explain(e)
            self._abandon()
            self._record_failure(error)
            self._disconnect(wait=True)
            if self.container.host_config.auto_remove:
                removal.remove_files(self.container)
            self._clean_up()
            self.order.lock.remove()
            background.send_failure(self.order.connection, error)
            return
        server.add_client(self.order.connection)
        server.broadcast(b"s")
        ended = os.pidfd_open(self.pid)
        server.run(ended)
        code = launch.wait(self.pid)
        log.close()
        self.engine.delete(self.container.id, self.container.bundle)
        finished = self.state._replace(
            pid=0, pid_start=0, ports={}, finished_at=timestamp.now(), exit_code=code, finished=True
        )
        if not self.container.host_config.auto_remove:
            self.container.write_end(finished)
        # Those who wait hear of the end when the container's ports and name are free and it is listed no
        # more; deleting its files, and its network, takes as long as it takes.
        self._disconnect(wait=bool(self.bindings))
        withdrawn = self._withdraw(finished) if self.container.host_config.auto_remove else ""
        server.announce(b"x", {"code": code})
        self._clean_up()
        staging.delete(withdrawn)
        self.order.lock.remove()  # a slow reader keeps nothing but this process
        self._disconnect(wait=True)
        server.finish()

    def _listen(self) -> sockets.socket:
        listener = sockets.listen(self.container.bundle, "attach.sock")
        listener.setblocking(False)
        return listener

    # -- the start, in order -------------------------------------------------------------------

    def _start(self, server: stdio.Server) -> None:
        container = self.container
        host = container.host_config
        self.group = cgroup.make(f"rdock-{container.id}")
        own = os.getpid()
        path = self.group.path if self.group else ""
        self._record(State(monitor_pid=own, monitor_start=process.start_time(own), cgroup=path))
        files = sandbox.write_files(container.directory, host.network_mode, container.config.hostname, self.subnet)
        self._mount_root()
        root = os.open(container.root, O_PATH | os.O_DIRECTORY)
        try:
            user = users.resolve(root, container.config.user)
        finally:
            os.close(root)
        uids, gids = idmap.read_map("uid"), idmap.read_map("gid")
        users.check_mapped(user, uids, gids)
        bundle = spec.build(
            container,
            user=user,
            files=files,
            uids=uids,
            gids=gids,
            cgroup_path=self.group.path if self.group else "",
            console_size=self.order.console_size,
        )
        program = filters.program(bundle["linux"].get("seccomp"))
        filters.save(container.directory, program)
        record.write_text(os.path.join(container.bundle, "config.json"), jsontext.render(bundle), durable=False)
        pipes = stdio.Pipes(container.config.tty, container.config.open_stdin)
        try:
            created = self.engine.create(
                container.id,
                container.bundle,
                bundle,
                pipes.theirs,
                program=program,
                join_cgroup=self.group.add if self.group else lambda pid: None,
                meanwhile=self._connect,
            )
        finally:
            pipes.close_theirs()
        self.created, self.pid = created, created.pid
        # Recorded before the program runs: whoever finds it running must also find this.
        state = self.state._replace(
            pid=self.pid, pid_start=process.start_time(self.pid), ports=self.bindings,
            subnet=self.subnet.base if self.uplink else "",
        )  # fmt: skip
        self._record(state._replace(started_at=timestamp.now()))
        self.engine.start(created)
        if container.config.tty:
            server.use_terminal(created.terminal)
        else:
            server.use_pipes(*pipes.ours)

    def _mount_root(self) -> None:
        container = self.container
        ready = driver.mounter(
            container.driver, self.order.layers, container.directory, read_only=container.host_config.readonly_rootfs
        )
        namespaces.unshare(namespaces.CLONE_NEWNS)
        m.set_propagation("/", m.MS_SLAVE)
        if container.host_config.init:
            m.protect(launch.init_program())  # the container's root may own it, and may be allowed to remount
        os.makedirs(container.root, mode=0o700, exist_ok=True)
        ready(container.root)

    def _connect(self, fds: dict[str, int]) -> None:
        """Give the new network namespace its way out and its published ports."""
        host = self.container.host_config
        wanted = endpoint.from_bindings(host.port_bindings)
        if host.network_mode != "slirp4netns":
            return
        self.uplink = uplink.start(fds["user"], fds["network"], self.container.bundle, self.subnet)
        uplink.await_ready(self.uplink)
        if wanted:
            self.bindings = uplink.publish(self.uplink, wanted)

    # -- the end ---------------------------------------------------------------------------------

    def _abandon(self) -> None:
        """End a process 1 that was created and not started."""
        if self.created is None:
            return
        self.created.channel.close()
        self.engine.delete(self.container.id, self.container.bundle)
        try:
            launch.wait(self.pid)
        except ChildProcessError:
            pass  # its failure was told, and it is reaped

    def _kill(self, number: int) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def _explain(self, error: Exception) -> RdockError:
        if isinstance(error, RdockError):
            return error
        if isinstance(error, Failed):
            config = self.container.config
            return background.explain_failure(error, ((config.entrypoint or []) + (config.cmd or []))[0])
        if isinstance(error, OSError):
            return system_failure("cannot start the container", error)
        return SystemFailure(f"cannot start the container: {error}")

    def _record(self, state: State) -> None:
        self.state = state._replace(boot=process.boot_id())
        self.container.write_state(self.state, durable=False)

    def _record_failure(self, error: RdockError) -> None:
        code = error.exit_code if error.exit_code in (126, 127) else 128
        self.container.write_end(State(finished=True, exit_code=code, error=error.message))

    def _withdraw(self, finished: State) -> str:
        try:
            return removal.withdraw(self.container)
        except RdockError as e:
            launch.debug(e.message)
            self.container.write_end(finished)
            return ""

    def _disconnect(self, *, wait: bool) -> None:
        if self.uplink is not None and not self.let_go:
            self.let_go = True
            uplink.let_go(self.uplink)
        if self.uplink is not None and wait:
            uplink.reap(self.uplink)
            self.uplink = None

    def _clean_up(self) -> None:
        if self.group is not None:
            self.group.end()
        try:
            m.umount(self.container.root, m.MNT_DETACH)
        except OSError:
            pass  # the start failed before it was mounted
        removal.remove_bundle(self.container.id)
