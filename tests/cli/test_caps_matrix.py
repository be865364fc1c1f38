"""What a program finds itself to be: one golden table over run and exec, and nothing of the caller in it."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rdock.container.capability_sets import DEFAULT
from rdock.linux import capabilities
from tests.cli.test_bridge import processes
from tests.conftest import STARTER
from tests.payload.roots import Store, compiled, program
from tests.program import Rdock

MASK = capabilities.mask(DEFAULT)
ALL = capabilities.mask(capabilities.supported())
NET_ADMIN = capabilities.mask(["CAP_NET_ADMIN"])

# What the program is told by the kernel and by its environment, in one run.
LOOK = r"""
cat /proc/self/status | while IFS=':	' read -r key value; do
    case $key in
    Uid|Gid|Groups|Cap*|NoNewPrivs|Seccomp|Umask|SigBlk|SigIgn|SigPnd|ShdPnd|TracerPid|NSsid) echo "$key=$value" ;;
    esac
done
for f in /proc/self/fd/*; do [ ! -L $f ] || echo "fd=${f##*/}"; done
echo cwd=$(pwd) oom=$(cat /proc/self/oom_score_adj) tty=$(cut -d' ' -f7 /proc/self/stat)
cat /proc/self/environ | tr '\0' '\n' | sed 's/^/env /'
"""

# name: options of run, options of exec, and what the two must give: bounding, permitted, NoNewPrivs, Seccomp
TABLE: dict[str, tuple[list[str], list[str], tuple[int, int, int, int], tuple[int, int, int, int]]] = {
    "default": ([], [], (MASK, MASK, 0, 2), (MASK, MASK, 0, 2)),
    "user": (["-u", "1000"], [], (MASK, 0, 0, 2), (MASK, 0, 0, 2)),
    "root and user": ([], ["-u", "1000:1000"], (MASK, MASK, 0, 2), (MASK, 0, 0, 2)),
    "user and root": (["-u", "1000"], ["-u", "0"], (MASK, 0, 0, 2), (MASK, MASK, 0, 2)),
    "drop all": (["--cap-drop", "ALL"], [], (0, 0, 0, 2), (0, 0, 0, 2)),
    "drop all, user": (["--cap-drop", "ALL", "-u", "7"], ["-u", "0"], (0, 0, 0, 2), (0, 0, 0, 2)),
    "add": (["--cap-add", "NET_ADMIN"], [], (MASK | NET_ADMIN,) * 2 + (0, 2), (MASK | NET_ADMIN,) * 2 + (0, 2)),
    "add, user": (
        ["--cap-add", "NET_ADMIN", "-u", "7"], [], (MASK | NET_ADMIN, 0, 0, 2), (MASK | NET_ADMIN, 0, 0, 2),
    ),
    "privileged": (["--privileged"], [], (ALL, ALL, 0, 0), (ALL, ALL, 0, 0)),
    "privileged, user": (["--privileged", "-u", "7"], [], (ALL, 0, 0, 0), (ALL, 0, 0, 0)),
    "no new privileges": (
        ["--security-opt", "no-new-privileges"], [], (MASK, MASK, 1, 2), (MASK, MASK, 1, 2),
    ),
    "no new privileges, user": (
        ["--security-opt", "no-new-privileges:true", "-u", "7"], ["-u", "8"], (MASK, 0, 1, 2), (MASK, 0, 1, 2),
    ),
    "unconfined": (["--security-opt", "seccomp=unconfined"], [], (MASK, MASK, 0, 0), (MASK, MASK, 0, 0)),
    "exec privileged": ([], ["--privileged"], (MASK, MASK, 0, 2), (ALL, ALL, 0, 2)),
}  # fmt: skip

# In the caller's environment, and never to be seen inside.
PLANTED = {
    "SECRET": "host-secret",
    "LD_LIBRARY_PATH": "/host-secret",
    "LD_PRELOAD_": "host-secret",
    "PYTHONPATH": "/host-secret",
    "PYTHONSTARTUP": "/host-secret",
    "_MEIPASS": "/host-secret",
    "_MEIPASS2": "/host-secret",
    "_PYI_ARCHIVE_FILE": "/host-secret",
    "AWS_SECRET_ACCESS_KEY": "host-secret",
    "HOSTNAME": "host-secret",
    "http_proxy": "http://host-secret:1",
    "DBUS_SESSION_BUS_ADDRESS": "unix:path=/host-secret",
}
MALFORMED = [
    "SECRET",
    "AWS_*",
    "=x",
    "",
    "*",
    "$SECRET",
    "GOOD=1",
    "EMPTY=",
    "TWO=a=b",
    "LD_LIBRARY_PATH",
    "NAME WITH=ok",
]


def look(text: str) -> tuple[dict[str, str], list[str], list[str]]:
    """Fields, descriptors, environment."""
    lines = text.splitlines()
    fields: dict[str, str] = {}
    for line in lines:
        if not line.startswith(("env ", "fd=")):
            fields |= dict(word.split("=", 1) for word in line.split(" ")) if "oom=" in line else [line.split("=", 1)]
    descriptors = [line[3:] for line in lines if line.startswith("fd=")]
    return fields, descriptors, sorted(line[4:] for line in lines if line.startswith("env "))


def check(text: str, expected: tuple[int, int, int, int], uid: int) -> None:
    fields, descriptors, environment = look(text)
    bounding, permitted, no_new, seccomp = expected
    assert {key: int(fields[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        "CapInh": 0, "CapPrm": permitted, "CapEff": permitted, "CapBnd": bounding, "CapAmb": 0,
    }  # fmt: skip
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == (str(no_new), str(seccomp))
    assert fields["Uid"].split() == [str(uid)] * 4
    assert len(set(fields["Gid"].split())) == 1
    assert descriptors == ["0", "1", "2"]
    assert fields["Umask"] == "0022" and fields["TracerPid"] == "0" and fields["tty"] == "0"
    for key in ("SigBlk", "SigPnd", "ShdPnd"):
        assert int(fields[key], 16) == 0, key
    assert int(fields["SigIgn"], 16) & 0x7FFFFFFF == 0  # crun ignores two of the C library's own
    names = {line.split("=")[0] for line in environment}
    assert {"PATH", "HOSTNAME", "HOME"} <= names <= {"PATH", "HOSTNAME", "HOME", "TERM", "PWD", "SHLVL"}, environment
    assert "host-secret" not in text


def caller(rdock: Rdock, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run rdock from a shell that has all kinds of things to pass on by mistake."""

    def surroundings() -> None:
        os.umask(0o077)
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGRTMIN])
        os.dup2(os.open("/", os.O_RDONLY), 77)

    return subprocess.run(
        rdock.argv(*arguments), env=rdock.environment(PLANTED), preexec_fn=surroundings, close_fds=False,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def uid_of(options: list[str], default: int) -> int:
    return int(options[options.index("-u") + 1].split(":")[0]) if "-u" in options else default


@pytest.mark.parametrize("name", TABLE)
def test_run_and_exec(rdock: Rdock, runtime: str, name: str) -> None:
    run_options, exec_options, in_run, in_exec = TABLE[name]
    script = f"{LOOK}\necho end; exec sleep 600"
    started = caller(rdock, "run", "-d", "--network", "none", *run_options, STARTER, "sh", "-c", script)
    assert started.returncode == 0, started.stderr
    container = started.stdout.strip()
    uid = uid_of(run_options, 0)
    shown = caller(rdock, "exec", *exec_options, container, "sh", "-c", LOOK)
    assert shown.returncode == 0, shown.stderr
    check(shown.stdout, in_exec, uid_of(exec_options, uid))
    text = rdock.ok("logs", container)
    assert text.endswith("\nend")
    check(text.removesuffix("\nend"), in_run, uid)
    rdock.ok("rm", "-f", container)


@pytest.fixture(scope="module")
def images(shared_rdock: Rdock) -> Iterator[Store]:
    store = Store(shared_rdock, "caps")
    store.load({"env": []}, {"env": {"Env": MALFORMED}})
    yield store
    store.remove()


def test_malformed_environment_of_an_image(rdock: Rdock, runtime: str, images: Store) -> None:
    """CVE-2026-57231: an entry without `=`, or a pattern, must not pull a variable of the caller's in."""
    name = images.name("env")
    container = caller(rdock, "run", "-d", "--network", "none", name, "sleep", "600").stdout.strip()
    for shown in (
        caller(rdock, "run", "--rm", "--network", "none", name, "sh", "-c", "cat /proc/self/environ | tr '\\0' '\\n'"),
        caller(rdock, "exec", container, "sh", "-c", "cat /proc/self/environ | tr '\\0' '\\n'"),
    ):
        assert shown.returncode == 0 and "host-secret" not in shown.stdout + shown.stderr
        found = {line for line in shown.stdout.splitlines() if not line.startswith(("PATH=", "HOME=", "HOSTNAME="))}
        assert found - {"SHLVL=1", "PWD=/"} == {"GOOD=1", "EMPTY=", "TWO=a=b"}
    # what the user names is passed on, and nothing but that
    shown = caller(rdock, "run", "--rm", "--network", "none", "-e", "SECRET", "-e", "AWS_*", name, "env")
    assert shown.stdout.count("host-secret") == 1 and "SECRET=host-secret\n" in shown.stdout
    rdock.ok("rm", "-f", container)


def test_helpers_get_nothing_of_the_environment(rdock: Rdock) -> None:
    """The processes that stay: slirp4netns has a clean environment, as has whatever the container sees."""
    started = caller(rdock, "--storage-driver", "overlay", "run", "-d", STARTER, "sleep", "600")
    container = started.stdout.strip()
    assert started.returncode == 0, started.stderr
    helpers = processes(rdock, "slirp4netns")
    assert helpers
    for pid in helpers:
        assert b"host-secret" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert "host-secret" not in rdock.ok("exec", container, "sh", "-c", "cat /proc/*/environ | tr '\\0' '\\n'")
    rdock.ok("rm", "-f", container)


def test_limits_and_oom_score_are_the_callers_at_most(rdock: Rdock, runtime: str) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 512))
        Path("/proc/self/oom_score_adj").write_text("321")

    command = rdock.argv(
        "run", "--rm", "--network", "none", STARTER, "sh", "-c", "ulimit -Hn; cat /proc/self/oom_score_adj"
    )
    done = subprocess.run(
        command, env=rdock.environment(), preexec_fn=lower, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    hard, score = (int(word) for word in done.stdout.split())
    assert hard <= 512 and score >= 321, "neither may be better than the caller's own"


def test_mounts_and_masks(rdock: Rdock, runtime: str) -> None:
    script = r"""
        sed 's/^/mount: /' /proc/mounts
        for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/irq/default_smp_affinity \
                /sys/kernel/uevent_helper /proc/sys/net/ipv4/ip_forward /proc/bus/pci /sys/fs/cgroup/cgroup.procs; do
            [ ! -e $f ] || (echo 1 >$f) 2>/dev/null && [ -e $f ] && echo wrote $f
        done
        for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts /proc/sched_debug; do
            [ ! -e $f ] || [ "$(head -c1 $f | wc -c)" = 0 ] || echo read $f
        done
        for d in /proc/acpi /proc/scsi /sys/firmware; do [ -z "$(ls -A $d 2>/dev/null)" ] || echo listed $d; done
        mount -t tmpfs tmpfs /mnt 2>/dev/null && echo mounted
        mount -o remount,rw /proc/sys 2>/dev/null && echo remounted
        umount /proc/keys 2>/dev/null && echo unmasked
        mknod /tmp/sda b 8 0 2>/dev/null && head -c1 /tmp/sda 2>/dev/null | wc -c
        mknod /dev/kmsg2 c 1 11 2>/dev/null && head -c1 /dev/kmsg2 2>/dev/null | wc -c
        true
    """
    shown = rdock.ok("run", "--rm", "--network", "none", STARTER, "sh", "-c", script).splitlines()
    lines = [line.removeprefix("mount: ") for line in shown if line.startswith("mount: ")]
    kinds = {line.split(" ")[1]: line.split(" ")[2] for line in lines}
    wrong = [
        line
        for line in shown
        if line.split()[0] in ("wrote", "read", "listed", "mounted", "remounted", "unmasked", "1")
    ]
    assert not wrong
    # most of them belong to the host's root anyway, so look at the mounts too
    flags = {line.split(" ")[1]: line.split(" ")[3].split(",") for line in lines}
    assert all("ro" in flags[path] for path in ("/proc/sys", "/proc/irq", "/sys")), flags
    assert {path: kinds[path] for path in ("/proc", "/dev", "/dev/pts", "/sys", "/dev/mqueue", "/dev/shm")} == {
        "/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/sys": "sysfs", "/dev/mqueue": "mqueue",
        "/dev/shm": "tmpfs",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "size"), [([], 64 << 20), (["--shm-size", "1m"], 1 << 20), (["--shm-size", "0"], 64 << 20)]
)
def test_shared_memory_is_limited(rdock: Rdock, runtime: str, options: list[str], size: int) -> None:
    """CVE-2024-3056."""
    script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=80 2>/dev/null; stat -c %s /dev/shm/x"
    assert rdock.ok("run", "--rm", "--network", "none", *options, STARTER, "sh", "-c", script) == str(size)


def group_of(rdock: Rdock, container: str) -> Path | None:
    group = json.loads((rdock.home.data / "containers" / container / "state.json").read_text())["Cgroup"]
    return Path(group) if group else None


@pytest.mark.parametrize("network", ["none", "host"])
def test_control_groups_outside_cannot_be_changed(rdock: Rdock, network: str) -> None:
    """CVE-2023-25809: what was delegated to the user is not writable for the container, whose root is that user."""
    script = r"""
        find /sys/fs/cgroup -type d | while read -r d; do
            mkdir "$d/made" 2>/dev/null && echo "made $d"
            (echo 0 >"$d/cgroup.procs") 2>/dev/null && echo "joined $d"
        done
        cat /proc/self/cgroup
        exec sleep 600
    """
    container = rdock.ok("run", "-d", "--network", network, STARTER, "sh", "-c", script)
    group = group_of(rdock, container)
    rdock.ok("exec", container, "true")
    text = rdock.ok("logs", container)
    assert "made" not in text and "joined" not in text, text
    if group is not None:
        assert "0::/" in text.splitlines(), "it sees its own group as the root"
        assert {path.name for path in group.iterdir() if path.is_dir()} == set()
        inside = (group / "cgroup.procs").read_text().split()
        assert len(inside) == 1
    rdock.ok("rm", "-f", container)


KEEPER = """
import ctypes, subprocess, sys
libc = ctypes.CDLL(None)
assert libc.syscall(250, 1, b"rdock-test") > 0  # keyctl(KEYCTL_JOIN_SESSION_KEYRING)
key = libc.syscall(248, b"user", b"rdock-test-key", b"host-secret", 11, -3)
assert key > 0
sys.exit(subprocess.run([*sys.argv[1:], f"64:250:11,{key},p,100"]).returncode)  # keyctl(KEYCTL_READ)
"""


def test_keys_of_the_session_stay_outside(rdock: Rdock, runtime: str, images: Store, tmp_path: Path) -> None:
    """Without a filter keyctl(2) is there, and the caller's session keyring holds tickets and passphrases."""
    if os.uname().machine != "x86_64" or not Path("/proc/keys").exists():
        pytest.skip("no keys in this kernel, or no payload for this machine")
    flags = ["-nostdlib", "-static", "-no-pie", "-fno-stack-protector", "-mno-red-zone", "-fcf-protection=none"]
    payload = tmp_path / "syscalls"
    payload.write_bytes(compiled("syscalls.c", *flags))
    payload.chmod(0o755)
    images.load({"keys": [program(b"syscalls", payload.read_bytes())]})

    def read(*command: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", KEEPER, *command], env=rdock.environment(), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert read(str(payload)) == 0
    options = ["--rm", "--network", "none", "--security-opt", "seccomp=unconfined"]
    assert read(*rdock.argv("run", *options, images.name("keys"), "/syscalls")) in (errno.EACCES, errno.ENOKEY)
    container = rdock.ok("run", "-d", *options, images.name("keys"), "sleep", "600")
    assert read(*rdock.argv("exec", container, "/syscalls")) in (errno.EACCES, errno.ENOKEY)
    rdock.ok("rm", "-f", container)
