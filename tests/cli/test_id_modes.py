"""The three ways to be root of a small world, chosen or forced; settings; info, version, doctor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rdock import __version__
from tests.cli.conftest import is_clear, write_settings
from tests.conftest import STARTER
from tests.program import Rdock

RUN = ("run", "--rm", "--network", "none", STARTER)
OUTER = ("unshare", "--user", "--map-root-user", "--map-auto")


def ids(rdock: Rdock, *options: str) -> int:
    """How many user ids a container has."""
    text = Rdock(rdock.home, [*rdock.options, *options]).ok(*RUN, "cat", "/proc/self/uid_map")
    return sum(int(line.split()[2]) for line in text.splitlines())


def test_subids(own_rdock: Rdock) -> None:
    assert ids(own_rdock, "--id-mode", "subids") == ids(own_rdock) == 65537
    assert own_rdock.ok("info", "-f", "{{.IdMode}}") == "subids"


def test_single(own_rdock: Rdock) -> None:
    own_rdock.options += ["--id-mode", "single"]
    assert ids(own_rdock) == 1
    assert own_rdock.ok("info", "-f", "{{.IdMode}}") == "single"
    # What an image says of owners does not keep it from running; what cannot be is refused in words.
    assert own_rdock.ok(*RUN, "sh", "-c", "id -u; id -g; stat -c %u:%g /bin /tmp").split() == ["0", "0", "0:0", "0:0"]
    result = own_rdock("run", "--rm", "--network", "none", "-u", "33", STARTER, "true")
    assert result.code in (125, 126) and is_clear(result.err), str(result)
    container = own_rdock.ok("run", "-d", "--network", "none", STARTER, "sleep", "100")
    assert own_rdock.ok("exec", container, "id", "-u") == "0"
    own_rdock.ok("rm", "-f", container)


@pytest.mark.slow
def test_single_with_a_debian_tree(own_rdock: Rdock, debian_tree: Path) -> None:
    own_rdock.options += ["--id-mode", "single"]
    own_rdock.ok("import", str(debian_tree), "debian", timeout=300)
    script = "dpkg --version | head -1; stat -c %U /etc/shadow; touch /usr/made && rm /usr/made && echo fine"
    result = own_rdock("run", "--rm", "--network", "none", "debian", "sh", "-c", script)
    assert result.code == 0 and result.out.endswith("fine\n"), str(result)


def test_both_modes_side_by_side(own_rdock: Rdock) -> None:
    """One store serves both; a container keeps the mode that it was made in."""
    single = Rdock(own_rdock.home, ["--id-mode", "single"])
    containers = [
        program.ok("run", "-d", "--network", "none", STARTER, "sleep", "100") for program in (own_rdock, single)
    ]
    assert len(own_rdock.ok("ps", "-q").split()) == 2
    for program, container in zip((own_rdock, single), containers, strict=True):
        assert program.ok("exec", container, "echo", "in") == "in"
        assert program.ok("rm", "-f", container) == container
    assert own_rdock.ok("ps", "-aq") == ""


def test_direct_mode_is_impossible_for_an_ordinary_user(own_rdock: Rdock) -> None:
    result = own_rdock("--id-mode", "direct", *RUN, "true")
    assert result.code == 125 and is_clear(result.err) and "id mode direct is not possible" in result.err
    assert own_rdock.home.leftovers(5) == []


@pytest.mark.noids
def test_user_without_ids(own_rdock: Rdock) -> None:
    assert ids(own_rdock) == 1
    result = own_rdock("--id-mode", "subids", *RUN, "true")
    assert result.code == 125 and is_clear(result.err)
    assert "sudo usermod --add-subuids" in result.err.splitlines()[1]
    assert "usermod" in own_rdock("doctor").out


@pytest.fixture
def outer(own_rdock: Rdock) -> Rdock:
    """Root inside an outer container: full ranges, written directly, no newuidmap. One process runs all commands."""
    if not shutil.which("unshare") or subprocess.run([*OUTER, "true"], capture_output=True).returncode:
        pytest.skip("no user namespace with ranges can be made")
    return own_rdock


def inside(rdock: Rdock, script: str) -> str:
    """Run a shell script as root of an outer user namespace; `rdock` in it is the program."""
    done = subprocess.run(
        [*OUTER, "--mount", "sh", "-ec", f'rdock() {{ "{rdock.path}" "$@"; }}\n{script}'],
        env=rdock.environment(), capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_direct_inside_an_outer_container(outer: Rdock) -> None:
    script = f"""
        rdock info -f '{{{{.IdMode}}}}'
        rdock run --rm --network none {STARTER} sh -c 'id -u; chown 33:33 /tmp && stat -c %u /tmp'
        c=$(rdock run -d {STARTER} sleep 100)
        rdock exec -u 33 $c id -u
        rdock --storage-driver fuse-overlayfs run --rm {STARTER} echo fuse
        rdock rm -f $c >/dev/null
        rdock ps -aq
    """
    assert inside(outer, script).split() == ["direct", "0", "33", "33", "fuse"]


# -- settings ------------------------------------------------------------------------------------


def test_settings(own_rdock: Rdock) -> None:
    write_settings(own_rdock, '{"id-mode": "single", "storage-driver": "copy", "holder-linger": 0.5}')
    assert own_rdock.ok("info", "-f", "{{.IdMode}} {{.Driver}}") == "single copy"
    assert ids(own_rdock) == 1
    # the command line wins
    forced = Rdock(own_rdock.home, ["--id-mode", "subids", "--storage-driver", "overlay"])
    assert forced.ok("info", "-f", "{{.IdMode}} {{.Driver}}") == "subids overlay"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "config.json"),
        ("[]", "config.json"),
        ('{"nosuch": 1}', "unknown setting: nosuch"),
        ('{"id_mode": "single"}', "unknown setting: id_mode"),
        ('{"id-mode": "sometimes"}', "unknown id mode: sometimes"),
        ('{"id-mode": 1}', "id-mode: not a string"),
        ('{"storage-driver": "aufs"}', "unknown storage driver: aufs"),
        ('{"holder-linger": "1"}', "holder-linger: not a number"),
        ('{"holder-linger": 60}', "not between 0 and 10"),
        ('{"holder-linger": NaN}', "config.json"),
        ('{"low-ports": "8080"}', "low-ports: not a number to add, as +8000: 8080"),
        ('{"low-ports": 8000}', "low-ports: not a string"),
        ('{"runtime": "nosuch", "holder-linger": 0}', "nosuch"),
    ],
)
def test_settings_that_are_wrong(own_rdock: Rdock, text: str, said: str) -> None:
    write_settings(own_rdock, text)
    result = own_rdock(*RUN, "true")
    assert result.code == 125 and is_clear(result.err) and said in result.err, str(result)


# -- info, version, doctor -----------------------------------------------------------------------


def test_version(rdock: Rdock) -> None:
    assert rdock.ok("--version") == f"rdock version {__version__}"
    assert rdock.ok("version", "-f", "{{.Client.Version}} {{.Server.Version}}") == f"{__version__} {__version__}"
    assert json.loads(rdock.ok("version", "-f", "json"))["Server"]["KernelVersion"] == os.uname().release


def test_info(rdock: Rdock) -> None:
    containers = [rdock.ok("run", "-d", "--network", "none", STARTER, "sleep", "100") for _ in range(2)]
    rdock.ok("kill", containers[0])
    rdock.ok("wait", containers[0])
    found = json.loads(rdock.ok("info", "-f", "json"))
    assert (found["Containers"], found["ContainersRunning"], found["ContainersStopped"]) == (2, 1, 1)
    assert found["Images"] >= 1 and found["Driver"] == "overlay" and found["IdMode"] == "subids"
    assert found["DataRoot"] == str(rdock.home.data)
    text = rdock.ok("info")
    for line in (" Storage Driver: overlay", " Logging Driver: json-file", "  Volume: local", " Docker Root Dir: "):
        assert f"\n{line}" in text, line
    assert "Mirrors" in found["RegistryConfig"]["IndexConfigs"]["docker.io"]


def test_doctor(rdock: Rdock) -> None:
    findings = json.loads(rdock.ok("doctor", "--json"))
    names = [finding["name"] for finding in findings]
    assert len(names) == len(set(names)) > 8
    for finding in findings:
        assert set(finding) == {"name", "status", "detail", "fix"} and finding["status"] in ("ok", "limited", "missing")
    text = rdock.ok("doctor")
    assert all(f"{finding['name']}: " in text for finding in findings)


def test_doctor_finds_what_is_missing(own_rdock: Rdock, tmp_path: Path) -> None:
    """A machine without slirp4netns, fuse-overlayfs and crun, made by hiding them."""
    if subprocess.run([*OUTER, "true"], capture_output=True).returncode:
        pytest.skip("no user namespace with ranges can be made")
    script = """
        for name in slirp4netns fuse-overlayfs; do mount --bind /dev/null $(command -v $name); done
        rdock doctor --json
    """
    found = {entry["name"]: entry for entry in json.loads(inside(own_rdock, script))}
    assert any("slirp4netns" in entry["fix"] for entry in found.values()), found
    assert any("fuse-overlayfs" in entry["fix"] for entry in found.values()), found


@pytest.mark.parametrize("options", [["-r"], ["-rm"], ["-rmpf", "--mount-proc"], ["-c", "-U"]], ids=" ".join)
def test_inside_a_user_namespace_of_one_id(own_rdock: Rdock, options: list[str]) -> None:
    """Each has a holder of its own, though they share a home: those of others are out of reach."""
    environment = own_rdock.environment()
    for _ in range(2):
        command = ["unshare", *options, *own_rdock.argv("run", "--rm", "--network", "none", STARTER, "id", "-u")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")
        assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_without_slirp4netns(own_rdock: Rdock) -> None:
    """What does not need the world goes on without a way out, and says so."""
    if subprocess.run([*OUTER, "true"], capture_output=True).returncode:
        pytest.skip("no user namespace with ranges can be made")
    script = f"""
        mount --bind /dev/null $(command -v slirp4netns)
        exec 2>&1
        rdock run --rm {STARTER} ls /sys/class/net
        rdock run -d --name web -p 127.0.0.1:8080:80 {STARTER} sh -c 'echo page >/index.html; httpd -f -p 80 -h /'
        for n in 1 2 3 4 5 6 7 8 9 10; do curl -s -m 2 http://127.0.0.1:8080/index.html && break; sleep 0.3; done
        rdock rm -f web
        rdock run --rm --network slirp4netns {STARTER} true || echo code $?
    """
    missing = "slirp4netns is not installed, which a container's own network needs"
    hint = "sudo apt-get install slirp4netns, or use --network host or none"
    note = f"rdock: note: this container has no way out of here: {missing}"
    lines = inside(own_rdock, script).splitlines()
    assert len(lines.pop(4)) == 64
    assert lines == [note, hint, "eth0", "lo", note, hint, "page", "web", f"rdock: {missing}", hint, "code 125"]
