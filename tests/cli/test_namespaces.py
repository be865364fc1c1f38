"""Namespaces that a container shares, with the host or with another container; and what stays apart all the same."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear, wait_for
from tests.cli.test_bad_input import refused
from tests.conftest import STARTER
from tests.program import Rdock, Result

RUN = ("run", "--rm", "--network", "none")
# Paths of the kernel's that this machine has and that are closed in every container.
CLOSED = "for f in kcore keys timer_list interrupts; do [ -s /proc/$f ] && echo readable $f; done; "
WRITES = "for f in sys/kernel/panic sysrq-trigger; do (echo 0 > /proc/$f) 2>/dev/null && echo written $f; done; "


def shell(rdock: Rdock, script: str, *options: str) -> Result:
    words = ("run", "--rm") if "--network" in options else RUN
    return rdock(*words, *options, STARTER, "sh", "-c", script, timeout=60)


def out(rdock: Rdock, script: str, *options: str) -> str:
    result = shell(rdock, script, *options)
    assert result.code == 0, str(result)
    return result.out.strip()


def namespace(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


@pytest.fixture
def donor(rdock: Rdock) -> Iterator[str]:
    options = ("--network", "none", "--name", "donor", "--ipc", "shareable", "--shm-size", "1m")
    yield rdock.ok("run", "-d", *options, STARTER, "sleep", "6000")
    rdock("rm", "-f", "donor")


# -- of the host ---------------------------------------------------------------------------------


def test_pids_of_the_host(rdock: Rdock) -> None:
    shown = out(rdock, "readlink /proc/self/ns/pid; cat /proc/$PPID/comm; ls -d /proc/[0-9]* | wc -l", "--pid", "host")
    pid, monitor, count = shown.split("\n")
    assert pid == namespace("pid") and monitor == "rdock-monitor" and int(count) > 5
    assert out(rdock, "readlink /proc/self/ns/pid") != pid


def test_kernel_files_stay_closed_with_the_hosts_pids(rdock: Rdock) -> None:
    assert out(rdock, CLOSED + WRITES + "echo ok", "--pid", "host") == "ok"
    # Not what is mounted below them either, whoever is root outside.
    script = "grep -E ' /proc/sys(/[^ ]*)? ' /proc/self/mounts | grep -v '[ ,]ro,' ; echo ok"
    assert out(rdock, script, "--pid", "host") == "ok"


def test_processes_of_the_host_are_no_way_out(rdock: Rdock) -> None:
    """Those of its user are in the list; their files and memory are another user namespace's."""
    read, write = os.pipe()
    os.write(write, b"canary")
    process = subprocess.Popen(["sleep", "6001"], env={"SECRET": "canary"}, stdin=read)
    try:
        base = f"/proc/{process.pid}"
        script = f"cat {base}/comm; timeout 2 head -c1 {base}/fd/0; cat {base}/environ; ls {base}/root/; ls {base}/cwd/"
        for options in ((), ("--cap-add", "ALL"), ("--privileged",)):
            result = shell(rdock, script, "--pid", "host", *options)
            assert result.out == "sleep\n" and result.code != 0, str(result)
            assert result.err.count("Permission denied") == 4, str(result)
    finally:
        process.kill()
        process.wait()
        os.close(read)
        os.close(write)


@pytest.mark.parametrize("options", [("--pid", "host"), ("--pid", "container:donor")], ids=["host", "container"])
def test_the_rest_ends_with_process_one(rdock: Rdock, donor: str, options: tuple[str, ...]) -> None:
    """Without a pid namespace of its own the kernel does not see to it."""
    marker = f"{60000 + os.getpid() % 1000}.5"
    script = f"sleep {marker} & (setsid sh -c 'sleep {marker} & sleep {marker}') & sleep 0.2; exit 4"
    assert shell(rdock, script, *options).code == 4
    assert subprocess.run(["pgrep", "-f", f"sleep {marker}"], capture_output=True).returncode == 1
    assert rdock.ok("inspect", "-f", "{{.State.Running}}", donor) == "true"


def test_stop_and_kill_with_the_hosts_pids(rdock: Rdock) -> None:
    container = rdock.ok("run", "-d", "--network", "none", "--pid", "host", "--init", STARTER, "sleep", "6002")
    assert rdock.ok("exec", container, "readlink", "/proc/self/ns/pid") == namespace("pid")
    rdock.ok("stop", container)
    assert rdock.ok("inspect", "-f", "{{.State.ExitCode}}", container) == "143"
    rdock.ok("start", container)
    rdock.ok("rm", "-f", container)
    assert subprocess.run(["pgrep", "-fx", "sleep 6002"], capture_output=True).returncode == 1


def test_ipc_of_the_host(rdock: Rdock) -> None:
    name = f"rdock-test-{os.getpid()}"
    script = f"readlink /proc/self/ns/ipc; echo from inside > /dev/shm/{name}"
    try:
        assert out(rdock, script, "--ipc", "host") == namespace("ipc")
        assert Path("/dev/shm", name).read_text() == "from inside\n"
    finally:
        Path("/dev/shm", name).unlink(missing_ok=True)


def test_ipc_of_its_own(rdock: Rdock) -> None:
    for mode in ("private", "shareable", "none", ""):
        shown = (
            out(rdock, "readlink /proc/self/ns/ipc; ls -d /dev/shm", *(("--ipc", mode) if mode else ()))
            if mode != "none"
            else shell(rdock, "readlink /proc/self/ns/ipc; ls -d /dev/shm", "--ipc", mode).out.strip()
        )
        assert shown.split("\n")[0] != namespace("ipc")
        assert ("/dev/shm" in shown) == (mode != "none")


def test_uts_of_the_host(rdock: Rdock) -> None:
    shown = out(rdock, "hostname; cat /etc/hostname; echo $HOSTNAME; readlink /proc/self/ns/uts", "--uts", "host")
    name = os.uname().nodename
    assert shown.split("\n") == [name, name, name, namespace("uts")]
    assert shell(rdock, "hostname changed", "--uts", "host", "--privileged").code != 0
    assert os.uname().nodename == name


def test_cgroups_of_the_host_cannot_be_written(rdock: Rdock) -> None:
    """CVE-2023-25809, also by one who may mount."""
    script = """
        readlink /proc/self/ns/cgroup
        find /sys/fs/cgroup -type d -maxdepth 3 | while read -r d; do
            mkdir "$d/rdock-test" && echo "made in $d"
            mount -o remount,bind,rw "$d"
            mount -o remount,rw "$d"
            mkdir "$d/rdock-test" && echo "made in $d"
            echo 1 > "$d/cgroup.procs" && echo "moved to $d"
        done 2>/dev/null
    """
    for options in ((), ("--privileged",), ("--network", "host", "--cap-add", "SYS_ADMIN")):
        result = shell(rdock, script, "--cgroupns", "host", *options)
        assert result.out.strip() == namespace("cgroup"), str(result)
    assert out(rdock, "readlink /proc/self/ns/cgroup") != namespace("cgroup")
    left = subprocess.run(["find", "/sys/fs/cgroup", "-name", "rdock-test"], capture_output=True, text=True)
    assert left.stdout == ""


# -- of another container ------------------------------------------------------------------------


def test_pids_of_another(rdock: Rdock, donor: str) -> None:
    shown = out(
        rdock, "cat /proc/1/cmdline | tr '\\0' ' '; echo; readlink /proc/self/ns/pid", "--pid", "container:donor"
    )
    program, pid = shown.split("\n")
    assert program == "sleep 6000 " and pid == rdock.ok("exec", donor, "readlink", "/proc/self/ns/pid")


def test_other_namespaces_stay_its_own(rdock: Rdock, donor: str) -> None:
    script = "for k in mnt uts net ipc cgroup; do readlink /proc/self/ns/$k; done; hostname; ls /only-in-donor"
    rdock.ok("exec", donor, "touch", "/only-in-donor")
    theirs = rdock("exec", donor, "sh", "-c", script).out.split()
    ours = shell(rdock, script, "--pid", "container:donor").out.split()
    assert len(ours) == 6 and len(theirs) == 7 and not set(ours) & set(theirs)


def test_kernel_files_stay_closed_in_another(rdock: Rdock, donor: str) -> None:
    for options in ((), ("--ipc", "container:donor")):
        assert out(rdock, CLOSED + WRITES + "echo ok", "--pid", "container:donor", *options) == "ok"


def test_shared_memory_of_another(rdock: Rdock, donor: str) -> None:
    rdock.ok("exec", donor, "sh", "-c", "echo from donor > /dev/shm/file")
    options = ("--ipc", f"container:{donor[:12]}", "--shm-size", "64m")
    script = "cat /dev/shm/file; readlink /proc/self/ns/ipc; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2"
    content, ipc, size = out(rdock, script, *options).split("\n")
    assert content == "from donor" and ipc == rdock.ok("exec", donor, "readlink", "/proc/self/ns/ipc")
    # CVE-2024-3056: the donor's limit is everybody's.
    assert size == "1024"
    assert shell(rdock, "dd if=/dev/zero of=/dev/shm/big bs=64k count=64", *options).code != 0
    assert rdock.ok("exec", donor, "ls", "/dev/shm").split() == ["big", "file"]
    flags = out(rdock, "grep ' /dev/shm ' /proc/self/mounts", *options)
    assert all(flag in flags for flag in ("nosuid", "nodev", "noexec"))


def test_queues_of_another(rdock: Rdock, donor: str) -> None:
    rdock.ok("exec", donor, "touch", "/dev/mqueue/queue")
    assert out(rdock, "ls /dev/mqueue", "--ipc", "container:donor") == "queue"
    assert out(rdock, "ls /dev/mqueue") == ""


def test_a_third_joins_the_second(rdock: Rdock, donor: str) -> None:
    second = rdock.ok("run", "-d", "--pid", "container:donor", "--ipc", "container:donor", STARTER, "sleep", "6003")
    assert "sleep 6003" in rdock.ok("exec", donor, "ps")
    options = ("--pid", f"container:{second}", "--ipc", f"container:{second}")
    shown = out(rdock, "ps; ls -d /dev/shm", *options)
    assert "sleep 6000" in shown and "sleep 6003" in shown
    rdock.ok("restart", "-t", "0", second)
    rdock.ok("rm", "-f", second)
    assert "sleep 6003" not in rdock.ok("exec", donor, "ps")


def test_it_ends_with_the_pid_namespace_of_another(rdock: Rdock, donor: str) -> None:
    second = rdock.ok("run", "-d", "--network", "none", "--pid", "container:donor", STARTER, "sleep", "6004")
    assert rdock.ok("inspect", "-f", "{{.HostConfig.PidMode}}", second) == f"container:{donor}"
    rdock.ok("rm", "-f", donor)
    assert rdock.ok("wait", second) == "137"
    result = rdock("start", second)
    assert result.code == 1 and f"cannot join PID of a non running container: {donor}" in result.err, str(result)
    assert is_clear(result.err)
    rdock.ok("rm", second)


def test_joining_a_container_with_the_hosts_pids(rdock: Rdock) -> None:
    rdock.ok(
        "run", "-d", "--network", "none", "--name", "hosted", "--pid", "host", "--ipc", "host", STARTER, "sleep", "60"
    )
    shown = out(
        rdock, "readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc", "--pid", "container:hosted", "--ipc",
        "container:hosted",
    )  # fmt: skip
    assert shown.split("\n") == [namespace("pid"), namespace("ipc")]
    rdock.ok("rm", "-f", "hosted")


def test_created_now_joined_later(rdock: Rdock) -> None:
    first = rdock.ok("create", "--network", "none", "--name", "later", STARTER, "sleep", "600")
    second = rdock.ok("create", "--network", "none", "--pid", "container:later", STARTER, "true")
    result = rdock("start", second)
    assert result.code == 1 and f"cannot join PID of a non running container: {first}" in result.err
    refused(rdock, *RUN, "--pid", "container:later", STARTER, "true", says="cannot join PID of a non running container")
    rdock.ok("start", first)
    rdock.ok("start", "-a", second)
    rdock.ok("rm", "-f", first, second)


def test_limits_of_a_process_that_joins(rdock: Rdock, donor: str) -> None:
    options = (
        "--pid",
        "container:donor",
        "--oom-score-adj",
        "600",
        "--ulimit",
        "nofile=99",
        "-u",
        "1000",
        "-w",
        "/tmp",
    )
    shown = out(rdock, "cat /proc/self/oom_score_adj; ulimit -n; id -u; pwd; grep CapEff /proc/self/status", *options)
    assert shown.split() == ["600", "99", "1000", "/tmp", "CapEff:", "0" * 16]
    for number in range(3, 30):
        assert shell(rdock, "pwd", "--ipc", "container:donor", "-w", f"/proc/self/fd/{number}").code != 0


def test_what_joins_is_hidden_from_the_other(rdock: Rdock) -> None:
    """While rdock's own code runs in the other's pid namespace its links lead nowhere (CVE-2019-5736)."""
    script = """
        while :; do for p in /proc/[0-9]*; do
            [ "$p" = /proc/1 ] && continue
            l=$(readlink $p/exe 2>/dev/null) && case $l in /bin/busybox) ;; *) echo "$l" ;; esac
            ls $p/root/home/* >/dev/null 2>&1 && echo "root of $p"
        done; done"""
    watcher = rdock.ok(
        "run", "-d", "--network", "none", "--cap-add", "SYS_PTRACE", "--name", "watcher", STARTER, "sh", "-c", script
    )
    for _ in range(6):
        assert shell(rdock, "true", "--pid", "container:watcher").code == 0
    assert rdock.ok("logs", watcher) == ""
    rdock.ok("rm", "-f", watcher)


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--pid", "nosuch"], "--pid: invalid PID mode"),
        (["--pid", "container:"], "--pid: invalid PID mode"),
        (["--pid", "container:nosuch"], "No such container: nosuch"),
        (["--ipc", "nosuch"], "invalid IPC mode: nosuch"),
        (["--ipc", "container:"], "invalid IPC mode: container:"),
        (["--ipc", "container:../../x"], "No such container: ../../x"),
        (["--uts", "container:x"], "--uts: invalid UTS mode"),
        (["--uts", "host", "--hostname", "x"], "conflicting options: hostname and the UTS mode"),
        (["--userns", "ns:/proc/1/ns/user"], "--userns: invalid USER mode"),
        (["--cgroupns", "nosuch"], "--cgroupns: invalid CGROUP mode"),
    ],
)
def test_modes_that_are_none(rdock: Rdock, options: list[str], says: str) -> None:
    refused(rdock, *RUN, *options, STARTER, "true", says=says)


def test_ipc_that_is_not_shared(rdock: Rdock) -> None:
    container = rdock.ok("run", "-d", "--network", "none", STARTER, "sleep", "600")
    result = rdock(*RUN, "--ipc", f"container:{container}", STARTER, "true")
    says = f"can't join IPC of container {container}: non-shareable IPC (hint: use IpcMode:shareable for the donor"
    assert result.code == 125 and says in result.err and is_clear(result.err), str(result)
    rdock.ok("rm", "-f", container)


def test_two_containers_that_share_nothing(rdock: Rdock, donor: str) -> None:
    other = rdock.ok("run", "-d", "--network", "none", STARTER, "sleep", "600")
    result = rdock(*RUN, "--ipc", "container:donor", "--pid", f"container:{other}", STARTER, "true")
    assert result.code == 125 and "user namespaces are different" in result.err and is_clear(result.err), str(result)
    rdock.ok("rm", "-f", other)


def test_external_runtimes_join_nobody(rdock: Rdock, donor: str) -> None:
    runtime = next((path for path in ("/usr/bin/crun", "/usr/bin/runc") if os.path.exists(path)), None)
    if runtime is None:
        pytest.skip("no external runtime is installed")
    result = rdock(*RUN, "--runtime", runtime, "--pid", "container:donor", STARTER, "true")
    assert result.code == 125 and "only rdock's own runtime can join another container" in result.err


def test_donor_is_there_until_the_end(rdock: Rdock, donor: str) -> None:
    wait_for(lambda: rdock.ok("inspect", "-f", "{{.State.Running}}", donor) == "true")
