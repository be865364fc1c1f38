"""unshare, and image mount within it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

from tests.cli.conftest import store
from tests.cli.terminal import Terminal
from tests.conftest import STARTER
from tests.program import Rdock, Result


def session(rdock: Rdock, script: str) -> Result:
    """A script in a session, to which `R` is the program."""
    return rdock("unshare", "sh", "-c", f'R="{" ".join(rdock.argv())}"; {script}')


def test_a_command(rdock: Rdock) -> None:
    assert rdock.ok("unshare", "id", "-u") == "0"
    assert int(rdock.ok("unshare", "sh", "-c", "wc -l </proc/self/uid_map")) >= 1
    assert rdock("unshare", "sh", "-c", "exit 7").code == 7
    result = rdock("unshare", "/nonexistent")
    assert (result.code, result.err) == (127, "rdock: /nonexistent: command not found\n")
    assert rdock("unshare", "/etc/passwd").code == 126


def test_a_shell_to_clean_up(own_rdock: Rdock, tmp_path: Path) -> None:
    """Of what other ids have left; at a terminal, in its directory, and with one id only as well."""
    tmp_path.chmod(0o777)
    options = ("--network", "none", "-v", f"{tmp_path}:/x", "-u", "70")
    own_rdock.ok("run", "--rm", *options, STARTER, "sh", "-c", "mkdir /x/a; chmod 700 /x/a; echo >/x/a/b")
    environment = own_rdock.environment() | {"SHELL": "/bin/sh"}
    own_rdock.variables["SHELL"] = "/bin/sh"
    with Terminal(own_rdock, "unshare") as terminal:
        terminal.type(f"cd {tmp_path}; stat -c 'owner %u' a/b; rm -r a; tty; echo $RDOCK_GRAPHROOT; exit 3\n")
        assert terminal.end() == 3
    shown = terminal.seen.decode()
    assert "owner 70\r\n" in shown and "/dev/pts/" in shown and f"{own_rdock.home.data}\r\n" in shown, shown
    assert not os.listdir(tmp_path)
    done = subprocess.run(
        own_rdock.argv("unshare"),
        env=environment,
        cwd=tmp_path,
        input="pwd; kill -9 $$",
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (-9, f"{tmp_path}\n")
    single = Rdock(own_rdock.home, ["--id-mode", "single"])
    script = "id -u; cat /proc/self/uid_map; test -d $RDOCK_RUNROOT; : >made"
    assert single("unshare", "sh", "-c", script, cwd=tmp_path).out.split() == ["0", "0", str(os.getuid()), "1"]
    assert (tmp_path / "made").stat().st_uid == os.getuid()


def test_it_is_the_same_store(rdock: Rdock, storage: str) -> None:
    """Layers are not unpacked anew, containers run from there, and one session in another is the same."""
    rdock.ok("run", "--name", "outer", "--network", "none", STARTER, "sh", "-c", "echo >/x")
    before = {line for line in store(rdock) if line.startswith("layers")}
    namespace = rdock.ok("unshare", "readlink", "/proc/self/ns/user")
    inner = f"$R run --rm --network none {STARTER} echo ran; $R unshare readlink /proc/self/ns/user"
    result = session(rdock, f"$R diff outer; {inner}")
    assert (result.code, result.out) == (0, f"A /x\nran\n{namespace}\n"), str(result)
    assert {line for line in store(rdock) if line.startswith("layers")} == before
    assert rdock.ok("diff", "outer") == "A /x"


def test_image_mount(rdock: Rdock) -> None:
    rdock.ok("run", "--name", "two", "--network", "none", STARTER, "sh", "-c", "echo two >/two; rm /etc/group")
    rdock.ok("commit", "two", "two")
    script = """
        set -e
        a=$($R image mount rdock/starter); b=$($R image mount two)
        test -x $a/bin/busybox; test -e $a/etc/group; test ! -e $b/etc/group; cat $b/two
        ! touch $a/new 2>/dev/null; ! touch $b/new 2>/dev/null
        test $($R image mount two) = $b; $R image mount | wc -l
        $R image unmount two; test ! -e $b; ! $R image unmount two"""
    result = session(rdock, script)
    identity = json.loads(rdock.ok("image", "inspect", "two"))[0]["Id"][7:]
    assert (result.code, result.out) == (0, f"two\n2\n{identity}\n"), str(result)
    assert result.err == f"rdock: image {identity[:12]} is not mounted\n"
    # Nothing of it is left, and outside it is refused.
    assert not os.listdir(rdock.home.runtime / "rdock" / "images")
    result = rdock("image", "mount", "two")
    assert result.code == 1 and result.err.startswith("rdock: cannot mount an image where nobody would see it\n")
    rdock.ok("rm", "two")
    rdock.ok("rmi", "two")


def test_the_namespaces_last_as_long_as_the_session(own_rdock: Rdock) -> None:
    own_rdock.ok("run", "--rm", "--network", "none", STARTER, "true")
    script = f"sleep 1; {' '.join(own_rdock.argv())} run --rm --network none {STARTER} echo alive"
    process = subprocess.Popen(
        own_rdock.argv("unshare", "sh", "-c", script), env=own_rdock.environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.communicate(timeout=60)[0] == "alive\n"


def test_image_mount_without_layers(rdock: Rdock, tmp_path: Path) -> None:
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}})
    manifest = json.dumps([{"Config": "config.json", "RepoTags": ["empty:latest"], "Layers": []}])
    with tarfile.open(tmp_path / "empty.tar", "w") as archive:
        for name, text in (("config.json", config), ("manifest.json", manifest)):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    rdock.ok("load", "-i", str(tmp_path / "empty.tar"))
    script = "set -e; a=$($R image mount empty); test $($R image mount empty) = $a; ls -A $a; $R image unmount empty"
    again = session(rdock, script + " >/dev/null; $R image mount empty >/dev/null; ! touch $a/x 2>/dev/null")
    assert (again.code, again.out, again.err) == (0, "", ""), str(again)
    rdock.ok("rmi", "empty")
