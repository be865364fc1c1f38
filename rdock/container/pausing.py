"""The monitor's part in pausing its container: on demand, and for as long as somebody needs it."""

from __future__ import annotations

from rdock import launch
from rdock.container import freezer
from rdock.errors import Conflict, SystemFailure
from rdock.linux import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rdock.container.monitor import Monitor


class Pausing:
    """Whether the container of a monitor pauses, and for whom."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self._holders = 0

    def pause(self, *, held: bool = False) -> None:
        """Stop all processes. Raises Conflict if they are stopped, or there are none; SystemFailure."""
        monitor, container = self.monitor, self.monitor.container
        if monitor.state.paused:
            raise Conflict(f"container {container.id} is already paused")
        if not monitor.run.pid or not monitor.state.can_pause:
            raise Conflict(f"container {container.id} is not running")
        # First: what is frozen, and is not known to be, nobody thaws.
        monitor.note(monitor.state._replace(paused=True, held=held))
        try:
            freezer.freeze(monitor.run.group, monitor.run.pid, alone=container.host_config.has_own_pids)
        except SystemFailure:
            monitor.note(monitor.state._replace(paused=False, held=False))
            raise
        monitor.tell("pause")

    def unpause(self) -> None:
        """Let them go on. Raises Conflict if they are not stopped; SystemFailure."""
        monitor, container = self.monitor, self.monitor.container
        if not monitor.state.paused:
            raise Conflict(f"container {container.id} is not paused")
        freezer.thaw(monitor.run.group, monitor.run.pid, alone=container.host_config.has_own_pids)
        monitor.note(monitor.state._replace(paused=False, held=False))
        monitor.tell("unpause")

    def hold(self, connection: sockets.socket) -> None:
        """Pause until who asks for it lets go, or is gone, and all others who have asked. Raises as `pause`."""
        if not self.monitor.state.paused:
            self.pause(held=True)
        if self.monitor.state.held:
            self._holders += 1
            self.monitor.server.when_gone(connection, self._let_go)

    def _let_go(self) -> None:
        self._holders -= 1
        if self._holders == 0:
            self.end_hold()

    def end_hold(self) -> None:
        """Go on if it is paused only as long as somebody needs it, which nobody does any more."""
        if self.monitor.state.held:
            try:
                self.unpause()
            except SystemFailure as e:
                launch.debug(e.message)  # it can be tried by hand
