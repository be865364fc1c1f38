"""Authorization: what a registry asks for (RFC 9110, 11), and the header that satisfies it.

Basic (RFC 7617), or a Bearer token that another server gives out (Docker Registry v2 authentication: token,
oauth2). That server is named by the registry, so it is given no more than what is kept for this very registry,
and only where others cannot listen: see `check_realm`.
Used by several threads at once.
"""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

from rdock import jsontext
from rdock.errors import RegistryUnavailable, Unauthorized
from rdock.registry import endpoints
from rdock.registry.credentials import Credentials
from rdock.registry.http import Response, Transport, origin, shown
from rdock.values import Value

CLIENT_ID = "rdock"
_MAX_TOKEN = 1 << 20
# Seconds that a token is good for if its server does not say, which is also the least (spec), and those that
# the way to the registry may take.
_SHORTEST_LIFE, _MARGIN = 60, 5


class Challenge(Value):
    """One way in that a server offers: the scheme in lower case, and its parameters."""

    scheme: str
    parameters: dict[str, str]


class Authority:
    """The authorization of one user at one registry."""

    def __init__(self, transport: Transport, url: str, credentials: Callable[[], Credentials]) -> None:
        self._transport = transport
        self._url = url
        self._find = credentials
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None
        self._challenge: Challenge | None = None
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}
        self.refresh_token = ""
        """The identity token that the token server gave, if it was asked to (`offline`)."""
        self.offline = False

    def challenged(self, response: Response) -> bool:
        """Remember what a server that answered 401 asks for; whether it is something that can be given."""
        found = {challenge.scheme: challenge for challenge in parse(response.headers("WWW-Authenticate"))}
        with self._lock:
            self._challenge = found.get("bearer") or found.get("basic") or self._challenge
            return self._challenge is not None

    def header(self, scopes: Sequence[str] = ()) -> str:
        """The value of the header Authorization for requests of these scopes; empty if the registry asks for none.

        Raises Unauthorized, RegistryUnavailable.
        """
        with self._lock:
            challenge = self._challenge
            if challenge is None:
                return ""
            if challenge.scheme == "basic":
                if not self.credentials.username or not self.credentials.password:
                    raise Unauthorized("no basic auth credentials")
                return basic(self.credentials)
            key = tuple(sorted(set(scopes or challenge.parameters.get("scope", "").split())))
            token, end = self._tokens.get(key, ("", 0.0))
            if time.monotonic() >= end:
                token, end = self._fetch(challenge, key)
                self._tokens[key] = token, end
            return f"Bearer {token}"

    def forget(self, header: str) -> None:
        """A token did not satisfy: the next one is a new one."""
        with self._lock:
            self._tokens = {key: kept for key, kept in self._tokens.items() if f"Bearer {kept[0]}" != header}

    @property
    def credentials(self) -> Credentials:
        if self._credentials is None:
            self._credentials = self._find()
        return self._credentials

    def _fetch(self, challenge: Challenge, scopes: Sequence[str]) -> tuple[str, float]:
        """A new token, and the moment (monotonic) from which it is not used any more."""
        realm = challenge.parameters.get("realm", "")
        who = self.credentials
        check_realm(realm, self._url, has_secret=bool(who))
        fields = [("service", challenge.parameters["service"])] if "service" in challenge.parameters else []
        fields += [("scope", scope) for scope in scopes]
        if who.identity_token:
            response = self._exchange(realm, [*fields, ("refresh_token", who.identity_token)])
        else:
            response = self._ask(realm, fields, who)
        if response.status != 200:
            raise _refused(realm, response, who)
        return self._read(realm, response)

    def _ask(self, realm: str, fields: list[tuple[str, str]], who: Credentials) -> Response:
        more = [("client_id", CLIENT_ID)]
        if self.offline:
            more.append(("offline_token", "true"))
        if who.username:
            more.append(("account", who.username))
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode([*fields, *more])}"
        # What `check_realm` allows is that server, and none that it sends on to.
        authorization = basic(who) if who.username else ""
        return self._transport.send_patiently("GET", url, {}, authorization=authorization, stays=True)

    def _exchange(self, realm: str, fields: list[tuple[str, str]]) -> Response:
        """The way of OAuth 2 (RFC 6749, 6): scopes go into one field."""
        scope = " ".join(value for name, value in fields if name == "scope")
        rest = [(name, value) for name, value in fields if name != "scope"]
        form = [("grant_type", "refresh_token"), ("client_id", CLIENT_ID), ("scope", scope), *rest]
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._transport.send_patiently("POST", realm, headers, urlencode(form).encode())

    def _read(self, realm: str, response: Response) -> tuple[str, float]:
        now = time.monotonic()
        try:
            found = jsontext.parse(response.content(_MAX_TOKEN))
            token = found.get("token") or found.get("access_token")
            life = found.get("expires_in", 0)
            refresh = found.get("refresh_token", "")
            if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
                raise ValueError
        except (ValueError, RecursionError, AttributeError):
            raise RegistryUnavailable(f"{shown(realm)}: authorization server did not include a token") from None
        if isinstance(refresh, str) and refresh:
            self.refresh_token = refresh
        life = life if isinstance(life, (int, float)) and not isinstance(life, bool) else 0
        return token, now + min(max(_SHORTEST_LIFE, life), 86400) - _MARGIN


def basic(who: Credentials) -> str:
    return "Basic " + base64.b64encode(f"{who.username}:{who.password}".encode("utf-8", "surrogateescape")).decode()


def _refused(realm: str, response: Response, who: Credentials) -> Exception:
    """Why there is no token. What the server says is not repeated: it may repeat what it was told."""
    status = response.status
    response.close()
    if status in (400, 401, 403):
        why = "incorrect username or password" if who else "authentication required"
        return Unauthorized(f"unauthorized: {why}")
    return RegistryUnavailable(f'Get "{shown(realm)}": received unexpected HTTP status: {status}')


# -- who may see secrets -------------------------------------------------------------------------


def check_realm(realm: str, registry: str, *, has_secret: bool) -> None:
    """Raise RegistryUnavailable if the server of tokens that a registry names is none to be asked.

    A registry that was reached by https may not have the secret sent in clear; and one of the outside world
    may not have it, nor any request, sent to what is only reachable from here (CVE-2026-48978).
    `registry` is a URL of it.
    """
    try:
        scheme, host, port = origin(realm)
    except RegistryUnavailable:
        raise RegistryUnavailable(f"{shown(registry)}: names no token server: {shown(realm)[:200]!r}") from None
    own_scheme, own_host, own_port = origin(registry)
    if host == own_host and (scheme, port) == (own_scheme, own_port):
        return
    where = f"{shown(registry)}: names the token server {shown(realm)[:200]}"
    if scheme == "http" and own_scheme == "https":
        raise RegistryUnavailable(f"{where}, which is asked in clear text; this is refused")
    if scheme == "http" and has_secret and not endpoints.is_insecure(_named(host, port, scheme)):
        raise RegistryUnavailable(f"{where}, which is no insecure registry, in clear text; this is refused")
    if is_private(own_host):
        return
    if is_private(host):
        raise RegistryUnavailable(f"{where}, which is in a private network; this is refused")
    if port not in (443, own_port) and scheme == "https":
        raise RegistryUnavailable(f"{where}, which is at an unusual port; this is refused")


def _named(host: str, port: int, scheme: str) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port == (443 if scheme == "https" else 80) else f"{name}:{port}"


def is_private(host: str) -> bool:
    """Whether a host, or one of its addresses, is not one of the internet's."""
    if host == "localhost":
        return True
    address = endpoints.address_of(host)
    if address is not None:
        return not address.is_global
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False  # and it will not be reached; or only by a proxy
    addresses = [endpoints.address_of(str(entry[4][0]).partition("%")[0]) for entry in found]
    return any(address is not None and not address.is_global for address in addresses)


# -- WWW-Authenticate ----------------------------------------------------------------------------

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def parse(lines: Sequence[str]) -> list[Challenge]:
    """The challenges of WWW-Authenticate lines; what is malformed is left out from there on."""
    return [challenge for line in lines for challenge in _challenges(line[:16384])]


def _challenges(line: str) -> list[Challenge]:
    found: list[Challenge] = []
    rest = line.lstrip(" \t,")
    while rest:
        word, rest = _token(rest)
        if not word:
            break
        after = rest.lstrip(" \t")
        if not after.startswith("="):
            found.append(Challenge(word.lower(), {}))
            rest = after.lstrip(" \t,")
            continue
        value, rest = _value(after[1:].lstrip(" \t"))
        if value is None or not found:
            break
        found[-1].parameters.setdefault(word.lower(), value)
        rest = rest.lstrip(" \t,")
    return found


def _token(text: str) -> tuple[str, str]:
    end = 0
    while end < len(text) and text[end] in _TOKEN:
        end += 1
    return text[:end], text[end:]


def _value(text: str) -> tuple[str | None, str]:
    """A token or a quoted string, and what follows it."""
    if not text.startswith('"'):
        word, rest = _token(text)
        return word or None, rest
    characters: list[str] = []
    at = 1
    while at < len(text):
        if text[at] == '"':
            return "".join(characters), text[at + 1 :]
        if text[at] == "\\" and at + 1 < len(text):
            at += 1
        characters.append(text[at])
        at += 1
    return None, ""
