"""diff, image diff: what has changed in a container, the same for every storage driver."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import wait_for
from tests.conftest import STARTER
from tests.program import Rdock

# Everything that one may do to a root, and what diff says of it.
WORK = """
echo hi >/new; ln /new /new2; ln -s new /link; mkfifo /fifo; mkdir -p /a/b; echo x >/a/b/c
chmod 700 /etc; echo more >>/etc/passwd; rm /etc/group
rm -r /home; mkdir /home
rm -rf /tmp; echo file >/tmp
truncate -s 5G /sparse; mkdir /empty; touch /bin/touched; mv /bin/touched /moved
"""
CHANGES = """\
A /a
A /a/b
A /a/b/c
A /empty
C /etc
D /etc/group
C /etc/passwd
A /fifo
A /link
A /moved
A /new
A /new2
A /sparse
C /tmp
"""


def start(rdock: Rdock, *options: str, script: str) -> str:
    return rdock.ok("run", "-d", "--network", "none", *options, STARTER, "sh", "-c", script)


def test_changes(rdock: Rdock, storage: str) -> None:
    name = start(rdock, script=WORK + "touch /done; rm /done; sleep 100")
    wait_for(lambda: "C /tmp" in rdock.ok("diff", name), "the work done")
    running = rdock("diff", name)
    assert (running.code, running.out, running.err) == (0, CHANGES, ""), str(running)
    rdock.ok("pause", name)
    assert rdock("container", "diff", name).out == CHANGES
    rdock.ok("unpause", name)
    rdock.ok("stop", "-t", "0", name)
    assert rdock("diff", name).out == CHANGES


def test_a_directory_made_anew_has_lost_what_was_in_it(rdock: Rdock, storage: str) -> None:
    """The overlays call it opaque, and only what is there now is seen."""
    rdock.ok("run", "--name", "anew", "--network", "none", STARTER, "sh", "-c", "rm -r /etc; mkdir /etc; echo >/etc/x")
    lines = rdock("diff", "anew").out.splitlines()
    assert lines[0] == "C /etc" and "A /etc/x" in lines and "D /etc/passwd" in lines
    assert all(line[:7] in ("D /etc/", "A /etc/") for line in lines[1:])


def test_nothing_has_changed(rdock: Rdock, storage: str, tmp_path: Path) -> None:
    """Not by reading, not by what is done and undone, not by what rdock mounts and makes places for."""
    (tmp_path / "file").write_text("x")
    mounts = ["--tmpfs", "/scratch/deep", "-v", f"{tmp_path}:/data", "-v", f"{tmp_path}/file:/one/two/file"]
    script = "cat /etc/passwd; touch /data/made /scratch/deep/x; cp -p /etc/passwd /tmp/p; rm /tmp/p; chmod 755 /etc"
    rdock.ok("run", "--name", "same", "--init", "--network", "none", *mounts, STARTER, "sh", "-c", script)
    assert rdock("diff", "same").out == ""
    rdock.ok("create", "--name", "fresh", STARTER)
    assert rdock("diff", "fresh").out == ""


def test_a_change_that_hides_itself(rdock: Rdock, storage: str) -> None:
    """Content of the same length with the time put back: moby takes it for the same."""
    script = "cp -p /etc/passwd /tmp/p; sed -i s/root/toor/ /etc/passwd; touch -r /tmp/p /etc/passwd; rm /tmp/p"
    rdock.ok("run", "--name", "hidden", "--network", "none", STARTER, "sh", "-c", script)
    assert rdock("diff", "hidden").out == "C /etc\nC /etc/passwd\n"


def test_what_fuse_overlayfs_has_not_been_told_yet(rdock: Rdock, storage: str) -> None:
    """The kernel keeps what is written to an open file back; diff, commit and export see it nevertheless."""
    name = start(rdock, script="(echo 12345; sleep 100) | dd of=/open bs=6")
    wait_for(lambda: rdock("diff", name).out == "A /open\n", "the file")
    wait_for(lambda: "12345" in rdock("export", name).out, "its content")
    # Also where its processes are frozen.
    identity = rdock.ok("commit", name)
    assert rdock.ok("run", "--rm", "--network", "none", identity, "cat", "/open") == "12345"
    rdock.ok("rmi", identity)


def test_names_do_not_steer_the_terminal(rdock: Rdock) -> None:
    rdock.ok("run", "--name", "odd", "--network", "none", STARTER, "sh", "-c", r"touch $'/\033[2J' $'/a\nD x'")
    assert rdock("diff", "odd").out == "A /\\x1b[2J\nA /a\\nD x\n"


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["diff", "nosuch"], 1, "No such container: nosuch"),
        (["diff", ""], 1, "Container name cannot be empty"),
        (["diff"], 1, "requires 1 argument"),
        (["image", "diff", "nosuch"], 1, "No such image: nosuch:latest"),
    ],
)
def test_refusals(rdock: Rdock, words: list[str], code: int, error: str) -> None:
    result = rdock(*words)
    assert result.code == code and error in result.err and "Traceback" not in result.err, str(result)


def test_without_an_image(rdock: Rdock, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    rdock.ok("create", "--name", "bare", "--rootfs", str(tmp_path), "/bin/true")
    result = rdock("diff", "bare")
    assert result.code == 1 and result.err == "rdock: container bare has no image to compare with\n"


def test_image_diff(rdock: Rdock, storage: str) -> None:
    rdock.ok("run", "--name", "changed", "--network", "none", STARTER, "sh", "-c", "echo >/new; rm /etc/group")
    rdock.ok("commit", "changed", "changed")
    assert rdock("image", "diff", "changed").out == "C /etc\nD /etc/group\nA /new\n"
    assert rdock("image", "diff", STARTER, "changed").out == "C /etc\nA /etc/group\nD /new\n"
    assert rdock("image", "diff", "changed", "changed").out == ""
    assert "A /bin/busybox\n" in rdock("image", "diff", STARTER).out
    assert len(json.loads(rdock.ok("inspect", "changed", "--type=image"))[0]["RootFS"]["Layers"]) == 2
    rdock.ok("rm", "changed")
    rdock.ok("rmi", "changed")
