"""Control groups where a subtree is delegated to this user, as scripts/test arranges; and where none is."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from rdock.linux import cgroup, kernelfile
from rdock.linux.cgroup import Cgroup


@pytest.fixture(scope="module")
def delegation() -> cgroup.Delegation:
    found = cgroup.probe()
    if found is None:
        pytest.skip("no cgroup v2 subtree is delegated to this user")
    return found


@pytest.fixture
def group(delegation: cgroup.Delegation) -> Iterator[Cgroup]:
    made = Cgroup.create(delegation.parent, f"rdock-test-{os.getpid()}-{time.monotonic_ns()}")
    yield made
    if made.exists():
        made.thaw()
        made.kill()
        made.remove()
    assert not made.exists()


@pytest.fixture
def spawn() -> Iterator[Callable[[Callable[[], None]], int]]:
    """Start a child that calls a function; all are ended and reaped afterwards."""
    pids = []

    def start(function: Callable[[], None]) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                function()
            finally:
                os._exit(0)
        pids.append(pid)
        return pid

    yield start
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def sleep() -> None:
    time.sleep(60)


def state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_probe_leaves_nothing(delegation: cgroup.Delegation) -> None:
    assert cgroup.probe() == delegation
    assert not [name for name in os.listdir(delegation.parent) if name.startswith(cgroup.PROBE)]
    assert os.path.isfile(f"{delegation.parent}/cgroup.procs")


def test_own_processes_can_be_moved_in_and_out(
    group: Cgroup, spawn: Callable[[Callable[[], None]], int], delegation: cgroup.Delegation
) -> None:
    pid = spawn(sleep)
    assert not group.populated()
    group.add(pid)
    assert group.populated()
    assert group.pids() == [pid]
    assert (cgroup.own_path(str(pid)) or "").endswith("/" + os.path.basename(group.path))
    os.kill(pid, signal.SIGKILL)
    assert group.wait_empty(5)
    assert group.pids() == []


def test_children_are_born_in_the_group(group: Cgroup) -> None:
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(go[0], 1)
        if os.fork() == 0:
            os.write(ready[1], b"x")
            time.sleep(60)
        os._exit(0)
    group.add(pid)
    os.write(go[1], b"x")
    os.read(ready[0], 1)
    os.waitpid(pid, 0)
    (child,) = group.pids()
    assert child != pid
    group.kill()
    assert group.wait_empty(5)
    for fd in (*ready, *go):
        os.close(fd)


def test_freeze_and_thaw(group: Cgroup, spawn: Callable[[Callable[[], None]], int]) -> None:
    read_end, write_end = os.pipe()

    def busy() -> None:
        while True:
            os.write(write_end, b"x")
            time.sleep(0.001)

    pid = spawn(busy)
    group.add(pid)
    assert os.read(read_end, 1)
    group.freeze()
    assert group.frozen()
    os.set_blocking(read_end, False)
    try:
        while os.read(read_end, 65536):
            pass
    except BlockingIOError:
        pass
    time.sleep(0.05)
    with pytest.raises(BlockingIOError):
        os.read(read_end, 1)
    os.set_blocking(read_end, True)
    group.thaw()
    assert not group.frozen()
    assert os.read(read_end, 1)
    os.close(read_end)
    os.close(write_end)


def test_waiting_ends_with_the_event(group: Cgroup, spawn: Callable[[Callable[[], None]], int]) -> None:
    """The wait is woken by the kernel rather than by looking again: it takes as long as the process lives."""
    pid = spawn(sleep)
    group.add(pid)
    assert not group.wait_empty(0.05)
    ends: list[float] = []

    def end() -> None:
        ends.append(time.monotonic())
        os.kill(pid, signal.SIGKILL)

    timer = threading.Timer(0.1, end)
    timer.start()
    before = time.process_time()
    assert group.wait_empty(20)
    assert time.process_time() - before < 0.05
    timer.join()
    assert ends


@pytest.mark.parametrize("old_kernel", [False, True])
def test_kill_takes_all_also_frozen_and_below(
    group: Cgroup,
    spawn: Callable[[Callable[[], None]], int],
    monkeypatch: pytest.MonkeyPatch,
    old_kernel: bool,
) -> None:
    below = Cgroup.create(group.path, "below")
    pids = [spawn(sleep) for _ in range(4)]
    for pid in pids[:2]:
        group.add(pid)
    for pid in pids[2:]:
        below.add(pid)
    group.freeze()
    assert sorted(group.pids()) == sorted(pids)
    assert sorted(group.own_pids()) == sorted(pids[:2])
    thawed: list[bool] = []
    if old_kernel:
        real = kernelfile.write

        def without_kill(path: str, text: str) -> None:
            if path.endswith("/cgroup.kill"):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            if path.endswith("/cgroup.freeze") and text == "0":
                # Thawed while they die, it would now and then stay "frozen" for good.
                thawed.append(group.populated())
            real(path, text)

        monkeypatch.setattr(kernelfile, "write", without_kill)
    group.kill()
    assert thawed == [False] * old_kernel
    assert group.wait_empty(5)
    assert {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids} == {-signal.SIGKILL}
    group.thaw()
    group.remove()
    assert not group.exists()


def test_kill_wins_against_a_fork_loop(group: Cgroup) -> None:
    go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(go[0], 1)
        while True:
            if os.fork() != 0:
                os._exit(0)
    group.add(pid)
    os.write(go[1], b"x")
    os.waitpid(pid, 0)
    group.kill()
    assert group.wait_empty(5)
    os.close(go[0])
    os.close(go[1])


def test_remove_refuses_a_group_in_use(group: Cgroup, spawn: Callable[[Callable[[], None]], int]) -> None:
    pid = spawn(sleep)
    group.add(pid)
    before = time.monotonic()
    with pytest.raises(OSError, match="busy"):
        group.remove(timeout=0.1)
    assert time.monotonic() - before < 5
    assert state(pid) == "S"


def test_remove_waits_for_the_dying(group: Cgroup, spawn: Callable[[Callable[[], None]], int]) -> None:
    for _ in range(20):
        group.add(spawn(sleep))
    group.kill()
    group.remove()
    assert not group.exists()
    group.remove()


def test_gone_group(delegation: cgroup.Delegation) -> None:
    gone = Cgroup(f"{delegation.parent}/rdock-test-none")
    assert not gone.exists()
    assert not gone.populated()
    assert gone.pids() == []
    assert gone.wait_empty(1)
    gone.remove()
    for act in (gone.kill, gone.freeze, lambda: gone.add(os.getpid())):
        with pytest.raises(FileNotFoundError):
            act()


def test_a_name_in_use(group: Cgroup) -> None:
    parent, name = os.path.split(group.path)
    with pytest.raises(FileExistsError):
        Cgroup.create(parent, name)
    assert Cgroup.create(parent, name, exist_ok=True).path == group.path


def test_statistics(group: Cgroup, spawn: Callable[[Callable[[], None]], int]) -> None:
    def busy() -> None:
        while True:
            pass

    group.add(spawn(busy))
    time.sleep(0.1)
    used = group.statistics()
    assert used.cpu is not None
    assert used.cpu > 1000
    assert used.pids in (None, 1)


def test_enable_makes_room(group: Cgroup, spawn: Callable[[Callable[[], None]], int]) -> None:
    pid = spawn(sleep)
    group.add(pid)
    with open(f"{group.path}/cgroup.controllers") as file:
        there = file.read().split()
    if not there:
        assert cgroup.enable(group.path, ["memory", "pids"]) == ()
        pytest.skip("no controller is passed on to the delegated subtree")
    assert sorted(cgroup.enable(group.path, [*there, "no-such"])) == sorted(there)
    assert group.own_pids() == []
    assert Cgroup(f"{group.path}/{cgroup.LEAF}").own_pids() == [pid]
    beside = Cgroup.create(group.path, "beside")
    beside.add(pid)
    assert beside.own_pids() == [pid]
    if "memory" in there:
        assert beside.statistics().memory is not None
        assert beside.statistics().memory_limit is None
        beside.set("memory.max", str(64 << 20))
        assert beside.statistics().memory_limit == 64 << 20
    if "pids" in there:
        assert beside.statistics().pids == 1


# -- finding the place, from texts ---------------------------------------------------------------

HYBRID = """\
31 20 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
"""


def fake_proc(directory: object, groups: str, mountinfo: str) -> str:
    os.makedirs(f"{directory}/self")
    for name, text in (("cgroup", groups), ("mountinfo", mountinfo)):
        with open(f"{directory}/self/{name}", "w") as file:
            file.write(text)
    return str(directory)


def test_own_path_and_mounts(tmp_path: object) -> None:
    another = "9 1 0:38 /x /mnt/a\\040b rw - cgroup2 c rw\n"
    proc = fake_proc(tmp_path, "4:memory:/m\n0::/user.slice/a b:c\n", HYBRID + another)
    assert cgroup.own_path("self", proc) == "/user.slice/a b:c"
    assert cgroup.mounts(proc) == [("/", "/sys/fs/cgroup/unified"), ("/x", "/mnt/a b")]


def test_covered_mounts_do_not_count(tmp_path: object) -> None:
    proc = fake_proc(tmp_path, "0::/\n", HYBRID + "50 31 0:40 / /sys/fs/cgroup/unified ro - tmpfs t ro\n")
    assert cgroup.mounts(proc) == []


@pytest.mark.parametrize(
    ("root", "own", "expected"),
    [
        ("/", "/", ["/m"]),
        ("/", "/a/b", ["/m/a/b", "/m/a", "/m"]),
        ("/a", "/a/b", ["/m/b", "/m"]),
        ("/a", "/a", ["/m"]),
        ("/a", "/ab", []),
        ("/", "/../other", []),
        ("/../..", "/", []),
    ],
)
def test_ancestors(root: str, own: str, expected: list[str]) -> None:
    assert cgroup._ancestors(root, "/m", own) == expected


@pytest.mark.parametrize(
    ("own", "with_controllers", "expected"),
    [
        # A scope of the user's: the slice and the service above are systemd's, whoever owns them.
        ("u.slice/user@1.service/app.slice/a.scope", ["", "u.slice", "u.slice/user@1.service/app.slice"], "a.scope"),
        # The usual arrangement of a delegated subtree: its processes are in a leaf.
        ("u.slice/a.scope/leaf", ["u.slice", "u.slice/a.scope"], "a.scope"),
        ("u.slice/a.scope/leaf", ["u.slice"], "leaf"),
        ("ci/job", [], "job"),
        ("", [""], "top"),
    ],
)
def test_which_place(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, own: str, with_controllers: list[str], expected: str
) -> None:
    parts = own.split("/") if own else []
    for n in range(len(parts) + 1):
        path = "/".join(parts[:n])
        os.makedirs(f"{tmp_path}/top/{path}", exist_ok=True)
        with open(f"{tmp_path}/top/{path}/cgroup.subtree_control", "w") as file:
            file.write("cpu memory" if path in with_controllers else "")
    monkeypatch.setattr(cgroup, "_may_write", lambda c: c != f"{tmp_path}/top" or not own)
    monkeypatch.setattr(cgroup, "_try", lambda parent: cgroup.Delegation(parent, (), True, True))
    proc = fake_proc(f"{tmp_path}/proc", f"0::/{own}\n", f"9 1 0:38 / {tmp_path}/top rw - cgroup2 c rw\n")
    found = cgroup.probe(proc=proc)
    assert found is not None
    assert os.path.basename(found.parent) == expected


def test_nothing_there(tmp_path: object) -> None:
    proc = fake_proc(tmp_path, "4:memory:/m\n", "")
    assert cgroup.probe(proc=proc) is None
    assert cgroup.probe(proc="/nonexistent") is None
    # A v2 mount without a group of ours in it, and one that is not where it is said to be.
    proc = fake_proc(f"{tmp_path}/2", "0::/a\n", "9 1 0:38 / /nonexistent rw - cgroup2 c rw\n")
    assert cgroup.probe(proc=proc) is None


def test_make_ends_what_a_killed_process_left(
    delegation: cgroup.Delegation, spawn: Callable[[Callable[[], None]], int]
) -> None:
    name = f"rdock-test-{os.getpid()}-{time.monotonic_ns()}"
    left = cgroup.make(name)
    assert left is not None
    pid = spawn(sleep)
    left.add(pid)
    again = cgroup.make(name)
    assert again is not None and again.path == left.path and again.pids() == []
    assert state(pid) == "Z"
    again.remove()
