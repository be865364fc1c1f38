"""Who the user is to each registry: Docker's config.json, and the helpers that it names.

`docker`, `skopeo`, `podman` and rdock share a login. It is looked for in Docker's file, in the one that
REGISTRY_AUTH_FILE names, and where podman and skopeo keep theirs. It is written to Docker's, since all of them
read that one; to REGISTRY_AUTH_FILE if that is set and DOCKER_CONFIG is not, since podman and skopeo then read
nothing else. What others have in the file is kept as it is.
A name is compared as a whole: nothing that only contains it, or has another port, is the same registry.
"""

from __future__ import annotations

import base64
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from rdock import jsontext, launch, paths
from rdock.errors import InvalidParameter, SystemFailure, Unavailable, reason
from rdock.registry.endpoints import HUB, HUB_HOST
from rdock.state import record
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HUB_KEY = "https://index.docker.io/v1/"
_HUB_NAMES = (HUB, "index.docker.io", HUB_HOST)
_MAX_FILE = 4 << 20
# The name that a helper gives to an identity token (docker-credential-helpers).
_TOKEN_NAME = "<token>"


class Credentials(Value):
    """A user's name and secret; an identity token stands for both. Printed without the secrets."""

    username: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, ...)"

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token)


def lookup(host: str, repository: str = "") -> Credentials:
    """What is kept for a registry, or for this repository of it; empty if nothing is.

    Raises InvalidParameter for a file that cannot be understood, Unavailable for a helper that does not work:
    nobody is then taken for somebody else.
    """
    for path in paths.login_files():
        found = _in_file(path, host, repository)
        if found:
            return found
    return Credentials()


def store(host: str, who: Credentials) -> str:
    """Keep a login: the path of the file in which it is readable, or empty if a helper keeps it."""
    path = paths.login_files()[0]
    with _changing(path) as config:
        key = key_of(host)
        helper = _helper(config, key, path)
        if helper:
            secret = who.identity_token or who.password
            name = _TOKEN_NAME if who.identity_token else who.username
            _ask(helper, "store", jsontext.render({"ServerURL": key, "Username": name, "Secret": secret}), path)
            _table(config, "auths", path)[key] = {}
            return ""
        pair = f"{who.username}:{'' if who.identity_token else who.password}".encode("utf-8", "surrogateescape")
        entry: dict[str, Any] = {"auth": base64.b64encode(pair).decode()}
        if who.identity_token:
            entry["identitytoken"] = who.identity_token
        _table(config, "auths", path)[key] = entry
    return path


def erase(host: str) -> bool:
    """Forget a login, wherever it is kept; whether there was one."""
    found = False
    for path in paths.login_files():
        if not os.path.exists(path):
            continue
        with _changing(path) as config:
            table = _table(config, "auths", path)
            keys = [key for key in table if _same(key, host)]
            helper = _helper(config, key_of(host), path)
            if helper and (keys or _from_helper(helper, key_of(host), path)):
                for key in {key_of(host), *keys}:
                    _ask(helper, "erase", key, path)
                found = True
            for key in keys:
                del table[key]
                found = True
            if not table:
                config.pop("auths", None)
    return found


def key_of(host: str) -> str:
    """The name under which Docker keeps a registry's login."""
    return HUB_KEY if host in _HUB_NAMES else host


# -- files ---------------------------------------------------------------------------------------


def _in_file(path: str, host: str, repository: str) -> Credentials:
    config = _read(path)
    helper = _helper(config, key_of(host), path)
    if helper:
        found = _from_helper(helper, key_of(host), path)
        if found:
            return found
    table = _table(config, "auths", path)
    names = [key for key in table if _same(key, host)]
    # Podman's file may have a login for a part of a registry: the longest that is one counts.
    parts = repository.split("/") if repository else []
    shown = HUB if host in _HUB_NAMES else host
    inner = [f"{shown}/{'/'.join(parts[:n])}" for n in range(len(parts), 0, -1)]
    for key in (*inner, *names):
        if key in table:
            found = _decoded(table[key], path)
            if found:
                return found
    return Credentials()


def _same(key: str, host: str) -> bool:
    """Whether a key, which older versions of Docker wrote as a URL, is a registry's."""
    for scheme in ("https://", "http://"):
        if key.startswith(scheme):
            key = key.removeprefix(scheme).partition("/")[0]
    return key == host or (key in _HUB_NAMES and host in _HUB_NAMES)


def _decoded(entry: Any, path: str) -> Credentials:
    if not isinstance(entry, dict) or not all(
        isinstance(entry.get(k, ""), str) for k in ("auth", "identitytoken", "username", "password")
    ):
        raise InvalidParameter(f"{path}: invalid auth configuration file")
    token = entry.get("identitytoken", "")
    username, password = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth"):
        try:
            text = base64.b64decode(entry["auth"], validate=True).decode("utf-8", "surrogateescape")
        except ValueError:
            raise InvalidParameter(f"{path}: invalid auth configuration file") from None
        username, colon, password = text.partition(":")
        if not colon:
            raise InvalidParameter(f"{path}: invalid auth configuration file")
        password = password.strip("\0")
    return Credentials(username, "" if token else password, token)


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as e:
        raise SystemFailure(f"error loading config file: {path}: {reason(e)}") from e
    try:
        found = jsontext.parse(text) if text.strip() else {}
        if not isinstance(found, dict) or len(text) > _MAX_FILE:
            raise ValueError("not an object")
    except (ValueError, RecursionError) as e:
        # Not what is in it: a part of the text may be a secret.
        raise InvalidParameter(f"error loading config file: {path}: not valid JSON") from e
    return found


@contextmanager
def _changing(path: str) -> Iterator[dict[str, Any]]:
    """The file's content, to be changed; written back as a whole, for its owner alone, if it was.

    The directory is locked meanwhile, so that two logins at once are both kept. A file that is a link to
    another place (as in collections of dot files) stays one.
    """
    import json

    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise SystemFailure(f"cannot write {path}: {reason(e)}") from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        config = _read(path)
        before = json.dumps(config)
        yield config
        if json.dumps(config) != before:
            record.write_text(path, json.dumps(config, indent="\t", ensure_ascii=False) + "\n", durable=True)
    finally:
        os.close(fd)


def _table(config: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    found = config.setdefault(name, {})
    if found is None:
        found = config[name] = {}
    if not isinstance(found, dict):
        raise InvalidParameter(f"{path}: {name}: not an object")
    return found


# -- helpers -------------------------------------------------------------------------------------


def _helper(config: dict[str, Any], key: str, path: str) -> str:
    """The program that keeps a registry's login; empty if the file itself does."""
    helpers = config.get("credHelpers") or {}
    if not isinstance(helpers, dict):
        raise InvalidParameter(f"{path}: credHelpers: not an object")
    host = HUB if key == HUB_KEY else key
    name = helpers.get(key) or helpers.get(host) or config.get("credsStore") or ""
    if not isinstance(name, str) or "/" in name or name.startswith(".") or "\0" in name:
        raise InvalidParameter(f"{path}: invalid name of a credential helper: {str(name)[:100]!r}")
    return f"docker-credential-{name}" if name else ""


def _from_helper(helper: str, key: str, path: str) -> Credentials:
    answer = _ask(helper, "get", key, path)
    if not answer:
        return Credentials()
    try:
        found = jsontext.parse(answer)
        name, secret = found["Username"], found["Secret"]
        if not isinstance(name, str) or not isinstance(secret, str):
            raise ValueError
    except (ValueError, LookupError, TypeError, RecursionError):
        raise Unavailable(f"error getting credentials - {helper} does not answer as a credential helper") from None
    return Credentials("", "", secret) if name == _TOKEN_NAME else Credentials(name, secret)


def _ask(helper: str, verb: str, text: str, path: str) -> bytes:
    """A helper's answer; empty if it has nothing of that name. The secret goes by its standard input."""
    program = launch.find_program(helper)
    fix = f"{path} names it, as credsStore or in credHelpers"
    action = {"get": "getting", "store": "saving", "erase": "erasing"}[verb]
    if program is None:
        raise Unavailable(f"error {action} credentials - {helper}: executable file not found in $PATH", fix)
    code, answer = launch.converse([program, verb], text.encode("utf-8", "surrogateescape"))
    if code == 0:
        return answer
    if verb != "store" and b"credentials not found" in answer:
        return b""
    # What it says may be what it was told.
    raise Unavailable(f"error {action} credentials - {helper} {verb}: exit status {code}", fix)
