"""The journal of events: what is written, by many at once, and how it is read and filtered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rdock import paths
from rdock.cli import events as command
from rdock.cli import main
from rdock.container import event_reading
from rdock.container.event_reading import Event
from rdock.errors import InvalidParameter
from rdock.state import events
from rdock.state.events import record_event
from tests.program import CHECKOUT
from tests.unit.test_start import TOO_DEAR

ID = "ab" * 32


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    data = tmp_path / "rdock"
    data.mkdir(mode=0o700)
    monkeypatch.setitem(paths._home, "XDG_DATA_HOME", str(data))
    return data


def found(filters: dict[str, list[str]] | None = None, since: int = 0, until: int | None = None) -> list[Event]:
    lists = event_reading.read(filters or {}, since=since, until=until, follow=False)
    return [event for events in lists for event in events]


def actions(**filters: str | list[str]) -> list[str]:
    return [e.action for e in found({name: [v] if isinstance(v, str) else v for name, v in filters.items()})]


def test_lines_have_dockers_shape(store: Path) -> None:
    before = time.time_ns()
    record_event("container", "start", ID, {"name": "web", "image": "rdock/starter", "label": 'ü"\n'})
    record_event("network", "connect", "cd" * 32, {"container": ID, "name": "bridge", "type": "bridge"})
    first, second = (json.loads(line) for line in (store / "events.jsonl").read_text().splitlines())
    assert list(first) == ["status", "id", "from", "Type", "Action", "Actor", "scope", "time", "timeNano"]
    assert (first["status"], first["id"], first["from"]) == ("start", ID, "rdock/starter")
    assert first["Actor"] == {"ID": ID, "Attributes": {"image": "rdock/starter", "label": 'ü"\n', "name": "web"}}
    assert before <= first["timeNano"] <= time.time_ns() and first["time"] == first["timeNano"] // 10**9
    assert list(second) == ["Type", "Action", "Actor", "scope", "time", "timeNano"]
    assert (store / "events.jsonl").stat().st_mode & 0o777 == 0o600


def test_caller_never_fails(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_event("container", "start", ID, {"name": object()})  # type: ignore[dict-item]
    record_event("container", "start", ID, {"name": "\udcff"})
    (store / "events.jsonl").unlink()
    (store / "events.jsonl").mkdir()
    record_event("container", "start", ID, {})
    monkeypatch.setitem(paths._home, "XDG_DATA_HOME", str(store / "nowhere"))
    record_event("container", "start", ID, {})
    assert found() == []


def test_import_is_cheap() -> None:
    code = "import sys; sys.path.insert(0, '.')\nfrom rdock.state import events\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not TOO_DEAR & set(done.stdout.split()) and "ctypes" not in done.stdout.split()


WRITER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from rdock import paths
from rdock.state import events
paths._home["XDG_DATA_HOME"] = sys.argv[2]
events.MAX_SIZE = int(sys.argv[4])
for number in range(int(sys.argv[5])):
    events.record_event("container", f"{sys.argv[3]}-{number}", "ab" * 32, {"name": "x" * 100})
    time.sleep(0.002)  # a follower that is left behind by two files misses what was in them
"""


@pytest.mark.parametrize("size", [1 << 30, 80000])
def test_many_writers_and_a_follower(store: Path, size: int) -> None:
    """Each event is there once and whole, and each writer's are in order, though the file be rotated under them."""
    seen: list[str] = []
    until = time.time_ns() + 60 * 10**9

    def follow() -> None:
        for events_ in event_reading.read({}, until=until):
            seen.extend(event.action for event in events_)
            if "end" in seen:
                return

    record_event("container", "begin", ID, {})
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    command_line = [sys.executable, "-I", "-S", "-c", WRITER, str(CHECKOUT), str(store)]
    writers = [subprocess.Popen([*command_line, name, str(size), "300"]) for name in "abcd"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0]
    record_event("container", "end", ID, {})
    thread.join(20)
    for name in "abcd":
        assert [action for action in seen if action.startswith(f"{name}-")] == [f"{name}-{n}" for n in range(300)], name
    assert seen[0] == "begin" and seen[-1] == "end" and len(seen) == 1202
    kept = found()
    if size == 80000:
        assert sorted(os.listdir(store)) == ["events.jsonl", "events.jsonl.1"]
        assert sum((store / name).stat().st_size for name in os.listdir(store)) < 2 * (size + 4 * 500)
        assert 0 < len(kept) < 1202 and [event.action for event in kept] == seen[-len(kept) :]
    else:
        assert [event.action for event in kept] == seen


def test_journal_is_bounded(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_SIZE", 5000)
    for number in range(500):
        record_event("container", f"a{number}", ID, {})
        assert sum((store / name).stat().st_size for name in os.listdir(store)) < 2 * 5300
    kept = [event.action for event in found()]
    assert kept == [f"a{number}" for number in range(500 - len(kept), 500)] and len(kept) > 10


def test_torn_lines_cost_themselves_only(store: Path) -> None:
    record_event("container", "first", ID, {})
    whole = (store / "events.jsonl").read_bytes()
    with (store / "events.jsonl").open("ab") as file:
        file.write(b"\0\0\n{}\n[]\nnull\n" + whole[:60])  # the half of a full disk, to which the next is glued
    record_event("container", "second", ID, {})
    record_event("network", "third", ID, {})
    with (store / "events.jsonl").open("ab") as file:
        file.write(whole[:70])
    assert actions() == ["first", "second", "third"]


def test_times() -> None:
    moments = []
    for number in range(4):
        moments.append(time.time_ns())
        record_event("container", f"a{number}", ID, {})
    assert [event.action for event in found(since=moments[2])] == ["a2", "a3"]
    assert [event.action for event in found(until=moments[2])] == ["a0", "a1"]
    # without a time it is from now on
    assert [e for es in event_reading.read({}, follow=False) for e in es] == []
    start = time.monotonic()
    lists = list(event_reading.read({}, since=0, until=time.time_ns() + 2 * 10**8))
    assert sum(map(len, lists)) == 4 and 0.15 < time.monotonic() - start < 5


def test_filters() -> None:
    attributes = {"name": "web", "image": "me/tools:1", "tier": "front", "com.x": "y"}
    record_event("container", "create", ID, attributes)
    record_event("container", "exec_create: sh -c x", ID, attributes)
    record_event("container", "die", "cd" * 32, {"name": "db", "image": "debian:12", "exitCode": "1"})
    record_event("image", "tag", "sha256:" + "1" * 64, {"name": "me/tools:1"})
    record_event("network", "connect", "ef" * 32, {"name": "bridge", "container": ID})
    record_event("volume", "mount", "data", {"container": ID})
    assert actions(container="web") == actions(container="abab") == ["create", "exec_create: sh -c x"]
    assert actions(container=["web", "db"]) == ["create", "exec_create: sh -c x", "die"]
    assert actions(event="exec_create") == ["exec_create: sh -c x"]
    assert actions(event=["die", "tag"], type="container") == ["die"]
    assert actions(image="me/tools") == actions(image="me/tools:1") == ["create", "exec_create: sh -c x", "tag"]
    assert actions(image="debian") == ["die"]
    assert actions(label="tier") == actions(label=["tier=front", "com.x=y"]) == ["create", "exec_create: sh -c x"]
    assert actions(label=["tier=back"]) == actions(label=["tier", "none"]) == []
    assert actions(type=["network", "volume"]) == ["connect", "mount"]
    assert actions(network="bridge") == ["connect"] and actions(volume="data") == ["mount"]
    assert len(actions(scope="local")) == 6 and actions(scope="swarm") == []
    assert actions(daemon="x") == actions(service="web") == []
    with pytest.raises(InvalidParameter, match=r"^invalid filter 'nosuch'$"):
        actions(nosuch="x")


# -- the command -----------------------------------------------------------------------------------


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main.main(["events", "--since", "1", "--until", "0s", *words])
    return code, *capfd.readouterr()


def test_lines_are_dockers(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"status": "die", "id": ID}
    attributes = {"name": "web", "exitCode": "1", "image": "i", "bad": "\x1b[2J"}
    event = Event("container", "die", ID, attributes, 1709210096 * 10**9 + 120, record)
    for zone, shown in (
        ("UTC", "2024-02-29T12:34:56.000000120Z"),
        ("Europe/Berlin", "2024-02-29T13:34:56.000000120+01:00"),
        ("America/St_Johns", "2024-02-29T09:04:56.000000120-03:30"),
    ):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert command.line(event) == f"{shown} container die {ID} (bad=\\x1b[2J, exitCode=1, image=i, name=web)"
    monkeypatch.undo()
    time.tzset()
    assert command.line(event._replace(attributes={})).endswith(f" container die {ID}")


def test_command(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record_event("container", "start", ID, {"name": "web", "image": "i"})
    record_event("network", "connect", "ef" * 32, {"name": "bridge"})
    code, out, err = run(capfd)
    assert (code, err) == (0, "")
    assert [text.split(" ", 1)[1] for text in out.splitlines()] == [
        f"container start {ID} (image=i, name=web)",
        f"network connect {'ef' * 32} (name=bridge)",
    ]
    code, out, _ = run(capfd, "--format", "json", "-f", "type=container")
    assert out == (store / "events.jsonl").read_text().splitlines()[0] + "\n"
    assert run(capfd, "--format", "{{json .}}", "-f", "type=container")[1] == out
    template = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.ID}} {{.Status}} {{.From}} {{.Scope}}"
    assert run(capfd, "--format", template, "-f", "container=web")[1] == f"container start web {ID} start i local\n"
    assert run(capfd, "-f", "event=nothing") == (0, "", "")


def test_what_the_command_refuses(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, "-f", "web")
    assert (code, out) == (125, "") and err.startswith(
        'rdock: invalid argument "web" for "-f, --filter" flag: bad format of filter (expected name=value)\n'
    )
    assert run(capfd, "-f", "nosuch=x") == (1, "", "rdock: invalid filter 'nosuch'\n")
    code, _, err = run(capfd, "--since", "yesterday")
    assert code == 1 and err.startswith('rdock: invalid value for "since": failed to parse value as time or duration')


def test_on_a_full_disk_nothing_fails(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(events.os, "write", full)
    record_event("container", "start", ID, {})
    monkeypatch.undo()
    assert not (store / "events.jsonl").read_bytes()
