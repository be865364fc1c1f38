"""A log on disk: Docker's bytes, rotation, and reading while it is written."""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from pathlib import Path

import pytest

from rdock.container import log_reading, logs
from rdock.container.log_reading import Range
from rdock.errors import InvalidParameter
from rdock.state import timestamp


def as_go_has_it(line: bytes) -> str:
    """The inside of a JSON string as moby's writer makes it, byte by byte."""
    out, at = [], 0
    while at < len(line):
        byte = line[at]
        if byte < 128:
            named = {0x22: '\\"', 0x5C: "\\\\", 10: "\\n", 13: "\\r"}.get(byte)
            out.append(named or (f"\\u{byte:04x}" if byte < 32 or byte in b"<>&" else chr(byte)))
            at += 1
            continue
        for length in (2, 3, 4):
            try:
                character = line[at : at + length].decode()
            except UnicodeDecodeError:
                continue
            out.append({"\u2028": "\\u2028", "\u2029": "\\u2029"}.get(character, character))
            at += length
            break
        else:
            out.append("\\ufffd")
            at += 1
    return "".join(out)


def written(path: Path, data: bytes, chunk: int = 32768, **config: str) -> list[str]:
    writer = logs.LogWriter(str(path), {"Type": "json-file", "Config": config})
    for start in range(0, len(data), chunk):
        writer.write("stdout", data[start : start + chunk])
    writer.close()
    return [] if "max-size" in config else [f"{line}\n" for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def texts(path: Path, wanted: Range = Range()) -> list[str]:  # noqa: B008 - it never changes
    return [entry.text for entries in log_reading.read(str(path), wanted) for entry in entries]


def hard_lines() -> list[bytes]:
    chance = random.Random(1)
    made = [
        b"", b"plain", b'q"b\\ <&> \t\x1b[1m\x00\x7f\r', "ä€😀\u2028\u2029\u0085\ufffd".encode(), b"\xe2\x82",
        b"\xff\xfe",
        b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82\xac\xe2\x82", b"\xf0\x9f\x98x\xe2\x80\xa8",
        b"\xc3" * 99, b"\xc3\xa9\x80" * 50, b"\xe2\x80\xa8\xff" * 40,
    ]  # fmt: skip
    made += [bytes(chance.choices(range(256), k=chance.randrange(300))).replace(b"\n", b"") for _ in range(200)]
    made += [bytes(chance.choices(b'\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80aZ\\"<', k=60)) for _ in range(200)]
    return made


@pytest.mark.parametrize("chunk", [32768, 77, 1])
def test_bytes_are_dockers(tmp_path: Path, chunk: int) -> None:
    lines = hard_lines()
    found = written(tmp_path / "log", b"".join(line + b"\n" for line in lines), chunk)
    assert len(found) == len(lines)
    for line, text in zip(lines, found, strict=True):
        head, _, tail = text.partition('","stream":"stdout","time":"')
        assert head == '{"log":"' + as_go_has_it(line) + "\\n", line
        assert tail.endswith('Z"}\n') and timestamp.to_ns(tail[:-3]) > 0


@pytest.mark.parametrize("chunk", [32768, 1000, 16384])
def test_long_lines_are_cut_as_dockers_buffer_is_full(tmp_path: Path, chunk: int) -> None:
    sizes = [16382, 16383, 16384, 16385, 32768, 40000, 3]
    found = written(tmp_path / "log", b"".join(b"x" * size + b"\n" for size in sizes) + b"y" * 16384 + b"end", chunk)
    pieces = [json.loads(line)["log"] for line in found]
    expected = []
    for size in sizes:
        line = "x" * size + "\n"
        expected += [line[i : i + 16384] for i in range(0, len(line), 16384)]
    assert pieces == [*expected, "y" * 16384, "end"]


def test_attributes_stand_before_the_time(tmp_path: Path) -> None:
    config = {"Type": "json-file", "Config": {"labels": "b,none,a", "env-regex": "^V", "tag": "t<1>"}}
    found = logs.attributes(config, {"a": "1", "b": 'x"y', "c": "3"}, ["V1=é", "W=2"])
    assert found == {"a": "1", "b": 'x"y', "V1": "é", "tag": "t<1>"}
    writer = logs.LogWriter(str(tmp_path / "log"), config, found)
    writer.write("stderr", b"line\nrest")
    writer.close()
    first, second = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    attrs = '"attrs":{"V1":"é","a":"1","b":"x\\"y","tag":"t\\u003c1\\u003e"}'
    assert first.startswith('{"log":"line\\n","stream":"stderr",' + attrs + ',"time":"')
    assert json.loads(second)["attrs"] == found
    (entries,) = [entries for entries in log_reading.read(str(tmp_path / "log"), Range()) if entries]
    assert [entry.attributes for entry in entries] == [found, found]


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, (-1, 1)),
        ({"max-size": "10m", "max-file": "3"}, (10_000_000, 3)),
        ({"max-size": "1.5kB"}, (1500, 1)),
        ({"max-size": "-1"}, (-1, 1)),
        ({"max-size": "200"}, (200, 1)),
    ],
)
def test_limits(config: dict[str, str], expected: tuple[int, int]) -> None:
    found = logs.limits({"Type": "json-file", "Config": config})
    assert (found.size, found.files) == expected


def test_limits_of_the_local_driver() -> None:
    assert logs.limits({"Type": "local", "Config": {}}) == logs.Limits(20_000_000, 5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max-size": "10x"}, "invalid size: '10x'"),
        ({"max-size": ""}, "invalid size: ''"),
        ({"max-size": "0"}, "max-size must be a positive number"),
        ({"max-size": "1m", "max-file": "0"}, "max-file cannot be less than 1"),
        ({"max-size": "1m", "max-file": "x"}, 'strconv.Atoi: parsing "x": invalid syntax'),
        ({"max-file": "2"}, "max-file cannot be set without max-size"),
    ],
)
def test_limits_that_cannot_be(config: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        logs.limits({"Type": "json-file", "Config": config})
    assert refusal.value.message == message


@pytest.mark.parametrize("files", [1, 2, 3])
@pytest.mark.parametrize("chunk", [10, 1000, 32768])
def test_rotation_keeps_the_newest(tmp_path: Path, files: int, chunk: int) -> None:
    path = tmp_path / "log"
    written(
        path, b"".join(b"line %05d\n" % n for n in range(2000)), chunk, **{"max-size": "5k", "max-file": str(files)}
    )
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == ["log", "log.1", "log.2"][:files]
    line = len((tmp_path / "log").read_text().splitlines()[0]) + 1
    for name in names:
        size = (tmp_path / name).stat().st_size
        assert size < 5000 + 2 * line and (name == "log" or size >= 5000), name
    kept = texts(path)
    assert kept == [f"line {n:05d}\n" for n in range(2000 - len(kept), 2000)]
    assert len(kept) >= (files - 1) * (5000 // (line + 2))
    assert texts(path, Range(tail=3)) == kept[-3:]
    fewer = max(0, len(kept) - 5)  # of one file that has just been begun there may be no more
    assert texts(path, Range(tail=fewer)) == kept[len(kept) - fewer :]
    assert texts(path, Range(tail=len(kept) + 5)) == kept
    assert texts(path, Range(tail=0)) == []


def test_no_driver_writes_nothing(tmp_path: Path) -> None:
    writer = logs.LogWriter(str(tmp_path / "log"), {"Type": "none", "Config": {}})
    writer.write("stdout", b"x\n")
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_writer_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    for part in range(6):
        written(tmp_path / "log", b"x%d\n" % part * 20, **{"max-size": "3k", "max-file": "2"})
    assert texts(tmp_path / "log")[-20:] == ["x5\n"] * 20
    assert (tmp_path / "log.1").stat().st_size >= 3000


# -- reading ---------------------------------------------------------------------------------------


def made(path: Path, times: list[int], first: int = 0) -> None:
    path.write_text(
        "".join(
            f'{{"log":"{n} {"x" * (n % 90)}\\n","stream":"stdout","time":"{timestamp.from_ns(at)}"}}\n'
            for n, at in enumerate(times, first)
        )
    )


@pytest.mark.parametrize("count", [0, 1, 10, 30000])
def test_since_and_until_across_files(tmp_path: Path, count: int) -> None:
    chance = random.Random(count)
    step, begin = 10**8, 1_700_000_000 * 10**9
    times = sorted(begin + chance.randrange(max(1, count)) * step for _ in range(count * 3))
    for index, suffix in enumerate((".2", ".1", "")):
        made(tmp_path / f"log{suffix}", times[index * count : (index + 1) * count], index * count)
    for _ in range(12):
        since = begin + chance.randrange(-10, count + 10) * step
        until = since + chance.randrange(0, count + 10) * step
        expected = [n for n, at in enumerate(times) if since <= at <= until]
        found = [int(text.split()[0]) for text in texts(tmp_path / "log", Range(since=since, until=until))]
        assert found == expected


def test_since_reads_little_of_a_large_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [1_700_000_000 * 10**9 + n * 10**9 for n in range(100_000)]
    made(tmp_path / "log", times)
    read = 0
    pread = os.pread

    def counted(fd: int, size: int, offset: int) -> bytes:
        nonlocal read
        found = pread(fd, size, offset)
        read += len(found)
        return found

    monkeypatch.setattr(log_reading.os, "pread", counted)
    monkeypatch.setattr(log_reading, "LONGEST", 1 << 16)
    assert len(texts(tmp_path / "log", Range(since=times[-3]))) == 3
    assert read < (tmp_path / "log").stat().st_size / 5


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    made(tmp_path / "log", [10**18, 10**18 + 1])
    whole = (tmp_path / "log").read_bytes()
    lines = whole.splitlines(keepends=True)
    damaged = [b"\0" * 300 + b"\n", b"{}\n", b"[]\n", b"\xff\n", b"[" * 5000 + b"\n", lines[0][:20] + b"\n", b"null\n"]
    damaged += [
        b'{"log":"a","stream":"stdout","time":"2026-13-01T00:00:00Z"}\n',
        b'{"log":1,"stream":"stdout","time":7}\n',
    ]
    (tmp_path / "log").write_bytes(lines[0] + b"".join(damaged) + lines[1] + lines[0][:30])
    assert [text.split()[0] for text in texts(tmp_path / "log")] == ["0", "1"]
    assert [text.split()[0] for text in texts(tmp_path / "log", Range(since=10**18 + 1))] == ["1"]


@pytest.mark.parametrize("files", ["1", "3"])
def test_nothing_is_missed_across_rotation(tmp_path: Path, files: str) -> None:
    """A follower at least as quick as the writer sees every line once, in order."""
    path = str(tmp_path / "log")
    writer = logs.LogWriter(path, {"Type": "json-file", "Config": {"max-size": "3k", "max-file": files}})
    sleeper = subprocess.Popen(["sleep", "100"])
    seen: list[str] = []
    pidfd = os.pidfd_open(sleeper.pid)

    def follow() -> None:
        for entries in log_reading.read(path, Range(), follow=True, ended=pidfd):
            seen.extend(entry.text for entry in entries)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    for number in range(3000):
        writer.write("stdout", b"%d\n" % number)
        deadline = time.monotonic() + 10
        while len(seen) < number - 20 and time.monotonic() < deadline:
            time.sleep(0.0005)
    writer.close()
    sleeper.kill()
    sleeper.wait()
    thread.join(10)
    assert seen == [f"{number}\n" for number in range(3000)]


def test_following_ends_at_the_time_until(tmp_path: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "100"])
    written(tmp_path / "log", b"a\n")
    start = time.monotonic()
    until = time.time_ns() + 3 * 10**8
    found = list(
        log_reading.read(str(tmp_path / "log"), Range(until=until), follow=True, ended=os.pidfd_open(sleeper.pid))
    )
    assert [entry.text for entries in found for entry in entries] == ["a\n"]
    assert 0.25 < time.monotonic() - start < 5
    sleeper.kill()
    sleeper.wait()


def test_log_that_is_emptied_while_it_is_followed(tmp_path: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "100"])
    made(tmp_path / "log", [10**18, 10**18 + 1])
    lists = log_reading.read(str(tmp_path / "log"), Range(), follow=True, ended=os.pidfd_open(sleeper.pid))
    assert [entry.text for entry in next(lists)] == ["0 \n", "1 x\n"]
    os.truncate(tmp_path / "log", 0)
    made(tmp_path / "log", [10**18 + 2], 7)
    assert [entry.text.split()[0] for entry in next(lists)] == ["7"]
    sleeper.kill()
    sleeper.wait()
    assert [entries for entries in lists if entries] == []


def test_of_a_log_that_is_not_there(tmp_path: Path) -> None:
    assert texts(tmp_path / "log") == []
    assert texts(tmp_path / "gone" / "log") == []
