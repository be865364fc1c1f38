"""Archives of random trees: what Python's tarfile or rdock writes is unpacked to the same tree, and both read the same.

And of damaged and hostile ones: whatever is in them, there is a tree or a refusal, and nothing outside is touched.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rdock.errors import DataLoss, InvalidParameter, SystemFailure
from rdock.image import layer, packing
from rdock.image.tar import Entry, Reader, Stream
from rdock.linux.mount import mount
from rdock.linux.tree import remove_path
from rdock.storage import remembered
from rdock.storage.copytree import merge
from rdock.storage.differences import compare
from rdock.storage.union import Union
from tests.namespace import with_one_id
from tests.payload import tars
from tests.properties.trees import Format, Node, Tree, by_tarfile, expected, on_disk, trees

InNamespace = Callable[..., Any]

FORMATS: st.SearchStrategy[Format] = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
PIECES = st.sampled_from([1, 7, 511, 512, 1 << 20])
# Each of these makes trees on a disk, several times as slow as the other properties.
FEWER = settings(max_examples=settings.default.max_examples // 2 if settings.default else 50)


def split(data: bytes, size: int = 1 << 20) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def unpack(data: bytes, target: Path) -> None:
    target.mkdir()
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        layer.apply(split(data), fd)
    finally:
        os.close(fd)


def pack(*stack: Path, base: Path | None = None) -> bytes:
    with Union([str(path) for path in stack]) as now, Union([str(base)] if base else []) as before:
        changes = compare(now, before if base else None)
        notes: list[str] = []
        data = b"".join(packing.pack(changes, now, is_layer=base is not None, note=notes.append))
        assert not notes
        return data


@contextmanager
def directory(place: Path) -> Iterator[Path]:
    """One that is there for an example."""
    path = Path(tempfile.mkdtemp(dir=place))
    try:
        yield path
    finally:
        remove_path(str(path))


# -- honest ----------------------------------------------------------------------------------------


@given(trees(), FORMATS, PIECES)
def test_both_readers_see_the_same(tree: Tree, form: Format, size: int) -> None:
    data = by_tarfile(tree, form)
    reader = Reader(Stream(split(data, size)), strict_end=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            entry = reader.next()
            assert entry is not None
            name = os.fsencode(info.name) + (b"/" if info.isdir() else b"")
            assert (entry.name, entry.kind) == (name, info.type)
            assert (entry.mode, entry.uid, entry.gid, entry.size) == (info.mode, info.uid, info.gid, info.size)
            assert entry.mtime == int(info.mtime) * 10**9 and entry.link == os.fsencode(info.linkname)
            file = archive.extractfile(info) if info.isreg() else None
            assert b"".join(reader.data()) == (file.read() if file else b"")
    assert reader.next() is None


def test_what_is_unpacked_is_what_was_packed(in_namespace: InNamespace, tmp_path: Path) -> None:
    @given(trees(), FORMATS)
    @FEWER
    def check(tree: Tree, form: Format) -> None:
        with directory(tmp_path) as place:
            unpack(by_tarfile(tree, form), place / "root")
            assert on_disk(place / "root") == expected(tree)
            # By our own hand, and once more.
            data = pack(place / "root")
            unpack(data, place / "again")
            assert on_disk(place / "again") == expected(tree)
            assert pack(place / "again") == data
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                # The root is in it only where the first name looks like a compressed file's beginning.
                assert {os.fsencode(info.name) for info in archive} - {b"."} == set(tree)

    in_namespace(check)


def test_a_layer_of_the_changes_makes_the_new_tree_of_the_old(in_namespace: InNamespace, tmp_path: Path) -> None:
    @given(trees(), trees())
    @FEWER
    def check(old: Tree, new: Tree) -> None:
        with directory(tmp_path) as place:
            unpack(by_tarfile(old, tarfile.PAX_FORMAT), place / "old")
            unpack(by_tarfile(new, tarfile.PAX_FORMAT), place / "new")
            unpack(pack(place / "new", base=place / "old"), place / "layer")
            (place / "merged").mkdir()
            merge([str(place / "layer"), str(place / "old")], str(place / "merged"), share=False)
            found, wanted = on_disk(place / "merged"), expected(new)
            for node in [*found.values(), *wanted.values()]:
                # A link between what has changed and what has not is not kept, as by an overlay; the time of a
                # directory alone is no change.
                node.pop("links", None)
                if node["kind"] == "directory":
                    del node["time"]
            assert found == wanted
            with Union([str(place / "layer"), str(place / "old")]) as stack, Union([str(place / "new")]) as whole:
                assert [change.path for change in compare(stack, whole)] == []

    in_namespace(check)


@given(trees(), st.data())
def test_an_archive_that_is_cut_off_is_refused(tree: Tree, data: st.DataObject) -> None:
    whole = by_tarfile(tree, tarfile.GNU_FORMAT)
    end = whole.rstrip(b"\0")
    cut = data.draw(st.integers(0, len(end) + -len(end) % 512))
    try:
        _read_all(whole[:cut], strict_end=True)
    except DataLoss as e:
        assert e.message.startswith("invalid tar archive: ")
    else:
        raise AssertionError("it was taken for whole")


def _read_all(data: bytes, *, strict_end: bool = False) -> list[Entry]:
    reader = Reader(Stream(split(data)), strict_end=strict_end)
    found = []
    while (entry := reader.next()) is not None:
        sum(map(len, reader.data()))
        found.append(entry)
    return found


# -- damaged ---------------------------------------------------------------------------------------


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An archive with bytes changed; of a header that was changed the sum may be right all the same."""
    data = bytearray(by_tarfile(draw(trees().filter(bool)), draw(FORMATS)))
    for _ in range(draw(st.integers(1, 4))):
        block = draw(st.integers(0, len(data.rstrip(b"\0")) // 512)) * 512
        # The fields, more often than the names that take most of the place.
        at = block + draw(st.integers(0, 511) | st.integers(100, 156) | st.integers(156, 158) | st.integers(256, 264))
        put = draw(st.sampled_from([b"\0", b"\xff", b"\x80", b"7", b"9", b" ", b"/", b"x", b"g", b"S", b"L", b"K"])
                   | st.sampled_from([b"777777777777", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-1\0"])
                   | st.binary(min_size=1, max_size=12))  # fmt: skip
        data[at : at + len(put)] = put
        if draw(st.booleans()) and len(data) >= block + 512:
            data[block + 148 : block + 156] = b"        "
            data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
    return bytes(data[: draw(st.integers(0, len(data)) | st.just(len(data)))])


@given(damaged(), st.booleans(), PIECES)
def test_a_damaged_archive_is_read_or_refused(data: bytes, strict: bool, size: int) -> None:
    outcomes = []
    for pieces in (split(data), split(data, size)):
        try:
            reader = Reader(Stream(pieces), strict_end=strict)
            names = []
            while (entry := reader.next()) is not None:
                names.append(entry.name)
            outcomes.append(str(names))
        except DataLoss as e:
            assert e.message.startswith("invalid tar archive: ") and e.message.isprintable() and len(e.message) < 500
            outcomes.append(e.message)
    assert outcomes[0] == outcomes[1]


# -- hostile ---------------------------------------------------------------------------------------

HostileEntry = tuple[bytes, bytes, bytes, int, dict[str, bytes]]
"""Kind, name, target of a link, mode, and pax records."""
OUTSIDE = b"../outside"
_HOSTILE_NAMES = st.sampled_from(
    [b"l", b"d", b"f", b"l/f", b"l/d/f", b"d/l", b"d/l/f", b"d/f", b"f/x", b"l/../f", b"d/../../outside/f",
     OUTSIDE + b"/f", b"/f", b"..", b".", b"", b"/", b"./l/./f", b"l/", b"d/", b".wh.l", b"d/.wh.f", b".wh..wh..opq",
     b"l/.wh..wh..opq", b".wh...",
     b".wh..", b".wh.", b"l/.wh.f", b"l/.wh.dir", b"d/.wh..wh.x", b".wh.d/f", b"n" * 256, b"n/" * 3000]
)  # fmt: skip
_HOSTILE_LINKS = st.sampled_from(
    [b"l", b"d", b"f", b"d/l", b"l/f", OUTSIDE, OUTSIDE + b"/file", b"../../outside/dir", b"..", b".", b"/", b"",
     b"@outside", b"@outside/file", b"@outside/dir", b"/proc/self/cwd", b"/proc/self/root", b"l/../..", b"d/../l"]
)  # fmt: skip
_KINDS = st.sampled_from([b"0", b"1", b"1", b"2", b"2", b"5", b"5", b"3", b"4", b"6", b"7", b"S", b"Z"])
_XATTRS = st.sampled_from(
    [{}, {}, {"SCHILY.xattr.user.a": b"1"}, {"SCHILY.xattr.trusted.overlay.redirect": b"/"},
     {"SCHILY.xattr.user.overlay.opaque": b"y"}, {"SCHILY.xattr.security.capability": b"x"}, {"path": b"../outside/f"},
     {"linkpath": b"../outside"}, {"size": b"1"}, {"mtime": b"-99999999999.5"}, {"uid": b"65536"}]
)  # fmt: skip
_HOSTILE_MODES = st.sampled_from([0o644, 0o7777, 0])
ENTRIES = st.lists(
    st.tuples(_KINDS, _HOSTILE_NAMES, _HOSTILE_LINKS, _HOSTILE_MODES, _XATTRS), min_size=1, max_size=8
)  # fmt: skip


def hostile(entries: list[HostileEntry], outside: bytes) -> bytes:
    data = b""
    for kind, name, link, mode, records in entries:
        target = link.replace(b"@outside", outside)
        data += tars.pax(records) if records else b""
        data += tars.long_name(name) if len(name) > 100 else b""
        data += tars.long_name(target, b"K") if len(target) > 100 else b""
        content = b"evil" if kind in b"07" else b""
        data += tars.header(name, kind, len(content), mode=mode, link=target) + tars.padded(content)
    return data + tars.end()


def _surroundings(place: Path) -> tuple[Path, Path]:
    """What must stay as it is: what lies beside the target, and a working directory full of tempting names."""
    outside, cwd = place / "outside", place / "cwd"
    for base, names in ((outside, ("file", "f")), (cwd, ("l", "d", "f", "n"))):
        (base / "dir").mkdir(parents=True)
        for path in [*(base / name for name in names), base / "dir" / "f"]:
            path.write_text("untouched")
            path.chmod(0o640)
    return outside, cwd


def _apply(data: bytes, place: Path) -> str:
    """Unpack beside what must not be touched; what became of it."""
    outside, cwd = _surroundings(place)
    before = on_disk(outside), on_disk(cwd), set(os.listdir(place))
    descriptors = len(os.listdir("/proc/self/fd"))
    here = os.getcwd()
    os.chdir(cwd)
    try:
        unpack(data, place / "target")
        outcome = "unpacked"
    except (DataLoss, InvalidParameter, SystemFailure) as e:
        assert e.message.isprintable() and len(e.message) < 1000
        outcome = e.message
    finally:
        os.chdir(here)
    assert (on_disk(outside), on_disk(cwd), set(os.listdir(place)) - {"target"}) == before
    assert len(os.listdir("/proc/self/fd")) == descriptors
    return outcome


def test_a_hostile_archive_touches_nothing_outside(in_namespace: InNamespace, tmp_path: Path) -> None:
    @given(ENTRIES)
    @settings(max_examples=settings.default.max_examples * 2 if settings.default else 200)
    def check(entries: list[HostileEntry]) -> None:
        with directory(tmp_path) as place:
            _apply(hostile(entries, os.fsencode(place / "outside")), place)

    in_namespace(check)


def test_a_damaged_archive_touches_nothing_outside(in_namespace: InNamespace, tmp_path: Path) -> None:
    @given(damaged())
    @FEWER
    def check(data: bytes) -> None:
        with directory(tmp_path) as place:
            _apply(data, place)

    in_namespace(check)


def test_the_surroundings_would_tell(in_namespace: InNamespace, tmp_path: Path) -> None:
    """Of a reader that follows links all this would be seen."""

    def check() -> bool:
        outside, _ = _surroundings(tmp_path)
        before = on_disk(outside)
        entries: list[HostileEntry] = [(b"2", b"l", OUTSIDE, 0o644, {}), (b"0", b"l/f", b"", 0o644, {})]
        (tmp_path / "target").mkdir()
        with tarfile.open(fileobj=io.BytesIO(hostile(entries, b""))) as archive:
            archive.extraction_filter = lambda member, path: member  # what newer ones would refuse, too
            archive.extractall(tmp_path / "target")
        return on_disk(outside) != before

    assert in_namespace(check)
    shutil.rmtree(tmp_path / "target")


# -- one id ----------------------------------------------------------------------------------------


def test_with_one_id_owners_are_remembered(tmp_path: Path) -> None:
    """What is imported and exported, or copied for a container and exported, tells of the same owners as before."""

    @given(trees(), trees(), FORMATS)
    @FEWER
    def check(tree: Tree, more: Tree, form: Format) -> None:
        with directory(tmp_path) as place:
            below, above = (_layer(by_tarfile(one, form), place / name) for one, name in ((tree, "0"), (more, "1")))
            wanted = {path: (node["kind"], node["owner"]) for path, node in expected(tree).items()}
            assert _owners([below], [below]) == wanted
            (place / "copy").mkdir()
            merge([str(above), str(below)], str(place / "copy"), share=False)
            (place / "upper").mkdir()
            stacked = _owners([above, below], [above, below])
            assert _owners([place / "copy"], [above, below]) == stacked
            assert _owners([place / "upper", above, below], [above, below]) == stacked
            assert (
                stacked.items()
                >= {path: (node["kind"], node["owner"]) for path, node in expected(more).items()}.items()
            )

    with_one_id(check)


def test_with_one_id_the_last_of_a_name_counts(tmp_path: Path) -> None:
    """What is replaced in a layer leaves nothing behind, though its number may be given to the next."""

    def check() -> None:
        data = tars.directory(b"again", uid=5, gid=5) + tars.directory(b"again")
        for uid in (5, 0):
            owner = {"uid": uid, "gid": uid}
            data += tars.directory(b"dir", **owner) + tars.file(b"dir/file", b"x", **owner)
            for number in range(50):
                data += tars.header(b"dir/%d" % number, b"2", link=b"x", **owner)
            data += tars.header(b"dir/fifo", b"6", **owner)
        data += tars.header(b"dir/last", b"2", link=b"x", uid=7, gid=8) + tars.end()
        below = _layer(data, tmp_path / "0")
        theirs = {name: owner for name, (_, owner) in _owners([below], [below]).items() if owner != (0, 0)}
        assert theirs == {b"dir/last": (7, 8)}
        assert (tmp_path / "0" / "owners").read_bytes() == b"/dir\x007:8 last\0"

    with_one_id(check)


def test_with_one_id_on_a_file_system_without_attributes(tmp_path: Path) -> None:
    """All owners are told beside the layer; a file that a container has changed keeps its own."""

    def check() -> None:
        # Of those that anybody can mount it is the only one, but says that it has no room.
        mount("ramfs", str(tmp_path), "ramfs")
        setattr(layer, "check_space", lambda *_: None)  # noqa: B010 - in this child only
        node: Node = {"mode": 0o644, "time": 1, "owner": (33, 34), "kind": "file", "content": b"x"}
        link: Node = {"time": 1, "owner": (5, 6), "kind": "symlink", "target": b"file"}
        tree: Tree = {
            b"dir": {"kind": "directory", "mode": 0o711, "time": 1, "owner": (7, 8)},
            b"dir/file": node, b"dir/link": link, b"root": {**node, "owner": (0, 0)},
            b"dir/same": {"kind": "link", "to": b"dir/file"},
        }  # fmt: skip
        below = _layer(by_tarfile(tree, tarfile.PAX_FORMAT), tmp_path / "0")
        wanted = {path: (node["kind"], node["owner"]) for path, node in expected(tree).items()}
        assert _owners([below], [below]) == wanted
        (tmp_path / "copy").mkdir()
        merge([str(below)], str(tmp_path / "copy"), share=False)
        (tmp_path / "copy" / "dir" / "file").write_text("longer")
        (tmp_path / "copy" / "dir" / "link").unlink()
        (tmp_path / "copy" / "dir" / "link").symlink_to("file")
        assert _owners([tmp_path / "copy"], [below]) == {**wanted, b"dir/link": ("symlink", (0, 0))}

    with_one_id(check)


def _layer(data: bytes, place: Path) -> Path:
    """A layer as the store has it, in a directory with what is told of its owners."""
    place.mkdir()
    (place / "diff").mkdir(mode=0o755)
    fd = os.open(place / "diff", os.O_RDONLY | os.O_DIRECTORY)
    try:
        content = layer.apply(split(data), fd)
        with_index = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        remembered.write(with_index, fd, content.owners)
        os.close(with_index)
    finally:
        os.close(fd)
    return place / "diff"


def _owners(stack: list[Path], image: list[Path]) -> dict[bytes, tuple[str, tuple[int, int]]]:
    """What an export of a stack tells of its owners, with the image that it is of."""
    with Union([str(path) for path in stack]) as now, remembered.Owners([str(path) for path in image]) as owners:
        changes = compare(now, None)
        data = b"".join(packing.pack(changes, now, is_layer=False, note=lambda _: None, known=owners))
    kinds = {
        tarfile.REGTYPE: "file",
        tarfile.SYMTYPE: "symlink",
        tarfile.FIFOTYPE: "fifo",
        tarfile.DIRTYPE: "directory",
    }
    found: dict[bytes, tuple[str, tuple[int, int]]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            name, owner = os.fsencode(info.name), (info.uid, info.gid)
            kind = found[os.fsencode(info.linkname)][0] if info.islnk() else kinds[info.type]
            if name != b".":
                found[name] = (kind, owner)
    return found
