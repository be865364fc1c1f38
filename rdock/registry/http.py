"""Requests to servers, one at a time or with patience; urllib3's only door.

What crosses a redirect is decided here: it is followed for what only reads, never from https to http, and
authorization goes to the server it is meant for alone. Neither .netrc nor cookies are known. What a server
says of itself is never trusted: all that is read has a bound.
Used by several threads at once.
"""

from __future__ import annotations

import email.utils
import http.client
import os
import random
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3 import exceptions

from rdock import __version__, launch
from rdock.errors import DataLoss, RegistryUnavailable, SystemFailure, reason
from rdock.registry import endpoints
from rdock.registry.answer import Answer, Late
from rdock.registry.endpoints import Tls

CHUNK = 1 << 20
# Seconds to wait for a connection, and for the next bytes of an answer.
TIMEOUT = urllib3.Timeout(connect=15, read=60)
# A server that has sent less than so many bytes a second in so many seconds of waiting is given up.
SLOWEST, WINDOW = 500.0, 60.0
ATTEMPTS = 5
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
_REDIRECTS = 5
_MAX_ERROR = 64 << 10
# Where certificates of authorities are, should OpenSSL have been built for another distribution than this.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

Body = bytes | Iterable[bytes] | None


class Unreachable(RegistryUnavailable):
    """A server that does not answer, or not as one should."""

    def __init__(self, message: str, *, transient: bool = False, distrusted: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
        """Whether it is worth another try."""
        self.distrusted = distrusted
        """Whether it was reached and its certificate does not hold."""


class Response:
    """An answer whose content has not been read yet; to be read to its end, or closed."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, url: str) -> None:
        self._raw = raw
        self.url = url
        self.status = raw.status

    def header(self, name: str) -> str:
        value: str = self._raw.headers.get(name, "")
        return value.strip()

    def headers(self, name: str) -> list[str]:
        """All of a name."""
        return list(self._raw.headers.getlist(name))

    def length(self) -> int:
        """What the server says of the size of its content; -1 if nothing."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdecimal() else -1

    def pieces(self) -> Iterator[bytes]:
        """The content as it comes. Raises Unreachable when it ends early."""
        try:
            # By what has arrived, not by full pieces, or a server that drips would hold us for as long as it likes.
            count, spent, before = 0, 0.0, time.monotonic()
            while piece := self._raw.read1(CHUNK, decode_content=False):
                count, spent = count + len(piece), spent + time.monotonic() - before
                if spent > WINDOW:
                    if count < WINDOW * SLOWEST:
                        raise Unreachable(f'Get "{shown(self.url)}": too slow')
                    count, spent = 0, 0.0
                yield piece
                before = time.monotonic()
        except (exceptions.HTTPError, OSError, http.client.HTTPException) as e:
            raise Unreachable(f'Get "{shown(self.url)}": unexpected EOF', transient=True) from e
        finally:
            self._end()

    def _end(self) -> None:
        """Give the connection back if it is at its end, and close it if it is not."""
        try:
            if not self._raw.closed and getattr(self._raw, "length_remaining", None) != 0:
                self._raw.close()
            self._raw.release_conn()
        except (exceptions.HTTPError, OSError):
            self._raw.close()

    def content(self, limit: int) -> bytes:
        """All of it. Raises DataLoss if it is larger than `limit` bytes, Unreachable when it ends early."""
        found = bytearray()
        pieces = self.pieces()
        for piece in pieces:
            found += piece
            if len(found) > limit:
                self._raw.close()
                raise DataLoss(f"{shown(self.url)}: the answer is larger than {limit} bytes")
        return bytes(found)

    def close(self) -> None:
        """Done with it: a small rest is read, so that the connection can be used again."""
        try:
            self.content(_MAX_ERROR)
        except (RegistryUnavailable, DataLoss):
            pass

    def abandon(self) -> None:
        """Done with it, whatever is still to come."""
        self._raw.close()

    def retry_after(self) -> float:
        """The seconds that the server asks to wait (RFC 9110, 10.2.3), as a number or as a date; -1 if it does not."""
        text = self.header("Retry-After")
        if text.isascii() and text.isdecimal():
            return float(text[:12])
        try:
            return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            return -1.0


class Transport:
    """Connections to any number of servers, kept open between requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._managers: dict[tuple[Tls, str], urllib3.PoolManager] = {}

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body = None,
        *,
        authorization: str = "",
        stays: bool = False,
    ) -> Response:
        """Make a request and, if it only reads, follow where it is sent on to.

        `authorization` is given to the server of `url` and to no other; with `stays` no other is asked at all.
        Raises Unreachable.

        Registries give out blobs from other servers (CDNs, S3), also a public one from a network inside, and Docker
        and containerd follow them anywhere. So does this: it only reads, nothing of the user's goes along, and what
        comes back goes to nobody else.
        """
        at = origin(url)
        for _ in range(_REDIRECTS + 1):
            allowed = {"Authorization": authorization} if authorization and origin(url) == at else {}
            response = self._send(method, url, {**headers, **allowed}, body)
            location = response.header("Location")
            if response.status not in (301, 302, 303, 307, 308) or not location or method not in ("GET", "HEAD"):
                return response
            response.close()
            before, url = url, joined(url, location)
            check_step(before, url)
            if stays and origin(url) != at:
                raise Unreachable(f"{shown(before)}: redirects to {shown(url)[:200]}, which is refused")
        raise Unreachable(f'{method.title()} "{shown(url)}": stopped after {_REDIRECTS} redirects')

    def send_patiently(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        authorization: str = "",
        attempts: int = ATTEMPTS,
        stays: bool = False,
    ) -> Response:
        """As `send`, again and again while the server is busy or connections break, ever more slowly."""
        for attempt in range(attempts):
            is_last = attempt + 1 == attempts
            wait = pause(attempt)
            try:
                response = self.send(method, url, headers, body, authorization=authorization, stays=stays)
                if is_last or not is_busy(response):
                    return response
                asked = response.retry_after()
                if asked > LONGEST_WAIT:
                    return response
                wait = max(asked, wait)
                response.close()
            except Unreachable as e:
                if is_last or not e.transient:
                    raise
            launch.debug(f"{method} {shown(url)}: again in {wait:.1f} seconds")
            time.sleep(wait)
        raise AssertionError("no attempt was made")

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> Response:
        scheme, host, port = origin(url)
        manager = self._manager(scheme, host, port)
        every = {"User-Agent": f"rdock/{__version__}", "Accept-Encoding": "identity", **headers}
        try:
            raw = manager.request(
                method, url, body=body, headers=every, preload_content=False, redirect=False, retries=False
            )
        except (exceptions.HTTPError, OSError, http.client.HTTPException, ValueError) as e:
            found = _failure(method, url, e)
            launch.debug(found.message)
            raise found from e
        launch.debug(f"{method} {shown(url)}: {raw.status}")
        return Response(raw, url)

    def _manager(self, scheme: str, host: str, port: int) -> urllib3.PoolManager:
        name = f"[{host}]" if ":" in host else host
        proxy = "" if urllib.request.proxy_bypass(f"{name}:{port}") else urllib.request.getproxies().get(scheme, "")
        if endpoints.is_loopback(name):
            proxy = ""
        usual = port == (443 if scheme == "https" else 80)
        tls = endpoints.tls(name if usual else f"{name}:{port}") if scheme == "https" else Tls()
        with self._lock:
            found = self._managers.get((tls, scheme + proxy))
            if found is None:
                found = self._managers[tls, scheme + proxy] = _make_manager(scheme, tls, proxy)
            return found


class _Connection(urllib3.connection.HTTPConnection):
    response_class = Answer


class _SecureConnection(urllib3.connection.HTTPSConnection):
    response_class = Answer


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


def _make_manager(scheme: str, tls: Tls, proxy: str) -> urllib3.PoolManager:
    context = _context(tls) if scheme == "https" else None
    settings: dict[str, Any] = {"num_pools": 32, "maxsize": 8, "timeout": TIMEOUT}
    manager = (
        _through_proxy(proxy if "://" in proxy else f"http://{proxy}", context, settings)
        if proxy
        else urllib3.PoolManager(ssl_context=context, **settings)
    )
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return manager


def _through_proxy(proxy: str, context: ssl.SSLContext | None, settings: dict[str, Any]) -> urllib3.ProxyManager:
    """The user's name and password in its address are for the proxy alone."""
    try:
        parts = urllib3.util.parse_url(proxy)
        if not parts.host:
            raise ValueError
        who = parts.auth
        headers = urllib3.util.make_headers(proxy_basic_auth=unquote(who)) if who else None
        return urllib3.ProxyManager(proxy, ssl_context=context, proxy_headers=headers, **settings)
    except (exceptions.HTTPError, ValueError):
        # Not the address: there may be a password in it.
        raise Unreachable("the proxy that the environment names is not http(s)://HOST[:PORT]") from None


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not tls.verify:
        # Only that server's connections have this context, and warnings of a library are not for users.
        urllib3.disable_warnings(exceptions.InsecureRequestWarning)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_default_certs()
        known = [bundle for bundle in _BUNDLES if os.path.isfile(bundle)]
        if not context.cert_store_stats()["x509_ca"] and not os.path.isdir("/etc/ssl/certs") and known:
            context.load_verify_locations(known[0])
    for path in tls.authorities:
        try:
            context.load_verify_locations(path)
        except OSError as e:
            raise _unusable(path, e) from e
    for certificate, key in tls.certificates:
        try:
            context.load_cert_chain(certificate, key)
        except OSError as e:
            raise _unusable(certificate, e) from e
    return context


def _unusable(path: str, error: OSError) -> SystemFailure:
    if isinstance(error, ssl.SSLError):
        return SystemFailure(f"cannot read {path}: not a certificate, or its key is another one's")
    return SystemFailure(f"cannot read {path}: {reason(error)}")


# -- addresses -----------------------------------------------------------------------------------


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL (RFC 6454). Raises Unreachable for what is no plain http(s) URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}[parts.scheme]
        if not parts.hostname or "@" in parts.netloc or any(c in url for c in " \t\r\n\\"):
            raise ValueError
    except (ValueError, KeyError):
        raise Unreachable(f"not the address of a registry: {shown(url)[:200]}") from None
    return parts.scheme, parts.hostname, port


def joined(url: str, location: str) -> str:
    """Where a server's Location, or link, leads from a URL. Raises Unreachable for what leads nowhere."""
    try:
        return urljoin(url, location)
    except ValueError:
        raise Unreachable(f"{shown(url)}: sends on to what is no address: {shown(location)[:200]}") from None


def check_step(before: str, after: str) -> None:
    """Raise Unreachable if a server that was asked in secret sends on to where all can listen."""
    if origin(after)[0] == "http" and origin(before)[0] == "https":
        raise Unreachable(f"{shown(before)}: redirects from https to http, which is refused")


def shown(url: str) -> str:
    """A URL for the user, without its query, in which secrets may stand."""
    return url.partition("?")[0].partition("#")[0]


# -- failures ------------------------------------------------------------------------------------


def is_busy(response: Response) -> bool:
    return response.status in (429, 500, 502, 503, 504)


def pause(attempt: int) -> float:
    """Seconds before the next attempt: twice as long each time, by chance a little less, lest all come at once."""
    return float(min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * random.uniform(0.6, 1.0))


def _failure(method: str, url: str, error: Exception) -> Unreachable:
    """What went wrong in the words of Docker, which are Go's."""
    cause = _root(error)
    _, host, port = origin(url)
    transient = distrusted = False
    if isinstance(cause, ssl.SSLCertVerificationError):
        distrusted = True
        why = f"tls: failed to verify certificate: x509: {_distrust(cause, host)}"
    elif isinstance(cause, ssl.SSLError):
        not_tls = cause.reason in ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
        why = "http: server gave HTTP response to HTTPS client" if not_tls else f"tls: {_reason(cause)}"
    elif isinstance(cause, socket.gaierror):
        why = f"dial tcp: lookup {host}: no such host"
    elif isinstance(cause, ConnectionRefusedError):
        why = f"dial tcp {host}:{port}: connect: connection refused"
    elif isinstance(cause, Late):
        why = "too slow"
    elif isinstance(cause, TimeoutError | exceptions.TimeoutError):
        why, transient = "i/o timeout", True
    elif isinstance(cause, OSError) and cause.errno:
        why, transient = reason(cause), True
    elif isinstance(cause, http.client.HTTPException) and not isinstance(cause, OSError):
        why, transient = "malformed HTTP response", True
    elif isinstance(error, exceptions.LocationValueError | ValueError):
        why = "invalid URL"
    else:
        why, transient = "EOF", True
    return Unreachable(f'{method.title()} "{shown(url)}": {why}', transient=transient, distrusted=distrusted)


def _root(error: BaseException) -> BaseException:
    """The error at the bottom, which urllib3 wraps."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = [a for a in error.args if isinstance(a, BaseException)]
        inner += [e for e in (error.__cause__, error.__context__) if e is not None]
        known = [e for e in inner if isinstance(e, OSError | exceptions.HTTPError | http.client.HTTPException)]
        if isinstance(error, OSError) and not isinstance(error, exceptions.HTTPError):
            return error
        if not known:
            return error
        error = known[0]
    return error


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "handshake failure").lower().replace("_", " ")


def _distrust(error: ssl.SSLCertVerificationError, host: str) -> str:
    if error.verify_code in (18, 19, 20, 21):  # self-signed, or issued by somebody who is not known
        return "certificate signed by unknown authority"
    if error.verify_code in (62, 64):
        return f"certificate is not valid for {host}"
    return error.verify_message or "certificate does not hold"
