"""Logging in to a registry: whether it takes a name and a password, and what is kept of them."""

from __future__ import annotations

from rdock.errors import InvalidParameter, RdockError, Unauthorized
from rdock.image import reference
from rdock.registry import credentials, endpoints
from rdock.registry.credentials import Credentials
from rdock.registry.endpoints import Endpoint
from rdock.registry.http import shown
from rdock.registry.session import Session, failure, first_error


def host_of(server: str) -> str:
    """The registry that a user names: without scheme and path, as Docker takes it. Raises InvalidParameter."""
    host = server
    for scheme in ("https://", "http://"):
        host = host.removeprefix(scheme)
    host = host.partition("/")[0]
    if not host or not reference.is_domain(host):
        raise InvalidParameter(f"invalid registry name: {server[:200]!r}")
    return endpoints.HUB if host in ("index.docker.io", endpoints.HUB_HOST) else host


def authenticate(host: str, who: Credentials) -> Credentials:
    """Ask a registry whether it knows the user: what is to be kept, which is a token if it gives one.

    Raises Unauthorized, RegistryUnavailable.
    """
    server = endpoints.HUB_HOST if host == endpoints.HUB else host
    session = Session(Endpoint(server, ""), find=lambda: who)
    session.authority.offline = True
    try:
        response = session.request("GET", session.base)
    except Unauthorized as e:
        raise Unauthorized(f'Get "{shown(session.base)}": {e.message}') from None
    if response.status == 401:
        response.close()
        raise Unauthorized(f"login attempt to {shown(session.base)} failed with status: 401 Unauthorized")
    if response.status != 200:
        raise failure(response, "Get", *first_error(response))
    response.close()
    token = session.authority.refresh_token
    return Credentials(who.username, "", token) if token else who


def kept(host: str) -> Credentials:
    """The login that is there already; empty also if it cannot be read."""
    try:
        return credentials.lookup(endpoints.HUB_HOST if host == endpoints.HUB else host)
    except RdockError:
        return Credentials()
