"""Volumes: made, listed, used, filled from images, removed; by what is seen inside containers and in the store."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear, wait_for
from tests.conftest import STARTER
from tests.program import Rdock

RUN = ("run", "--rm", "--network", "none")
ANONYMOUS = re.compile(r"[0-9a-f]{64}")


@pytest.fixture
def rdock(rdock: Rdock) -> Iterator[Rdock]:
    """The program with the store that most tests share, in which no volume is when a test begins and ends."""
    yield rdock
    rdock.remove_containers()
    rdock.ok("volume", "prune", "-af")


def names(rdock: Rdock, *options: str) -> list[str]:
    return rdock.ok("volume", "ls", "-q", *options).split()


def inside(rdock: Rdock, script: str, *options: str, image: str = STARTER) -> str:
    return rdock.ok(*RUN, *options, image, "sh", "-c", script)


def image_with(rdock: Rdock, name: str, script: str, *changes: str) -> str:
    """An image: the starter after a script."""
    rdock("rm", "-f", "to-commit")
    rdock.ok("run", "--name", "to-commit", "--network", "none", STARTER, "sh", "-c", script)
    flags = [word for change in changes for word in ("-c", change)]
    rdock.ok("commit", "-q", *flags, "to-commit", name)
    rdock.ok("rm", "to-commit")
    return name


# -- commands --------------------------------------------------------------------------------------


def test_create_inspect_ls_rm(rdock: Rdock) -> None:
    assert rdock.ok("volume", "create", "--label", "a=b", "--label", "c", "data") == "data"
    assert rdock.ok("volume", "create", "data") == "data"
    unnamed = rdock.ok("volume", "create").strip()
    assert ANONYMOUS.fullmatch(unnamed)
    assert names(rdock) == sorted(["data", unnamed])
    (found,) = json.loads(rdock.ok("volume", "inspect", "data"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found.pop("CreatedAt"))
    assert found == {
        "Driver": "local", "Labels": {"a": "b", "c": ""}, "Mountpoint": str(rdock.home.data / "volumes/data/_data"),
        "Name": "data", "Options": None, "Scope": "local",
    }  # fmt: skip
    assert rdock.ok("volume", "inspect", "-f", "{{.Name}} {{.Labels.a}} {{.Options}}", "data") == "data b map[]"
    assert rdock.ok("inspect", "-f", "{{.Driver}}", "data") == "local"
    assert rdock.ok("volume", "ls", "--format", '{{.Name}} {{.Label "a"}} {{.Scope}} {{.Size}}', "-f", "label=a=b") == (
        "data b local N/A"
    )
    lines = rdock.ok("volume", "ls").splitlines()
    assert lines[0] == "DRIVER    VOLUME NAME" and "local     data" in lines
    assert rdock.ok("volume", "rm", "data", unnamed) == f"data\n{unnamed}"
    assert names(rdock) == []


def test_bad_names_and_options(rdock: Rdock) -> None:
    for arguments, says in (
        (["x"], "create x: volume name is too short, names should be at least two alphanumeric characters"),
        (["a/b"], 'create a/b: "a/b" includes invalid characters for a local volume name, only '
                  '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use '
                  "absolute path"),
        ([".."], 'create ..: ".." includes invalid characters for a local volume name'),
        (["n" * 300], "is too long for a volume name"),
        (["-d", "nosuch", "data"], 'create data: error looking up volume plugin nosuch: plugin "nosuch" not found'),
        (["-o", "nosuch=1", "data"], 'create data: invalid option: "nosuch"'),
        (["-o", "type=tmpfs", "data"], 'create data: missing required option: "device"'),
        (["-o", "type=nfs", "-o", "device=:/x", "-o", "o=addr=1.2.3.4", "data"], "type 'nfs' is not supported"),
        (["-o", "type=ext4", "-o", "device=/dev/sda1", "data"], "an ordinary user may mount tmpfs, bind"),
        (["-o", "type=cifs", "-o", "device=//a/b", "data"], "type 'cifs' is not supported"),
        (["-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=evil=1", "data"], "unknown mount option 'evil=1'"),
        (["-o", "type=none", "-o", "o=bind", "-o", "device=x", "data"], "must be an absolute path"),
        (["-o", "type=overlay", "-o", "o=upperdir=/x", "-o", "device=overlay", "data"], "an overlay needs lowerdir"),
        (["-o", "size=1g", "data"], "only the machine's root may limit"),
        (["--label", "=x", "data"], "empty name"),
    ):  # fmt: skip
        result = rdock("volume", "create", *arguments)
        assert result.code in (1, 125) and says in result.err and is_clear(result.err), str(result)
    assert names(rdock) == []
    for word, result in (
        ("get nosuch: no such volume", rdock("volume", "inspect", "nosuch")),
        ("get ../x: no such volume", rdock("volume", "rm", "../x")),
        ("get .lock: no such volume", rdock("volume", "rm", ".lock")),
        ("invalid filter 'x'", rdock("volume", "ls", "-f", "x=y")),
        ("invalid filter 'dangling=[perhaps]'", rdock("volume", "ls", "-f", "dangling=perhaps")),
        ("invalid filter 'until'", rdock("volume", "prune", "-f", "--filter", "until=1h")),
        ("rdock is for one machine", rdock("volume", "update", "x")),
        ("rdock is for one machine", rdock("volume", "create", "--scope", "multi", "x")),
    ):
        assert result.code != 0 and word in result.err, str(result)
    assert rdock("volume", "rm", "-f", "nosuch").code == 0


def test_other_options_are_a_conflict(rdock: Rdock) -> None:
    tmpfs = ("-o", "type=tmpfs", "-o", "device=tmpfs")
    rdock.ok("volume", "create", *tmpfs, "data")
    rdock.ok("volume", "create", *tmpfs, "data")
    rdock.ok("volume", "create", "data")
    result = rdock("volume", "create", *tmpfs, "-o", "o=size=1m", "data")
    assert result.code == 1 and "volume name must be unique" in result.err


def test_filters(rdock: Rdock) -> None:
    for name, *labels in (("one", "a=1"), ("two", "a=2"), ("three",)):
        rdock.ok("volume", "create", *[word for label in labels for word in ("--label", label)], name)
    rdock.ok("create", "--network", "none", "-v", "one:/x", STARTER, "true")
    assert names(rdock, "-f", "label=a") == ["one", "two"]
    assert names(rdock, "-f", "label=a=2") == ["two"]
    assert names(rdock, "-f", "name=t") == ["three", "two"]
    assert names(rdock, "-f", "dangling=true") == ["three", "two"]
    assert names(rdock, "-f", "dangling=false") == ["one"]
    assert names(rdock, "-f", "driver=nosuch") == []


# -- in use ----------------------------------------------------------------------------------------


def test_what_is_kept_is_there_again(rdock: Rdock, storage: str) -> None:
    inside(rdock, "echo kept >/data/file; mkdir /data/d; chown 5:6 /data/d; chmod 2750 /data/d", "-v", "data:/data")
    assert names(rdock) == ["data"]
    assert inside(rdock, "cat /x/file; stat -c '%u:%g %a' /x/d", "-v", "data:/x") == "kept\n5:6 2750"
    result = rdock(*RUN, "-v", "data:/x:ro", STARTER, "sh", "-c", "echo >/x/file")
    assert result.code != 0 and "Read-only file system" in result.err
    rdock.ok("volume", "rm", "data")
    assert not (rdock.home.data / "volumes" / "data").exists()


def test_a_volume_in_use_stays(rdock: Rdock) -> None:
    created = rdock.ok("create", "--network", "none", "-v", "data:/x", STARTER, "true").strip()
    running = rdock.ok("run", "-d", "--network", "none", "-v", "data:/x", STARTER, "sleep", "100").strip()
    result = rdock("volume", "rm", "data")
    assert result.code == 1 and result.err.startswith("rdock: remove data: volume is in use - [")
    assert created in result.err and running in result.err
    assert rdock("volume", "rm", "-f", "data").code == 1
    rdock.ok("volume", "prune", "-af")
    assert names(rdock) == ["data"]
    rdock.ok("rm", "-fv", created, running)
    assert names(rdock) == ["data"], "it has a name"
    rdock.ok("volume", "rm", "data")


def test_anonymous_volumes(rdock: Rdock) -> None:
    rdock.ok("create", "--name", "box", "--network", "none", "-v", "/data", STARTER, "true")
    (name,) = names(rdock)
    assert ANONYMOUS.fullmatch(name)
    (mount,) = json.loads(rdock.ok("inspect", "-f", "{{json .Mounts}}", "box"))
    assert mount == {
        "Type": "volume", "Name": name, "Source": str(rdock.home.data / "volumes" / name / "_data"),
        "Destination": "/data", "Driver": "local", "Mode": "", "RW": True, "Propagation": "",
    }  # fmt: skip
    assert rdock.ok("volume", "inspect", "-f", "{{json .Labels}}", name) == '{"com.docker.volume.anonymous":""}'
    rdock.ok("rm", "box")
    assert names(rdock) == [name], "without -v it stays"
    rdock.ok("volume", "create", "named")
    assert name in rdock.ok("volume", "prune", "-f")
    assert names(rdock) == ["named"]
    rdock.ok("create", "--name", "box", "--network", "none", "-v", "/data", STARTER, "true")
    rdock.ok("rm", "-v", "box")
    inside(rdock, "echo >/data/x", "-v", "/data")
    rdock("run", "--rm", "--network", "none", "-v", "/data", STARTER, "nosuch")
    assert names(rdock) == ["named"]


def test_volumes_of_an_image(rdock: Rdock, storage: str) -> None:
    image = image_with(
        rdock, "with-volumes", "mkdir /var/data; echo of the image >/var/data/f; chown 7:8 /var/data",
        "VOLUME /var/data", "VOLUME /new",
    )  # fmt: skip
    rdock.ok("run", "--name", "box", "--network", "none", image, "sh", "-c", "cat /var/data/f; echo >/new/x; "
             "stat -c %u:%g /var/data; echo more >>/var/data/f")  # fmt: skip
    assert rdock.ok("logs", "box") == "of the image\n7:8"
    assert len(names(rdock)) == 2
    # Its changes are not the container's.
    assert "/var/data/f" not in rdock.ok("diff", "box") and "/new/x" not in rdock.ok("diff", "box")
    rdock.ok("start", "-a", "box")
    assert rdock.ok("logs", "box").endswith("of the image\nmore\n7:8"), "it is copied once"
    rdock.ok("rm", "-v", "box")
    assert names(rdock) == []
    rdock.ok("rmi", image)


def test_volumes_from(rdock: Rdock) -> None:
    rdock.ok("run", "--name", "one", "--network", "none", "-v", "data:/d", "-v", "/anonymous", STARTER, "sh", "-c",
             "echo 1 >/d/f; echo 2 >/anonymous/f")  # fmt: skip
    assert inside(rdock, "cat /d/f /anonymous/f", "--volumes-from", "one") == "1\n2"
    result = rdock(*RUN, "--volumes-from", "one:ro", STARTER, "touch", "/d/x")
    assert result.code != 0 and "Read-only" in result.err
    rdock.ok("run", "--name", "two", "--network", "none", "--volumes-from", "one", STARTER, "true")
    rdock.ok("rm", "-v", "one")
    assert len(names(rdock)) == 2, "the other one uses it"
    assert inside(rdock, "cat /anonymous/f", "--volumes-from", "two") == "2"
    # What is named here goes before what comes from there.
    assert inside(rdock, "cat /d/f || echo empty", "--volumes-from", "two", "-v", "other:/d") == "empty"
    rdock.ok("rm", "-v", "two")
    assert names(rdock) == ["data", "other"]
    for text, says in (("nosuch", "No such container: nosuch"), ("one:rx", "invalid mode: rx"), ("", "empty string")):
        result = rdock(*RUN, "--volumes-from", text, STARTER, "true")
        assert result.code == 125 and says in result.err and is_clear(result.err), str(result)


def test_removing_and_creating_at_once(rdock: Rdock) -> None:
    """Whoever comes first, no container is there whose volume is not."""

    def create(number: int) -> int:
        return rdock("create", "--name", f"user-{number}", "--network", "none", "-v", "data:/x", STARTER, "true").code

    def remove(number: int) -> int:
        return rdock("volume", "rm", "-f", "data").code

    with ThreadPoolExecutor(6) as pool:
        created = [pool.submit(create, number) for number in range(12)]
        removed = [pool.submit(remove, number) for number in range(12)]
        assert {future.result() for future in created} == {0}
        assert {future.result() for future in removed} <= {0, 1}
    assert names(rdock) == ["data"]
    assert rdock("volume", "rm", "data").code == 1


def test_a_volume_that_a_killed_create_has_not_made(rdock: Rdock) -> None:
    """The container is put in its place first; its volumes are made when it starts."""
    rdock.ok("create", "--name", "box", "--network", "none", "-v", "data:/d", "-v", "/a", "--mount",
             "dst=/b,src=labelled,volume-label=x=y", STARTER, "touch", "/d/f", "/a/f", "/b/f")  # fmt: skip
    before = names(rdock)
    for name in before:
        rdock.ok("unshare", "rm", "-rf", str(rdock.home.data / "volumes" / name))
    assert names(rdock) == []
    rdock.ok("start", "-a", "box")
    assert names(rdock) == before
    assert rdock.ok("volume", "inspect", "-f", "{{.Labels.x}}", "labelled") == "y"
    rdock.ok("rm", "-v", "box")
    assert names(rdock) == ["data", "labelled"]


# -- copy-up ---------------------------------------------------------------------------------------

_CONTENT = """
mkdir -p /c/sub/deep && cd /c && echo one >file && ln file sub/twin && ln -s /etc/passwd link && mkfifo fifo
chown 3:4 file && chmod 4751 file && chmod 1777 sub && chown 9:10 /c && chmod 750 /c
touch -d '2001-02-03 04:05:06' sub/deep
touch -d '2002-02-03 04:05:06' /c
"""
_LOOK = "cd /c && find . -exec stat -c '%n %F %a %u:%g %h %s %Y' {} + | sort; readlink link; cat sub/twin"


def test_content_of_the_image_is_copied(rdock: Rdock, storage: str) -> None:
    image = image_with(rdock, "with-content", _CONTENT)
    wanted = inside(rdock, _LOOK, image=image)
    assert "./file regular file 4751 3:4 2" in wanted
    # A directory's size is the file system's.
    strip = re.compile(r"(directory \d+ \d+:\d+ )\d+ \d+ ")
    assert strip.sub(r"\1", inside(rdock, _LOOK, "-v", "data:/c", image=image)) == strip.sub(r"\1", wanted)
    assert strip.sub(r"\1", inside(rdock, _LOOK, "-v", "data:/c", image=image)) == strip.sub(r"\1", wanted)
    twins = inside(rdock, "stat -c %i /c/file /c/sub/twin", "-v", "data:/c").split()
    assert len(set(twins)) == 1
    # One that is not empty is left alone, nocopy leaves any alone, and so do binds.
    rdock.ok("volume", "create", "other")
    inside(rdock, "echo >/x/mine", "-v", "other:/x")
    assert inside(rdock, "ls /c", "-v", "other:/c", image=image) == "mine"
    assert inside(rdock, "ls /c", "-v", "third:/c:nocopy", image=image) == ""
    assert inside(rdock, "ls /c", "--mount", "src=fourth,dst=/c,volume-nocopy", image=image) == ""
    rdock.ok("rmi", image)


def test_an_emptied_volume_stays_empty(rdock: Rdock) -> None:
    image = image_with(rdock, "with-content", "mkdir /c; echo >/c/f")
    rdock.ok("run", "--name", "box", "--network", "none", "-v", "data:/c", image, "sh", "-c", "ls /c; rm -f /c/f")
    rdock.ok("start", "-a", "box")
    assert rdock.ok("logs", "box") == "f"
    rdock.ok("rm", "box")
    rdock.ok("rmi", image)


def test_two_first_starts_copy_once(rdock: Rdock) -> None:
    image = image_with(rdock, "with-content", "mkdir /c; for i in $(seq 300); do echo $i >/c/$i; done")
    with ThreadPoolExecutor(5) as pool:
        runs = [
            pool.submit(inside, rdock, "ls /c | wc -l; echo >>/c/300", "-v", "data:/c", image=image) for _ in range(5)
        ]
        assert {run.result() for run in runs} == {"300"}
    assert inside(rdock, "wc -l </c/300", "-v", "data:/c") == "6"
    rdock.ok("rmi", image)


def test_links_in_the_image_lead_nowhere_else(rdock: Rdock, tmp_path: Path) -> None:
    """CVE-2022-23648: what is copied is the image's, wherever its links say."""
    (tmp_path / "secret").write_text("of the host\n")
    up = "../" * 12
    image = image_with(
        rdock, "hostile", f"ln -s {tmp_path} /abs; ln -s {up}{tmp_path} /rel; mkdir /in; echo in >/in/f; ln -s /in /ok"
    )
    for target in ("/abs", "/rel"):
        assert inside(rdock, f"cat {target}/secret 2>&1; echo", "-v", f"v{target[1:]}:{target}", image=image).endswith(
            "No such file or directory\n"
        )
    assert inside(rdock, "cat /in/f; grep -c ' /in ' /proc/self/mountinfo", "-v", "vok:/ok", image=image) == "in\n1"
    result = rdock(*RUN, "-v", "vfile:/bin/busybox", image, "true")
    assert result.code == 125 and "cannot mount volume over existing file" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    rdock.ok("rmi", image)


@pytest.mark.slow
def test_killed_while_copying(own_rdock: Rdock) -> None:
    """However often it is killed, at last the whole is there and what others wrote stays."""
    rdock = own_rdock
    image = image_with(
        rdock, "with-content", "mkdir -p /c/a; for i in $(seq 1500); do echo $i >/c/$i; echo >/c/a/$i; done"
    )
    for number in range(25):
        process = subprocess.Popen(
            rdock.argv("run", "--name", f"box-{number}", "--network", "none", "-v", "data:/c", image, "true"),
            env=rdock.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(0.03 + number * 0.012)
        for line in rdock.home.processes():
            try:
                os.kill(int(line.split()[0]), signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()
        volume = rdock.home.data / "volumes/data"
        if (volume / "_data").is_dir() and not (volume / "ready").exists():
            assert len(list((volume / "_data").iterdir())) in (0, 1501), "half a copy is taken for a whole one"
    assert inside(rdock, "ls /c /c/a | wc -l", "-v", "data:/c", image=image) == "3004"
    assert sorted(os.listdir(volume)) == [".lock", "_data", "volume.json"]
    rdock.ok("system", "check", "--repair")


# -- export, import --------------------------------------------------------------------------------


def test_export_and_import(rdock: Rdock, fresh_rdock: Rdock, tmp_path: Path) -> None:
    """What containers see is the same in another store: owners, modes, times, links, names like whiteouts."""
    script = _CONTENT.replace("mkdir -p /c/sub/deep", "mkdir -p /c/sub/deep /c/.wh.x && touch /c/.wh.file")
    image = image_with(rdock, "with-content", script)
    wanted = inside(rdock, _LOOK, "-v", "data:/c", image=image)
    path = tmp_path / "data.tar"
    rdock.ok("volume", "export", "-o", str(path), "data")
    piped = subprocess.run(rdock.argv("volume", "export", "data"), env=rdock.environment(), capture_output=True)
    assert piped.stdout == path.read_bytes() and not piped.stderr
    fresh_rdock.ok("volume", "create", "one")
    fresh_rdock.ok("volume", "import", "one", str(path))
    fresh_rdock.ok("volume", "create", "two")
    packed = subprocess.run(["gzip"], input=piped.stdout, capture_output=True, check=True).stdout
    result = fresh_rdock("volume", "import", "two", "-", input=packed)
    assert result.code == 0, str(result)
    strip = re.compile(r"(directory \d+ \d+:\d+ )\d+ \d+ ")
    for name in ("one", "two"):
        assert strip.sub(r"\1", inside(fresh_rdock, _LOOK, "-v", f"{name}:/c")) == strip.sub(r"\1", wanted)
    # Into one with content: what is not in the archive stays, what is becomes the archive's.
    inside(
        fresh_rdock,
        "rm -rf /c/sub /c/file; mkdir /c/file; echo >/c/file/x; ln -s /bin /c/sub; touch /c/mine",
        "-v",
        "one:/c",
    )
    fresh_rdock.ok("volume", "import", "one", str(path))
    assert inside(fresh_rdock, "cat /c/file; test ! -L /c/sub && ls -d /c/sub/deep /c/mine", "-v", "one:/c") == (
        "one\n/c/mine\n/c/sub/deep"
    )
    rdock.ok("rmi", image)


def test_import_of_what_is_no_archive(rdock: Rdock, tmp_path: Path) -> None:
    inside(rdock, "echo kept >/x/f", "-v", "data:/x")
    good = tmp_path / "good.tar"
    rdock.ok("volume", "export", "-o", str(good), "data")
    cut = tmp_path / "cut.tar"
    cut.write_bytes(good.read_bytes()[:900])
    for arguments, says in (
        (["data", str(cut)], "unexpected end"),
        (["data", "/etc/passwd"], ""),
        (["data", "/nonexistent"], "open /nonexistent: no such file or directory"),
        (["data", "/etc"], "is a directory"),
        (["nosuch", str(good)], "get nosuch: no such volume"),
        (["../data", str(good)], "no such volume"),
    ):
        result = rdock("volume", "import", *arguments)
        assert result.code == 1 and says in result.err and is_clear(result.err), str(result)
    assert inside(rdock, "cat /x/f; ls /x", "-v", "data:/x") == "kept\nf"
    out = tmp_path / "out.tar"
    assert rdock("volume", "export", "-o", str(out), "nosuch").code == 1 and not out.exists()


def test_import_loses_nothing_where_it_cannot_be(rdock: Rdock, tmp_path: Path) -> None:
    """A folder of another file system: nothing is taken away before what replaces it is in."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        assert os.stat(folder).st_dev != os.stat(rdock.home.data).st_dev
        (Path(folder) / "d").mkdir()
        (Path(folder) / "d" / "kept").touch()
        rdock.ok("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={folder}", "far")
        with tarfile.open(tmp_path / "archive.tar", "w") as archive:
            archive.addfile(tarfile.TarInfo("d"))
        refused = rdock("volume", "import", "far", str(tmp_path / "archive.tar"))
        assert refused.code == 1 and is_clear(refused.err) and "another file system" in refused.err
        assert os.listdir(f"{folder}/d") == ["kept"]
        rdock.ok("volume", "rm", "far")


def test_import_replaces(rdock: Rdock, tmp_path: Path) -> None:
    """A file by a directory, a directory by a file, a file by a file; nothing is left of what was there."""
    rdock.ok("volume", "create", "changed")
    for first, second in (("a/x b c", "a b/y c"), ("a b/y c", "a/x b c")):
        for names in (first, second):
            with tarfile.open(tmp_path / "archive.tar", "w") as archive:
                for name in names.split():
                    archive.addfile(tarfile.TarInfo(name))
            rdock.ok("volume", "import", "changed", str(tmp_path / "archive.tar"))
            found = inside(rdock, "cd /c; find . -type f | sort", "-v", "changed:/c")
            assert found.replace("./", "").split() == sorted(names.split())
    rdock.ok("volume", "rm", "changed")


def test_import_writes_nowhere_else(rdock: Rdock, tmp_path: Path) -> None:
    """CVE-2025-11395: names, links and links to links that lead out of the volume."""
    import io
    import tarfile

    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "file").write_text("of the host\n")
    up = "../" * 30
    hostile = {
        "up": [(f"{up}{canary}/new", "file", "")],
        "absolute": [(f"{canary}/new", "file", "")],
        "link": [("l", "link", str(canary)), ("l/new", "file", "")],
        "link to a link": [("a", "link", f"{up}{canary}"), ("b", "link", "a"), ("b/new", "file", "")],
        "hard link": [("h", "hard", f"{up}{canary}/file"), ("h", "file", "")],
        "hard link through a link": [("l", "link", str(canary)), ("h", "hard", "l/file"), ("h", "file", "")],
        "link to a file": [("f", "link", f"{canary}/file"), ("f", "file", "")],
    }
    # What a container has left in the volume does not lead out either.
    inside(rdock, f"ln -s {canary} /x/there; ln -s {up}{canary} /x/l2; ln -s {canary}/file /x/f2", "-v", "data:/x")
    hostile["into links"] = [("there/new", "file", ""), ("l2/new", "file", ""), ("f2", "file", "")]
    for name, members in hostile.items():
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for path, kind, target in members:
                member = tarfile.TarInfo()
                member.name, member.linkname = path, target
                member.type = {"file": tarfile.REGTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}[kind]
                member.size = 5 if kind == "file" else 0
                tar.addfile(member, io.BytesIO(b"evil\n") if kind == "file" else None)
        result = rdock("volume", "import", "data", "-", input=buffer.getvalue())
        assert result.code in (0, 1) and (not result.code or is_clear(result.err)), f"{name}: {result}"
        assert sorted(os.listdir(canary)) == ["file"], name
        assert (canary / "file").read_text() == "of the host\n", name


def test_a_damaged_container_may_use_any_volume(own_rdock: Rdock) -> None:
    rdock = own_rdock
    container = rdock.ok("create", "--network", "none", "-v", "data:/x", STARTER, "true").strip()
    (rdock.home.data / "containers" / container / "container.json").write_text("{")
    result = rdock("volume", "prune", "-af")
    assert result.code == 1 and "cannot tell which volumes are in use" in result.err and is_clear(result.err)
    assert names(rdock) == ["data"]
    rdock.ok("rm", "-f", container)
    rdock.ok("volume", "prune", "-af")
    assert names(rdock) == []


# -- what takes how much, and what happened --------------------------------------------------------


def test_damaged_records(rdock: Rdock) -> None:
    inside(rdock, "echo kept >/x/f", "-v", "data:/x")
    record = rdock.home.data / "volumes/data/volume.json"
    record.write_text("{")
    result = rdock("volume", "ls")
    assert result.code == 1 and "cannot read" in result.err and "rdock volume rm data removes it" in result.err
    result = rdock(*RUN, "-v", "data:/x", STARTER, "true")
    assert result.code == 125 and "cannot read" in result.err, str(result)
    assert "kept" in rdock.ok("volume", "export", "data")
    rdock.ok("volume", "rm", "data")
    assert names(rdock) == []


def test_disk_usage_and_system_prune(own_rdock: Rdock) -> None:
    rdock = own_rdock
    inside(rdock, "head -c 3000 /dev/zero >/x/f", "-v", "used:/x")
    inside(rdock, "head -c 5000 /dev/zero >/x/f", "-v", "named:/x")
    rdock.ok("create", "--name", "box", "--network", "none", "-v", "used:/x", "-v", "/anonymous", STARTER, "true")
    line = next(line for line in rdock.ok("system", "df").splitlines() if line.startswith("Local Volumes"))
    assert line.split() == ["Local", "Volumes", "3", "2", "8kB", "5kB", "(62%)"]
    found = json.loads(rdock.ok("system", "df", "-v", "--format", "json"))["Volumes"]
    assert {row["Name"]: (row["Links"], row["Size"]) for row in found if len(row["Name"]) < 64} == {
        "named": ("0", "5kB"), "used": ("1", "3kB"),
    }  # fmt: skip
    assert re.search(r"^used +1 +3kB$", rdock.ok("system", "df", "-v"), re.MULTILINE)
    rdock.ok("network", "create", "unused")
    result = rdock("system", "prune", "--volumes", "--filter", "until=1h", "-f")
    assert result.code != 0 and 'The "until" filter is not supported with "--volumes"' in result.err
    result = rdock("system", "prune", "--volumes", input="n\n")
    assert result.code == 0 and result.out.startswith("WARNING! This will remove:\n  - all stopped containers\n")
    assert "all anonymous volumes not used" in result.out and rdock.ok("ps", "-aq")
    rdock.ok("system", "prune", "-f")
    assert rdock.ok("ps", "-aq") == "" and len(names(rdock)) == 3 and "unused" not in rdock.ok("network", "ls")
    said = rdock.ok("system", "prune", "-f", "--volumes")
    assert "Deleted Volumes:" in said and names(rdock) == ["named", "used"]
    assert rdock.ok("volume", "prune", "-af").endswith("Total reclaimed space: 8kB")
    assert names(rdock) == []


@pytest.mark.slow
def test_killed_while_making_and_removing(own_rdock: Rdock) -> None:
    """No volume is left half-made, none that nobody refers to, and the next command clears up."""
    rdock = own_rdock
    rdock.ok("create", "--network", "none", STARTER, "true")
    commands = (
        ("volume", "create", "data"), ("volume", "rm", "data"), ("create", "--name=box", "-v", "/x", STARTER, "true"),
        ("rm", "-v", "box"), ("run", "--rm", "--network", "none", "-v", "/x", STARTER, "true"),
    )  # fmt: skip
    for number in range(60):
        process = subprocess.Popen(
            rdock.argv(*commands[number % len(commands)]), env=rdock.environment(), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(0.005 + number * 0.003)
        process.kill()
        process.wait()
    rdock("rm", "-fv", "box")
    wait_for(lambda: len(rdock.ok("ps", "-aq").split()) == 1, "the end of those that run")
    rdock.ok("volume", "rm", "-f", "data")
    rdock.ok("system", "check", "--repair")
    assert rdock.ok("system", "check") == "no problems found" and names(rdock) == []
    assert os.listdir(rdock.home.data / "volumes") == [".lock"]


def test_two_directories_are_exchanged_in_a_volume(rdock: Rdock, tmp_path: Path) -> None:
    """CVE-2021-30465, CVE-2023-0778 with named volumes: a container swaps a directory and a link while others start."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "secret").write_text("of the host\n")
    inside(rdock, f"mkdir -p /v/place/inner; ln -s ../../../../../../../../../..{canary} /v/other", "-v", "shared:/v")
    swap = "cd /v; while :; do mv place tmp; mv other place; mv tmp other; done"
    rdock.ok("run", "-d", "--name", "swapper", "--network", "none", "-v", "shared:/v", STARTER, "sh", "-c",
             swap + " 2>/dev/null")  # fmt: skip
    outcomes = set()
    for number in range(24):
        options = (["-v", "shared:/v", "-v", "inner:/v/place/inner"], ["-v", "shared:/v", "--tmpfs", "/v/place/t"],
                   ["--mount", "src=shared,dst=/v,volume-subpath=place"])[number % 3]  # fmt: skip
        result = rdock(
            *RUN, *options, STARTER, "sh", "-c", "cat /v/secret /v/*/secret /v/place/*/secret 2>/dev/null; true"
        )
        assert "of the host" not in result.out and (not result.code or is_clear(result.err)), str(result)
        outcomes.add(result.code)
        if number % 4 == 0:
            result = rdock("volume", "export", "shared")
            assert "of the host" not in result.out, "export followed the link"
        assert os.listdir(canary) == ["secret"]
    assert 0 in outcomes, "no start came through, so nothing was tried"
