"""A container's output on disk, in Docker's json-file format, as the monitor writes it; log_reading.py reads it.

One JSON object a line: `{"log":"text\\n","stream":"stdout","time":"..."}`, byte for byte as Docker writes it.
A line of output of 16 KiB or more, or without its end yet when it has to be written, is cut, and its parts
lack the newline. A log that may only have so many bytes is rotated: ID-json.log becomes ID-json.log.1 and so on.
Chunks of output, not lines, are what is worked on: all that is done to each byte is done by the C parts of bytes.
"""

from __future__ import annotations

import os
import time

from rdock.errors import InvalidParameter
from rdock.state import timestamp
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MAX_LINE = 16 * 1024
DRIVERS = ("json-file", "local", "none")
# What Docker's local driver keeps if it is told nothing.
_LOCAL_SIZE, _LOCAL_FILES = 20_000_000, 5
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}

# What Go's JSON encoder escapes in its own way; the newline comes with the end of its line.
_PLAIN = bytes(byte for byte in range(128) if byte >= 32 and byte not in b'"\\<>&') + bytes(range(128, 256)) + b"\n"
_ESCAPES = {bytes([byte]): b"\\u%04x" % byte for byte in (*range(32), *b"<>&") if byte not in b"\n\r"}
_ESCAPES |= {b"\r": b"\\r", b'"': b'\\"'}
_LINE_SEPARATORS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
_ASCII = bytes(range(128))
_OTHERS_TO_FF = _ASCII + b"\xff" * 128
_REPLACEMENT = b"\\ufffd"
# A text with more wrong bytes than these in one chunk is not text.
_FEW_ERRORS = 8


class Limits(Value):
    """How much of a log is kept."""

    size: int = -1
    """Bytes at which a file is full; -1: any number."""
    files: int = 1


def limits(log_config: Mapping[str, Any]) -> Limits:
    """The limits that a HostConfig's LogConfig sets. Raises InvalidParameter in Docker's words."""
    given = log_config.get("Config") or {}
    local = log_config.get("Type") == "local"
    size = _size(given["max-size"]) if "max-size" in given else _LOCAL_SIZE if local else -1
    files = _LOCAL_FILES if local else 1
    if "max-file" in given:
        text = given["max-file"]
        try:
            files = int(text)
        except ValueError:
            raise InvalidParameter(f'strconv.Atoi: parsing "{text}": invalid syntax') from None
        if files < 1:
            raise InvalidParameter("max-file cannot be less than 1")
        if size < 0 and files > 1:
            raise InvalidParameter("max-file cannot be set without max-size")
    return Limits(size, files)


def _size(text: str) -> int:
    """`10m` as Docker has it here (go-units: FromHumanSize), in powers of 1000; -1 is no limit."""
    if text == "-1":
        return -1
    number = text.strip().lower().removesuffix("b")
    unit = number[-1:] if number[-1:].isalpha() else ""
    digits = number.removesuffix(unit).rstrip(" ")
    if unit not in _UNITS or not digits.replace(".", "", 1).isdecimal() or digits.startswith("."):
        raise InvalidParameter(f"invalid size: '{text}'")
    size = int(float(digits) * _UNITS[unit])
    if size <= 0:
        raise InvalidParameter("max-size must be a positive number")
    return size


def attributes(log_config: Mapping[str, Any], labels: Mapping[str, str], env: list[str]) -> dict[str, str]:
    """The labels and variables that `--log-opt labels=…` and its like attach to each line."""
    given = log_config.get("Config") or {}
    variables = dict(entry.split("=", 1) for entry in env if "=" in entry)
    found: dict[str, str] = {}
    for option, source in (("labels", labels), ("env", variables)):
        names = [name for name in given.get(option, "").split(",") if name]
        found.update({name: source[name] for name in names if name in source})
        pattern = given.get(f"{option}-regex", "")
        if pattern:
            import re

            try:
                wanted = re.compile(pattern)
            except re.error as e:
                raise InvalidParameter(f"error parsing regexp: {e}") from None
            found.update({name: value for name, value in source.items() if wanted.search(name)})
    if given.get("tag"):
        found["tag"] = given["tag"]
    return found


class LogWriter:
    """Appends one container's output to its log."""

    def __init__(
        self,
        path: str,
        log_config: Mapping[str, Any] | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        """`log_config` is that of the HostConfig, `attributes` what is written with each line.

        Raises OSError; InvalidParameter for a log_config that cannot be.
        """
        config = log_config or {}
        self._path = path
        self._limits = limits(config)
        inner = ",".join(f"{_quote(name)}:{_quote(value)}" for name, value in sorted((attributes or {}).items()))
        self._attrs = f',"attrs":{{{inner}}}' if inner else ""
        self._rest = {"stdout": b"", "stderr": b""}
        self._fd, self._size = -1, 0
        if config.get("Type") != "none":
            self._open(0)

    def _open(self, flags: int) -> None:
        mode = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._path, mode | flags, 0o600)
        self._size = os.fstat(self._fd).st_size

    def write(self, stream: str, data: bytes) -> None:
        """Log what was read from a stream; an unfinished line waits for its end."""
        if self._fd < 0:
            return
        rest = self._rest[stream]
        if rest:
            data = rest + data
        end = data.rfind(b"\n") + 1
        body, rest = (data, b"") if end == len(data) else (data[:end], data[end:])
        parts = [body] if body else []
        if _has_long_line(body):
            parts = [part for line in body[:-1].split(b"\n") for part in _pieces(line + b"\n")]
        if len(rest) >= MAX_LINE:
            *whole, rest = _pieces(rest)
            if len(rest) == MAX_LINE:
                whole, rest = [*whole, rest], b""
            parts += whole
        self._rest[stream] = rest
        if parts:
            self._append(stream, parts)

    def flush(self) -> None:
        """Write unfinished lines, when no more will come."""
        for stream, rest in self._rest.items():
            if rest:
                self._append(stream, [rest])
                self._rest[stream] = b""

    def close(self) -> None:
        if self._fd >= 0:
            self.flush()
            os.close(self._fd)
            self._fd = -1

    def _append(self, stream: str, parts: list[bytes]) -> None:
        """Write parts that are either whole lines, any number of them, or a piece of one line."""
        when = timestamp.from_ns(time.time_ns())
        tail = f'","stream":"{stream}"{self._attrs},"time":"{when}"}}\n'.encode()
        between = b"\\n" + tail + b'{"log":"'
        lines = []
        for part in parts:
            escaped = _escape(part)
            if escaped.endswith(b"\n"):
                lines.append(b'{"log":"' + escaped.replace(b"\n", between)[: -len(b'{"log":"')])
            else:
                lines.append(b'{"log":"' + escaped + tail)
        self._put(b"".join(lines))

    def _put(self, lines: bytes) -> None:
        """Write whole lines, each to the first file that is not full yet: the one that fills it is its last."""
        while 0 <= self._limits.size - self._size <= len(lines) or self._is_full():
            end = lines.find(b"\n", max(0, self._limits.size - self._size - 1)) + 1
            if not self._is_full():
                self._write(lines[:end])
                lines = lines[end:]
            if not lines or not self._is_full() or not self._rotate():
                break
        if lines:
            self._write(lines)

    def _is_full(self) -> bool:
        return 0 <= self._limits.size <= self._size

    def _rotate(self) -> bool:
        """Begin a new file; False if that is not possible, and the log grows on."""
        try:
            kept = self._limits.files - 1
            for number in range(kept, 0, -1):
                _rename(f"{self._path}.{number - 1}" if number > 1 else self._path, f"{self._path}.{number}")
            if not kept:
                os.unlink(self._path)  # one who reads it may go on
            old = self._fd
            self._open(os.O_EXCL)
            os.close(old)
        except OSError:
            return False
        return True

    def _write(self, lines: bytes) -> None:
        """Write whole lines, or as many as go. A full disk must not end the container; what is lost leaves a gap."""
        left = memoryview(lines)
        try:
            try:
                while left:
                    left = left[os.write(self._fd, left) :]
            except OSError:
                written = len(lines) - len(left)
                torn = written - (lines.rfind(b"\n", 0, written) + 1)
                if torn:  # or the next line would be glued to it
                    os.ftruncate(self._fd, os.fstat(self._fd).st_size - torn)
                self._size -= torn
        except OSError:
            pass
        self._size += len(lines) - len(left)


def _rename(old: str, new: str) -> None:
    try:
        os.rename(old, new)
    except FileNotFoundError:
        pass  # there is no such file yet, or somebody has deleted it


def _has_long_line(body: bytes) -> bool:
    """Whether any line has MAX_LINE bytes or more before its newline."""
    start, size = 0, len(body)
    while size - start > MAX_LINE:
        end = body.rfind(b"\n", start, start + MAX_LINE)
        if end < 0:
            return True
        start = end + 1
    return False


def _pieces(line: bytes) -> list[bytes]:
    """A line cut where Docker's buffer is full; the newline may be a piece of its own."""
    return [line[i : i + MAX_LINE] for i in range(0, len(line), MAX_LINE)]


# -- Go's way to write a string ------------------------------------------------------------------


def _quote(text: str) -> str:
    return '"' + _escape(text.encode("utf-8", "surrogateescape")).replace(b"\n", b"\\n").decode() + '"'


def _escape(body: bytes) -> bytes:
    """Output as the inside of a JSON string, as Go has it, but for its newlines, which stay."""
    special = body.translate(None, _PLAIN)
    if special:
        if b"\\" in special:
            body = body.replace(b"\\", b"\\\\")
        for byte in set(special):
            escape = _ESCAPES.get(bytes([byte]))
            if escape:
                body = body.replace(bytes([byte]), escape)
    if body.isascii():
        return body
    try:
        body.decode()
    except UnicodeDecodeError:
        body = _mend(body)
    for character, escape in _LINE_SEPARATORS:
        body = body.replace(character, escape)
    return body


def _mend(body: bytes) -> bytes:
    """Each byte that is no UTF-8 becomes a replacement character of its own, as in Go."""
    mended = []
    for _ in range(_FEW_ERRORS):
        try:
            body.decode()
        except UnicodeDecodeError as e:
            mended += [body[: e.start], _REPLACEMENT * (e.end - e.start)]
            body = body[e.end :]
            continue
        return b"".join([*mended, body])
    return b"".join([*mended, _mend_binary(body)])


def _mend_binary(body: bytes) -> bytes:
    """The same where hardly anything is UTF-8: what is, is looked for; UTF-8 is nowhere found but where it is."""
    found = []
    start = 0
    for character in body.decode("utf-8", "ignore").encode().translate(None, _ASCII).decode():
        encoded = character.encode()
        at = body.index(encoded, start)
        found += [body[start:at].translate(_OTHERS_TO_FF), encoded]
        start = at + len(encoded)
    found.append(body[start:].translate(_OTHERS_TO_FF))
    return b"".join(found).replace(b"\xff", _REPLACEMENT)
