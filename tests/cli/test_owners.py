"""Whose the files are: --userns keep-id, nomap and auto, --own me, unshare."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear, wait_for
from tests.cli.terminal import Terminal
from tests.conftest import STARTER
from tests.payload.roots import compiled
from tests.program import Rdock

RUN = ("run", "--rm", "--network", "none")
START = ("run", "-d", "--network", "none")
SLEEP = ("sleep", "1000")
UID, GID = os.getuid(), os.getgid()


@pytest.fixture
def folder(rdock: Rdock) -> Path:
    """A folder of the caller's, in one that nobody else may pass."""
    path = rdock.home.root / "home" / "folder"
    path.mkdir(exist_ok=True)
    yield path  # type: ignore[misc]
    rdock("unshare", "rm", "-rf", str(path))


def owners(path: Path) -> dict[str, tuple[int, int]]:
    return {str(found.relative_to(path)): (found.lstat().st_uid, found.lstat().st_gid) for found in path.rglob("*")}


def numbers(text: str) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in text.splitlines()]


# -- keep-id ---------------------------------------------------------------------------------------


def test_keep_id(rdock: Rdock, storage: str, runtime: str, folder: Path) -> None:
    """The caller is himself, his files are his, and the image's are whose they are in the image."""
    script = (
        "id -u; id -g; id -un; id -gn; stat -c %u:%g /etc/passwd /etc/hosts /folder /tmp; touch /folder/made; "
        "touch /tmp/own; stat -c %u:%g /tmp/own; touch /etc/denied; echo $HOME; cat /proc/self/uid_map"
    )
    (folder / "there").touch()
    result = rdock(*RUN, "--userns", "keep-id", "-v", f"{folder}:/folder", STARTER, "sh", "-c", script)
    lines = result.out.splitlines()
    assert result.code == 0 and "/etc/denied: Permission denied" in result.err, str(result)
    assert lines[:2] == [str(UID), str(GID)] and lines[2] and lines[3]
    own = f"{UID}:{GID}"
    assert lines[4:10] == ["0:0", "0:0", own, "0:0", own, "/"]
    mapped = numbers("\n".join(lines[10:]))
    assert mapped[:2] == [[0, 1, UID], [UID, 0, 1]] and sum(line[2] for line in mapped) == 65537
    assert owners(folder) == {"there": (UID, GID), "made": (UID, GID)}


def test_keep_id_under_other_numbers(rdock: Rdock, storage: str, folder: Path) -> None:
    """Everything that reads or writes the root tells of the same owners: those inside."""
    mode = "--userns=keep-id:uid=1000,gid=100"
    container = rdock.ok(*START, mode, "--name", "kept", "-v", f"{folder}:/folder", STARTER, *SLEEP)
    assert rdock.ok("exec", "kept", "sh", "-c", "id -u; id -g; touch /folder/a /tmp/a").split() == ["1000", "100"]
    bundle = json.loads((rdock.home.runtime / "rdock" / "containers" / container / "config.json").read_text())
    pieces = [[entry["containerID"], entry["hostID"], entry["size"]] for entry in bundle["linux"]["uidMappings"]]
    assert pieces == [[0, 1, 1000], [1000, 0, 1], [1001, 1001, 64536]]  # podman's
    script = "mkdir /etc/new; touch /etc/new/x; chown 5:6 /etc/new/x; chown 1000:100 /etc/new; chmod 4755 /etc/new/x"
    rdock.ok("exec", "-u", "0", "kept", "sh", "-c", script)
    assert owners(folder) == {"a": (UID, GID)}
    expected = {"etc/new": (1000, 100), "etc/new/x": (5, 6), "tmp/a": (1000, 100), "etc/group": (0, 0), "tmp": (0, 0)}

    def in_archive(text: bytes) -> dict[str, tuple[int, int]]:
        with tarfile.open(fileobj=io.BytesIO(text)) as archive:
            return {entry.name.rstrip("/"): (entry.uid, entry.gid) for entry in archive}

    path = folder / "exported.tar"
    rdock.ok("export", "-o", str(path), "kept")
    exported = in_archive(path.read_bytes())
    assert expected.items() <= exported.items() and exported["bin"] == (0, 0)
    changes = {"C /etc", "A /etc/new", "A /etc/new/x", "C /tmp", "A /tmp/a", "C /etc/passwd"}
    found = set(rdock.ok("diff", "kept").splitlines())
    assert changes <= found <= changes | {"C /etc/group"}
    rdock.ok("commit", "kept", "kept:image")
    script = "stat -c '%u:%g %a' /etc/new /etc/new/x /tmp/a /etc/passwd; id -u"
    assert rdock.ok(*RUN, "-u", "0", "kept:image", "sh", "-c", script).splitlines() == [
        "1000:100 755", "5:6 4755", "1000:100 644", "0:0 644", "0",
    ]  # fmt: skip
    # Another map shows the same image with the same owners.
    again = rdock.ok(*RUN, "-u", "0", "--userns=nomap", "kept:image", "sh", "-c", script).splitlines()
    assert again[:4] == ["1000:100 755", "5:6 4755", "1000:100 644", "0:0 644"]
    rdock.ok("restart", "-t", "0", "kept")
    assert rdock.ok("exec", "kept", "sh", "-c", "stat -c %u:%g /tmp/a /etc/new/x; id -u").split() == [
        "1000:100", "5:6", "1000",
    ]  # fmt: skip
    assert rdock.ok("exec", "kept", "grep", "-c", ":1000:100:", "/etc/passwd") == "1"
    shown = json.loads(rdock.ok("inspect", container))[0]
    assert (shown["HostConfig"]["UsernsMode"], shown["Config"]["User"]) == ("keep-id:uid=1000,gid=100", "1000:100")
    assert storage == "overlay" or shown["Driver"] == storage
    rdock.ok("rm", "-f", "kept")
    rdock.ok("rmi", "kept:image")


def test_cp_before_the_first_start(rdock: Rdock, storage: str, folder: Path) -> None:
    command = (STARTER, "stat", "-c", "%u", "/x", "/bin")
    rdock.ok("create", "--network", "none", "--userns=keep-id:uid=1000", "--name", "new", *command)
    (folder / "x").touch()
    rdock.ok("cp", str(folder / "x"), "new:/x")
    assert rdock.ok("start", "-a", "new").split() == ["0", "0"]
    assert set(rdock.ok("diff", "new").splitlines()) >= {"A /x"}


@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
def test_cp(rdock: Rdock, storage: str, folder: Path, runs: bool) -> None:
    """What is copied belongs to root, in archives to whom they say, all as seen from inside."""
    mode = "--userns=keep-id:uid=1000,gid=100"
    rdock.ok("run", "-d", "--network", "none", mode, "-u", "0", "--name", "copied", STARTER, *SLEEP)
    rdock.ok("exec", "copied", "sh", "-c", "mkdir /d; touch /d/x; chown 5:6 /d/x; chown 1000:100 /d")
    if not runs:
        rdock.ok("stop", "-t", "0", "copied")
    (folder / "file").write_text("content")
    rdock.ok("cp", str(folder / "file"), "copied:/plain")
    rdock.ok("cp", "-a", str(folder / "file"), "copied:/mine")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, uid, gid in (("five", 5, 6), ("me", 1000, 100)):
            member = tarfile.TarInfo(name)
            member.uid, member.gid = uid, gid
            archive.addfile(member, io.BytesIO())
    assert rdock("cp", "-a", "-", "copied:/d", input=out.getvalue()).code == 0
    for source, expected in (
        ("/d", {"d": (1000, 100), "d/x": (5, 6), "d/five": (5, 6)}),
        ("/d/me", {"me": (1000, 100)}),
    ):
        found = subprocess.run(
            rdock.argv("cp", f"copied:{source}", "-"), env=rdock.environment(), capture_output=True, check=True
        )
        with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
            assert expected.items() <= {e.name.rstrip("/"): (e.uid, e.gid) for e in archive}.items()
    rdock.ok("cp", "copied:/d", str(folder / "copy"))
    rdock.ok("cp", "-a", "copied:/d", str(folder / "archive"))
    assert set(owners(folder / "copy").values()) == {(UID, GID)}
    assert owners(folder / "archive")["me"] == (UID, GID) != owners(folder / "archive")["five"]
    if not runs:
        rdock.ok("start", "copied")
    script = "stat -c %u:%g /plain /mine /d/five /d/me"
    assert rdock.ok("exec", "copied", "sh", "-c", script).split() == ["0:0", "1000:100", "5:6", "1000:100"]


def test_volumes(rdock: Rdock, storage: str, folder: Path) -> None:
    """One is filled from the image with the owners that it has inside; `:U` gives a folder to the container's user."""
    mode = "--userns=keep-id:uid=1000,gid=100"
    script = "stat -c %u:%g /etc/group; echo >/folder/x; id -u"
    mounts = ("-v", "owned:/etc", "-v", f"{folder}:/folder:U")
    assert rdock.ok(*RUN, mode, *mounts, STARTER, "sh", "-c", script).split() == ["0:0", "1000"]
    assert owners(folder) == {"x": (UID, GID)}
    rdock.ok("volume", "rm", "owned")


def test_keep_id_names_the_caller(rdock: Rdock, folder: Path) -> None:
    """In a root that cannot be written to as well; never in the place of a user or a group of the image's."""
    keep = ("--userns=keep-id:uid=1000,gid=1000", STARTER)
    script = "id -un; id -gn; cat /etc/passwd /etc/group"
    for option in ("--read-only", "--init"):
        lines = rdock.ok(*RUN, option, *keep, "sh", "-c", script).splitlines()
        assert lines[0] == lines[1] != "1000" and f"{lines[0]}:x:1000:" in lines, lines
    build = f"echo app:x:1000:1000::/srv:/bin/sh >>/etc/passwd; echo {lines[0]}:x:70:70::/:/bin/sh >>/etc/passwd"
    rdock.ok("run", "--name", "built", "--network", "none", STARTER, "sh", "-c", build)
    rdock.ok("commit", "built", "named:image")
    named = ("named:image", "sh", "-c", "id -un; echo $HOME")
    assert rdock.ok(*RUN, "--userns=keep-id:uid=1000,gid=1000", *named).split() == ["app", "/srv"]
    # Another has the caller's name there, so a number has to do.
    assert rdock.ok(*RUN, "--userns=keep-id:uid=1001,gid=1000", "-w", "/tmp", *named).split() == ["1001", "/tmp"]
    # What cannot be read stays as it is, and nothing hangs; what is missing is made.
    keep = "--userns=keep-id:uid=1000,gid=1000"
    for command, left in (("rm /etc/group", 1), ("yes | head -c 2000000 >/etc/group", 1000000)):
        script = f"rm /etc/passwd; mkfifo /etc/passwd; {command}"
        rdock.ok("run", "--name", "odd", "--network", "none", STARTER, "sh", "-c", script)
        rdock.ok("commit", "odd", "odd:image")
        script = "grep Uid /proc/self/status | cut -f 2; test -p /etc/passwd"
        script += "; wc -l </etc/group; stat -c %u:%a /etc/group"
        assert rdock.ok(*RUN, keep, "odd:image", "sh", "-ec", script).split() == ["1000", str(left), "0:644"]
        rdock.ok("rm", "odd")
        rdock.ok("rmi", "odd:image")
    # The caller's own home is his home where it is mounted.
    home = rdock.ok(*RUN, "--userns=keep-id", "-v", f"{folder}:{Path('~').expanduser()}", STARTER, "sh", "-c", "echo ~")
    assert home == os.path.expanduser("~") or home == "/"
    rdock.ok("rmi", "named:image")


def test_keep_id_and_user(rdock: Rdock, folder: Path) -> None:
    """--user chooses among the ids that there are; the others are subordinate ones."""
    keep = ("--userns=keep-id:uid=1000,gid=1000", "-v", f"{folder}:/folder")
    assert rdock.ok(*RUN, *keep, "-u", "0", STARTER, "sh", "-c", "id -u; id -g").split() == ["0", "0"]
    result = rdock(*RUN, *keep, "-u", "5:5", STARTER, "touch", "/folder/x")
    assert result.code == 1 and "Permission denied" in result.err
    folder.chmod(0o777)
    rdock.ok(*RUN, *keep, "-u", "0", STARTER, "touch", "/folder/root")
    assert rdock.ok("unshare", "stat", "-c", "%u:%g", str(folder / "root")) == "1:1"
    folder.chmod(0o755)


def test_keep_id_with_one_id(own_rdock: Rdock, tmp_path: Path) -> None:
    """The one id can have any number inside; there is no root then."""
    own_rdock.options += ["--id-mode", "single"]
    script = "id -u; id -g; cat /proc/self/uid_map; touch /etc/x /folder/x; stat -c %u /etc/x /bin"
    folder = tmp_path / "folder"
    folder.mkdir()
    mode = ("--userns=keep-id:uid=33,gid=44", "-v", f"{folder}:/folder")
    lines = own_rdock.ok(*RUN, *mode, STARTER, "sh", "-c", script).splitlines()
    assert [" ".join(line.split()) for line in lines] == ["33", "44", "33 0 1", "33", "33"]
    assert owners(folder) == {"x": (UID, GID)}
    container = own_rdock.ok(*START, *mode, STARTER, *SLEEP)
    assert own_rdock.ok("exec", container, "id", "-u") == "33"
    result = own_rdock("exec", "-u", "0", container, "id", "-u")
    assert result.code != 0 and is_clear(result.err), str(result)
    own_rdock.ok("rm", "-f", container)
    for other in ("nomap", "auto"):
        result = own_rdock(*RUN, f"--userns={other}", STARTER, "true")
        assert result.code == 125 and is_clear(result.err) and "user ids besides your own" in result.err, str(result)


# -- nomap and auto --------------------------------------------------------------------------------


def test_nomap(rdock: Rdock, storage: str, folder: Path) -> None:
    """The caller is nobody inside, and his files are nobody's."""
    (folder / "file").write_text("content")
    mode = ("--userns=nomap", "-v", f"{folder}:/folder")
    script = "id -u; stat -c %u:%g /bin /etc/hosts /folder; cat /proc/self/uid_map /folder/file; echo; touch /folder/x"
    result = rdock(*RUN, *mode, STARTER, "sh", "-c", script)
    lines = result.out.splitlines()
    assert lines[:4] == ["0", "0:0", "0:0", "65534:65534"] and numbers(lines[4]) == [[0, 1, 65536]], str(result)
    assert lines[5] == "content" and "/folder/x: Permission denied" in result.err
    assert os.listdir(folder) == ["file"]


def test_auto(rdock: Rdock, storage: str) -> None:
    """Each container has ids of its own, which are free again when it is gone."""

    script = "touch /etc/made; stat -c %u /bin /etc/made"

    def start(*options: str) -> range:
        container = rdock.ok(*START, *options, STARTER, *SLEEP)
        inside, first, size = numbers(rdock.ok("exec", container, "cat", "/proc/self/uid_map"))[0]
        assert inside == 0 and rdock.ok("exec", "-u", "0", container, "sh", "-c", script) == "0\n0"
        assert "A /etc/made" in rdock.ok("diff", container)
        return range(first, first + size)

    one, two, three = start("--userns=auto"), start("--userns=auto"), start("--userns=auto:size=3000")
    assert [len(found) for found in (one, two, three)] == [1024, 1024, 3000]
    assert len({*one, *two, *three}) == 5048 and 0 not in {*one, *two, *three}
    rdock.remove_containers()
    assert start("--userns=auto") == one
    # Users of the image, and the one that is asked for, have to exist.
    assert len(start("--userns=auto", "-u", "4000:5000")) == 5001


def test_auto_until_there_are_no_more(rdock: Rdock) -> None:
    create = ("create", "--network", "none")
    rdock.ok(*create, "--userns=auto:size=30000", STARTER)
    rdock.ok(*create, "--userns=auto:size=30000", "--name", "second", STARTER)
    result = rdock(*create, "--userns=auto:size=30000", "--cidfile", "/nonexistent/x", STARTER)
    assert result.code == 125 and is_clear(result.err)
    result = rdock(*create, "--userns=auto:size=30000", STARTER)
    assert result.code == 125 and is_clear(result.err) and "could not find enough available IDs" in result.err
    rdock.ok("rm", "second")
    rdock.ok(*create, "--userns=auto:size=30000", STARTER)
    assert len(rdock.ok("ps", "-aq").split()) == 2


@pytest.mark.parametrize(
    "options",
    [
        "--pid host", "--ipc host", "--uts host", "--network host", "--cgroupns host", "--privileged", "--init",
        "--device /dev/fuse", "--read-only --tmpfs /t --shm-size 1m", "--network slirp4netns",
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["keep-id", "nomap"])
def test_with_other_options(rdock: Rdock, mode: str, options: str) -> None:
    """Whoever root is inside, what the host has for a container gets in; and nothing of it is left."""
    rdock.ok("run", "--rm", f"--userns={mode}", *options.split(), STARTER, "sh", "-c", "sleep 1000 & true")


def test_published_ports(rdock: Rdock) -> None:
    script = "echo page >/tmp/index.html; exec httpd -f -p 80 -h /tmp"
    rdock.ok("run", "-d", "--userns=auto", "-p", "127.0.0.1:0:80", "--name", "web", STARTER, "sh", "-c", script)
    address = rdock.ok("port", "web", "80")

    def page() -> bool:
        return subprocess.run(["curl", "-s", f"http://{address}/index.html"], capture_output=True).stdout == b"page\n"

    wait_for(page)
    assert rdock.ok("run", "--rm", "--link", "web", STARTER, "wget", "-q", "-O", "-", "http://web/index.html") == "page"


# -- together with others --------------------------------------------------------------------------


def test_namespaces_of_another_container(rdock: Rdock) -> None:
    """Who joins a container lives under its map: that is taken over, and another one refused."""
    keep = "--userns=keep-id:uid=1000,gid=1000"
    rdock.ok(*START, keep, "--name", "donor", STARTER, *SLEEP)
    rdock.ok(*START, "--name", "plain", STARTER, *SLEEP)
    rdock.ok(*START, "--userns=nomap", "--name", "alone", STARTER, *SLEEP)
    for kind in ("--pid", "--network"):
        join = ("run", "--rm", kind, "container:donor")
        lines = rdock.ok(*join, STARTER, "sh", "-c", "id -u; stat -c %u /bin; grep -c 1000 /proc/self/uid_map").split()
        assert lines[:2] == ["0", "0"] and lines[2] != "0"
        assert rdock.ok(*join, keep, STARTER, "sh", "-c", "id -u; stat -c %u /bin").split() == ["1000", "0"]
        for other, mode in (("donor", "keep-id"), ("donor", "nomap"), ("plain", "keep-id"), ("alone", "nomap")):
            result = rdock("run", "--rm", kind, f"container:{other}", f"--userns={mode}", STARTER, "true")
            assert result.code == 125 and is_clear(result.err), str(result)
            assert result.err.startswith("rdock: conflicting options: "), str(result)
        result = rdock("run", "--rm", kind, "container:alone", STARTER, "true")
        assert result.code == 125 and is_clear(result.err) and "made for alone alone" in result.err, str(result)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--userns=nosuch", "--userns: invalid USER mode"),
        ("--userns=keep-id=", "--userns: invalid USER mode"),
        ("--userns=KEEP-ID", "--userns: invalid USER mode"),
        ("--userns=nomap:size=1", "--userns: invalid USER mode"),
        ("--userns=container:x", "--userns: invalid USER mode"),
        ("--userns=keep-id:", 'invalid option specified: ""'),
        ("--userns=keep-id:uid", 'invalid option specified: "uid"'),
        ("--userns=keep-id:uid=1,", 'invalid option specified: ""'),
        ("--userns=keep-id:nosuch=1", 'unknown option specified: "nosuch"'),
        ("--userns=auto:uid=1", 'unknown option specified: "uid"'),
        ("--userns=keep-id:uid=x", 'invalid uid: parsing "x": invalid syntax'),
        ("--userns=keep-id:uid=-1", 'invalid uid: parsing "-1": invalid syntax'),
        ("--userns=keep-id:gid=", 'invalid gid: parsing "": invalid syntax'),
        ("--userns=keep-id:uid=\u0661", "invalid syntax"),
        ("--userns=keep-id:uid=2147483648", "value out of range"),
        ("--userns=keep-id:uid=" + "9" * 5000, "value out of range"),
        ("--userns=keep-id:uid=65537", "user id 65537 is beyond the 65537 ids that a container has here"),
        ("--userns=keep-id:gid=70000", "group id 70000 is beyond"),
        ("--userns=auto:size=0", 'invalid size: parsing "0": value out of range'),
        ("--userns=auto:size=x", "invalid syntax"),
        ("--userns=auto:size=65536", "could not find enough available IDs"),
        ("--own=you", 'invalid argument "you" for "--own" flag: it can only be me'),
        ("--own=", "it can only be me"),
        ("--own=me --userns=nomap", "conflicting options: --own and --userns=nomap"),
        ("--own=me --userns=auto", "conflicting options: --own and --userns=auto"),
        ("--own=me -u 70000", "user 70000: user id 70000 is beyond"),
        ("--own=me -u nosuch", "unable to find user nosuch: no matching entries in passwd file"),
        ("--userns=keep-id -u 70000", "cannot run as user 70000"),
        ("--userns=auto:size=10 -u 10", "cannot run as user 10"),
    ],
)
def test_bad_input(rdock: Rdock, option: str, said: str) -> None:
    result = rdock(*RUN, *option.split(), STARTER, "true")
    assert result.code == 125 and said in result.err and is_clear(result.err), str(result)
    assert rdock.ok("ps", "-aq") == ""


@pytest.mark.parametrize("mode", ["nomap", "auto"])
def test_another_runtime_without_the_callers_id(rdock: Rdock, mode: str) -> None:
    result = rdock(*RUN, "--runtime", "crun", f"--userns={mode}", STARTER, "true")
    assert result.code == 125 and is_clear(result.err) and "only rdock's own runtime" in result.err, str(result)


@pytest.mark.parametrize("options", [[], ["-u", "5"]], ids=["root", "another"])
@pytest.mark.parametrize("mode", ["keep-id", "nomap", "auto"])
def test_streams_and_terminal(rdock: Rdock, mode: str, options: list[str]) -> None:
    """They are the user's, who may open them anew."""
    script = "cat /dev/stdin; echo out >/dev/stdout; echo err >/dev/stderr"
    result = rdock(*RUN, "-i", f"--userns={mode}", *options, STARTER, "sh", "-c", script, input="in\n")
    assert (result.code, result.out, result.err) == (0, "in\nout\n", "err\n"), str(result)
    rdock.ok(*START, f"--userns={mode}", "--name", "streams", STARTER, *SLEEP)
    result = rdock("exec", "-i", *options, "streams", "sh", "-c", script, input="in\n")
    assert (result.code, result.out, result.err) == (0, "in\nout\n", "err\n"), str(result)
    wanted = options[1] if options else str(UID) if mode == "keep-id" else "0"
    command = ("exec", "-it", *options, "streams", "sh", "-c", "echo to >$(tty); stat -c %u $(tty)")
    with Terminal(rdock, *command) as terminal:
        terminal.await_text(f"to\r\n{wanted}\r\n")
        assert terminal.end() == 0


def test_a_root_that_is_a_folder(rdock: Rdock, folder: Path) -> None:
    """It is taken as it is: the caller's files are the caller's."""
    (folder / "bin").mkdir()
    image = rdock.ok("create", "--network", "none", STARTER)
    rdock.ok("export", "-o", str(folder / "tar"), image)
    with tarfile.open(folder / "tar") as archive:
        (folder / "bin" / "busybox").write_bytes(archive.extractfile("bin/busybox").read())  # type: ignore[union-attr]
    (folder / "bin" / "busybox").chmod(0o755)
    command = ("--rootfs", str(folder), "/bin/busybox", "sh", "-c", "id -u; stat -c %u /bin; id -un; echo >/made")
    lines = rdock.ok(*RUN, "--userns=keep-id:uid=33", *command).splitlines()
    assert lines[:2] == ["33", "33"] and lines[2]
    assert owners(folder)["made"] == (UID, GID) and not (folder / "etc" / "passwd").read_text()


def test_a_container_keeps_its_ids(own_rdock: Rdock) -> None:
    own_rdock.ok("create", "--network", "none", "--userns=keep-id:uid=1000", "--name", "kept", STARTER, "id", "-u")
    single = Rdock(own_rdock.home, ["--id-mode", "single"])
    result = single("start", "-a", "kept")
    assert result.code == 1 and is_clear(result.err) and "was made with more user ids than" in result.err, str(result)
    assert own_rdock.ok("start", "-a", "kept") == "1000"
    own_rdock.ok("rename", "kept", "other")
    assert own_rdock.ok("start", "-a", "other") == "1000"
    own_rdock.ok("container", "clone", "other", "third")
    assert own_rdock.ok("start", "-a", "third") == "1000"


def test_auto_in_parallel(rdock: Rdock) -> None:
    """Ids are given out one by one, also to a clone."""
    command = rdock.argv("create", "--network", "none", "--userns=auto", STARTER, "cat", "/proc/self/uid_map")
    processes = [
        subprocess.Popen(command, env=rdock.environment(), stdout=subprocess.PIPE, text=True) for _ in range(8)
    ]
    containers = [process.communicate(timeout=60)[0].strip() for process in processes]
    containers.append(rdock.ok("container", "clone", containers[0]))
    starts = {numbers(rdock.ok("start", "-a", container))[0][1] for container in containers}
    assert len(starts) == 9 and all(abs(a - b) >= 1024 for a in starts for b in starts if a != b)
    assert rdock.ok("system", "check") == "no problems found"


def test_privileged(rdock: Rdock) -> None:
    """As in podman: all capabilities there are, over what the map has."""
    options = ("--privileged", "--userns=keep-id", "-u", "0")
    assert rdock.ok(*RUN, *options, STARTER, "sh", "-c", "mount -t tmpfs x /mnt && id -u") == "0"


# -- own -------------------------------------------------------------------------------------------

# What a build does to a tree: directories, files, links of both kinds, a FIFO, modes, removal and renaming.
BUILD = """
set -e
mkdir -p build/deep/er out; for name in a b c; do cp src/$name.c build/$name.o; done
cat build/*.o >out/program; chmod 750 out/program; ln out/program out/hard; ln -s program out/soft; mkfifo out/fifo
mv build/a.o build/deep/er/a.o; echo changed >>src/b.c; chmod 700 build/deep
"""
SERVER = (
    "chmod 777 . && su app -c '{build}' && su other -s /bin/sh -c 'mkdir -p other && echo >other/file' && echo >root"
)


@pytest.fixture
def tree(folder: Path) -> Path:
    (folder / "src").mkdir()
    for name in "abc":
        (folder / "src" / f"{name}.c").write_text(f"int {name};\n")
    return folder


@pytest.fixture(scope="module")
def with_users(shared_rdock: Rdock) -> str:
    """An image with users that are not root, one of whom is its own."""
    users = "echo app:x:999:998:::/bin/sh >>/etc/passwd; echo other:x:70:70:::/bin/sh >>/etc/passwd"
    shared_rdock.ok("run", "--name", "users", "--network", "none", STARTER, "sh", "-c", users)
    shared_rdock.ok("commit", "-c", "USER app", "users", "with/users")
    shared_rdock.ok("rm", "users")
    return "with/users"


def own(tree: Path, *options: str) -> tuple[str, ...]:
    return (*RUN, "--own=me", "-v", f"{tree}:/tree", "-w", "/tree", *options)


def all_mine(tree: Path, *expected: str) -> bool:
    found = owners(tree)
    assert set(expected) <= found.keys(), found
    return set(found.values()) == {(UID, GID)}


@pytest.mark.parametrize("user", ["root", "app", "12345", "999:5", ""])
def test_own_a_build(rdock: Rdock, storage: str, runtime: str, with_users: str, tree: Path, user: str) -> None:
    """As root, and as whoever the image's user is, it is all the caller's."""
    script = BUILD + "id -u; stat -c %u /bin src/a.c"
    lines = rdock.ok(*own(tree), *(["-u", user] if user else []), with_users, "sh", "-c", script).split()
    number = {"root": "0", "12345": "12345"}.get(user, "999")
    assert lines == [number, "0", number]
    assert all_mine(tree, "out/program", "out/hard", "out/soft", "out/fifo", "build/deep/er/a.o", "src/b.c")
    modes = {name: (tree / name).stat().st_mode & 0o7777 for name in ("out/program", "build/deep", "build/b.o")}
    assert modes == {"out/program": 0o750, "build/deep": 0o700, "build/b.o": 0o644}
    assert os.readlink(tree / "out" / "soft") == "program"


def test_own_what_other_users_write(rdock: Rdock, storage: str, runtime: str, with_users: str, tree: Path) -> None:
    """Root starts others, as entry points do; what they write is handed over at the end."""
    script = SERVER.format(build=BUILD.replace("\n", "; ").replace("; set -e;", "set -e;").strip("; "))
    rdock.ok(*own(tree, "-u", "0"), with_users, "sh", "-ec", script.replace("set -e; mkdir", "mkdir"))
    assert all_mine(tree, "root", "other/file", "out/program", "out/hard", "out/soft", "out/fifo", "build/deep/er/a.o")
    assert (tree / "build" / "deep").stat().st_mode & 0o7777 == 0o700


def test_own_of_a_file_and_of_what_is_read_only(rdock: Rdock, with_users: str, tree: Path) -> None:
    file = tree / "src" / "a.c"
    file.chmod(0o666)
    volumes = ("-v", f"{file}:/file", "-v", f"{tree}/src:/read:ro")
    script = "chown 70:70 /file; touch /read/x"
    assert rdock(*RUN, "--own=me", "-u", "0", *volumes, with_users, "sh", "-c", script).code == 1
    assert owners(tree)["src/a.c"] == (UID, GID)


def test_own_of_mounts_in_other_words(rdock: Rdock, with_users: str, tree: Path) -> None:
    """`--mount`, not recursively too; an overlay of a folder is not the folder."""
    tree.chmod(0o777)
    for mount in ("type=bind,src={},dst=/tree", "type=bind,src={},dst=/tree,bind-recursive=disabled"):
        options = ("--own=me", "-u", "0", "--mount", mount.format(tree))
        rdock.ok(*RUN, *options, with_users, "su", "app", "-c", "echo >/tree/made")
        assert all_mine(tree, "made")
        (tree / "made").unlink()
    rdock.ok(*RUN, "--own=me", "-u", "0", "-v", f"{tree}:/tree:O", with_users, "touch", "/tree/made")
    assert not (tree / "made").exists()


def test_own_leaves_what_was_there(rdock: Rdock, with_users: str, tree: Path) -> None:
    """Only what is written meanwhile; and nothing that has another name somewhere else."""
    outside = tree.parent / "outside"
    for name in ("before", "linked"):
        (tree / name).write_text(name)
    os.link(tree / "linked", outside)
    rdock.ok("unshare", "chown", "70:70", str(tree / "before"), str(outside))
    time.sleep(0.2)
    script = "chmod 4755 linked; echo >made; chown 70:70 made; chmod 6755 made; ln made twice; : >>src/a.c"
    rdock.ok(*own(tree, "-u", "0"), with_users, "sh", "-c", script)
    assert rdock.ok("unshare", "stat", "-c", "%u:%g", str(tree / "before"), str(outside)).split() == ["70:70"] * 2
    # A program that ran as another is not to run as the caller.
    assert (tree / "made").stat().st_mode & 0o7777 == 0o755 and (tree / "twice").stat().st_nlink == 2
    assert owners(tree)["made"] == owners(tree)["twice"] == (UID, GID)
    rdock.ok("unshare", "rm", "-f", str(outside))


def test_own_after_exec(rdock: Rdock, with_users: str, tree: Path) -> None:
    """At once, but for the files of those who are still at work."""
    tree.chmod(0o777)
    server = "echo >data; sleep 1000"
    command = (*START, "--own=me", "-v", f"{tree}:/tree", "-w", "/tree", "-u", "0", "--name", "served", with_users)
    rdock.ok(*command, "su", "other", "-s", "/bin/sh", "-c", server)
    rdock.ok(
        "exec", "-u", "app", "served", "sh", "-c", "until test -e data; do sleep 0.1; done; mkdir made; echo >made/x"
    )
    assert owners(tree)["made/x"] == owners(tree)["made"] == (UID, GID)
    assert rdock.ok("unshare", "stat", "-c", "%u", str(tree / "data")) == "70"
    rdock.ok("stop", "-t", "0", "served")
    assert all_mine(tree, "data")
    # A run has its own beginning.
    rdock.ok("start", "served")
    rdock.ok("exec", "-u", "app", "served", "touch", "again")
    rdock.ok("rm", "-f", "served")
    assert all_mine(tree, "again")


@pytest.mark.parametrize("victims", [("MonitorPid",), ("KeeperPid", "MonitorPid")], ids=len)
def test_own_when_the_monitor_is_killed(rdock: Rdock, with_users: str, tree: Path, victims: tuple[str, ...]) -> None:
    """Another one does it in its place, or the next command."""
    tree.chmod(0o777)
    options = ("--own=me", "-v", f"{tree}:/tree", "-w", "/tree", "-u", "0", "--name", "killed")
    container = rdock.ok(*START, *options, with_users, "su", "app", "-c", "echo >made; sleep 1000")
    wait_for((tree / "made").exists)
    state = json.loads((rdock.home.data / "containers" / container / "state.json").read_text())
    for victim in victims:
        os.kill(state[victim], signal.SIGKILL)
    if len(victims) == 1:
        wait_for(lambda: rdock("stop", "-t", "0", "killed").code == 0)
    else:
        wait_for(lambda: rdock.ok("inspect", "-f", "{{.State.Status}}", "killed") == "exited")
        rdock.ok("ps")
    assert all_mine(tree, "made")


def test_own_with_one_id(own_rdock: Rdock, tmp_path: Path) -> None:
    """All is the caller's anyway; the image's user can be who it is."""
    own_rdock.options += ["--id-mode", "single"]
    script = ("sh", "-c", "id -u; echo >/tree/x")
    for user in ("0", "33:44"):
        options = ("--own=me", "-u", user, "-v", f"{tmp_path}:/tree")
        assert own_rdock.ok(*RUN, *options, STARTER, *script) == user.partition(":")[0]
    assert owners(tmp_path) == {"x": (UID, GID)}


@pytest.mark.parametrize("target", ["../canary", "{canary}"], ids=["relative", "absolute"])
def test_own_goes_nowhere_else(rdock: Rdock, with_users: str, folder: Path, target: str) -> None:
    """A process exchanges a directory for a link while files are handed over: nothing outside changes its owner."""
    canary, tree, probe = folder / "canary", folder / "tree", folder / "probe"
    for path in (canary, tree):
        (path / "inner").mkdir(parents=True)
        path.chmod(0o777)
    probe.write_bytes(compiled("probe.c", "-static"))
    probe.chmod(0o755)
    script = "mkdir inner/place; for n in $(seq 200); do mkdir -p inner/place/$n/x; : >inner/place/$n/x/y; done"
    attack = f"{script}; ln -s {target.format(canary=canary)}/inner/place other; exec /probe swap inner/place other"
    start = (*START, "-v", f"{tree}:/tree", "-w", "/tree", "-u", "0")
    rdock.ok(*start, "--own=me", "--name", "walker", with_users, *SLEEP)
    rdock.ok("unshare", "sh", "-c", f"cd {canary}; {script}; chown -R 70:70 .")
    rdock.ok(*start, "-v", f"{probe}:/probe", "--name", "attacker", with_users, "sh", "-c", attack)
    wait_for(lambda: os.path.lexists(tree / "other"))
    for _ in range(10):
        # What there is to take is new each time.
        rdock.ok("exec", "walker", "sh", "-c", "chown -R 999 inner/place/ || true")
    rdock.ok("exec", "attacker", "true")
    rdock.ok("rm", "-f", "walker", "attacker")
    found = rdock.ok("unshare", "sh", "-c", f"find {canary} | xargs stat -c %u:%g").split()
    assert found == ["70:70"] * 603


def test_own_of_the_store_around(rdock: Rdock, with_users: str) -> None:
    """A home folder with rdock's own store in it: what containers have there stays theirs."""
    rdock.ok(*START, "--name", "neighbour", with_users, *SLEEP)
    upper = rdock.home.data / "containers" / rdock.ok("inspect", "-f", "{{.Id}}", "neighbour") / "upper" / "tmp" / "x"
    options = ("-v", f"{rdock.home.root}:/home", "-u", "0", "--name", "walker")
    rdock.ok(*START, "--own=me", *options, with_users, *SLEEP)
    rdock.ok("exec", "neighbour", "touch", "/tmp/x")
    rdock.ok("exec", "-u", "0", "walker", "sh", "-c", "echo >/home/made; chown 70 /home/made")
    rdock.ok("rm", "-f", "walker")
    assert rdock.ok("unshare", "stat", "-c", "%u", str(upper)) == "999"
    assert (rdock.home.root / "made").stat().st_uid == UID
    (rdock.home.root / "made").unlink()


def test_own_of_a_source_that_was_exchanged(rdock: Rdock, with_users: str, folder: Path) -> None:
    """A bound folder inside another one can be replaced by the container, and then leads elsewhere."""
    outer, inner, outside = folder / "outer", folder / "outer" / "inner", folder / "outside"
    for path in (outer, inner, outside):
        path.mkdir()
    mounts = ("-v", f"{inner}:/inner", "-v", f"{outer}:/outer")
    rdock.ok(*START, "--own=me", "-u", "0", *mounts, "--name", "exchanger", with_users, *SLEEP)
    script = f"cd /outer; mv inner gone; ln -s {outside} inner; echo >/inner/x; chown -h 70 /inner/x inner"
    rdock.ok("exec", "exchanger", "sh", "-c", script)
    (outside / "theirs").touch()
    rdock.ok("unshare", "chown", "70:70", str(outside / "theirs"))
    rdock.ok("rm", "-f", "exchanger")
    assert rdock.ok("unshare", "stat", "-c", "%u", str(outside / "theirs")) == "70"
    assert all_mine(outer, "gone/x", "inner")


def test_own_over_restarts(rdock: Rdock, with_users: str, tree: Path) -> None:
    """After each run, not only after the last; and inspect tells of it."""
    tree.chmod(0o777)
    script = "test -e second && exec sleep 1000; test -e first && echo >second || echo >first; exit 1"
    options = ("--own=me", "--restart=on-failure", "-v", f"{tree}:/tree", "-w", "/tree", "-u", "0", "--name", "again")
    rdock.ok(*START, *options, with_users, "su", "app", "-c", script)
    wait_for((tree / "second").exists)
    wait_for(lambda: rdock.ok("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "again") == "2 running")
    assert all_mine(tree, "first", "second")
    assert json.loads(rdock.ok("inspect", "again"))[0]["HostConfig"]["Own"] == "me"


PROGRAM = """
CFLAGS = -O1 -Wall
parts = main.o one/one.o two/two.o
out/program: $(parts)
\tmkdir -p out && $(CC) -o $@ $(parts) && chmod 750 $@ && ln -sf program out/link
install: out/program
\tinstall -D -m 755 out/program dist/bin/program && ln dist/bin/program dist/bin/other
"""


@pytest.mark.slow
def test_own_a_build_by_a_compiler(rdock: Rdock, debian_tree: Path, folder: Path) -> None:
    """A source tree in C, built by root, by the image's user, and by one whom root becomes."""
    rdock.ok("import", str(debian_tree), "debian:own")
    install = (
        "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc libc6-dev make"
    )
    rdock.ok("run", "--name", "gcc", "debian:own", "sh", "-c", f"{install} && useradd -u 1234 builder", timeout=600)
    rdock.ok("commit", "-c", "USER builder", "gcc", "with/gcc")
    script = "make && make install && out/program && mkdir -p cache && cp -a out cache/"
    for options, command in (
        (("-u", "0"), script), ((), script), (("-u", "0"), f"chmod 777 . && su builder -c '{script}'"),
    ):  # fmt: skip
        tree = folder / "tree"
        for part in ("one", "two"):
            (tree / part).mkdir(parents=True)
            (tree / part / f"{part}.c").write_text(f"int {part}(void) {{ return 20; }}\n")
        (tree / "main.c").write_text(
            "#include <stdio.h>\nint one(void);\nint two(void);\n"
            'int main(void) { printf("%d\\n", one() + two() + 2); return 0; }\n'
        )
        (tree / "Makefile").write_text(PROGRAM)
        if command != script:  # the builder is somebody else there, and may write to nothing of the caller's
            for path in (tree / "one", tree / "two"):
                path.chmod(0o777)
        lines = rdock.ok(*own(tree, *options), "with/gcc", "sh", "-ec", command, timeout=300).splitlines()
        assert lines[-1] == "42"
        assert all_mine(tree, "out/program", "out/link", "one/one.o", "dist/bin/other", "cache/out/program")
        rdock.ok("unshare", "rm", "-r", str(tree))
    rdock.ok("rm", "gcc")
    rdock.ok("rmi", "with/gcc", "debian:own")
