"""rdock's own files and processes seen from inside: nothing to overwrite, nothing to look out through.

CVE-2019-5736 (the runtime's executable through /proc/self/exe), CVE-2024-21626 (a working directory through
a descriptor), and what a container can catch of an exec while that is on its way in.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import is_clear
from tests.conftest import STARTER
from tests.payload.roots import Store, compiled, program
from tests.payload.tars import symlink
from tests.program import CHECKOUT, Rdock

DESCRIPTORS = [*range(3, 31), 255]


@pytest.fixture(scope="module")
def store(shared_rdock: Rdock) -> Iterator[Store]:
    static = compiled("probe.c", "-static")
    found = Store(shared_rdock, "own-program")
    files = [
        program(b"probe", static),
        program(b"script", b"#!/proc/self/exe\n"),
        program(b"script-args", b"#!/proc/self/exe -c import os\n"),
        symlink(b"link", b"/proc/self/exe"),
        # its interpreter is whatever is executing at that moment
        program(b"elf", compiled("probe.c", "-Wl,--dynamic-linker=/proc/self/exe")),
        program(b"elf1", compiled("probe.c", "-Wl,--dynamic-linker=/proc/1/exe")),
        # every loader that a host's Python could ask for is the image's
        *(program(path, static) for path in (b"lib64/ld-linux-x86-64.so.2", b"lib/ld-linux-aarch64.so.1")),
    ]
    found.load({"files": files})
    found.load(
        {f"cwd{fd}": [] for fd in DESCRIPTORS},
        {f"cwd{fd}": {"WorkingDir": f"/proc/self/fd/{fd}"} for fd in DESCRIPTORS},
    )
    found.load(
        {f"odd{n}": [] for n in range(3)}, {f"odd{n}": {"WorkingDir": d} for n, d in enumerate(("x", "../..", "./a"))}
    )
    yield found
    found.remove()


# -- the executable ------------------------------------------------------------------------------


def digests(*paths: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(params=["system", "own", "packed"])
def program_of(request: pytest.FixtureRequest, rdock: Rdock, tmp_path: Path) -> tuple[Rdock, list[Path]]:
    """The program as it is; run by a Python that belongs to the user, so that the container's root could write; packed,
    where all that is executed and loaded is the user's.
    """
    helpers = list((CHECKOUT / "rdock" / "helpers").iterdir())
    if request.param == "system":
        return rdock, helpers
    if request.param == "packed":
        path: Path = request.getfixturevalue("packed")
        files = [file for file in path.parent.rglob("*") if file.is_file()]
        return Rdock(rdock.home, rdock.options, rdock.variables, path=str(path)), files
    python = tmp_path / "python3.11"
    shutil.copy(Path(sys.executable).resolve(), python)
    launcher = tmp_path / "rdock"
    launcher.write_text(f'#!/bin/sh\nexec {python} -I -S -X rdock_site= {CHECKOUT}/rdock/__main__.py "$@"\n')
    launcher.chmod(0o755)
    own = Rdock(rdock.home, rdock.options, rdock.variables, path=str(launcher))
    return own, [python, *helpers]


def is_owned(rdock: Rdock) -> bool:
    """Whether what executes rdock belongs to the user."""
    return rdock.path != str(CHECKOUT / "scripts" / "rdock")


ENTRIES = [
    ["/proc/self/exe"], ["/proc/self/exe", "-c", "print(open('/etc/passwd').read())"], ["/proc/1/exe"], ["/script"],
    ["/script-args"], ["/link"], ["/elf"], ["/elf1"], ["/proc/self/fd/3"], ["/proc/self/fd/10"],
    ["/proc/self/task/1/exe"], ["/proc/thread-self/exe"],
]  # fmt: skip


def test_own_executable_is_out_of_reach(program_of: tuple[Rdock, list[Path]], store: Store) -> None:
    rdock, files = program_of
    owned = is_owned(rdock)
    before = digests(*files)
    image = store.name("files")
    container = rdock.ok("run", "-d", "--network", "none", image, "sleep", "600")
    for command in (["run", "--rm", "--network", "none", image], ["exec", container]):
        for entry in ENTRIES:
            if command[0] == "exec" and entry[0] == "/proc/1/exe":
                continue  # there it is the container's own sleep
            result = rdock(*command, *entry, timeout=20)
            if not owned and entry[0] in ("/script", "/script-args"):
                # A Python of the machine's is started with the image's loader; see the next test.
                assert result.out in ("", "loaded\n"), str(result)
                continue
            assert result.code != 0 and "loaded" not in result.out and "Traceback" not in result.err, str(result)
            if result.code in (126, 127):
                assert is_clear(result.err, 1), str(result)
    assert digests(*files) == before
    rdock.ok("rm", "-f", container)


def test_the_machines_python_may_be_mounted_and_run(rdock: Rdock) -> None:
    """It is what executes rdock, but by the container's own mount it is a program like others."""
    python = str(Path(sys.executable).resolve())
    mounts = [f"-v={path}:{path}:ro" for path in ("/usr", "/lib", "/lib64") if Path(path).exists()]
    container = rdock.ok("run", "-d", "--network", "none", *mounts, STARTER, "sleep", "600")
    for command in (["run", "--rm", "--network", "none", *mounts, STARTER], ["exec", container]):
        assert rdock.ok(*command, python, "-c", "print(6 * 7)") == "42"
        refused = rdock(*command, "/proc/self/exe", "-c", "print(6 * 7)")
        assert refused.code == 126 and is_clear(refused.err)
    rdock.ok("rm", "-f", container)


def test_what_the_images_loader_is_started_on(program_of: tuple[Rdock, list[Path]], store: Store) -> None:
    """`#!/proc/self/exe`: the kernel starts what is executing, with a loader of the image's choice.

    A Python of the user's must not be that: the container's root could write to it later, when it is not busy.
    That of the machine may, as it belongs to an id that does not exist inside.
    """
    rdock, _ = program_of
    owned = is_owned(rdock)
    image = store.name("files")
    for entry in ("/script", "/script-args"):
        result = rdock("run", "--rm", "--network", "none", image, entry, "write", "/proc/self/exe", timeout=20)
        if owned:
            assert result.code == 125 and result.out == "" and "docker-init" in result.err, str(result)
        else:
            first, second = result.out.split()
            assert first != "0" and second in (str(errno.EACCES), str(errno.EROFS)), str(result)


def test_init_cannot_be_overwritten(program_of: tuple[Rdock, list[Path]], store: Store) -> None:
    rdock, files = program_of
    before = digests(*files)
    image = store.name("files")
    for path in ("/proc/1/exe", "/sbin/docker-init"):
        shown = rdock.ok("run", "--rm", "--init", "--network", "none", image, "/probe", "write", path)
        assert shown.split()[0] in (str(errno.ETXTBSY), str(errno.EROFS)) and shown.split()[1] == str(errno.EROFS)
    script = "mount -o remount,rw /sbin/docker-init 2>/dev/null; echo x >>/sbin/docker-init || true"
    rdock("run", "--rm", "--init", "--network", "none", image, "sh", "-c", script)
    assert digests(*files) == before


# -- looking out ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_nothing_outside_is_seen_while_an_exec_starts(
    program_of: tuple[Rdock, list[Path]], store: Store, seconds: int
) -> None:
    """A hunter opens the links of every process that appears; the command line and the environment are hidden too."""
    rdock, _ = program_of
    command = ["--network", "none", store.name("files"), "/probe", "hunt", str(seconds), "host-secret", "of-the-caller"]
    hunter = rdock.start("run", "--rm", "--name", "hunter", *command)
    try:
        count = 0
        while hunter.poll() is None:
            options = ["--env", "TOKEN=host-secret"] if count % 2 else []
            env = {"CALLER": "of-the-caller"}
            count += rdock("exec", *options, "hunter", "/probe", "nothing", env=env).code == 0
    finally:
        out, err = hunter.communicate(timeout=60)
    shown = out.decode().splitlines()
    assert hunter.returncode == 0 and shown[-1].startswith("seen "), (shown, err)
    found = [line for line in shown if line.startswith("found ")]
    assert found == [] and count > 3 and int(shown[-1].split()[1]) > 0


def test_links_of_the_first_process(rdock: Rdock, runtime: str, store: Store) -> None:
    script = r"""
        for p in /proc/1 /proc/self; do
            readlink $p/root; readlink $p/cwd
            [ $p/root/bin/busybox -ef /bin/busybox ] || echo another root
            for f in $p/fd/*; do [ ! -d $f/. ] || case $f in */[012]) ;; *) echo directory $f ;; esac; done
        done
        ls -d /proc/1/root/home/*/ /proc/1/cwd/.. 2>/dev/null
        true
    """
    shown = rdock.ok("run", "--rm", "--network", "none", store.name("files"), "sh", "-c", script).split("\n")
    assert shown == ["/", "/", "/", "/", "/proc/1/cwd/.."]


# -- working directories -------------------------------------------------------------------------


def outcome(code: int, out: str, err: str) -> str:
    """Empty if it was refused in a line, or ended in the root."""
    if code:
        return "" if code in (125, 126, 127) and is_clear(err, 1) and not out else f"{code} {out} {err}"
    return "" if out == "/\n" else f"it ran in {out}"


def test_working_directory_of_an_image_through_a_descriptor(rdock: Rdock, runtime: str, store: Store) -> None:
    for fd in DESCRIPTORS:
        result = rdock("run", "--rm", "--network", "none", store.name(f"cwd{fd}"), "pwd", timeout=20)
        assert not outcome(result.code, result.out, result.err), fd


def test_working_directory_through_a_descriptor(rdock: Rdock, runtime: str, store: Store) -> None:
    image = store.name("files")
    container = rdock.ok("run", "-d", "--network", "none", image, "sleep", "600")
    places = [f"/proc/self/fd/{fd}" for fd in DESCRIPTORS[:12]]
    places += ["/proc/1/fd/5", "/proc/self/cwd", "/proc/self/root", "/proc/thread-self/fd/8"]
    for place in places:
        run = rdock("run", "--rm", "--network", "none", "-w", place, image, "pwd", timeout=20)
        assert not outcome(run.code, run.out, run.err), place
        done = rdock("exec", "-w", place, container, "pwd", timeout=20)
        assert done.code != 0 or done.out == "/\n", f"{place}: {done}"
        assert done.code == 0 or is_clear(done.err, 1), f"{place}: {done}"
    rdock.ok("rm", "-f", container)


def test_working_directory_of_an_image_that_is_relative(rdock: Rdock, store: Store) -> None:
    for number in range(3):
        result = rdock("run", "--rm", "--network", "none", store.name(f"odd{number}"), "pwd")
        assert result.code == 125 and "absolute" in result.err and is_clear(result.err, 1)


# -- names that end up in files ------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a\nroot::0:0::/:/bin/sh", "a:b", "a b", "a\tb", "-a", "a" * 65, "../../x", "é", "a\r"]
)
def test_hostnames_that_would_write_lines(rdock: Rdock, name: str) -> None:
    result = rdock("run", "--rm", "--network", "none", f"--hostname={name}", "rdock/starter", "true")
    assert result.code == 125 and is_clear(result.err, 1) and "hostname" in result.err


def test_generated_files_have_the_expected_lines_only(rdock: Rdock, runtime: str, tmp_path: Path) -> None:
    script = (
        "cat /etc/passwd /etc/group; echo ==; cat /etc/hosts; echo ==; cat /etc/hostname; echo ==; cat /etc/resolv.conf"
    )
    plain = rdock.ok("run", "--rm", "--network", "none", "--hostname", "one", "rdock/starter", "sh", "-c", script)
    odd = rdock.ok(
        "run", "--rm", "--network", "none", "--hostname", "one", "-e", "HOME=/x\nroot::0:0::/:/bin/sh",
        "-e", "HOSTNAME=a\nb", "-u", "12345:54321", "--label", "a\nb=c\nd", "rdock/starter", "sh", "-c", script,
    )  # fmt: skip
    assert odd == plain
    assert plain.split("==\n")[2] == "one\n"
    assert sum("one" in line.split() for line in plain.split("==\n")[1].splitlines()) == 1
