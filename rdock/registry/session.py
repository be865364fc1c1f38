"""One server that serves a registry: how it is reached, and requests to it that are authorized and patient.

https is tried first; http is only spoken to those that may do without (endpoints.is_insecure), as in Docker.
Used by several threads at once.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Mapping, Sequence

from rdock import jsontext
from rdock.errors import (
    DataLoss,
    Forbidden,
    InvalidParameter,
    NotFound,
    RdockError,
    RegistryUnavailable,
    Unauthorized,
)
from rdock.registry import credentials, endpoints
from rdock.registry.auth import Authority
from rdock.registry.credentials import Credentials
from rdock.registry.endpoints import Endpoint
from rdock.registry.http import (
    ATTEMPTS,
    Body,
    Response,
    Transport,
    Unreachable,
    check_step,
    is_busy,
    joined,
    origin,
    shown,
)

_MAX_ERROR = 64 << 10
_MAX_TOLD = 300


class Session:
    """What is known of a server, and the connections to it."""

    def __init__(
        self, endpoint: Endpoint, transport: Transport | None = None, find: Callable[[], Credentials] | None = None
    ) -> None:
        """`find` tells who the user is, if not the one whose login is kept."""
        self.endpoint = endpoint
        self._find = find
        self.transport = transport or Transport()
        self._lock = threading.Lock()
        self._base = ""
        self._authority: Authority | None = None
        # Of what there is another one of, not much is hoped.
        self.attempts = 2 if endpoint.mirror else ATTEMPTS
        """How often a request is made that may be repeated."""

    @property
    def base(self) -> str:
        """The URL of the API, with `/v2/` at its end; the server is looked for at the first use."""
        return self._reached()[0]

    @property
    def authority(self) -> Authority:
        return self._reached()[1]

    def request(
        self,
        method: str,
        where: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        scopes: Sequence[str] = (),
    ) -> Response:
        """A request to a path below `/v2/`, or to a URL that this server has named; the answer, whatever it is.

        Again on a server that is busy, and once more with another token if the first is not accepted.
        Raises Unauthorized, RegistryUnavailable.
        """
        base, authority = self._reached()
        url = self.url(where)
        for is_again in (False, True):
            authorization = authority.header(scopes) if origin(url) == origin(base) else ""
            response = self.transport.send_patiently(
                method, url, headers or {}, body, authorization=authorization, attempts=self.attempts
            )
            if response.status != 401 or is_again or not self._is_worth_another(response, authorization):
                break
            response.close()
        return response

    def send_once(
        self, method: str, where: str, headers: Mapping[str, str], body: Body, *, scopes: Sequence[str]
    ) -> Response:
        """A request whose body is there only once: neither repeated nor sent on."""
        base, authority = self._reached()
        url = self.url(where)
        authorization = authority.header(scopes) if origin(url) == origin(base) else ""
        response = self.transport.send(method, url, headers, body, authorization=authorization)
        if response.status == 401:
            authority.challenged(response)
            authority.forget(authorization)
        return response

    def url(self, where: str) -> str:
        """The URL of a path below `/v2/`; one that the server named (a Location) may be another server's."""
        found = joined(self.base, where)
        check_step(self.base, found)
        return found

    def _is_worth_another(self, response: Response, authorization: str) -> bool:
        _, authority = self._reached()
        if not authority.challenged(response):
            return False
        authority.forget(authorization)
        return not authorization.startswith("Basic ")

    def _reached(self) -> tuple[str, Authority]:
        with self._lock:
            if self._authority is None:
                self._base, self._authority = self._reach()
            return self._base, self._authority

    def _reach(self) -> tuple[str, Authority]:
        """Ask the server whether it is one (`GET /v2/`), and what it wants."""
        endpoint = self.endpoint
        schemes = ("https", "http") if endpoints.is_insecure(endpoint.host) else ("https",)
        if endpoint.scheme:
            schemes = (endpoint.scheme,)
        for scheme in schemes:
            base = f"{scheme}://{endpoint.host}{endpoint.path}/v2/"
            try:
                is_last = scheme == schemes[-1]
                response = self.transport.send_patiently("GET", base, {}, attempts=self.attempts if is_last else 1)
                break
            except Unreachable as e:
                # That somebody else answers is no reason to speak more openly.
                if is_last or e.distrusted:
                    raise
        authority = Authority(self.transport, base, self._find or _from_files(endpoint))
        if response.status == 401:
            authority.challenged(response)
        if is_busy(response):
            raise failure(response, "Get", *first_error(response))
        response.close()
        return base, authority


def _from_files(endpoint: Endpoint) -> Callable[[], Credentials]:
    return lambda: credentials.lookup(endpoint.host, endpoint.repository)


# -- what a registry answers ---------------------------------------------------------------------


def first_error(response: Response) -> tuple[str, str]:
    """Code and text of the first error in an answer (distribution spec: Error Codes): `manifest unknown: …`."""
    try:
        found = jsontext.parse(response.content(_MAX_ERROR))["errors"][0]
        code = found["code"]
        message = found.get("message") or found["code"].lower().replace("_", " ")
        if not isinstance(code, str) or not isinstance(message, str):
            return "", ""
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, DataLoss, RegistryUnavailable):
        return "", ""
    return code[:64], f"{code[:64].lower().replace('_', ' ')}: {message[:_MAX_TOLD]}"


def failure(response: Response, action: str, code: str = "", text: str = "") -> RdockError:
    """The error that an answer is; with the registry's own words for it (first_error), if there are some."""
    status = response.status
    phrase = http.client.responses.get(status, "")
    told = text or f'{action} "{shown(response.url)}": received unexpected HTTP status: {status} {phrase}'.rstrip()
    if status == 401 or code == "UNAUTHORIZED":
        return Unauthorized(text or "unauthorized: authentication required")
    if status == 403 or code == "DENIED":
        return Forbidden(text or "denied: requested access to the resource is denied")
    if status == 404:
        return NotFound(told)
    if status == 429 or status >= 500:
        return RegistryUnavailable(text or ("toomanyrequests: Too Many Requests" if status == 429 else told))
    return InvalidParameter(told) if 400 <= status < 500 else RegistryUnavailable(told)
