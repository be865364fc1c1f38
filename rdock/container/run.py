"""One run of a container: its control group, its process 1, the way out of its network, from start to end.

A container that is started again has a new one of each; its root and its log go on.
"""

from __future__ import annotations

import os
import time

from rdock import jsontext
from rdock.container import containers, device_nodes, filters, owners, sharing, spec, users
from rdock.container.containers import Container
from rdock.container.pipes import Pipes
from rdock.container.stdio import Server
from rdock.errors import NotRunning
from rdock.linux import cgroup, namespaces
from rdock.linux.inroot import O_PATH
from rdock.network import modes, sandbox
from rdock.runtime import engines
from rdock.runtime.engines import Engine
from rdock.runtime.parent import Created
from rdock.state import record
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rdock.container.wiring import Wiring
    from rdock.network.endpoint import Bindings
    from rdock.network.private import Private


MOST_FDS = 200
"""Descriptors that go with one packet from the monitor to the keeper; the kernel allows 253 (SCM_MAX_FD)."""


class Heritage(Value):
    """What a monitor leaves to its successor of the present run."""

    pid: int
    since: float
    """time.monotonic() before it was made."""
    terminal: bool
    streams: list[str]
    """What the first of `fds` are: stdin, stdout, stderr; one of a terminal is all three."""
    remains: list[str]
    """What the next of them are: namespaces by which to find other processes than process 1 (runtime/remains.py)."""
    uplink_pid: int
    """0: none. The last two of `fds` before those of `wiring` are its `alive` and `log`."""
    wiring: dict[str, Any]
    """Its place on networks."""
    count: int
    """How many descriptors there are in all."""
    wires: int
    """How many of `fds`, the last ones, go with that."""
    fds: list[int]

    @classmethod
    def from_json(cls, found: dict[str, Any], fds: list[int]) -> Heritage:
        return cls(**found, fds=fds)

    def without(self, name: str) -> Heritage:
        """The same when one of the streams, of pipes, has been closed, as this process's copy is here."""
        if name not in self.streams:
            return self
        place = self.streams.index(name)
        os.close(self.fds[place])
        return self._replace(
            streams=self.streams[:place] + self.streams[place + 1 :],
            fds=self.fds[:place] + self.fds[place + 1 :],
            count=self.count - 1,
        )

    def to_json(self) -> dict[str, Any]:
        """All but the descriptors, which travel beside it."""
        return {name: value for name, value in self._asdict().items() if name != "fds"}


class Run:
    """The present run."""

    def __init__(self, container: Container, sources: dict[str, str]) -> None:
        self.container = container
        self.sources = sources
        self.engine: Engine = engines.choose(container.host_config.external_runtime)
        self.group: cgroup.Cgroup | None = None
        self.bindings: Bindings = {}
        """The published ports in force."""
        self.pid = 0
        self._since = time.monotonic()
        self._created: Created | None = None
        self._streams = (-1, -1, -1)
        self._terminal = -1
        self.wiring = _wiring(container)
        self._private = _private(container)

    @property
    def group_path(self) -> str:
        return self.group.path if self.group else ""

    @property
    def network_base(self) -> str:
        """The private network's addresses, empty if there is none; see network/subnet.py."""
        return self._private.place(self.pid) if self._private else ""

    def make_group(self) -> None:
        self.group = cgroup.make(f"rdock-{self.container.id}")

    def create(self, console_size: tuple[int, int] | None) -> None:
        """Make process 1 and its world, up to the point where only execve is missing.

        Raises RdockError, Failed, OSError, EOFError; `abandon` clears up.
        """
        container = self.container
        host = container.host_config
        maps = owners.maps(container)
        files = self._files()
        root = os.open(container.root, O_PATH | os.O_DIRECTORY)
        try:
            if container.owners:
                from rdock.container import accounts

                files |= accounts.add(container, root, maps)
                accounts.give(maps, files.values())
            user = users.resolve(root, container.config.user, host.group_add)
        finally:
            os.close(root)
        users.check_mapped(user, maps.uids, maps.gids)
        shared = sharing.prepare(container)
        try:
            bundle = spec.build(
                container, user=user, files=files, uids=maps.uids, gids=maps.gids, cgroup_path=self.group_path,
                console_size=console_size, shared=shared, linked=self._linked(), sources=self.sources,
                devices=device_nodes.gather(host.devices) if host.devices else (),
            )  # fmt: skip
            if host.own:
                from rdock.container import handing_over

                handing_over.note(container)
            self._execute(bundle, maps.owner_outside(user.uid, user.gid) if container.owners else None)
        finally:
            shared.close()

    def _files(self) -> dict[str, str]:
        """The files by which a container knows its network, made anew; of one in another's network that one's."""
        container, mode = self.container, self.container.host_config.network_mode
        if mode.startswith(sharing.CONTAINER):
            return sandbox.files_of(containers.load(mode.removeprefix(sharing.CONTAINER)).directory)
        addresses, nameserver = self._place()
        return sandbox.write_files(
            container.directory, mode, container.config.hostname, addresses, nameserver, _resolving(container),
            is_named=self.wiring is not None and self.wiring.is_named,
            links=[(link.lease.address, link.hosts_line) for link in self.wiring.links] if self.wiring else (),
            host_address=self._private.host_address if self._private else "",
        )  # fmt: skip

    def _linked(self) -> list[str]:
        if self.wiring is None or not self.wiring.links:
            return []
        from rdock.container import linking

        return linking.environment(self.container, self.wiring.links)

    def _place(self) -> tuple[list[str], str]:
        """The container's addresses and its name server, which it is to know before it is made."""
        if self.wiring is not None:
            self.wiring.prepare()
            self.bindings = self.wiring.publishing.bindings
            return self.wiring.addresses, self.wiring.nameserver
        if self._private is not None:
            self.bindings = self._private.prepare(self.container.published)
            return self._private.addresses, self._private.nameserver
        return [], ""

    def _execute(self, bundle: dict[str, Any], owner: tuple[int, int] | None) -> None:
        """`owner` is the program's user by its ids out here, in a container that has others."""
        container = self.container
        program = filters.program(bundle["linux"].get("seccomp"))
        filters.save(container.directory, program)
        record.write_text(os.path.join(container.bundle, "config.json"), jsontext.render(bundle), durable=False)
        pipes = Pipes(container.config.tty, container.config.open_stdin)
        try:
            if owner is not None:
                pipes.give(*owner)
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
        self._created, self.pid = created, created.pid
        self._terminal, self._streams = created.terminal, pipes.ours

    def _connect(self, fds: dict[str, int]) -> None:
        """Give the new network namespace its way out and its published ports."""
        if self.wiring is not None:
            self.wiring.connect(fds["network"])
            return
        if self._private is not None:
            self.bindings = self._private.connect(fds, self.bindings)

    def mend_network(self, ended: list[int]) -> bool:
        """Put another slirp4netns or pasta in the place of one that is among those that have ended; whether it was.

        With the ports of the host that were in force, if they are still free. Raises RdockError, OSError.
        """
        if self._private is None or self._private.pid not in ended or not self._private.forget():
            return False
        fds = namespaces.open_all(self.pid, ("user", "network"))
        try:
            self.bindings = self._private.connect(fds, self.bindings)
        finally:
            for fd in fds.values():
                os.close(fd)
        return True

    def watch_inherited(self, server: Server, mend: Callable[[list[int]], None]) -> None:
        """Have `mend_network` be called, by `mend`, when a slirp4netns or pasta ends that is no child of ours."""
        pid = self._private.pid if self._private else 0
        if not pid:
            return
        try:
            ended = os.pidfd_open(pid)
        except ProcessLookupError:
            mend([pid])
            return

        def replace() -> None:
            server.forget(ended)
            os.close(ended)
            mend([pid])

        server.watch(ended, replace)

    def require_wiring(self) -> Wiring:
        """Its place on networks. Raises NotRunning if it has none, or there is no run."""
        if self.wiring is None or not self.pid:
            raise NotRunning(self.container.id)
        return self.wiring

    def start(self) -> None:
        """Let process 1 execute the container's program. Raises Failed."""
        assert self._created is not None
        self.engine.start(self._created)

    def serve(self, server: Server) -> None:
        """Hand the ends of the program's streams to who carries them."""
        if self._terminal >= 0:
            server.use_terminal(self._terminal)
        else:
            server.use_pipes(*self._streams)

    # -- from a monitor to the next --------------------------------------------------------------

    def heritage(self) -> Heritage:
        """What another monitor needs to go on with this run."""
        names = ("stdin", "stdout", "stderr")
        streams = {name: fd for name, fd in zip(names, self._streams, strict=True) if fd >= 0}
        fds = [self._terminal] if self._terminal >= 0 else list(streams.values())
        fds += self.engine.remains.values()
        fds += self._private.heritage() if self._private else []
        wiring, more = self.wiring.heritage() if self.wiring is not None else ({}, [])
        fds += more
        return Heritage(
            wiring=wiring, count=len(fds), wires=len(more), pid=self.pid, since=self._since,
            terminal=self._terminal >= 0,
            streams=list(streams), remains=list(self.engine.remains),
            uplink_pid=self._private.pid if self._private else 0, fds=fds,
        )  # fmt: skip

    def inherit(self, heritage: Heritage | None, group: str, bindings: Bindings) -> None:
        """Go on with the run of another monitor."""
        self.group = cgroup.Cgroup(group) if group else None
        self.bindings = bindings
        if heritage is None:
            return
        self.pid = heritage.pid
        first = 1 if heritage.terminal else len(heritage.streams)
        self.engine.remains |= dict(zip(heritage.remains, heritage.fds[first:], strict=False))
        if heritage.wires and self.wiring is not None:
            self.wiring.inherit(heritage.wiring, heritage.fds[-heritage.wires :], bindings)
        if heritage.uplink_pid and self._private is not None:
            alive, log = heritage.fds[-2:]
            self._private.inherit(heritage.uplink_pid, alive, log)
        if heritage.terminal:
            self._terminal = heritage.fds[0]
        else:
            found = dict(zip(heritage.streams, heritage.fds, strict=False))
            self._streams = (found.get("stdin", -1), found.get("stdout", -1), found.get("stderr", -1))

    # -- the end ---------------------------------------------------------------------------------

    def abandon(self) -> None:
        """End a process 1 that was created and not started."""
        if self._created is None:
            return
        self._created.channel.close()
        self.engine.delete(self.container.id, self.container.bundle)
        reap(self.pid)
        if self.container.host_config.own:
            from rdock.container import handing_over

            handing_over.forget(self.container)

    def release(self) -> None:
        """Let go of a process 1 that has ended."""
        reap(self.pid)
        self.pid = 0
        self.engine.delete(self.container.id, self.container.bundle)
        if self.container.host_config.own:
            from rdock.container import handing_over

            handing_over.at_end(self.container)

    def disconnect(self, *, wait: bool) -> None:
        """Let the way out of the network end; with `wait` its ports are free afterwards."""
        if self.wiring is not None:
            self.wiring.release()
        if self._private is not None:
            self._private.disconnect(wait=wait)

    def end_group(self) -> None:
        """Kill what is left in the control group, and remove it."""
        if self.group is not None:
            self.group.end()


def _wiring(container: Container) -> Wiring | None:
    """Only what is on networks needs the modules for it."""
    mode = container.host_config.network_mode
    if modes.kind(mode) in (*modes.MODES, "default") or mode.startswith(sharing.CONTAINER):
        return None
    from rdock.container.wiring import Wiring

    return Wiring(container)


def _private(container: Container) -> Private | None:
    """Likewise of what has a network of its own."""
    mode = container.host_config.network_mode
    if modes.kind(mode) not in modes.PRIVATE:
        return None
    from rdock.network import private

    return private.make(mode, container.bundle)


def _resolving(container: Container) -> sandbox.Resolving:
    config, host = container.config, container.host_config
    return sandbox.Resolving(config.domainname, host.extra_hosts, host.dns, host.dns_search, host.dns_options)


def reap(pid: int) -> None:
    """Reap a child, unless that was done already."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass
