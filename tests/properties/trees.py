"""Trees of files as hypothesis makes them, their archives by Python's tarfile, and what is on disk of them."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any, Literal

from hypothesis import strategies as st

Node = dict[str, Any]
Format = Literal[0, 1, 2]
"""tarfile's USTAR_FORMAT, GNU_FORMAT, PAX_FORMAT."""
Tree = dict[bytes, Node]
"""What has which path, in an order in which it can be made: directories first, a file before links to it."""

_LENGTHS = st.sampled_from([99, 100, 101, 154, 155, 156, 255])
_ODD = st.sampled_from(
    [b"a\nb", b" ", b"-", "é".encode(), b"\xff\xfe", b"\\", b"a=b", b"1 a=b", b"...", b".w", b"wh.", b"%s", b"\x01",
     b"GNUSparseFile.0", b"@LongLink", b"PaxHeaders.0", b"BZh", b"BZh9", b"BZhello, a long name"]
)  # fmt: skip
_PLAIN = st.sampled_from([b"a", b"b", b"c", b"d", b"file", b"dir"])
_ANY = st.binary(min_size=1, max_size=8).map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_"))
_LONG = st.tuples(_PLAIN, _LENGTHS).map(lambda each: each[0].ljust(each[1], b"n"))


def _is_honest(name: bytes) -> bool:
    """Whether it is a name, and no mark of a deletion."""
    return name not in (b".", b"..") and not name.startswith(b".wh.")


NAMES = (_PLAIN | _PLAIN | _ODD | _LONG | _ANY).filter(_is_honest)
_MODES = st.sampled_from([0o644, 0o755, 0o600, 0o4755, 0o2711, 0o1777, 0o400, 0o7777])
_OWNERS = st.sampled_from([(0, 0), (1000, 1000), (1, 65535), (65534, 7)])
_TIMES = st.sampled_from([0, 1, 1_600_000_000, (1 << 31) + 5, (1 << 33) + 1]) | st.integers(0, 1 << 33)
_SIZES = st.sampled_from([511, 512, 513, 1024, 70_000])
_CONTENTS = st.binary(max_size=40) | st.builds(lambda size, some: (some * size)[:size], _SIZES, st.binary(min_size=1))
_TARGETS = NAMES | st.sampled_from([b"/etc/passwd", b"../../..", b"/", b".", b"a/../../b", b"t" * 101, b"t" * 300])
_COMMON = {"mode": _MODES, "owner": _OWNERS, "time": _TIMES}
_FILES = st.fixed_dictionaries({"kind": st.just("file"), "content": _CONTENTS, **_COMMON})
_LINKS = st.fixed_dictionaries({"kind": st.just("symlink"), "target": _TARGETS, "owner": _OWNERS, "time": _TIMES})
_FIFOS = st.fixed_dictionaries({"kind": st.just("fifo"), **_COMMON})
_DIRECTORIES = st.fixed_dictionaries({"kind": st.just("directory"), **_COMMON})


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A tree of a few levels, with hard links across it."""
    tree: Tree = {}
    places = [b""]
    for _ in range(draw(st.integers(0, 8))):
        path = draw(st.sampled_from(places)) + draw(NAMES)
        if path in tree or len(path) > 1000:
            continue
        others = sorted(path for path, node in tree.items() if node["kind"] in ("file", "symlink"))
        kinds = [_FILES, _FILES, _LINKS, _FIFOS, _DIRECTORIES, _DIRECTORIES]
        if others:
            kinds.append(st.fixed_dictionaries({"kind": st.just("link"), "to": st.sampled_from(others)}))
        tree[path] = draw(st.one_of(kinds))
        if tree[path]["kind"] == "directory":
            places.append(path + b"/")
    return tree


def member(path: bytes, node: Node) -> tuple[tarfile.TarInfo, bytes]:
    """What tarfile wants to know of a node, and its content."""
    info = tarfile.TarInfo(os.fsdecode(path))
    info.mode, info.mtime = node.get("mode", 0o777), node.get("time", 0)
    info.uid, info.gid = node.get("owner", (0, 0))
    content: bytes = node.get("content", b"")
    info.size = len(content)
    kinds = {"file": tarfile.REGTYPE, "symlink": tarfile.SYMTYPE, "fifo": tarfile.FIFOTYPE, "link": tarfile.LNKTYPE,
             "directory": tarfile.DIRTYPE}  # fmt: skip
    info.type = kinds[node["kind"]]
    target: bytes = node.get("target") or node.get("to") or b""
    info.linkname = os.fsdecode(target)
    return info, content


def by_tarfile(tree: Tree, form: Format) -> bytes:
    """An archive in one of tarfile's formats; what ustar cannot hold it writes as pax."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=form) as archive:
        for path, node in tree.items():
            info, content = member(path, node)
            try:
                info.tobuf(form, "utf-8", "surrogateescape")
            except ValueError:
                archive.format = tarfile.PAX_FORMAT
            archive.addfile(info, io.BytesIO(content))
            archive.format = form
    return written.getvalue()


def expected(tree: Tree) -> Tree:
    """The nodes as `on_disk` has them: a hard link is what it leads to, and says so."""
    found: Tree = {}
    for path in tree:
        first = path
        while tree[first]["kind"] == "link":
            first = tree[first]["to"]
        found[path] = {**tree[first], "names": first}
    for node in found.values():
        same = [path for path, other in found.items() if other["names"] == node["names"]]
        node["links"] = len(same)
    for node in found.values():
        if node["kind"] == "directory":
            del node["links"]
        del node["names"]
    return found


def on_disk(root: Path) -> Tree:
    """All that is below a directory."""
    found: Tree = {}
    top = os.fsencode(root)
    for base, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(base, name)
            about = os.lstat(path)
            node: Node = {"mode": stat.S_IMODE(about.st_mode), "owner": (about.st_uid, about.st_gid),
                          "time": about.st_mtime_ns // 10**9, "links": about.st_nlink}  # fmt: skip
            if stat.S_ISREG(about.st_mode):
                with open(path, "rb") as file:
                    node |= {"kind": "file", "content": file.read()}
            elif stat.S_ISLNK(about.st_mode):
                node |= {"kind": "symlink", "target": os.readlink(path)}
                del node["mode"]
            elif stat.S_ISDIR(about.st_mode):
                node |= {"kind": "directory"}
                del node["links"]
            elif stat.S_ISFIFO(about.st_mode):
                node |= {"kind": "fifo"}
            else:
                node |= {"kind": "deleted" if about.st_rdev == 0 else "device"}
            found[os.path.relpath(path, top)] = node
    return found
