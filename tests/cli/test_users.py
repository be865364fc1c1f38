"""Who a container's program is: users and groups of images whose files cannot be trusted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear
from tests.conftest import STARTER
from tests.payload.roots import Entry, Store, compiled, fifo, gone, program, sparse
from tests.payload.tars import directory, file, header, padded, symlink
from tests.program import Rdock

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
app:x:1000:100:An App,,,:/home/app:/bin/sh
app:x:0:0:the second of that name:/:/bin/sh
lonely:x:1001:1001::/:
short:x:1002:1002
1000:x:0:0:named like a number:/root:/bin/sh
4242:x:0:0:and no such id:/root:/bin/sh
wrapped:x:4294967296:0::/:/bin/sh
negative:x:-1:0::/:/bin/sh
words:x:zero:0::/:/bin/sh
long:x:%s:0::/:/bin/sh
::0:0:nobody's name::
""" % (b"9" * 5000)
GROUP = b"""root:x:0:
wheel:x:10:root
users:x:100:
staff:x:50:app
secret:x:60:other,app
app2:x:70:app2
1000:x:0:app2
wrapped:x:4294967296:
"""
# name: how /etc/passwd and /etc/group are replaced
STRANGE: dict[str, tuple[Entry, Entry]] = {
    "fifo": (fifo(b"etc/passwd"), fifo(b"etc/group")),
    "zero": (symlink(b"etc/passwd", b"/dev/zero"), symlink(b"etc/group", b"/dev/zero")),
    "kmsg": (symlink(b"etc/passwd", b"/proc/kmsg"), symlink(b"etc/group", b"/proc/kmsg")),
    "sparse": (sparse(b"etc/passwd", 1 << 31), sparse(b"etc/group", 1 << 31)),
    "lines": (file(b"etc/passwd", b"u:x:7:7::/:\n" * 10**6), file(b"etc/group", b"g:x:7:u\n" * 10**6)),
    "loop": (symlink(b"etc/passwd", b"group"), symlink(b"etc/group", b"passwd")),
    "directory": (directory(b"etc/passwd"), directory(b"etc/group")),
    "missing": (gone(b"etc/passwd"), gone(b"etc/group")),
    "link-out": (symlink(b"etc/passwd", b"../../../../etc/passwd"), symlink(b"etc/group", b"/proc/1/root/etc/group")),
    "binary": (file(b"etc/passwd", bytes(range(256)) * 64), file(b"etc/group", bytes(range(256)) * 64)),
}
IDS = ["4294967296", "2147483648", "-1", "0:4294967296", "0:-1", "99999999999999999999"]


@pytest.fixture(scope="module")
def store(shared_rdock: Rdock) -> Iterator[Store]:
    files = [file(b"etc/passwd", PASSWD), file(b"etc/group", GROUP)]
    files += [header(b"denied", b"0", 2, mode=0o604, gid=60) + padded(b"x\n"), directory(b"home/app", uid=1000)]
    found = Store(shared_rdock, "users")
    found.load({"known": files})
    found.load(STRANGE)
    found.load({f"id{n}": files for n in range(len(IDS))}, {f"id{n}": {"User": text} for n, text in enumerate(IDS)})
    found.load({"user": files}, {"user": {"User": "app"}})
    setuid = program(b"probe", compiled("probe.c", "-static"), 0o4755)
    found.load({"setuid": [setuid, header(b"root/secret", b"0", 6, mode=0o600) + padded(b"secret")]})
    yield found
    found.remove()


# By the kernel's words: programs that know users read the files that are none.
SHOW = """
while read -r key real effective rest; do
    case $key in Uid:) uid=$real ;; Gid:) gid=$real ;; Groups:) groups="$real $effective $rest" ;; esac
done </proc/self/status
echo $uid $gid $groups $HOME
"""


def run(rdock: Rdock, image: str, *options: str) -> tuple[int, str, str]:
    result = rdock("run", "--rm", "--network", "none", *options, image, "sh", "-c", SHOW, timeout=20)
    return result.code, result.out.strip(), result.err


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("", "0 0 0 10 /root"),
        ("root", "0 0 0 10 /root"),
        ("0", "0 0 0 10 /root"),
        ("00", "0 0 0 10 /root"),
        ("app", "1000 100 50 60 100 /home/app"),
        ("app:", "1000 100 50 60 100 /home/app"),
        ("app:staff", "1000 50 50 /home/app"),
        ("app:7", "1000 7 7 /home/app"),
        (":staff", "0 50 50 /root"),
        ("lonely", "1001 1001 1001 /"),
        ("short", "1002 1002 1002 /"),
        # a number is an id, whatever else has that name
        ("1000", "1000 100 50 60 100 /home/app"),
        ("1000:1000", "1000 1000 1000 /home/app"),
        ("4242", "4242 0 0 /"),
        ("4242:4242", "4242 4242 4242 /"),
        ("65000", "65000 0 0 /"),
    ],
)
def test_who(rdock: Rdock, runtime: str, store: Store, user: str, shown: str) -> None:
    options = ["-u", user] if user else []
    assert run(rdock, store.name("known"), *options) == (0, shown, "")


@pytest.mark.parametrize("user", [*IDS, "--5", "-", "9" * 5000, "nobody-here", "app:nobody-here", "ab\nroot", "1000\n"])
def test_refused(rdock: Rdock, store: Store, user: str) -> None:
    code, out, err = run(rdock, store.name("known"), f"--user={user}")
    assert (code, out) == (125, "") and is_clear(err, 3 if "\n" in user else 1), err[:300]


@pytest.mark.parametrize("user", ["wrapped", "negative", "words", "long", "0:wrapped"])
def test_ids_of_the_image_that_are_none(rdock: Rdock, store: Store, user: str) -> None:
    code, out, err = run(rdock, store.name("known"), "-u", user)
    assert (code, out) == (125, "") and is_clear(err, 1), err[:300]


@pytest.mark.parametrize("number", range(len(IDS)))
def test_ids_of_an_images_user(rdock: Rdock, store: Store, number: int) -> None:
    code, out, err = run(rdock, store.name(f"id{number}"))
    assert (code, out) == (125, "") and "range" in err and is_clear(err, 1)


def test_id_that_does_not_exist_here(rdock: Rdock, store: Store) -> None:
    code, out, err = run(rdock, store.name("known"), "-u", "2147483647")
    assert (code, out) == (125, "") and is_clear(err, 2)


@pytest.mark.parametrize("kind", STRANGE)
def test_files_that_are_none(rdock: Rdock, store: Store, kind: str) -> None:
    """Numbers work without them, names do not; nothing blocks, and memory is enough for a small file only."""
    image = store.name(kind)
    assert run(rdock, image, "-u", "7:8") == (0, "7 8 8 /", "")
    code, out, _ = run(rdock, image)
    assert (code, out.split()[:2]) == (0, ["0", "0"])
    limited = ["sh", "-c", 'ulimit -v 700000 && exec "$@"', "limited"]
    command = [*limited, *rdock.argv("run", "--rm", "--network", "none", "-u", "u-or-not", image, "true")]
    done = subprocess.run(command, env=rdock.environment(), capture_output=True, text=True, timeout=20)
    assert done.returncode == 125 and "unable to find user u-or-not" in done.stderr and is_clear(done.stderr, 1)


@pytest.mark.parametrize("kind", ["fifo", "zero", "kmsg", "sparse", "loop", "link-out"])
def test_exec_reads_them_while_the_container_runs(rdock: Rdock, store: Store, kind: str) -> None:
    """Now /dev/zero and /proc/kmsg are the real ones, and the container's program can exchange the files."""
    container = rdock.ok("run", "-d", "--network", "none", store.name(kind), "sleep", "600")
    assert rdock.ok("exec", "-u", "7:8", container, "sh", "-c", SHOW, timeout=20) == "7 8 8 /"
    result = rdock("exec", "-u", "somebody", container, "true", timeout=20)
    assert result.code != 0 and "unable to find user somebody" in result.err and is_clear(result.err, 1)
    rdock.ok("rm", "-f", container)


def test_groups_that_deny(rdock: Rdock, runtime: str, store: Store) -> None:
    """A file of mode 0604 and group 60 is for everybody but the group (CVE-2022-2989, CVE-2022-36109)."""
    image = store.name("known")

    def reads(*options: str) -> bool:
        return rdock("run", "--rm", "--network", "none", *options, image, "cat", "/denied").code == 0

    assert reads("-u", "lonely") and reads("-u", "1000:100")
    assert not reads("-u", "app") and not reads("-u", "1000:60") and not reads("-u", "app:60")
    container = rdock.ok("run", "-d", "--network", "none", "-u", "1001", image, "sleep", "600")
    for user, code in (("lonely", 0), ("app", 1), ("1000:60", 1), ("1000:100", 0)):
        assert rdock("exec", "-u", user, container, "cat", "/denied").code == code, user
    rdock.ok("rm", "-f", container)


def test_primary_group_is_not_got_rid_of(rdock: Rdock, runtime: str, store: Store) -> None:
    """CVE-2022-36109: a program that is setgid for another group is still in the user's own one."""
    script = "cp /bin/busybox /tmp/cat && chgrp 77 /tmp/cat && chmod 2755 /tmp/cat && exec sleep 600"
    container = rdock.ok("run", "-d", "--network", "none", store.name("known"), "sh", "-c", script)
    rdock.ok("exec", container, "sh", "-c", "until [ -g /tmp/cat ]; do :; done")
    for user in ("4242:60", "app:secret"):
        assert rdock("exec", "-u", user, container, "/tmp/cat", "/denied").code == 1
    assert rdock("exec", "-u", "4242:61", container, "/tmp/cat", "/denied").code == 0
    rdock.ok("rm", "-f", container)


def test_exec_is_the_containers_user_by_default(rdock: Rdock, runtime: str, store: Store) -> None:
    container = rdock.ok("run", "-d", "--network", "none", store.name("user"), "sleep", "600")
    assert rdock.ok("exec", container, "sh", "-c", SHOW) == "1000 100 50 60 100 /home/app"
    assert rdock.ok("exec", "-u", "root", container, "sh", "-c", SHOW) == "0 0 0 10 /root"
    assert rdock.ok("exec", "-u", ":50", container, "sh", "-c", SHOW) == "0 50 50 /root"
    for user in ("-1", "4294967296", "nobody-here"):
        result = rdock("exec", f"--user={user}", container, "true")
        assert result.code not in (0, 126, 127) and is_clear(result.err, 1), str(result)
    rdock.ok("rm", "-f", container)


def test_setuid_programs_gain_no_more_than_the_bounding_set(rdock: Rdock, runtime: str, store: Store) -> None:
    """As in Docker: root of the container with what it was limited to, and nothing of the host's."""
    container = rdock.ok("run", "-d", "--network", "none", store.name("setuid"), "sleep", "600")
    shown = rdock.ok("exec", "-u", "4242:1", container, "/probe", "show", "/proc/self/status", "/root/secret")
    fields = dict(line.split(":\t", 1) for line in shown.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["4242", "0", "0", "0"]
    assert fields["CapInh"] == fields["CapAmb"] == "0" * 16
    assert fields["CapEff"] == fields["CapPrm"] == fields["CapBnd"] == rdock_bounding(rdock, container)
    assert int(fields["CapBnd"], 16) & 1 << 21 == 0, "CAP_SYS_ADMIN"
    assert shown.endswith("secret")
    rdock.ok("rm", "-f", container)


def rdock_bounding(rdock: Rdock, container: str) -> str:
    return rdock.ok("exec", container, "sed", "-n", "s/^CapBnd:\t//p", "/proc/self/status")


def test_setuid_programs_gain_nothing_without_new_privileges(rdock: Rdock, runtime: str, store: Store) -> None:
    options = ["-u", "4242:1", "--security-opt", "no-new-privileges", "--network", "none"]
    container = rdock.ok("run", "-d", *options, store.name("setuid"), "sleep", "600")
    for command in (["exec", container], ["run", "--rm", *options, store.name("setuid")]):
        result = rdock(*command, "/probe", "show", "/proc/self/status", "/root/secret")
        assert result.code == 1 and "Uid:\t4242\t4242\t4242\t4242\n" in result.out, str(result)
        assert "CapEff:\t0000000000000000\n" in result.out and "NoNewPrivs:\t1\n" in result.out
    rdock.ok("rm", "-f", container)


def test_own_id_on_the_host_is_told_of_once(own_rdock: Rdock, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    command = ("run", "--rm", "--network", "none", "-u", f"{os.getuid()}", "-v", f"{tmp_path}:/w", STARTER, "true")
    first, second = own_rdock(*command), own_rdock(*command)
    assert (first.code, second.code, second.err) == (0, 0, "")
    assert "Leave out -u" in first.err
