"""What users, files and machines get wrong: one clear line, the right exit code, nothing changed, nothing left."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear, store
from tests.conftest import STARTER
from tests.payload.image_archives import docker_archive, simple
from tests.program import Rdock

OUTER = ("unshare", "--user", "--map-root-user", "--map-auto", "--mount")


def refused(rdock: Rdock, *args: str, code: int = 125, says: str = "", input: bytes = b"") -> None:
    """The command is refused in a line or two, and the store is as it was before."""
    if not (rdock.home.data / "containers" / ".names").is_dir():
        rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    before = store(rdock)
    result = rdock(*args, input=input, timeout=60)
    assert result.code == code, str(result)
    assert is_clear(result.err), str(result)
    assert result.out == "", str(result)
    assert says in result.err, str(result)
    assert store(rdock) == before, "something in the store has changed"
    runtime = rdock.home.runtime / "rdock" / "containers"
    assert not runtime.is_dir() or os.listdir(runtime) == []


# -- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["nosuch"], 1, "unknown command: rdock nosuch"),
        (["container", "nosuch"], 1, "unknown command: rdock container nosuch"),
        (["--nosuch"], 125, "unknown flag: --nosuch"),
        (["run", "--nosuch", STARTER], 125, "unknown flag: --nosuch"),
        (["run", "-Q", STARTER], 125, "unknown shorthand flag: 'Q' in -Q"),
        (["run", "--ful", STARTER], 125, "unknown flag: --ful"),
        (["run", "--name"], 125, "flag needs an argument: --name"),
        (["run", "-e"], 125, "flag needs an argument: 'e' in -e"),
        (["ps", "--last", "many"], 125, 'invalid argument "many" for "-n, --last" flag'),
        (["run", "--rm=maybe", STARTER], 125, 'invalid argument "maybe" for "--rm" flag'),
        (["run"], 1, "'rdock run' requires at least 1 argument"),
        (["rm"], 1, "'rdock rm' requires at least 1 argument"),
        (["exec", "box"], 1, "'rdock exec' requires at least 2 arguments"),
        (["logs", "a", "b"], 1, "'rdock logs' requires 1 argument"),
        (["ps", "extra"], 1, "'rdock ps' accepts no arguments"),
        (["tag", "a"], 1, "'rdock tag' requires 2 arguments"),
    ],
)
def test_usage(rdock: Rdock, args: list[str], code: int, says: str) -> None:
    """As docker/cli has it: the complaint, how the command is used, and where more is told."""
    result = rdock(*args)
    assert result.code == code, str(result)
    assert result.err.startswith(f"rdock: {says}"), str(result)
    assert "--help' for more information" in result.err, str(result)
    assert len(result.err.splitlines()) <= 8 and "Traceback" not in result.err and result.out == ""


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["compose"], "'rdock compose' is not there yet"),
        (["compose", "up", "-d"], "'rdock compose' is not there yet"),
        (["help", "compose"], "'rdock compose' is not there yet"),
        (["swarm", "init"], "'rdock swarm' is not supported: rdock is for one machine, and this is for clusters"),
        (["container", "checkpoint"],
         "'rdock container checkpoint' is not supported: only the machine's root may save and restore processes"),
        (["run", "--isolation", "x", STARTER],
         "'rdock run --isolation' is not supported: only Docker on Windows has it"),
        (["-H", "tcp://host", "ps"],
         "'rdock --host tcp://host' is not supported: rdock has no daemon: it works on this machine, as you"),
    ],
)  # fmt: skip
def test_what_docker_has_and_rdock_lacks(rdock: Rdock, args: list[str], says: str) -> None:
    result = rdock(*args)
    code = 125 if args[0].startswith("-") or args[0] == "run" else 1
    assert (result.code, result.out, result.err) == (code, "", f"rdock: {says}\n")


def test_errors_do_not_steer_the_terminal(rdock: Rdock) -> None:
    name, shown = "x\x1b]0;title\x07\n\u202ey\udcff", r"x\x1b]0;title\x07\n\u202ey\xff"
    for args in (
        [name],
        ["rm", name],
        ["logs", name],
        ["load", "-i", f"/{name}"],
        ["run", f"--{name}", STARTER],
        ["run", "--rm", "--network", "none", STARTER, name],
    ):
        result = rdock(*args)
        assert result.code != 0 and shown in result.err and "\x1b" not in result.err + result.out, str(result)
    assert all(line.startswith("rdock: ") for line in rdock("stop", name, name).err.splitlines())
    rdock.ok("run", "--network", "none", "--name", "odd", STARTER, "true", '\x1b[2J"')
    assert r'"true \x1b[2J\""' in rdock.ok("ps", "-a")


# -- what the caller has closed or removed -------------------------------------------------------


def from_shell(rdock: Rdock, script: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which `rdock` is the program."""
    return subprocess.run(
        ["sh", "-c", f'rdock() {{ "{rdock.path}" "$@"; }}; {script}'],
        env=rdock.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_directory_that_was_removed(rdock: Rdock, tmp_path: Path) -> None:
    """It is missed only where something is relative to it."""
    gone = f"mkdir {tmp_path}/d; cd {tmp_path}/d; rmdir ../d; "
    done = from_shell(rdock, f"{gone} rdock run --rm --network none -v {tmp_path}:/mnt {STARTER} pwd")
    assert (done.returncode, done.stdout) == (0, "/\n"), done.stderr
    done = from_shell(rdock, f"{gone} rdock run --rm --network none -v ./x:/mnt {STARTER} pwd")
    assert done.returncode == 125 and done.stdout == ""
    wanted = "rdock: invalid volume specification: './x:/mnt': getwd: no such file or directory"
    assert done.stderr.splitlines()[-1] == wanted, done.stderr


def test_streams_that_are_closed(rdock: Rdock) -> None:
    """They are empty and swallow what is written; no file of rdock's gets their numbers."""
    run = f"rdock run --rm -i --network none {STARTER} sh -c"
    assert from_shell(rdock, f"{run} 'cat; echo out; echo err >&2; exit 3' <&- >&- 2>&-").returncode == 3
    done = from_shell(rdock, f"{run} 'cat; echo out' <&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "")
    done = from_shell(rdock, f"{run} 'echo out; echo err >&2' >&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "err\n")
    done = from_shell(rdock, f"id=$(rdock run -d --network none {STARTER} echo logged 2>&- <&-); rdock logs -f $id <&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "logged\n", "")
    for command, code in (("ps", 0), ("images", 0), ("version", 0), ("rm nosuch", 1), ("nosuch", 1), ("load", 1)):
        assert from_shell(rdock, f"rdock {command} <&- >&- 2>&-").returncode == code, command
        assert from_shell(rdock, f"rdock {command} 2>/dev/full").returncode == code, command
    done = from_shell(rdock, "rdock version >/dev/full")
    assert (done.returncode, done.stderr) == (125, "rdock: system call: no space left on device\n")


def test_help_is_no_error(rdock: Rdock) -> None:
    for args in (
        [], ["--help"], ["help"], ["help", "run"], ["run", "--help"], ["ps", "--help"], ["help", "help"],
        ["container"], ["container", "--help"], ["help", "image"], ["image", "ls", "--help"],
    ):  # fmt: skip
        result = rdock(*args)
        assert result.code == 0 and "Usage:  rdock" in result.out and result.err == "", str(result)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-p", "x"], "invalid containerPort: x"),
        (["-p", "0"], "invalid containerPort: 0"),
        (["-p", "65536"], "invalid containerPort: 65536"),
        (["-p", "1:2:3:4"], "invalid"),
        (["-p", "80:80/icmp"], "invalid proto: icmp"),
        (["-p", "300.0.0.1:80:80"], "invalid IP address: 300.0.0.1"),
        (["-p", "80-82:80-81"], "invalid ranges specified"),
        (["-p", "90-80:80"], "invalid hostPort: 90-80"),
        (["-p", ""], "invalid"),
        (["-p", "80:"], "invalid containerPort"),
        (["-p", "８０"], "invalid containerPort"),
        (["-p", "80-８１"], "invalid containerPort"),
        (["-p", "9" * 5000], "invalid containerPort: 999"),
        (["-p", "9" * 5000 + ":80"], "invalid hostPort: 999"),
        (["--expose", "9" * 5000], "invalid range format for --expose: 999"),
        (["--network", "name=bridge,gw-priority=٣"], "invalid syntax"),
        (["--network", "name=bridge,gw-priority=-" + "9" * 5000], "value out of range"),
        (["--network", "name=bridge,gw-priority=9223372036854775808"], "value out of range"),
        (["-v", "a:b:c:d"], "too many colons"),
        (["-v", "/a::ro"], "empty section between colons"),
        (["-v", ""], "invalid empty volume spec"),
        (["-v", "/etc:relative"], "mount path must be absolute"),
        (["-v", "/etc:/x:rx"], "invalid mode: rx"),
        (["-v", "/etc:/"], "destination can't be '/'"),
        (["-v", "/etc:/proc/sys"], "cannot be mounted because it is inside /proc"),
        (["--tmpfs", "relative"], "mount path must be absolute"),
        (["--tmpfs", "/t:upperdir=/x"], "invalid tmpfs option: 'upperdir=/x'"),
        (["--shm-size", "big"], "invalid size: 'big'"),
        (["--shm-size", "-1"], "invalid size: '-1'"),
        (["--shm-size", ""], "invalid size"),
        (["-e", "=value"], "invalid environment variable: =value"),
        (["-l", "=value"], "invalid label"),
        (["--name", "a"], "Invalid container name (a)"),
        (["--name", "../x"], "Invalid container name (../x)"),
        (["--name", ".hidden"], "Invalid container name (.hidden)"),
        (["--name", "ümlaut"], "Invalid container name"),
        (["--name", "x" * 300], "Invalid container name"),
        (["--hostname", "two words"], "invalid hostname format"),
        (["--hostname", "a\nb"], "invalid hostname format"),
        (["--hostname", "x" * 65], "invalid hostname format"),
        (["-w", "relative"], "it needs to be an absolute path"),
        (["--stop-signal", "NOSUCH"], "invalid signal: NOSUCH"),
        (["--network", "nosuch"], "cannot attach both user-defined and non-user-defined network-modes"),
        (["--cap-add", "NOSUCH"], "NOSUCH"),
        (["--cap-drop", "NOSUCH"], "NOSUCH"),
        (["--security-opt", "nosuch"], "invalid --security-opt"),
        (["--security-opt", "seccomp=/nonexistent"], "opening seccomp profile (/nonexistent) failed"),
        (["--runtime", "/nonexistent"], "/nonexistent"),
        (["--env-file", "/nonexistent"], "open /nonexistent: no such file or directory"),
        (["--env-file", "/etc"], "open /etc: is a directory"),
        (["--pull", "perhaps"], "invalid pull option: 'perhaps'"),
        (["-u", "nosuchuser"], "unable to find user nosuchuser: no matching entries in passwd file"),
        (["-u", "0:nosuchgroup"], "unable to find group nosuchgroup"),
        (["-u", "-1"], "uids and gids must be in range"),
        (["-u", "99999999999"], "uids and gids must be in range"),
    ],
)
def test_options_of_run(rdock: Rdock, options: list[str], says: str) -> None:
    refused(rdock, "run", "--rm", "--network", "none", *options, STARTER, "true", says=says)


def test_ids_that_this_user_has_not(rdock: Rdock) -> None:
    refused(rdock, "run", "--rm", "--network", "none", "-u", "70000", STARTER, "true")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"=value\n", "line 1: no variable name on line '=value'"),
        (b"GOOD=1\nbad name=1\n", "line 2: variable 'bad name' contains whitespaces"),
        (b"GOOD=1\nNOT=\xff\xfe\n", "not UTF-8"),
    ],
)
def test_env_files(rdock: Rdock, tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "env"
    file.write_bytes(content)
    refused(rdock, "run", "--rm", "--env-file", str(file), STARTER, "true", says=says)


def test_odd_values_do_no_harm(rdock: Rdock) -> None:
    """Values that look like something else are taken as they are."""
    result = rdock(
        "run", "--rm", "--network", "none", "-e", "A=$(id)`id`;\n'\"", "-l", "x=--rm", STARTER, "sh", "-c", 'echo "$A"'
    )
    assert (result.code, result.out) == (0, "A=$(id)`id`;\n'\"\n"[2:]), str(result)
    assert rdock.ok("run", "--rm", "--network", "none", STARTER, "echo", "--rm", "-x", "--", "") == "--rm -x -- "


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["rm", "nosuch"], "No such container: nosuch"),
        (["stop", "nosuch"], "No such container: nosuch"),
        (["kill", "nosuch"], "No such container: nosuch"),
        (["exec", "nosuch", "true"], "No such container: nosuch"),
        (["logs", "../../etc"], "No such container: ../../etc"),
        (["rmi", "nosuch"], "No such image: nosuch"),
        (["tag", "nosuch", "other"], "No such image: nosuch"),
        (["tag", STARTER, "UPPER"], "must be lowercase"),
        (["tag", STARTER, "a:b:c"], "invalid reference format"),
        (["kill", "-s", "NOSUCH", "x"], "invalid signal: NOSUCH"),
        (["load", "-i", "/nonexistent"], "/nonexistent"),
        (["import", "/nonexistent"], "/nonexistent"),
    ],
)
def test_unknown_things(rdock: Rdock, args: list[str], says: str) -> None:
    refused(rdock, *args, code=1, says=says)


def test_unknown_image(rdock: Rdock) -> None:
    for name in ("nosuch", "nosuch:tag", "registry.example:5000/a/b", "nosuch@sha256:" + "0" * 64):
        refused(rdock, "run", "--rm", name, "true", says="Unable to find image '")
    for name in ("UPPER", "a:b:c", "-x", "a b", "../x", ""):
        result = rdock("run", "--rm", "--", name, "true")
        assert result.code == 125 and is_clear(result.err), str(result)


# -- archives ------------------------------------------------------------------------------------


def test_archives_that_are_broken(rdock: Rdock) -> None:
    whole = docker_archive((simple(b"bad input"), ["broken:latest"]))
    packed = gzip.compress(whole)
    refused(rdock, "load", code=1, input=b"")
    refused(rdock, "load", code=1, input=b"no archive at all")
    refused(rdock, "load", code=1, input=os.urandom(100_000))
    for size in (1000, len(whole) // 2, len(whole) - 3000):
        refused(rdock, "load", code=1, input=whole[:size])
    for size in (20, len(packed) // 2, len(packed) - 4):
        refused(rdock, "load", code=1, input=packed[:size])
    position = len(packed) // 2
    refused(rdock, "load", code=1, input=packed[:position] + bytes([packed[position] ^ 0x55]) + packed[position + 1 :])
    # a byte of a layer: its digest is another one
    assert whole.count(b"bad input") > 1
    refused(rdock, "load", code=1, input=whole.replace(b"bad input", b"bad 1nput", 1))
    for broken in (b"junk", whole[:2000], packed[:-10]):
        refused(rdock, "import", "-", "imported:latest", code=1, input=broken)


# -- directories ---------------------------------------------------------------------------------


def test_store_that_others_can_enter(own_rdock: Rdock) -> None:
    own_rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    own_rdock.home.data.chmod(0o755)
    result = own_rdock("run", "--rm", "--network", "none", STARTER, "true")
    assert result.code == 125 and is_clear(result.err)
    assert result.err.splitlines()[1] == f"chmod 700 {own_rdock.home.data}"
    own_rdock.home.data.chmod(0o700)
    assert own_rdock("run", "--rm", "--network", "none", STARTER, "true").code == 0


@pytest.mark.parametrize("variable", ["XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"])
def test_directories_that_are_missing_or_shut(own_rdock: Rdock, variable: str, tmp_path: Path) -> None:
    """Missing ones are made, or replaced; one that nothing can be written to is named in the error."""
    command = ("run", "--rm", "--network", "none", STARTER, "true")
    missing = tmp_path / "not" / "there"
    result = own_rdock(*command, env={variable: str(missing)})
    assert result.code == 0, str(result)
    # somebody else's
    result = own_rdock(*command, env={variable: "/usr"})
    if variable == "XDG_DATA_HOME":
        assert result.code == 125 and is_clear(result.err) and "/usr/rdock" in result.err, str(result)
    else:
        assert result.code == 0, str(result)
    file = tmp_path / "file"
    file.write_text("")
    result = own_rdock(*command, env={variable: str(file)})
    assert result.code in (0, 125) and (result.code == 0 or is_clear(result.err)), str(result)
    relative = own_rdock(*command, env={variable: "relative"}, cwd=tmp_path)
    assert relative.code == 0 and not (tmp_path / "relative").exists(), str(relative)
    subprocess.run([*OUTER[:4], "rm", "-rf", str(missing.parent)], check=False)


def test_data_directory_of_somebody_else_for_each_command(own_rdock: Rdock) -> None:
    for args in (["ps"], ["images"]):
        assert own_rdock(*args, env={"XDG_DATA_HOME": "/usr"}).code == 0
    for args in (["load"], ["import", "-"], ["run", STARTER]):
        result = own_rdock(*args, input=docker_archive((simple(), ["x:y"])), env={"XDG_DATA_HOME": "/usr"})
        assert result.code in (1, 125) and is_clear(result.err), str(result)


# -- records that are damaged --------------------------------------------------------------------

DAMAGES = {"empty": "", "cut": '{"format":1,"Id":"', "list": "[]", "newer": '{"format":99}', "nothing": "{}",
           "types": '{"format":1,"Id":1,"Config":[],"HostConfig":7,"Pid":"x","Repositories":3}'}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("record", ["container.json", "state.json"])
def test_damaged_container(own_rdock: Rdock, record: str, damage: str) -> None:
    """It is named by those who meet it; the others work, and it can be removed."""
    good, bad = (own_rdock.ok("run", "-d", "--network", "none", STARTER, "true") for _ in range(2))
    own_rdock.ok("wait", good, bad)
    (own_rdock.home.data / "containers" / bad / record).write_text(DAMAGES[damage])
    assert own_rdock.ok("inspect", "-f", "{{.Id}}", good) == good
    assert own_rdock.ok("run", "--rm", "--network", "none", STARTER, "echo", "works") == "works"
    for args in (["inspect", bad], ["logs", bad], ["exec", bad, "true"], ["stop", bad], ["ps", "-a"]):
        result = own_rdock(*args)
        assert "Traceback" not in result.err and (result.code == 0 or "rdock: " in result.err), str(result)
    listed = own_rdock("ps", "-aq", "--no-trunc")
    assert good in listed.out, str(listed)
    result = own_rdock("rm", "-f", bad)
    assert result.code == 0, str(result)
    assert not (own_rdock.home.data / "containers" / bad).exists()
    assert own_rdock.ok("ps", "-aq", "--no-trunc") == good


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_list_of_images(own_rdock: Rdock, damage: str) -> None:
    own_rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    path = own_rdock.home.data / "images" / "repositories.json"
    before = path.read_bytes()
    path.write_text(DAMAGES[damage])
    for args in (
        ["images"],
        ["run", "--rm", "--network", "none", STARTER, "true"],
        ["rmi", STARTER],
        ["tag", STARTER, "x"],
    ):
        result = own_rdock(*args)
        assert "Traceback" not in result.err, str(result)
        if result.code:
            assert is_clear(result.err), str(result)
            assert "repositories.json" in result.err or damage in ("nothing", "types"), str(result)
    if damage not in ("nothing", "types"):  # those are read as having no images, and may be written anew
        assert path.read_text() == DAMAGES[damage], "what cannot be read is not written over"
        path.write_bytes(before)
        assert own_rdock("run", "--rm", "--network", "none", STARTER, "true").code == 0


def test_damaged_records_of_the_runtime_directory(own_rdock: Rdock) -> None:
    """They can be made again, and are."""
    (own_rdock.home.root / "config" / "rdock" / "config.json").write_text('{"holder-linger": 1}')
    own_rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    (own_rdock.home.root / "cache" / "rdock" / "probes.json").write_text("{")
    assert own_rdock("run", "--rm", "--network", "none", STARTER, "true").code == 0
    for text in ("{", "{}", json.dumps({"pid": 1, "start": 1, "boot": "x", "mode": "subids", "userns": ""})):
        for path in (own_rdock.home.runtime / "rdock").glob("holder-*.json"):
            path.write_text(text)
        result = own_rdock("run", "--rm", "--network", "none", STARTER, "echo", "on")
        assert (result.code, result.out) == (0, "on\n"), str(result)


# -- a full disk ---------------------------------------------------------------------------------


def on_small_disk(rdock: Rdock, options: str, script: str, input: bytes = b"") -> str:
    """Run a script where the data directory is on a small file system of its own."""
    if subprocess.run([*OUTER, "true"], capture_output=True).returncode:
        pytest.skip("no user namespace with ranges can be made")
    data = rdock.home.root / "small"
    data.mkdir(mode=0o700)
    (rdock.home.root / "input").write_bytes(input)
    done = subprocess.run(
        [*OUTER, "sh", "-c", f"""
            mount -t tmpfs -o {options},mode=700 tmpfs {data} || exit
            rdock() {{ XDG_DATA_HOME={data} timeout 60 "{rdock.path}" "$@"; }}
            input={rdock.home.root / "input"} data={data}/rdock
            {script}
        """],
        env=rdock.environment(), capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def test_full_disk_while_unpacking(own_rdock: Rdock) -> None:
    from tests.payload.image_archives import image
    from tests.payload.tars import end, file

    many = b"".join(file(b"file%d" % number) for number in range(3000)) + end()
    big = docker_archive((image(many, Cmd=["x"]), ["big:latest"]))
    (own_rdock.home.root / "input.tree").write_bytes(many)
    script = f"""
        rdock run --rm --network none {STARTER} true; echo first $?
            while ls $data/containers/.locks | grep -q .; do sleep 0.05; done  # the monitor gives it back last
        (cd $data; find . -path ./holders -prune -o -print | sort) >/tmp/before.$$
        rdock load -i $input; echo load $?
        rdock import - x:y <$input.tree; echo import $?
        (cd $data; find . -path ./holders -prune -o -print | sort) >/tmp/after.$$
        diff /tmp/before.$$ /tmp/after.$$ && echo unchanged
        rm -f /tmp/before.$$ /tmp/after.$$
        rdock run --rm --network none {STARTER} echo works
    """
    found = on_small_disk(own_rdock, "size=200m,nr_inodes=2000", script, big)
    assert "first 0\n" in found and "load 1\n" in found and "import 1\n" in found, found
    assert "unchanged\nworks\n" in found, found
    complaints = [line for line in found.splitlines() if line.startswith("rdock: ")]
    assert len(complaints) == 2 and all("no space left" in line for line in complaints), found


def test_full_disk_while_running(own_rdock: Rdock) -> None:
    """The container sees a full disk; rdock itself can still list, stop and remove."""
    fill = "cat /dev/zero >/fill 2>/dev/null; for n in 1 2 3 4; do echo line; done; exec sleep 100"
    script = f"""
        c=$(rdock run -d --network none {STARTER} sh -c '{fill}'); echo run $?
        for n in $(seq 100); do rdock exec $c pidof sleep >/dev/null && break; sleep 0.1; done
        rdock run --rm --network none {STARTER} true; echo second $?
        rdock ps -q | wc -l
        rdock exec $c echo inside
        rdock stop -t 0 $c >/dev/null; echo stop $?
        rdock rm $c >/dev/null; echo rm $?
        rdock ps -aq | wc -l
        ls $data/staging
        rdock run --rm --network none {STARTER} echo works
    """
    found = on_small_disk(own_rdock, "size=80m", script)
    for line in ("run 0", "second 125", "1", "inside", "stop 0", "rm 0", "0", "works"):
        assert line in found.splitlines(), found
    (complaint,) = (line for line in found.splitlines() if line.startswith("rdock: "))
    assert "no space left" in complaint, found


def test_no_room_at_all(own_rdock: Rdock) -> None:
    found = on_small_disk(
        own_rdock, "size=64k", f"rdock run --rm {STARTER} true; echo code $?; rdock ps -aq; ls $data/staging"
    )
    assert "code 125" in found and "no space left" in found, found
    assert found.rstrip().endswith("code 125") or found.count("\n") <= 4, found


def test_full_disk_at_the_end(own_rdock: Rdock) -> None:
    """A container that has filled the disk: its exit code is told, recorded, and the container goes with `--rm`."""
    fill = "cat /dev/zero >/fill 2>/dev/null; exit 5"
    script = f"""
        rdock run --name full --network none {STARTER} sh -c '{fill}'; echo run $?
        rdock inspect -f 'code {{{{.State.ExitCode}}}} {{{{.State.Error}}}}' full
        rdock ps -a --format '{{{{.Status}}}}'
        rdock rm full
        rdock run --rm --network none {STARTER} sh -c '{fill}'; echo again $?
        rdock ps -aq | wc -l
    """
    found = on_small_disk(own_rdock, "size=90m", script).splitlines()
    assert found[:2] == ["run 5", "code 5 "] and found[2].startswith("Exited (5)"), found
    assert found[3:] == ["full", "again 5", "0"], found


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("run", "-v", "~/x:/y", STARTER, "true"), 125, "the shell has not expanded the ~"),
        (("inspect", "-f", "{{.Id}", STARTER), 1, "bad character U+007D '}'"),
        (("ps", "--format", "table {{.ID"), 1, "unclosed action"),
    ],
    ids=["tilde", "inspect", "ps"],
)
def test_what_would_silently_mean_something_else(
    rdock: Rdock, tmp_path: Path, args: tuple[str, ...], code: int, says: str
) -> None:
    rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    container = rdock.ok("run", "-d", "--network", "none", STARTER, "true")
    result = rdock(*args, cwd=tmp_path)
    assert result.code == code and says in result.err and is_clear(result.err) and result.out == "", str(result)
    assert not os.listdir(tmp_path)
    rdock.ok("rm", "-f", container)


def test_home_that_cannot_be_made(rdock: Rdock) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "XDG_CACHE_HOME": str(rdock.home.root / "cache")}
    done = subprocess.run(rdock.argv("run", STARTER, "true"), env=environment, capture_output=True, text=True)
    assert done.returncode == 125 and is_clear(done.stderr) and "set HOME" in done.stderr, done.stderr
