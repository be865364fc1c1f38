"""cp: by the rules that Docker documents, between the host and containers in every state, on every storage driver."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear, wait_for, write_settings
from tests.conftest import STARTER
from tests.program import Rdock, Result

STATES = ("created", "running", "paused", "exited")


def box(rdock: Rdock, state: str = "running", *options: str, name: str = "box") -> str:
    """A container in a state."""
    words = ["--name", name, "--network", "none", *options, STARTER]
    if state == "created":
        rdock.ok("create", *words, "sleep", "1000")
    elif state == "exited":
        rdock.ok("run", *words, "true")
    else:
        rdock.ok("run", "-d", *words, "sleep", "1000")
    if state == "paused":
        rdock.ok("pause", name)
    return name


def tree(directory: Path) -> dict[str, str]:
    """What is in a directory: its kinds, modes and contents."""
    found = {}
    for base, directories, files in os.walk(directory):
        for name in directories + files:
            path = Path(base, name)
            about = path.lstat()
            content = ""
            if path.is_symlink():
                content = os.readlink(path)
            elif stat.S_ISREG(about.st_mode):
                content = path.read_text()
            found[str(path.relative_to(directory))] = f"{stat.filemode(about.st_mode)} {content}"
    return found


def make_tree(directory: Path) -> Path:
    (directory / "inner").mkdir(parents=True)
    (directory / "inner" / "deep").write_text("deep\n")
    (directory / "file").write_text("file\n")
    (directory / "file").chmod(0o640)
    (directory / "link").symlink_to("/etc/passwd")
    (directory / ".wh.mark").write_text("")
    return directory


# -- the rules -------------------------------------------------------------------------------------

# Source, destination, and what is there then at a path: its content, or the names in a directory. Both are looked for
# in a directory with: file, other (files), full/{own} and dir/{inner,file} (directories), to-file and to-full (links),
# dangling.
RULES = {
    "file to nothing": ("file", "new", "new", "file\n"),
    "file to a file": ("file", "other", "other", "file\n"),
    "file to a directory": ("file", "full", "full", "file own"),
    "file to a directory with a slash": ("file", "full/", "full", "file own"),
    "file to a link to a directory": ("file", "to-full", "full", "file own"),
    "file to a link to a file": ("file", "to-other", "other", "file\n"),
    "directory to nothing": ("dir", "new", "new", "file inner"),
    "directory to nothing with a slash": ("dir", "new/", "new", "file inner"),
    "directory with a slash to nothing": ("dir/", "new", "new", "file inner"),
    "content to nothing": ("dir/.", "new", "new", "file inner"),
    "directory to a directory": ("dir", "full", "full", "dir own"),
    "directory with a slash to a directory": ("dir/", "full", "full", "dir own"),
    "content to a directory": ("dir/.", "full", "full", "file inner own"),
    "content to a directory with a slash": ("dir/.", "full/", "full", "file inner own"),
    "link": ("to-file", "new", "new", "-> file"),
    "link, followed": ("-L to-file", "new", "new", "file\n"),
    "link, followed, to a directory": ("-L to-file", "full", "full", "own to-file"),
    "link to a directory": ("to-full", "new", "new", "-> full"),
    "link to a directory with a slash": ("to-full/", "new", "new", "own"),
    "link to a directory, followed": ("-L to-full", "new", "new", "own"),
    "dangling link": ("dangling", "new", "new", "-> nowhere"),
}  # fmt: skip
OUT, IN = "out", "in"
# The same with what Docker says, and whether the source or the destination is the container's.
REFUSALS = [
    ("nosuch", "new", OUT, "Could not find the file {source}/nosuch in container box"),
    ("nosuch", "new", IN, "lstat {source}/nosuch: no such file or directory"),
    ("file/", "new", OUT, "{source}/file/: not a directory"),
    ("file/", "new", IN, "lstat {source}/file/: not a directory"),
    ("file/.", "new", OUT, "{source}/file/.: not a directory"),
    ("-L dangling", "new", OUT, "Could not find the file {source}/dangling in container box"),
    ("file", "new/", OUT, "no such directory"),
    ("file", "new/", IN, "no such directory"),
    ("file", "no/new", OUT, 'invalid output path: directory "{target}/no" does not exist'),
    ("file", "no/new", IN, "Could not find the file {target}/no in container box"),
    ("dir", "no/new", IN, "Could not find the file {target}/no in container box"),
    ("file", "other/new", IN, "{target}/other/new: not a directory"),
    ("file", "other/", IN, "{target}/other/: not a directory"),
    ("file", "other/", OUT, "{target}/other/: not a directory"),
    ("file", "dangling", IN, "Could not find the file {target}/nowhere in container box"),
    ("dir", "other", OUT, "cannot copy directory"),
    ("dir", "other", IN, "cannot copy directory"),
    ("dir/.", "other", IN, "cannot copy directory"),
    ("dir", "clash", OUT, 'cannot overwrite non-directory "dir" with directory "{source}/dir"'),
    ("dir", "clash", IN, 'cannot overwrite non-directory "dir" with directory "{source}/dir"'),
    ("file", "clash", OUT, 'cannot overwrite directory "file" with non-directory "{source}/file"'),
    ("file", "clash", IN, 'cannot overwrite directory "file" with non-directory "{source}/file"'),
]


def furnish(directory: Path) -> None:
    (directory / "dir" / "inner").mkdir(parents=True)
    (directory / "full").mkdir()
    (directory / "clash" / "file").mkdir(parents=True)
    for path in ("file", "dir/file", "full/own", "other", "clash/dir"):
        (directory / path).write_text(f"{path.rpartition('/')[2]}\n")
    for link, target in (("to-file", "file"), ("to-other", "other"), ("to-full", "full"), ("dangling", "nowhere")):
        (directory / link).symlink_to(target)


@pytest.fixture
def both(rdock: Rdock, tmp_path: Path) -> tuple[Path, Path]:
    """Two such directories: the host's, and one that the container has at /v, which is seen from here, too."""
    sides = (tmp_path / "host", tmp_path / "box")
    for side in sides:
        side.mkdir()
        furnish(side)
    box(rdock, "running", "-v", f"{sides[1]}:/v")
    return sides


def copy(rdock: Rdock, way: str, source: str, target: str, host: Path) -> Result:
    *options, source = source.split()
    outer, inner = f"{host}/", "box:/v/"
    here, there = (inner, outer) if way == OUT else (outer, inner)
    return rdock("cp", *options, here + source, there + target)


def look(path: Path) -> str:
    if path.is_symlink():
        return f"-> {os.readlink(path)}"
    return " ".join(sorted(os.listdir(path))) if path.is_dir() else path.read_text()


@pytest.mark.parametrize("way", [OUT, IN])
def test_rules(rdock: Rdock, tmp_path: Path, way: str) -> None:
    for number, (what, (source, target, path, expected)) in enumerate(RULES.items()):
        host, inside = tmp_path / f"host{number}", tmp_path / f"box{number}"
        for side in (host, inside):
            side.mkdir()
            furnish(side)
        if not number:
            box(rdock, "running", "-v", f"{tmp_path}:/all")
        *options, source = source.split()
        here, there = f"box:/all/box{number}/{source}", str(host / target) + "/" * target.endswith("/")
        if way == IN:
            here, there = f"{host}/{source}", f"box:/all/box{number}/{target}"
        result = rdock("cp", *options, here, there)
        assert result.code == 0, f"{what}: {result}"
        assert look((host if way == OUT else inside) / path) == expected, what
        assert result.out == "" and result.err.startswith("Successfully copied ") and is_one_line(result.err), what


def is_one_line(text: str) -> bool:
    return text.endswith("\n") and text.count("\n") == 1


def test_refusals(rdock: Rdock, both: tuple[Path, Path]) -> None:
    before = [tree(side) for side in both]
    for source, target, way, message in REFUSALS:
        result = copy(rdock, way, source, target, both[0])
        places = ("/v", both[0]) if way == OUT else (both[0], "/v")
        expected = f"rdock: {message.format(source=places[0], target=places[1])}\n"
        assert (result.code, result.out, result.err) == (1, "", expected), f"{way}: {source} to {target}: {result}"
        assert [tree(side) for side in both] == before, f"{way}: {source} to {target}"


def test_arguments(rdock: Rdock, tmp_path: Path) -> None:
    name = box(rdock, "created")
    for words, message in (
        (("", "box:/x"), "source can not be empty"),
        (("x", ""), "destination can not be empty"),
        (("x", "y"), "must specify at least one container source"),
        (("-", "-"), "must specify at least one container source"),
        (("./box:x", "y"), "must specify at least one container source"),
        (("box:/x", "box:/y"), "copying between containers is not supported"),
        (("nosuch:/x", "."), "No such container: nosuch"),
        (("/etc/passwd", "nosuch:/x"), "No such container: nosuch"),
        (("box:", "."), "bad parameter: path cannot be empty"),
        (("/etc/passwd", "box:"), "bad parameter: path cannot be empty"),
        (("box:/etc/passwd", "/dev/null"),
         'invalid output path: "/dev/null" must be a directory or a regular file: got a device'),
        (("-", "box:/etc/passwd"), 'destination "box:/etc/passwd" must be a directory'),
    ):  # fmt: skip
        result = rdock("cp", *words)
        assert (result.code, result.out, result.err) == (1, "", f"rdock: {message}\n"), str(result)
    (tmp_path / "a:b").write_text("colon\n")
    # Paths need no slash in front, and with one in front a colon means nothing.
    assert rdock("cp", str(tmp_path / "a:b"), f"{name}:etc/").code == 0
    assert rdock("container", "cp", "-q", f"{name}:etc/../etc/a:b", str(tmp_path / "new")).err == ""
    assert (tmp_path / "new").read_text() == "colon\n"
    assert rdock("cp", "-q", "./a:b", f"{name}:/etc/c", cwd=tmp_path).code == 0
    assert rdock("cp", "-q", f"{name}:/etc/c", ".", cwd=tmp_path).code == 0 and (tmp_path / "c").exists()


# -- there and back --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_there_and_back(rdock: Rdock, storage: str, state: str, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    if storage == "fuse-overlayfs":
        (source / ".wh.mark").unlink()  # it makes no such files
    name = box(rdock, state)
    rdock.ok("cp", str(source), f"{name}:/made")
    rdock.ok("cp", f"{name}:/made", str(tmp_path / "back"))
    assert tree(tmp_path / "back") == tree(source)
    for path in ("", "inner/deep", "inner", "file", "link"):
        ours, theirs = (source / path).lstat(), (tmp_path / "back" / path).lstat()
        assert (ours.st_mtime_ns, ours.st_uid) == (theirs.st_mtime_ns, theirs.st_uid), path
    rdock.ok("cp", f"{name}:/bin/busybox", str(tmp_path))
    assert os.access(tmp_path / "busybox", os.X_OK)
    if state == "paused":
        rdock.ok("unpause", name)
    if state != "running":
        rdock.ok("start", name)
    if state in ("running", "paused"):
        assert rdock.ok("exec", name, "cat", "/made/inner/deep") == "deep"
    assert "A /made/inner/deep" in rdock.ok("diff", name)
    assert not [entry for entry in os.listdir(rdock.home.data / "containers" / ".locks") if state == "exited" and entry]


def test_hard_links_attributes_times_and_holes(rdock: Rdock, storage: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    (source / "a" / "one").write_text("linked\n")
    os.link(source / "a" / "one", source / "two")
    os.setxattr(source / "a" / "one", "user.mine", b"value")
    with open(source / "sparse", "wb") as file:
        file.seek(300 << 20)
        file.write(b"end")
    os.utime(source / "sparse", ns=(1_000_000_001, -1_999_999_999))
    (source / "sparse").chmod(0o4711)
    (source / "odd\udcff\n").write_text("odd\n")
    os.mkfifo(source / "fifo")
    (source / "fifo").chmod(0o622)
    (source / "big").write_bytes(os.urandom(3 << 20))
    box(rdock)
    rdock.ok("cp", str(source), "box:/made")
    script = "cd /made; stat -c '%n %h %a %u:%g' a/one two sparse fifo; ls -a | wc -l; du -k sparse | cut -f 1"
    links, sizes = rdock.ok("exec", "box", "sh", "-c", script).splitlines()[:4], rdock.ok("exec", "box", "ls", "/made")
    assert links == ["a/one 2 644 0:0", "two 2 644 0:0", "sparse 1 4711 0:0", "fifo 1 622 0:0"]
    assert "odd" in sizes
    rdock.ok("cp", "box:/made", str(tmp_path / "back"))
    back = tmp_path / "back"
    assert (back / "two").stat().st_ino == (back / "a" / "one").stat().st_ino
    assert os.getxattr(back / "two", "user.mine") == b"value"
    about = (back / "sparse").stat()
    # On the host nothing is set-user-ID of the caller.
    assert (about.st_size, about.st_mtime_ns, stat.S_IMODE(about.st_mode)) == ((300 << 20) + 3, -1_999_999_999, 0o711)
    assert about.st_blocks < 2048
    assert (back / "odd\udcff\n").read_text() == "odd\n" and (back / "fifo").is_fifo()
    assert (back / "big").read_bytes() == (source / "big").read_bytes()


def test_owners(rdock: Rdock, tmp_path: Path) -> None:
    box(rdock)
    rdock.ok("exec", "box", "sh", "-c", "mkdir /d; echo x >/d/f; chown -R 5:6 /d; mkdir /there; chown 7:7 /there")
    rdock.ok("cp", "box:/d", str(tmp_path / "plain"))
    assert {path.stat().st_uid for path in (tmp_path / "plain", tmp_path / "plain" / "f")} == {os.getuid()}
    rdock.ok("cp", "-a", "box:/d", str(tmp_path / "kept"))
    assert os.getuid() not in {path.stat().st_uid for path in (tmp_path / "kept", tmp_path / "kept" / "f")}
    rdock.ok("cp", "-a", str(tmp_path / "kept"), "box:/again")
    rdock.ok("cp", str(tmp_path / "kept"), "box:/roots")
    (tmp_path / "there").mkdir()
    rdock.ok("cp", str(tmp_path / "there"), "box:/")
    shown = rdock.ok("exec", "box", "stat", "-c", "%u:%g", "/again/f", "/again", "/roots/f", "/roots", "/there")
    assert shown.split() == ["5:6", "5:6", "0:0", "0:0", "7:7"]
    rdock.ok("unshare", "rm", "-r", str(tmp_path / "kept"))


def test_nothing_becomes_set_user_id_of_the_caller(rdock: Rdock, tmp_path: Path) -> None:
    """Neither with `-a`; a directory keeps its bits, which give nobody any rights."""
    box(rdock)
    rdock.ok("exec", "box", "sh", "-c", "mkdir /d; echo x >/d/f; mkfifo /d/p; chmod 6755 /d/f /d/p; chmod 2755 /d")
    for name, options in (("plain", ()), ("kept", ("-a",))):
        rdock.ok("cp", *options, "box:/d", str(tmp_path / name))
        rdock.ok("cp", *options, "box:/d/f", str(tmp_path / f"{name}-file"))
        found = [tmp_path / name / "f", tmp_path / name / "p", tmp_path / f"{name}-file", tmp_path / name]
        assert [stat.S_IMODE(path.stat().st_mode) for path in found] == [0o755, 0o755, 0o755, 0o2755]


def test_one_id(own_rdock: Rdock, tmp_path: Path) -> None:
    own_rdock.options += ["--id-mode", "single"]
    source = make_tree(tmp_path / "source")
    box(own_rdock)
    own_rdock.ok("cp", "-a", str(source), "box:/made")
    own_rdock.ok("cp", "-a", "box:/made", str(tmp_path / "back"))
    assert tree(tmp_path / "back") == tree(source)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("of-five")
        member.uid = 5
        tar.addfile(member)
    own_rdock.ok("cp", "-", "box:/tmp", input=archive.getvalue())
    assert own_rdock.ok("exec", "box", "stat", "-c", "%u", "/tmp/of-five") == "0"


# -- as the container sees it ----------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_mounts(rdock: Rdock, storage: str, state: str, tmp_path: Path) -> None:
    volume, single, closed = tmp_path / "volume", tmp_path / "single", tmp_path / "closed"
    volume.mkdir()
    closed.mkdir()
    (volume / "in").write_text("in\n")
    single.write_text("single\n")
    (tmp_path / "new").write_text("new\n")
    name = box(rdock, state, "-v", f"{volume}:/v", "-v", f"{single}:/etc/single", "-v", f"{closed}:/c:ro")
    rdock.ok("cp", f"{name}:/v/in", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "in\n"
    rdock.ok("cp", str(tmp_path / "new"), f"{name}:/v")
    assert (volume / "new").read_text() == "new\n"
    # What is mounted on a file stays mounted.
    rdock.ok("cp", str(tmp_path / "new"), f"{name}:/etc/single")
    assert single.read_text() == "new\n"
    rdock.ok("cp", f"{name}:/etc/single", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "new\n"
    for target in ("/c", "/c/new"):
        result = rdock("cp", str(tmp_path / "new"), f"{name}:{target}")
        assert (result.code, result.err) == (1, "rdock: mounted volume is marked read-only\n"), str(result)
    if state == "running":
        single.write_text("changed\n")
        assert rdock.ok("exec", name, "cat", "/etc/single") == "changed"
    assert not os.listdir(closed)


@pytest.mark.parametrize("state", STATES)
def test_volumes(rdock: Rdock, storage: str, state: str, tmp_path: Path) -> None:
    """Also before the first start they have what the image has in their place."""
    (tmp_path / "new").write_text("new\n")
    name = box(rdock, state, "-v", "kept:/etc", "-v", "/anonymous", "-v", "closed:/c:ro")
    try:
        rdock.ok("cp", str(tmp_path / "new"), f"{name}:/etc")
        rdock.ok("cp", str(tmp_path / "new"), f"{name}:/anonymous")
        result = rdock("cp", str(tmp_path / "new"), f"{name}:/c")
        assert (result.code, result.err) == (1, "rdock: mounted volume is marked read-only\n"), str(result)
        rdock.ok("cp", f"{name}:/etc", str(tmp_path / "etc"))
        assert {"new", "passwd", "group"} <= set(os.listdir(tmp_path / "etc"))
        rdock.ok("cp", f"{name}:/anonymous/new", str(tmp_path / "back"))
        seen = rdock.ok("run", "--rm", "--network", "none", "-v", "kept:/kept:ro", STARTER, "ls", "/kept").split()
        assert {"new", "passwd", "group"} <= set(seen)
    finally:
        rdock.ok("rm", "-f", "-v", name)
        rdock.ok("volume", "rm", "kept", "closed")


@pytest.mark.parametrize("state", STATES)
def test_read_only_root(rdock: Rdock, storage: str, state: str, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    name = box(rdock, state, "--read-only", "--tmpfs", "/scratch", "-v", f"{tmp_path}:/v")
    for target in ("/", "/etc/passwd", "/etc/new"):
        result = rdock("cp", str(source / "file"), f"{name}:{target}")
        assert (result.code, result.err) == (1, "rdock: container rootfs is marked read-only\n"), str(result)
    rdock.ok("cp", str(source / "file"), f"{name}:/v/copied")
    assert (tmp_path / "copied").read_text() == "file\n"
    if state == "running":
        rdock.ok("cp", str(source), f"{name}:/scratch/")
        assert rdock.ok("exec", name, "cat", "/scratch/source/file") == "file"


def test_what_is_the_kernels(rdock: Rdock, tmp_path: Path) -> None:
    name = box(rdock)
    rdock.ok("cp", f"{name}:/", str(tmp_path / "all"))
    assert (tmp_path / "all" / "bin" / "busybox").exists()
    assert [os.listdir(tmp_path / "all" / part) for part in ("proc", "sys", "dev")] == [[], [], []]
    rdock.ok("cp", f"{name}:/proc/uptime", str(tmp_path))
    assert float((tmp_path / "uptime").read_text().split()[0]) > 0
    result = rdock("cp", f"{name}:/dev/null", str(tmp_path))
    assert (result.code, result.err) == (1, "rdock: cannot copy /dev/null: it is a device\n")
    result = rdock("cp", "/etc/passwd", f"{name}:/dev/null")
    message = f'destination "{name}:/dev/null" must be a directory or a regular file: got a device'
    assert (result.code, result.err) == (1, f"rdock: {message}\n")
    for path in ("/proc/1/root/etc", "/proc/self/root", "/proc/1/exe", "/proc/1/cwd/."):
        assert rdock("cp", "-L", f"{name}:{path}", str(tmp_path / "no")).code == 1
        assert not (tmp_path / "no").exists()


# -- archives --------------------------------------------------------------------------------------


def names(raw: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        return sorted(archive.getnames())


def streamed(rdock: Rdock, *words: str) -> bytes:
    done = subprocess.run(rdock.argv("cp", *words, "-"), env=rdock.environment(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    return done.stdout


@pytest.mark.parametrize("state", ["running", "exited"])
def test_to_an_archive(rdock: Rdock, state: str, tmp_path: Path) -> None:
    name = box(rdock, state)
    rdock.ok("cp", str(make_tree(tmp_path / "t")), f"{name}:/t")
    inner = [".wh.mark", "file", "inner", "inner/deep", "link"]
    assert names(streamed(rdock, f"{name}:/t")) == ["t", *(f"t/{path}" for path in inner)]
    assert names(streamed(rdock, f"{name}:/t/")) == ["t", *(f"t/{path}" for path in inner)]
    assert names(streamed(rdock, f"{name}:/t/.")) == [".", *inner]
    assert names(streamed(rdock, f"{name}:/t/file")) == ["file"]
    with tarfile.open(fileobj=io.BytesIO(streamed(rdock, f"{name}:/t/link"))) as archive:
        (link,) = archive
        assert (link.name, link.linkname) == ("link", "/etc/passwd")
    with tarfile.open(fileobj=io.BytesIO(streamed(rdock, "-L", f"{name}:/t/link"))) as archive:
        (file,) = archive
        assert file.name == "link" and file.isfile() and file.size > 0
    everything = names(streamed(rdock, f"{name}:/"))
    assert "bin/busybox" in everything and not any(path.startswith(("proc/", "sys/")) for path in everything)


@pytest.mark.parametrize("state", ["running", "created"])
def test_from_an_archive(rdock: Rdock, storage: str, state: str, tmp_path: Path) -> None:
    name = box(rdock, state)
    packed = subprocess.run(
        ["tar", "-cz", "--owner=7", "--group=8", "-C", make_tree(tmp_path / "t"), "file", "inner", "link"],
        capture_output=True,
        check=True,
    )
    rdock.ok("cp", "-", f"{name}:/tmp", input=packed.stdout)
    rdock.ok("cp", "-", f"{name}:/tmp", input=packed.stdout)  # over what is there
    rdock.ok("cp", f"{name}:/tmp/.", str(tmp_path / "back"))
    assert (tmp_path / "back" / "inner" / "deep").read_text() == "deep\n"
    with tarfile.open(fileobj=io.BytesIO(streamed(rdock, f"{name}:/tmp/file"))) as archive:
        (member,) = archive
        assert (member.uid, member.gid, member.mode) == (7, 8, 0o640)


def test_bad_archives(rdock: Rdock, tmp_path: Path) -> None:
    name = box(rdock)

    def archive(*members: tarfile.TarInfo) -> bytes:
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as tar:
            for member in members:
                tar.addfile(member, io.BytesIO(bytes(member.size)))
        return raw.getvalue()

    def member(path: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
        made = tarfile.TarInfo(path)
        made.type, made.linkname = kind, link
        return made

    canary = tmp_path / "canary"
    canary.mkdir()
    for what in (
        b"nonsense" * 200,
        archive(member("../x")),
        archive(member("a/../../x")),
        archive(member("up", tarfile.SYMTYPE, "../../.."), member("up/etc/x")),
        archive(member("out", tarfile.SYMTYPE, str(canary)), member("out/x")),
        archive(member("hard", tarfile.LNKTYPE, "../etc/passwd")),
        archive(member("hard", tarfile.LNKTYPE, "/etc/passwd")),
        archive(member("d", tarfile.DIRTYPE), member("d")),
        archive(member("f"), member("f", tarfile.DIRTYPE)),
        archive(member("cut"))[:700],
    ):
        rdock.ok("exec", name, "sh", "-c", "rm -rf /t; mkdir /t")
        before = rdock.ok("diff", name)
        result = rdock("cp", "-", f"{name}:/t", input=what)
        if result.code:
            assert result.code == 1 and is_clear(result.err), str(result)
        after = [line for line in rdock.ok("diff", name).splitlines() if "/t/" not in line]
        assert after == before.splitlines() and not os.listdir(canary), str(result)
    device = member("null", tarfile.CHRTYPE)
    assert rdock("cp", "-", f"{name}:/t", input=archive(device)).err == (
        "WARNING: left out the device null\n" + f"Successfully copied 0B to {name}:/t\n"
    )
    # A file on which something is mounted is not replaced by one of an archive.
    result = rdock("cp", "-", f"{name}:/etc", input=archive(member("hosts")))
    assert (result.code, result.err) == (1, "rdock: cannot unpack hosts: device or resource busy\n")


# -- when it goes wrong ----------------------------------------------------------------------------


def test_nothing_half_done_is_left(rdock: Rdock, tmp_path: Path) -> None:
    """What is too large for where it goes does not take the place of what is there."""
    name = box(rdock, "running", "--tmpfs", "/small:size=1m")
    (tmp_path / "big").write_bytes(bytes(os.urandom(4 << 20)))
    (tmp_path / "old").write_text("old\n")
    rdock.ok("cp", str(tmp_path / "old"), f"{name}:/small/file")
    result = rdock("cp", str(tmp_path / "big"), f"{name}:/small/file")
    message = f"rdock: cannot copy {tmp_path}/big: no space left on device\n"
    assert (result.code, result.err) == (1, message), str(result)
    assert rdock.ok("exec", name, "sh", "-c", "ls -a /small; cat /small/file").split() == [".", "..", "file", "old"]
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "big").write_bytes(bytes(os.urandom(4 << 20)))
    assert rdock("cp", str(tmp_path / "tree"), f"{name}:/small/").code == 1
    assert rdock.ok("exec", name, "ls", "-A", "/small/tree") == ""
    (tmp_path / "old").chmod(0)
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    result = rdock("cp", f"{name}:/etc/passwd", f"{closed}/file")
    if os.getuid():
        # It is the caller's own directory; rdock's root of the small world is the caller, and no more.
        assert result.code == 0 or is_clear(result.err), str(result)
    closed.chmod(0o700)


def test_into_itself(rdock: Rdock, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "t")
    name = box(rdock, "running", "-v", f"{source}:/v")
    before = tree(source)
    rdock.ok("cp", str(source), f"{name}:/v/inner/copy")
    assert (source / "inner" / "copy" / "inner" / "deep").exists()
    assert not (source / "inner" / "copy" / "inner" / "copy").exists()
    subprocess.run(["rm", "-r", source / "inner" / "copy"], check=True)
    result = rdock("cp", f"{source}/.", f"{name}:/v")
    assert (result.code, is_clear(result.err)) == (1, True) and tree(source) == before
    rdock.ok("cp", f"{source}/file", f"{name}:/v")
    assert tree(source) == before


def test_fifos_and_sockets_hold_nobody_up(rdock: Rdock, tmp_path: Path) -> None:
    name = box(rdock)
    rdock.ok("exec", name, "sh", "-c", "mkdir /d; mkfifo /d/fifo; echo x >/d/file")
    rdock.ok("cp", f"{name}:/d", str(tmp_path / "d"))
    assert (tmp_path / "d" / "fifo").is_fifo()
    rdock.ok("cp", str(tmp_path / "d"), f"{name}:/e")
    rdock.ok("cp", f"{name}:/d/fifo", str(tmp_path / "fifo"))
    # One that is in the way is replaced.
    rdock.ok("cp", f"{name}:/d/file", str(tmp_path / "d" / "fifo"))
    assert (tmp_path / "d" / "fifo").read_text() == "x\n"
    streamed(rdock, f"{name}:/d")
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "d" / "socket"))
        result = rdock("cp", str(tmp_path / "d"), f"{name}:/f")
        assert result.code == 0 and f"WARNING: left out the socket {tmp_path}/d/socket\n" in result.err
        result = rdock("cp", str(tmp_path / "d" / "socket"), f"{name}:/f")
        assert (result.code, result.err) == (1, f"rdock: cannot copy {tmp_path}/d/socket: it is a socket\n")


def test_depth(rdock: Rdock, tmp_path: Path) -> None:
    name = box(rdock)
    source = "/".join(["d"] * 1500)
    subprocess.run(["mkdir", "-p", source], cwd=tmp_path, check=True)
    rdock.ok("cp", str(tmp_path / "d"), f"{name}:/")
    rdock.ok("cp", f"{name}:/d", str(tmp_path / "e"))
    assert subprocess.run(["find", "e", "-type", "d"], cwd=tmp_path, capture_output=True).stdout.count(b"\n") == 1500
    for path in ("d", "e"):
        subprocess.run(["rm", "-r", tmp_path / path], check=True)


def test_holder_that_ends_at_once(own_rdock: Rdock, tmp_path: Path) -> None:
    write_settings(own_rdock, '{"holder-linger": 0}')
    box(own_rdock, "exited")
    own_rdock.ok("cp", "box:/etc/passwd", str(tmp_path))
    own_rdock.ok("cp", str(tmp_path / "passwd"), "box:/new")
    assert own_rdock.ok("diff", "box").splitlines()[-1] == "A /new"


# -- beside others ---------------------------------------------------------------------------------


def test_who_wants_to_start_or_remove_waits_for_a_copy(rdock: Rdock, storage: str, tmp_path: Path) -> None:
    """Longer than somebody is waited for who is not seen at work."""
    name = box(rdock, "exited")
    with rdock.start("cp", "-", f"{name}:/tmp") as copying:
        assert copying.stdin is not None
        lock = rdock.home.data / "containers" / rdock.ok("inspect", "-f", "{{.Id}}", name) / "copy.lock"
        wait_for(lock.exists, "the copying has begun")
        others = [
            rdock.start("cp", "/etc/passwd", f"{name}:/passwd"),
            rdock.start("start", name),
        ]  # fmt: skip
        time.sleep(6)
        assert [other.poll() for other in others] == [None, None]
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("made"))
        copying.stdin.write(raw.getvalue())
        copying.stdin.close()
        assert copying.wait(20) == 0
        for other in others:
            assert other.wait(20) == 0, other.stderr.read() if other.stderr else ""
            for stream in (other.stdin, other.stdout, other.stderr):
                if stream:
                    stream.close()
    rdock("wait", name)
    changes = rdock.ok("diff", name).splitlines()
    assert "A /tmp/made" in changes and "A /passwd" in changes


@pytest.mark.parametrize("options", [(), ("--rm",)])
def test_one_that_is_killed_leaves_the_container(rdock: Rdock, options: tuple[str, ...]) -> None:
    name = box(rdock, "created", *options)
    identity = rdock.ok("inspect", "-f", "{{.Id}}", name)
    with rdock.start("cp", "-", f"{name}:/tmp") as copying:
        wait_for((rdock.home.data / "containers" / identity / "copy.lock").exists, "the copying has begun")
        copying.kill()
    assert rdock.ok("ps", "-a", "--format", "{{.Status}}") == "Created"
    assert not (rdock.home.data / "containers" / ".locks" / identity).exists()
    assert not (rdock.home.runtime / "rdock" / "containers" / identity).exists()
    rdock.ok("start", name)
    assert rdock.ok("exec", name, "cat", "/etc/hostname")


def test_one_that_waits_for_its_next_run(rdock: Rdock, tmp_path: Path) -> None:
    rdock.ok("run", "-d", "--name", "box", "--network", "none", "--restart", "always", STARTER, "false")
    wait_for(lambda: rdock.ok("inspect", "-f", "{{.RestartCount}}", "box") >= "5", "a long wait")
    for _ in range(4):
        rdock.ok("cp", "/etc/passwd", "box:/tmp/new")
        rdock.ok("cp", "box:/tmp/new", str(tmp_path))


def test_in_a_session(rdock: Rdock, tmp_path: Path) -> None:
    box(rdock, "exited")
    words = " ".join(rdock.argv())
    script = f"cd {tmp_path}; echo x >f; {words} cp f box:/f && {words} cp box:/f g && cat g"
    assert rdock.ok("unshare", "sh", "-c", script) == "x"


def test_a_file_of_the_host_is_whole_or_as_it_was(rdock: Rdock, tmp_path: Path) -> None:
    name = box(rdock)
    rdock.ok("exec", name, "sh", "-c", "head -c 200000000 /dev/zero >/big; echo small >/small")
    place = tmp_path / "place"
    place.mkdir()
    (place / "old").write_text("old\n")
    (place / "linked").hardlink_to(place / "old")
    for target in ("old", "new"):
        limited = [
            "sh",
            "-c",
            'ulimit -f 1000; exec "$@"',
            "sh",
            *rdock.argv("cp", f"{name}:/big", f"{place}/{target}"),
        ]
        done = subprocess.run(limited, env=rdock.environment(), capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (1, "rdock: cannot copy /big: file too large\n"), done
        with rdock.start("cp", f"{name}:/big", f"{place}/{target}") as copying:
            time.sleep(0.06)
            copying.kill()
        if target == "new" and (place / "new").exists():
            assert (place / "new").stat().st_size == 200_000_000
            (place / "new").unlink()
        if (place / "old").stat().st_size > 4:
            assert (place / "old").stat().st_size == 200_000_000
            (place / "old").write_text("old\n")
        assert sorted(os.listdir(place)) == ["linked", "old"]
    # The name is the new file's; what else the old one is called is the old one's.
    rdock.ok("cp", f"{name}:/small", f"{place}/old")
    assert ((place / "old").read_text(), (place / "linked").read_text()) == ("small\n", "old\n")
    words = (
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--filter",
        f"container={rdock.ok('inspect', '-f', '{{.Id}}', name)}",
    )
    events = rdock.ok(*words)
    rdock.ok("cp", f"{place}/old", f"{name}:/old")
    assert " container archive-path " in events and " container extract-to-dir " not in events
    events = rdock.ok(*words)
    assert " container extract-to-dir " in events


def test_runtimes_and_a_root_of_ones_own(rdock: Rdock, runtime: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("file\n")
    box(rdock, "running", "--tmpfs", "/scratch")
    rdock.ok("cp", f"{tmp_path}/file", "box:/scratch")
    assert rdock.ok("exec", "box", "cat", "/scratch/file") == "file"
    rdock.ok("cp", "box:/scratch/file", f"{tmp_path}/back")
    assert (tmp_path / "back").read_text() == "file\n"
    if runtime != "rdock":
        return
    own = tmp_path / "root"
    own.mkdir()
    rdock.ok("cp", "box:/bin", str(own))
    for words in (("create",), ("run", "-d")):
        name = rdock.ok(*words, "--network", "none", "--rootfs", str(own), "sleep", "1000")
        rdock.ok("cp", f"{tmp_path}/file", f"{name}:/from-{words[0]}")
        assert (own / f"from-{words[0]}").read_text() == "file\n"
