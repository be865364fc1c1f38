"""run: exit codes, streams, the process's surroundings, mounts, terminals, signals, names and images."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear, wait_for
from tests.cli.terminal import Terminal
from tests.conftest import STARTER
from tests.program import Rdock, Result

RUN = ("run", "--rm", "--network", "none")


def run(rdock: Rdock, *args: str, input: bytes | str | None = None) -> Result:
    return rdock(*RUN, *args, input=input, timeout=60)


def shell(rdock: Rdock, script: str, *options: str, input: bytes | str | None = None) -> Result:
    return run(rdock, *options, STARTER, "sh", "-c", script, input=input)


def records(rdock: Rdock) -> list[str]:
    directory = rdock.home.data / "containers"
    return sorted(os.listdir(directory)) if directory.is_dir() else []


# -- how it ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 42, 125, 255])
def test_exit_code_is_the_programs(rdock: Rdock, runtime: str, code: int) -> None:
    result = shell(rdock, f"exit {code}")
    assert (result.code, result.out, result.err) == (code, "", "")


@pytest.mark.parametrize("name", ["TERM", "KILL", "USR1"])
def test_exit_code_of_a_signal(rdock: Rdock, runtime: str, name: str) -> None:
    # A process 1 is not ended by a signal of its own; a child of the shell passes its end on.
    result = shell(rdock, f"sh -c 'kill -{name} $$'; exit $?")
    assert result.code == 128 + int(signal.Signals[f"SIG{name}"])


def test_not_found_and_not_executable(rdock: Rdock, runtime: str) -> None:
    for program, code in (("/nonexistent", 127), ("nonexistent", 127), ("/etc", 126), ("/etc/passwd", 126)):
        result = run(rdock, STARTER, program)
        assert result.code == code, str(result)
        assert is_clear(result.err), str(result)
        assert program in result.err
    assert shell(rdock, "true", "-w", "/etc/passwd").code in (125, 126, 127)


def test_not_found_is_recorded(rdock: Rdock) -> None:
    assert rdock("run", "--name", "absent", "--network", "none", STARTER, "/nonexistent").code == 127
    assert rdock.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "absent") == "created 127"
    assert "nonexistent" in rdock.ok("inspect", "-f", "{{.State.Error}}", "absent")


def test_file_of_no_known_format(rdock: Rdock, runtime: str) -> None:
    result = shell(rdock, "printf 'junk\\001\\n' >/junk; chmod 755 /junk; exec /junk")
    assert result.code in (126, 127)


def test_rm_leaves_nothing(rdock: Rdock) -> None:
    before = records(rdock)
    for code in (0, 3):
        assert shell(rdock, f"exit {code}", "--name", "shortlived").code == code
    assert run(rdock, "--name", "shortlived", STARTER, "/nonexistent").code == 127
    assert records(rdock) == before
    assert not [name for name in os.listdir(rdock.home.data / "containers" / ".names") if name != ".lock"]
    wait_for(lambda: os.listdir(rdock.home.runtime / "rdock" / "containers") == [], "the run directories are gone")


def test_background_processes_end_with_process_1(rdock: Rdock, runtime: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    script = "(sleep 0.5; echo alive >/shared/mark) & exec true"
    assert shell(rdock, script, "-v", f"{tmp_path}:/shared").code == 0
    time.sleep(1)
    assert os.listdir(tmp_path) == []


# -- streams -------------------------------------------------------------------------------------


def test_streams_are_apart(rdock: Rdock, runtime: str) -> None:
    result = shell(rdock, "echo out; echo err >&2; printf unended")
    assert (result.code, result.out, result.err) == (0, "out\nunended", "err\n")


def test_binary_input_to_output(rdock: Rdock, runtime: str) -> None:
    data = os.urandom(1 << 20) * 5
    done = subprocess.run(
        rdock.argv(*RUN, "-i", STARTER, "cat"), input=data, env=rdock.environment(), capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_much_output_on_both_streams(rdock: Rdock) -> None:
    result = shell(rdock, "head -c 3000000 /dev/zero & head -c 2000000 /dev/zero >&2; wait")
    assert (result.code, len(result.out), len(result.err)) == (0, 3000000, 2000000)


def test_end_of_input_is_passed_on(rdock: Rdock, runtime: str) -> None:
    """The other direction stays open: what the program says after the end of its input arrives."""
    result = shell(rdock, "cat; sleep 0.2; echo afterwards", "-i", input="given\n")
    assert (result.code, result.out) == (0, "given\nafterwards\n")


def test_input_that_is_not_read(rdock: Rdock) -> None:
    assert shell(rdock, "exec true", "-i", input=bytes(3 << 20)).code == 0
    assert shell(rdock, "head -c 5", "-i", input="12345" + "x" * 300000).out == "12345"
    # The program closes its input, goes on, and is not disturbed by what still comes.
    assert shell(rdock, "exec <&-; sleep 0.3; echo still here", "-i", input=bytes(3 << 20)).out == "still here\n"


def test_input_is_empty_unless_asked_for(rdock: Rdock, runtime: str) -> None:
    assert shell(rdock, "wc -c", input="something").out.strip() == "0"


def test_output_nobody_reads_does_not_hurt(rdock: Rdock) -> None:
    command = rdock.start(
        *RUN, STARTER, "sh", "-c", "yes | head -n 200000; exit 7", stdin=subprocess.DEVNULL, bufsize=0
    )
    assert command.stdout and command.stderr
    assert command.stdout.read(2) == b"y\n"
    command.stdout.close()
    assert command.wait(60) in (7, 141)
    command.stderr.close()


def test_programs_that_are_not_root_may_reopen_their_output(rdock: Rdock, runtime: str) -> None:
    result = shell(rdock, "echo out >/dev/stdout; echo err >/dev/stderr", "-u", "33:33")
    assert (result.code, result.out, result.err) == (0, "out\n", "err\n")


# -- surroundings --------------------------------------------------------------------------------


def test_entrypoint(rdock: Rdock, runtime: str) -> None:
    assert run(rdock, "--entrypoint", "echo", STARTER, "a", "b c").out == "a b c\n"
    assert run(rdock, "--entrypoint", "", STARTER, "echo", "plain").out == "plain\n"
    result = run(rdock, "--entrypoint", "", STARTER)
    assert result.code == 125 and "no command specified" in result.err


def test_environment(rdock: Rdock, runtime: str, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\n\nFILED=from file\nCOPIED\nABSENT\nQUOTED='as is'\n")
    result = rdock(
        *RUN, "--env-file", str(file), "-e", "GIVEN=a=b c", "-e", "COPIED_TOO", "-e", "ABSENT_TOO", "-e", "FILED=won",
        STARTER, "env",
        env={"COPIED": "one", "COPIED_TOO": "two", "SECRET": "leak", "LD_PRELOAD": "", "PYTHONPATH": "/tmp"},
    )  # fmt: skip
    assert result.code == 0, str(result)
    found = dict(line.split("=", 1) for line in result.out.splitlines())
    hostname = found.pop("HOSTNAME")
    assert len(hostname) == 12
    assert found == {
        "PATH": found["PATH"], "HOME": "/root", "FILED": "won", "COPIED": "one", "QUOTED": "'as is'",
        "GIVEN": "a=b c", "COPIED_TOO": "two",
    }  # fmt: skip


def test_working_directory(rdock: Rdock, runtime: str) -> None:
    assert shell(rdock, "pwd", "-w", "/var/new place/ü").out == "/var/new place/ü\n"
    assert shell(rdock, "pwd", "-w", "/usr/../tmp").out == "/tmp\n"


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("", "0 0 0 10"),
        ("33", "33 33 33"),
        ("www-data", "33 33 33"),
        ("www-data:users", "33 100 100"),
        ("12345:54321", "12345 54321 54321"),
        ("root:33", "0 33 33"),
    ],
)
def test_user(rdock: Rdock, runtime: str, user: str, ids: str) -> None:
    options = ("-u", user) if user else ()
    result = shell(rdock, "echo $(id -u) $(id -g) $(id -G)", *options)
    assert (result.code, result.out) == (0, ids + "\n"), str(result)


def test_hostname(rdock: Rdock, runtime: str) -> None:
    result = shell(rdock, "hostname; cat /etc/hostname; grep -c box.example /etc/hosts", "--hostname", "box.example")
    assert result.out.split() == ["box.example", "box.example", "1"]
    assert len(shell(rdock, "hostname").out.strip()) == 12


def test_labels_and_name(rdock: Rdock) -> None:
    container = rdock.ok(
        "run", "-d", "--network", "none", "--name", "labelled", "--label", "a=1", "-l", "b", STARTER, "sleep", "100"
    )
    assert len(container) == 64 and int(container, 16)
    labels = json.loads(rdock.ok("inspect", "-f", "{{json .Config.Labels}}", "labelled"))
    assert (labels["a"], labels["b"]) == ("1", "")
    assert "org.opencontainers.image.title" in labels, "those of the image"
    assert rdock.ok("inspect", "-f", "{{.Name}}", container) == "/labelled"


def test_init_reaps_and_passes_signals(rdock: Rdock, runtime: str) -> None:
    script = "sh -c 'sleep 0.1 & exec true' & sleep 0.6; ps -o stat,comm | grep -c '^Z'; cat /proc/1/comm"
    with_init = shell(rdock, script, "--init").out.split()
    assert with_init[0] == "0" and "init" in with_init[1]
    assert shell(rdock, "exit 9", "--init").code == 9
    container = rdock.ok(
        "run", "-d", "--init", "--network", "none", STARTER, "sh", "-c",
        "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.1; done",
    )  # fmt: skip
    wait_for(lambda: "ready" in rdock.ok("logs", container))
    assert rdock.ok("stop", container) == container
    assert rdock.ok("wait", container) == "5"
    assert "got it" in rdock.ok("logs", container)


def test_read_only_root(rdock: Rdock, runtime: str, storage: str) -> None:
    script = "touch /file; touch /etc/file; touch /tmp/file; touch /dev/shm/file && echo shm"
    result = shell(rdock, script, "--read-only")
    assert result.out == "shm\n" and result.err.count("Read-only file system") == 3


def test_tmpfs(rdock: Rdock, runtime: str) -> None:
    script = "grep ' /scratch ' /proc/mounts; stat -c %a /scratch; touch /scratch/file"
    result = shell(rdock, script, "--tmpfs", "/scratch:size=1m,mode=0700", "--read-only")
    assert result.code == 0, str(result)
    line, mode = result.out.splitlines()
    assert line.split()[2] == "tmpfs" and "size=1024k" in line and "noexec" in line and mode == "700"
    full = shell(
        rdock, "head -c 2000000 /dev/zero >/scratch/big; stat -c %s /scratch/big", "--tmpfs", "/scratch:size=1m"
    )
    assert full.out == f"{1 << 20}\n"


# -- bind mounts ---------------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    directory = tmp_path / "shared with ünïcode"
    directory.mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    (directory / "given").write_text("from the host")
    return directory


def test_bind_is_the_same_files(rdock: Rdock, runtime: str, shared: Path) -> None:
    script = "cat '/there ü/given'; echo back >'/there ü/made'"
    result = shell(rdock, script, "-v", f"{shared}:/there ü")
    assert (result.code, result.out) == (0, "from the host"), str(result)
    assert (shared / "made").read_text() == "back\n"
    assert (shared / "made").stat().st_uid == os.getuid()


def test_bind_read_only(rdock: Rdock, runtime: str, shared: Path) -> None:
    result = shell(rdock, "cat /there/given; echo no >/there/made", "-v", f"{shared}:/there:ro")
    assert result.out == "from the host" and "Read-only file system" in result.err and result.code != 0
    assert os.listdir(shared) == ["given"]


def test_bind_of_a_relative_source_and_of_a_file(rdock: Rdock, runtime: str, shared: Path) -> None:
    result = rdock(*RUN, "-v", "./given:/etc/motd:ro", STARTER, "cat", "/etc/motd", cwd=shared)
    assert (result.code, result.out) == (0, "from the host"), str(result)
    result = rdock(*RUN, "-v", "../:/up", STARTER, "sh", "-c", "echo /up/*", cwd=shared)
    assert result.out == f"/up/{shared.name}\n"


def test_bind_of_a_missing_source_makes_it(rdock: Rdock, runtime: str, tmp_path: Path) -> None:
    source = tmp_path / "not" / "there"
    result = shell(rdock, "touch /there/file", "-v", f"{source}:/there")
    assert result.code == 0, str(result)
    assert os.listdir(source) == ["file"]
    assert source.stat().st_uid == os.getuid()


def test_bind_over_nested_and_new_targets(rdock: Rdock, runtime: str, shared: Path) -> None:
    result = shell(
        rdock, "cat /new/deep/a/given && ls /new/deep", "-v", f"{shared}:/new/deep/a", "--tmpfs", "/new/deep"
    )
    assert (result.code, result.out) == (0, "from the hosta\n"), str(result)


def test_devices_of_a_bind_are_dead(rdock: Rdock, runtime: str) -> None:
    """A container's root may not use device files that lie in a mount of the host's."""
    assert shell(rdock, "cat /host/null", "-v", "/dev:/host:ro").code in (0, 1)
    assert shell(rdock, "ls /proc/1/root/ >/dev/null && ls /dev | sort | tr '\\n' ' '").out.split() == sorted(
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split()
    )


# -- terminals -----------------------------------------------------------------------------------


def test_terminal_size_and_raw_mode(rdock: Rdock, runtime: str) -> None:
    script = "stty size; read line; stty size; echo line is $line; test -t 1 && exit 7"
    with Terminal(rdock, *RUN, "-it", STARTER, "sh", "-c", script, rows=33, columns=111) as terminal:
        terminal.await_text("33 111")
        assert terminal.settings() != terminal.before
        terminal.resize(40, 120)
        time.sleep(0.3)
        terminal.type("typed\n")
        assert "40 120" in terminal.await_text("line is typed")
        assert terminal.end() == 7
        assert terminal.settings() == terminal.before


def test_terminal_keys_go_to_the_container(rdock: Rdock, runtime: str) -> None:
    """Control-C ends what runs in the container's foreground, not the command."""
    script = "trap 'echo caught' INT; sh -c 'echo ready; exec sleep 100'; echo on it goes; exit 4"
    with Terminal(rdock, *RUN, "-it", STARTER, "sh", "-c", script) as terminal:
        terminal.await_text("ready")
        terminal.type("\x03")
        terminal.await_text("on it goes")
        assert terminal.end() == 4


@pytest.mark.parametrize(("name", "code"), [("TERM", 9), ("KILL", 137)])
def test_terminal_is_restored_when_the_container_is_killed(rdock: Rdock, name: str, code: int) -> None:
    script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done"
    with Terminal(rdock, *RUN, "-it", "--name", "killed", STARTER, "sh", "-c", script) as terminal:
        terminal.await_text("up")
        assert terminal.settings() != terminal.before
        rdock.ok("kill", "-s", name, "killed")
        assert terminal.end() == code
        assert terminal.settings() == terminal.before


def test_terminal_is_restored_when_the_command_is_terminated(rdock: Rdock) -> None:
    """SIGTERM to the command goes to process 1, whose end ends the command."""
    script = "trap 'exit 6' TERM; echo up; while :; do sleep 0.1; done"
    with Terminal(rdock, *RUN, "-it", STARTER, "sh", "-c", script) as terminal:
        terminal.await_text("up")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 6
        assert terminal.settings() == terminal.before


def test_terminal_that_is_closed(rdock: Rdock) -> None:
    """A window that is closed: the container goes on, with nobody attached."""
    terminal = Terminal(rdock, "run", "-it", "--network", "none", "--name", "left", STARTER, "sh", "-c",
                        "trap '' HUP; echo up; sleep 100")  # fmt: skip
    with terminal:
        terminal.await_text("up")
        terminal.process.kill()
        terminal.process.wait(10)
    assert rdock.ok("inspect", "-f", "{{.State.Running}}", "left") == "true"
    assert rdock.ok("exec", "left", "echo", "reached") == "reached"


def test_terminal_needs_one(rdock: Rdock) -> None:
    result = shell(rdock, "true", "-it")
    assert (result.code, result.err) == (1, "rdock: the input device is not a TTY\n")
    # -t alone needs none: the container has one of its own.
    result = shell(rdock, "test -t 0 && test -t 1 && tty", "-t")
    assert result.code == 0 and result.out.strip() in ("/dev/pts/0", "/dev/console"), str(result)


def test_output_of_a_terminal_is_whole(rdock: Rdock, runtime: str) -> None:
    result = shell(rdock, "seq 1 20000", "-t")
    assert result.out.split() == [str(n) for n in range(1, 20001)]


# -- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1", "USR2"])
def test_signals_reach_process_1(rdock: Rdock, name: str) -> None:
    script = f"trap 'echo got {name}; exit 3' {name}; echo ready; while :; do sleep 0.05; done"
    command = rdock.start(*RUN, STARTER, "sh", "-c", script, stdin=subprocess.DEVNULL, bufsize=0)
    assert command.stdout
    assert command.stdout.readline() == b"ready\n"
    command.send_signal(signal.Signals[f"SIG{name}"])
    out, _ = command.communicate(timeout=20)
    assert (command.returncode, out) == (3, f"got {name}\n".encode())


def test_signals_reach_process_1_of_another_runtime(rdock: Rdock, runtime: str) -> None:
    command = rdock.start(
        *RUN, STARTER, "sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done",
        stdin=subprocess.DEVNULL, bufsize=0,
    )  # fmt: skip
    assert command.stdout and command.stdout.readline() == b"ready\n"
    command.terminate()
    command.communicate(timeout=20)
    assert command.returncode == 3


def test_signals_during_the_start_are_not_lost(rdock: Rdock) -> None:
    """At whatever instant the command is told to end: no container is left running with nobody attached."""
    script = "trap 'exit 3' TERM; while :; do sleep 0.05; done"
    codes = []
    for number in range(16):
        command = rdock.start(*RUN, STARTER, "sh", "-c", script, stdin=subprocess.DEVNULL, bufsize=0)
        time.sleep(number * 0.012)
        command.terminate()
        try:
            command.wait(0.5)
        except subprocess.TimeoutExpired:
            # Process 1 got it before it had its handler, and the kernel drops such a signal.
            command.terminate()
        command.communicate(timeout=20)
        codes.append(command.returncode)
        assert command.returncode in (3, -signal.SIGTERM)
        assert rdock.ok("ps", "-aq") == "", codes
    assert set(codes) == {3, -signal.SIGTERM}, "both sides of the instant were tried"


def test_command_killed_and_the_container_goes_on(rdock: Rdock, runtime: str) -> None:
    command = rdock.start(
        "run", "--network", "none", "--name", "alone", STARTER, "sh", "-c",
        "echo one; trap 'echo two; exit 8' TERM; while :; do sleep 0.05; done", stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert command.stdout and command.stdout.readline() == b"one\n"
    command.kill()
    command.communicate(timeout=20)
    assert rdock.ok("inspect", "-f", "{{.State.Running}}", "alone") == "true"
    assert rdock.ok("stop", "alone") == "alone"
    assert rdock.ok("logs", "alone") == "one\ntwo"
    assert rdock.ok("inspect", "-f", "{{.State.ExitCode}}", "alone") == "8"


# -- detached, names, images ---------------------------------------------------------------------


def test_detached_prints_the_id_and_returns(rdock: Rdock, runtime: str) -> None:
    # The pipe is closed though the container runs on: nothing of it holds the caller's output.
    container = rdock.ok("run", "-d", "--network", "none", STARTER, "sleep", "100")
    assert len(container) == 64
    assert rdock.ok("ps", "-q", "--no-trunc") == container


def test_detached_with_rm_goes_by_itself(rdock: Rdock, runtime: str) -> None:
    before = records(rdock)
    container = rdock.ok("run", "-d", "--rm", "--network", "none", STARTER, "sleep", "0.3")
    wait_for(lambda: records(rdock) == before, "the container is gone")
    assert rdock("inspect", container).code == 1


def test_detached_of_a_missing_program(rdock: Rdock, runtime: str) -> None:
    result = rdock("run", "-d", "--rm", "--network", "none", STARTER, "/nonexistent")
    assert result.code == 127 and len(result.out.strip()) == 64 and is_clear(result.err)


def test_name_conflict(rdock: Rdock) -> None:
    container = rdock.ok("run", "-d", "--network", "none", "--name", "taken", STARTER, "sleep", "100")
    result = rdock("run", "--network", "none", "--name", "taken", STARTER, "true")
    assert result.code == 125
    assert result.err == (
        f'rdock: Conflict. The container name "/taken" is already in use by container "{container}". '
        "You have to remove (or rename) that container to be able to reuse that name.\n"
    )
    rdock.ok("rm", "-f", "taken")
    assert rdock("run", "--rm", "--network", "none", "--name", "taken", STARTER, "true").code == 0


def test_pull_policy(rdock: Rdock, own_rdock: Rdock) -> None:
    result = own_rdock("run", "--pull", "never", STARTER, "true")
    assert result.code == 125 and f"No such image: {STARTER}" in result.err and is_clear(result.err)
    assert own_rdock("run", "--rm", "--network", "none", "--pull", "missing", STARTER, "true").code == 0
    assert own_rdock("run", "--rm", "--network", "none", "--pull", "never", STARTER, "true").code == 0
    result = own_rdock("run", "--rm", "no/such-image", "true")
    assert result.code == 125 and is_clear(result.err) and "Unable to find image 'no/such-image" in result.err
    result = own_rdock("run", "--rm", "--pull", "sometimes", STARTER, "true")
    assert result.code == 125 and is_clear(result.err)


def test_nothing_of_the_caller_is_inherited(rdock: Rdock, runtime: str) -> None:
    read_end, write_end = os.pipe()
    listener = socket.socket(socket.AF_UNIX)

    def started(*command: str) -> str:
        return subprocess.run(
            rdock.argv(*RUN, STARTER, *command),
            env=rdock.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=60,
            pass_fds=[read_end, write_end, listener.fileno()],
            preexec_fn=lambda: (os.umask(0o077), signal.signal(signal.SIGUSR1, signal.SIG_IGN)),
        ).stdout  # fmt: skip

    try:
        status = dict(line.split(":\t", 1) for line in started("cat", "/proc/self/status").splitlines())
        # 0, 1, 2 and the directory that ls reads
        assert started("ls", "/proc/self/fd").split() == ["0", "1", "2", "3"]
    finally:
        os.close(read_end)
        os.close(write_end)
        listener.close()
    assert status["Umask"] == "0022"
    # crun ignores the two signals that the C library has for itself
    assert int(status["SigIgn"], 16) & 0x7FFFFFFF == 0 and int(status["SigBlk"], 16) == 0


def test_runtime_option(rdock: Rdock) -> None:
    result = shell(rdock, "true", "--runtime", "no-such-runtime")
    assert result.code == 125 and "no-such-runtime" in result.err and is_clear(result.err)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_interrupted_before_it_starts(own_rdock: Rdock, number: signal.Signals, code: int) -> None:
    """While an image is unpacked a signal is for the command: it ends, and leaves nothing."""
    own_rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    (layer,) = (own_rdock.home.data / "layers").iterdir()
    single = Rdock(own_rdock.home, ["--id-mode", "single"])
    with open(f"{layer}-single.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = single.start("run", "--rm", "--network", "none", STARTER, "true")
        wait_for(lambda: any((own_rdock.home.data / "containers" / ".locks").iterdir()))
        time.sleep(0.3)
        command.send_signal(number)
        assert command.wait(10) == code
    assert single.ok("ps", "-aq") == ""
    assert not list((own_rdock.home.data / "containers" / ".locks").iterdir())
    assert single.ok("run", "--rm", "--network", "none", STARTER, "echo", "after") == "after"


def test_consistency_of_a_volume_means_nothing(rdock: Rdock, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content\n")
    options = ["--rm", "--network", "none", "-v", f"{tmp_path}:/v:ro,delegated"]
    assert (
        rdock.ok("run", *options, STARTER, "sh", "-c", "cat /v/file; touch /v/x 2>/dev/null || echo ro")
        == "content\nro"
    )
