"""What becomes of a container's output and input: log driver, streams, detach keys.

From the words of users to values, in Docker's rules and complaints; what they mean is done elsewhere.
"""

from __future__ import annotations

from rdock.errors import InvalidParameter, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STREAMS = ("stdin", "stdout", "stderr")
# Docker's other log drivers: services of other machines and of the host.
_FOREIGN_LOGS = ("awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "journald", "splunk", "syslog")
_LOG_OPTIONS = ("max-size", "max-file", "compress", "labels", "env")
# What ctrl- goes with, in the order of the codes from 0 on.
_CONTROLLED = "@abcdefghijklmnopqrstuvwxyz[\\]^_"


def parse_log_config(driver: str, options: list[str]) -> dict[str, Any]:
    """`--log-driver` and `--log-opt` as the API's LogConfig. Raises InvalidParameter, Unsupported."""
    from rdock.container import logs  # exec, which has detach keys too, keeps none

    driver = driver or "json-file"
    if driver == "none" and options:
        raise InvalidParameter(f"invalid logging opts for driver {driver}")
    if driver in _FOREIGN_LOGS:
        raise Unsupported(f"log driver {driver} is not there: rdock has {', '.join(logs.DRIVERS)}")
    if driver not in logs.DRIVERS:
        raise InvalidParameter(f"logger: no log driver named '{driver}' is registered")
    found = dict(option.partition("=")[::2] for option in options)
    for name, value in found.items():
        if name not in _LOG_OPTIONS:
            raise InvalidParameter(f"unknown log opt '{name}' for {driver} log driver")
        if name == "compress" and value not in ("true", "false"):
            raise InvalidParameter(f'invalid argument "{value}" for log opt compress: true or false')
    if found.get("compress") == "true":
        raise Unsupported("log opt compress is not there: rotated logs are kept as they are")
    config = {"Type": driver, "Config": found}
    logs.limits(config)
    return config


def parse_streams(values: list[str]) -> set[str]:
    """`-a STDIN …`: which streams. Raises InvalidParameter."""
    for text in values:
        if text.lower() not in STREAMS:
            raise InvalidParameter(
                f'invalid argument "{text}" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR'
            )
    return {text.lower() for text in values}


def parse_detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q`, `a,b`: what a terminal sends for these keys. Raises InvalidParameter."""
    codes = bytearray()
    for key in text.split(",") if text else ():
        name = key.removeprefix("ctrl-")
        if len(key) == 1 and key.isascii():
            codes += key.encode()
        elif key != name and len(name) == 1 and name.lower() in _CONTROLLED:
            codes.append(_CONTROLLED.index(name.lower()))
        else:
            raise InvalidParameter(f"Invalid detach keys ({text}) provided: Unknown character: '{key}'")
    return bytes(codes)
