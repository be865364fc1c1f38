"""export: a container's root as a tar archive."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path

from tests.cli.conftest import wait_for
from tests.cli.terminal import Terminal
from tests.conftest import STARTER
from tests.program import Rdock

# Names that are hard to keep (fuse-overlayfs takes none that are longer), and what must not be followed or opened.
HOSTILE = r"""
mkdir -p /h/deep; cd /h
ln -s /etc/passwd outside; ln -s ../../../../../.. up; mkfifo fifo; touch $'new\nline' ' blank ' -- -dash
touch $(printf '%0251d' 0)
p=/h/deep; for i in 1 2 3 4 5 6 7 8; do p=$p/$(printf '%0200d' $i); mkdir $p; done; echo deep >$p/file
echo x >one; mkdir other; ln one other/two; chmod 4755 one
truncate -s 20G sparse; echo end >>sparse
chown 123:456 other; touch -d '1960-01-01 00:00:00' old
"""


def exported(rdock: Rdock, name: str, tmp_path: Path) -> tarfile.TarFile:
    path = tmp_path / "root.tar"
    result = rdock("export", "-o", str(path), name)
    assert (result.code, result.out, result.err) == (0, "", ""), str(result)
    return tarfile.open(path)


def test_what_is_in_it(rdock: Rdock, storage: str, tmp_path: Path) -> None:
    rdock.ok("run", "--name", "odd", "--network", "none", "--tmpfs", "/scratch", STARTER, "sh", "-c", HOSTILE)
    archive = exported(rdock, "odd", tmp_path)
    found = {member.name: member for member in archive.getmembers()}
    assert found["h/outside"].linkname == "/etc/passwd" and found["h/up"].issym() and found["h/fifo"].isfifo()
    assert {"h/new\nline", "h/ blank ", "h/-dash", "h/" + "0" * 251} <= found.keys()
    (deep,) = (member for member in found.values() if member.name.endswith("/file") and "deep" in member.name)
    assert len(deep.name) > 1600 and archive.extractfile(deep).read() == b"deep\n"  # type: ignore[union-attr]
    assert found["h/one"].mode == 0o4755 and found["h/other/two"].islnk() and found["h/other/two"].linkname == "h/one"
    assert (found["h/other"].uid, found["h/other"].gid) == (123, 456)
    assert found["h/sparse"].size == (20 << 30) + 4 and os.stat(tmp_path / "root.tar").st_size < 10 << 20
    assert found["h/old"].mtime < 0
    # Places of mounts are there, and nothing of what is mounted.
    assert found["scratch"].isdir() and found["proc"].isdir() and not any(n.startswith("proc/") for n in found)
    listed = subprocess.run(["tar", "tf", tmp_path / "root.tar"], capture_output=True, check=True, text=True)
    assert listed.stderr == "" and len(listed.stdout.splitlines()) == len(found)


def created(rdock: Rdock) -> str:
    return rdock.ok("create", STARTER)


def test_one_that_never_ran(rdock: Rdock, storage: str, tmp_path: Path) -> None:
    names = exported(rdock, created(rdock), tmp_path).getnames()
    assert "bin/busybox" in names and "etc/passwd" in names


def test_export_import_run(rdock: Rdock, storage: str, tmp_path: Path) -> None:
    name = rdock.ok(
        "run", "-d", "--network", "none", STARTER, "sh", "-c",
        "echo mine >/file; chown 7:8 /file; chmod 711 /; rm /etc/group; touch /done; sleep 100",
    )  # fmt: skip
    while "A /done" not in rdock.ok("diff", name):
        time.sleep(0.05)
    raw = subprocess.run(rdock.argv("export", name), env=rdock.environment(), capture_output=True, check=True)
    rdock.ok("rm", "-f", name)
    again = subprocess.run(
        rdock.argv("import", "-", "again"), env=rdock.environment(), input=raw.stdout, capture_output=True, check=True
    )
    assert again.stdout.startswith(b"sha256:") and again.stderr == b""
    script = "cat /file; stat -c '%u %g' /file; stat -c %a /; ls /etc/group"
    result = rdock("run", "--rm", "--network", "none", "again", "sh", "-c", script)
    assert result.out == "mine\n7 8\n711\n", str(result)
    rdock.ok("rmi", "again")


def test_a_directory_as_root(rdock: Rdock, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_text("x")
    rdock.ok("create", "--name", "bare", "--rootfs", str(root), "/file")
    assert exported(rdock, "bare", tmp_path).getnames() == ["file"]


def test_the_same_root_gives_the_same_archive(rdock: Rdock) -> None:
    name = created(rdock)
    first, second = (
        subprocess.run(rdock.argv("export", name), env=rdock.environment(), capture_output=True, check=True).stdout
        for _ in range(2)
    )
    assert first == second and tarfile.open(fileobj=io.BytesIO(first)).getnames() == sorted(
        tarfile.open(fileobj=io.BytesIO(first)).getnames()
    )


def test_where_it_is_written(rdock: Rdock, tmp_path: Path) -> None:
    name = created(rdock)
    result = rdock("export", "-o", str(tmp_path / "no" / "x.tar"), name)
    assert result.code == 1 and f'invalid output path: directory "{tmp_path}/no" does not exist' in result.err
    result = rdock("export", "-o", str(tmp_path), name)
    assert result.code == 1 and "is a directory" in result.err
    assert rdock("export", "nosuch").err == "rdock: No such container: nosuch\n"
    assert rdock("export", "-o", "/dev/null", name).code == 0 and Path("/dev/null").is_char_device()
    old = tmp_path / "old.tar"
    old.write_text("kept")
    assert rdock("export", "-o", str(old), "nosuch").code == 1 and old.read_text() == "kept"
    link = tmp_path / "link.tar"
    link.symlink_to("old.tar")
    rdock.ok("export", "-o", str(link), name)
    assert link.is_symlink() and tarfile.is_tarfile(old) and old.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.tar", "old.tar"]


def test_nothing_is_left_of_one_that_is_killed(rdock: Rdock, tmp_path: Path) -> None:
    work = "head -c 60000000 /dev/urandom >/big"
    name = rdock.ok("create", "--network", "none", STARTER, "sh", "-c", work)
    rdock.ok("start", "-a", name)
    place = tmp_path / "out"
    place.mkdir()
    for _ in range(3):
        process = subprocess.Popen(
            rdock.argv("export", "-o", str(place / "x.tar"), name), env=rdock.environment(), stderr=subprocess.DEVNULL
        )
        wait_for(lambda pid=process.pid: _has_written(pid, place), "it has begun")
        process.kill()
        assert process.wait() == -signal.SIGKILL and not os.listdir(place)
    rdock.ok("export", "-o", str(place / "x.tar"), name)
    assert os.listdir(place) == ["x.tar"]


def _has_written(pid: int, place: Path) -> bool:
    """Whether it has a file in the directory that is not empty."""
    found = [os.stat(path) for path in Path(f"/proc/{pid}/fd").iterdir() if os.readlink(path).startswith(str(place))]
    return any(status.st_size > 0 for status in found)


def test_a_full_disk_behind_the_standard_output(rdock: Rdock) -> None:
    name = created(rdock)
    with open("/dev/full", "wb") as full:
        argv = rdock.argv("export", name)
        result = subprocess.run(argv, env=rdock.environment(), stdout=full, stderr=subprocess.PIPE, check=False)
    assert result.returncode == 1
    assert result.stderr == b"rdock: cannot write to the standard output: no space left on device\n"


def test_a_reader_that_has_had_enough(rdock: Rdock) -> None:
    name = created(rdock)
    process = subprocess.Popen(
        rdock.argv("export", name), env=rdock.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(1000)
    process.stdout.close()
    assert process.wait(20) in (141, -signal.SIGPIPE) and process.stderr.read() == b""
    process.stderr.close()


def test_not_to_a_terminal(rdock: Rdock) -> None:
    name = created(rdock)
    with Terminal(rdock, "export", name) as terminal:
        terminal.await_text("cowardly refusing to save to a terminal. Use the -o flag or redirect")
