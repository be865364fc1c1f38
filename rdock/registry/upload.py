"""The upload of one blob: begun, sent in parts, taken up again after a cut, closed (OCI distribution spec 1.1).

What the registry has is always asked of it, never assumed, unless it said so itself with the part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from urllib.parse import urlencode

from rdock import launch
from rdock.errors import DataLoss, RegistryUnavailable
from rdock.registry.http import ATTEMPTS, LONGEST_WAIT, Response, Unreachable, is_busy, joined, pause
from rdock.registry.session import Session

# Large enough that the way there and back is of no weight, and less than what stands before some registries
# lets through (100 MB).
PART = 64 << 20
# Less than so many bytes more are no progress.
ENOUGH = 64 << 10


class Refused(Exception):
    """The registry's answer is a refusal."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class Upload:
    """One blob on its way."""

    def __init__(
        self,
        session: Session,
        start: str,
        scopes: tuple[str, ...],
        digest: str,
        size: int,
        open_at: Callable[[int], Iterator[bytes]],
    ) -> None:
        self._session, self._start, self._scopes = session, start, scopes
        self._digest, self._size, self._open = digest, size, open_at
        self._location = ""
        self._offset = 0
        self._content: _Content | None = None

    def run(self) -> None:
        """Raises Refused, RegistryUnavailable, DataLoss."""
        failures = furthest = 0
        while True:
            try:
                if not self._location:
                    self._begin()
                while self._offset < self._size:
                    self._send_part()
                self._close()
                return
            except (_Broken, Unreachable) as e:
                # As long as it gets on, it is not given up; a part that is sent again and again is no progress, nor
                # are a few bytes.
                failures = 1 if self._offset - furthest >= ENOUGH else failures + 1
                furthest = max(furthest, self._offset)
                if failures >= ATTEMPTS or (isinstance(e, Unreachable) and not e.transient):
                    raise RegistryUnavailable(str(e)) from e
                wait = max(e.wait if isinstance(e, _Broken) else 0, pause(failures - 1))
                launch.debug(f"upload of {self._digest}: {e}: again in {wait:.1f} seconds")
                time.sleep(min(wait, LONGEST_WAIT))
                self._content = None
                self._ask_where()

    def _begin(self) -> None:
        response = self._session.request("POST", self._start, {"Content-Length": "0"}, scopes=self._scopes)
        if response.status != 202:
            raise Refused(response)
        self._offset = 0
        self._go_on(response)

    def _go_on(self, response: Response) -> None:
        location = response.header("Location")
        if location:
            self._location = self._session.url(joined(response.url, location))
        response.close()
        if not self._location:
            raise RegistryUnavailable(f"{self._start}: the registry does not say where to upload to")

    def _send_part(self) -> None:
        length = min(PART, self._size - self._offset)
        if self._content is None:
            self._content = _Content(self._open(self._offset))
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(length),
            "Content-Range": f"{self._offset}-{self._offset + length - 1}",
        }
        part = self._content.part(length)
        response = self._session.send_once("PATCH", self._location, headers, part, scopes=self._scopes)
        if response.status in (401, 416) or is_busy(response):
            wait = response.retry_after()
            response.close()
            raise _Broken(f"the registry answered {response.status}", wait)
        if response.status not in (201, 202, 204):
            raise Refused(response)
        if self._content.missing:
            raise DataLoss(f"{self._digest}: the content ends before its {self._size} bytes")
        there = end_of(response.header("Range"))
        self._go_on(response)
        if there >= 0 and there != self._offset + length != 1:
            raise _Broken(f"the registry has {there} bytes of {self._offset + length}")
        self._offset += length

    def _close(self) -> None:
        separator = "&" if "?" in self._location else "?"
        url = f"{self._location}{separator}{urlencode({'digest': self._digest})}"
        response = self._session.request("PUT", url, {"Content-Length": "0"}, scopes=self._scopes)
        # It may be the answer to a repetition, where the first one has done it.
        if response.status == 404 and self._is_there():
            response.close()
            return
        if response.status not in (201, 202, 204):
            raise Refused(response)
        said = response.header("Docker-Content-Digest") or self._digest
        response.close()
        if said != self._digest:
            raise DataLoss(f"the registry stored {said[:100]} for the blob {self._digest}")

    def _is_there(self) -> bool:
        url = joined(self._start, f"../{self._digest}")
        response = self._session.request("HEAD", url, scopes=self._scopes)
        response.close()
        return response.status == 200

    def _ask_where(self) -> None:
        """Ask how much has come; where the registry does not know, the upload begins anew."""
        if not self._location:
            return
        response = self._session.request("GET", self._location, scopes=self._scopes)
        there = end_of(response.header("Range"))
        if response.status not in (200, 204) or not 0 <= there <= self._size:
            response.close()
            self._location, self._offset = "", 0
            return
        self._go_on(response)
        self._offset = there


class _Broken(Exception):
    """It did not come through, and may the next time."""

    def __init__(self, text: str, wait: float = 0) -> None:
        super().__init__(text)
        self.wait = wait


class _Content:
    """Pieces of content, dealt out in parts of a given length."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""
        self.missing = 0

    def part(self, length: int) -> Iterator[bytes]:
        """The next bytes; where there are fewer, `missing` says how many, and the connection is of no more use."""
        self.missing = length
        while self.missing:
            piece = self._rest or next(self._pieces, b"")
            if not piece:
                raise DataLoss("the content of a blob ends before its size")
            piece, self._rest = piece[: self.missing], piece[self.missing :]
            self.missing -= len(piece)
            yield piece


def end_of(header: str) -> int:
    """`0-1023` (also with `bytes=`): 1024; -1 if it is no such range. `0-0` is what registries say of nothing."""
    first, _, last = header.removeprefix("bytes=").partition("-")
    if first != "0" or not (last.isascii() and last.isdecimal()):
        return -1
    return int(last[:18]) + 1 if int(last[:18]) else 0
