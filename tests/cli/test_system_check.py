"""system check: each thing that can be wrong in a store is found, told in one line, and mended if it can be."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import wait_for, write_settings
from tests.conftest import STARTER, _close
from tests.payload.image_archives import docker_archive, simple
from tests.program import Home, Rdock

PLAIN = ("--network", "none")
CLEAN = "no problems found\n"
OTHER = "f" * 64


@pytest.fixture(scope="module")
def shared_store() -> Iterator[Rdock]:
    program = Rdock(Home())
    write_settings(program, '{"holder-linger": 1}')
    program.ok("run", "--rm", *PLAIN, STARTER, "true")
    yield program
    _close(program)


@pytest.fixture
def store(shared_store: Rdock) -> Iterator[Rdock]:
    """A store that is in order, and has to be again at the end."""
    yield shared_store
    shared_store.remove_containers()
    result = shared_store("system", "check", "--images")
    assert (result.code, result.out) == (0, CLEAN), result


def containers(store: Rdock) -> Path:
    return store.home.data / "containers"


def made(store: Rdock, name: str = "box") -> str:
    return store.ok("create", "--name", name, *PLAIN, STARTER, "true")


def found(store: Rdock, *lines: str) -> None:
    """These lines and no others."""
    result = store("system", "check")
    assert result.code == 1 and result.out.splitlines() == list(lines), result


def mended(store: Rdock, *lines: str) -> None:
    """Found, mended, and gone."""
    found(store, *lines)
    result = store("system", "check", "--repair")
    assert result.code == 0, result
    assert result.out.splitlines() == [*(f"repaired: {line}" for line in lines), CLEAN.strip()], result
    assert store("system", "check").out == CLEAN


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_clean(store: Rdock) -> None:
    made(store, "created")
    running = store.ok("run", "-d", "--name", "runs", *PLAIN, STARTER, "sleep", "1000")
    store.ok("run", "--name", "ended", *PLAIN, STARTER, "true")
    store.ok("run", "-d", "--name", "round", "--restart", "always", *PLAIN, STARTER, "false")
    store.ok("pause", running)
    for words in ((), ("--images",), ("-r",), ("--repair", "--images")):
        result = store("system", "check", *words)
        assert (result.code, result.out, result.err) == (0, CLEAN, ""), result
    assert store.ok("inspect", "-f", "{{.State.Status}}", running) == "paused"


def test_empty_store(own_rdock: Rdock) -> None:
    assert own_rdock("system", "check").out == CLEAN


def test_record_of_a_container(store: Rdock) -> None:
    container = made(store)
    path = containers(store) / container / "container.json"
    good = path.read_text()
    path.write_text(good[:50])
    result = store("system", "check", "--repair")
    assert result.code == 1 and result.out.startswith(f"container {container[:12]}: cannot read {path}: "), result
    assert len(result.out.splitlines()) == 1
    path.unlink()
    found(store, f"container {container[:12]}: it has no record")
    path.write_text(good)


def test_state_of_a_container(store: Rdock) -> None:
    container = store.ok("run", "-d", "--name", "box", *PLAIN, STARTER, "true")
    store.ok("wait", container)
    path = containers(store) / container / "state.json"
    path.write_text("{")
    result = store("system", "check")
    assert result.code == 1
    assert result.out.startswith(f"container {container[:12]} (box): cannot read {path}: "), result


def test_what_is_no_container(store: Rdock) -> None:
    (containers(store) / "odd\x1b[2J").mkdir()
    found(store, r"containers/odd\x1b[2J: is not a container")
    (containers(store) / "odd\x1b[2J").rmdir()


def test_names(store: Rdock) -> None:
    container = made(store)
    names = containers(store) / ".names"
    (names / "ghost").symlink_to(OTHER)
    (names / "second").symlink_to(container)
    mended(
        store,
        "name ghost: leads nowhere",
        f"name second: leads to container {container[:12]}, which is called box",
    )
    assert {entry.name for entry in os.scandir(names)} - {".lock"} == {"box"}
    (names / "box").unlink()
    mended(store, f"container {container[:12]} (box): its name leads nowhere")
    assert store.ok("inspect", "-f", "{{.Id}}", "box") == container
    (names / "file").write_text("")
    found(store, "name file: is not a link")
    (names / "file").unlink()


def test_name_that_leads_to_another(store: Rdock) -> None:
    one, two = made(store, "one"), made(store, "two")
    link = containers(store) / ".names" / "one"
    link.unlink()
    link.symlink_to(two)
    lines = (
        f"container {one[:12]} (one): its name leads to {two[:12]}",
        f"name one: leads to container {two[:12]}, which is called two",
    )
    result = store("system", "check")
    assert set(result.out.splitlines()) == set(lines), result
    store("system", "check", "-r")  # frees the name, then gives it back
    store.ok("system", "check", "-r") if store("system", "check").code else ""
    assert store.ok("inspect", "-f", "{{.Id}}", "one") == one


def test_locks(store: Rdock) -> None:
    container = made(store)
    (containers(store) / ".locks" / container).write_text("")
    (containers(store) / ".locks" / OTHER).write_text("")
    lines = sorted([f"lock {container[:12]}: left by a process that was killed",
                    f"lock {OTHER[:12]}: left by a process that was killed"])  # fmt: skip
    mended(store, *lines)
    assert store.ok("inspect", "-f", "{{.State.Status}}", container) == "created"


def test_staging_and_run_directories(store: Rdock) -> None:
    container = store.ok("create", *PLAIN, STARTER, "true")
    (store.home.data / "staging" / "half").mkdir()
    run = store.home.runtime / "rdock"
    (run / "containers" / container).mkdir()
    (run / "containers" / OTHER).mkdir()  # of another store, which has the same runtime directory
    (run / "removed").mkdir(exist_ok=True)
    (run / "removed" / "old").mkdir()
    mended(
        store,
        f"run directory {container[:12]}: left by a process that was killed",
        "run directory old: its removal was broken off",
        "staging half: left by a process that was killed",
    )
    assert os.listdir(run / "containers") == [OTHER]
    (run / "containers" / OTHER).rmdir()


def test_monitor_and_keeper_are_gone(store: Rdock) -> None:
    container = store.ok("run", "-d", "--name", "box", *PLAIN, STARTER, "sleep", "1000")
    other = store.ok("run", "-d", *PLAIN, STARTER, "sleep", "1000")
    record = json.loads((containers(store) / container / "state.json").read_text())
    for name in ("KeeperPid", "MonitorPid"):
        os.kill(record[name], signal.SIGKILL)
    time.sleep(0.3)
    mended(
        store,
        f"container {container[:12]} (box): it is recorded as running, and nobody is there who sees to it",
        f"lock {container[:12]}: left by a process that was killed",
    )
    assert store.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", container) == "exited 137"
    assert store.ok("exec", other, "echo", "untouched") == "untouched"


def test_state_that_claims_to_run(store: Rdock) -> None:
    """As after a reboot that has lost the lock."""
    container = store.ok("run", "-d", "--name", "box", *PLAIN, STARTER, "true")
    store.ok("wait", container)
    edit(containers(store) / container / "state.json", Finished=False, Pid=1, PidStart=1, Boot="0")
    mended(store, f"container {container[:12]} (box): it is recorded as running, and nobody is there who sees to it")
    assert store.ok("inspect", "-f", "{{.State.Status}}", container) == "exited"


def test_image_of_a_container(store: Rdock) -> None:
    container = made(store)
    path = containers(store) / container / "container.json"
    good = path.read_text()
    edit(path, Image=OTHER)
    found(store, f"container {container[:12]} (box): its image {OTHER[:12]} is not there")
    path.write_text(good)


def test_layers_of_a_container(store: Rdock) -> None:
    made(store)
    layers = store.home.data / "layers"
    (chain,) = (entry.name for entry in os.scandir(layers) if entry.is_dir())
    record = layers / chain / "layer.json"
    good = record.read_text()
    record.write_text("{}")
    found(store, f"layer {chain[:12]}: layer record is damaged: 'chain'")
    record.unlink()
    found(store, f"layer {chain[:12]}: it has no record")
    record.write_text(good)
    (layers / chain / "diff").rename(layers / chain / "away")
    found(store, f"layer {chain[:12]}: its files are missing")
    (layers / chain / "away").rename(layers / chain / "diff")
    (layers / f"{OTHER}.lock").write_text("")
    mended(store, f"layer {OTHER[:12]}: its lock was left by a process that was killed")
    shutil.copytree(layers / chain, layers / OTHER, symlinks=True)
    found(store, f"layer {OTHER[:12]}: no image needs it")
    shutil.rmtree(layers / OTHER)
    running = store.ok("run", "-d", "--name", "runs", *PLAIN, STARTER, "sleep", "1000")
    if store.ok("inspect", "-f", "{{.GraphDriver.Name}}", running) != "copy":
        (layers / chain).rename(store.home.data / "away")
        found(store, f"container {running[:12]} (runs): layer {chain[:12]}, on which it stands, is not there")
        (store.home.data / "away").rename(layers / chain)


def test_images(store: Rdock) -> None:
    store.ok("load", "-q", input=docker_archive((simple(b"of the check"), ["checked:latest"])))
    image = store.ok("images", "-q", "--no-trunc", "checked").removeprefix("sha256:")
    blobs = store.home.data / "images" / "blobs" / "sha256"
    index = json.loads((store.home.data / "images" / "index.json").read_text())
    (digest,) = (item["digest"].partition(":")[2] for item in index["manifests"] if image in str(item))
    manifest = json.loads((blobs / digest).read_text())
    layer = blobs / manifest["layers"][0]["digest"].partition(":")[2]
    good = layer.read_bytes()
    layer.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert store("system", "check").out == CLEAN  # of the same length: only a thorough look tells
    result = store("system", "check", "--images")
    assert result.code == 1 and result.out.startswith(f"blob sha256:{layer.name}: its content has the digest "), result
    layer.write_bytes(good + b"x")
    found(store, f"image {image[:12]}: blob sha256:{layer.name} has {len(good) + 1} bytes, not {len(good)}")
    layer.unlink()
    found(store, f"image {image[:12]}: blob sha256:{layer.name} of a layer is missing")
    layer.write_bytes(good)
    (blobs / OTHER).write_bytes(b"")
    found(store, f"blob sha256:{OTHER}: no image needs it")
    (blobs / OTHER).unlink()
    config = blobs / image
    text = config.read_bytes()
    config.write_bytes(text[:-1] + b" ")
    result = store("system", "check")
    assert result.code == 1 and f"image {image[:12]}: blob sha256:{image} is damaged" in result.out, result
    config.write_bytes(text)
    repositories = store.home.data / "images" / "repositories.json"
    before = repositories.read_text()
    names = json.loads(before)["references"] | {"docker.io/library/lost:latest": OTHER}
    edit(repositories, references=names)
    found(store, f"image name docker.io/library/lost:latest: leads to {OTHER[:12]}, which is not there")
    repositories.write_text("{")
    result = store("system", "check")
    assert result.code == 1 and result.out.startswith(f"cannot read {repositories}: "), result
    repositories.write_text(before)
    store.ok("rmi", "checked")


def test_temporary_files(store: Rdock) -> None:
    container = made(store)
    places = [store.home.data, store.home.data / "images", containers(store) / container, store.home.data / "layers"]
    lines = []
    for place in places:
        (place / "record.json.99.tmp").write_text("half")
        lines.append(f"file {place / 'record.json.99.tmp'}: left by a process that was killed")
    result = store("system", "check")
    assert result.code == 1 and set(result.out.splitlines()) == set(lines), result
    result = store("system", "check", "-r")
    assert result.code == 0 and len(result.out.splitlines()) == len(lines) + 1, result


def test_while_others_are_at_work(store: Rdock) -> None:
    """What is half-made at this moment is no problem."""
    loops = [
        store.start("run", "--rm", *PLAIN, STARTER, "true", stdin=-3, stdout=-3, stderr=-3) for _ in range(12)
    ]  # fmt: skip
    for _ in range(4):
        result = store("system", "check")
        assert (result.code, result.out) == (0, CLEAN), result
    assert [each.wait(60) for each in loops] == [0] * 12
    wait_for(lambda: store.ok("ps", "-aq") == "")


def test_usage(store: Rdock) -> None:
    assert store("system", "check", "word").code == 1
    assert "--repair" in store.ok("system", "check", "--help")
    assert "check" in store.ok("system", "--help")
