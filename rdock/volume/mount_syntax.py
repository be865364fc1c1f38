"""What users write after `-v` and `--mount`, as docker/cli reads it (cli/compose/loader/volume.go, opts/mount.go).

The results are what the API has: an entry of HostConfig.Binds, an object of HostConfig.Mounts. Relative sources
become absolute here; all else is checked by points.py.
"""

from __future__ import annotations

import os

from rdock.errors import InvalidParameter
from rdock.volume import points, targets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


# -- -v --------------------------------------------------------------------------------------------


def parse_volume(text: str, directory: str) -> tuple[str, str]:
    """`-v` → an entry of HostConfig.Binds with an absolute source; or an empty one, and the anonymous volume's place.

    Raises InvalidParameter in Docker's words.
    """
    if not text:
        raise InvalidParameter("invalid empty volume spec")
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        why = "too many colons" if all(parts) else "empty section between colons"
        raise InvalidParameter(f"invalid spec: {text}: {why}")
    if len(parts) == 1:
        return "", targets.check(text, f"invalid volume specification: '{text}'")
    if parts[0].startswith("~"):
        raise InvalidParameter(
            f"invalid volume specification: '{text}': the shell has not expanded the ~, as in quotes"
        )
    if parts[0].startswith("."):
        if not directory:
            raise InvalidParameter(f"invalid volume specification: '{text}': getwd: no such file or directory")
        parts[0] = os.path.normpath(os.path.join(directory, parts[0]))
        if ":" in parts[0]:
            raise InvalidParameter(
                f"invalid volume specification: '{text}': a colon is in {parts[0]}: use --mount, which can have it"
            )
    bind = ":".join(parts)
    points.from_bind(bind)
    return bind, ""


# -- --mount ---------------------------------------------------------------------------------------

_SWITCHES = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive")
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def parse_mount(text: str, directory: str) -> dict[str, Any]:
    """`--mount KEY=VALUE,…` → an object of HostConfig.Mounts. Raises InvalidParameter in Docker's words."""
    if not text.strip():
        raise InvalidParameter("value is empty")
    mount: dict[str, Any] = {"Type": "volume"}
    for field in split_fields(text):
        key, equals, value = field.partition("=")
        if key.strip() != key:
            raise InvalidParameter(f"invalid option '{key}' in '{field}': option should not have whitespace")
        key = key.lower()
        if not equals and key not in _SWITCHES:
            raise InvalidParameter(f"invalid field '{field}' must be a key=value pair")
        if equals and not value.strip():
            raise InvalidParameter(f"invalid value for '{key}': value is empty")
        setter = _KEYS.get(key)
        if setter is None:
            raise InvalidParameter(f"unexpected key '{key}' in '{field}'")
        setter(mount, key, value if equals else "true")
    source = mount.get("Source", "")
    if source.startswith("."):
        if not directory:
            raise InvalidParameter("getwd: no such file or directory")
        mount["Source"] = os.path.normpath(os.path.join(directory, source))
    _check_together(mount)
    points.from_mount(mount)
    return mount


def _check_together(mount: dict[str, Any]) -> None:
    if not mount.get("Target"):
        raise InvalidParameter("target is required")
    for kind, name in (("volume", "VolumeOptions"), ("bind", "BindOptions"), ("tmpfs", "TmpfsOptions"),
                       ("image", "ImageOptions")):  # fmt: skip
        if name in mount and mount["Type"] != kind:
            raise InvalidParameter(f"cannot mix '{kind}-*' options with mount type '{mount['Type']}'")
    bind = mount.get("BindOptions", {})
    for name, word in (("ReadOnlyNonRecursive", "writable"), ("ReadOnlyForceRecursive", "readonly")):
        if bind.get(name) and not mount.get("ReadOnly"):
            raise InvalidParameter(f"option 'bind-recursive={word}' requires 'readonly' to be specified in conjunction")
    if bind.get("ReadOnlyForceRecursive") and bind.get("Propagation") != "rprivate":
        raise InvalidParameter(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
        )


def split_fields(text: str) -> list[str]:
    """The fields of one line of comma-separated values, as Go's encoding/csv reads them. Raises InvalidParameter."""
    if "\n" in text or "\r" in text:
        raise InvalidParameter("a line break cannot be in it")
    fields, at = [], 0
    while True:
        if text[at : at + 1] != '"':
            end = text.find(",", at)
            field = text[at:] if end < 0 else text[at:end]
            if '"' in field:
                raise _csv_error(text, at + field.index('"'), 'bare " in non-quoted field')
            fields.append(field)
            if end < 0:
                return fields
            at = end + 1
            continue
        found = ""
        at += 1
        while True:
            end = text.find('"', at)
            if end < 0:
                raise _csv_error(text, len(text), 'extraneous or missing " in quoted-field')
            found += text[at:end]
            at = end + 1
            if text[at : at + 1] != '"':
                break
            found += '"'
            at += 1
        fields.append(found)
        if at == len(text):
            return fields
        if text[at] != ",":
            raise _csv_error(text, end, 'extraneous or missing " in quoted-field')
        at += 1


def _csv_error(text: str, at: int, what: str) -> InvalidParameter:
    column = len(os.fsencode(text[:at])) + 1
    return InvalidParameter(f"parse error on line 1, column {column}: {what}")


# -- keys ------------------------------------------------------------------------------------------


def _boolean(key: str, value: str) -> bool:
    if value not in _TRUE + _FALSE:
        raise InvalidParameter(f"invalid value for {key}: {value}")
    return value in _TRUE


def _bytes(key: str, value: str) -> int:
    """go-units: RAMInBytes."""
    lower = value.lower()
    for suffix in ("ib", "b"):
        if lower.endswith(suffix) and len(lower) > len(suffix):
            lower = lower.removesuffix(suffix)
            break
    number, unit = (lower[:-1], lower[-1]) if lower[-1:].isalpha() else (lower, "")
    number = number.removesuffix(" ")
    if unit not in _SIZES or not number.isascii() or not number.replace(".", "", 1).isdigit() or number[0] == ".":
        raise InvalidParameter(f"invalid value for {key}: {value}")
    size = int(float(number) * _SIZES[unit])
    if size >= 1 << 63:
        raise InvalidParameter(f"invalid value for {key}: {value}")
    return size


def _octal(key: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or set(value) & {"8", "9"} or int(value, 8) > 0o7777:
        raise InvalidParameter(f"invalid value for {key}: {value}")
    return int(value, 8)


def _plain(name: str, convert: Callable[[str, str], Any] = lambda key, value: value) -> Setter:
    def setter(mount: dict[str, Any], key: str, value: str) -> None:
        mount[name] = convert(key, value)

    return setter


def _inner(group: str, name: str, convert: Callable[[str, str], Any] = lambda key, value: value) -> Setter:
    def setter(mount: dict[str, Any], key: str, value: str) -> None:
        mount.setdefault(group, {})[name] = convert(key, value)

    return setter


def _recursive(mount: dict[str, Any], key: str, value: str) -> None:
    names = {"disabled": "NonRecursive", "writable": "ReadOnlyNonRecursive", "readonly": "ReadOnlyForceRecursive"}
    if value != "enabled" and value not in names:
        raise InvalidParameter(
            f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")'
        )
    options = mount.setdefault("BindOptions", {})
    if value in names:
        options[names[value]] = True


def _label(mount: dict[str, Any], key: str, value: str) -> None:
    name, _, content = value.partition("=")
    if name:
        mount.setdefault("VolumeOptions", {}).setdefault("Labels", {})[name] = content


def _driver(mount: dict[str, Any], key: str, value: str) -> None:
    mount.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})["Name"] = value


def _driver_option(mount: dict[str, Any], key: str, value: str) -> None:
    name, _, content = value.partition("=")
    if name:
        config = mount.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})
        config.setdefault("Options", {})[name] = content


def _lower(key: str, value: str) -> str:
    return value.lower()


if TYPE_CHECKING:
    Setter = Callable[[dict[str, Any], str, str], None]

_KEYS: dict[str, Setter] = {
    "type": _plain("Type", _lower),
    **dict.fromkeys(("source", "src"), _plain("Source")),
    **dict.fromkeys(("target", "dst", "destination"), _plain("Target")),
    **dict.fromkeys(("readonly", "ro"), _plain("ReadOnly", _boolean)),
    "consistency": _plain("Consistency", _lower),
    "bind-propagation": _inner("BindOptions", "Propagation", _lower),
    "bind-nonrecursive": _inner("BindOptions", "NonRecursive", _boolean),
    "bind-recursive": _recursive,
    "volume-subpath": _inner("VolumeOptions", "Subpath"),
    "volume-nocopy": _inner("VolumeOptions", "NoCopy", _boolean),
    "volume-label": _label,
    "volume-driver": _driver,
    "volume-opt": _driver_option,
    "image-subpath": _inner("ImageOptions", "Subpath"),
    "tmpfs-size": _inner("TmpfsOptions", "SizeBytes", _bytes),
    "tmpfs-mode": _inner("TmpfsOptions", "Mode", _octal),
}
