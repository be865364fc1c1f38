"""Many at once, and processes that are killed: nothing fails that could go on, nothing is left."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear, store, wait_for
from tests.conftest import STARTER
from tests.program import Rdock, run_many

SHELLS = 10


def rdock_processes(rdock: Rdock, name: str) -> list[int]:
    """The pids of this rdock's processes that call themselves so (comm, as `ps` shows it)."""
    found = []
    for line in rdock.home.processes():
        pid = line.split()[0]
        try:
            comm = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        if comm == name:
            found.append(int(pid))
    return found


def kill(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def shells(rdock: Rdock, script: str, count: int = SHELLS) -> list[tuple[int, bytes]]:
    """Run a script in ten shells at once, `rdock` in it is the program: their exit codes and errors."""
    started = [
        subprocess.Popen(
            ["sh", "-c", f'rdock() {{ "{rdock.path}" "$@"; }}\n{script}', "sh", str(number)],
            env=rdock.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for number in range(count)
    ]  # fmt: skip
    found = []
    for shell in started:
        _, err = shell.communicate(timeout=240)
        found.append((shell.returncode, err))
    return found


@pytest.mark.parametrize("network", ["none", "slirp4netns"])
def test_forty_from_ten_shells(rdock: Rdock, network: str) -> None:
    rdock.ok("run", "--rm", "--network", network, STARTER, "true")
    before = store(rdock)
    script = f"for n in 1 2 3 4; do rdock run --rm --network {network} {STARTER} true || exit; done"
    assert shells(rdock, script) == [(0, b"")] * SHELLS
    assert rdock.ok("ps", "-aq") == ""
    wait_for(lambda: store(rdock) == before, "the store is as before")
    wait_for(lambda: os.listdir(rdock.home.runtime / "rdock" / "containers") == [], "the run directories are gone")


def test_first_use_from_ten_shells(own_rdock: Rdock) -> None:
    """No holder yet, no image yet, no directories yet."""
    results = shells(own_rdock, f"rdock run --rm --network none {STARTER} sh -c 'exit 3'; test $? = 3")
    assert results == [(0, b"")] * SHELLS
    assert len(own_rdock.ok("images", "-q").split()) == 1
    wait_for(lambda: os.listdir(own_rdock.home.data / "staging") == [], "nothing half-made")


def test_one_name_from_ten_shells(rdock: Rdock) -> None:
    for _ in range(3):
        results = shells(rdock, f"rdock run -d --network none --name single {STARTER} sleep 100")
        assert sorted(code for code, _ in results) == [0] + [125] * (SHELLS - 1), results
        assert all(b'"/single" is already in use by container' in err for code, err in results if code)
        assert len(rdock.ok("ps", "-aq").split()) == 1
        rdock.ok("rm", "-f", "single")


def test_loops_of_everything(rdock: Rdock) -> None:
    """Ten users of one store, each with the whole life of a container."""
    script = f"""
        set -e
        for n in 1 2; do
            c=$(rdock run -d --network none --name box$1-$n {STARTER} sleep 100)
            rdock exec box$1-$n true
            rdock ps >/dev/null
            rdock inspect $c >/dev/null
            rdock stop -t 0 $c
            rdock logs $c
            rdock rm $c
        done
    """
    assert shells(rdock, script) == [(0, b"")] * SHELLS
    assert rdock.ok("ps", "-aq") == ""


# -- helpers that are killed ---------------------------------------------------------------------


def test_holder_killed(own_rdock: Rdock) -> None:
    """Containers run on, and stay within reach of every command."""
    rdock = own_rdock
    one, two = (rdock.ok("run", "-d", "--network", "none", STARTER, "sleep", "100") for _ in range(2))
    kill(rdock_processes(rdock, "rdock-holder"))
    assert rdock.ok("exec", one, "echo", "reached") == "reached"
    assert rdock.ok("run", "--rm", "--network", "none", STARTER, "echo", "new") == "new"
    kill(rdock_processes(rdock, "rdock-holder"))
    assert rdock.ok("stop", "-t", "0", one) == one
    assert rdock.ok("rm", one) == one
    assert rdock.ok("rm", "-f", two) == two
    assert rdock.ok("ps", "-aq") == ""


def test_holder_killed_while_nothing_runs(own_rdock: Rdock) -> None:
    own_rdock.options += ["--id-mode", "subids"]
    (own_rdock.home.root / "config" / "rdock" / "config.json").write_text('{"holder-linger": 3}')
    own_rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    kill(rdock_processes(own_rdock, "rdock-holder"))
    assert own_rdock.ok("run", "--rm", "--network", "none", STARTER, "echo", "again") == "again"


def attendants(rdock: Rdock) -> list[int]:
    """All who see to containers. The keepers first, or they would put other monitors in the place of those killed."""
    return rdock_processes(rdock, "rdock-keeper") + rdock_processes(rdock, "rdock-monitor")


def test_keeper_and_monitor_killed(rdock: Rdock, runtime: str) -> None:
    """The next command ends what they have left, says so and clears away."""
    kept = rdock.ok("run", "-d", "--network", "none", STARTER, "sleep", "100")
    kill(attendants(rdock))
    state = rdock.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", kept)
    assert state == "exited 137 the container's monitor was killed"
    assert rdock.ok("wait", kept) == "137"
    result = rdock("exec", kept, "true")
    assert result.code == 1 and "is not running" in result.err
    wait_for(lambda: not any("sleep 100" in line for line in rdock.home.processes()), "process 1 is gone")
    rdock.ok("rm", kept)
    passing = rdock.ok("run", "-d", "--rm", STARTER, "sleep", "100")
    kill(attendants(rdock))
    assert rdock.ok("ps", "-aq") == ""
    assert not (rdock.home.data / "containers" / passing).exists()
    wait_for(lambda: not any("slirp4netns" in line for line in rdock.home.processes()), "its uplink is gone")


def test_keeper_and_monitor_killed_under_a_command(rdock: Rdock) -> None:
    command = rdock.start("run", "--network", "none", "--name", "lost", STARTER, "sh", "-c", "echo in; sleep 100",
                          stdin=subprocess.DEVNULL, bufsize=0)  # fmt: skip
    assert command.stdout and command.stdout.readline() == b"in\n"
    waiting = rdock.start("wait", "lost", stdin=subprocess.DEVNULL)
    follower = rdock.start("logs", "-f", "lost", stdin=subprocess.DEVNULL, bufsize=0)
    assert follower.stdout and follower.stdout.readline() == b"in\n"
    time.sleep(0.3)
    kill(attendants(rdock))
    _, err = command.communicate(timeout=20)
    assert command.returncode == 125 and is_clear(err.decode()), err
    assert waiting.communicate(timeout=20) == (b"137\n", b"")
    follower.communicate(timeout=20)
    assert follower.returncode == 0


def test_fuse_overlayfs_killed(rdock: Rdock, tmp_path: Path) -> None:
    fuse = Rdock(rdock.home, ["--storage-driver", "fuse-overlayfs"])
    if fuse("run", "--rm", "--network", "none", STARTER, "true").code:
        pytest.skip("fuse-overlayfs does not work here")
    container = fuse.ok("run", "-d", "--network", "none", STARTER, "sleep", "100")
    kill([int(line.split()[0]) for line in rdock.home.processes() if "fuse-overlayfs" in line.split()[1]])
    result = fuse("exec", container, "true")
    assert result.code != 0 and "Traceback" not in result.err
    assert fuse.ok("stop", "-t", "0", container) == container
    assert fuse.ok("rm", container) == container


def test_nothing_is_left_ten_seconds_later(own_rdock: Rdock) -> None:
    """With the settings that everybody has: the shared processes linger, but not for long."""
    (own_rdock.home.root / "config" / "rdock" / "config.json").unlink()
    own_rdock.ok("run", "--rm", STARTER, "true")
    container = own_rdock.ok("run", "-d", STARTER, "sleep", "100")
    own_rdock.ok("exec", container, "true")
    own_rdock.ok("rm", "-f", container)
    assert own_rdock.home.leftovers(10) == []
    runtime = own_rdock.home.runtime / "rdock"
    assert not list(runtime.glob("holder*.json")) and not os.listdir(runtime / "containers")


def test_run_many_of_each_driver(rdock: Rdock, storage: str) -> None:
    commands = [
        rdock.start("run", "--rm", "--network", "none", STARTER, "sh", "-c", "echo x >/x; rm -r /etc",
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _ in range(12)
    ]  # fmt: skip
    codes = run_many(commands)
    errors = [command.stderr.read() for command in commands if command.stderr]
    assert all(code in (0, 1) for code in codes) and not any(b"rdock:" in err for err in errors), errors


# -- a thousand ------------------------------------------------------------------------------------


def quickly(rdock: Rdock, *words: str, seconds: float = 1.0) -> str:
    """The output of a command that takes less than that at the best of three times: the machine has other work."""
    times = []
    for _ in range(3):
        begin = time.monotonic()
        out = rdock.ok(*words)
        times.append(time.monotonic() - begin)
    assert min(times) < seconds, (words, times)
    return out


def opened(rdock: Rdock, trace: Path, *words: str) -> str:
    """The names that a command has the kernel look up."""
    argv = ["strace", "-f", "-e", "trace=open,openat,openat2,stat,newfstatat,readlink,readlinkat", "-o", str(trace)]
    done = subprocess.run([*argv, *rdock.argv(*words)], env=rdock.environment(), capture_output=True, timeout=60)
    assert done.returncode == 0, done
    return trace.read_text(errors="replace")


@pytest.mark.slow
def test_a_thousand_containers(own_rdock: Rdock, tmp_path: Path) -> None:
    rdock = own_rdock
    rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    script = f"for n in $(seq 100); do rdock create --name c$1-$n --network none {STARTER} sleep 100 || exit; done"
    assert shells(rdock, script) == [(0, b"")] * SHELLS
    assert len(quickly(rdock, "ps", "-aq").split()) == 1000
    assert len(quickly(rdock, "ps", "-a").splitlines()) == 1001
    assert quickly(rdock, "ps", "-q") == ""
    one = quickly(rdock, "inspect", "-f", "{{.Id}}", "c3-50")
    rdock.ok("start", "c3-50")
    assert quickly(rdock, "exec", "c3-50", "echo", "in") == "in"
    assert rdock("system", "check").out == "no problems found\n"
    if not shutil.which("strace"):
        pytest.skip("no strace: that other containers are not read was not looked at")
    others = [entry.name for entry in os.scandir(rdock.home.data / "containers") if entry.name not in (one, ".names")]
    for words in (("inspect", "c3-50"), ("inspect", one), ("exec", "c3-50", "true"), ("logs", "c3-50")):
        looked_up = opened(rdock, tmp_path / "trace", *words)
        assert one in looked_up
        assert [other for other in others if len(other) == 64 and other in looked_up] == [], words
    begin = time.monotonic()
    assert len(rdock.ok("container", "prune", "-f", timeout=120).splitlines()) == 999 + 3
    assert time.monotonic() - begin < 60
    rdock.ok("rm", "-f", "c3-50")
    assert rdock.ok("ps", "-aq") == ""


@pytest.mark.slow
def test_two_hundred_from_forty_shells(own_rdock: Rdock) -> None:
    rdock = own_rdock
    rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    before = store(rdock)
    script = f"for n in 1 2 3 4 5; do rdock run -d --network none --name r$1-$n {STARTER} sleep 1000 || exit; done"
    assert shells(rdock, script, 40) == [(0, b"")] * 40
    assert len(rdock.ok("ps", "-q").split()) == 200
    assert rdock.ok("exec", "r39-5", "echo", "in") == "in"
    script = "for n in 1 2 3 4 5; do rdock rm -f r$1-$n || exit; done"
    assert shells(rdock, script, 40) == [(0, b"")] * 40
    assert rdock.ok("ps", "-aq") == ""
    wait_for(lambda: store(rdock) == before, "the store is as before")
    wait_for(lambda: os.listdir(rdock.home.runtime / "rdock" / "containers") == [], "the run directories are gone")
    assert rdock("system", "check").out == "no problems found\n"
    assert rdock.home.leftovers() == []


def test_creates_with_one_name(rdock: Rdock) -> None:
    results = shells(rdock, f"rdock create --network none --name single {STARTER} true")
    assert sorted(code for code, _ in results) == [0] + [125] * (SHELLS - 1), results
    assert all(b'"/single" is already in use by container' in err for code, err in results if code)
    assert len(rdock.ok("ps", "-aq").split()) == 1


def test_looking_waits_for_no_lock(rdock: Rdock) -> None:
    rdock.ok("run", "-d", "--network", "none", "--name", "seen", STARTER, "sleep", "1000")
    made = rdock.ok("create", "--network", "none", "--name", "made", STARTER, "true")
    data = rdock.home.data
    layers = [path.with_name(path.name + ".lock") for path in (data / "layers").iterdir() if path.is_dir()]
    locks = ("containers/.names/.lock", "images/images.lock", "images/hold.lock", f"containers/.locks/{made}")
    paths = [*(data / name for name in locks), *layers]
    fds = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for path in paths]
    try:
        for fd in fds:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        of_seen = [(name, "seen") for name in ("inspect", "logs", "port")]
        others = [("ps",), ("ps", "-a"), ("inspect", "made"), ("images",), ("inspect", STARTER), ("system", "check")]
        for words in (*of_seen, ("exec", "seen", "true"), *others):
            result = rdock(*words, timeout=10)
            assert result.code == 0, result
    finally:
        for fd in fds:
            os.close(fd)
        for path in (*layers, data / "containers/.locks" / made):
            path.unlink()


@pytest.mark.slow
def test_everything_at_once_to_one_container(own_rdock: Rdock) -> None:
    """Whatever meets whatever: each command does what it says or refuses in one line, and nothing hangs."""
    rdock = own_rdock
    rdock.ok("create", "--network", "none", "--name", "one", STARTER, "sleep", "1000")
    loops = (
        "rdock start one", "rdock stop -t 0 one", "rdock restart -t 0 one", "rdock pause one", "rdock unpause one",
        "rdock kill one", "rdock exec one true", "rdock rename one two; rdock rename two one",
        "rdock wait one",
        f"rdock rm -f one; rdock create --network none --name one {STARTER} sleep 1000", "rdock inspect one",
        "rdock ps -a", "timeout 0.3 rdock attach --sig-proxy=false one", "rdock update --label a=$n one",
        "rdock top one",
        "rdock update --restart always one; rdock update --restart no one",
    )  # fmt: skip
    cases = " ".join(f"{n}) each() {{ {loop}; }};;" for n, loop in enumerate(loops))
    script = f"case $1 in {cases} esac"
    script = script.replace("timeout 0.3 rdock", f'timeout 0.3 "{rdock.path}"')
    script += "\nfor n in $(seq 12); do each >/dev/null; done; exit 0"
    results = shells(rdock, script, len(loops))
    lines = [line for code, err in results for line in err.decode().splitlines()]
    odd = [line for line in lines if not line.startswith("rdock: ") or "Traceback" in line or "Errno" in line]
    assert not odd, odd
    known = ("is not running", "No such container", "No such object", "is already paused", "is not paused", "in use",
             "cannot start a paused", "is paused, unpause", "cannot attach to", "is restarting",
             "failed to start containers")  # fmt: skip
    assert {line for line in lines if not any(word in line for word in known)} == set()
    rdock("rm", "-f", "one", "two")
    assert rdock.ok("ps", "-aq") == ""
    assert rdock("system", "check").out == "no problems found\n"
