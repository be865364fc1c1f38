"""One repository at a registry: manifests, blobs and tags (OCI distribution spec 1.1, Docker Registry v2).

A Client asks the servers that stand for the registry in turn, mirrors first, for each manifest and each blob
anew. Requests are authorized, repeated and sent on where that helps (session.py); what comes is checked against
its digest, except blobs, whose reader does that as it reads.
Several threads may share one.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import quote, urlencode

from rdock import jsontext, launch
from rdock.errors import DataLoss, Forbidden, InvalidParameter, NotFound, RdockError, RegistryUnavailable, Unauthorized
from rdock.image import reference as names
from rdock.registry import endpoints, upload
from rdock.registry.http import Response, Transport, Unreachable, joined, origin, pause
from rdock.registry.session import Session, failure, first_error
from rdock.values import Value

T = TypeVar("T")

REST = 60.0
MAX_MANIFEST = 4 << 20
_MAX_PAGE, _MAX_PAGES = 4 << 20, 10_000
_PAGE = 1000
ACCEPT = (
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)


class Fetched(Value):
    """A manifest or an index, as it came."""

    media_type: str
    """What the server says it is; what it says itself where the server says nothing."""
    digest: str
    content: bytes


class Cut(Unreachable):
    """The connection ended before the blob did: to be resumed at where it was."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True)


class Client:
    """A repository at a registry."""

    def __init__(self, domain: str, repository: str, *, push: bool = False) -> None:
        """`domain` and `repository` as in a Reference: `docker.io`, `library/alpine`. Nothing is asked yet.

        With `push` the registry itself is asked for all, and for the right to write.
        """
        self.domain = domain
        self.repository = repository
        self._actions = "pull,push" if push else "pull"
        transport = Transport()
        self._sessions = [Session(e, transport) for e in endpoints.of_registry(domain, repository, push=push)]
        self._lock = threading.Lock()
        # How often each server failed with a blob, so that it is asked last for the same one.
        self._failed: dict[tuple[str, int], int] = {}
        # Which servers a blob has come from since it was begun, and which are not asked for it any more.
        self._sources: dict[str, set[int]] = {}
        self._distrusted: dict[str, set[int]] = {}
        # Until when (monotonic) a server that did not do its work is asked only if the others fail.
        self._rests: dict[int, float] = {}

    # -- manifests and tags ----------------------------------------------------------------------

    def manifest(self, reference: str) -> Fetched:
        """The manifest of a tag or a digest; its digest is checked.

        Raises NotFound, Unauthorized, Forbidden, RegistryUnavailable, DataLoss, InvalidParameter.
        """
        check_reference(reference)
        return self._first(lambda session: self._manifest(session, reference), reference)

    def _manifest(self, session: Session, reference: str) -> Fetched:
        for attempt in range(session.attempts):
            response = self._ask(session, "GET", f"manifests/{reference}", {"Accept": ACCEPT})
            if response.status != 200:
                raise self._failure(response, reference)
            try:
                content = response.content(MAX_MANIFEST)
                break
            except Unreachable as e:
                if attempt + 1 == session.attempts or not e.transient:
                    raise
                time.sleep(pause(attempt))
        digest = digest_of(content)
        claimed = reference if names.is_digest(reference) else response.header("Docker-Content-Digest")
        if claimed.startswith("sha256:") and claimed != digest:
            raise DataLoss(f"manifest verification failed for digest {claimed[:100]}")
        return Fetched(_media_type(response, content), digest, content)

    def head(self, reference: str) -> str:
        """The digest of what a tag or a digest names; empty if it is not there."""
        check_reference(reference)
        try:
            return self._first(lambda session: self._head(session, reference), reference)
        except NotFound:
            return ""

    def _head(self, session: Session, reference: str) -> str:
        response = self._ask(session, "HEAD", f"manifests/{reference}", {"Accept": ACCEPT})
        if response.status != 200:
            raise self._failure(response, reference)
        digest = response.header("Docker-Content-Digest")
        response.close()
        return digest if names.is_digest(digest) else self._manifest(session, reference).digest

    def put_manifest(self, reference: str, media_type: str, content: bytes) -> str:
        """Store a manifest under a tag or its digest: the digest that the registry says, which is checked."""
        check_reference(reference)
        session = self._sessions[-1]
        response = self._ask(session, "PUT", f"manifests/{reference}", {"Content-Type": media_type}, content)
        if response.status not in (200, 201, 202):
            raise self._failure(response, reference)
        digest = digest_of(content)
        said = response.header("Docker-Content-Digest") or digest
        response.close()
        if said != digest:
            raise DataLoss(f"the registry stored {said[:100]} for the manifest {digest}")
        return digest

    def tags(self) -> Iterator[str]:
        """All tags of the repository, page by page. Raises as `manifest`."""
        where = f"tags/list?n={_PAGE}"
        session = self._sessions[-1]
        first = self._url(session, where)
        for page in pages(session, first, self._scopes(session), self._failure):
            for tag in items(page, "tags"):
                if not isinstance(tag, str) or not names.is_tag(tag):
                    raise DataLoss(f"{self._familiar()}: the registry lists what is no tag: {str(tag)[:100]!r}")
                yield tag

    # -- blobs -----------------------------------------------------------------------------------

    def blob(self, digest: str, offset: int = 0) -> Iterator[bytes]:
        """The content of a blob from an offset on, in pieces of up to 1 MiB, unchecked.

        Raises Cut when it ends before its end, and as `manifest`.
        """
        check_digest(digest)
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response, number = self._open_blob(digest, headers)
        if response.status == 416:  # there is nothing from there on
            response.close()
            return
        skip = offset if response.status == 200 else 0
        if response.status == 206 and not response.header("Content-Range").startswith(f"bytes {offset}-"):
            response.abandon()
            raise DataLoss(f"{digest}: the registry answers with another range than was asked for")
        try:
            for piece in response.pieces():
                if skip >= len(piece):
                    skip -= len(piece)
                    continue
                yield piece[skip:] if skip else piece
                skip = 0
        except Unreachable as e:
            self._count_failure(digest, number)
            raise Cut(e.message) from e

    def distrust(self, digest: str) -> bool:
        """The blob that came under this digest was not what it should be: whether there is another server to ask.

        The mirrors that it came from are not asked for it again.
        """
        itself = len(self._sessions) - 1
        with self._lock:
            sources = self._sources.pop(digest, set())
            mirrors = sources - {itself}
            self._distrusted.setdefault(digest, set()).update(mirrors)
        for number in sources:
            launch.debug(f"not what {digest} should be, from {self._sessions[number].endpoint.host}")
        return bool(mirrors)

    def _open_blob(self, digest: str, headers: dict[str, str]) -> tuple[Response, int]:
        def open_at(session: Session) -> tuple[Response, int]:
            response = self._ask(session, "GET", f"blobs/{digest}", headers)
            if response.status not in (200, 206, 416) or (response.status == 416 and not headers):
                raise self._failure(response, digest, "blob")
            number = self._sessions.index(session)
            with self._lock:
                if not headers:
                    self._sources[digest] = set()
                self._sources.setdefault(digest, set()).add(number)
            return response, number

        return self._first(open_at, digest)

    def has_blob(self, digest: str) -> int:
        """The size of a blob at the registry itself; -1 if it is not there."""
        check_digest(digest)
        session = self._sessions[-1]
        response = self._ask(session, "HEAD", f"blobs/{digest}")
        if response.status == 404:
            response.close()
            return -1
        if response.status != 200:
            raise self._failure(response, digest, "blob")
        size = response.length()
        response.close()
        return size

    def mount_blob(self, digest: str, source: str) -> bool:
        """Have a blob of another repository of this registry in this one too; whether it is there now."""
        check_digest(digest)
        session = self._sessions[-1]
        where = f"blobs/uploads/?{urlencode({'mount': digest, 'from': source})}"
        scopes = (*self._scopes(session), f"repository:{source}:pull")
        try:
            response = self._ask(session, "POST", where, scopes=scopes)
        except RdockError as e:
            launch.debug(f"no mount from {source}: {e.message}")
            return False  # what is really wrong the upload tells
        if response.status != 202:
            response.close()
            return response.status == 201
        # It has begun an upload instead, which is of no use: who uploads does not know of this one.
        location = joined(response.url, response.header("Location"))
        response.close()
        try:
            session.request("DELETE", location, scopes=self._scopes(session)).close()
        except RdockError as e:
            launch.debug(f"an upload remains: {e.message}")
        return False

    def upload_blob(self, digest: str, size: int, open_at: Callable[[int], Iterator[bytes]]) -> None:
        """Store a blob; `open_at(offset)` gives its content from there on, and is asked again after a cut.

        Raises as `manifest`, and DataLoss if the content is not of that digest.
        """
        check_digest(digest)
        session = self._sessions[-1]
        start = self._url(session, "blobs/uploads/")
        job = upload.Upload(session, start, self._scopes(session), digest, size, open_at)
        try:
            job.run()
        except upload.Refused as e:
            raise self._failure(e.response, digest, "blob") from None

    # -- asking ----------------------------------------------------------------------------------

    def _name(self, session: Session) -> str:
        return session.endpoint.repository

    def _scopes(self, session: Session) -> tuple[str, ...]:
        return (f"repository:{self._name(session)}:{self._actions}",)

    def _url(self, session: Session, where: str) -> str:
        return f"{session.base}{quote(self._name(session), safe='/')}/{where}"

    def _ask(
        self,
        session: Session,
        method: str,
        where: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        scopes: tuple[str, ...] = (),
    ) -> Response:
        scopes = scopes or self._scopes(session)
        return session.request(method, self._url(session, where), headers, body, scopes=scopes)

    def _first(self, ask: Callable[[Session], T], what: str) -> T:
        """The answer of the first server that has one; else the error of the last, the registry itself."""
        unwanted = "tag-only" if names.is_digest(what) else "digest-only"
        with self._lock:
            now = time.monotonic()
            resting = [now < self._rests.get(i, 0) for i in range(len(self._sessions))]
            order = sorted(range(len(resting)), key=lambda i: (self._failed.get((what, i), 0), resting[i], i))
            distrusted = self._distrusted.get(what, set())
            order = [i for i in order if self._sessions[i].endpoint.only != unwanted and i not in distrusted]
        errors: dict[int, RdockError] = {}
        for i in order:
            try:
                return ask(self._sessions[i])
            except RdockError as e:
                errors[i] = self._explained(e)
                if isinstance(e, RegistryUnavailable):
                    with self._lock:
                        self._rests[i] = time.monotonic() + REST
            launch.debug(f"{self._sessions[i].endpoint.host} does not serve {what}: {errors[i].message}")
        raise errors[len(self._sessions) - 1]

    def _count_failure(self, what: str, number: int) -> None:
        with self._lock:
            self._failed[what, number] = self._failed.get((what, number), 0) + 1

    # -- errors in Docker's words ----------------------------------------------------------------

    def _familiar(self) -> str:
        return names.Reference(self.domain, self.repository).familiar_name

    def _failure(self, response: Response, reference: str, asked: str = "manifest") -> RdockError:
        code, text = first_error(response)
        error = failure(response, "Get", code, text)
        if isinstance(error, NotFound):
            return self._not_found(reference, code, text, asked)
        return self._explained(error)

    def _not_found(self, reference: str, code: str, text: str, asked: str) -> NotFound:
        if code == "NAME_UNKNOWN":
            return NotFound(f"repository {self._familiar()} not found: {text}")
        separator = "@" if ":" in reference else ":"
        kind = "blob" if code == "BLOB_UNKNOWN" else asked
        unknown = text or f"{kind} unknown: {kind} unknown"
        return NotFound(f"{kind} for {self._familiar()}{separator}{reference} not found: {unknown}")

    def _explained(self, error: RdockError) -> RdockError:
        """What to do about it where access was refused, as Docker has it."""
        if not isinstance(error, Unauthorized | Forbidden) or "access denied" in error.message:
            return error
        where = "" if self.domain == endpoints.HUB else f" {self.domain}"
        if self._actions == "pull":
            why = f"pull access denied for {self._familiar()}, repository does not exist or may require 'rdock login'"
            return type(error)(f"{why}: {error.message}", f"rdock login{where}")
        return type(error)(error.message, f"rdock login{where}")


def pages(
    session: Session, url: str, scopes: tuple[str, ...], failed: Callable[[Response, str], RdockError]
) -> Iterator[dict[str, object]]:
    """The pages of a list (distribution spec: Content Discovery; RFC 8288), from `url` on."""
    for _ in range(_MAX_PAGES):
        response = session.request("GET", url, scopes=scopes)
        if response.status != 200:
            raise failed(response, "")
        following = next_page(response.header("Link"))
        try:
            page = jsontext.parse(response.content(_MAX_PAGE))
            if not isinstance(page, dict):
                raise ValueError
        except (ValueError, RecursionError):
            raise DataLoss(f"{url}: the registry does not answer with a list") from None
        yield page
        if not following:
            return
        after = joined(url, following)
        if origin(after) != origin(url) or after == url:
            raise DataLoss(f"{url}: the registry's list goes on elsewhere")
        url = after
    raise DataLoss(f"{url}: the registry's list does not end")


def items(page: dict[str, object], key: str) -> list[object]:
    """The items of a page; none where the server has null, as for a repository without tags."""
    found = page.get(key)
    return found if isinstance(found, list) else []


def next_page(link: str) -> str:
    """The target of `<…>; rel="next"`; empty if there is none."""
    target, _, parameters = link.partition(">")
    is_next = any(p.strip().lower().replace('"', "").replace(" ", "") == "rel=next" for p in parameters.split(";"))
    return target[1:] if target.startswith("<") and is_next else ""


def check_reference(reference: str) -> None:
    if not names.is_tag(reference) and not names.is_digest(reference):
        raise InvalidParameter(f"invalid reference format: {reference[:200]!r} is neither a tag nor a digest")


def check_digest(digest: str) -> None:
    names.digest_hex(digest)


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _media_type(response: Response, content: bytes) -> str:
    found = response.header("Content-Type").partition(";")[0].strip().lower()
    if found not in ("", "application/json", "application/octet-stream", "text/plain", "binary/octet-stream"):
        return found[:255]
    try:
        said = jsontext.parse(content)["mediaType"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return found
    return said if isinstance(said, str) else found
