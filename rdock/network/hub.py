"""The shared network namespace of a user, and the process that keeps it: the hub.

All bridges of a user's networks are in one network namespace, whose way out is one slirp4netns. It is made with the
first container that is on such a network and gone with the last. The hub stays outside, in the namespace of the host,
and keeps what is needed: the namespace itself, slirp4netns, of which it makes another one should that be killed, and
the name server, whose sockets are in the namespace. Each user of the namespace has a connection to the hub for as long
as it is one, and copies of it keep: when the last is closed, however that came about, the hub ends a little later.
If the hub is killed, whoever sees it first makes another, with the same namespace.

                hub → user                               user → hub
    h + fd      here is the namespace; JSON              nothing
    r           the way out is there, or the reason why not; again when there is another
"""

from __future__ import annotations

import os
import select
import time

from rdock import jsontext, paths
from rdock.errors import SystemFailure, reason
from rdock.launch import debug
from rdock.linux import namespaces, process, signals, sockets
from rdock.network.subnet import Subnet
from rdock.state.record import Lock
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds: for the hub to come up, slirp4netns included.
_PATIENCE = 25.0
# Seconds, for what can be done without it.
_SHORT_PATIENCE = 2.0
# Seconds that those who had a hub which was killed have to make another before others do.
_REVIVAL = 0.5


# Between two tries to make another hub, in seconds: doubled each time, up to the most.
_FIRST_PAUSE, _MOST_PAUSE = 0.05, 5.0


class _Ended(SystemFailure):
    """The hub has gone without a word."""

    def __init__(self) -> None:
        super().__init__("cannot make the shared network namespace: its keeper has ended")


class Plan(Value):
    """How a hub is to be that is made here."""

    linger: float
    """For how many seconds it stays after its last user."""
    keep: set[int]
    """Descriptors that it holds open, by which the user's namespaces are in use."""
    settle: Callable[[], None]
    """Called by it first: leaves the mounts to the container for which it is made. May raise OSError."""


class Use(Value):
    """One user's hold on the shared namespace."""

    connection: sockets.socket
    namespace: int
    """A descriptor of it."""
    subnet: Subnet
    """The addresses of the way out."""
    transparent: bool
    """Whether the addresses of clients can be kept, see firewall.py."""


def use(plan: Plan, namespace: int = -1) -> Use:
    """Take hold of the shared namespace, which is made if there is none.

    `namespace` is that of a hub which was killed, for its successor. Raises SystemFailure.
    """
    paths.make_private(paths.data())
    paths.make_private(paths.networks())
    try:
        try:
            return _try_to_use(plan, namespace)
        except (_Ended, ConnectionError) as e:
            debug(f"network: {e}")  # it was killed before it has said a word, as the next one hardly will be
        return _try_to_use(plan, namespace)
    except OSError as e:
        raise SystemFailure(f"cannot make the shared network namespace: {reason(e)}") from e


def _try_to_use(plan: Plan, namespace: int) -> Use:
    """Raises SystemFailure, OSError."""
    if namespace < 0:
        _await_revival()
    with Lock(lock()):
        connection = _connect()
        if connection is None:
            _start(plan, namespace)
            connection = _connect()
    if connection is None:
        raise _Ended
    try:
        return _greeted(connection)
    except BaseException:
        connection.close()
        raise


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


def use_existing(patience: float = _SHORT_PATIENCE, *, revived: bool = False) -> Use | None:
    """Take hold of the shared namespace if there is one; its hub is to answer within some seconds.

    With `revived`, wait a moment for the successor of a hub that was killed.
    """
    if revived:
        _await_revival()
    connection = _connect()
    if connection is None:
        return None
    try:
        return _greeted(connection, patience)
    except (SystemFailure, OSError):
        connection.close()
        return None  # it was just about to end


def _greeted(connection: sockets.socket, patience: float = _PATIENCE) -> Use:
    connection.settimeout(patience)
    packet, fds = sockets.receive_fds(connection, 4096, 1)
    if packet[:1] != b"h" or len(fds) != 1:
        raise _Ended
    hello = jsontext.parse(packet[1:])
    return Use(connection, fds[0], Subnet(hello["base"]), hello["transparent"])


# -- another hub, for those who must not wait -------------------------------------------------------


def seek(plan: Plan, namespace: int) -> sockets.socket:
    """As `use`, by a child that goes on until it succeeds: `found` takes what it has, when there is something to read.

    Whoever closes that socket lets it end, after the present try. Raises OSError.
    """
    ours, theirs = sockets.packet_pair()
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        raise
    if pid == 0:
        try:
            # Before the descriptor goes by which its parent hears of signals.
            signals.set_wakeup_fd(-1)
            signals.reset()
            process.close_all_but({0, 1, 2, theirs.fileno(), namespace} | plan.keep)
            process.set_name("rdock-seeker")
            _seek(theirs, plan, namespace)
        finally:
            os._exit(0)
    theirs.close()
    return ours


def _seek(asking: sockets.socket, plan: Plan, namespace: int) -> None:
    pause = _FIRST_PAUSE
    while True:
        try:
            found = use(plan, namespace)
            break
        except SystemFailure as e:
            debug(f"network: {e.message}")
        poll = select.poll()
        poll.register(asking.fileno(), 0)
        if poll.poll(pause * 1000):
            return  # nobody asks any more
        pause = min(2 * pause, _MOST_PAUSE)
    told = jsontext.render({"base": found.subnet.base, "transparent": found.transparent})
    sockets.send_fds(asking, told.encode(), [found.connection.fileno(), found.namespace])


def found(answer: sockets.socket) -> Use:
    """What `seek` has come to. Raises SystemFailure if it was killed."""
    try:
        packet, fds = sockets.receive_fds(answer, 4096, 2)
    except OSError as e:
        raise SystemFailure(f"cannot make the shared network namespace: {reason(e)}") from e
    if len(fds) != 2:
        raise _Ended
    hello = jsontext.parse(packet)
    return Use(sockets.socket(fileno=fds[0]), fds[1], Subnet(hello["base"]), hello["transparent"])


# -- the way out -----------------------------------------------------------------------------------


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


def _start(plan: Plan, namespace: int) -> None:
    """Make a hub, and wait until it listens. Under the hub's lock. Raises SystemFailure, OSError."""
    told, telling = os.pipe2(os.O_CLOEXEC)
    middle = os.fork()
    if middle == 0:
        try:
            # Forked twice: it outlives whoever starts it, and is nobody's zombie.
            if os.fork() == 0:
                from rdock.network import hub_process

                hub_process.live(telling, plan, namespace)
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
