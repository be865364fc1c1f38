"""A container's root: copy-on-write from the image, the same on every storage driver and runtime."""

from __future__ import annotations

import json
import tarfile
from typing import IO

from tests.conftest import STARTER
from tests.payload.image_archives import docker_archive, image
from tests.payload.tars import directory, end, file, hardlink
from tests.program import CHECKOUT, Rdock

# What a program may do to the files of the image, each line followed by what it must then see.
CHANGES = r"""
set -e
# delete a file and make another of its name
rm /etc/group; test ! -e /etc/group; echo new >/etc/group; test "$(cat /etc/group)" = new
# a directory of the image: moved whole, its old place is gone, its content is there
mv /usr/share /usr/moved; test ! -e /usr/share; test -d /usr/moved/doc
# removed with all that is in it and made anew: nothing shines through
rm -r /var; mkdir /var; test -z "$(ls -A /var)"
# a directory in the place of a file, and the reverse
rm /etc/passwd; mkdir /etc/passwd; touch /etc/passwd/in; test -f /etc/passwd/in
rm -r /opt; echo file >/opt; test "$(cat /opt)" = file
# mode and owner of a file of the image, and of a directory
chmod 640 /etc/group; test "$(stat -c %a /etc/group)" = 640
chown 33:100 /bin/busybox; test "$(stat -c %u:%g /bin/busybox)" = 33:100
chmod 1770 /srv; chown 7:8 /srv; test "$(stat -c %a:%u:%g /srv)" = 1770:7:8
# names of one file: what is written by one is read by the other
echo one >/tmp/first; ln /tmp/first /tmp/second; echo two >>/tmp/second
test "$(cat /tmp/first)" = "one
two"; test "$(stat -c %h /tmp/first)" = 2; test "$(stat -c %i /tmp/first)" = "$(stat -c %i /tmp/second)"
# symbolic links, sparse files, times, appending to what the image has
ln -s /tmp/first /tmp/link; test "$(readlink /tmp/link)" = /tmp/first
dd if=/dev/zero of=/tmp/hole bs=1 count=1 seek=100M 2>/dev/null; test "$(du -k /tmp/hole | cut -f1)" -lt 1000
touch -d 2001-02-03 /etc/motd; test "$(date -r /etc/motd +%Y)" = 2001
echo changed
"""


def test_what_a_program_may_do(rdock: Rdock, storage: str, runtime: str) -> None:
    result = rdock("run", "--rm", "--network", "none", STARTER, "sh", "-ec", CHANGES)
    assert (result.code, result.out) == (0, "changed\n"), str(result)


def test_containers_do_not_see_each_others_changes(rdock: Rdock, storage: str) -> None:
    script = "echo {0} >/etc/motd; rm -f /bin/{0}; mkdir -p /opt/{0}; echo ready; exec sleep 100"
    first, second = (
        rdock.ok("run", "-d", "--network", "none", STARTER, "sh", "-c", script.format(name)) for name in ("cp", "sed")
    )
    for container, own, other in ((first, "cp", "sed"), (second, "sed", "cp")):
        seen = rdock.ok(
            "exec", container, "sh", "-c", "while ! [ -d /opt/* ]; do sleep 0.05; done; cat /etc/motd; echo /opt/*"
        )
        assert seen == f"{own}\n/opt/{own}"
        assert rdock("exec", container, "test", "-e", f"/bin/{other}").code == 0
        assert rdock("exec", container, "test", "-e", f"/bin/{own}").code == 1
    third = rdock.ok("run", "--rm", "--network", "none", STARTER, "sh", "-c", "ls -A /opt; ls /bin/cp /bin/sed")
    assert third == "/bin/cp\n/bin/sed"


def test_stacked_layers(rdock: Rdock, storage: str, runtime: str) -> None:
    """Whiteouts and opaque directories of an image, then of the container itself, on top of each other."""
    lowest = b"".join((
        directory(b"kept"), file(b"kept/low", b"low"), directory(b"hidden"), file(b"hidden/low", b"low"),
        directory(b"deep"), directory(b"deep/er"), file(b"deep/er/low", b"low"), file(b"gone", b"low"),
        file(b"twin", b"low"), hardlink(b"twin.2", b"twin"), file(b"replaced", b"low"), end(),
    ))  # fmt: skip
    middle = b"".join((
        file(b".wh.gone"), directory(b"hidden"), file(b"hidden/.wh..wh..opq"), file(b"hidden/mid", b"mid"),
        directory(b"deep"), file(b"deep/.wh.er"), directory(b"replaced"), file(b"replaced/mid", b"mid"), end(),
    ))  # fmt: skip
    highest = directory(b"deep") + directory(b"deep/er") + file(b"deep/er/high", b"high") + end()
    archive = docker_archive((image(*_busybox(), lowest, middle, highest, Cmd=["/bin/sh"]), ["stacked:latest"]))
    rdock.ok("load", input=archive)
    script = """
        cd /; for name in kept hidden deep deep/er replaced; do echo $name: $(ls -A $name); done; ls gone
        rm -r hidden deep; mkdir hidden deep; ls -A hidden deep; cat twin; echo more >>twin; cat twin.2
    """
    result = rdock("run", "--rm", "--network", "none", "stacked", "/bin/sh", "-c", script)
    lines = result.out.split("\n")
    assert lines[:5] == ["kept: low", "hidden: mid", "deep: er", "deep/er: high", "replaced: mid"], str(result)
    assert "gone" in result.err and lines[5:8] == ["deep:", "", "hidden:"], str(result)
    again = rdock.ok("run", "--rm", "--network", "none", "stacked", "/bin/sh", "-c", "cat /twin /twin.2; ls /hidden")
    assert again == "lowlowmid"


def _busybox() -> list[bytes]:
    """One layer with a shell: the static busybox of the starter image, since a machine may have none."""
    with tarfile.open(CHECKOUT / "rdock" / "starter" / "starter.tar.gz") as archive:
        (entry,) = json.load(_open(archive, "manifest.json"))
        with tarfile.open(fileobj=_open(archive, entry["Layers"][0])) as layer:
            content = _open(layer, "bin/busybox").read()
    links = b"".join(hardlink(b"bin/" + name, b"bin/busybox") for name in (b"sh", b"ls", b"rm", b"mkdir", b"cat"))
    return [directory(b"bin") + file(b"bin/busybox", content, mode=0o755) + links + end()]


def _open(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    assert file is not None, name
    return file
