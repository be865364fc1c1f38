"""Streams under strain: both directions full, slow and vanishing readers; and nothing of the caller stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time

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
