"""login, logout, search: the commands that speak with registries about no image."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from rdock.cli import output
from rdock.cli.usage import Options
from rdock.errors import InvalidParameter, RdockError, printable
from rdock.registry import credentials, endpoints
from rdock.registry import login as logins
from rdock.registry import search as searching
from rdock.registry.credentials import Credentials
from rdock.registry.search import Result

_MAX_PASSWORD = 64 << 10

LOGIN_TEXT = """\
Usage:  rdock login [OPTIONS] [SERVER]

Authenticate to a registry.
Defaults to Docker Hub if no server is specified.

Options:
  -p, --password string   Password or Personal Access Token (PAT)
      --password-stdin    Take the Password or Personal Access Token (PAT) from stdin
  -u, --username string   Username
"""


def login(options: Options) -> int:
    host = logins.host_of(options.arguments[0]) if options.arguments else endpoints.HUB
    username, password = options.text("--username") or "", options.text("--password")
    if options.flag("--password-stdin"):
        if password is not None:
            raise InvalidParameter("--password and --password-stdin are mutually exclusive")
        if not username:
            raise InvalidParameter("Must provide --username with --password-stdin")
        password = _from_stdin()
    elif password is not None:
        sys.stderr.write("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n")
    before = logins.kept(host)
    if before and not password and username in ("", before.username):
        sys.stdout.write("Authenticating with existing credentials...\n")
        sys.stdout.flush()
        try:
            return _keep(host, logins.authenticate(host, before))
        except RdockError as e:
            if not os.isatty(0):
                raise
            sys.stderr.write(f"Login did not succeed, error: {printable(e.message)}\n")
    if not username or not password:
        username, password = _ask(host, username, before.username, password or "")
    return _keep(host, logins.authenticate(host, Credentials(username, password)))


def _keep(host: str, who: Credentials) -> int:
    path = credentials.store(host, who)
    if path and not who.identity_token:
        sys.stderr.write(
            f"\nWARNING! Your credentials are stored unencrypted in '{printable(path)}'.\n"
            "Configure a credential helper to remove this warning. See\n"
            "https://docs.docker.com/go/credential-store/\n\n"
        )
    sys.stdout.write("Login Succeeded\n")
    return 0


def _from_stdin() -> str:
    text = b""
    while len(text) <= _MAX_PASSWORD and (chunk := os.read(0, 65536)):
        text += chunk
    if len(text) > _MAX_PASSWORD:
        raise InvalidParameter(f"the password on stdin is larger than {_MAX_PASSWORD} bytes")
    return text.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")


def _ask(host: str, username: str, default: str, password: str) -> tuple[str, str]:
    """Name and password from the terminal, the password without echo."""
    if not os.isatty(0):
        raise InvalidParameter("Cannot perform an interactive login from a non TTY device")
    if not username:
        if host == endpoints.HUB:
            sys.stdout.write(
                "Log in with your Docker ID or email address to push and pull images from Docker Hub. If you don't "
                "have a Docker ID, head over to https://hub.docker.com/ to create one.\n\n"
            )
        sys.stdout.write(f"Username ({printable(default)}): " if default else "Username: ")
        sys.stdout.flush()
        username = sys.stdin.readline().strip() or default
        if not username:
            raise InvalidParameter("Non-null Username Required")
    if not password:
        import getpass

        password = getpass.getpass("Password: ")
        if not password:
            raise InvalidParameter("Password Required")
    return username, password


LOGOUT_TEXT = """\
Usage:  rdock logout [SERVER]

Log out from a registry.
If no server is specified, the default is defined by the daemon.
"""


def logout(options: Options) -> int:
    host = logins.host_of(options.arguments[0]) if options.arguments else endpoints.HUB
    shown = credentials.key_of(host)
    if credentials.erase(host):
        sys.stdout.write(f"Removing login credentials for {shown}\n")
    else:
        sys.stdout.write(f"Not logged in to {shown}\n")
    return 0


SEARCH_TEXT = """\
Usage:  rdock search [OPTIONS] TERM

Search Docker Hub for images

Options:
  -f, --filter filter   Filter output based on conditions provided
      --format string   Pretty-print search using a Go template
      --limit int       Max number of search results
      --list-tags       List the tags of the repository TERM
      --no-trunc        Don't truncate output

At another registry than Docker Hub, HOST/TERM finds the repositories whose names contain TERM.
"""

_COLUMNS = {"Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL"}
_DESCRIPTION = 45


def search(options: Options) -> int:
    limit = options.number("--limit")
    limit = searching.check_limit(searching.DEFAULT_LIMIT if limit is None else limit)
    wanted = searching.filters(options.list("--filter"))
    term = options.arguments[0]
    if options.flag("--list-tags"):
        name, tags = searching.tags(term, limit)
        lines = [output.Row((name, tag), _TAG_FIELDS, "*formatter.searchContext") for tag in tags]
        output.show(lines, {"Name": "NAME", "Tag": "TAG"}, options)
        return 0
    fields = dict(_FIELDS)
    if not options.flag("--no-trunc"):
        fields["Description"] = lambda found: _shortened(found.description)
    if options.text("--format") == "json":
        fields |= {name: _spelled(function) for name, function in _SWITCHES.items()}
    rows = [output.Row(found, fields, "*formatter.searchContext") for found in searching.search(term, limit, wanted)]
    output.show(rows, _COLUMNS, options)
    return 0


def _shortened(text: str) -> str:
    return text if len(text) <= _DESCRIPTION else text[: _DESCRIPTION - 1] + "…"


def _spelled(is_so: Callable[[Result], bool]) -> Callable[[Result], str]:
    return lambda found: "true" if is_so(found) else "false"


def _ticked(is_so: Callable[[Result], bool]) -> Callable[[Result], str]:
    return lambda found: "[OK]" if is_so(found) else ""


_SWITCHES: dict[str, Callable[[Result], bool]] = {
    "IsOfficial": lambda found: found.official,
    "IsAutomated": lambda found: found.automated,
}
_FIELDS: dict[str, Callable[[Result], object]] = {
    "Name": lambda found: found.name,
    "Description": lambda found: found.description,
    "StarCount": lambda found: str(found.stars),
    **{name: _ticked(function) for name, function in _SWITCHES.items()},
}
_TAG_FIELDS: output.Table = {"Name": lambda found: found[0], "Tag": lambda found: found[1]}
