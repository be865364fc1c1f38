"""commit: a container becomes an image."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import listing, store, wait_for
from tests.cli.test_diff import CHANGES, WORK
from tests.cli.test_monitor_killed import kill_monitor
from tests.conftest import STARTER
from tests.program import Rdock


def about(rdock: Rdock, image: str) -> dict[str, Any]:
    (found,) = json.loads(rdock.ok("image", "inspect", image))
    return found  # type: ignore[no-any-return]


def run(rdock: Rdock, name: str, script: str, *options: str) -> None:
    rdock.ok("run", "--name", name, "--network", "none", *options, STARTER, "sh", "-c", script)


def blob(rdock: Rdock, image: str) -> Path:
    """The last layer of an image, as it is stored."""
    place = rdock.home.data / "images" / "blobs" / "sha256"
    manifest = json.loads((place / about(rdock, image)["Descriptor"]["digest"][7:]).read_text())
    return place / manifest["layers"][-1]["digest"][7:]  # type: ignore[no-any-return]


def test_commit_and_run(rdock: Rdock, storage: str) -> None:
    script = WORK + "chown 5:7 /a; chmod 4755 /new; head -c 3000000 /dev/urandom >/big; sha256sum /big >/sum"
    run(rdock, "done", script)
    said = rdock("commit", "-a", "me", "-m", "what I did", "done", "mine:v1")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", said.out) and said.err == "", str(said)
    found = about(rdock, "mine:v1")
    assert (found["Id"], found["Author"], found["Comment"]) == (said.out.strip(), "me", "what I did")
    assert len(found["RootFS"]["Layers"]) == 2 and found["Config"]["Cmd"] == ["sh", "-c", script]
    look = (
        "sha256sum -c /sum; cat /a/b/c; stat -c '%u %g %a' /a /new /etc; stat -c %h /new;"
        "readlink /link; test -p /fifo && echo p; stat -c %s /sparse; cat /tmp; ls /etc/group /home"
    )
    result = rdock("run", "--rm", "--network", "none", "mine:v1", "sh", "-c", look)
    assert result.out == "/big: OK\nx\n5 7 755\n0 0 4755\n0 0 700\n2\nnew\np\n5368709120\nfile\n/home:\n", str(result)
    assert rdock("image", "diff", "mine:v1").out == CHANGES.replace("A /empty", "A /big\nA /empty").replace(
        "C /tmp", "A /sum\nC /tmp"
    )
    rdock.ok("rm", "done")
    rdock.ok("rmi", "mine:v1")
    assert rdock("system", "check").out == "no problems found\n"


def test_the_layer_is_the_same_with_every_driver(rdock: Rdock, tmp_path: Path) -> None:
    """And is what GNU tar and umoci take it for."""
    there = " ".join(f"{line[2:]}" for line in CHANGES.splitlines() if line[0] != "D")
    script = WORK + f"touch -h -d '2020-01-01 00:00:00' {there}"
    seen = {}
    for driver in ("overlay", "fuse-overlayfs", "copy"):
        one = Rdock(rdock.home, ["--storage-driver", driver], rdock.variables)
        run(one, f"by-{driver}", script)
        one.ok("commit", f"by-{driver}", f"by-{driver}")
        seen[driver] = about(one, f"by-{driver}")["RootFS"]["Layers"]
        with tarfile.open(blob(one, f"by-{driver}")) as archive:
            names = archive.getnames()
        listed = subprocess.run(["tar", "tzf", blob(one, f"by-{driver}")], capture_output=True, text=True, check=True)
        assert [line.rstrip("/") for line in listed.stdout.splitlines()] == names and listed.stderr == ""
        told = [line[2:].lstrip("/") for line in CHANGES.splitlines()]
        assert names == [name.replace("etc/group", "etc/.wh.group") for name in told]
    assert seen["overlay"] == seen["fuse-overlayfs"] == seen["copy"]
    for driver in seen:
        rdock.ok("rm", f"by-{driver}")
        rdock.ok("rmi", f"by-{driver}")


def test_configuration(rdock: Rdock) -> None:
    options = ["-e", "A=1", "-w", "/tmp", "-l", "one=1", "-u", "0:0", "--entrypoint", "/bin/sh", "--stop-signal", "INT"]
    rdock.ok("create", "--name", "set", "-h", "host", *options, STARTER, "-c", "true")
    changes = ["ENV B=2 A=3", 'CMD ["-c", "echo $A $B"]', "EXPOSE 80", "VOLUME /data", "LABEL two=2"]
    identity = rdock.ok("commit", *(word for change in changes for word in ("-c", change)), "set")
    config = about(rdock, identity)["Config"]
    assert {"A=3", "B=2"} <= set(config["Env"]) and config["Entrypoint"] == ["/bin/sh"]
    assert (config["Cmd"], config["WorkingDir"], config["User"]) == (["-c", "echo $A $B"], "/tmp", "0:0")
    assert {"one": "1", "two": "2"}.items() <= config["Labels"].items() and config["ExposedPorts"] == {"80/tcp": {}}
    assert config["Volumes"] == {"/data": {}} and config["StopSignal"] == "INT" and config["Hostname"] == ""
    # Nothing has changed, so there is no layer, as with Docker.
    assert len(about(rdock, identity)["RootFS"]["Layers"]) == 1
    assert rdock.ok("run", "--rm", "--network", "none", identity) == "3 2"
    rdock.ok("rm", "set")
    rdock.ok("rmi", identity)


def test_a_running_one_is_paused_meanwhile(rdock: Rdock, storage: str) -> None:
    """A pair of files that are written one after the other never differs by more than one step."""
    script = "i=0; while :; do i=$((i+1)); echo $i >/x.new; mv /x.new /x; echo $i >/y.new; mv /y.new /y; done"
    name = rdock.ok("run", "-d", "--network", "none", STARTER, "sh", "-c", script)
    wait_for(lambda: "A /y\n" in rdock("diff", name).out, "the work has begun")
    for options, state in ((["-p"], "running"), (["--pause=false"], "running"), ([], "running")):
        identity = rdock.ok("commit", *options, name)
        assert rdock.ok("inspect", "-f", "{{.State.Status}}", name) == state
        if options != ["--pause=false"]:
            x, y = rdock.ok("run", "--rm", "--network", "none", identity, "cat", "/x", "/y").split()
            assert int(x) - int(y) in (0, 1)
        rdock.ok("rmi", identity)
    rdock.ok("pause", name)
    rdock.ok("rmi", rdock.ok("commit", name))
    assert rdock.ok("inspect", "-f", "{{.State.Status}}", name) == "paused"
    assert '"Action":"commit"' in rdock.ok("events", "--since", "1m", "--until", "0s", "--format", "json")


def status(rdock: Rdock, name: str) -> str:
    return rdock.ok("inspect", "-f", "{{.State.Status}}", name)


def start_writer(rdock: Rdock) -> str:
    """A container with enough in it that a commit takes a while."""
    work = "head -c 40000000 /dev/urandom >/big; >/done; sleep 900"
    name = rdock.ok("run", "-d", "--network", "none", STARTER, "sh", "-c", work)
    wait_for(lambda: "A /done" in rdock.ok("diff", name), "the work")
    return name


def stopped_commit(rdock: Rdock, name: str) -> subprocess.Popen[bytes]:
    """A commit that stands still in the midst of its work."""
    staging = rdock.home.data / "staging"
    before = len(os.listdir(staging))
    process = subprocess.Popen(rdock.argv("commit", "-q", name), env=rdock.environment(), stdout=subprocess.PIPE)
    try:
        wait_for(lambda: len(os.listdir(staging)) > before or process.poll() is not None, "it makes a layer")
    finally:
        process.send_signal(signal.SIGSTOP)
    assert process.poll() is None and status(rdock, name) == "paused"
    return process


def end(process: subprocess.Popen[bytes], number: int) -> str:
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate()
    return out.decode().strip()


def test_it_is_paused_no_longer_than_its_commits_live(rdock: Rdock) -> None:
    name = start_writer(rdock)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        end(stopped_commit(rdock, name), number)
        wait_for(lambda: status(rdock, name) == "running", "it goes on")
    first, second = stopped_commit(rdock, name), stopped_commit(rdock, name)
    rdock.ok("rmi", end(first, signal.SIGCONT))
    assert status(rdock, name) == "paused"
    rdock.ok("rmi", end(second, signal.SIGCONT))
    assert status(rdock, name) == "running"
    # What the user says counts for more.
    third = stopped_commit(rdock, name)
    rdock.ok("unpause", name)
    rdock.ok("pause", name)
    rdock.ok("rmi", end(third, signal.SIGCONT))
    assert status(rdock, name) == "paused"
    rdock.ok("unpause", name)
    # And who dies with its container paused leaves it to the next monitor to let it go on.
    fourth = stopped_commit(rdock, name)
    kill_monitor(rdock, name)
    wait_for(lambda: status(rdock, name) == "running", "it goes on")
    end(fourth, signal.SIGKILL)
    rdock.ok("rm", "-f", name)


def test_what_a_layer_cannot_hold(rdock: Rdock) -> None:
    run(rdock, "marks", "touch /.wh.etc /kept; mkdir /.wh.d; touch /.wh.d/x")
    said = rdock("commit", "marks", "marks")
    assert said.err.splitlines() == [
        "WARNING: left out /.wh.d: in a layer the name means a deletion",
        "WARNING: left out /.wh.etc: in a layer the name means a deletion",
    ], str(said)
    assert rdock("image", "diff", "marks").out == "A /kept\n"
    assert rdock("commit", "-q", "marks").err == ""
    rdock.ok("rm", "marks")
    rdock.ok("rmi", "-f", "marks")


def test_a_name_like_that_of_a_compressed_file(rdock: Rdock) -> None:
    """An archive is told by its first bytes, and these are a name."""
    run(rdock, "magic", "echo x >/BZh")
    rdock.ok("commit", "magic", "magic")
    assert rdock.ok("run", "--rm", "--network", "none", "magic", "cat", "/BZh") == "x"
    rdock.ok("rm", "magic")
    rdock.ok("rmi", "magic")


def test_the_mode_of_the_root_is_kept(rdock: Rdock, storage: str) -> None:
    run(rdock, "mode", "chmod 711 /")
    rdock.ok("commit", "mode", "mode")
    run_again = ["run", "--name", "again", "--network", "none", "mode", "sh", "-c", "stat -c %a /; echo >/x"]
    assert rdock.ok(*run_again) == "711"
    rdock.ok("commit", "again", "again")
    assert rdock.ok("run", "--rm", "--network", "none", "again", "stat", "-c", "%a", "/") == "711"
    rdock.ok("rm", "mode", "again")
    rdock.ok("rmi", "mode", "again")


def test_with_one_id(own_rdock: Rdock) -> None:
    """Whom files belonged to in the image is not known: what has changed is root's, what has not is not told."""
    rdock = own_rdock
    rdock.options += ["--id-mode", "single"]
    run(rdock, "alone", WORK)
    assert rdock("diff", "alone").out == CHANGES
    rdock.ok("commit", "alone", "alone")
    assert rdock("image", "diff", "alone").out == CHANGES
    with tarfile.open(blob(rdock, "alone")) as archive:
        assert {(member.uid, member.gid) for member in archive} == {(0, 0)}
    assert rdock.ok("run", "--rm", "--network", "none", "alone", "cat", "/a/b/c") == "x"
    rdock.options = ["--id-mode", "subids"]
    assert rdock.ok("run", "--rm", "--network", "none", "alone", "stat", "-c", "%u", "/a/b/c") == "0"


def test_in_an_outer_container(own_rdock: Rdock) -> None:
    """Where root of an outer user namespace has ids to give, the owners are those that the container sees."""
    outer = ["unshare", "--user", "--map-root-user", "--map-auto"]
    script = (
        f"set -e; R={own_rdock.path}; $R run --name in --network none {STARTER} sh -c 'echo >/x; chown 12:345 /x';"
        "$R diff in; $R commit -q in made >/dev/null; $R export in | tar tv --numeric-owner x | cut -d' ' -f2;"
        "$R run --rm --network none made stat -c %u:%g /x; $R system check"
    )
    done = subprocess.run(
        [*outer, "sh", "-c", script], env=own_rdock.environment(), capture_output=True, text=True, timeout=60
    )
    if "unshare: " in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout == "A /x\n12/345\n12:345\nno problems found\n", done


def test_one_that_is_removed_meanwhile(rdock: Rdock, storage: str) -> None:
    """What seems deleted then is not: no image comes of it, and nothing of one is left."""
    run(rdock, "short", "for i in 1 2 3 4 5 6 7 8; do head -c 3000000 /dev/urandom >/f$i; done")
    before = {line for line in store(rdock) if "containers" not in line}
    committing = subprocess.Popen(
        rdock.argv("commit", "short", "short"), env=rdock.environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    time.sleep(0.2)
    rdock.ok("rm", "short")
    _, err = committing.communicate(timeout=60)
    if committing.returncode:
        assert b"No such container: " in err and {line for line in store(rdock) if "containers" not in line} == before
    else:  # it was faster
        rdock.ok("rmi", "short")


def test_umoci_sees_the_same(rdock: Rdock, tmp_path: Path) -> None:
    """An independent reader of the image spec makes of the image what export makes of the container."""
    umoci = shutil.which("umoci")
    if umoci is None:
        pytest.skip("umoci is not installed")
    # Without what an ordinary user cannot have, as umoci is without rdock's namespaces.
    run(rdock, "seen", "rm -r /etc/group /home; mkdir /home; echo x >/home/x; rm -rf /tmp; echo >/tmp; ln /tmp /new")
    rdock.ok("commit", "seen", "seen")
    layer = blob(rdock, "seen").read_bytes()
    diff_id = "sha256:" + hashlib.sha256(gzip.decompress(layer)).hexdigest()
    assert about(rdock, "seen")["RootFS"]["Layers"][-1] == diff_id
    layout = tmp_path / "layout"
    shutil.copytree(rdock.home.data / "images", layout)
    descriptor = about(rdock, "seen")["Descriptor"]
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": "seen"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))
    command = [umoci, "unpack", "--rootless", "--image", f"{layout}:seen", str(tmp_path / "bundle")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs = {line.split(" ")[0] for line in listing(tmp_path / "bundle" / "rootfs")}
    ours = set(tar_names(rdock, "seen", tmp_path)) - {"proc", "sys", "dev", "etc/hosts", "etc/hostname"}
    assert ours - theirs <= {"etc/resolv.conf"} and theirs - ours <= {"proc", "sys", "dev", "etc/hosts", "etc/hostname"}
    rdock.ok("rm", "seen")
    rdock.ok("rmi", "seen")


def tar_names(rdock: Rdock, container: str, tmp_path: Path) -> list[str]:
    rdock.ok("export", "-o", str(tmp_path / "root.tar"), container)
    with tarfile.open(tmp_path / "root.tar") as archive:
        return archive.getnames()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["commit", "nosuch"], "No such container: nosuch"),
        (["commit", "box", "BAD"], "must be lowercase"),
        (["commit", "box", "x@sha256:" + "0" * 64], "refusing to create a tag with a digest reference"),
        (["commit", "-c", "RUN x", "box"], "RUN is not a valid change command"),
        (["commit", "-c", "ENV", "box"], "ENV requires at least one argument"),
        (["commit"], "requires at least 1 argument"),
        (["commit", "bare"], "cannot commit a container that uses an exploded rootfs"),
    ],
)
def test_refusals(rdock: Rdock, tmp_path: Path, words: list[str], error: str) -> None:
    (tmp_path / "bin").mkdir()
    rdock.ok("create", "--name", "box", STARTER)
    rdock.ok("create", "--name", "bare", "--rootfs", str(tmp_path), "/bin/true")
    before = store(rdock)
    result = rdock(*words)
    assert result.code == 1 and error in result.err and "Traceback" not in result.err, str(result)
    assert store(rdock) == before


def test_the_id_file_comes_first(rdock: Rdock, tmp_path: Path) -> None:
    """An image that nobody has the id of would be no use."""
    rdock.ok("create", "--name", "box", STARTER)
    before = store(rdock)
    for path, named in ((tmp_path, tmp_path), (tmp_path / "no" / "id", tmp_path), (Path("/proc/nosuch"), "/proc")):
        result = rdock("commit", "--iidfile", str(path), "box")
        assert result.code == 1 and result.err.count("\n") == 1 and str(named) in result.err, str(result)
    assert store(rdock) == before
    identity = rdock.ok("commit", "--iidfile", str(tmp_path / "id"), "box")
    assert (tmp_path / "id").read_text() == identity and os.listdir(tmp_path) == ["id"]
    rdock.ok("rm", "box")
    rdock.ok("rmi", identity)


@pytest.mark.slow
def test_a_killed_commit_leaves_nothing(fresh_rdock: Rdock) -> None:
    rdock = fresh_rdock
    name = rdock.ok(
        "run", "-d", "--network", "none", STARTER, "sh", "-c",
        "for i in 1 2 3 4 5 6; do head -c 2000000 /dev/urandom >/f$i; mkdir -p /d$i; >/d$i/x; done; >/done; sleep 900",
    )  # fmt: skip
    wait_for(lambda: "A /done" in rdock.ok("diff", name), "the work")
    rdock.ok("images")

    def kept() -> set[str]:
        return {line for line in store(rdock) if "containers" not in line}

    before = kept()
    started = time.monotonic()
    rdock.ok("rmi", rdock.ok("commit", name))
    whole = time.monotonic() - started
    chance = random.Random(4)
    for _ in range(40):
        process = subprocess.Popen(
            rdock.argv("commit", name, "killed"), env=rdock.environment(), stdout=subprocess.DEVNULL
        )
        time.sleep(chance.uniform(0.02, whole))
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for(lambda: status(rdock, name) == "running", "it goes on")
        result = rdock("system", "check", "--repair")
        assert result.code == 0 and rdock("system", "check").out == "no problems found\n", str(result)
        if rdock.ok("images", "-q", "killed"):
            assert "A /f6" in rdock.ok("image", "diff", "killed")
            rdock.ok("rmi", "killed")
        # Nobody waits to remove what somebody is just reading: the next command does.
        wait_for(lambda: rdock("images").code == 0 and kept() == before, "all that was made is gone")
    assert not os.listdir(rdock.home.data / "staging") and listing(rdock.home.data / "images")
