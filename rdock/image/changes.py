"""Dockerfile instructions as `import --change` and `commit --change` take them: they alter the run part of a config.

Only the instructions that Docker allows there. The full language of Dockerfiles is not here.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from typing import Any

from rdock.errors import InvalidParameter

_SHELL = ["/bin/sh", "-c"]
# What a Go duration, and what docker takes for the number of retries, can hold.
_MAX_NANOSECONDS, _MAX_RETRIES = (1 << 63) - 1, (1 << 31) - 1


def apply_changes(run: dict[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """The run part of an image config (`config`) after these instructions. Raises InvalidParameter."""
    run = dict(run)
    for line in changes:
        word, _, rest = line.strip().partition(" ")
        apply = _INSTRUCTIONS.get(word.upper())
        if apply is None:
            raise InvalidParameter(f"{word or line} is not a valid change command")
        rest = _valid(rest.strip())
        if not rest:
            raise InvalidParameter(f"{word.upper()} requires at least one argument")
        if "\0" in rest:
            raise InvalidParameter(f"{word.upper()}: contains a NUL byte")
        apply(run, rest)
    return run


def _valid(text: str) -> str:
    """A text that JSON can hold: of bytes that are no UTF-8, and of halves of characters, Go makes U+FFFD, too."""
    return "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)


def _json_words(text: str) -> list[str] | None:
    """The words of the JSON form, a list of strings; None of what is none."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    if any("\0" in word for word in words):
        raise InvalidParameter(f"contains a NUL byte: {text}")
    return [_valid(word) for word in words]


def _command(text: str) -> list[str]:
    """The JSON form as it is, anything else as a line for the shell."""
    words = _json_words(text)
    return [*_SHELL, text] if words is None else words


def _words(text: str) -> list[str]:
    words = _json_words(text)
    if words is not None:
        return words
    try:
        return shlex.split(text)
    except ValueError as e:
        raise InvalidParameter(f"{str(e).lower()}: {text}") from None


def _pairs(instruction: str, text: str) -> dict[str, str]:
    """`KEY=value …`, or the old form `KEY value` with a single pair."""
    first = text.split(None, 1)
    if "=" not in first[0]:
        if len(first) < 2:
            raise InvalidParameter(f"{instruction} must have two arguments")
        return {first[0]: first[1]}
    pairs = {}
    for word in _words(text):
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise InvalidParameter(f"syntax error - can't find = in {word!r}. Must be of the form: name=value")
        pairs[key] = value
    return pairs


def _cmd(run: dict[str, Any], text: str) -> None:
    run["Cmd"] = _command(text)


def _entrypoint(run: dict[str, Any], text: str) -> None:
    run["Entrypoint"] = _command(text)


def _env(run: dict[str, Any], text: str) -> None:
    env = {item.partition("=")[0]: item for item in run.get("Env") or ()}
    env.update({key: f"{key}={value}" for key, value in _pairs("ENV", text).items()})
    run["Env"] = list(env.values())


def _label(run: dict[str, Any], text: str) -> None:
    run["Labels"] = {**(run.get("Labels") or {}), **_pairs("LABEL", text)}


def _expose(run: dict[str, Any], text: str) -> None:
    ports = dict(run.get("ExposedPorts") or {})
    for word in text.split():
        port, _, protocol = word.partition("/")
        protocol = protocol.lower() or "tcp"
        found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", port)
        if not found or protocol not in ("tcp", "udp", "sctp"):
            raise InvalidParameter(f"invalid containerPort: {word}")
        first, last = int(found[1]), int(found[2] or found[1])
        if not 0 < first <= last <= 65535:
            raise InvalidParameter(f"invalid containerPort: {word}")
        for number in range(first, last + 1):
            ports[f"{number}/{protocol}"] = {}
    run["ExposedPorts"] = ports


def _volume(run: dict[str, Any], text: str) -> None:
    run["Volumes"] = {**(run.get("Volumes") or {}), **{path: {} for path in _words(text)}}


def _workdir(run: dict[str, Any], text: str) -> None:
    current = run.get("WorkingDir") or "/"
    run["WorkingDir"] = text if text.startswith("/") else current.rstrip("/") + "/" + text


def _user(run: dict[str, Any], text: str) -> None:
    run["User"] = text


def _stop_signal(run: dict[str, Any], text: str) -> None:
    run["StopSignal"] = text


def _on_build(run: dict[str, Any], text: str) -> None:
    run["OnBuild"] = [*(run.get("OnBuild") or ()), text]


_TIMES = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod",
          "start-interval": "StartInterval"}  # fmt: skip
_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def _healthcheck(run: dict[str, Any], text: str) -> None:
    check: dict[str, Any] = {}
    while text.startswith("--"):
        option, _, text = text.partition(" ")
        key, _, value = option[2:].partition("=")
        text = text.strip()
        if key == "retries" and re.fullmatch(r"[0-9]{1,10}", value) and int(value) <= _MAX_RETRIES:
            check["Retries"] = int(value)
        elif key == "retries":
            raise InvalidParameter(f"invalid number of retries: {value!r}")
        elif key in _TIMES:
            check[_TIMES[key]] = _duration(value)
        else:
            raise InvalidParameter(f"unknown flag: {option}")
    kind, _, command = text.partition(" ")
    if kind.upper() == "NONE":
        check = {"Test": ["NONE"]}
    elif kind.upper() == "CMD" and command.strip():
        words = _command(command.strip())
        check["Test"] = ["CMD-SHELL", words[2]] if words[:2] == _SHELL and len(words) == 3 else ["CMD", *words]
    else:
        raise InvalidParameter(f"unknown type {kind!r} in HEALTHCHECK (try CMD)")
    run["Healthcheck"] = check


def _duration(text: str) -> int:
    """A Go duration such as 1m30s, in nanoseconds."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m|h)", text)
    found = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not parts or "".join(number + unit for number, unit in parts) != text or found >= _MAX_NANOSECONDS:
        raise InvalidParameter(f"invalid duration: {text!r}")
    return int(found)


_INSTRUCTIONS = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
