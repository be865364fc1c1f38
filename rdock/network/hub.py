"""The shared network namespace of a user, and the process that keeps it: the hub.

All bridges of a user's networks are in one network namespace, whose way out is one slirp4netns. It is made with the
first container that is on such a network and gone with the last. The hub stays outside, in the namespace of the host,
and keeps what is needed: the namespace itself, slirp4netns, of which it makes another one should that be killed, and
the name server, whose sockets are in the namespace. Each user of the namespace has a connection to the hub for as long
as it is one, and copies of it keep: when the last is closed, however that came about, the hub ends a little later.
If the hub is killed, whoever sees it first makes another, with the same namespace.

                hub → user                               user → hub
    h + fd      here is the namespace; JSON              nothing
    r           the way out is there, or the reason why not
"""

from __future__ import annotations

import os
import time

from rdock import jsontext, paths
from rdock.errors import SystemFailure, reason
from rdock.linux import namespaces, sockets
from rdock.network.subnet import Subnet
from rdock.state.record import Lock
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

# Seconds: for the hub to come up, slirp4netns included.
_PATIENCE = 25.0
# Seconds that those who had a hub which was killed have to make another before others do.
_REVIVAL = 0.5


class Use(Value):
    """One user's hold on the shared namespace."""

    connection: sockets.socket
    namespace: int
    """A descriptor of it."""
    subnet: Subnet
    """The addresses of the way out."""
    transparent: bool
    """Whether the addresses of clients can be kept, see firewall.py."""


def use(linger: float, keep: set[int], namespace: int = -1) -> Use:
    """Take hold of the shared namespace, which is made if there is none.

    `linger`: for how many seconds a hub that is made here stays after its last user. `keep` are descriptors that it
    holds open, by which the user's namespaces are in use. `namespace` is that of a hub which was killed, for its
    successor. Raises SystemFailure.
    """
    paths.make_private(paths.data())
    paths.make_private(paths.networks())
    if namespace < 0:
        _await_revival()
    try:
        with Lock(lock()):
            connection = _connect()
            if connection is None:
                _start(linger, keep, namespace)
                connection = _connect()
    except OSError as e:
        raise SystemFailure(f"cannot make the shared network namespace: {reason(e)}") from e
    if connection is None:
        raise SystemFailure("cannot make the shared network namespace: its keeper has ended")
    return _greeted(connection)


def _await_revival() -> None:
    """If a hub was killed, leave it to those who have its namespace to make the next one, which is to have it too."""
    until = time.monotonic() + _REVIVAL
    # One that ends takes its socket away.
    while os.path.exists(os.path.join(paths.runtime(), name())) and time.monotonic() < until:
        connection = _connect()
        if connection is not None:
            connection.close()
            return
        time.sleep(0.01)


def use_existing() -> Use | None:
    """Take hold of the shared namespace if there is one."""
    connection = _connect()
    if connection is None:
        return None
    try:
        return _greeted(connection)
    except (SystemFailure, OSError):
        connection.close()
        return None  # it was just about to end


def _greeted(connection: sockets.socket) -> Use:
    connection.settimeout(_PATIENCE)
    packet, fds = sockets.receive_fds(connection, 4096, 1)
    if packet[:1] != b"h" or len(fds) != 1:
        raise SystemFailure("cannot make the shared network namespace: its keeper has ended")
    hello = jsontext.parse(packet[1:])
    return Use(connection, fds[0], Subnet(hello["base"]), hello["transparent"])


def await_way_out(use: Use) -> str:
    """Wait until slirp4netns is at work; why it is not, if so. Raises SystemFailure if the hub has gone."""
    try:
        packet = use.connection.recv(4096)
    except OSError as e:
        raise SystemFailure(f"the network does not come up: {reason(e)}") from e
    if packet[:1] != b"r":
        raise SystemFailure("the network does not come up: its keeper has ended")
    use.connection.settimeout(None)
    return packet[1:].decode()


def _connect() -> sockets.socket | None:
    try:
        return sockets.connect(paths.runtime(), name())
    except OSError:
        return None


def name() -> str:
    """Of the hub's socket: by the user namespace: another one's hub is of no use."""
    return f"network-{os.stat(namespaces.file_of('user')).st_ino}.sock"


def lock() -> str:
    """The file whose lock makes sure that there is one hub."""
    return os.path.join(paths.networks(), ".hub.lock")


# -- the start -------------------------------------------------------------------------------------


def _start(linger: float, keep: set[int], namespace: int) -> None:
    """Make a hub, and wait until it listens. Under the hub's lock. Raises SystemFailure, OSError."""
    told, telling = os.pipe2(os.O_CLOEXEC)
    middle = os.fork()
    if middle == 0:
        try:
            # Forked twice: it outlives whoever starts it, and is nobody's zombie.
            if os.fork() == 0:
                from rdock.network import hub_process

                hub_process.live(telling, linger, keep, namespace)
        finally:
            os._exit(0)
    os.close(telling)
    os.waitpid(middle, 0)
    try:
        answer = os.read(told, 4096).decode()
    finally:
        os.close(told)
    if answer != "listening":
        raise SystemFailure(f"cannot make the shared network namespace: {answer or 'its keeper has ended'}")
