"""Questions that are passed on: to the first server, and to the next if it is silent or cannot tell.

Each question goes out from a socket of its own, so from a port that nobody can guess, with a number that nobody can
guess (RFC 5452). A server that is late is still listened to while the next is asked.
"""

from __future__ import annotations

import os

from rdock.linux import sockets
from rdock.network import dns_message as message
from rdock.network import resolvers, watch
from rdock.network.shares import Shares
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from rdock.network.watch import Watch

# Seconds until the next server is asked; until nobody is waited for any more. A client asks again after five.
_RETRY, _LAST = 2.0, 4.0
# Datagrams looked at before others have their turn: who floods a port with false answers delays nobody else.
_AT_ONCE = 8
_UNABLE = (message.FORMERR, message.SERVFAIL, message.NOTIMP, message.REFUSED)


class Question(Value):
    """What is to be asked of others."""

    key: Hashable
    """Two questions at a time do not have the same."""
    container: str
    """Who asks."""
    link: str
    """By which it came."""
    servers: list[str]
    """Whom to ask, in order."""
    near: frozenset[str]
    """Those of them that are on a network of the container."""
    text: bytes
    """The client's message, which is passed on as it is but for its number."""
    query: message.Query
    stream: bool
    """By TCP, as it came."""
    reply: Callable[[bytes | None], None]
    """Called with the answer, with the client's number; with None if there is none. Never during `ask`."""


class _Asked:
    """A question, and whom it was put to."""

    def __init__(self, question: Question, servers: list[str]) -> None:
        self.question = question
        self.left = servers
        self.attempts: list[_Attempt] = []
        """Under way, the eldest first; each has a place."""
        self.failure: bytes | None = None


class _Attempt:
    """A question as put to one server."""

    def __init__(self, asked: _Asked, server: str, connection: sockets.socket) -> None:
        self.asked, self.server, self.connection = asked, server, connection
        self.number = int.from_bytes(os.urandom(2), "big")
        text = message.renumbered(asked.question.text, self.number)
        self.unsent = len(text).to_bytes(2, "big") + text if asked.question.stream else text
        self.received = b""


class Upstream:
    """The questions that are waiting for answers of other servers.

    No more descriptors at a time than `most`, which containers share, and no more questions of each than a quarter.
    """

    def __init__(self, waiting: Watch, most: int, open_inside: Callable[[int, int], sockets.socket]) -> None:
        """`open_inside` makes sockets where the containers' networks are, by family and kind."""
        self._watch = waiting
        self._shares = Shares(most)
        self._open_inside = open_inside
        self._asked: dict[Hashable, _Asked] = {}

    def ask(self, question: Question) -> bool:
        """Whether it is being asked now, or was already; not if there is nobody to ask, or too much is waiting."""
        if question.key in self._asked:
            return True
        servers = question.servers
        # A datagram may be lost; a lone server gets another.
        again = servers if len(servers) == 1 and not question.stream else []
        asked = _Asked(question, [*servers, *again])
        if not self._ask_next(asked):
            return False
        self._asked[question.key] = asked
        return True

    def cancel(self, key: Hashable) -> None:
        """Wait no longer for the answer to a question."""
        asked = self._asked.get(key)
        if asked is not None:
            self._finish(asked)

    def close(self) -> None:
        for key in list(self._asked):
            self.cancel(key)

    def _ask_next(self, asked: _Asked) -> bool:
        """Ask the next server that can be asked; whether any is being asked."""
        while asked.left:
            if self._attempt(asked, asked.left.pop(0)):
                break
        if asked.attempts:
            self._watch.expect(asked, _RETRY if asked.left else _LAST, lambda: self._late(asked))
        return bool(asked.attempts)

    def _attempt(self, asked: _Asked, server: str) -> bool:
        if not self._make_room(asked):
            return False
        question = asked.question
        try:
            family, address = resolvers.endpoint(server)
            kind = sockets.SOCK_STREAM if question.stream else sockets.SOCK_DGRAM
            connection = (self._open_inside if server in question.near else sockets.socket)(family, kind)
        except OSError:
            self._shares.give_back(question.container, question.link)
            return False
        attempt = _Attempt(asked, server, connection)
        try:
            connection.setblocking(False)
            try:
                connection.connect(address)
            except BlockingIOError:
                pass
            if not asked.question.stream:
                connection.send(attempt.unsent)
        except OSError:
            connection.close()
            self._shares.give_back(question.container, question.link)
            return False
        asked.attempts.append(attempt)
        if asked.question.stream:
            self._watch.watch(connection.fileno(), watch.OUT, lambda _: self._send(attempt))
        else:
            self._watch.watch(connection.fileno(), watch.IN, lambda _: self._receive_datagrams(attempt))
        return True

    def _make_room(self, asked: _Asked) -> bool:
        """Take a place for an attempt. If there is none, another of the same question makes way: the eldest."""
        question = asked.question
        most = self._shares.most if asked.attempts else max(1, self._shares.most // 4)
        if not self._shares.take(question.container, question.link, most):
            if not asked.attempts:
                return False
            self._close(asked.attempts.pop(0))
        return True

    def _late(self, asked: _Asked) -> None:
        if not (asked.left and self._ask_next(asked)):
            self._conclude(asked, asked.failure)

    def _failed(self, attempt: _Attempt) -> None:
        asked = attempt.asked
        self._end_attempt(attempt)
        if asked.left:
            self._ask_next(asked)
        if not asked.attempts:
            self._conclude(asked, asked.failure)

    def _answered(self, attempt: _Attempt, text: bytes) -> None:
        asked = attempt.asked
        text = message.renumbered(text, asked.question.query.number)
        if message.code_of(text) not in _UNABLE:
            self._conclude(asked, text)
            return
        asked.failure = text
        asked.left = [server for server in asked.left if server != attempt.server]
        self._failed(attempt)

    def _conclude(self, asked: _Asked, text: bytes | None) -> None:
        self._finish(asked)
        asked.question.reply(text)

    def _finish(self, asked: _Asked) -> None:
        for attempt in list(asked.attempts):
            self._end_attempt(attempt)
        self._watch.drop(asked)
        self._asked.pop(asked.question.key, None)

    def _end_attempt(self, attempt: _Attempt) -> None:
        attempt.asked.attempts.remove(attempt)
        self._close(attempt)
        self._shares.give_back(attempt.asked.question.container, attempt.asked.question.link)

    def _close(self, attempt: _Attempt) -> None:
        self._watch.forget(attempt.connection.fileno())
        attempt.connection.close()

    # -- sockets ---------------------------------------------------------------------------------

    def _receive_datagrams(self, attempt: _Attempt) -> None:
        for _ in range(_AT_ONCE):
            try:
                text = attempt.connection.recv(message.LARGEST)
            except BlockingIOError:
                return
            except OSError:  # nobody listens there
                self._failed(attempt)
                return
            if message.is_answer(text, attempt.number, attempt.asked.question.query.question):
                self._answered(attempt, text)
                return

    def _send(self, attempt: _Attempt) -> None:
        try:
            attempt.unsent = attempt.unsent[attempt.connection.send(attempt.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._failed(attempt)
            return
        if not attempt.unsent:
            self._watch.watch(attempt.connection.fileno(), watch.IN, lambda _: self._receive(attempt))

    def _receive(self, attempt: _Attempt) -> None:
        size = 2 + int.from_bytes(attempt.received[:2], "big") if len(attempt.received) >= 2 else 2
        try:
            data = attempt.connection.recv(size - len(attempt.received))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        attempt.received += data
        if not data:
            self._failed(attempt)
        elif len(attempt.received) > 2 and len(attempt.received) == size:
            text = attempt.received[2:]
            if message.is_answer(text, attempt.number, attempt.asked.question.query.question):
                self._answered(attempt, text)
            else:
                self._failed(attempt)
