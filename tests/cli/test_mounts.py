"""Mounts of all kinds: what a container sees of them, what it may do there, and that nothing else is touched."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear
from tests.cli.test_volumes import image_with, names
from tests.conftest import STARTER
from tests.program import Rdock, Result

RUN = ("run", "--rm", "--network", "none")


@pytest.fixture
def rdock(rdock: Rdock) -> Iterator[Rdock]:
    yield rdock
    rdock.remove_containers()
    rdock.ok("volume", "prune", "-af")


def inside(rdock: Rdock, script: str, *options: str, image: str = STARTER) -> str:
    return rdock.ok(*RUN, *options, image, "sh", "-c", script)


def refused(result: Result, says: str) -> None:
    assert result.code == 125 and says in result.err and is_clear(result.err), str(result)


# -- binds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "with space", "ü-ñ-日本", "equals=x", "quo'te", "back\\slash", "#%$"])
def test_sources_of_any_name(rdock: Rdock, tmp_path: Path, runtime: str, name: str) -> None:
    source = tmp_path / name
    source.mkdir()
    (source / "file").write_text("here\n")
    assert inside(rdock, "cat /x/file; echo back >/x/new", "-v", f"{source}:/x") == "here"
    assert (source / "new").read_text() == "back\n"
    assert inside(rdock, "cat '/y/file'", "--mount", f"type=bind,src={source},dst=/y,ro") == "here"


@pytest.mark.parametrize("name", ["a:b", "a,b", 'a"b'])
def test_sources_that_only_mount_can_name(rdock: Rdock, tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    source.mkdir()
    (source / "file").write_text("here\n")
    quoted = f"src={source}".replace('"', '""')
    assert inside(rdock, "cat /y/file", "--mount", f'type=bind,"{quoted}",dst=/y') == "here"


def test_a_missing_source(rdock: Rdock, tmp_path: Path) -> None:
    missing = tmp_path / "a" / "b"
    refused(
        rdock(*RUN, "--mount", f"type=bind,src={missing},dst=/x", STARTER, "true"),
        f'invalid mount config for type "bind": bind source path does not exist: {missing}',
    )
    assert not (tmp_path / "a").exists()
    inside(rdock, "touch /x/f", "-v", f"{missing}:/x")
    assert (missing / "f").is_file() and missing.stat().st_uid == os.getuid()


def test_a_source_that_vanishes(rdock: Rdock, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    rdock.ok("create", "--name", "box", "--network", "none", "--mount", f"type=bind,src={source},dst=/x", STARTER, "ls")
    source.rmdir()
    result = rdock("start", "-a", "box")
    assert result.code != 0 and "bind source path does not exist" in result.err and is_clear(result.err), str(result)
    assert not source.exists()
    source.mkdir()
    rdock.ok("start", "-a", "box")


def test_files_devices_and_fifos_as_sources(rdock: Rdock, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file\n")
    os.mkfifo(tmp_path / "fifo")
    script = "cat /new/deep/file /etc/group; test -p /fifo && echo fifo; echo changed >/new/deep/file; wc -c </null"
    assert inside(
        rdock, script, "-v", f"{tmp_path}/file:/new/deep/file", "-v", f"{tmp_path}/file:/etc/group:ro",
        "-v", f"{tmp_path}/fifo:/fifo", "-v", "/dev/null:/null",
    ) == "a file\na file\nfifo\n0"  # fmt: skip
    assert (tmp_path / "file").read_text() == "changed\n"


def test_nesting_and_order(rdock: Rdock, tmp_path: Path, storage: str) -> None:
    """Outer ones come first, however they were written."""
    for name in ("outer", "inner", "innermost"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    options = [
        "-v",
        f"{tmp_path}/innermost:/o/i/m",
        "--tmpfs",
        "/o/t",
        "-v",
        "vol:/o/i/v",
        "-v",
        f"{tmp_path}/inner:/o/i",
    ]
    options += ["--mount", f"type=bind,src={tmp_path}/outer,dst=/o"]
    assert inside(rdock, "ls /o /o/i /o/i/m; touch /o/i/v/x /o/t/y", *options) == (
        "/o:\ni\nouter\nt\n\n/o/i:\ninner\nm\nv\n\n/o/i/m:\ninnermost"
    )
    assert sorted(os.listdir(tmp_path / "outer")) == ["i", "outer", "t"], "the places of those within are made"
    assert sorted(os.listdir(tmp_path / "inner")) == ["inner", "m", "v"]
    assert os.listdir(tmp_path / "innermost") == ["innermost"] and not os.listdir(tmp_path / "outer" / "t")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-v", "/tmp:/x", "-v", "/etc:/x"], "Duplicate mount point: /x"),
        (["-v", "/tmp:/x", "-v", "/etc:/y/../x/"], "Duplicate mount point: /x"),
        (["-v", "/tmp:/x", "--tmpfs", "/x"], "Duplicate mount point: /x"),
        (["-v", "/tmp:/x", "--mount", "type=tmpfs,dst=/x"], "Duplicate mount point: /x"),
        (["--mount", "dst=/x", "--mount", "type=tmpfs,dst=/x"], "Duplicate mount point: /x"),
        (["--mount", "type=image,src=nosuch,dst=/x"], "No such image: nosuch"),
        (["--mount", "type=bind,src=/nonexistent,dst=/x,ro=maybe"],
         'invalid argument "type=bind,src=/nonexistent,dst=/x,ro=maybe" for "--mount" flag: invalid value'),
        (["--mount", "src=data,dst=/x,volume-opt=type=nfs,volume-opt=device=x"], "type 'nfs' is not supported"),
        (["--mount", "src=data,dst=/x,volume-driver=nosuch"], 'plugin "nosuch" not found'),
        (["--volume-driver", "local", "-v", "/x"], "drivers of volumes are plugins"),
        (["-v", "x" * 300 + ":/x"], "too long for a volume name"),
    ],
)  # fmt: skip
def test_refusals_leave_nothing(rdock: Rdock, options: list[str], says: str) -> None:
    refused(rdock("run", "--network", "none", *options, STARTER, "true"), says)
    assert rdock.ok("ps", "-aq") == "" and names(rdock) == []


def test_read_only_reaches_what_is_below(rdock: Rdock, tmp_path: Path) -> None:
    """/dev/shm is a mount below /dev; the whole tree is read-only, or its top alone, or what is below is not there."""
    there = Path("/dev/shm") / f"rdock-{os.getpid()}"
    there.mkdir(mode=0o777)
    try:

        def touch(options: str) -> Result:
            return rdock(
                *RUN, "--mount", f"type=bind,src=/dev,dst=/d,{options}", STARTER, "touch", f"/d/shm/{there.name}/x"
            )

        for options in ("ro", "ro,bind-recursive=readonly,bind-propagation=rprivate"):
            assert "Read-only file system" in touch(options).err, options
        assert touch("ro,bind-recursive=writable").code == 0 and (there / "x").exists()
        result = rdock(
            *RUN, "--mount", "type=bind,src=/dev,dst=/d,ro,bind-recursive=writable", STARTER, "touch", "/d/x"
        )
        assert "Read-only file system" in result.err or "Permission denied" in result.err
        refused(touch("bind-nonrecursive"), "/dev: what is mounted below cannot be left out by an ordinary user")
        here = f"type=bind,src={tmp_path},dst=/d,bind-nonrecursive"
        assert inside(rdock, "touch /d/x && ls /d", "--mount", here) == "x"
        assert "Read-only" in rdock(*RUN, "--mount", here + ",ro", STARTER, "touch", "/d/y").err
    finally:
        (there / "x").unlink(missing_ok=True)
        there.rmdir()


def test_overlay_of_a_folder(rdock: Rdock, tmp_path: Path) -> None:
    """podman's `:O`: the folder stays as it is."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("as it was\n")
    script = "cat /x/file; echo changed >/x/file; echo >/x/new; rm /x/file; ls /x"
    assert inside(rdock, script, "-v", f"{folder}:/x:O") == "as it was\nnew"
    assert os.listdir(folder) == ["file"] and (folder / "file").read_text() == "as it was\n"
    upper, work = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    for wanted in ("as it was", "as it was\nmore"):
        how = f"{folder}:/x:O,upperdir={upper},workdir={work}"
        assert inside(rdock, "cat /x/file; echo more >>/x/file", "-v", how) == wanted
    assert (upper / "file").read_text() == "as it was\nmore\nmore\n"
    refused(rdock(*RUN, "-v", f"{folder}/file:/x:O", STARTER, "true"), "an overlay is for a directory")


def test_chown_to_the_user(rdock: Rdock, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").touch()
    (folder / "link").symlink_to("/etc/passwd")
    (tmp_path / "outside").touch()
    (folder / "out").symlink_to(tmp_path / "outside")
    assert inside(rdock, "cd /x; stat -c '%n %u:%g' . sub sub/file link", "-u", "12:34", "-v", f"{folder}:/x:U") == (
        ". 12:34\nsub 12:34\nsub/file 12:34\nlink 12:34"
    )
    assert (tmp_path / "outside").stat().st_uid == os.getuid()
    assert inside(rdock, "stat -c %u /x; touch /x/f", "-u", "12", "-v", "data:/x:U") == "12"
    # Also where the top is that user's already, and what is below is not.
    inside(rdock, "mkdir /x/d; touch /x/d/g; chmod 4755 /x/f", "-v", "data:/x")
    script = "stat -c '%n %u %a' /x /x/d /x/d/g /x/f"
    assert inside(rdock, script, "-u", "12", "-v", "data:/x:U") == "/x 12 755\n/x/d 12 755\n/x/d/g 12 644\n/x/f 12 4755"
    inside(rdock, "chown -R 0:0 /x", "-v", f"{folder}:/x")


# -- tmpfs, devpts ---------------------------------------------------------------------------------


def test_tmpfs(rdock: Rdock, runtime: str) -> None:
    def look(*options: str) -> str:
        return inside(rdock, "stat -c '%a %u' /t; grep ' /t ' /proc/self/mountinfo; df -k /t | tail -n1", *options)

    found = look("--mount", "type=tmpfs,dst=/t")
    assert found.startswith("1777 0\n") and "noexec" in found and "nosuid" in found
    found = look("--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700")
    assert found.startswith("700 0\n") and " 1024 " in found
    found = look("--tmpfs", "/t:size=2m,mode=1770,exec")
    assert found.startswith("1770 0\n") and " 2048 " in found and "noexec" not in found.splitlines()[1]
    result = rdock(*RUN, "--mount", "type=tmpfs,dst=/t,ro", STARTER, "touch", "/t/x")
    assert "Read-only" in result.err
    result = rdock(
        *RUN,
        "--mount",
        "type=tmpfs,dst=/t,tmpfs-size=64k",
        STARTER,
        "dd",
        "if=/dev/zero",
        "of=/t/x",
        "bs=1M",
        "count=1",
    )
    assert "No space left" in result.err


def test_read_only_root_with_places_to_write(rdock: Rdock, storage: str) -> None:
    script = "touch /run/x /data/x /t/x && ! touch /x 2>/dev/null && ! touch /etc/x 2>/dev/null && echo good"
    options = ["--read-only", "--tmpfs", "/run", "-v", "/data", "--mount", "type=tmpfs,dst=/t"]
    assert inside(rdock, script, *options) == "good"


def test_devpts(rdock: Rdock) -> None:
    assert inside(
        rdock, "ls /my; grep -c ' /my .* devpts ' /proc/self/mountinfo", "--mount", "type=devpts,dst=/my"
    ) == ("ptmx\n1")


# -- images ----------------------------------------------------------------------------------------


def test_image(rdock: Rdock, storage: str) -> None:
    image = image_with(rdock, "tools", "mkdir -p /t/sub; echo tool >/t/sub/file; ln -s ../../../etc /t/up")
    assert inside(rdock, "cat /i/t/sub/file; ls /i/bin/sh; touch /i/x 2>&1; touch /i/t/x 2>&1; true", "--mount",
                  f"type=image,src={image},dst=/i").splitlines()[:2] == ["tool", "/i/bin/sh"]  # fmt: skip
    result = rdock(*RUN, "--mount", f"type=image,src={image},dst=/i", STARTER, "touch", "/i/x")
    assert "Read-only file system" in result.err
    assert inside(rdock, "ls /i", "--mount", f"type=image,src={image},dst=/i,image-subpath=t/sub") == "file"
    for subpath in ("t/up", "nosuch"):
        refused(rdock(*RUN, "--mount", f"type=image,src={image},dst=/i,image-subpath={subpath}", STARTER, "true"),
                f"failed to mount image subpath {subpath} of {image}")  # fmt: skip
    rdock.ok("create", "--name", "box", "--network", "none", "--mount", f"type=image,src={image},dst=/i", STARTER, "ls")
    result = rdock("rmi", image)
    assert result.code == 1 and "is using its referenced image" in result.err, str(result)
    rdock.ok("rm", "box")
    rdock.ok("rmi", image)


# -- volumes ---------------------------------------------------------------------------------------


def test_subpath(rdock: Rdock, tmp_path: Path) -> None:
    script = (
        f"mkdir -p /v/a/b; echo in >/v/a/b/f; ln -s / /v/root; ln -s {tmp_path} /v/out; ln -s a /v/link; echo >/v/file"
    )
    inside(rdock, script, "-v", "data:/v")
    where = "src=data,dst=/x,volume-subpath="
    assert inside(rdock, "ls /x; touch /x/new", "--mount", f"{where}a/b") == "f"
    assert inside(rdock, "test -f /x && echo file", "--mount", f"{where}file") == "file"
    assert inside(rdock, "ls /v/a/b", "-v", "data:/v") == "f\nnew"
    for subpath in ("root", "out", "link", "link/b", "nosuch", "file/x"):
        refused(
            rdock(*RUN, "--mount", where + subpath, STARTER, "true"),
            f"failed to mount volume subpath {subpath} of data",
        )
    assert not os.listdir(tmp_path)


def test_a_full_volume(rdock: Rdock) -> None:
    small = ("-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=64k,mode=755")
    rdock.ok("volume", "create", *small, "small")
    result = rdock(*RUN, "-v", "small:/x", STARTER, "dd", "if=/dev/zero", "of=/x/big", "bs=1M", "count=1")
    assert result.code != 0 and "No space left on device" in result.err
    rdock.ok("volume", "rm", "small")


def test_a_tmpfs_volume_is_shared_while_it_is_used(rdock: Rdock) -> None:
    rdock.ok("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,nosuid", "shared")
    rdock.ok("run", "-d", "--name", "one", "--network", "none", "-v", "shared:/a", STARTER, "sh", "-c",
             "echo hello >/a/f; exec sleep 100")  # fmt: skip
    wanted = "hello"
    for _ in range(50):
        if rdock("exec", "one", "cat", "/a/f").out:
            break
        time.sleep(0.1)
    assert inside(rdock, "cat /b/f; echo more >>/b/f", "-v", "shared:/b") == wanted
    assert rdock.ok("exec", "one", "cat", "/a/f") == "hello\nmore"
    mounts = rdock.ok("unshare", "cat", "/proc/self/mountinfo")
    assert "/volumes/shared" in mounts
    assert rdock("volume", "rm", "shared").code == 1
    rdock.ok("rm", "-f", "one")
    assert "/volumes/shared" not in rdock.ok("unshare", "cat", "/proc/self/mountinfo"), "its memory is given back"
    assert inside(rdock, "ls /b", "-v", "shared:/b") == "", "it is another one"
    rdock.ok("volume", "rm", "shared")


def test_a_tmpfs_volume_is_filled(rdock: Rdock, tmp_path: Path) -> None:
    rdock.ok("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory")
    rdock.ok("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}", "folder")
    assert "init.d" in inside(rdock, "mkdir /etc/init.d 2>/dev/null; ls /etc", "-v", "memory:/etc")
    assert "group" in inside(rdock, "ls /etc", "-v", "memory:/etc").split()
    assert inside(rdock, "ls /bin/sh", "-v", "folder:/etc") == "/bin/sh" and "group" not in os.listdir(tmp_path)


def test_a_bind_volume(rdock: Rdock, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("mine\n")
    for name, how in (("mine", "bind"), ("ro", "bind,ro")):
        rdock.ok("volume", "create", "-o", "type=none", "-o", f"o={how}", "-o", f"device={folder}", name)
    assert inside(rdock, "cat /x/file; touch /x/new", "-v", "mine:/x") == "mine"
    result = rdock(*RUN, "-v", "ro:/x", STARTER, "touch", "/x/y")
    assert "Read-only" in result.err
    rdock.ok("volume", "rm", "mine", "ro")
    assert sorted(os.listdir(folder)) == ["file", "new"], "the folder is not the volume's"


def test_a_part_of_a_read_only_bind_volume(rdock: Rdock, tmp_path: Path) -> None:
    """The container sees that part alone, and writes neither there nor, at rest, by `cp`."""
    (tmp_path / "folder" / "part").mkdir(parents=True)
    (tmp_path / "folder" / "secret").touch()
    (tmp_path / "folder" / "part" / "shown").touch()
    rdock.ok("volume", "create", "-o", "type=none", "-o", "o=bind,ro", "-o", f"device={tmp_path}/folder", "ro")
    part = ("--mount", "src=ro,dst=/x,volume-subpath=part")
    assert inside(rdock, "ls /x; touch /x/new 2>/dev/null || echo closed", *part) == "shown\nclosed"
    (tmp_path / "new").touch()
    for name, how in (("whole", ("-v", "ro:/x")), ("part", part)):
        rdock.ok("create", "--name", name, "--network", "none", *how, STARTER, "true")
        result = rdock("cp", str(tmp_path / "new"), f"{name}:/x")
        assert (result.code, result.err) == (1, "rdock: mounted volume is marked read-only\n"), str(result)
    assert sorted(os.listdir(tmp_path / "folder")) == ["part", "secret"]
    assert os.listdir(tmp_path / "folder" / "part") == ["shown"]


def test_an_overlay_volume(rdock: Rdock, tmp_path: Path) -> None:
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower" / "file").write_text("below\n")
    words = f"o=lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    rdock.ok("volume", "create", "-o", "type=overlay", "-o", "device=overlay", "-o", words, "stacked")
    assert inside(rdock, "cat /x/file; echo above >/x/file", "-v", "stacked:/x") == "below"
    assert inside(rdock, "cat /x/file", "-v", "stacked:/x") == "above"
    rdock.ok("volume", "rm", "stacked")
    assert (tmp_path / "lower" / "file").read_text() == "below\n"
    assert (tmp_path / "upper" / "file").read_text() == "above\n"


# -- what is told of them --------------------------------------------------------------------------


def test_ps_inspect_and_events(rdock: Rdock, tmp_path: Path) -> None:
    since = str(int(time.time()) - 1)
    (tmp_path / "secret-of-the-bind").touch()
    options = ["-v", f"{tmp_path}:/b:ro,z", "-v", "told:/v", "--mount", "type=tmpfs,dst=/t", "--tmpfs", "/tt"]
    rdock.ok("run", "--name", "box", "--network", "none", *options, STARTER, "true")
    found = {mount["Destination"]: mount for mount in json.loads(rdock.ok("inspect", "-f", "{{json .Mounts}}", "box"))}
    assert found["/b"] == {
        "Type": "bind", "Source": str(tmp_path), "Destination": "/b", "Mode": "ro,z", "RW": False,
        "Propagation": "rprivate",
    }  # fmt: skip
    assert found["/v"]["Name"] == "told" and found["/t"]["Type"] == "tmpfs" and "/tt" not in found
    host = json.loads(rdock.ok("inspect", "-f", "{{json .HostConfig}}", "box"))
    assert host["Binds"] == [f"{tmp_path}:/b:ro,z", "told:/v"] and host["Tmpfs"] == {"/tt": ""}
    assert host["Mounts"] == [{"Type": "tmpfs", "Target": "/t"}]
    assert rdock.ok("ps", "-a", "--no-trunc", "--format", "{{.Mounts}}|{{.LocalVolumes}}") == f"{tmp_path},told|1"
    for value in ("told", "/v", str(tmp_path), "/b"):
        assert rdock.ok("ps", "-a", "-f", f"volume={value}", "--format", "{{.Names}}") == "box"
    assert rdock.ok("ps", "-aq", "-f", "volume=other") == ""
    for command in ("diff", "export"):
        assert "secret-of-the-bind" not in rdock.ok(command, "box")
    rdock.ok("rm", "box")
    rdock.ok("volume", "rm", "told")
    lines = rdock.ok(
        "events", "--since", since, "--until", "0s", "-f", "volume=told", "--format", "{{.Action}} {{.Actor.ID}}"
    )
    assert lines.splitlines() == ["create told", "mount told", "unmount told", "destroy told"]


def test_what_was_prepared_is_there_with_each_runtime(rdock: Rdock, runtime: str, tmp_path: Path) -> None:
    inside(rdock, "mkdir /v/sub; echo in >/v/sub/f", "-v", "data:/v")
    rdock.ok("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory")
    (tmp_path / "file").write_text("below\n")
    found = inside(
        rdock, "cat /s/f /o/file; echo >/o/new; touch /m/f /v/g; ls -d /i/bin; touch /i/x /r/x 2>&1; true",
        "-v", "data:/v", "--mount", "src=data,dst=/s,volume-subpath=sub", "-v", "memory:/m", "-v", f"{tmp_path}:/o:O",
        "--mount", f"type=image,src={STARTER},dst=/i",
        "--mount", f"type=bind,src={tmp_path},dst=/r,ro,bind-recursive=writable",
    )  # fmt: skip
    assert found.splitlines()[:3] == ["in", "below", "/i/bin"] and found.count("Read-only file system") == 2
    assert os.listdir(tmp_path) == ["file"]
