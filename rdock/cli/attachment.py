"""Staying with a container: its streams are the command's until it ends, or the user leaves it."""

from __future__ import annotations

import os

from rdock.container import relay
from rdock.container.containers import Container
from rdock.container.relay import Attached, Detached, Interrupted
from rdock.errors import SystemFailure
from rdock.linux import signals, sockets


def stay(connection: sockets.socket, attached: Attached, container: Container) -> int:
    """Carry the streams of a container that was just started, as `run` and `start` do: the exit code.

    0 if the user types the detach keys, as in Docker. Raises SystemFailure.
    """
    try:
        return carry(connection, attached, container.bundle)
    except Detached:
        return 0
    except SystemFailure:
        # Nobody was there to tell of the end, which may be on record all the same.
        state = container.state()
        if state.finished and not state.error:
            return state.exit_code
        raise


def carry(connection: sockets.socket, attached: Attached, directory: str = "") -> int:
    """The same, where leaving is told by Detached."""
    try:
        return relay.relay(connection, attached, directory)
    except Interrupted as e:
        signals.signal(e.number, signals.SIG_DFL)
        os.kill(os.getpid(), e.number)
        raise
