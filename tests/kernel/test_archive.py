"""Image archives into a real store: what is loaded, what is refused, and that refusals and kills leave nothing."""

from __future__ import annotations

import gzip
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdock import paths
from rdock.errors import Conflict, InvalidParameter, NoSuchImage, RdockError, SystemFailure
from rdock.image import archive, blobs, images, journal
from rdock.image.images import Use
from rdock.linux import process
from rdock.linux.tree import remove_path
from rdock.storage import layers
from tests.payload import image_archives as made
from tests.payload.tars import directory, end, file, header

InNamespace = Callable[..., Any]
NAME = "docker.io/library/app:1"


@pytest.fixture
def in_store(in_namespace: InNamespace, tmp_path: Path) -> InNamespace:
    """Call a function as root of a namespace with an empty store; afterwards nothing but that store's frame is left."""

    def call(function: Callable[..., Any], *args: Any) -> Any:
        return in_namespace(_with_store, str(tmp_path), function, args)

    return call


def _with_store(base: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    use_store(base)
    try:
        return function(*args)
    finally:
        remove_path(paths.data())


def use_store(base: str) -> None:
    os.environ["XDG_DATA_HOME"] = base
    paths._home.clear()
    os.chdir(base)


def load(data: bytes, *, pipe: bool = False) -> list[str]:
    """Load an archive from a file or a pipe; the lines that are said."""
    said: list[str] = []
    if pipe:
        fd, write_end = os.pipe()
        writer = threading.Thread(target=_feed, args=(write_end, data))
        writer.start()
    else:
        fd = os.memfd_create("archive")
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
    try:
        archive.load(fd, say=said.append)
    finally:
        os.close(fd)
        if pipe:
            writer.join()
    return said


def _feed(fd: int, data: bytes) -> None:
    try:
        with open(fd, "wb") as stream:
            stream.write(data)
    except BrokenPipeError:
        pass


def content() -> dict[str, list[str]]:
    """What is in the store, by kind."""
    return {
        "images": sorted(image.id for image in images.list_images()),
        "blobs": _names(paths.blobs()),
        "layers": _names(paths.layers()),
        "staging": _names(paths.staging()),
    }


def _names(directory_: str) -> list[str]:
    try:
        return sorted(os.listdir(directory_))
    except FileNotFoundError:
        return []


def check_store() -> None:
    """Everything that is there is needed, complete and right; nothing half-made is left."""
    needed: set[str] = set()
    chains: set[str] = set()
    for image in images.list_images():
        images.root_directories(image)
        needed |= {image.manifest_digest[7:], image.id, *(layer.digest[7:] for layer in image.manifest.layers)}
        chains |= set(image.chain_ids)
        for name in (image.manifest_digest, *(layer.digest for layer in image.manifest.layers)):
            assert made.digest(b"".join(blobs.chunks(name))) == name
    found = content()
    assert found["staging"] == []
    assert set(found["blobs"]) == needed
    assert {name.removesuffix("-single") for name in found["layers"]} == chains


def check_empty() -> None:
    assert content() == {"images": [], "blobs": [], "layers": [], "staging": []}


# -- loading -------------------------------------------------------------------------------------


def _forms() -> dict[str, bytes]:
    found = made.simple()
    packed = [gzip.compress(layer, mtime=0) for layer in found.layers]
    squeezed = found._replace(layers=packed)
    tags = ["app:1"]
    name = {"io.containerd.image.name": NAME}
    gz = "application/vnd.oci.image.layer.v1.tar+gzip"
    return {
        "docker": made.docker_archive((found, tags)),
        "docker, manifest last": made.docker_archive((found, tags), manifest_last=True),
        "docker, links between layers": made.docker_archive((found, tags), old_links=True),
        "docker, compressed layers": made.docker_archive((squeezed, tags)),
        "oci": made.oci_archive(found, name),
        "oci, compressed layers": made.oci_archive(squeezed, name, media_type=gz),
        "oci, name in the other annotation": made.oci_archive(found, {"org.opencontainers.image.ref.name": "app:1"}),
        "oci, index in the index": made.oci_archive(found, name, nested=True),
        "docker, gzip": gzip.compress(made.docker_archive((found, tags))),
    }


def _load_all_forms(name: str) -> None:
    data = _forms()[name]
    found = made.simple()
    for pipe in (False, True):
        assert load(data, pipe=pipe) == ["Loaded image: app:1"]
        image = images.lookup("app:1")
        assert (image.id, image.references) == (found.id, (NAME,))
        upper, lower = images.root_directories(image)
        assert Path(lower, "etc/name").read_bytes() == Path(upper, "added").read_bytes() == b"hello"
        assert os.stat(os.path.join(upper, "etc/gone"), follow_symlinks=False).st_rdev == 0
        check_store()
        # The same again changes nothing.
        before = content()
        assert load(data, pipe=not pipe) == ["Loaded image: app:1"]
        assert content() == before
        assert images.remove_image("app:1")[0] == "Untagged: app:1"
        check_empty()


@pytest.mark.parametrize("name", _forms())
def test_every_form_of_an_archive_gives_the_same_image(in_store: InNamespace, name: str) -> None:
    in_store(_load_all_forms, name)


def _keeps_digests() -> None:
    found = made.simple()
    packed = [gzip.compress(layer, mtime=0) for layer in found.layers]
    data = made.oci_archive(found._replace(layers=packed), media_type="application/vnd.oci.image.layer.v1.tar+gzip")
    assert load(data) == [f"Loaded image ID: sha256:{found.id}"]
    image = images.lookup(found.id[:12])
    assert [layer.digest for layer in image.manifest.layers] == [made.digest(layer) for layer in packed]
    assert image.tags == [] and image.manifest_digest in data.decode("latin-1")


def test_blobs_and_manifest_are_kept_as_they_came(in_store: InNamespace) -> None:
    in_store(_keeps_digests)


def _odd_names() -> None:
    found = made.simple()
    for name in ("latest", "1.0+x86_64", "My:Tag", "a/B/c"):
        assert load(made.oci_archive(found, {"org.opencontainers.image.ref.name": name})) == [
            f"Loaded image ID: sha256:{found.id}"
        ]
    assert images.lookup(found.id).tags == []


def test_an_oci_name_that_is_none_for_docker_leaves_the_image_without(in_store: InNamespace) -> None:
    in_store(_odd_names)


def _several() -> None:
    first, second = made.simple(b"1"), made.simple(b"2", User="x")
    said = load(made.docker_archive((first, ["a:1", "b"]), (second, [])))
    assert said == ["Loaded image: a:1", "Loaded image: b:latest", f"Loaded image ID: sha256:{second.id}"]
    check_store()


def test_several_images_in_one_archive(in_store: InNamespace) -> None:
    in_store(_several)


# -- refusing ------------------------------------------------------------------------------------


def _bad() -> dict[str, bytes]:
    found = made.simple()
    good = made.docker_archive((found, ["app:1"]))
    wrong = made.image(b"".join([file(b"other"), end()]), stored=found.layers[:1])

    def with_layers(text: str) -> bytes:
        manifest = f'[{{"Config":"{found.id}.json","RepoTags":["app:1"],"Layers":{text}}}]'
        return made.docker_archive((found, ["app:1"]), manifest_json=manifest.encode())

    cases = {
        "empty": b"",
        "zeros": bytes(10240),
        "text": b"no archive at all\n" * 1000,
        "tar of something else": file(b"hello", b"x") + end(),
        "docker: wrong DiffID": made.docker_archive((wrong, ["app:1"])),
        "docker: layer missing": with_layers('["x","y"]'),
        "docker: too few layers": with_layers("[]"),
        "docker: layers no list": with_layers('"x"'),
        "docker: bad tag": made.docker_archive((found, ["APP"])),
        "docker: manifest no JSON": made.docker_archive((found, []), manifest_json=b"{" * 5000),
        "docker: manifest empty": made.docker_archive((found, []), manifest_json=b"[]"),
        "docker: config outside": made.docker_archive(
            (found, []), manifest_json=b'[{"Config":"../../../etc/passwd","RepoTags":null,"Layers":[]}]'
        ),
        "docker: manifest huge": made.docker_archive((found, []), manifest_json=b" " * (5 << 20)),
        "docker: windows": made.docker_archive((made.Image(b'{"os":"windows"}', []), [])),
        "docker: second image bad": made.docker_archive((found, ["a"]), (wrong, ["b"])),
        "docker: layer loops": header(b"a", b"2", link=b"b") + header(b"b", b"2", link=b"a")
        + with_layers('["a","b"]'),
        "member outside": file(b"../evil", b"x") + good,
        "member absolute outside": file(b"/../../evil", b"x") + good,
        "oci: size of layer": made.oci_archive(found, damage="short layer0"),
        "oci: name": made.oci_archive(found, {"io.containerd.image.name": "BAD NAME"}),
        "oci: second layer cut": made.oci_archive(found, damage="short layer1"),
        "oci: layer is no tar": made.oci_archive(made.image(b"not a tar" * 100)),
        "oci: layer hostile": made.oci_archive(made.image(file(b"../../evil", b"x") + end())),
    }  # fmt: skip
    for part in ("config", "manifest", "layer0", "layer1"):
        cases[f"oci: damaged {part}"] = made.oci_archive(found, damage=part)
        cases[f"oci: no {part}"] = made.oci_archive(found, damage=f"no {part}")
    return cases


def _refuse(data: bytes) -> None:
    for pipe in (False, True):
        with pytest.raises(RdockError) as caught:
            load(data, pipe=pipe)
        assert "\n" not in caught.value.message and len(caught.value.message) < 500
        check_empty()
        assert sorted(os.listdir(".")) == ["rdock"]


@pytest.mark.parametrize("name", _bad())
def test_a_bad_archive_is_refused_and_leaves_nothing(in_store: InNamespace, name: str) -> None:
    in_store(_refuse, _bad()[name])


def _huge_documents() -> None:
    size = 1 << 30
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), resource.RLIM_INFINITY))
    for before, name in ((b"", b"manifest.json"), (file(b"oci-layout", b"{}"), b"index.json")):
        fd = os.memfd_create("archive")
        os.write(fd, before + header(name, size=size))
        os.ftruncate(fd, len(before) + 512 + size + 1024)
        os.lseek(fd, 0, os.SEEK_SET)
        with pytest.raises(RdockError, match="larger than 4 MiB"):
            archive.load(fd)
        os.close(fd)
        check_empty()


def test_a_document_of_a_gigabyte_is_not_read_into_memory(in_store: InNamespace) -> None:
    in_store(_huge_documents)


def _refuse_cut_off() -> None:
    found = made.simple()
    for data in (made.docker_archive((found, ["a"])), made.oci_archive(found), gzip.compress(made.oci_archive(found))):
        for cut in sorted({*range(0, len(data) - 1024, max(1, len(data) // 23)), len(data) - 1500}):
            for pipe in (False, True):
                with pytest.raises(RdockError):
                    load(data[:cut], pipe=pipe)
                check_empty()


def test_an_archive_cut_off_anywhere_is_refused(in_store: InNamespace) -> None:
    in_store(_refuse_cut_off)


def _damage_beside() -> None:
    """What is in the store stays right when something damaged that claims to be the same is loaded."""
    found = made.simple()
    load(made.oci_archive(found, {"io.containerd.image.name": NAME}))
    before = content()
    for damage in ("layer0", "layer1", "config", "manifest"):
        for pipe in (False, True):
            try:
                load(made.oci_archive(found, {"io.containerd.image.name": "other"}, damage=damage), pipe=pipe)
            except RdockError:
                pass
            assert {**content(), "images": before["images"]} == before
            check_store()
    # A layer whose content is not what the config says, where the right one is already unpacked.
    images.remove_image(found.id, force=True)
    packed = [gzip.compress(layer) for layer in found.layers]
    load(made.docker_archive((found._replace(layers=packed), ["app:1"])))
    before = content()
    other = [gzip.compress(file(b"other") + end()), packed[1]]
    for pipe in (False, True):
        with pytest.raises(RdockError, match="content has the digest"):
            load(made.docker_archive((made.Image(found.config + b" ", other), ["x"])), pipe=pipe)
        assert content() == before


def test_damaged_copies_do_not_harm_what_is_there(in_store: InNamespace) -> None:
    in_store(_damage_beside)


def _disk_full() -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m,mode=700", "none", "."], check=True)
    os.chdir(os.getcwd())
    big = made.image(file(b"big", os.urandom(1 << 20) * 40) + end())
    for data in (made.docker_archive((big, ["a"])), made.oci_archive(big)):
        for pipe in (False, True):
            with pytest.raises(SystemFailure, match="no space left"):
                load(data, pipe=pipe)
            check_empty()


def test_a_full_disk_leaves_nothing(in_store: InNamespace) -> None:
    in_store(_disk_full)


# -- import --------------------------------------------------------------------------------------


def _import(data: bytes, say: Callable[[str], None] = lambda _: None, **options: Any) -> str:
    fd = os.memfd_create("tree")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        return archive.import_tree(blobs.read_chunks(fd), archive.Import(**options), say=say)
    finally:
        os.close(fd)


def _import_trees() -> None:
    import bz2
    import lzma

    tree = directory(b"./") + file(b"./etc/name", b"hello") + end()
    for packed, kind in (
        (tree, ""), (gzip.compress(tree), "+gzip"), (lzma.compress(tree), ""), (bz2.compress(tree), "")
    ):  # fmt: skip
        said: list[str] = []
        image_id = _import(
            packed, name="tree", message="by hand", say=said.append,
            changes=('CMD ["sh", "-c", "x"]', "ENV A=1 B='2 3'", "EXPOSE 80 53/udp", "LABEL a=b", "USER u",
                     "WORKDIR /w", "VOLUME /data", "ENTRYPOINT echo $A", "HEALTHCHECK --interval=1m30s CMD true"),
        )  # fmt: skip
        assert said == [f"sha256:{image_id}"]
        image = images.lookup("tree")
        config = image.config
        assert image.manifest.layers[0].media_type == "application/vnd.oci.image.layer.v1.tar" + kind
        assert (config.cmd, config.entrypoint) == (("sh", "-c", "x"), ("/bin/sh", "-c", "echo $A"))
        assert (config.env, config.labels, config.user) == (("A=1", "B=2 3"), {"a": "b"}, "u")
        assert (config.exposed_ports, config.volumes) == (("80/tcp", "53/udp"), ("/data",))
        assert config.healthcheck == {"Interval": 90 * 10**9, "Test": ["CMD-SHELL", "true"]}
        assert config.history[0]["comment"] == "by hand" and time.time() - 60 < image.created <= time.time()
        (root,) = images.root_directories(image)
        assert Path(root, "etc/name").read_bytes() == b"hello"
        check_store()
        images.remove_image(image_id)
        check_empty()
    for bad in (b"", b"text", tree[:700], gzip.compress(tree)[:-9], lzma.compress(tree)[:-30], file(b"../x") + end()):
        with pytest.raises(RdockError):
            _import(bad)
        check_empty()
    for options in ({"name": "BAD"}, {"changes": ["RUN x"]}, {"changes": ["ENV"]}, {"changes": ["EXPOSE 99999"]}):
        with pytest.raises(InvalidParameter):
            _import(tree, **options)
        check_empty()


def test_import_of_a_root_tree(in_store: InNamespace) -> None:
    in_store(_import_trees)


# -- names and removal ---------------------------------------------------------------------------


def _names_and_removal() -> None:
    first, second = made.simple(b"1"), made.simple(b"2")
    load(made.docker_archive((first, ["app:1"]), (second, ["host:5000/other"])))
    whole = f"sha256:{first.id}"
    for name in ("app:1", "docker.io/library/app:1", first.id, whole, first.id[:6], whole[:12]):
        assert images.lookup(name).id == first.id
    for name, shown in [("app", "app:latest"), ("f" * 64, "f" * 64), ("x/y:z", "x/y:z")]:
        with pytest.raises(NoSuchImage, match=f"^No such image: {shown}$"):
            images.lookup(name)
    with pytest.raises(InvalidParameter):
        images.lookup("APP")
    images.tag("app:1", "app:2")
    images.tag(first.id[:12], "mine/app")
    assert images.lookup("app:2").tags == ["app:1", "app:2", "mine/app:latest"]
    with pytest.raises(Conflict, match=r"conflict: unable to delete .{12} \(must be forced\) - image is referenced"):
        images.remove_image(first.id)
    assert images.remove_image("app:2") == ["Untagged: app:2"]

    def used(*, running: bool) -> Callable[[], list[Use]]:
        return lambda: [Use("c" * 64, first.id, running)]

    images.remove_image("mine/app")
    refused = [
        ("app:1", False, False, r'unable to remove repository reference "app:1" \(must force\) - container c{12} is'),
        (first.id, False, False, r"\(must be forced\) - image is being used by stopped container c{12}$"),
        (first.id, True, True, r"\(cannot be forced\) - image is being used by running container c{12}$"),
    ]
    for name, running, force, words in refused:
        with pytest.raises(Conflict, match=words):
            images.remove_image(name, force=force, uses=used(running=running))
    # Forced, it loses its name and stays for its container.
    assert images.remove_image("app:1", force=True, uses=used(running=True)) == ["Untagged: app:1"]
    assert images.lookup(first.id).tags == []
    check_store()
    assert images.remove_image(first.id[:12]) == [
        f"Deleted: sha256:{first.id}",
        *(f"Deleted: sha256:{chain}" for chain in _chains_top_first(first)),
    ]
    assert images.remove_image("host:5000/other:latest")[0] == "Untagged: host:5000/other:latest"
    check_empty()


def _chains_top_first(found: made.Image) -> list[str]:
    from rdock.image.manifest import ImageConfig, chain_ids

    return chain_ids(ImageConfig.from_json(found.config).diff_ids)[::-1]


def test_names_lookup_and_removal(in_store: InNamespace) -> None:
    in_store(_names_and_removal)


def _shared_layers() -> None:
    base = directory(b"etc") + end()
    top = file(b"etc/x") + end()
    lower, both = made.image(base), made.image(base, top)
    load(made.docker_archive((lower, ["lower"]), (both, ["both"])))
    gone = images.remove_image("lower")
    assert gone == ["Untagged: lower:latest", f"Deleted: sha256:{lower.id}"], "the layer is still needed"
    check_store()
    assert len(images.remove_image("both")) == 4
    check_empty()
    # A name that moves leaves the old image without one.
    load(made.docker_archive((lower, ["x"])))
    load(made.docker_archive((both, ["x"])))
    assert images.lookup(lower.id).tags == [] and images.lookup("x").id == both.id
    with pytest.raises(InvalidParameter, match="ambiguous"):
        _load_until_ambiguous()


def _load_until_ambiguous() -> None:
    for number in range(40):
        load(made.docker_archive((made.simple(User=str(number)), [])))
    for digit in "0123456789abcdef":
        images.find(digit)


def test_layers_are_shared_and_names_move(in_store: InNamespace) -> None:
    in_store(_shared_layers)


# -- other processes -----------------------------------------------------------------------------


def _spawn(function: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        except BaseException as e:
            os.write(2, f"{type(e).__name__}: {e}\n".encode())
        finally:
            os._exit(code)
    return pid


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _parallel() -> None:
    found = made.image(*(file(b"f%d" % i, bytes([i]) * 300_000) + end() for i in range(6)))
    data = made.docker_archive((found, ["app"]))
    children = [_spawn(lambda pipe=pipe: load(data, pipe=pipe)) for pipe in [False, True] * 4]  # type: ignore[misc]
    assert [_wait(pid) for pid in children] == [0] * 8
    journal.sweep()
    check_store()
    assert images.lookup("app").id == found.id


def test_parallel_loads_of_one_image(in_store: InNamespace) -> None:
    in_store(_parallel)


def _load_and_remove(data: bytes, name: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        load(data)
        try:
            # Somebody else may have removed it.
            images.root_directories(images.lookup(name))
            images.remove_image(name)
        except NoSuchImage:
            pass
        except RdockError as e:
            if "no such blob" not in e.message and "not unpacked" not in e.message:
                raise


def _parallel_removal() -> None:
    base = directory(b"etc") + file(b"etc/name", b"x" * 100_000) + end()
    archives = {
        name: made.docker_archive((made.image(base, file(b"own", name.encode()) + end()), [name])) for name in "abc"
    }
    children = [
        _spawn(lambda name=name, data=data: _load_and_remove(data, name, 3))  # type: ignore[misc]
        for name, data in [*archives.items(), *archives.items()]
    ]
    assert [_wait(pid) for pid in children] == [0] * 6
    journal.sweep()
    check_store()
    for data in archives.values():
        load(data)
    check_store()


def test_loading_and_removing_at_the_same_time(in_store: InNamespace) -> None:
    in_store(_parallel_removal)


def _load_once(data: bytes, pipe: bool) -> None:
    load(data, pipe=pipe)
    images.remove_image("app")


def _kill(times: int) -> None:
    chance = random.Random(7)
    found = made.image(*(file(b"f%d" % i, os.urandom(100_000)) + directory(b"d/" * 30) + end() for i in range(4)))
    data = made.docker_archive((found, ["app"]))
    started = time.monotonic()
    load(data)
    images.remove_image("app")
    whole = time.monotonic() - started
    outcomes = set()
    for number in range(times):
        pid = _spawn(lambda pipe=number % 2 == 0: _load_once(data, pipe))  # type: ignore[misc]
        time.sleep(chance.random() * whole * 1.2)
        os.kill(pid, signal.SIGKILL)
        _wait(pid)
        journal.sweep()
        check_store()
        outcomes.add(len(content()["images"]))
        if number % 5 == 0:
            load(data)
            check_store()
            images.remove_image("app")
    # Who is killed at removing may leave the image without a name.
    for image in images.list_images():
        images.remove_image(image.id)
    check_empty()


def test_a_kill_leaves_nothing_that_the_next_command_does_not_clear_away(in_store: InNamespace) -> None:
    in_store(_kill, 40)


@pytest.mark.slow
def test_a_hundred_kills(in_store: InNamespace) -> None:
    in_store(_kill, 150)


# -- layers in other conditions ------------------------------------------------------------------


def _other_boot() -> None:
    load(made.docker_archive((made.simple(), ["app:1"])))
    image = images.lookup("app:1")
    top = image.chain_ids[-1]
    record_ = Path(layers.directory(top), "layer.json")
    record_.write_text(record_.read_text().replace(process.boot_id(), "11111111-1111-1111-1111-111111111111"))
    Path(layers.directory(top), "diff", "added").write_bytes(b"lost")
    assert layers.find(top) is None
    upper = images.root_directories(image)[0]
    assert Path(upper, "added").read_bytes() == b"hello", "made again from the blob"
    # An empty record is what a power cut leaves.
    record_.write_bytes(b"")
    assert images.root_directories(image)[0] == upper
    assert images.root_directories(image)[0] == f"{layers.directory(top)}/diff"
    os.utime(record_, (1, 1))
    layers.settle_all()
    assert layers.get(top).boot == "" and layers.get(image.chain_ids[0]).boot != ""
    check_store()


def test_a_layer_of_a_lost_boot_is_unpacked_again(in_store: InNamespace) -> None:
    in_store(_other_boot)


SINGLE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from rdock import paths
from rdock.image import archive, images
said = []
if len(sys.argv) > 2:
    archive.load(archive.open_file(sys.argv[2]), warn=said.append)
(root,) = images.root_directories(images.lookup("app"))
about = os.lstat(root + "/f")
print(os.path.basename(os.path.dirname(root))[64:] or "full", about.st_uid, about.st_gid, oct(about.st_mode & 0o7777))
print(*said)
"""


def _run(ids: list[str], home: Path, *words: str) -> list[str]:
    command = ["unshare", "--user", "--map-root-user", *ids, sys.executable, "-c", SINGLE]
    command.append(str(Path(__file__).parents[2]))
    environment = {**os.environ, "XDG_DATA_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run([*command, *words], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.noids
def test_one_id_only(tmp_path: Path) -> None:
    _check_one_id(tmp_path)


def test_layers_of_one_id_mode_are_not_mixed_with_others(tmp_path: Path, in_namespace: InNamespace) -> None:
    try:
        _check_one_id(tmp_path)
        assert _run(["--map-auto"], tmp_path)[0] == "full 33 44 0o4755"
        assert _run([], tmp_path)[0] == "-single 0 0 0o4755"
    finally:
        in_namespace(remove_path, str(tmp_path / "rdock"))


def _check_one_id(home: Path) -> None:
    layer = file(b"f", b"x", uid=33, gid=44, mode=0o4755) + file(b"g") + end()
    data = made.docker_archive((made.image(layer), ["app"]))
    (home / "app.tar").write_bytes(data)
    found, said = _run([], home, str(home / "app.tar"))
    assert found == "-single 0 0 0o4755"
    assert said.startswith("1 files belong to other users")
