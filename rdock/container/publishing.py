"""The published ports of a running container: the host's sockets, and the process that serves them.

The sockets are bound before the container is there (network/ports.py) and held by its monitor, which puts another
process (network/forwarder.py) in the place of one that has ended.
"""

from __future__ import annotations

import os
import time

from rdock import jsontext
from rdock.errors import RdockError, system_failure
from rdock.launch import debug
from rdock.linux import namespaces, sockets, timer
from rdock.network import endpoint, ports
from rdock.network.ports import Listener
from rdock.network.target import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from rdock.container.stdio import Server
    from rdock.network.plumbing import Attachment

# A forwarder that ends so often in so many seconds is not started again at once, but after a pause in seconds: doubled
# each time, up to the most.
_MOST_DEATHS, _CALM_SECONDS = 5, 60.0
_FIRST_PAUSE, _MOST_PAUSE = 0.1, 30.0


class Publishing:
    """What a monitor has of its container's published ports."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self.bindings: endpoint.Bindings = {}
        """Those in force."""
        self._control: sockets.socket | None = None
        """To the forwarder, which ends with its last copy."""
        self._forwarder = -1
        """A pidfd, for it need not be a child of this monitor's."""
        self._server: Server | None = None
        self._deaths: list[float] = []
        self._pause = _FIRST_PAUSE
        self._timer = -1
        """When another try is made to start a forwarder."""

    def bind(self, published: endpoint.Bindings) -> None:
        """Listen on the host. Raises what ports.bind raises."""
        self.listeners, self.bindings = ports.bind(endpoint.from_bindings(published))

    @property
    def is_served(self) -> bool:
        return self._control is not None

    def serve(self, namespace: int, target: Target, *, transparent: bool) -> None:
        """Start a forwarder in the shared namespace, if there is anything to forward. Raises SystemFailure."""
        if not self.listeners:
            return
        from rdock.network import forwarder  # few containers publish ports

        try:
            theirs, ours = sockets.packet_pair()
            pid = os.fork()
        except OSError as e:
            raise system_failure("cannot serve the published ports", e) from e
        if pid == 0:
            try:
                namespaces.enter({"network": namespace})
                forwarder.run(self.listeners, target, control=theirs.fileno(), transparent=transparent)
            finally:
                os._exit(1)
        theirs.close()
        self._let_go()
        try:
            self._control, self._forwarder = ours, os.pidfd_open(pid)
        except OSError as e:  # and it ends, for its control is closed
            raise system_failure("cannot serve the published ports", e) from e

    def aim(self, target: Target) -> None:
        """Lead elsewhere from now on."""
        if self._control is not None:
            try:
                self._control.send(jsontext.render(target.to_json()).encode())
            except OSError as e:
                debug(f"published ports: {e}")  # its successor will know

    def watch(self, server: Server, again: Callable[[], None]) -> None:
        """From now on mind whether the forwarder lives; `again` is to call `serve`, and may raise RdockError."""
        self._server = server
        if self._forwarder >= 0:
            server.watch(self._forwarder, lambda: self._replace(again))
        elif self.listeners:
            self._try_later(server, again)  # another monitor could start none, and was killed

    def _replace(self, again: Callable[[], None]) -> None:
        """It has ended."""
        assert self._server is not None
        self._let_go()
        now = time.monotonic()
        self._deaths = [*(when for when in self._deaths if now - when < _CALM_SECONDS), now]
        if len(self._deaths) == 1:
            self._pause = _FIRST_PAUSE
        if len(self._deaths) < _MOST_DEATHS:
            self._try(self._server, again)
        else:
            self._try_later(self._server, again)

    def _try(self, server: Server, again: Callable[[], None]) -> None:
        try:
            again()
        except (RdockError, OSError) as e:
            debug(f"published ports: {e}")
            self._try_later(server, again)
        else:
            self.watch(server, again)

    def _try_later(self, server: Server, again: Callable[[], None]) -> None:
        """Whoever connects meanwhile waits. It is tried for ever: what is missing may come back."""
        self._stop_timer()

        def try_now() -> None:
            self._stop_timer()
            self._try(server, again)

        try:
            self._timer = timer.after(self._pause)
        except OSError as e:
            debug(f"published ports: {e}")  # those of the one that has ended are closed, so that there is room
            return
        self._pause = min(2 * self._pause, _MOST_PAUSE)
        server.watch(self._timer, try_now)

    def _stop_timer(self) -> None:
        if self._timer >= 0:
            if self._server is not None:
                self._server.forget(self._timer)
            os.close(self._timer)
            self._timer = -1

    def heritage(self) -> tuple[list[list[Any]], list[int]]:
        """What another monitor needs of them: of each listener port and protocol, and descriptors.

        Those of the listeners come last; before them those of the forwarder, if there is one.
        """
        fds = [] if self._control is None else [self._control.fileno(), self._forwarder]
        fds += [each.socket.fileno() for each in self.listeners]
        return [[each.container_port, each.protocol] for each in self.listeners], fds

    def inherit(self, found: list[list[Any]], fds: list[int], bindings: endpoint.Bindings) -> None:
        """Go on with those of another monitor."""
        self.bindings = bindings
        rest = fds
        if len(fds) > len(found):
            control, self._forwarder, *rest = fds
            self._control = sockets.socket(fileno=control)
        self.listeners = [ports.adopt(fd, *each) for fd, each in zip(rest, found, strict=True)]

    def release(self) -> None:
        """Stop listening; the forwarder ends."""
        self._let_go()
        for listener in self.listeners:
            listener.socket.close()
        self.listeners, self.bindings = [], {}

    def _let_go(self) -> None:
        self._stop_timer()
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._forwarder >= 0:
            if self._server is not None:
                self._server.forget(self._forwarder)
            os.close(self._forwarder)
            self._forwarder = -1


def where_to(attachments: Sequence[Attachment]) -> Target:
    """Where the published ports of a container lead that is on these networks: to the one with the way out."""
    best = next((each for each in attachments if each.leads_out), None)
    if best is None:
        return Target()  # it is on none at the moment: who comes is turned away
    pool, pool6 = best.network.pool(4), best.network.pool(6)
    return Target(
        best.lease.address, str(pool.gateway) if pool else "", best.lease.address6, str(pool6.gateway) if pool6 else "",
        tuple(str(pool.block) for each in attachments for pool in each.network.pools),
    )  # fmt: skip
