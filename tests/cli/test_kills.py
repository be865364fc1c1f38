"""SIGKILL at any instant: afterwards every command works, and the next one leaves nothing half-made behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import store, wait_for, write_settings
from tests.conftest import STARTER, _close
from tests.payload.image_archives import docker_archive, simple
from tests.program import Home, Rdock

pytestmark = pytest.mark.slow

# The whole session is made by one number, so that a failure can be played again.
SEED = int(os.environ.get("RDOCK_TEST_SEED") or time.time())


@pytest.fixture(scope="module")
def victim() -> Iterator[Rdock]:
    program = Rdock(Home())
    write_settings(program, '{"holder-linger": 1}')
    program.ok("run", "--rm", "--network", "none", STARTER, "true")
    yield program
    _close(program)


@pytest.fixture
def chance() -> random.Random:
    return random.Random(SEED)


def kill_command(command: subprocess.Popen[bytes], victim: Rdock, chance: random.Random) -> None:
    command.kill()


def kill_group(command: subprocess.Popen[bytes], victim: Rdock, chance: random.Random) -> None:
    os.killpg(command.pid, signal.SIGKILL)


def kill_any(command: subprocess.Popen[bytes], victim: Rdock, chance: random.Random) -> None:
    """Some process of this rdock: the command, a monitor, the holder, a helper, what runs in a container."""
    for pid in chance.sample([int(line.split()[0]) for line in victim.home.processes()] or [0], 1):
        if pid:
            _kill(pid)


def kill_all(command: subprocess.Popen[bytes], victim: Rdock, chance: random.Random) -> None:
    """As when the machine runs out of memory, or a CI job is cleared away."""
    for line in victim.home.processes():
        _kill(int(line.split()[0]))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


Kill = Callable[[subprocess.Popen[bytes], Rdock, random.Random], None]
KILLS: list[Kill] = [kill_command, kill_group, kill_any, kill_all]


def check(victim: Rdock, story: str) -> None:
    """What must be so after any kill: the next command works, and lists and directories agree."""
    result = victim("run", "--rm", "--network", "none", STARTER, "echo", "works")
    assert (result.code, result.out) == (0, "works\n"), f"{story}\n{result}"
    listed = set(victim.ok("ps", "-aq", "--no-trunc").split())
    data = victim.home.data
    there = {name for name in os.listdir(data / "containers") if not name.startswith(".")}
    assert listed == there, story
    names = {os.readlink(entry.path) for entry in os.scandir(data / "containers" / ".names") if entry.is_symlink()}
    assert names == there, f"{story}: names of no container"
    for container in listed:
        state = victim.ok("inspect", "-f", "{{.State.Status}}", container)
        if state == "running" and "fuse-overlayfs" not in story:  # without that one there is no root to enter
            assert victim("exec", container, "true").code == 0, story
    wait_for(lambda: not os.listdir(data / "staging"), f"{story}: half-made things", 10)
    images = victim.ok("images", "-q", "--no-trunc").split()
    for image in images:
        victim.ok("inspect", "--type", "image", image)


def clear(victim: Rdock, story: str) -> None:
    """Every container can be removed, and then nothing of any is left."""
    containers = victim.ok("ps", "-aq").split()
    if containers:
        victim.ok("rm", "-f", *containers)
    assert victim.ok("ps", "-aq") == "", story
    wait_for(lambda: not os.listdir(victim.home.runtime / "rdock" / "containers"), f"{story}: run directories", 10)
    left = [
        line for line in victim.home.processes() if "rdock-monitor" in line or "slirp4netns" in line or "sleep" in line
    ]
    wait_for(lambda: not any(os.path.exists(f"/proc/{line.split()[0]}") for line in left), f"{story}: {left}", 10)
    assert victim.home.mounts() == [], story
    wait_for(lambda: not groups(), f"{story}: control groups", 10)


def groups() -> list[str]:
    """Control groups of containers in the place where this session may make them."""
    own = next(line for line in open("/proc/self/cgroup") if line.startswith("0::"))[3:].strip()
    parent = Path("/sys/fs/cgroup" + own).parent
    return [path.name for path in parent.rglob("rdock-*") if len(path.name) == 70]


def attack(
    victim: Rdock, chance: random.Random, args: tuple[str, ...], kill: Kill, most: float, data: bytes = b""
) -> str:
    """Start a command and kill at a random instant of its life; what was done, for messages."""
    delay = chance.random() * most
    story = f"seed {SEED}: {kill.__name__} {delay:.4f} s after the start of {' '.join([*victim.options, *args])}"
    command = victim.start(*args, stdin=subprocess.PIPE, start_new_session=True)
    assert command.stdin
    try:
        if data:
            command.stdin.write(data)
            command.stdin.close()
    except BrokenPipeError:
        pass
    time.sleep(delay)
    kill(command, victim, chance)
    if kill is kill_any:
        command.kill()  # it may wait for ever for what was not killed
    command.wait(30)
    for stream in (command.stdout, command.stderr):
        if stream:
            stream.close()
    return story


@pytest.mark.parametrize("kill", KILLS)
@pytest.mark.parametrize("options", [("--rm",), ("--rm", "-d"), ("-d",)])
def test_run(victim: Rdock, chance: random.Random, options: tuple[str, ...], kill: Kill) -> None:
    for number in range(6):
        network = ("--network", "none") if number % 2 else ()
        story = attack(
            victim, chance, ("run", *options, *network, "--name", "target", STARTER, "sleep", "3"), kill, 0.2
        )
        check(victim, story)
        # The name is free, or belongs to a container that is there.
        victim("rm", "-f", "target")
        assert victim("run", "-d", "--network", "none", "--name", "target", STARTER, "true").code == 0, story
        clear(victim, story)


@pytest.mark.parametrize("kill", KILLS)
@pytest.mark.parametrize("command", ["rm", "stop", "exec", "kill"])
def test_of_a_running_container(victim: Rdock, chance: random.Random, command: str, kill: Kill) -> None:
    options = {"rm": ("-f",), "stop": ("-t", "0"), "exec": (), "kill": ()}[command]
    for _ in range(4):
        container = victim.ok("run", "-d", "--network", "none", STARTER, "sleep", "100")
        words = ("sleep", "1") if command == "exec" else ()
        story = attack(victim, chance, (command, *options, container, *words), kill, 0.12)
        check(victim, story)
        clear(victim, story)


@pytest.mark.parametrize("driver", ["fuse-overlayfs", "copy"])
def test_run_on_other_drivers(victim: Rdock, chance: random.Random, driver: str) -> None:
    program = Rdock(victim.home, ["--storage-driver", driver])
    for kill in KILLS * 2:
        story = attack(program, chance, ("run", "--rm", "--network", "none", STARTER, "sleep", "2"), kill, 0.25)
        check(victim, story)
        clear(victim, story)
        wait_for(
            lambda: not any("fuse-overlayfs" in line for line in victim.home.processes()),
            f"{story}: fuse-overlayfs",
            10,
        )


@pytest.mark.parametrize("kill", KILLS)
def test_load(victim: Rdock, chance: random.Random, kill: Kill) -> None:
    before = store(victim)
    for number in range(6):
        archive = docker_archive((simple(b"%d %s" % (number, kill.__name__.encode()), Volumes={}), ["loaded:latest"]))
        story = attack(victim, chance, ("load", "-q"), kill, 0.15, archive)
        check(victim, story)
        victim.ok("load", "-q", input=archive)
        victim.ok("rmi", "loaded:latest")
        clear(victim, story)
        # The half of a record that a killed writer left beside it stays; it harms nobody, and nobody reads it.
        assert {path for path in store(victim) if ".tmp " not in path} == before, story


def test_first_use(chance: random.Random) -> None:
    """The very first command: directories, holder, image, all half-made."""
    for kill in KILLS:
        for _ in range(2):
            program = Rdock(Home())
            write_settings(program, '{"holder-linger": 0}')
            story = attack(program, chance, ("run", "--rm", STARTER, "true"), kill, 0.25)
            check(program, story)
            clear(program, story)
            _close(program)


# What is done to a container of a state, and how long it lives at most, in seconds.
LIFE = {
    ("create", "--name", "other", "--network", "none", STARTER, "true"): ("none", 0.15),
    ("start", "it"): ("created", 0.2),
    ("start", "-a", "it"): ("created", 0.3),
    ("stop", "-t", "0", "it"): ("running", 0.2),
    ("restart", "-t", "0", "it"): ("running", 0.3),
    ("pause", "it"): ("running", 0.12),
    ("unpause", "it"): ("paused", 0.12),
    ("attach", "it"): ("running", 0.15),
    ("exec", "it", "sleep", "1"): ("running", 0.15),
    ("rename", "it", "other"): ("created", 0.1),
    ("update", "--restart", "always", "it"): ("running", 0.1),
    ("rm", "-f", "it"): ("paused", 0.2),
    ("rm", "it"): ("created", 0.12),
    ("container", "prune", "-f"): ("created", 0.15),
    ("run", "-d", "--restart", "always", "--network", "none", STARTER, "false"): ("none", 0.5),
}


@pytest.mark.parametrize("words", LIFE, ids=" ".join)
def test_the_whole_life(victim: Rdock, chance: random.Random, words: tuple[str, ...]) -> None:
    """Twenty kills of each: all in all three hundred. What is stored is in order as soon as a command has run."""
    state, most = LIFE[words]
    for number in range(20):
        if state != "none":
            victim.ok("create", "--name", "it", "--network", "none", STARTER, "sleep", "100")
        if state in ("running", "paused"):
            victim.ok("start", "it")
        if state == "paused":
            victim.ok("pause", "it")
        # Everything is killed seldom, since it leaves little to be wrong.
        kill = KILLS[number % 3] if number % 10 else kill_all
        story = attack(victim, chance, words, kill, most)
        result = victim("run", "--rm", "--network", "none", STARTER, "echo", "works")
        assert (result.code, result.out) == (0, "works\n"), f"{story}\n{result}"
        result = victim("system", "check")
        assert (result.code, result.out) == (0, "no problems found\n"), f"{story}\n{result}"
        clear(victim, story)
        result = victim("system", "check")
        assert (result.code, result.out) == (0, "no problems found\n"), f"{story}\n{result}"
