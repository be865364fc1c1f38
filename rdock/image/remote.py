"""A file from the web, for `import`: http and https only, through few redirects, with nothing of the user's."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

from rdock import __version__
from rdock.errors import InvalidParameter, SystemFailure, reason
from rdock.scope import scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any

_CHUNK = 1 << 20
_TIMEOUT = 60.0
"""Seconds in which nothing comes."""
_SCHEMES = ("http", "https")
_MAX_REDIRECTS = 10


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = _MAX_REDIRECTS

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = req.full_url.partition(":")[0].lower(), newurl.partition(":")[0].lower()
        if new not in _SCHEMES or (old == "https" and new != "https"):
            raise urllib.error.URLError(f"it leads from {old} to {new[:20]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@scope
def download(url: str) -> Iterator[Iterator[bytes]]:
    """The content that a URL leads to, piece by piece. Raises InvalidParameter, SystemFailure."""
    if url.partition(":")[0].lower() not in _SCHEMES:
        raise InvalidParameter(f"cannot import from {url}: not an http or https address")
    # An opener of our own: that of urllib reads file: and ftp: as well.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(), _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor(),
    ):  # fmt: skip
        opener.add_handler(handler)
    try:
        request = urllib.request.Request(url, headers={"User-Agent": f"rdock/{__version__}"})
        response = opener.open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as e:
        raise SystemFailure(f"cannot download {url}: {e.code} {e.reason}") from None
    except urllib.error.URLError as e:
        why = reason(e.reason) if isinstance(e.reason, OSError) else str(e.reason)
        raise SystemFailure(f"cannot download {url}: {why}") from None
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise SystemFailure(f"cannot download {url}: {_reason(e)}") from None
    try:
        yield _chunks(response, url)
    finally:
        response.close()


def _chunks(response: Any, url: str) -> Iterator[bytes]:
    announced = response.headers.get("Content-Length", "")
    size = 0
    try:
        while chunk := response.read(_CHUNK):
            size += len(chunk)
            yield chunk
    except (OSError, http.client.HTTPException) as e:
        raise SystemFailure(f"cannot download {url}: {_reason(e)}") from None
    if announced.isdecimal() and size < int(announced):
        raise SystemFailure(f"cannot download {url}: it ended after {size} of {announced} bytes")


def _reason(error: Exception) -> str:
    return reason(error) if isinstance(error, OSError) else str(error) or type(error).__name__
