"""Hostile layers by name: what was published against other engines, and what follows from it.

`outside` is the absolute path of a directory that must stay untouched. A case is refused, or what it makes
is inside; the few whose outcome matters say so in REFUSED and MADE.
"""

from __future__ import annotations

import gzip
import io
import zlib

from tests.payload.tars import (
    directory,
    file,
    gnu_sparse,
    hardlink,
    header,
    long_name,
    padded,
    pax,
    record,
    symlink,
)
from tests.payload.tars import end as end_mark

X = {"SCHILY.xattr.user.evil": b"1"}


def escapes(out: bytes) -> dict[str, bytes]:
    """Names and links that lead out."""
    base = out.rsplit(b"/", 1)[1]
    up = b"../" * 40
    canary = up + out.lstrip(b"/") + b"/file"
    return {
        "dotdot": file(b"../" + base + b"/file", b"evil"),
        "dotdot-many": file(canary, b"evil"),
        "dotdot-middle": file(b"a/../../" + base + b"/file", b"evil"),
        "dotdot-after-missing": file(b"no/such/../../../" + base + b"/file", b"evil"),
        "dotdot-alone": file(b"..", b"evil"),
        "dotdot-directory": directory(b"../" + base, 0o777),
        "dotdot-slashes": file(b"..//../" + base + b"/file", b"evil"),
        "dotdot-absolute": file(b"/../" + base + b"/file", b"evil"),
        "absolute": file(out + b"/file", b"evil"),
        "absolute-double-slash": file(b"//" + out + b"/file", b"evil"),
        "dot": file(b".", b"evil"),
        "slash": file(b"/", b"evil"),
        "empty-name": file(b"", b"evil"),
        "root-symlink": symlink(b"./", out) + file(b"file", b"evil"),
        "root-replaced": symlink(b".", out) + file(b"file", b"evil"),
        "symlink-absolute-then-through": symlink(b"l", out) + file(b"l/file", b"evil"),
        "symlink-relative-then-through": symlink(b"l", b"../" + base) + file(b"l/file", b"evil"),
        "symlink-up-then-through": symlink(b"l", up) + file(b"l" + out + b"/file", b"evil"),
        "symlink-new-file-through": symlink(b"l", out) + file(b"l/new", b"evil"),
        "symlink-to-file-then-write": symlink(b"l", out + b"/file") + file(b"l", b"evil"),
        "symlink-to-file-as-directory": symlink(b"l", out + b"/file") + file(b"l/x", b"evil"),
        "symlink-directory-over": symlink(b"l", out) + directory(b"l", 0o777),
        "symlink-directory-over-slash": symlink(b"l", out) + directory(b"l/", 0o777),
        "symlink-directory-through": symlink(b"l", out) + directory(b"l/new/", 0o777),
        "symlink-directory-existing-through": symlink(b"l", out) + directory(b"l/dir/", 0o777),
        "symlink-symlink-through": symlink(b"l", out) + symlink(b"l/new", b"x"),
        "symlink-fifo-through": symlink(b"l", out) + header(b"l/new", b"6"),
        "symlink-device-through": symlink(b"l", out) + header(b"l/new", b"3", device=(1, 3)),
        "symlink-hardlink-through": symlink(b"l", out) + file(b"f", b"x") + hardlink(b"l/new", b"f"),
        "symlink-chain": symlink(b"a", b"b") + symlink(b"b", b"c") + symlink(b"c", out) + file(b"a/file", b"evil"),
        "symlink-chain-deep": b"".join(symlink(b"l%d" % i, b"l%d" % (i + 1)) for i in range(60))
        + symlink(b"l60", out)
        + file(b"l0/file", b"evil"),
        "symlink-loop": symlink(b"a", b"b") + symlink(b"b", b"a") + file(b"a/file", b"evil"),
        "symlink-self": symlink(b"a", b"a") + file(b"a/file", b"evil"),
        "symlink-in-directory": directory(b"d") + symlink(b"d/l", b"../../" + base) + file(b"d/l/file", b"evil"),
        "symlink-dotdot-after": symlink(b"l", b"d") + directory(b"d") + file(b"l/../../" + base + b"/file", b"evil"),
        "symlink-proc": symlink(b"l", b"/proc/self/cwd") + file(b"l/bait", b"evil"),
        "symlink-proc-root": symlink(b"l", b"/proc/self/root") + file(b"l" + out + b"/file", b"evil"),
        "symlink-parent-replaced": directory(b"d") + file(b"d/a", b"x") + symlink(b"d", out) + file(b"d/file", b"evil"),
        "symlink-parent-replaced-deep": directory(b"d/e") + file(b"d/e/a", b"x") + symlink(b"d", out)
        + file(b"d/dir/file", b"evil"),
        "symlink-replaced-by-directory": symlink(b"d", out) + file(b"d/x", b"1") + directory(b"d")
        + file(b"d/file", b"evil"),
        "symlink-swapped-twice": symlink(b"d", out) + directory(b"d") + file(b"d/a", b"1") + symlink(b"d", out)
        + file(b"d/file", b"evil"),
        "symlink-long-target": long_name(b"x/" * 3000, b"K") + symlink(b"l", b"") + file(b"l/file", b"evil"),
        "symlink-empty-target": symlink(b"l", b"") + file(b"l/file", b"evil"),
        "hardlink-outside": hardlink(b"h", out + b"/file"),
        "hardlink-outside-write": hardlink(b"h", out + b"/file") + file(b"h", b"evil"),
        "hardlink-dotdot": hardlink(b"h", b"../" + base + b"/file"),
        "hardlink-dotdot-many": hardlink(b"h", canary),
        "hardlink-cwd-bait": hardlink(b"h", b"bait"),
        "hardlink-cwd-bait-write": hardlink(b"h", b"bait") + file(b"h", b"evil"),
        "hardlink-to-symlink": symlink(b"l", out + b"/file") + hardlink(b"h", b"l") + file(b"h", b"evil"),
        "hardlink-to-symlink-chmod": symlink(b"l", out + b"/file") + header(b"h", b"1", link=b"l", mode=0o7777),
        "hardlink-to-symlink-directory": symlink(b"l", out) + hardlink(b"h", b"l") + file(b"h/file", b"evil"),
        "hardlink-through-symlink": symlink(b"l", out) + hardlink(b"h", b"l/file"),
        "hardlink-through-symlink-write": symlink(b"l", out) + hardlink(b"h", b"l/file") + file(b"h", b"evil"),
        "hardlink-through-deep-symlink": directory(b"d") + symlink(b"d/l", b"../../" + base)
        + hardlink(b"h", b"d/l/file"),
        "hardlink-to-directory": directory(b"d") + hardlink(b"h", b"d"),
        "hardlink-to-root": hardlink(b"h", b"."),
        "hardlink-to-itself": file(b"h", b"mine") + hardlink(b"h", b"h"),
        "hardlink-to-missing": hardlink(b"h", b"missing"),
        "hardlink-empty": hardlink(b"h", b""),
        "hardlink-proc": symlink(b"l", b"/proc/self/fd") + hardlink(b"h", b"l/3"),
        "pax-path-dotdot": pax({"path": b"../" + base + b"/file"}) + file(b"innocent", b"evil"),
        "pax-path-absolute": pax({"path": out + b"/file"}) + file(b"innocent", b"evil"),
        "pax-linkpath": pax({"linkpath": out + b"/file"}) + hardlink(b"h", b"innocent"),
        "pax-linkpath-symlink": pax({"linkpath": out}) + symlink(b"l", b"inside") + file(b"l/file", b"evil"),
        "gnu-name-dotdot": long_name(b"../" + base + b"/file") + file(b"innocent", b"evil"),
        "gnu-link-outside": long_name(out + b"/file", b"K") + hardlink(b"h", b"innocent"),
        "prefix-dotdot": file(base + b"/file", b"evil", prefix=b".."),
        "sparse-name-dotdot": pax({"GNU.sparse.major": b"1", "GNU.sparse.minor": b"0",
                                   "GNU.sparse.name": b"../" + base + b"/file", "GNU.sparse.realsize": b"4"})
        + file(b"innocent", padded(b"1\n0\n4\n") + b"evil"),
        "global-path": pax({"path": out + b"/file"}, b"g") + file(b"innocent", b"evil"),
    }  # fmt: skip


def mirrored(out: bytes) -> dict[str, bytes]:
    """The same path exists inside, so a link that leads out is a good one as long as it is resolved in the root."""
    inside = directory(out.lstrip(b"/") + b"/dir") + file(out.lstrip(b"/") + b"/file", b"inside") + symlink(b"l", out)
    return {
        "mirror-file": inside + file(b"l/file", b"evil"),
        "mirror-new-file": inside + file(b"l/new", b"evil"),
        "mirror-directory": inside + directory(b"l/dir", 0o7777, mtime=1),
        "mirror-directory-over-link": inside + directory(b"l", 0o7777, mtime=1),
        "mirror-hardlink": inside + hardlink(b"h", b"l/file") + header(b"h", b"0", mode=0o7777),
        "mirror-hardlink-into": inside + file(b"f", b"x") + hardlink(b"l/file", b"f"),
        "mirror-symlink": inside + symlink(b"l/file", b"x"),
        "mirror-fifo": inside + header(b"l/file", b"6"),
        "mirror-whiteout": inside + file(b"l/.wh.file") + file(b"l/.wh.dir"),
        "mirror-opaque": inside + file(b"l/.wh..wh..opq") + file(b"l/dir/.wh..wh..opq"),
        "mirror-xattr": inside + pax(X) + directory(b"l/dir", 0o700),
        "mirror-replaced": inside + file(b"l/dir", b"evil"),
        "mirror-link-replaced": inside + file(b"l/a", b"1") + file(b"l", b"evil"),
        "mirror-device": inside + header(b"l/file", b"3", device=(1, 3)),
    }


def metadata(out: bytes) -> dict[str, bytes]:
    """Modes, owners, times and attributes that would land on something outside."""
    link = symlink(b"l", out + b"/file")
    return {
        "chmod-through-symlink": link + header(b"l", b"0", mode=0o7777),
        "chmod-directory-through-symlink": symlink(b"l", out) + directory(b"l", 0o7777, uid=5, mtime=1),
        "chmod-directory-below-symlink": symlink(b"l", out) + directory(b"l/dir", 0o7777, uid=5, mtime=1),
        "chown-symlink": header(b"l", b"2", link=out + b"/file", uid=5, gid=5),
        "utime-symlink": header(b"l", b"2", link=out + b"/file", mtime=1),
        "xattr-through-symlink": link + pax(X) + header(b"l", b"0"),
        "xattr-on-symlink": pax(X) + link,
        "xattr-on-hardlink": link + pax(X) + hardlink(b"h", b"l"),
        "times-at-the-end": directory(b"d", mtime=1) + directory(b"d/dir", mtime=1) + symlink(b"d", out),
        "xattr-overlay": pax({"SCHILY.xattr.user.overlay.redirect": out, "SCHILY.xattr.trusted.overlay.opaque": b"y",
                              "SCHILY.xattr.user.overlay.metacopy": b"", "SCHILY.xattr.trusted.overlay.redirect": out,
                              "SCHILY.xattr.user.fuseoverlayfs.opaque": b"y",
                              "SCHILY.xattr.user.containers.override_stat": b"0:0:4755"}) + directory(b"d"),
        "xattr-security": pax({"SCHILY.xattr.security.selinux": b"evil", "SCHILY.xattr.system.posix_acl_access": b"x",
                               "SCHILY.xattr.": b"x", "SCHILY.xattr.user.": b"x"}) + file(b"f"),
        "xattr-huge": pax({"SCHILY.xattr.user.big": b"x" * 200_000}) + file(b"f"),
        "xattr-long-name": pax({"SCHILY.xattr.user." + "n" * 400: b"x"}) + file(b"f"),
        "device-character": header(b"dev/sda", b"4", device=(8, 0)) + header(b"dev/mem", b"3", device=(1, 1)),
        "device-whiteout": header(b"etc", b"3", device=(0, 0)),
        "device-then-through": header(b"d", b"3", device=(1, 3)) + file(b"d/x", b"1"),
        "fifo-then-write": header(b"f", b"6", mode=0o666) + file(b"f", b"data"),
        "fifo-as-directory": header(b"f", b"6") + file(b"f/x", b"data"),
        "setuid-fifo": header(b"f", b"6", mode=0o7777, uid=33),
        "whiteout-dotdot": file(b".wh..."),
        "whiteout-dot": file(b".wh.."),
        "whiteout-nothing": file(b".wh."),
        "whiteout-parent-dotdot": file(b"../.wh." + out.rsplit(b"/", 1)[1]),
        "whiteout-through-symlink": symlink(b"l", out) + file(b"l/.wh.file"),
        "whiteout-opaque-through-symlink": symlink(b"l", out) + file(b"l/.wh..wh..opq"),
        "whiteout-opaque-on-symlink": symlink(b"d/l", out) + file(b"d/l/dir/.wh..wh..opq"),
        "whiteout-as-directory": directory(b".wh.d") + file(b".wh.d/x", b"1"),
        "whiteout-hardlink": file(b".wh.f") + hardlink(b"g", b"f"),
        "whiteout-symlink-entry": symlink(b".wh.f", out + b"/file"),
        "whiteout-twice": file(b".wh.f") + file(b".wh.f"),
        "whiteout-opaque-root": file(b".wh..wh..opq"),
        "aufs-metadata": directory(b".wh..wh.plnk") + file(b".wh..wh.aufs", b"x"),
    }  # fmt: skip


def malformed(out: bytes) -> dict[str, bytes]:
    """Headers that lie or make no sense."""
    good = file(b"good", b"x" * 1000)
    sparse10 = {"GNU.sparse.major": b"1", "GNU.sparse.minor": b"0", "GNU.sparse.name": b"s"}
    return {
        "size-negative": header(b"f", size=-1),
        "size-negative-large": header(b"f", size=-(1 << 62)),
        "size-negative-text": header(b"f", size=b"-0000000001"),
        "size-base256-huge": header(b"f", size=(1 << 90)),
        "size-octal-max": header(b"f", size=b"777777777777"),
        "size-text": header(b"f", size=b"12345xyz"),
        "size-eight": header(b"f", size=b"00000000089"),
        "size-underscore": header(b"f", size=b"1_0"),
        "mode-text": header(b"f", mode=b"rwxr-xr"),
        "uid-huge": header(b"f", uid=0xFFFFFFFF),
        "uid-negative": header(b"f", uid=-2),
        "uid-outside-map": header(b"f", uid=65537),
        "gid-outside-map": header(b"f", gid=2_000_000),
        "mtime-huge": header(b"f", mtime=(1 << 62)),
        "mtime-negative": header(b"f", mtime=-(1 << 40)),
        "pax-mtime-huge": pax({"mtime": b"9" * 18}) + file(b"f"),
        "pax-mtime-text": pax({"mtime": b"nan"}) + file(b"f"),
        "pax-mtime-exponent": pax({"mtime": b"1e400"}) + file(b"f"),
        "pax-size-negative": pax({"size": b"-1"}) + good,
        "pax-size-huge": pax({"size": b"9" * 18}) + good,
        "pax-size-many-digits": pax({"size": b"9" * 5000}) + good,
        "pax-size-zero-hides": pax({"size": b"0"}) + file(b"f", file(b"../outside/file", b"evil")),
        "pax-uid-outside-map": pax({"uid": b"99999999"}) + file(b"f"),
        "pax-nul-in-path": pax({"path": b"a\0b"}) + file(b"f"),
        "pax-nul-in-link": pax({"linkpath": b"a\0b"}) + symlink(b"f", b"x"),
        "pax-length-zero": pax(b"0 path=x\n") + file(b"f"),
        "pax-length-negative": pax(b"-5 path=x\n") + file(b"f"),
        "pax-length-beyond": pax(b"999 path=x\n") + file(b"f"),
        "pax-length-huge": pax(b"9" * 400 + b" path=x\n") + file(b"f"),
        "pax-no-equals": pax(b"8 pathx\n") + file(b"f"),
        "pax-no-newline": pax(b"9 path=xy") + file(b"f"),
        "pax-garbage": pax(bytes(range(1, 200))) + file(b"f"),
        "pax-alone": pax({"path": b"x"}),
        "pax-two-megabytes": pax({"comment": b"x" * (2 << 20)}) + file(b"f"),
        "pax-size-lies": header(b"pax", b"x", 1 << 40),
        "gnu-name-alone": long_name(b"x" * 200),
        "gnu-name-two-megabytes": long_name(b"x" * (2 << 20)) + file(b"f"),
        "gnu-name-size-negative": header(b"././@LongLink", b"L", -1) + file(b"f"),
        "gnu-name-empty": long_name(b"") + file(b"f"),
        "gnu-name-many": long_name(b"y" * 200) * 2000 + file(b"f"),
        "checksum-wrong": header(b"f", checksum=b"000001\0 ") + good,
        "checksum-text": header(b"f", checksum=b"zzzzzz\0 "),
        "type-unknown": header(b"f", b"Q"),
        "type-volume-header": header(b"f", b"V"),
        "type-multivolume": header(b"f", b"M", 4) + padded(b"evil"),
        "data-after-one-zero-block": good + bytes(512) + file(b"hidden", b"evil"),
        "truncated-header": good + header(b"f")[:200],
        "truncated-data": good + header(b"f", size=5000) + b"x" * 100,
        "truncated-padding": good[:-10],
        "truncated-first-block": header(b"f")[:100],
        "truncated-after-header": header(b"f", size=10),
        "truncated-pax": good + header(b"pax", b"x", 100),
        "garbage": b"this is not a tar archive. " * 100,
        "sparse-backwards": gnu_sparse(b"s", [(1000, 512), (0, 512)], 5000, b"x" * 1024),
        "sparse-overlap": gnu_sparse(b"s", [(0, 512), (100, 512)], 5000, b"x" * 1024),
        "sparse-beyond": gnu_sparse(b"s", [(5000, 512)], 5000, b"x" * 512),
        "sparse-negative": gnu_sparse(b"s", [(-5, 512)], 5000, b"x" * 512),
        "sparse-negative-length": gnu_sparse(b"s", [(0, -512), (0, 1024)], 5000, b"x" * 512),
        "sparse-too-little-data": gnu_sparse(b"s", [(0, 4096)], 5000, b"x" * 512),
        "sparse-too-much-data": gnu_sparse(b"s", [(0, 10)], 5000, b"x" * 5000),
        "sparse-real-size-huge": gnu_sparse(b"s", [(0, 512)], (1 << 61), b"x" * 512),
        "sparse-real-size-negative": gnu_sparse(b"s", [(0, 0)], -1, b""),
        "sparse-blocks-cut-off": gnu_sparse(b"s", [(i * 10, 1) for i in range(30)], 5000, b"")[:700],
        "sparse-odd-map": pax({"GNU.sparse.map": b"0,1,2", "GNU.sparse.size": b"5"}) + file(b"s", b"x"),
        "sparse-text-map": pax({"GNU.sparse.map": b"0,x", "GNU.sparse.size": b"5"}) + file(b"s", b"x"),
        "sparse-00-order": pax(record("GNU.sparse.numbytes", b"1") + record("GNU.sparse.offset", b"1"))
        + file(b"s", b"x"),
        "sparse-10-no-map": pax({**sparse10, "GNU.sparse.realsize": b"5"}) + file(b"s"),
        "sparse-10-huge-count": pax({**sparse10, "GNU.sparse.realsize": b"5"}) + file(b"s", padded(b"99999999\n")),
        "sparse-10-not-numbers": pax({**sparse10, "GNU.sparse.realsize": b"5"}) + file(b"s", b"x" * 5120),
        "sparse-10-unknown-version": pax({**sparse10, "GNU.sparse.minor": b"7"}) + file(b"s", b"x"),
        "name-too-long": long_name(b"n" * 300) + file(b"f", b"x"),
        "path-too-long": long_name(b"d/" * 4000) + file(b"f", b"x"),
        "path-deep": long_name(b"d/" * 2000 + b"f") + file(b"f", b"x"),
        "directory-over-file-over-directory": directory(b"a") + file(b"a/b", b"1") + file(b"a", b"2") + directory(b"a")
        + file(b"a/c", b"3"),
        "file-as-directory": file(b"a", b"1") + file(b"a/b", b"2"),
        "duplicates": file(b"a", b"1") * 500,
        "control-characters": file(b"a\x1b[2J\nb", b"1") + header(b"\x1b]0;evil\x07", size=-1),
        "not-utf8": file(b"\xff\xfe\x80", b"1"),
        "directory-with-size": header(b"d/", b"5", 512) + file(b"d/x", b"1"),
    }  # fmt: skip


def compressed(_: bytes) -> dict[str, bytes]:
    """Damaged compression. These are whole streams, without an end mark of their own."""
    good = gzip.compress(file(b"good", b"x" * 100_000) + end_mark(), 1)
    noise = gzip.compress(b"not a tar at all", 1)
    return {
        "gzip-truncated": good[: len(good) // 2],
        "gzip-trailer-cut": good[:-4],
        "gzip-wrong-checksum": good[:-8] + b"\0\0\0\0" + good[-4:],
        "gzip-garbage-after": good + b"garbage",
        "gzip-header-only": good[:10],
        "gzip-of-gzip": gzip.compress(good),
        "gzip-not-tar": noise,
        "gzip-deflate-damaged": good[:20] + bytes(50) + good[70:],
        "zstd-header-only": b"\x28\xb5\x2f\xfd",
        "zstd-garbage": b"\x28\xb5\x2f\xfd" + bytes(range(200)),
        "xz-garbage": b"\xfd7zXZ\0" + bytes(range(200)),
        "bzip2-garbage": b"BZh9" + bytes(range(200)),
    }


REFUSED = {
    "dotdot", "dotdot-many", "dotdot-middle", "dotdot-alone", "dotdot-directory", "dotdot-absolute", "dot",
    "root-symlink", "hardlink-outside", "hardlink-cwd-bait", "hardlink-to-directory", "hardlink-to-missing",
    "pax-path-dotdot", "gnu-name-dotdot", "prefix-dotdot", "sparse-name-dotdot", "symlink-loop", "whiteout-dotdot",
    "whiteout-dot",
    "whiteout-nothing", "size-negative", "size-base256-huge", "size-octal-max", "size-text", "uid-outside-map",
    "gid-outside-map", "uid-huge", "pax-size-negative", "pax-size-huge", "pax-nul-in-path", "pax-length-zero",
    "pax-two-megabytes", "pax-alone", "gnu-name-two-megabytes", "checksum-wrong", "type-unknown",
    "data-after-one-zero-block", "truncated-header", "truncated-data", "truncated-pax", "garbage", "sparse-backwards",
    "sparse-overlap", "sparse-beyond", "sparse-negative", "sparse-too-little-data", "sparse-too-much-data",
    "sparse-10-huge-count", "name-too-long", "path-too-long", "gzip-truncated", "gzip-trailer-cut",
    "gzip-wrong-checksum", "gzip-garbage-after", "gzip-not-tar", "zstd-garbage",
}  # fmt: skip
"""Cases that must fail, rather than make something inside."""


def cases(outside: str) -> dict[str, bytes]:
    """All archives, ready to be unpacked."""
    out = outside.encode()
    plain = {**escapes(out), **mirrored(out), **metadata(out), **malformed(out)}
    ended = {name: data if name.startswith("truncated") else data + end_mark() for name, data in plain.items()}
    return {**ended, **compressed(out)}


NAMES = sorted(cases("/outside"))


def bomb(size: int) -> io.BytesIO:
    """A gzip stream of a few kilobytes per gigabyte, with one file of zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    stream = io.BytesIO()
    stream.write(packer.compress(header(b"zeros", size=size)))
    zeros = bytes(1 << 20)
    for _ in range(size >> 20):
        stream.write(packer.compress(zeros))
    stream.write(packer.compress(end_mark()) + packer.flush())
    stream.seek(0)
    return stream
