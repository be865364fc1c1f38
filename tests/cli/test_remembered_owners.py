"""One id only: whom an image's files belong to is remembered, and comes back in what leaves rdock again."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cli.conftest import wait_for, write_settings
from tests.conftest import STARTER, STORAGE_DRIVERS, _close
from tests.payload.image_archives import docker_archive, image
from tests.payload.roots import base_layer
from tests.payload.tars import directory, end, file, hardlink, header, pax
from tests.program import Home, Rdock

OWNER = "user.rdock.owner"
Told = dict[str, tuple[object, ...]]


def link(name: bytes, target: bytes, uid: int, gid: int) -> bytes:
    return header(name, b"2", link=target, mode=0o777, uid=uid, gid=gid)


def fifo(name: bytes, uid: int, gid: int) -> bytes:
    return header(name, b"6", mode=0o640, uid=uid, gid=gid)


LOWER = b"".join(
    [
        directory(b"srv", 0o750, uid=33, gid=33),
        directory(b"group", 0o2770, uid=0, gid=50),
        file(b"srv/page", b"page", uid=33, gid=33),
        file(b"srv/setuid", b"#!", mode=0o6755, uid=1, gid=2),
        file(b"srv/secret", b"secret", mode=0o400, uid=65533, gid=42),
        hardlink(b"srv/other", b"srv/page"),
        file(b"srv/plain", b"plain", uid=33, gid=33),
        link(b"srv/link", b"page", 33, 34),
        link(b"srv/turned", b"page", 33, 34),
        link(b"srv/anew", b"page", 33, 34),
        # Through a link, which is another path in the layer.
        link(b"via", b"srv", 7, 7),
        link(b"via/behind", b"page", 8, 9),
        hardlink(b"srv/behind2", b"srv/behind"),
        fifo(b"srv/fifo", 5, 6),
        directory(b"kept", uid=100, gid=101),
        file(b"kept/one", b"1", uid=100, gid=101),
        link(b"kept/gone", b"one", 100, 101),
        directory(b"given", uid=70, gid=70),
        file(b"given/file", b"", uid=70, gid=70),
        file(b"big", b"b" * 100, uid=2_000_000 % 65000, gid=3),
        end(),
    ]
)
UPPER = b"".join(
    [
        directory(b"srv", 0o750, uid=33, gid=33),
        directory(b"kept", uid=100, gid=101),
        header(b"kept/.wh.gone"),
        # What was somebody's is root's again.
        directory(b"given", 0o755),
        file(b"given/file", b"root's", uid=0, gid=0),
        file(b"srv/more", b"more", uid=34, gid=33),
        link(b"srv/turned", b"more", 0, 0),
        end(),
    ]
)
SCRIPT = """
    echo more >>/srv/plain
    chmod 600 /srv/secret
    chmod 711 /kept
    ln /srv/plain /srv/plain2
    mv /kept/one /kept/two
    echo new >/srv/new
    rm /big
    ln -sf nowhere /srv/turned
    ln -sf page /srv/anew
    touch -d '2020-01-01 00:00:00' /srv/new /srv/plain /srv /kept
    touch -h -d '2020-01-01 00:00:00' /srv/turned /srv/anew
"""
# A fuse-overlayfs makes a file of a FIFO that is changed, or gives up, in any mode (seen with 1.10).
FIFO = "chmod 600 /srv/fifo"


@pytest.fixture(scope="module")
def programs() -> Iterator[dict[str, Rdock]]:
    """Two stores with the same image: for one id, and for many."""
    made = {mode: Rdock(Home(), ["--id-mode", mode]) for mode in ("single", "subids")}
    archive = docker_archive((image(base_layer(), LOWER, UPPER, Cmd=["sh"]), ["owners:latest"]))
    for program in made.values():
        write_settings(program, '{"holder-linger": 1}')
        program.ok("load", input=archive)
    yield made
    for program in made.values():
        _close(program)


def told(data: bytes) -> Told:
    """All that the headers of an archive say, by name; the times of what was made just now are none of it."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            assert not any(OWNER in key for key in info.pax_headers)
            assert info.name not in found
            found[info.name] = (
                info.type, oct(info.mode), f"{info.uid}:{info.gid}", info.size, info.linkname, info.pax_headers
            )  # fmt: skip
    return found


def raw(rdock: Rdock, *words: str) -> bytes:
    done = subprocess.run(rdock.argv(*words), env=rdock.environment(), capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def last_layer(rdock: Rdock, name: str) -> bytes:
    """The topmost layer of an image as `save` gives it."""
    with tarfile.open(fileobj=io.BytesIO(raw(rdock, "save", name))) as archive:
        (listed,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        found = archive.extractfile(listed["Layers"][-1])
        assert found is not None
        data = found.read()
    with tarfile.open(fileobj=io.BytesIO(data)) as layer:
        assert layer.getmembers()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def with_driver(rdock: Rdock, driver: str) -> Rdock:
    return Rdock(rdock.home, [*rdock.options, "--storage-driver", driver])


def test_commit_export_and_cp(programs: dict[str, Rdock], storage: str) -> None:
    """Both modes say the same of the same work, with every driver."""
    seen: dict[str, list[object]] = {}
    for mode, program in programs.items():
        one = with_driver(program, storage)
        one.ok("create", "--name", "plain", "--network", "none", "owners")
        assert one.ok("diff", "plain") == ""
        whole = told(raw(one, "export", "plain"))
        script = SCRIPT + (FIFO if storage != "fuse-overlayfs" else "")
        one.ok("run", "--name", "work", "--network", "none", "owners", "sh", "-ec", script)
        changes = one.ok("diff", "work")
        one.ok("commit", "work", "worked")
        layer = told(last_layer(one, "worked"))
        exported = told(raw(one, "export", "work"))
        copied = [
            told(raw(one, "cp", "-a", f"work:{path}", "-"))
            for path in ("/srv", "/srv/.", "/kept", "/srv/link", "/srv/fifo", "/srv/secret", "/via", "/")
        ]
        one.ok("run", "-d", "--name", "again", "--network", "none", "worked", "sleep", "100")
        # What is committed is an image like others: its owners are remembered, too.
        assert one.ok("diff", "again") == ""
        copied += [told(raw(one, "cp", "-a", "again:/srv", "-")), told(raw(one, "export", "again"))]
        seen[mode] = [whole, changes, layer, exported, *copied]
        one.ok("rm", "-f", "plain", "work", "again")
        one.ok("rmi", "worked")
    for one_id, many in zip(seen["single"], seen["subids"], strict=True):
        assert one_id == many
    whole, changes, layer, exported = seen["single"][:4]
    assert isinstance(whole, dict) and isinstance(layer, dict) and isinstance(exported, dict)
    owners = {name: about[2] for name, about in whole.items() if name in ("srv", "srv/setuid", "srv/link", "via")}
    assert owners == {"srv": "33:33", "srv/setuid": "1:2", "srv/link": "33:34", "via": "7:7"}
    assert {name: whole[name][2] for name in ("given", "given/file", "srv/turned", "srv/behind", "srv/fifo")} == {
        "given": "0:0", "given/file": "0:0", "srv/turned": "0:0", "srv/behind": "8:9", "srv/fifo": "5:6",
    }  # fmt: skip
    assert whole["srv/setuid"][1] == "0o6755" and "kept/gone" not in whole
    assert {name: about[2] for name, about in layer.items()}.items() >= {
        "kept": "100:101", "kept/two": "100:101", "srv/plain": "33:33", "srv/secret": "65533:42", "srv/new": "0:0",
        "srv/plain2": "33:33", ".wh.big": "0:0", "kept/.wh.one": "0:0", "srv/turned": "0:0",
        "srv/anew": "0:0",
    }.items()  # fmt: skip
    assert layer.get("srv/fifo", ("", "", "5:6"))[2] == "5:6"


@pytest.fixture
def single(programs: dict[str, Rdock]) -> Iterator[Rdock]:
    yield programs["single"]
    programs["single"].remove_containers()


def owners_of(data: bytes) -> dict[str, str]:
    return {name: str(about[2]) for name, about in told(data).items()}


def attributes(place: Path) -> dict[str, bytes]:
    """The remembered owners that files of a store have themselves."""
    found = {}
    for base, directories, files in os.walk(place):
        for name in directories + files:
            path = os.path.join(base, name)
            if OWNER in os.listxattr(path, follow_symlinks=False):
                found[os.path.relpath(path, place)] = os.getxattr(path, OWNER, follow_symlinks=False)
    return found


def test_an_image_cannot_forge_owners(single: Rdock) -> None:
    """Nor anything else that is rdock's own; and what it says by other means counts all the same."""
    forged = pax({f"SCHILY.xattr.{OWNER}": b"7:7", "SCHILY.xattr.user.rdock.x": b"y", "SCHILY.xattr.user.fine": b"z"})
    layer = forged + file(b"file", b"x") + forged + directory(b"dir") + forged + file(b"theirs", b"", uid=9, gid=9)
    single.ok("load", input=docker_archive((image(base_layer(), layer + end(), Cmd=["sh"]), ["forged:latest"])))
    places = [path for path in (single.home.data / "layers").glob("*-single/diff") if (path / "theirs").exists()]
    assert [attributes(place) for place in places] == [{"theirs": b"9:9"}]
    single.ok("create", "--name", "forged", "--network", "none", "forged")
    data = raw(single, "export", "forged")
    assert owners_of(data).items() >= {"file": "0:0", "dir": "0:0", "theirs": "9:9"}.items()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getmember("file").pax_headers == {"SCHILY.xattr.user.fine": "z"}
        assert archive.getmember("theirs").pax_headers == {"SCHILY.xattr.user.fine": "z"}
    single.ok("rm", "forged")
    single.ok("rmi", "forged")


def test_what_is_copied_in(single: Rdock, tmp_path: Path) -> None:
    """An archive's owners are remembered with -a; a file of the host brings none, whatever it says."""
    (tmp_path / "host").write_text("x")
    os.setxattr(tmp_path / "host", OWNER, b"7:7")
    single.ok("create", "--name", "in", "--network", "none", "owners")
    single.ok("cp", "-a", str(tmp_path / "host"), "in:/srv/host")
    # What may be replaced has not to keep its owner.
    data = directory(b"made", uid=5, gid=5) + file(b"made/file", b"x", uid=6, gid=6) + directory(b"srv") + end()
    single.ok("cp", "-a", "-", "in:/", input=data)
    single.ok("cp", "-", "in:/kept", input=file(b"plain", b"x", uid=6, gid=6) + end())
    found = owners_of(raw(single, "export", "in"))
    assert found.items() >= {
        "srv/host": "0:0", "made": "5:5", "made/file": "6:6", "srv": "0:0", "kept": "100:101", "kept/plain": "0:0",
    }.items()  # fmt: skip
    target = tmp_path / "out"
    single.ok("cp", "-a", "in:/srv", str(target))
    assert attributes(target) == {}


def test_a_container_that_lies(single: Rdock) -> None:
    """It can, of its own; what is no owner is none."""
    single.ok("run", "--name", "liar", "--network", "none", "owners", "sh", "-c", "echo >/a; echo >/b; mkdir /c")
    upper = single.home.data / "containers" / single.ok("inspect", "-f", "{{.Id}}", "liar")
    (place,) = [upper / name for name in ("upper", "root") if (upper / name).is_dir()]
    os.setxattr(place / "a", OWNER, b"33:33")
    os.setxattr(place / "b", OWNER, b"4294967295:-1")
    os.setxattr(place / "c", OWNER, b"\xff" * 1000)
    single.ok("commit", "liar", "lies")
    assert owners_of(last_layer(single, "lies")) == {"a": "33:33", "b": "0:0", "c": "0:0"}
    single.ok("rmi", "lies")


def test_the_root_itself(single: Rdock) -> None:
    layer = directory(b"./", 0o750, uid=12, gid=13) + file(b"x", b"") + end()
    single.ok("load", input=docker_archive((image(base_layer(), layer, Cmd=["sh"]), ["root:latest"])))
    for driver in STORAGE_DRIVERS:
        one = with_driver(single, driver)
        one.ok("run", "--name", "root", "--network", "none", "root", "sh", "-c", "echo >/new")
        assert one.ok("diff", "root") == "A /new"
        assert owners_of(raw(one, "export", "root"))["."] == "12:13"
        one.ok("commit", "root", "root2")
        assert owners_of(last_layer(one, "root2")) == {".": "12:13", "new": "0:0"}
        one.ok("rm", "root")
        one.ok("rmi", "root2")
    single.ok("rmi", "root")


def test_volumes(single: Rdock) -> None:
    """Files carry their owners into a volume that is filled from the image, and out of it again."""
    single.ok("run", "--rm", "--network", "none", "-v", "filled:/srv", "owners", "true")
    found = owners_of(raw(single, "volume", "export", "filled"))
    assert found.items() >= {".": "33:33", "page": "33:33", "setuid": "1:2", "secret": "65533:42"}.items()
    single.ok("volume", "create", "second")
    single.ok("volume", "import", "second", "-", input=raw(single, "volume", "export", "filled"))
    again = owners_of(raw(single, "volume", "export", "second"))
    assert {name: owner for name, owner in again.items() if name in ("page", "setuid", "secret", ".")} == {
        ".": "33:33", "page": "33:33", "setuid": "1:2", "secret": "65533:42",
    }  # fmt: skip
    single.ok("volume", "rm", "filled", "second")


def test_one_store_in_both_modes(single: Rdock) -> None:
    """The layers of one mode are no layers for the other, where nothing of this is read or written."""
    many = Rdock(single.home, ["--id-mode", "subids"])
    many.ok("create", "--name", "many", "--network", "none", "owners")
    assert owners_of(raw(many, "export", "many"))["srv/page"] == "33:33"
    for place in (single.home.data / "layers").iterdir():
        if place.name.endswith("-single"):
            continue
        assert not (place / "owners").exists()
    many.ok("rm", "many")
    single.ok("create", "--name", "one", "--network", "none", "owners")
    assert owners_of(raw(single, "export", "one"))["srv/link"] == "33:34"
    assert single("system", "check").out == "no problems found\n"


def test_damage_is_found_and_repaired(single: Rdock) -> None:
    (place,) = [path for path in (single.home.data / "layers").glob("*-single") if (path / "diff/via").is_symlink()]
    (place / "owners").write_bytes(b"nonsense\0")
    single.ok("create", "--name", "damaged", "--network", "none", "owners")
    result = single("export", "damaged")
    assert result.code == 1 and "are damaged" in result.err and "Traceback" not in result.err, str(result)
    single.ok("rm", "damaged")
    found = single("system", "check", "--images")
    assert found.code == 1 and "(owners)" in found.out, str(found)
    single("system", "check", "--images", "--repair")
    assert single("system", "check", "--images").out == "no problems found\n"
    single.ok("create", "--name", "repaired", "--network", "none", "owners")
    assert owners_of(raw(single, "export", "repaired"))["via"] == "7:7"


def test_a_killed_unpacking_leaves_nothing() -> None:
    """At whatever moment: a layer is there with its owners, or it is not there."""
    program = Rdock(Home(), ["--id-mode", "single"])
    write_settings(program, '{"holder-linger": 0}')
    staging = program.home.data / "staging"
    names = [b"%06d" % number for number in range(3000)]
    layer = b"".join(link(name, b"x", 5, 6) for name in names) + end()
    archive = docker_archive((image(base_layer(), layer, Cmd=["sh"]), ["many:latest"]))
    try:
        for number in range(8):
            process = subprocess.Popen(
                program.argv("load", "-q"), env=program.environment(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
            )
            assert process.stdin is not None
            try:
                process.stdin.write(archive)
                process.stdin.close()
            except BrokenPipeError:
                pass
            if number % 2:
                wait_for(partial(_is_unpacking, staging, process), "it unpacks")
            time.sleep(number * 0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
            for place in (program.home.data / "layers").glob("*-single"):
                assert (place / "layer.json").exists()
                if (place / "diff/000000").is_symlink():
                    assert (place / "owners").read_bytes().count(b"5:6 ") == 3000
        program.ok("load", input=archive)
        program.ok("create", "--name", "whole", "--network", "none", "many")
        found = owners_of(raw(program, "export", "whole"))
        assert {found[name.decode()] for name in names} == {"5:6"}
        program.ok("rm", "whole")
        assert program("system", "check").out == "no problems found\n"
    finally:
        _close(program)


def _is_unpacking(staging: Path, process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None or bool(list(staging.glob("*/diff/0*")))


def test_what_is_said(single: Rdock) -> None:
    """Loading tells that owners are remembered; the starter has none to tell of."""
    layer = file(b"said", b"x", uid=1, gid=1) + end()
    result = single("load", input=docker_archive((image(base_layer(), layer, Cmd=["sh"]), ["said:latest"])))
    assert "1 files belong to other users" in result.err and "commit and export remember" in result.err, str(result)
    assert single.ok("run", "--rm", "--network", "none", "said", "stat", "-c", "%u:%g", "/said") == "0:0"
    single.ok("rmi", "said")
    assert single.ok("run", "--rm", "--network", "none", STARTER, "echo", "fine") == "fine"
