"""Searching registries: Docker Hub by its search API, others by the list of their repositories.

Only Docker Hub has something to search in; of others the names are gone through (`_catalog`, distribution
spec), which they may refuse. All that is found is made fit for a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import urlencode

from rdock import jsontext
from rdock.errors import DataLoss, InvalidParameter, NotFound, RdockError, printable
from rdock.image import reference
from rdock.registry import client, endpoints
from rdock.registry.endpoints import Endpoint
from rdock.registry.http import Response, Transport
from rdock.registry.session import Session, failure, first_error
from rdock.values import Value

_HUB_SEARCH = "https://index.docker.io/v1/search"
_MAX_ANSWER = 4 << 20
DEFAULT_LIMIT, MAX_LIMIT = 25, 100
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")


class Result(Value):
    """A repository that was found."""

    name: str
    description: str = ""
    stars: int = 0
    official: bool = False
    automated: bool = False


class Wanted(Value):
    """What results have to be."""

    stars: int = 0
    official: bool | None = None
    automated: bool | None = None

    def has(self, found: Result) -> bool:
        return (
            found.stars >= self.stars
            and self.official in (None, found.official)
            and self.automated in (None, found.automated)
        )


def filters(given: Iterable[str]) -> Wanted:
    """`stars=3`, `is-official=true`. Raises InvalidParameter in Docker's words."""
    wanted = Wanted()
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidParameter(
                f'invalid argument "{text}" for "-f, --filter" flag: bad format of filter (expected name=value)'
            )
        if key == "stars" and value.isascii() and value.isdecimal() and len(value) < 10:
            wanted = wanted._replace(stars=int(value))
        elif key in ("is-official", "is-automated") and value.lower() in _TRUE + _FALSE:
            wanted = wanted._replace(**{key.removeprefix("is-"): value.lower() in _TRUE})
        elif key in ("stars", "is-official", "is-automated"):
            raise InvalidParameter(f"invalid filter '{key}={value}'")
        else:
            raise InvalidParameter(f"invalid filter '{key}'")
    return wanted


def check_limit(limit: int) -> int:
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidParameter(f"limit {limit} is outside the range of [1, {MAX_LIMIT}]")
    return limit


def search(term: str, limit: int, wanted: Wanted) -> list[Result]:
    """Repositories at Docker Hub, or those at HOST for the term `HOST/term`. Raises RdockErrors as the client does."""
    if "://" in term:
        raise InvalidParameter(f"invalid repository name: repository name ({term[:200]}) should not have a scheme")
    host, rest = split(term)
    found = _on_hub(rest, limit) if host == endpoints.HUB else _in_catalog(host, rest)
    result: list[Result] = []
    for each in found:
        if wanted.has(each):
            result.append(each)
            if len(result) == limit:
                break
    return result


def split(term: str) -> tuple[str, str]:
    """`localhost:5000/app` → the registry and what is searched there; what is no registry's name is Docker Hub's."""
    first, slash, rest = term.partition("/")
    if not slash or not (any(c in first for c in ".:") or first == "localhost"):
        return endpoints.HUB, term
    if not reference.is_domain(first):
        raise InvalidParameter(f"invalid registry name: {first[:200]!r}")
    return endpoints.HUB if first in (endpoints.HUB, "index.docker.io") else first, rest


def tags(name: str, limit: int) -> tuple[str, list[str]]:
    """The full name of a repository, and the first of its tags."""
    parsed = reference.parse(name)
    if parsed.tag or parsed.digest:
        raise InvalidParameter(f"invalid repository name: {name[:200]!r} has a tag or a digest")
    found: list[str] = []
    for tag in client.Client(parsed.domain, parsed.path).tags():
        found.append(tag)
        if len(found) == limit:
            break
    return parsed.name, found


def _on_hub(term: str, limit: int) -> Iterator[Result]:
    url = f"{_HUB_SEARCH}?{urlencode({'q': term.removeprefix('library/'), 'n': limit})}"
    response = Transport().send_patiently("GET", url, {})
    if response.status != 200:
        raise failure(response, "Get", *first_error(response))
    try:
        found = jsontext.parse(response.content(_MAX_ANSWER))["results"] or []
        for each in found:
            yield Result(
                printable(str(each["name"])),
                printable(str(each.get("description") or "").replace("\n", " ").replace("\r", " ")),
                int(each.get("star_count") or 0),
                each.get("is_official") is True,
                each.get("is_automated") is True,
            )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError):
        raise DataLoss(f"{_HUB_SEARCH}: the answer is not one of a search") from None


def _in_catalog(host: str, term: str) -> Iterator[Result]:
    session = Session(Endpoint(host, ""))

    def refused(response: Response, _: str) -> RdockError:
        error = failure(response, "Get", *first_error(response))
        if response.status in (404, 405):
            return NotFound(f"registry {host} does not list its repositories")
        return error

    for page in client.pages(session, f"{session.base}_catalog?n=1000", ("registry:catalog:*",), refused):
        for name in client.items(page, "repositories"):
            if isinstance(name, str) and term.lower() in name.lower():
                yield Result(printable(f"{host}/{name}"))
