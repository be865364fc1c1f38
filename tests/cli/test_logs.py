"""logs: what a container has written, while it runs and afterwards."""

from __future__ import annotations

import calendar
import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from rdock.container import log_reading, logs
from tests.cli.conftest import is_clear, wait_for
from tests.conftest import STARTER
from tests.namespace import in_namespace
from tests.program import Rdock


def started(rdock: Rdock, script: str, *options: str) -> str:
    return rdock.ok("run", "-d", "--network", "none", *options, STARTER, "sh", "-c", script)


def finished(rdock: Rdock, script: str, *options: str) -> str:
    container = started(rdock, script, *options)
    rdock.ok("wait", container)
    return container


def test_streams_apart_and_in_order(rdock: Rdock, runtime: str) -> None:
    container = finished(rdock, "echo 1; echo 2; echo e >&2; sleep 0.1; printf end")
    result = rdock("logs", container)
    assert (result.code, result.out, result.err) == (0, "1\n2\nend", "e\n")
    assert rdock("logs", "-f", container).out == "1\n2\nend"


def test_tail(rdock: Rdock) -> None:
    container = finished(rdock, "seq 1 1000")
    assert rdock.ok("logs", "-n", "3", container).split() == ["998", "999", "1000"]
    assert rdock.ok("logs", "--tail", "0", container) == ""
    assert len(rdock.ok("logs", "--tail", "all", container).split()) == 1000
    assert len(rdock.ok("logs", "-n", "5000", container).split()) == 1000
    result = rdock("logs", "-n", "x", container)
    assert result.code != 0 and is_clear(result.err), str(result)
    # all of it, as Docker has it
    assert len(rdock.ok("logs", "-n", "-1", container).split()) == 1000


def test_timestamps(rdock: Rdock) -> None:
    container = finished(rdock, "echo a; echo b >&2")
    result = rdock("logs", "-t", container)
    for line, text in ((result.out, "a\n"), (result.err, "b\n")):
        when, _, rest = line.partition(" ")
        assert rest == text
        written = calendar.timegm(time.strptime(when[:19], "%Y-%m-%dT%H:%M:%S"))
        assert time.time() - 60 < written <= time.time()


def test_since_and_until(rdock: Rdock) -> None:
    container = finished(rdock, "echo a; sleep 0.3; echo b; sleep 0.3; echo c")
    times = [line.split()[0] for line in rdock.ok("logs", "-t", container).splitlines()]
    assert [len(text) for text in times] == [30, 30, 30]
    assert rdock.ok("logs", "--since", times[1], container) == "b\nc"
    assert rdock.ok("logs", "--until", times[1], container) == "a\nb"
    assert rdock.ok("logs", "--since", times[1], "--until", times[1], container) == "b"
    assert rdock.ok("logs", "--since", "10m", container) == "a\nb\nc"
    assert rdock.ok("logs", "--until", "1h30m", container) == ""
    assert rdock.ok("logs", "-f", "--since", "1", "-n", "2", container) == "b\nc"
    # the last lines are counted before the times are looked at
    assert rdock.ok("logs", "-n", "1", "--until", times[1], container) == ""
    result = rdock("logs", "--since", "yesterday", container)
    assert (result.code, result.out, result.err) == (
        1,
        "",
        'rdock: invalid value for "since": failed to parse value as time or duration: "yesterday"\n',
    )


def test_details_without_any(rdock: Rdock) -> None:
    container = finished(rdock, "echo a; echo b")
    assert rdock.ok("logs", "--details", container) == " a\n b"
    assert [line.split(" ", 1)[1] for line in rdock.ok("logs", "-t", "--details", container).splitlines()] == [
        " a",
        " b",
    ]


def test_details_and_files_that_were_rotated_away(rdock: Rdock) -> None:
    container = finished(rdock, "echo a")
    path = rdock.ok("inspect", "-f", "{{.LogPath}}", container)
    config = {"Type": "json-file", "Config": {"max-size": "1k", "max-file": "3"}}
    writer = logs.LogWriter(path, config, {"tier": "front end", "b": "x=y&z,"})
    for number in range(30):
        writer.write("stdout", b"%d\n" % number)
    writer.close()
    shown = rdock.ok("logs", "--details", container).splitlines()
    assert os.path.exists(f"{path}.2") and not os.path.exists(f"{path}.3")
    assert shown == [f"b=x%3Dy%26z%2C,tier=front+end {number}" for number in range(30 - len(shown), 30)] and shown
    assert rdock.ok("logs", "-n", "12", container).split() == [str(number) for number in range(18, 30)]
    rdock.ok("rm", container)
    assert not os.path.exists(os.path.dirname(path))


def test_driver_that_keeps_nothing(rdock: Rdock) -> None:
    container = finished(rdock, "echo a")
    record = rdock.home.data / "containers" / container / "container.json"
    found = json.loads(record.read_text())
    found["HostConfig"]["LogConfig"] = {"Type": "none", "Config": {}}
    record.write_text(json.dumps(found))
    for options in ((), ("-f",), ("-n", "1")):
        result = rdock("logs", *options, container)
        assert (result.code, result.out, result.err) == (
            1, "", "rdock: configured logging driver does not support reading\n",
        )  # fmt: skip


def test_follow_shows_what_comes_and_ends_with_the_container(rdock: Rdock, runtime: str) -> None:
    container = started(rdock, "echo first; while ! [ -e /go ]; do sleep 0.05; done; echo second; printf last; exit 3")
    follower = rdock.start("logs", "-f", container, stdin=subprocess.DEVNULL, bufsize=0)
    assert follower.stdout
    assert follower.stdout.readline() == b"first\n"
    assert follower.poll() is None
    rdock.ok("exec", "--detach", container, "touch", "/go")
    assert follower.stdout.readline() == b"second\n"
    out, err = follower.communicate(timeout=20)
    assert (out, err, follower.returncode) == (b"last", b"", 0)


def test_follow_of_a_container_that_is_removed(rdock: Rdock) -> None:
    container = started(rdock, "echo first; sleep 100")
    follower = rdock.start("logs", "-f", container, stdin=subprocess.DEVNULL, bufsize=0)
    assert follower.stdout and follower.stdout.readline() == b"first\n"
    rdock.ok("rm", "-f", container)
    _, err = follower.communicate(timeout=20)
    assert (follower.returncode, err) == (0, b"")


def test_follower_that_is_interrupted(rdock: Rdock) -> None:
    container = started(rdock, "echo first; sleep 100")
    follower = rdock.start("logs", "-f", container, stdin=subprocess.DEVNULL, bufsize=0)
    assert follower.stdout and follower.stdout.readline() == b"first\n"
    follower.send_signal(2)
    _, err = follower.communicate(timeout=20)
    assert follower.returncode == 130 and err == b""
    assert rdock.ok("inspect", "-f", "{{.State.Running}}", container) == "true"


@pytest.mark.parametrize("length", [16383, 16384, 16385, 100000])
def test_long_lines_come_back_whole(rdock: Rdock, length: int) -> None:
    container = finished(rdock, f"head -c {length} /dev/zero | tr '\\0' x; echo; echo next")
    assert rdock.ok("logs", container) == "x" * length + "\nnext"


def test_partial_line_is_whole_at_the_end(rdock: Rdock) -> None:
    container = finished(rdock, "printf a; sleep 0.2; printf b; sleep 0.2; echo c; printf d")
    assert rdock.ok("logs", container) == "abc\nd"


def test_what_json_must_escape(rdock: Rdock) -> None:
    container = finished(rdock, "printf 'q\"b\\\\ <&> \\t\\033[1mä\\342\\202\\254\\n'")
    assert rdock.ok("logs", container) == 'q"b\\ <&> \t\x1b[1mä€'
    path = rdock.ok("inspect", "-f", "{{.LogPath}}", container)
    with open(path, encoding="ascii", errors="surrogateescape") as file:
        entry = json.loads(file.readline())
    assert set(entry) == {"log", "stream", "time"}


def test_of_a_terminal(rdock: Rdock, runtime: str) -> None:
    container = finished(rdock, "echo out; echo err >&2", "-t")
    result = rdock("logs", container)
    assert (result.out, result.err) == ("out\r\nerr\r\n", "")


def test_much_output_is_kept_while_nobody_looks(rdock: Rdock) -> None:
    container = finished(rdock, "seq 1 100000")
    assert rdock.ok("logs", container).split() == [str(n) for n in range(1, 100001)]


def test_output_of_a_killed_container_is_there(rdock: Rdock) -> None:
    container = started(rdock, "printf partial; sleep 100")
    wait_for(lambda: rdock("exec", container, "true").code == 0)
    time.sleep(0.3)
    rdock.ok("kill", container)
    rdock.ok("wait", container)
    assert rdock.ok("logs", container) == "partial"


def test_of_nothing(rdock: Rdock) -> None:
    result = rdock("logs", "nosuch")
    assert (result.code, result.err) == (1, "rdock: No such container: nosuch\n")


def test_full_disk_costs_whole_lines_only(tmp_path: Path) -> None:
    lines = in_namespace(_fill, str(tmp_path))
    numbers = [int(json.loads(line)["log"].split()[0]) for line in lines]
    assert numbers == sorted(set(numbers)) and numbers[0] == 0
    # up to the last page, and those that came when there was room again
    assert len(numbers) > 100 and numbers[-2:] == [5000, 5001]


def _fill(place: str) -> list[str]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=True)
    path, ballast = os.path.join(place, "log"), os.path.join(place, "ballast")
    Path(ballast).write_bytes(bytes(8192))
    writer = logs.LogWriter(path)
    for number in range(0, 1000, 10):
        writer.write("stdout", b"".join(b"%d %s\n" % (number + n, b"x" * 37) for n in range(10)))
    os.unlink(ballast)
    writer.write("stderr", b"5000\n")
    writer.write("stdout", b"5001 end")
    writer.close()
    return Path(path).read_text().splitlines()


def test_line_that_is_taken_back_while_it_is_followed(tmp_path: Path) -> None:
    """As the writer does when the disk is full in the middle of it."""
    path = tmp_path / "log"
    line = '{"log":"%s\\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}\n'
    path.write_text(line % "first" + (line % ("half" * 100))[:200])
    sleeper = subprocess.Popen(["sleep", "100"])
    pidfd = os.pidfd_open(sleeper.pid)
    lists = log_reading.read(str(path), log_reading.Range(), follow=True, ended=pidfd)
    entries = (entry for entries in lists for entry in entries)
    assert next(entries).text == "first\n"
    following = threading.Thread(target=lambda: seen.extend(entry.text for entry in entries), daemon=True)
    seen: list[str] = []
    following.start()
    time.sleep(0.3)
    os.truncate(path, len(line % "first"))
    with path.open("a") as file:
        file.write(line % "second" + line % "third")
    wait_for(lambda: len(seen) == 2)
    sleeper.kill()
    sleeper.wait()
    following.join(10)
    assert seen == ["second\n", "third\n"]
