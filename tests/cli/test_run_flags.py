"""Options of run that concern the process: groups, names, devices, limits, streams, security."""

from __future__ import annotations

import json
import os
import resource
import signal
import socketserver
import subprocess
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from tests.cli.conftest import wait_for
from tests.cli.test_bad_input import refused
from tests.conftest import STARTER
from tests.program import Rdock, Result

RUN = ("run", "--rm", "--network", "none")
RESOLV = Path("/etc/resolv.conf")


def shell(rdock: Rdock, script: str, *options: str) -> Result:
    return rdock(*RUN, *options, STARTER, "sh", "-c", script, timeout=60)


def out(rdock: Rdock, script: str, *options: str) -> str:
    result = shell(rdock, script, *options)
    assert result.code == 0, str(result)
    return result.out.strip()


def status(rdock: Rdock, key: str, *options: str) -> str:
    return out(rdock, f"sed -n 's/^{key}:[[:space:]]*//p' /proc/self/status", *options).strip()


# -- groups --------------------------------------------------------------------------------------


def test_groups_are_added(rdock: Rdock, runtime: str) -> None:
    """By name and number, to the user's own ones, in run and exec."""
    options = ("--group-add", "users", "--group-add", "4321")
    container = rdock.ok("run", "-d", "--network", "none", *options, STARTER, "sleep", "600")
    for user, expected in (("0", {0, 10, 100, 4321}), ("1000:7", {7, 100, 4321})):
        groups = rdock.ok("exec", "-u", user, container, "sed", "-n", "s/^Groups://p", "/proc/self/status")
        assert set(map(int, groups.split())) == expected
    rdock.ok("rm", "-f", container)
    assert {"100", "4321"} < set(status(rdock, "Groups", *options).split())


@pytest.mark.parametrize(
    ("group", "says"),
    [
        ("nosuch", "unable to find group nosuch: no matching entries in group file"),
        ("-1", "uids and gids must be in range"),
        ("4294967296", "uids and gids must be in range"),
        ("2147483647", "cannot run as group 2147483647"),
        ("a\nroot", "unable to find group"),
        ("a:b", "unable to find group"),
        ("", "unable to find group"),
    ],
)
def test_groups_that_are_none(rdock: Rdock, group: str, says: str) -> None:
    refused(rdock, *RUN, f"--group-add={group}", STARTER, "true", says=says)


# -- names ---------------------------------------------------------------------------------------


def test_domainname(rdock: Rdock) -> None:
    script = "cat /proc/sys/kernel/domainname; hostname; tail -1 /etc/hosts"
    shown = out(rdock, script, "--domainname", "example.org", "-h", "box")
    assert shown.split() == ["example.org", "box", "127.0.1.1", "box.example.org", "box"]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("db:10.1.2.3", "10.1.2.3\tdb"),
        ("db=10.1.2.3", "10.1.2.3\tdb"),
        ("six:::1", "::1\tsix"),
        ("six:[fd00::7]", "fd00::7\tsix"),
        ("six=[fd00::7]", "fd00::7\tsix"),
        ("six=fd00::7", "fd00::7\tsix"),
        ("here:host-gateway", "127.0.0.1\there"),
    ],
)
def test_extra_hosts(rdock: Rdock, given: str, line: str) -> None:
    assert line in out(rdock, "cat /etc/hosts", "--add-host", given).splitlines()


def test_the_host_is_reached_by_its_name(rdock: Rdock, tmp_path: Path) -> None:
    (tmp_path / "page").write_text("from the host\n")
    with socketserver.TCPServer(("0.0.0.0", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = f"wget -q -O - http://here:{server.server_address[1]}/page"
        result = rdock("run", "--rm", "--add-host", "here:host-gateway", STARTER, "sh", "-c", command, timeout=60)
        server.shutdown()
    assert result.out == "from the host\n", result


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--add-host", "db", 'invalid argument "db" for "--add-host" flag: bad format for add-host: "db"'),
        ("--add-host", ":1.2.3.4", "bad format for add-host"),
        ("--add-host", "a:b=1.2.3.4", "bad format for add-host"),
        ("--add-host", "db:1.2.3", 'invalid IP address in add-host: "1.2.3"'),
        ("--add-host", "db:fe80::1%lo", "invalid IP address in add-host"),
        ("--add-host", "a\n6.6.6.6 evil:1.2.3.4", "bad format for add-host"),
        ("--add-host", "a evil:1.2.3.4", "bad format for add-host"),
        ("--add-host", "#a:1.2.3.4", "bad format for add-host"),
        ("--add-host", "db:1.2.3.4\n6.6.6.6 evil", "invalid IP address"),
        ("--dns", "8.8.8", "IP address is not correctly formatted: 8.8.8"),
        ("--dns", "8.8.8.8\noptions x", "IP address is not correctly formatted"),
        ("--dns-search", "two words", "two words is not a valid domain"),
        ("--dns-search", "a\nnameserver 6.6.6.6", "is not a valid domain"),
        ("--dns-search", "a..b", "is not a valid domain"),
        ("--dns-option", "a\nnameserver 6.6.6.6", "is not a resolver option"),
        ("--domainname", "a\n6.6.6.6 evil", "invalid domainname format"),
        ("--domainname", "a b", "invalid domainname format"),
        ("--hostname", "a\n6.6.6.6", "invalid hostname format"),
        ("--hostname", "a:b", "invalid hostname format"),
    ],
)
def test_names_that_are_none(rdock: Rdock, option: str, value: str, says: str) -> None:
    """What ends up in a file of the container is one word of one line (the class of passwd injections)."""
    refused(rdock, *RUN, option, value, STARTER, "true", says=says)


def test_resolver(rdock: Rdock) -> None:
    options = ["--dns", "192.0.2.1", "--dns", "2001:db8::1", "--dns-search", "example.org", "--dns-search", "b.test"]
    shown = out(rdock, "cat /etc/resolv.conf", *options, "--dns-option", "ndots:2", "--dns-opt", "timeout:1")
    assert shown.splitlines() == [
        "search example.org b.test", "options ndots:2 timeout:1", "nameserver 192.0.2.1", "nameserver 2001:db8::1",
    ]  # fmt: skip
    assert "search" not in out(rdock, "cat /etc/resolv.conf", "--dns-search", ".")
    servers = [line for line in RESOLV.read_text().splitlines() if line.startswith("nameserver")]
    assert set(servers) <= set(out(rdock, "cat /etc/resolv.conf", "--dns-search", "x.org").splitlines())


def test_names_are_shown(rdock: Rdock) -> None:
    options = ["--dns", "192.0.2.1", "--dns-option", "ndots:2", "--add-host", "a=[::1]", "--annotation", "k=v=w"]
    container = rdock.ok("create", "--network", "none", *options, "--group-add", "users", STARTER, "true")
    found = json.loads(rdock.ok("inspect", container))[0]["HostConfig"]
    assert (found["Dns"], found["DnsOptions"], found["ExtraHosts"]) == (["192.0.2.1"], ["ndots:2"], ["a:::1"])
    assert found["Annotations"] == {"k": "v=w"} and found["GroupAdd"] == ["users"]
    rdock.ok("rm", container)


def test_labels_from_files(rdock: Rdock, tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_text("# a comment\n\na=1\nempty\nb=x y\n")
    container = rdock.ok("create", "--label-file", str(file), "-l", "b=2", STARTER, "true")
    labels = json.loads(rdock.ok("inspect", container))[0]["Config"]["Labels"]
    assert {key: labels[key] for key in ("a", "b", "empty")} == {"a": "1", "b": "2", "empty": ""}
    rdock.ok("rm", container)
    file.write_text("two words=1\n")
    says = f"invalid label file ({file}): line 1: label 'two words' contains whitespaces"
    refused(rdock, *RUN, "--label-file", str(file), STARTER, "true", says=says)


def test_expose(rdock: Rdock) -> None:
    container = rdock.ok("create", "--expose", "80", "--expose", "7000-7001/udp", STARTER, "true")
    ports = json.loads(rdock.ok("inspect", container))[0]["Config"]["ExposedPorts"]
    assert set(ports) == {"80/tcp", "7000/udp", "7001/udp"}
    rdock.ok("rm", container)
    for text, says in (
        ("80:80", "invalid port format for --expose: 80:80"),
        ("x", "invalid range format for --expose"),
    ):
        refused(rdock, *RUN, "--expose", text, STARTER, "true", says=says)


# -- devices -------------------------------------------------------------------------------------


def test_device(rdock: Rdock, runtime: str) -> None:
    for text, path in (("/dev/fuse", "/dev/fuse"), ("/dev/zero:/dev/other/nil", "/dev/other/nil")):
        if os.path.exists(text.split(":")[0]):
            assert out(rdock, f"test -c {path} && echo char", "--device", text) == "char"
    assert out(rdock, "head -c 3 /dev/nil | od -An -tx1", "--device", "/dev/zero:/dev/nil:rwm") == "00 00 00"


def test_device_that_is_a_link(rdock: Rdock, tmp_path: Path) -> None:
    """It is followed on the host, as by Docker; one to a file is no device."""
    (tmp_path / "node").symlink_to("/dev/zero")
    assert out(rdock, "stat -c %t:%T /dev/nil", "--device", f"{tmp_path}/node:/dev/nil") == "1:5"
    (tmp_path / "file").symlink_to("/etc/passwd")
    refused(rdock, *RUN, "--device", f"{tmp_path}/file:/dev/nil", STARTER, "true", says="not a device node")


def test_devices_of_a_directory(rdock: Rdock) -> None:
    shown = out(rdock, "ls /dev/input-or-not", "--device", "/dev:/dev/input-or-not").split()
    assert {"null", "zero", "random"} <= set(shown) and "pts" not in shown and "shm" not in shown


def test_standard_devices_are_not_replaced(rdock: Rdock) -> None:
    assert out(rdock, "stat -c %t:%T /dev/null", "--device", "/dev/zero:/dev/null") == "1:3"


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("/dev/nope", 'adding custom device "/dev/nope": no such file or directory'),
        ("/etc/passwd", 'adding custom device "/etc/passwd": not a device node'),
        ("/etc", "not a device node"),
        ("zero", 'invalid argument "zero" for "--device" flag: zero is not an absolute path'),
        ("/dev/zero:nil", "nil is not an absolute path"),
        ("/dev/zero:/dev/nil:x", "bad mode specified: x"),
        ("/dev/zero:/dev/nil:rr", "bad mode specified: rr"),
        ("/a:/b:/c:rwm", "bad format for path"),
        ("", "bad format for path"),
        ("/dev/zero:/dev/nil:r", "cannot be limited to 'r' without root"),
        ("/dev/zero:/proc/nil", "cannot be mounted because it is inside /proc"),
    ],
)
def test_devices_that_are_none(rdock: Rdock, device: str, says: str) -> None:
    refused(rdock, *RUN, "--device", device, STARTER, "true", says=says)


# -- limits --------------------------------------------------------------------------------------


def test_ulimits(rdock: Rdock, runtime: str) -> None:
    options = ["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--ulimit", "cpu=5", "--ulimit", "fsize=-1:-1"]
    if resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY:
        options = options[:-2]
    script = "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -Ht; ulimit -f"
    assert out(rdock, script, *options).split() == ["100", "200", "0", "5", "unlimited"]
    container = rdock.ok("run", "-d", "--network", "none", *options, STARTER, "sleep", "600")
    assert rdock.ok("exec", container, "sh", "-c", script).split() == ["100", "200", "0", "5", "unlimited"]
    rdock.ok("rm", "-f", container)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nofile", 'invalid argument "nofile" for "--ulimit" flag: invalid ulimit argument: nofile'),
        ("nosuch=1", "invalid ulimit type: nosuch"),
        ("nofile=1:2:3", "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`"),
        ("nofile=9:8", "ulimit soft limit must be less than or equal to hard limit: 9 > 8"),
        ("nofile=-1:8", "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: 8"),
        ("nofile=x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("nofile=-2", "-1 is unlimited"),
        ("nofile=99999999999999999999", "value out of range"),
        ("nofile=1:", "invalid syntax"),
    ],
)
def test_ulimits_that_are_none(rdock: Rdock, text: str, says: str) -> None:
    refused(rdock, *RUN, "--ulimit", text, STARTER, "true", says=says)


def test_ulimit_above_the_callers_own(rdock: Rdock) -> None:
    """Up front where it is known, and at a later start from a shell with less: never silently another limit."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    says = f"ulimit nofile: {most + 1} is above your own hard limit of {most}"
    refused(rdock, *RUN, "--ulimit", f"nofile=5:{most + 1}", STARTER, "true", says=says)
    container = rdock.ok("create", "--network", "none", "--ulimit", f"nofile={most}", STARTER, "true")
    limited = ["sh", "-c", f'ulimit -n {most - 1} && exec "$@"', "limited", *rdock.argv("start", container)]
    done = subprocess.run(limited, env=rdock.environment(), capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "ulimit nofile: operation not permitted" in done.stderr, done.stderr
    rdock.ok("start", "-a", container)
    rdock.ok("rm", container)


def test_sysctls(rdock: Rdock) -> None:
    options = [
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--sysctl",
        "kernel.msgmax=8190",
        "--sysctl",
        "fs.mqueue.msg_max=12",
    ]
    script = "cd /proc/sys && cat net/ipv4/ip_forward kernel/msgmax fs/mqueue/msg_max"
    assert out(rdock, script, *options).split() == ["1", "8190", "12"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--sysctl", "vm.swappiness=1"], "sysctl 'vm.swappiness=1' is not allowed"),
        (["--sysctl", "kernel.hostname=x"], "is not allowed"),
        (["--sysctl", "net.ipv4.ip_forward"], "sysctl 'net.ipv4.ip_forward' is not allowed"),
        (["--sysctl", "net..kernel.x=1"], "is not allowed"),
        (["--network", "host", "--sysctl", "net.ipv4.ip_forward=1"],
         'sysctl "net.ipv4.ip_forward" not allowed in host network namespace'),
        (["--ipc", "host", "--sysctl", "kernel.shmmax=1"],
         'sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace'),
        (["--sysctl", "net.ipv4.no_such_thing=1"], "no_such_thing"),
    ],
)  # fmt: skip
def test_sysctls_that_are_none(rdock: Rdock, options: list[str], says: str) -> None:
    words = ("run", "--rm") if "--network" in options else RUN
    refused(rdock, *words, *options, STARTER, "true", says=says)


def test_oom_score(rdock: Rdock, runtime: str) -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert out(rdock, "cat /proc/self/oom_score_adj", "--oom-score-adj", "700") == "700"
    result = shell(rdock, "cat /proc/self/oom_score_adj", "--oom-score-adj", "-500")
    assert result.out.strip() == str(max(own, -500)) and f"the OOM score will be {own}" in result.err, str(result)
    container = rdock.ok("run", "-d", "--network", "none", "--oom-score-adj", "650", STARTER, "sleep", "600")
    assert rdock.ok("exec", container, "cat", "/proc/self/oom_score_adj") == "650"
    rdock.ok("rm", "-f", container)
    for score in ("-1001", "1001"):
        says = f"Invalid value {score}, range for oom score adj is [-1000, 1000]"
        refused(rdock, *RUN, f"--oom-score-adj={score}", STARTER, "true", says=says)


def test_init_path(rdock: Rdock, tmp_path: Path) -> None:
    init = tmp_path / "init"
    init.write_text('#!/bin/sh\necho init "$@"\nshift\nexec "$@"\n')
    init.chmod(0o755)
    script = "ls -l /sbin/docker-init | cut -c1-10; echo >> /sbin/docker-init; cat /proc/1/comm"
    shown = out(rdock, f"({script}) 2>&1", "--init", "--init-path", str(init)).splitlines()
    assert shown[0].startswith("init -- sh -c") and "Read-only file system" in "".join(shown), shown
    assert init.read_text().endswith('exec "$@"\n')
    says = "container-init binary not found on the host: /nonexistent"
    refused(rdock, *RUN, "--init-path", "/nonexistent", STARTER, "true", says=says)


# -- security options ----------------------------------------------------------------------------


def profile(path: Path, **fields: object) -> str:
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", **fields}))
    return f"seccomp={path}"


def test_own_seccomp_profile(rdock: Rdock, runtime: str, tmp_path: Path) -> None:
    """It is read once: what becomes of the file later does not matter, and exec has the same filter."""
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30}
    option = profile(tmp_path / "p", syscalls=[rule])
    options = ("--security-opt", option)
    container = rdock.ok("create", "--network", "none", *options, STARTER, "sh", "-c", "mkdir /x; exec sleep 600")
    (tmp_path / "p").unlink()
    rdock.ok("start", container)
    for _ in range(2):
        result = rdock("exec", container, "mkdir", "/y")
        assert result.code == 1 and "Read-only file system" in result.err, str(result)
        rdock.ok("restart", "-t", "0", container)
    assert "Read-only file system" in rdock("logs", container).err
    rdock.ok("rm", "-f", container)


@pytest.mark.parametrize(
    ("where", "denied"),
    [
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, False),
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"excludes": {"caps": ["CAP_CHOWN"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"includes": {"arches": ["s390x"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "999.0"}}, False),
        ({"excludes": {"minKernel": "4.8"}}, False),
    ],
)
def test_rules_of_dockers_profiles(rdock: Rdock, tmp_path: Path, where: dict[str, object], denied: bool) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", **where}
    architectures = [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}]
    option = profile(tmp_path / "p", archMap=architectures, syscalls=[rule])
    assert (shell(rdock, "mkdir /x", "--security-opt", option).code != 0) == denied


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "compacting json for seccomp profile"),
        ("[]", "Decoding seccomp profile failed"),
        ('{"defaultAction": "NOSUCH", "syscalls": []}', "Decoding seccomp profile failed"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": 7}]}', "Decoding seccomp profile failed"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], '
         '"archMap": [{"architecture": "SCMP_ARCH_X86"}]}', "both 'architectures' and 'archMap' are specified"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"]}]}',
         "both 'name' and 'names' are specified"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", '
         '"includes": {"minKernel": "x"}}]}', "minKernel"),
    ],
)  # fmt: skip
def test_profiles_that_are_none(rdock: Rdock, tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "p").write_text(content)
    refused(rdock, *RUN, "--security-opt", f"seccomp={tmp_path / 'p'}", STARTER, "true", says=says)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("nosuch", 'invalid --security-opt: "nosuch"'),
        ("nosuch=x", 'invalid --security-opt 2: "nosuch=x"'),
        ("seccomp=", "invalid --security-opt"),
        ("seccomp=/nonexistent", "opening seccomp profile (/nonexistent) failed"),
        ("no-new-privileges=perhaps", "supported values are true, false"),
        ("apparmor=docker-default", "cannot be set without root"),
        ("label=type:x_t", "not set by rdock"),
        ("systempaths=some", "invalid --security-opt 2"),
        ("credentialspec=file://x", "containers of Windows"),
    ],
)
def test_security_options_that_are_none(rdock: Rdock, option: str, says: str) -> None:
    refused(rdock, *RUN, "--security-opt", option, STARTER, "true", says=says)


def test_security_options_that_ask_for_nothing(rdock: Rdock) -> None:
    options = [x for o in ("apparmor=unconfined", "label=disable", "label:disable") for x in ("--security-opt", o)]
    assert status(rdock, "Seccomp", *options) == "2"
    assert status(rdock, "Seccomp", "--security-opt", "seccomp:unconfined") == "0"
    assert status(rdock, "Seccomp", "--security-opt", "seccomp=builtin") == "2"
    assert status(rdock, "NoNewPrivs", "--security-opt", "no-new-privileges:true") == "1"
    assert status(rdock, "NoNewPrivs", "--security-opt", "no-new-privileges=false") == "0"


def test_system_paths(rdock: Rdock) -> None:
    script = "grep -c ' /proc/' /proc/self/mounts"
    assert int(out(rdock, script)) > 3
    assert shell(rdock, script, "--security-opt", "systempaths=unconfined").out.strip() == "0"


# -- streams and the end -------------------------------------------------------------------------


def test_attach_chooses_streams(rdock: Rdock) -> None:
    script = "echo out; echo err >&2; exit 3"
    for streams, expected in ((["stdout"], ("out\n", "")), (["STDERR"], ("", "err\n"))):
        result = shell(rdock, script, *(word for name in streams for word in ("-a", name)))
        assert (result.code, result.out, result.err) == (3, *expected)


def test_attach_to_stdin_alone(rdock: Rdock) -> None:
    """As Docker: the id is shown, the input arrives, and nothing else comes."""
    result = rdock("run", "--network", "none", "-i", "-a", "stdin", STARTER, "sh", "-c", "cat; exit 3", input="fed\n")
    container = result.out.strip()
    assert result.code == 0 and len(container) == 64, str(result)
    assert rdock.ok("wait", container) == "3" and rdock.ok("logs", container) == "fed"
    rdock.ok("rm", container)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-a", "stdmid"], 'invalid argument "stdmid" for "-a, --attach" flag: valid streams are STDIN, STDOUT and'),
        (["-d", "-a", "stdout"], "conflicting options: cannot specify both --attach and --detach"),
        (["--restart", "always"], "conflicting options: cannot specify both --restart and --rm"),
        (["--detach-keys", "ctrl-"], "Invalid detach keys (ctrl-) provided: Unknown character: 'ctrl-'"),
        (["--detach-keys", "a,,b"], "Invalid detach keys (a,,b) provided"),
        (["--detach-keys", "ctrl-ä"], "Invalid detach keys"),
        (["--isolation", "hyperv"], "only Docker on Windows has it"),
        (["--cpu-count", "2"], "only Docker on Windows has it"),
        (["--storage-opt", "size=1g"], "only the machine's root may limit"),
        (["--use-api-socket"], "'rdock run --use-api-socket' is not supported"),
        (["--gpus", "all"], "'rdock run --gpus' is not there yet"),
        (["--log-driver", "nosuch"], "logger: no log driver named 'nosuch' is registered"),
        (["--log-driver", "syslog"], "log driver syslog is not there"),
        (["--log-driver", "none", "--log-opt", "max-size=1m"], "invalid logging opts for driver none"),
        (["--log-opt", "nosuch=1"], "unknown log opt 'nosuch' for json-file log driver"),
        (["--log-opt", "max-size=-5"], "size"),
        (["--log-opt", "max-size=1m", "--log-opt", "max-file=0"], "max-file cannot be less than 1"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(rdock: Rdock, options: list[str], says: str) -> None:
    refused(rdock, *RUN, *options, STARTER, "true", says=says)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (
            "sometimes",
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or",
        ),
        (":5", "invalid restart policy format: no policy provided before colon"),
        ("on-failure:x", "invalid restart policy format: maximum retry count must be an integer"),
        ("on-failure:-1", "invalid restart policy: maximum retry count cannot be negative"),
        ("always:3", "invalid restart policy: maximum retry count can only be used with 'on-failure'"),
    ],
)
def test_restart_policies_that_are_none(rdock: Rdock, policy: str, says: str) -> None:
    refused(rdock, "run", "--network", "none", "--restart", policy, STARTER, "true", says=says)


def test_restart_policy_and_log_options_are_kept(rdock: Rdock) -> None:
    options = [
        "--restart",
        "on-failure:2",
        "--log-driver",
        "local",
        "--log-opt",
        "max-size=1m",
        "--log-opt",
        "max-file=2",
    ]
    container = rdock.ok("create", "--network", "none", *options, STARTER, "false")
    found = json.loads(rdock.ok("inspect", container))[0]["HostConfig"]
    assert found["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert found["LogConfig"] == {"Type": "local", "Config": {"max-size": "1m", "max-file": "2"}}
    rdock.ok("rm", container)


def test_signals_that_are_not_passed_on(rdock: Rdock) -> None:
    """With --sig-proxy=false they end the command, and the container lives on."""
    options = ("--name", "no-proxy", "--sig-proxy=false", "--network", "none")
    process = rdock.start("run", *options, STARTER, "sh", "-c", "trap 'echo got' TERM; while :; do sleep 0.1; done")
    wait_for(lambda: rdock("inspect", "-f", "{{.State.Running}}", "no-proxy").out == "true\n")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) != 0
    time.sleep(0.3)
    assert rdock.ok("inspect", "-f", "{{.State.Running}}", "no-proxy") == "true"
    assert rdock.ok("logs", "no-proxy") == ""
    rdock.ok("rm", "-f", "no-proxy")
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()  # type: ignore[union-attr]


def test_options_without_a_consequence(rdock: Rdock) -> None:
    options = ["--no-healthcheck", "--disable-content-trust", "--isolation", "default", "--userns", "host", "--quiet"]
    assert out(rdock, "echo fine", *options, "--pid", "private", "--ipc", "private") == "fine"


def test_working_directory_is_no_descriptor(rdock: Rdock) -> None:
    """CVE-2024-21626, with what these options leave open meanwhile."""
    options = ["--device", "/dev/zero:/dev/nil", "--ulimit", "core=0"]
    for number in (*range(3, 20), 63, 255):
        result = shell(rdock, "pwd; ls", *options, "-w", f"/proc/self/fd/{number}")
        assert result.code != 0 and result.out == "", str(result)
    shown = out(rdock, "ls /proc/self/fd", *options).split()
    assert set(shown) <= {"0", "1", "2", "3"}, "3 is the directory that ls reads"
