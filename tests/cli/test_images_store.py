"""save, history, untag, image prune, system df and the rest of the image store, beside skopeo, podman and umoci."""

from __future__ import annotations

import gzip
import http.server
import io
import json
import os
import pty
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import store
from tests.payload import image_archives as made
from tests.payload.tars import directory, end, file
from tests.program import Rdock

IDS = "{{.Id}} {{.Descriptor.digest}}"
PACKED = "application/vnd.oci.image.layer.v1.tar+gzip"


def packed(text: bytes = b"hello") -> bytes:
    """An OCI archive of an image whose layers are compressed, called packed:1."""
    plain = made.simple(text)
    image = made.image(*plain.layers, stored=[gzip.compress(layer, mtime=0) for layer in plain.layers], Cmd=["sh"])
    return made.oci_archive(image, {"io.containerd.image.name": "packed:1"}, media_type=PACKED)


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {item.name: tar.extractfile(item).read() for item in tar if item.isfile()}  # type: ignore[union-attr]


def saved(rdock: Rdock, *words: str) -> bytes:
    done = subprocess.run(rdock.argv("save", *words), env=rdock.environment(), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- save ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["", "oci-archive", "docker-archive"])
def test_what_is_saved_is_loaded_again(own_rdock: Rdock, tmp_path: Path, form: str) -> None:
    """Every digest comes back, but for that of the manifest where a docker-archive has none."""
    rdock, path = own_rdock, tmp_path / "x.tar"
    rdock.ok("load", input=packed())
    rdock.ok("load", input=made.docker_archive((made.simple(b"other"), ["other:1"])))
    rdock.ok("tag", "packed:1", "registry.example:5000/a/b:2")
    before = [rdock.ok("image", "inspect", "-f", IDS, name) for name in ("packed:1", "other:1")]
    words = ["--format", form] if form else []
    rdock.ok("save", *words, "-o", str(path), "packed:1", "registry.example:5000/a/b:2", "other")
    assert path.stat().st_mode & 0o777 == 0o600 and os.listdir(tmp_path) == ["x.tar"]
    assert saved(rdock, *words, "packed:1", "registry.example:5000/a/b:2", "other") == path.read_bytes()
    rdock.ok("rmi", "-f", *rdock.ok("images", "-q", "--no-trunc").split())
    assert not [name for name in store(rdock) if "blobs/sha256/" in name]
    said = rdock.ok("load", "-i", str(path)).splitlines()
    assert sorted(said) == [
        "Loaded image: other:1", "Loaded image: packed:1", "Loaded image: registry.example:5000/a/b:2",
    ]  # fmt: skip
    after = [rdock.ok("image", "inspect", "-f", IDS, name) for name in ("packed:1", "other:1")]
    if form == "docker-archive":
        assert [line.split()[0] for line in after] == [line.split()[0] for line in before]
    else:
        assert after == before
        assert saved(rdock, *words, "packed:1", "registry.example:5000/a/b:2", "other") == path.read_bytes()
    assert rdock.ok("system", "check", "--images") == "no problems found"


def test_what_an_archive_holds(own_rdock: Rdock) -> None:
    rdock = own_rdock
    rdock.ok("load", input=packed())
    rdock.ok("tag", "packed:1", "packed:2")
    image_id = rdock.ok("images", "-q", "--no-trunc", "packed:1")
    both = members(saved(rdock, "packed"))
    (listed,) = json.loads(both["manifest.json"])
    assert listed["RepoTags"] == ["packed:1", "packed:2"]  # a repository stands for all its tags
    assert all(name in both for name in (listed["Config"], *listed["Layers"]))
    assert all(both[name].startswith(b"\x1f\x8b") for name in listed["Layers"])
    names = [item["annotations"]["io.containerd.image.name"] for item in json.loads(both["index.json"])["manifests"]]
    assert names == ["docker.io/library/packed:1", "docker.io/library/packed:2"]
    for name, content in both.items():
        assert not name.startswith("blobs/") or made.digest(content) == f"sha256:{name[-64:]}"
    assert json.loads(members(saved(rdock, image_id))["manifest.json"])[0]["RepoTags"] is None
    assert "manifest.json" not in members(saved(rdock, "--format", "oci", "packed:1"))
    old = members(saved(rdock, "--format", "docker-archive", "packed:1"))
    (listed,) = json.loads(old["manifest.json"])
    layers = json.loads(old[listed["Config"]])["rootfs"]["diff_ids"]
    assert [made.digest(old[name]) for name in listed["Layers"]] == layers and "oci-layout" not in old


@pytest.mark.parametrize(("kind", "magic"), [("gzip", b"\x1f\x8b"), ("zstd", b"\x28\xb5\x2f\xfd")])
@pytest.mark.parametrize("form", ["", "docker-archive", "oci-archive"])
def test_compressed_archives(own_rdock: Rdock, tmp_path: Path, kind: str, magic: bytes, form: str) -> None:
    """The same archive in another coat, in a file and in a pipe, which load, skopeo and the kind's own tool read."""
    rdock, path = own_rdock, tmp_path / "any.name"
    rdock.ok("load", input=packed(b"hello" * 200_000))
    about = rdock.ok("image", "inspect", "-f", IDS, "packed:1")
    words = ["--format", form, "packed:1"]
    rdock.ok("save", "--compression", kind, "-o", str(path), *words)
    data = path.read_bytes()
    assert data.startswith(magic) and saved(rdock, "--compression", kind, *words) == data
    plain = saved(rdock, "--compression", "none", *words)
    assert saved(rdock, *words) == plain and len(data) < len(plain)
    assert subprocess.run([kind, "-dc"], input=data, capture_output=True, check=True, timeout=60).stdout == plain
    rdock.ok("rmi", "packed:1")
    assert rdock.ok("load", "-i", str(path)) == "Loaded image: packed:1"
    # The older form has its layers uncompressed, and so another manifest.
    parts = slice(1) if form == "docker-archive" else slice(None)
    assert rdock.ok("image", "inspect", "-f", IDS, "packed:1").split()[parts] == about.split()[parts]
    rdock.ok("rmi", "packed:1")
    result = rdock("load", input=data[: len(data) // 2])
    assert result.code == 1 and result.err.count("\n") == 1 and "cannot load from stdin: " in result.err, result
    assert rdock.ok("load", input=data) == "Loaded image: packed:1"
    if _skopeo_reads(tmp_path, kind, form, plain):
        source = "oci-archive:any.name:1" if form == "oci-archive" else "docker-archive:any.name"
        config = json.loads(peer(tmp_path, "skopeo", "inspect", "--raw", source))["config"]["digest"]
        assert config == about.split()[0]
        peer(tmp_path, "skopeo", "copy", "-q", source, "oci:copied:x")


def _skopeo_reads(where: Path, kind: str, form: str, plain: bytes) -> bool:
    """Whether skopeo is here and reads what the kind's own tool makes: Debian 12's fails at gzip and docker-archive."""
    if not shutil.which("skopeo"):
        return False
    done = subprocess.run([kind, "-c"], input=plain, capture_output=True, check=True, timeout=60)
    (where / "by.tool").write_bytes(done.stdout)
    source = "oci-archive:by.tool:1" if form == "oci-archive" else "docker-archive:by.tool"
    words = ["skopeo", "inspect", "--raw", source]
    return subprocess.run(words, cwd=where, capture_output=True, timeout=60).returncode == 0


def test_peers_read_what_is_saved(own_rdock: Rdock, tmp_path: Path) -> None:
    rdock = own_rdock
    rdock.ok("load", input=packed())
    image_id, digest = rdock.ok("image", "inspect", "-f", IDS, "packed:1").split()
    for form in ("", "docker-archive", "oci-archive"):
        rdock.ok("save", "--format", form, "-o", str(tmp_path / f"{form}.tar"), "packed:1")
    peers = 0
    if shutil.which("skopeo"):
        peers += 1
        for source in ("docker-archive:.tar:packed:1", "docker-archive:docker-archive.tar"):
            raw = peer(tmp_path, "skopeo", "inspect", "--raw", source)
            assert json.loads(raw)["config"]["digest"] == image_id
            peer(tmp_path, "skopeo", "copy", "-q", source, f"oci:copied{peers}:x")
        for source in ("oci-archive:.tar:1", "oci-archive:oci-archive.tar:1"):
            assert made.digest(peer(tmp_path, "skopeo", "inspect", "--raw", source).encode()) == digest
    if shutil.which("umoci"):
        peers += 1
        (tmp_path / "layout").mkdir()
        peer(tmp_path / "layout", "tar", "xf", "../.tar")
        assert "1" in peer(tmp_path, "umoci", "ls", "--layout", "layout").split()
        peer(tmp_path, "umoci", "unpack", "--rootless", "--image", "layout:1", "bundle")
        assert (tmp_path / "bundle/rootfs/added").read_bytes() == b"hello"
        assert not (tmp_path / "bundle/rootfs/etc/gone").exists()
        rdock.ok("rmi", "packed:1")
        assert rdock.ok("load", "-i", str(tmp_path / "layout")) == "Loaded image: packed:1"
        assert rdock.ok("image", "inspect", "-f", IDS, "packed:1") == f"{image_id} {digest}"
    if not peers:
        pytest.skip("neither skopeo nor umoci is here")


@pytest.mark.slow
def test_podman_reads_what_is_saved_and_the_reverse(own_rdock: Rdock, tmp_path: Path) -> None:
    if not shutil.which("podman"):
        pytest.skip("podman is not here")
    rdock = own_rdock
    rdock.ok("load", input=packed())
    image_id, _ = rdock.ok("image", "inspect", "-f", IDS, "packed:1").split()
    where = Path(tempfile.mkdtemp(prefix="pd-", dir="/tmp"))  # podman takes 50 characters at most
    podman = ["podman", "--root", f"{where}/root", "--runroot", f"{where}/run", "--storage-driver", "vfs"]
    try:
        for form, kind in (("", ""), ("", "gzip"), ("docker-archive", "zstd"), ("oci-archive", "gzip")):
            path = tmp_path / f"{form or 'both'}.tar"
            rdock.ok("save", "--format", form, "--compression", kind, "-o", str(path), "packed:1")
            said = peer(tmp_path, *podman, "load", "-i", str(path))
            name = said.split()[-1]
            assert peer(tmp_path, *podman, "image", "inspect", "--format", "{{.Id}}", name).strip() == image_id[7:]
            for own in ("docker-archive", "oci-archive"):
                back = tmp_path / f"{form}-{kind}-{own}.tar"
                peer(tmp_path, *podman, "save", "-q", "--format", own, "-o", str(back), name)
                assert rdock.ok("load", "-i", str(back)).startswith("Loaded image")
                assert rdock.ok("images", "-q", "--no-trunc", "packed:1") == image_id
            peer(tmp_path, *podman, "rmi", "-f", image_id[7:])
    finally:
        subprocess.run(["podman", "unshare", "rm", "-rf", str(where)], check=False, timeout=60)


def peer(where: Path, *words: str) -> str:
    done = subprocess.run(words, cwd=where, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def test_save_that_fails_leaves_nothing(own_rdock: Rdock, tmp_path: Path) -> None:
    rdock = own_rdock
    rdock.ok("load", input=packed())
    path = tmp_path / "x.tar"
    path.write_text("old")

    def refused(words: list[str], message: str) -> None:
        result = rdock("save", *words)
        assert result.code == 1 and message in result.err and "Traceback" not in result.err, result
        assert os.listdir(tmp_path) == ["x.tar"] and path.read_text() == "old"

    refused(["-o", str(path), "packed:1", "nosuch"], "No such image: nosuch:latest")
    refused(["-o", str(tmp_path / "nosuch/x"), "packed:1"], "failed to save image: invalid output path: directory")
    refused(["-o", str(tmp_path), "packed:1"], "is a directory")
    refused(["-o", "/dev/tty", "packed:1"], "got a device")
    refused(["--format", "zip", "-o", str(path), "packed:1"], 'unknown format "zip"')
    refused(["--compression", "xz", "-o", str(path), "packed:1"], 'unknown compression "xz": must be one of gzip, zstd')
    refused(["--platform", "linux/s390x", "-o", str(path), "packed:1"], "does not provide the specified platform")
    refused([], "requires at least 1 argument")
    blobs = rdock.home.data / "images/blobs/sha256"
    layer = json.loads(members(saved(rdock, "packed:1"))["manifest.json"])[0]["Layers"][0][-64:]
    good = (blobs / layer).read_bytes()
    (blobs / layer).write_bytes(good[:-1] + b"x")
    refused(["-o", str(path), "packed:1"], f"blob sha256:{layer} is damaged")
    (blobs / layer).unlink()
    refused(["-o", str(path), "packed:1"], f"blob sha256:{layer} of a layer is missing")
    (blobs / layer).write_bytes(good)
    rdock.ok("save", "-o", str(path), "packed:1")
    assert path.read_bytes() == saved(rdock, "packed:1")


def test_save_is_refused_on_a_terminal(own_rdock: Rdock) -> None:
    main, terminal = pty.openpty()
    try:
        done = subprocess.run(
            own_rdock.argv("save", "x"), env=own_rdock.environment(), stdout=terminal, stderr=subprocess.PIPE
        )
    finally:
        os.close(main)
        os.close(terminal)
    expected = b"rdock: cowardly refusing to save to a terminal. Use the -o flag or redirect\n"
    assert (done.returncode, done.stderr) == (1, expected)


# -- load and import -------------------------------------------------------------------------------


def test_load_for_a_platform(own_rdock: Rdock) -> None:
    result = own_rdock("load", "--platform", "linux/arm64", input=packed())
    assert result.code == 1 and "no image in the archive provides the specified platform (linux/arm64)" in result.err
    assert own_rdock.ok("load", "--platform", "linux/amd64", input=packed()) == "Loaded image: packed:1"
    result = own_rdock("image", "inspect", "--platform", "linux/arm64", "packed:1")
    assert (result.code, result.out) == (1, "[]\n")
    assert "was found but does not provide the specified platform (linux/arm64)" in result.err
    assert own_rdock("history", "--platform", "arm64", "packed:1").code == 1
    assert json.loads(own_rdock.ok("image", "inspect", "--platform", "linux/amd64", "packed:1"))


def test_load_of_a_hostile_directory(own_rdock: Rdock, tmp_path: Path) -> None:
    """Links in it lead nowhere."""
    secret = tmp_path / "secret"
    secret.write_text("{}")
    layout = tmp_path / "layout"
    layout.mkdir()
    (layout / "oci-layout").write_text("{}")
    (layout / "index.json").symlink_to(secret)
    result = own_rdock("load", "-i", str(layout))
    assert result.code == 1 and "neither a manifest.json nor an index.json" in result.err
    (layout / "manifest.json").write_text(json.dumps([{"Config": "../secret", "RepoTags": None, "Layers": []}]))
    result = own_rdock("load", "-i", str(layout))
    assert result.code == 1 and "leads outside" in result.err, result


@pytest.fixture
def web() -> Iterator[str]:
    """A server with a tree, redirects to it, and a trap."""
    tree = gzip.compress(directory(b"./") + file(b"./hello", b"from the web") + end())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            places = {"/moved": "/tree", "/round": "/round", "/away": "file:///etc/passwd", "/ftp": "ftp://x/y"}
            if self.path in places:
                self.send_response(302)
                self.send_header("Location", places[self.path])
                self.end_headers()
                return
            if self.path not in ("/tree", "/short"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(tree)))
            self.end_headers()
            self.wfile.write(tree if self.path == "/tree" else tree[:-20])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_import_from_the_web(own_rdock: Rdock, web: str) -> None:
    rdock = own_rdock
    for place in ("tree", "moved"):
        rdock.ok("import", f"{web}/{place}", f"{place}:1")
        assert rdock.ok("inspect", "-f", "{{.Comment}}", f"{place}:1") == f"Imported from {web}/{place}"
    rdock.ok("import", "--platform", "linux/arm64", f"{web}/tree", "arm")
    assert rdock.ok("inspect", "-f", "{{.Architecture}}", "arm") == "arm64"
    before = store(rdock)
    for place, message in {
        "nosuch": "404", "round": "redirect", "away": "is not allowed", "ftp": "it leads from http to ftp",
        "short": "it ended after",
    }.items():  # fmt: skip
        result = rdock("import", f"{web}/{place}", "bad:1")
        assert result.code == 1 and message in result.err and len(result.err.splitlines()) <= 2, result
        assert store(rdock) == before


# -- history, untag, prune, df ---------------------------------------------------------------------


def with_history() -> bytes:
    image = made.simple()
    steps = [
        {"created": "2024-01-01T00:00:00Z", "created_by": "/bin/sh -c #(nop) ADD file:" + "a" * 60 + " in / "},
        {"created": "2024-01-02T00:00:00Z", "created_by": 'CMD ["sh"]', "empty_layer": True, "comment": "buildkit"},
        {"created": "2024-01-02T00:00:00Z", "created_by": "RUN\tx\x1b[2J"},
    ]
    config = json.dumps(json.loads(image.config) | {"history": steps}).encode()
    return made.docker_archive((made.Image(config, image.layers), ["told:1"]))


def test_history(own_rdock: Rdock) -> None:
    rdock = own_rdock
    rdock.ok("load", input=with_history())
    image_id = rdock.ok("images", "-q", "--no-trunc")
    lines = rdock.ok("history", "told:1").splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]
    assert lines[1].startswith(image_id[7:19]) and "RUN x\\x1b[2J" in lines[1]
    assert lines[2].startswith("<missing>") and lines[2].rstrip().endswith("0B        buildkit")
    assert "…" in lines[3] and len(lines) == 4
    assert rdock.ok("history", "-q", "--no-trunc", "told:1").splitlines() == [image_id, "<missing>", "<missing>"]
    plain = rdock.ok("history", "-H=false", "--no-trunc", "told:1").splitlines()
    assert "CREATED AT" in plain[0] and "2024-01-01T00:00:00Z" in plain[3] and "a" * 60 in plain[3]
    assert rdock.ok("history", "--format", "{{.Size}} {{.Comment}}", "told:1").splitlines() == [
        "5B ",
        "0B buildkit",
        "6B ",
    ]
    assert json.loads(rdock.ok("history", "--format", "json", "told:1").splitlines()[1])["Comment"] == "buildkit"
    assert rdock("history", "nosuch").code == 1


def test_untag_and_exists(own_rdock: Rdock) -> None:
    rdock = own_rdock
    rdock.ok("load", input=packed())
    for name in ("b:1", "b:2", "c"):
        rdock.ok("tag", "packed:1", name)
    result = rdock("untag", "packed:1", "b:1", "nosuch")
    assert result.code == 1 and "No such image: nosuch:latest" in result.err
    assert rdock("image", "exists", "b:1").code == 0  # all or none
    rdock.ok("untag", "packed:1", "b:1", "b:2")
    assert [rdock("image", "exists", name).code for name in ("b:1", "b:2", "c")] == [1, 1, 0]
    rdock.ok("image", "untag", "c")
    assert rdock.ok("images", "--format", "{{.Repository}}:{{.Tag}}", "-f", "dangling=true") == "<none>:<none>"


def test_prune(own_rdock: Rdock) -> None:
    rdock = own_rdock
    rdock.ok("load", input=packed())
    rdock.ok("load", input=packed(b"nameless"))  # takes the name from the first
    rdock.ok("load", input=made.docker_archive((made.simple(b"lab", Labels={"keep": "yes"}), ["labelled:1"])))
    rdock.ok("create", "--network", "none", "rdock/starter", "true")
    asked = rdock("image", "prune", input="n\n")
    assert asked.code == 0 and "Total" not in asked.out
    assert asked.out == (
        "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] "
    )  # fmt: skip
    before = int(json.loads(rdock.ok("system", "df", "--format", "json").splitlines()[0])["TotalCount"])
    said = rdock.ok("image", "prune", "-f")
    assert said.startswith("Deleted Images:\ndeleted: sha256:") and re.search(r"\n\nTotal reclaimed space: \d", said)
    assert int(json.loads(rdock.ok("system", "df", "--format", "json").splitlines()[0])["TotalCount"]) == before - 1
    assert rdock.ok("image", "prune", "-f") == "Total reclaimed space: 0B"
    assert "untagged" not in rdock.ok("image", "prune", "-af", "--filter", "until=2020-01-01")
    assert "untagged: packed:1" in rdock.ok("image", "prune", "-af", "--filter", "label!=keep")
    assert "untagged: labelled:1" in rdock.ok("image", "prune", "-a", "-f", "--filter", "label=keep=yes")
    assert rdock.ok("images", "--format", "{{.Repository}}") == "rdock/starter"  # a container was made from it
    assert rdock("image", "prune", "-f", "--filter", "colour=red").err == "rdock: invalid filter 'colour'\n"
    assert rdock.ok("system", "check", "--images") == "no problems found"


def test_disk_usage(own_rdock: Rdock) -> None:
    """What two images share is counted once, and what would come free is what does."""
    rdock = own_rdock
    base = file(b"big", os.urandom(300_000)) + end()
    tops = [file(b"top", os.urandom(size)) + end() for size in (100_000, 50_000)]
    images = [(made.image(base, top), [f"top{number}:1"]) for number, top in enumerate(tops)]
    rdock.ok("load", input=made.docker_archive(*images))
    lines = [line.split() for line in rdock.ok("system", "df").splitlines()]
    assert lines[0] == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert lines[1][:3] == ["Images", "2", "0"] and lines[1][4:] == [lines[1][3], "(100%)"]
    assert 900 < float(lines[1][3].removesuffix("kB")) < 920  # each part once as a file, once as a blob
    assert lines[3] == ["Local", "Volumes", "0", "0", "0B", "0B"] and lines[4] == [
        "Build",
        "Cache",
        "0",
        "0",
        "0B",
        "0B",
    ]
    rdock.ok("create", "--network", "none", "top0:1", "x")
    (kind, total, active, *_, freed, _), *_ = (
        line.split() for line in rdock.ok("system", "df").splitlines()[1:]
    )  # fmt: skip
    assert (kind, total, active) == ("Images", "2", "1") and 100 < float(freed.removesuffix("kB")) < 110
    verbose = json.loads(rdock.ok("system", "df", "-v", "--format", "json"))
    rows = {row["Repository"]: row for row in verbose["Images"]}
    assert rows["top0"]["SharedSize"] == rows["top1"]["SharedSize"] != "0B"
    assert [rows[name]["Containers"] for name in ("top0", "top1")] == ["1", "0"] and len(verbose["Containers"]) == 1
    shown = rdock.ok("system", "df", "-v")
    for title in (
        "Images space usage:",
        "Containers space usage:",
        "Local Volumes space usage:",
        "Build cache usage: 0B",
    ):
        assert title in shown.splitlines()
    said = rdock.ok("image", "prune", "-af")
    assert freed in said.splitlines()[-1]


def test_images_as_a_tree_and_by_age(own_rdock: Rdock) -> None:
    rdock = own_rdock
    rdock.ok("load", input=packed())
    lines = rdock.ok("images", "--tree").splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"]
    assert lines[1].startswith("packed:1 ") and lines[2].startswith("└─ linux/amd64 ")
    assert rdock("images", "--tree", "-q").err == "rdock: --quiet is not yet supported with --tree\n"
    assert rdock.ok("images", "-q", "-f", "until=2024-01-01") == ""
    assert rdock.ok("images", "-q", "-f", "until=24h") != ""


# -- repair ----------------------------------------------------------------------------------------


def test_a_changed_layer_is_found_and_repaired(own_rdock: Rdock) -> None:
    rdock = own_rdock
    rdock.ok("run", "--name", "box", "--network", "none", "rdock/starter", "sh", "-c", "echo mine >/kept")
    (layer,) = (rdock.home.data / "layers").glob("*/diff")
    chain = layer.parent.name[:12]
    (layer / "etc").mkdir(exist_ok=True)
    (layer / "bin" / "busybox").chmod(0o644)
    (layer / "etc" / "planted").write_text("x")
    assert rdock.ok("system", "check") == "no problems found"
    result = rdock("system", "check", "--images")
    assert result.code == 1 and result.out.startswith(f"layer {chain}: changed since it was unpacked: "), result
    assert "bin/busybox" in result.out and "etc/planted" in result.out
    said = rdock.ok("system", "check", "--images", "--repair").splitlines()
    assert said == [f"repaired: {result.out.strip()}", "no problems found"]
    rdock.ok("start", "-a", "box")
    assert rdock.ok("run", "--rm", "--network", "none", "rdock/starter", "ls", "-l", "/bin/busybox").startswith("-rwx")
    shutil.rmtree(layer)
    assert rdock("system", "check").out == f"layer {chain}: its files are missing\n"
    assert rdock.ok("system", "check", "-r").splitlines()[-1] == "no problems found"
    rdock.ok("start", "-a", "box")


def test_a_layer_in_use_is_not_replaced(own_rdock: Rdock) -> None:
    rdock = own_rdock
    box = rdock.ok("run", "-d", "--network", "none", "rdock/starter", "sleep", "1000")
    if rdock.ok("inspect", "-f", "{{.GraphDriver.Name}}", box) == "copy":
        pytest.skip("containers have trees of their own")
    (layer,) = (rdock.home.data / "layers").glob("*/diff")
    (layer / "planted").write_text("x")
    result = rdock("system", "check", "--images", "--repair")
    assert result.code == 1 and "a running container stands on it; stop it and repair again" in result.out, result
    assert (layer / "planted").exists()
    rdock.ok("rm", "-f", box)
    assert rdock.ok("system", "check", "--images", "--repair").splitlines()[-1] == "no problems found"
    assert not (rdock.home.data / "layers" / layer.parent.name / "diff" / "planted").exists()


def test_what_cannot_be_repaired_is_told_and_can_be_loaded_again(own_rdock: Rdock) -> None:
    rdock = own_rdock
    rdock.ok("load", input=packed())
    digests = rdock.ok("image", "inspect", "-f", IDS, "packed:1")
    config, manifest = digests.replace("sha256:", "").split()
    blobs = rdock.home.data / "images/blobs/sha256"
    layer = next(name for name in os.listdir(blobs) if name not in (config, manifest))
    for name in (layer, config, manifest):
        good = (blobs / name).read_bytes()
        (blobs / name).write_bytes(good[:-1] + b"?")
        result = rdock("system", "check", "--images", "--repair")
        assert result.code == 1, result
        assert f"image {config[:12]} (packed:1) cannot be repaired: " in result.out, result
        assert result.out.rstrip().endswith("; load it again")
        rdock.ok("load", input=packed())
        assert rdock.ok("image", "inspect", "-f", IDS, "packed:1") == digests
        assert rdock.ok("system", "check", "--images") == "no problems found"


# -- several at once -------------------------------------------------------------------------------


@pytest.mark.slow
def test_related_images_come_and_go_at_once(own_rdock: Rdock, tmp_path: Path) -> None:
    """Loads, removals, prunes, tags and saves by several processes never lose a layer of an image that is listed."""
    rdock = own_rdock
    base = file(b"base", os.urandom(200_000)) + end()
    middle = file(b"middle", os.urandom(100_000)) + end()
    for number in range(4):
        top = file(b"top", b"%d" % number) + end()
        image = made.image(base, *([middle] if number % 2 else []), top)
        (tmp_path / f"{number}.tar").write_bytes(made.docker_archive((image, [f"top{number}:1"])))
    rdock("images")
    scripts = [
        f"for i in $(seq 45); do $R load -qi {tmp_path}/{n}.tar; $R tag top{n}:1 also{n}:$i; $R rmi top{n}:1; done"
        for n in range(4)
    ]
    scripts += [
        "for i in $(seq 60); do $R image prune -f; $R rmi also0:$i also1:$i also2:$i also3:$i; done",
        "for i in $(seq 30); do $R image prune -af; sleep 0.3; done",
        f"for i in $(seq 60); do $R save -o {tmp_path}/s top1:1 && tar tf {tmp_path}/s >/dev/null || $R images; done",
    ]
    environment = rdock.environment() | {"R": " ".join(rdock.argv())}
    running = [
        subprocess.Popen(["sh", "-c", script], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for script in scripts
    ]
    for process in running:
        _, errors = process.communicate(timeout=300)
        for line in errors.decode().splitlines():
            assert "No such image" in line, line
    for number in range(4):
        rdock.ok("load", "-qi", str(tmp_path / f"{number}.tar"))
    assert rdock.ok("system", "check", "--images") == "no problems found"
    rdock.ok("image", "prune", "-af")
    rdock.ok("images")
    assert not [name for name in store(rdock) if "blobs/sha256/" in name or name.startswith("layers/")]
