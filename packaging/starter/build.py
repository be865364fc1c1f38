"""Build the starter image from Debian's busybox-static: packaging/starter/build.py [OUTPUT].

The result is one gzip'd archive that is a docker-archive and an OCI image layout at once, with the image
`rdock/starter:latest`: busybox with links for all its applets, and the few files and folders that programs
expect. The same package gives the same bytes: order, times, owners and ids are fixed. It is kept in the
repository, so that rdock needs no registry and no busybox on the machine where it runs.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).resolve().parents[2] / "rdock" / "starter" / "starter.tar.gz"
REFERENCE = "rdock/starter:latest"
BUSYBOX = Path("/bin/busybox")
LICENCES = Path("/usr/share/common-licenses")
CREATED = "2026-01-01T00:00:00Z"
CREATED_SECONDS = 1767225600
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Folders and their modes. All files belong to root, so that the image runs where there is only one id.
FOLDERS = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "mnt": 0o755, "opt": 0o755, "proc": 0o555,
    "root": 0o700, "run": 0o755, "sbin": 0o755, "srv": 0o755, "sys": 0o555, "tmp": 0o1777, "usr": 0o755,
    "usr/bin": 0o755, "usr/local": 0o755, "usr/local/bin": 0o755, "usr/local/sbin": 0o755, "usr/sbin": 0o755,
    "usr/share": 0o755, "usr/share/doc": 0o755, "usr/share/doc/busybox": 0o755, "var": 0o755, "var/log": 0o755,
    "var/spool": 0o755, "var/tmp": 0o1777,
}  # fmt: skip
ACCOUNTS = {
    "etc/passwd": """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
""",
    "etc/group": """\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
mail:x:8:
wheel:x:10:root
www-data:x:33:
users:x:100:
nogroup:x:65534:
""",
}
SOURCE = """\
The program /bin/busybox is unchanged from Debian's package busybox-static {version} ({architecture}).

It is free software under the GNU General Public License, version 2 (GPL-2 in this folder; see also copyright).
Its complete source is Debian's source package {source} {source_version}, which any Debian mirror and Debian's
snapshot archive have: apt-get source {source}={source_version}
Statically linked libraries come from these source packages: {libraries}
(GNU C library: GNU Lesser General Public License, LGPL-2.1 in this folder.)
"""


def package() -> dict[str, str]:
    """What Debian says about the installed busybox-static."""
    names = ("Version", "Architecture", "source:Package", "source:Version", "Built-Using")
    query = "\n".join(f"${{{name}}}" for name in names)
    command = ["dpkg-query", "--show", f"--showformat={query}\n", "busybox-static"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    keys = ("version", "architecture", "source", "source_version", "libraries")
    return dict(zip(keys, lines, strict=True))


def documents(facts: dict[str, str]) -> dict[str, bytes]:
    """The licences and where the source is, as GPL and LGPL ask of those who pass the program on."""
    folder = "usr/share/doc/busybox"
    return {
        f"{folder}/GPL-2": (LICENCES / "GPL-2").read_bytes(),
        f"{folder}/LGPL-2.1": (LICENCES / "LGPL-2.1").read_bytes(),
        f"{folder}/SOURCE": SOURCE.format(**facts).encode(),
        f"{folder}/copyright": Path("/usr/share/doc/busybox-static/copyright").read_bytes(),
    }


def needs_loader(program: bytes) -> bool:
    """Whether a 64-bit ELF program names an interpreter (PT_INTERP, elf(5)), as the package busybox's does."""
    (start,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    return any(struct.unpack_from("<I", program, start + size * number) == (3,) for number in range(count))


def applets() -> Iterator[tuple[str, str]]:
    """(path, target of a relative link) of every applet."""
    listed = subprocess.run([BUSYBOX, "--list-full"], check=True, stdout=subprocess.PIPE, text=True).stdout
    for path in sorted(set(listed.split()) - {"bin/busybox", "linuxrc"}):
        yield path, os.path.relpath("bin/busybox", os.path.dirname(path))


def entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    """A member of an archive with all that could differ between two builds fixed."""
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = kind, mode, CREATED_SECONDS
    return member


def tar(members: dict[str, tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """An archive of the members, sorted by name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for _, (member, content) in sorted(members.items()):
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def layer(facts: dict[str, str]) -> bytes:
    members = {name: (entry(name, tarfile.DIRTYPE, mode), b"") for name, mode in FOLDERS.items()}
    for name, text in ACCOUNTS.items():
        members[name] = (entry(name, tarfile.REGTYPE, 0o644), text.encode())
    for name, content in documents(facts).items():
        members[name] = (entry(name, tarfile.REGTYPE, 0o644), content)
    members["bin/busybox"] = (entry("bin/busybox", tarfile.REGTYPE, 0o755), BUSYBOX.read_bytes())
    for path, target in applets():
        link = entry(path, tarfile.SYMTYPE, 0o777)
        link.linkname = target
        members[path] = (link, b"")
    return tar(members)


def labels(facts: dict[str, str]) -> dict[str, str]:
    prefix = "org.opencontainers.image"
    return {
        f"{prefix}.title": "rdock/starter",
        f"{prefix}.description": "busybox, embedded in rdock so that it runs without a registry",
        f"{prefix}.licenses": "GPL-2.0-only",
        f"{prefix}.version": facts["version"],
        f"{prefix}.created": CREATED,
    }


def archive(facts: dict[str, str]) -> bytes:
    """The image as a docker-archive and OCI layout in one tar, the layer not compressed (the whole will be)."""
    blobs: dict[str, bytes] = {}

    def store(content: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def compact(value: object) -> bytes:
        return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()

    layer_entry = store(layer(facts), "application/vnd.oci.image.layer.v1.tar")
    config = {
        "architecture": facts["architecture"],
        "os": "linux",
        "created": CREATED,
        "config": {"Env": [f"PATH={PATH}"], "Cmd": ["sh"], "Labels": labels(facts)},
        "rootfs": {"type": "layers", "diff_ids": [layer_entry["digest"]]},
        "history": [{"created": CREATED, "created_by": f"busybox-static {facts['version']}"}],
    }
    config_entry = store(compact(config), "application/vnd.oci.image.config.v1+json")
    manifest_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": config_entry,
        "layers": [layer_entry],
        "annotations": labels(facts),
    }
    manifest_entry = store(compact(manifest), manifest_type)
    names = {"io.containerd.image.name": f"docker.io/{REFERENCE}", "org.opencontainers.image.ref.name": "latest"}
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{**manifest_entry, "annotations": names}],
    }

    def blob(described: dict[str, Any]) -> str:
        return f"blobs/{described['digest'].replace(':', '/')}"

    docker = [{"Config": blob(config_entry), "RepoTags": [REFERENCE], "Layers": [blob(layer_entry)]}]
    files = {
        **blobs,
        "index.json": compact(index),
        "manifest.json": compact(docker),
        "oci-layout": compact({"imageLayoutVersion": "1.0.0"}),
    }
    members = {name: (entry(name, tarfile.REGTYPE, 0o644), content) for name, content in files.items()}
    for folder in ("blobs", "blobs/sha256"):
        members[folder] = (entry(folder, tarfile.DIRTYPE, 0o755), b"")
    return tar(members)


def build(output: Path) -> None:
    """Write the image; the file appears complete or not at all."""
    if needs_loader(BUSYBOX.read_bytes()):
        raise SystemExit(f"{BUSYBOX} is not statically linked: sudo apt-get install busybox-static")
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_suffix(".new")
    temporary.write_bytes(gzip.compress(archive(package()), compresslevel=9, mtime=0))
    temporary.replace(output)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT)
