"""Images in which a path that the engine touches is something else than it expects.

Each root is the starter's with a layer on top (tests/payload/roots.py). A container either runs, and then
inside is all as it should be, or is refused in one line; either way within seconds, and the canary, a tree
of the user's outside, is as before. The witness is real: the container's root is the user that owns it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.conftest import is_clear
from tests.cli.terminal import Terminal
from tests.payload.roots import Canary, Entry, Store, fifo, gone, program, sparse
from tests.payload.tars import directory, file, symlink
from tests.program import Rdock, Result

SECONDS = 20  # for a start on a machine that is busy; a blocking open would last for ever

# What must be so in every container that runs, whatever its image looks like.
SOUND = r"""
bad() { echo "bad: $*"; }
busybox grep -q '^proc /proc proc ' /proc/mounts || bad no proc
busybox grep -q '^tmpfs /dev tmpfs ' /proc/mounts || bad no dev
busybox grep -q '^devpts /dev/pts devpts ' /proc/mounts || bad no pts
[ "$(busybox stat -c %t:%T /dev/null)" = 1:3 ] || bad null
[ "$(busybox stat -c %t:%T /dev/zero)" = 1:5 ] || bad zero
[ -d /dev/shm ] && [ -d /dev/mqueue ] || bad shm
for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/kernel/hostname /proc/irq/x /proc/bus/x /sys/x; do
    (echo x >$f) 2>/dev/null && bad wrote $f
done
for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do
    [ ! -e $f ] || [ -z "$(busybox head -c 10 $f 2>/dev/null)" ] || bad read $f
done
for d in /proc/acpi /proc/scsi /sys/firmware; do [ -z "$(busybox ls -A $d 2>/dev/null)" ] || bad listed $d; done
[ "$(busybox readlink /proc/self/root)" = / ] || bad root
for f in /proc/1/fd/*; do
    [ ! -L $f ] || case $f in */[012]) ;; *) bad descriptor $f ;; esac
done
busybox grep -q canary /etc/hosts /etc/hostname /etc/resolv.conf 2>/dev/null && bad read the canary
echo sound
"""


class Root(NamedTuple):
    entries: list[Entry]
    runs: bool = True
    options: tuple[str, ...] = ()


def roots(canary: bytes) -> dict[str, Root]:
    """About fifty roots. `canary` is the host's path of the tree outside."""
    up = b"../" * 12 + canary[1:]
    found: dict[str, Root] = {}
    # Directories with file systems of the engine's own.
    for path, name in ((b"proc", "proc"), (b"dev", "dev"), (b"sys", "sys")):
        found |= {
            f"{name}-absolute": Root([symlink(path, canary)], False),
            f"{name}-relative": Root([symlink(path, up)], False),
            f"{name}-chain": Root([symlink(path, b"one"), symlink(b"one", b"two"), symlink(b"two", canary)], False),
            f"{name}-loop": Root([symlink(path, path)], False),
            f"{name}-fifo": Root([fifo(path)], False),
            f"{name}-file": Root([file(path, b"x")], False),
            f"{name}-missing": Root([gone(path)]),
        }
    for path in (b"null", b"console", b"pts", b"shm", b"mqueue", b"tty", b"ptmx"):
        entries = [directory(b"dev"), symlink(b"dev/" + path, canary + b"/" + path)]
        found[f"dev-{path.decode()}"] = Root(entries)
    found["dev-null-fifo"] = Root([directory(b"dev"), fifo(b"dev/null"), fifo(b"dev/console")])
    found["dev-null-file"] = Root([directory(b"dev"), file(b"dev/null", b"x"), file(b"dev/console", b"x")])
    found["sys-cgroup"] = Root([directory(b"sys/fs"), symlink(b"sys/fs/cgroup", canary + b"/cgroup")])
    found["proc-fake"] = Root([directory(b"proc/sys/kernel"), symlink(b"proc/self", up), file(b"proc/mounts", b"x")])
    # Files that are generated for each container.
    for path in (b"etc/hosts", b"etc/hostname", b"etc/resolv.conf"):
        name = path.decode().replace("/", "-")
        found |= {
            f"{name}-absolute": Root([symlink(path, canary + b"/hosts")]),
            f"{name}-relative": Root([symlink(path, up + b"/hosts")]),
            f"{name}-loop": Root([symlink(path, path.split(b"/")[1])], False),
            f"{name}-fifo": Root([fifo(path)]),
            f"{name}-directory": Root([directory(path)], False),
        }
    found |= {
        "etc-dangling": Root([symlink(b"etc/resolv.conf", b"../run/systemd/resolve/stub-resolv.conf")]),
        "etc-sparse": Root([sparse(b"etc/hosts", 1 << 31)]),
        "etc-to-null": Root([symlink(b"etc/hosts", b"/dev/null")]),
        "etc-to-proc": Root([symlink(b"etc/hosts", b"/proc/sys/kernel/core_pattern")], False),
        "etc-to-sysrq": Root([symlink(b"etc/hosts", b"/proc/sysrq-trigger")], False),
        "etc-to-descriptor": Root([symlink(b"etc/hosts", b"/proc/self/fd/7")], False),
        "etc-to-root": Root([symlink(b"etc/hosts", b"/proc/1/root/" + canary[1:] + b"/hosts")], False),
        "etc-to-cwd": Root([symlink(b"etc/hosts", b"/proc/self/cwd/hosts")], False),
        "etc-absolute": Root([symlink(b"etc", canary)]),
        "etc-relative": Root([symlink(b"etc", up + b"/etc")]),
        "etc-file": Root([file(b"etc", b"x")], False),
        "etc-missing": Root([gone(b"etc")]),
        "etc-fifo": Root([fifo(b"etc")], False),
        "etc-to-dev": Root([symlink(b"etc", b"/dev")]),
    }
    # Programs and directories that options name.
    init = b"sbin/docker-init"
    found |= {
        "init-absolute": Root([symlink(init, canary + b"/secret")], True, ("--init",)),
        "init-fifo": Root([fifo(init)], True, ("--init",)),
        "init-directory": Root([directory(init)], False, ("--init",)),
        "init-program": Root([program(init, b"#!/bin/sh\necho bad: init of the image\n")], True, ("--init",)),
        "init-sbin": Root([symlink(b"sbin", canary)], True, ("--init",)),
        "init-missing": Root([gone(b"sbin")], True, ("--init",)),
        "workdir-absolute": Root([symlink(b"work", canary)], True, ("-w", "/work")),
        "workdir-relative": Root([symlink(b"job", up)], True, ("-w", "/job/sub/deep")),
        "workdir-fifo": Root([fifo(b"work")], False, ("-w", "/work")),
        "workdir-loop": Root([symlink(b"work", b"work")], False, ("-w", "/work")),
        "workdir-descriptor": Root([symlink(b"work", b"/proc/self/fd/8")], False, ("-w", "/work")),
        "tmpfs-absolute": Root([symlink(b"srv", canary)], True, ("--tmpfs", "/srv")),
        "tmpfs-relative": Root([symlink(b"run", up)], True, ("--tmpfs", "/run/deep")),
        "tmpfs-proc": Root([symlink(b"run", b"/proc")], False, ("--tmpfs", "/run")),
        "tmpfs-sysctl": Root([symlink(b"run", b"/proc/sys")], False, ("--tmpfs", "/run")),
        "tmpfs-loop": Root([symlink(b"run", b"run")], False, ("--tmpfs", "/run")),
        "tmpfs-fifo": Root([fifo(b"opt")], False, ("--tmpfs", "/opt")),
        "bind-absolute": Root([symlink(b"mnt", canary)], True, ("-v", "SHARED:/mnt")),
        "bind-relative": Root([symlink(b"mnt", up)], True, ("-v", "SHARED:/mnt/deep:ro")),
        "bind-proc": Root([symlink(b"mnt", b"/proc")], False, ("-v", "SHARED:/mnt")),
        "bind-proc-self": Root([symlink(b"mnt", b"/proc/self")], False, ("-v", "SHARED:/mnt/attr")),
        "bind-loop": Root([symlink(b"mnt", b"mnt")], False, ("-v", "SHARED:/mnt")),
        "bind-file": Root([file(b"mnt", b"x")], False, ("-v", "SHARED:/mnt")),
    }
    return found


class World(NamedTuple):
    canary: Canary
    shared: Path
    store: Store
    roots: dict[str, Root]


@pytest.fixture(scope="module")
def world(shared_rdock: Rdock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    place = tmp_path_factory.mktemp("outside")
    canary = Canary(place / "canary")
    (place / "shared").mkdir()
    found = roots(os.fsencode(canary.path))
    store = Store(shared_rdock, "hostile-root")
    store.load({name: root.entries for name, root in found.items()})
    yield World(canary, place / "shared", store, found)
    store.remove()


def arguments(world: World, name: str, *more: str) -> list[str]:
    options = [option.replace("SHARED", str(world.shared)) for option in (*world.roots[name].options, *more)]
    return ["run", "--rm", "--network", "none", *options, world.store.name(name), "busybox", "sh", "-c", SOUND]


def run(rdock: Rdock, world: World, name: str, *more: str) -> Result:
    try:
        return rdock(*arguments(world, name, *more), timeout=SECONDS)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{name}: still at it after {SECONDS} seconds")
    finally:
        world.canary.check()


def problem(result: Result, root: Root) -> str:
    """Empty if it ended as it should."""
    if root.runs:
        good = result.code == 0 and result.out.replace("\r", "") == "sound\n"
    else:
        good = result.code in (125, 126, 127) and result.out == "" and is_clear(result.err, 1)
    expected = "should run" if root.runs else "should be refused"
    return "" if good else f"{expected}, but exit code {result.code}: {result.out} {result.err}"


def check(rdock: Rdock, world: World, names: list[str], *more: str) -> None:
    found = {name: problem(run(rdock, world, name, *more), world.roots[name]) for name in names}
    problems = [f"{name}: {text}" for name, text in found.items() if text]
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


GROUPS = ("proc", "dev", "sys", "etc", "init", "workdir", "tmpfs", "bind")


@pytest.mark.parametrize("group", GROUPS)
def test_runs_or_is_refused(rdock: Rdock, world: World, group: str) -> None:
    check(rdock, world, [name for name in world.roots if name.startswith(group)])


def test_every_root_is_in_a_group(world: World) -> None:
    assert all(name.split("-")[0] in GROUPS for name in world.roots) and len(world.roots) > 60


def test_with_a_terminal_and_a_read_only_root(rdock: Rdock, world: World) -> None:
    names = [name for name in world.roots if not name.startswith("init") or world.roots[name].runs]
    check(rdock, world, names[::2], "-t", "--read-only")


def test_with_init(rdock: Rdock, world: World) -> None:
    check(rdock, world, [name for name in world.roots if name.startswith(("proc", "dev"))][::2], "--init", "-t")


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 4))])
def test_on_the_other_drivers(rdock: Rdock, storage: str, world: World, part: int) -> None:
    if storage == "overlay":
        pytest.skip("as in the other tests")
    check(rdock, world, list(world.roots)[part::4])


def test_with_another_runtime(rdock: Rdock, runtime: str, world: World) -> None:
    """What it refuses is its own affair; what is outside, and what runs, is not."""
    if runtime == "rdock":
        pytest.skip("as in the other tests")
    for name in [name for name in world.roots if not name.startswith("init")][::3]:
        result = run(rdock, world, name)
        refused = result.code in (125, 126, 127) and is_clear(result.err)
        assert refused or (result.code, result.out) == (0, "sound\n"), f"{name}: {result}"


def test_console_is_the_terminal_whatever_the_image_has_there(rdock: Rdock, world: World) -> None:
    name = world.store.name("dev-console")
    script = "tty; [ /dev/console -ef /dev/pts/0 ] && echo same; echo seen >/dev/console"
    with Terminal(rdock, "run", "--rm", "-it", "--network", "none", name, "sh", "-c", script) as terminal:
        shown = terminal.await_text("seen").split()
        assert terminal.end() == 0
    assert shown[:3] == ["/dev/pts/0", "same", "seen"]
    world.canary.check()
