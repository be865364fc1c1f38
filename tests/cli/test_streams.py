"""Streams under strain: both directions full, slow and vanishing readers; and nothing of the caller stays behind."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rdock.container import attach, held_signals, relay
from rdock.linux import sockets
from tests.cli.conftest import wait_for
from tests.conftest import STARTER
from tests.program import Rdock

RUN = ("run", "--rm", "--network", "none")


def shell(rdock: Rdock, script: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """A script that calls the program as "$@" with the options of the test."""
    return subprocess.run(
        ["bash", "-c", script, "bash", *rdock.argv()],
        env=rdock.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_filter_that_prints_more_than_it_reads(rdock: Rdock) -> None:
    done = shell(rdock, f'head -c 3000000 /dev/zero | "$@" {" ".join(RUN)} -i {STARTER} od -v -x | wc -l')
    assert done.stdout.strip() == str(3000000 // 16 + 1), done


def test_slow_reader_loses_nothing(rdock: Rdock) -> None:
    script = f'"$@" {" ".join(RUN)} {STARTER} seq 1 150000 | (sleep 12; wc -l); echo ${{PIPESTATUS[0]}}'
    assert shell(rdock, script).stdout.split() == ["150000", "0"]


def test_closed_pipe_ends_the_client_and_a_program_without_log(rdock: Rdock) -> None:
    done = shell(rdock, f'"$@" {" ".join(RUN)} {STARTER} yes | head -n 1; echo ${{PIPESTATUS[0]}}')
    assert done.stdout.split() == ["y", "141"]
    deadline = time.monotonic() + 10
    while rdock.ok("ps", "-q"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_closed_pipe_ends_an_exec_session(rdock: Rdock) -> None:
    rdock.ok("run", "-d", "--name", "held", "--network", "none", STARTER, "sleep", "1000")
    assert shell(rdock, '"$@" exec held yes | head -n 1; echo ${PIPESTATUS[0]}').stdout.split() == ["y", "141"]
    deadline = time.monotonic() + 10
    while "yes" in rdock.ok("exec", "held", "ps", "-o", "comm"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_input_ends_with_the_client_that_came_with_it(rdock: Rdock) -> None:
    client = subprocess.Popen(
        rdock.argv("run", "--name", "reader", "--network", "none", "-i", STARTER, "sh", "-c", "echo up; cat"),
        env=rdock.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert client.stdout is not None and client.stdout.readline() == b"up\n"
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    assert rdock.ok("wait", "reader") == "0"


def test_nothing_of_the_caller_stays_behind(rdock: Rdock, tmp_path: os.PathLike[str]) -> None:
    lock = os.path.join(tmp_path, "lock")
    script = (
        f'exec 9>{lock}; flock 9; "$@" run -d --name quiet -e SECRET=hunter2 {STARTER} sleep 1000 >/dev/null; '
        f"exec 9>&-; flock -n {lock} echo free"
    )
    assert shell(rdock, script).stdout.split()[0] == "free"
    monitors = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/comm") as comm, open(f"/proc/{name}/cmdline", "rb") as line:
                if comm.read().startswith("rdock-"):
                    monitors.append(line.read())
        except (OSError, ValueError):
            continue
    assert monitors and not any(b"hunter2" in line for line in monitors)


def test_umask_of_the_caller_stays_outside(rdock: Rdock) -> None:
    script = f'umask 077; "$@" {" ".join(RUN)} -u 1000 {STARTER} cat /etc/hostname /etc/hosts >/dev/null; echo $?'
    assert shell(rdock, script).stdout.strip() == "0"


def test_full_output_is_one_line_of_error(rdock: Rdock) -> None:
    done = shell(rdock, '"$@" ps >/dev/full; echo $?')
    assert done.stdout.strip() == "125"
    assert len(done.stderr.splitlines()) == 1 and "no space left" in done.stderr


def test_null_is_the_containers_own(rdock: Rdock) -> None:
    """The mount that a stream leads through is one of the container's, not the host's."""
    script = "id=$(sed -n 's/^mnt_id:[^0-9]*//p' /proc/self/fdinfo/0); grep -c \"^$id \" /proc/self/mountinfo"
    result = rdock(*RUN, STARTER, "sh", "-c", script)
    assert (result.out, result.err) == ("1\n", ""), result
    rdock.ok("run", "-d", "--name", "held", "--network", "none", STARTER, "sleep", "1000")
    assert rdock.ok("exec", "held", "sh", "-c", script) == "1"


def test_container_without_a_null_of_its_own(rdock: Rdock) -> None:
    script = "mount --bind /etc/passwd /dev/null && echo up && sleep 1000"
    client = rdock.start("run", "--name", "odd", "--privileged", "--network", "none", STARTER, "sh", "-c", script)
    assert client.stdout and client.stdout.readline() == b"up\n"
    assert rdock.ok("exec", "odd", "sh", "-c", "cat; echo read") == "read"
    rdock.ok("rm", "-f", "odd")
    client.communicate(timeout=20)


# -- signals while output is stalled, and while a start hangs ------------------------------------


def stream_pair(kind: str) -> tuple[int, int]:
    """(reader, writer) of something that stalls when nobody reads."""
    if kind == "terminal":
        return os.openpty()
    if kind == "socket":
        reader, writer = socket.socketpair()
        return reader.detach(), writer.detach()
    return os.pipe()


def is_still(fd: int) -> bool:
    """Whether what waits to be read stays the same for a while."""
    sizes = []
    for _ in range(2):
        sizes.append(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
        time.sleep(0.5)
    return sizes[0] == sizes[1] != bytes(4)


def start_flood(rdock: Rdock, writer: int) -> subprocess.Popen[bytes]:
    script = "trap 'exit 3' TERM INT; yes & while :; do wait; done"
    return rdock.start(*RUN, STARTER, "sh", "-c", script, stdin=subprocess.DEVNULL, stdout=writer)


def drain(fd: int) -> None:
    try:
        while os.read(fd, 65536):
            pass
    except OSError:
        pass  # a terminal that is hung up


@pytest.mark.parametrize("kind", ["pipe", "terminal", "socket"])
def test_signals_pass_a_stalled_output(rdock: Rdock, kind: str) -> None:
    reader, writer = stream_pair(kind)
    client = start_flood(rdock, writer)
    os.close(writer)
    wait_for(lambda: is_still(reader), "the output stalls")
    client.terminate()
    wait_for(lambda: rdock.ok("ps", "-q") == "", "the container ends")
    drain(reader)
    os.close(reader)
    assert client.wait(20) == 3


def test_flags_of_the_callers_streams_stay(rdock: Rdock) -> None:
    """They are shared with other processes, which do not expect a write that fails for a full pipe."""
    reader, writer = os.pipe()
    client = start_flood(rdock, writer)
    wait_for(lambda: is_still(reader), "the output stalls")
    assert not fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK
    client.terminate()
    os.close(writer)
    drain(reader)
    os.close(reader)
    assert client.wait(20) == 3


def test_signal_that_comes_with_the_end_of_the_reader_is_passed_on(rdock: Rdock) -> None:
    """As with Ctrl-C, which ends a whole pipeline."""
    reader, writer = os.pipe()
    script = "trap 'exit 3' INT; trap '' PIPE; yes & while :; do wait; done"
    client = rdock.start("run", "--name", "kept", *RUN[2:], STARTER, "sh", "-c", script, stdin=None, stdout=writer)
    os.close(writer)
    wait_for(lambda: is_still(reader), "the output stalls")
    client.send_signal(signal.SIGSTOP)
    client.send_signal(signal.SIGINT)
    os.close(reader)
    client.send_signal(signal.SIGCONT)
    assert client.wait(20) == 141
    wait_for(lambda: rdock.ok("ps", "-q") == "", "the container ends")
    assert rdock.ok("inspect", "-f", "{{.State.ExitCode}}", "kept") == "3"


def test_a_start_that_hangs_is_left_at_the_second_signal(rdock: Rdock, tmp_path: Path) -> None:
    runtime = tmp_path / "hangs"
    runtime.write_text(
        f'#!/bin/sh\ncase "$*" in *--bundle*) touch {tmp_path}/begun; '
        f"until test -e {tmp_path}/go; do sleep 0.1; done;; esac\nexit 1\n"
    )
    runtime.chmod(0o755)
    client = rdock.start(*RUN, "--runtime", str(runtime), STARTER, "true", stdin=subprocess.DEVNULL)
    wait_for((tmp_path / "begun").exists, "the start begins")
    # two that come at once are one
    client.terminate()
    time.sleep(0.2)
    client.send_signal(signal.SIGINT)
    time.sleep(1.2)
    assert client.poll() is None
    client.terminate()
    try:
        out, err = client.communicate(timeout=5)
    finally:
        (tmp_path / "go").touch()
    assert (client.returncode, out) == (128 + signal.SIGTERM, b"")
    assert len(err.splitlines()) == 1 and b"still being started" in err and b"rdock rm -f" in err
    wait_for(lambda: rdock.ok("ps", "-aq") == "", "the start has failed")


def in_a_child(function: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(0)
    return pid


def test_signals_before_the_start_reach_the_container() -> None:
    """Each once, in the place of the monitor."""
    monitor, client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def command() -> None:
        connection = sockets.socket(fileno=client.detach())
        held_signals.hold_back()
        connection.send(b"held")
        attach.await_start(connection)
        relay.relay(connection, relay.Attached(False, True, True, False))

    pid = in_a_child(command)
    client.close()
    assert monitor.recv(100) == b"held"
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM):
        os.kill(pid, number)
        time.sleep(0.2)
    monitor.send(b"s")
    monitor.settimeout(10)
    assert {monitor.recv(100), monitor.recv(100)} == {b"k%d" % signal.SIGTERM, b"k%d" % signal.SIGUSR1}
    monitor.send(b'x{"code": 0}')
    assert monitor.recv(100) == b""
    os.waitpid(pid, 0)
