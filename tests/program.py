"""rdock seen from outside: how the tests start the program, and how they see that nothing of it is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
XDG = {"XDG_DATA_HOME": "data", "XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache"}
# The holder and other shared processes may outlive the last container by 10 seconds.
LINGER = 15.0


@dataclass(frozen=True)
class Result:
    """How a command ended: exit code and what it wrote."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"{' '.join(self.argv)}: exit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Home:
    """Directories for one rdock of its own: no other test, and no real user, shares anything with it."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="rdock-home-", dir="/var/tmp"))
        # The path of a unix socket has 107 bytes at most.
        base = os.environ.get("XDG_RUNTIME_DIR", "")
        self.runtime = Path(tempfile.mkdtemp(prefix="rd-", dir=base if os.access(base, os.W_OK) else "/tmp"))
        for name in (*XDG.values(), "home"):
            (self.root / name).mkdir(mode=0o700)

    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.root / "home"),
            "XDG_RUNTIME_DIR": str(self.runtime),
            **{variable: str(self.root / name) for variable, name in XDG.items()},
        }

    @property
    def data(self) -> Path:
        return self.root / "data" / "rdock"

    def processes(self) -> list[str]:
        """The processes of this rdock, as `pid command line`.

        A process is ours if our directories are named in its environment (rdock and its forks), its command
        line, its open files (fuse-overlayfs) or its mounts (slirp4netns, what runs in a container).
        """
        marks = [os.fsencode(self.root), os.fsencode(self.runtime)]
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if int(pid) != os.getpid() and any(mark in text for text in _texts(pid) for mark in marks):
                cmdline = _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode("utf-8", "replace").strip()
                found.append(f"{pid} {cmdline or _read(f'/proc/{pid}/comm').decode().strip()}")
        return found

    def mounts(self) -> list[str]:
        """Mount points below our directories that are visible here, outside of rdock's namespaces."""
        marks = (str(self.root), str(self.runtime))
        return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if any(m in line for m in marks)]

    def leftovers(self, patience: float = LINGER) -> list[str]:
        """What is still there after waiting for it to go."""
        deadline = time.monotonic() + patience
        while left := self.processes() + self.mounts():
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return left

    def remove(self) -> None:
        """Delete the directories; files of other ids in them need the root of a user namespace."""
        shutil.rmtree(self.runtime, ignore_errors=True)
        shutil.rmtree(self.root, ignore_errors=True)
        if self.root.exists() and shutil.which("unshare"):
            command = ["unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", str(self.root)]
            subprocess.run(command, check=False, capture_output=True)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _texts(pid: str) -> Iterator[bytes]:
    yield _read(f"/proc/{pid}/environ")
    yield _read(f"/proc/{pid}/cmdline")
    yield _descriptors(pid)
    if os.path.exists(f"/proc/{pid}/ns/mnt") and _namespace(pid) != _namespace("self"):
        yield _read(f"/proc/{pid}/mountinfo")


def _descriptors(pid: str) -> bytes:
    """What a process has open, such as the layers under a fuse-overlayfs, which is told of them by descriptor."""
    found = []
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            found.append(os.fsencode(os.readlink(f"/proc/{pid}/fd/{fd}")))
    except OSError:
        pass  # it ended meanwhile, or is not ours
    return b"\n".join(found)


def _namespace(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


@dataclass
class Rdock:
    """The program: `rdock("run", "--rm", image, "true")` runs it and returns a Result, whatever its exit code."""

    home: Home
    options: list[str] = field(default_factory=list)
    """Global options that go before the command."""
    variables: dict[str, str] = field(default_factory=dict)
    """What the environment has beyond the home's."""
    timeout: float = 120
    path: str = str(CHECKOUT / (os.environ.get("RDOCK_PROGRAM") or "scripts/rdock"))

    def argv(self, *args: str) -> list[str]:
        return [self.path, *self.options, *args]

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**self.home.environment(), **self.variables, **(env or {})}

    def __call__(
        self,
        *args: str,
        input: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> Result:
        done = subprocess.run(
            self.argv(*args),
            input=input.encode() if isinstance(input, str) else input if input is not None else b"",
            capture_output=True,
            env=self.environment(env),
            cwd=cwd,
            timeout=timeout or self.timeout,
        )
        out, err = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
        return Result(tuple(args), done.returncode, out, err)

    def ok(self, *args: str, input: str | bytes | None = None, timeout: float | None = None) -> str:
        """Run a command that must succeed: its standard output without the last line feed."""
        result = self(*args, input=input, timeout=timeout)
        assert result.code == 0, str(result)
        return result.out.removesuffix("\n")

    def start(self, *args: str, env: Mapping[str, str] | None = None, **popen: object) -> subprocess.Popen[bytes]:
        """Start a command and leave it running, as a Popen with pipes unless told otherwise."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(self.argv(*args), env=self.environment(env), **{**pipes, **popen})  # type: ignore

    def remove_containers(self) -> None:
        """Remove every container, running or not, that has a record."""
        records = self.home.data / "containers"
        ids = [entry.name for entry in records.iterdir() if entry.is_dir()] if records.is_dir() else []
        if ids:
            self("rm", "-f", *ids)


def run_many(commands: Sequence[subprocess.Popen[bytes]], timeout: float = 120) -> list[int]:
    """Wait for all of the started commands: their exit codes."""
    deadline = time.monotonic() + timeout
    return [command.wait(max(0.1, deadline - time.monotonic())) for command in commands]
