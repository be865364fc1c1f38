"""Measure rdock against podman and print the ratios; started by scripts/bench.

Both have the same image, the same directories' file system and a delegated cgroup v2 tree. Times are medians
of hyperfine. A row that cannot be measured says FAILED and why, and the exit code is then 1; a missed goal
is only shown.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import bench_files
import bench_io
import bench_network
import bench_registry

CHECKOUT = Path(__file__).resolve().parents[2]
STARTER = CHECKOUT / "rdock" / "starter" / "starter.tar.gz"
IMAGE = "rdock/starter"
MEGABYTE = 1 << 20
STATE_PID = "{{.State.Pid}}"


Pair = tuple[str, str]


class Failed(Exception):
    """A row that could not be measured."""


class Bench:
    """The two programs, each with a store of its own below one temporary directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tree = os.environ["RDOCK_DEBIAN_TREE"]
        self.runtime = Path(tempfile.mkdtemp(prefix="rd-", dir=os.environ.get("XDG_RUNTIME_DIR", "/tmp")))
        self.rdock = os.environ.get("RDOCK_PROGRAM") or str(CHECKOUT / "scripts" / "rdock")
        self.podman = shutil.which("podman") or "podman"
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(directory),
            "XDG_RUNTIME_DIR": str(self.runtime),
        }
        config = directory / ".config" / "containers"
        config.mkdir(parents=True)
        (config / "storage.conf").write_text('[storage]\ndriver = "overlay"\n')
        (config / "containers.conf").write_text(
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "crun"\n'
        )

    def run(self, *argv: str) -> str:
        """Run a command that must succeed, and return what it printed. Raises Failed."""
        try:
            done = subprocess.run(
                argv, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            raise Failed(str(e)) from e
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise Failed(f"{Path(argv[0]).name} {argv[1]}: exit code {done.returncode}: {last}")
        return done.stdout.strip()

    @staticmethod
    def failed(why: str) -> Failed:
        """For rows that stand in other files."""
        return Failed(why)

    def both(self, *args: str) -> tuple[str, str]:
        return self.run(self.rdock, *args), self.run(self.podman, *args)

    def times(
        self,
        *args: str,
        rounds: int,
        runs: int = 1,
        prepare: tuple[str, ...] = (),
        before: str = "",
        shell: str = "{}",
        ids: Pair = ("", ""),
    ) -> tuple[float, float]:
        """Median seconds of a command of rdock's and podman's; {} in `args` is each one's own container.

        `before` is a command of the shell that goes before each. They take turns, a few runs each, so that what
        else the machine does meets both alike.
        """
        commands, preparations = [], []
        for program, container in zip((self.rdock, self.podman), ids, strict=True):
            command = shlex.join([program, *(container if arg == "{}" else arg for arg in args)])
            commands.append(shell.replace("{}", command))
            preparations += ["--prepare", before or shlex.join([program, *prepare])]
        report = self.directory / "times.json"
        hyperfine = ["hyperfine", "--style=none", f"--runs={runs}", f"--export-json={report}"]
        hyperfine += preparations if prepare or before else []
        hyperfine += [] if prepare or before or shell != "{}" else ["--shell=none"]
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(rounds):
            self.run(*hyperfine, *(["--warmup=1"] if number == 0 or runs > 1 else []), *commands)
            for result, collected in zip(json.loads(report.read_text())["results"], times, strict=True):
                if any(result["exit_codes"]):
                    raise Failed(f"{result['command']}: exit codes {sorted(set(result['exit_codes']))}")
                collected += result["times"]
        return statistics.median(times[0]), statistics.median(times[1])

    def idle(self) -> tuple[str, str]:
        """A running container of each, doing nothing."""
        own, peer = self.both("run", "-d", "--network", "none", IMAGE, "sleep", "1000")
        return own, peer

    def stage(
        self,
        *args: str,
        rounds: int,
        before: tuple[tuple[str, ...], ...] = (),
        after: tuple[tuple[str, ...], ...] = (),
        ids: Pair = ("", ""),
        peers: tuple[str, ...] = (),
    ) -> tuple[float, float]:
        """Median seconds of a command that needs the commands `before` it, and the commands `after` it to be repeated.

        {} stands for the container: one of `ids`, else what the first command of `before` printed, else
        what the command itself printed. `peers` are podman's words, where they differ.
        """
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            sides = zip((self.rdock, self.podman), (args, peers or args), ids, times, strict=True)
            for program, own, container, collected in sides:
                for words in before:
                    printed = self.run(program, *(container if word == "{}" else word for word in words))
                    container = container or printed
                argv = [program, *(container if word == "{}" else word for word in own)]
                time.sleep(0.1)  # what the last command left behind in the background has nothing to do with this one
                began = time.perf_counter()
                printed = self.run(*argv)
                collected.append(time.perf_counter() - began)
                container = container or printed
                for words in after:
                    self.run(program, *(container if word == "{}" else word for word in words))
        return statistics.median(times[0][1:]), statistics.median(times[1][1:])

    def remove(self, ids: tuple[str, str]) -> None:
        self.run(self.rdock, "rm", "-f", ids[0])
        self.run(self.podman, "rm", "-f", "-t", "0", ids[1])

    def end(self) -> None:
        """Remove what is still there; only an attempt, since what surrounds us is thrown away."""
        for program in (self.rdock, self.podman):
            try:
                for container in self.run(program, "ps", "-aq").split():
                    self.run(program, "rm", "-f", container)
            except Failed as e:
                print(f"while cleaning up: {e}", file=sys.stderr)
        shutil.rmtree(self.runtime, ignore_errors=True)
        # the stores hold files of other ids, which only the root of a user namespace may delete
        remove = ["unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", str(self.directory)]
        subprocess.run(remove, check=False, stderr=subprocess.DEVNULL)


# -- rows: each returns (rdock, podman), in seconds or bytes --------------------------------------


def run_none(bench: Bench) -> tuple[float, float]:
    return bench.times("run", "--rm", "--network", "none", IMAGE, "true", rounds=4, runs=10)


def run_network(bench: Bench) -> tuple[float, float]:
    return bench.times("run", "--rm", IMAGE, "true", rounds=3, runs=10)


def execute(bench: Bench) -> tuple[float, float]:
    ids = bench.idle()
    try:
        return bench.times("exec", "{}", "true", rounds=4, runs=10, ids=ids)
    finally:
        bench.remove(ids)


def import_tree(bench: Bench) -> tuple[float, float]:
    name = "localhost/imported:1"
    bench.both("import", bench.tree, name)
    try:
        return bench.times("import", bench.tree, name, rounds=3, prepare=("rmi", "-f", name))
    finally:
        # nothing may be left of the layer, or the next row would find it already unpacked
        bench.both("rmi", "-f", name)


def load_tree(bench: Bench) -> tuple[float, float]:
    name, archive = "localhost/loaded:1", str(bench.directory / "loaded.tar")
    bench.run(bench.podman, "import", bench.tree, name)
    bench.run(bench.podman, "save", "-o", archive, name)
    bench.run(bench.podman, "rmi", "-f", name)
    bench.both("load", "-i", archive)
    try:
        return bench.times("load", "-i", archive, rounds=3, prepare=("rmi", "-f", name))
    finally:
        bench.both("rmi", "-f", name)


def save_tree(bench: Bench) -> tuple[float, float]:
    name, archive = "localhost/saved:1", bench.directory / "saved.tar"
    bench.both("import", bench.tree, name)
    try:
        # podman does not write over an archive that is there
        return bench.times("save", "-o", str(archive), name, rounds=3, shell=f"rm -f {archive}; {{}}")
    finally:
        archive.unlink(missing_ok=True)
        bench.both("rmi", "-f", name)


def list_images(bench: Bench) -> tuple[float, float]:
    """`images` with 200 of them, which differ in their config and share a layer."""
    archive = bench.directory / "many.tar"
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tree:
        _add(tree, "file", b"x")
    diff_id = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    listed = []
    with tarfile.open(archive, "w") as tar:
        for number in range(200):
            config: dict[str, object] = {"architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z"}
            config |= {"config": {"Cmd": [str(number)]}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
            _add(tar, f"{number}.json", json.dumps(config).encode())
            tags = [f"localhost/many:{number}"]
            listed.append({"Config": f"{number}.json", "RepoTags": tags, "Layers": ["layer.tar"]})
        _add(tar, "layer.tar", layer.getvalue())
        _add(tar, "manifest.json", json.dumps(listed).encode())
    names = [f"localhost/many:{number}" for number in range(200)]
    bench.both("load", "-q", "-i", str(archive))
    try:
        return bench.times("images", rounds=2, runs=3)
    finally:
        bench.both("rmi", "-f", *names)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def parallel_starts(bench: Bench) -> tuple[float, float]:
    # each of ten shells starts five containers, one after the other
    errors = bench.directory / "errors"
    shell = f"seq 10 | xargs -P 10 -I N sh -c 'for i in 1 2 3 4 5; do {{}} 2>>{errors} || exit 1; done'"
    try:
        return bench.times("run", "--rm", "--network", "none", IMAGE, "true", rounds=3, shell=shell)
    except Failed as e:
        raise Failed(f"{errors.read_text().strip()[-500:]}: {e}") from e


def create(bench: Bench) -> tuple[float, float]:
    words = ("create", "--network", "none", IMAGE, "true")
    return bench.stage(*words, rounds=16, after=(("rm", "{}"),))


def start(bench: Bench) -> tuple[float, float]:
    ids = bench.both("create", "--network", "none", IMAGE, "sleep", "1000")
    try:
        return bench.stage("start", "{}", rounds=16, after=(("stop", "-t", "0", "{}"),), ids=ids)
    finally:
        bench.remove(ids)


def stop(bench: Bench) -> tuple[float, float]:
    ids = bench.both("create", "--network", "none", IMAGE, "sleep", "1000")
    try:
        return bench.stage("stop", "-t", "0", "{}", rounds=16, before=(("start", "{}"),), ids=ids)
    finally:
        bench.remove(ids)


def remove_running(bench: Bench) -> tuple[float, float]:
    idle = ("run", "-d", "--network", "none", IMAGE, "sleep", "1000")
    # podman's rm would wait ten seconds for a program that does not heed SIGTERM; Docker's kills at once
    return bench.stage("rm", "-f", "{}", peers=("rm", "-f", "-t", "0", "{}"), rounds=16, before=(idle,))


def list_containers(bench: Bench, count: int) -> tuple[float, float]:
    """`ps -a` with so many containers, half of which have run."""
    for number in range(count):
        bench.both("run" if number % 2 else "create", "--network", "none", IMAGE, "true")
    times = bench.times("ps", "-a", rounds=3, runs=10)
    for program in (bench.rdock, bench.podman):
        bench.run(program, "rm", "-f", *bench.run(program, "ps", "-aq").split())
    return times


def list_hundred(bench: Bench) -> tuple[float, float]:
    return list_containers(bench, 100)


def list_thousand(bench: Bench) -> tuple[float, float]:
    return list_containers(bench, 1000)


def monitor_memory(bench: Bench) -> tuple[float, float]:
    """Private bytes of what stays with an idle container: rdock's keeper and monitor, podman's conmon."""
    ids = bench.idle()
    time.sleep(2)
    try:
        own, peer = (
            sum(map(private_memory, attendants(int(bench.run(program, "inspect", "--format", STATE_PID, container)))))
            for program, container in zip((bench.rdock, bench.podman), ids, strict=True)
        )
        return own, peer
    finally:
        bench.remove(ids)


def attendants(pid: int) -> list[int]:
    """The ancestors of a container's process 1, up to the process that all descend from or the one we run in."""
    found = []
    while (pid := parent(pid)) not in (0, 1, os.getpid()):
        if not Path(f"/proc/{pid}/comm").read_text().startswith(("rdock-keeper", "rdock-monitor", "conmon")):
            break
        found.append(pid)
    if not found:
        raise Failed("an idle container has no monitor")
    return found


def parent(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("PPid:"):
            return int(line.split()[1])
    raise Failed(f"process {pid} has no parent")


def private_memory(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError as e:
        raise Failed(f"cannot read the memory of process {pid}: {e.strerror}") from e
    kilobytes = [
        int(line.split()[1]) for line in text.splitlines() if line.startswith(("Private_Clean", "Private_Dirty"))
    ]
    return sum(kilobytes) * 1024.0


ROWS: list[tuple[str, Callable[[Bench], tuple[float, float]], float | None, float | None]] = [
    # name, what measures it, goal as a ratio, or as a limit: of bytes, of seconds if it is less than one
    ("run --rm --network none", run_none, 0.35, None),
    ("run --rm, default network", run_network, 0.35, None),
    ("run --rm, bridge", bench_network.run_bridge, 0.35, None),
    ("1 GB from a container to the host", bench_network.to_host, 1.0, None),
    ("1 GB from the host to a published port", bench_network.published, 1.0, None),
    ("1 GB from container to container", bench_network.between, 1.0, None),
    ("look-up of a name in a container", bench_network.look_up, None, 0.001),
    ("exec", execute, 0.35, None),
    ("create", create, 0.4, None),
    ("start", start, 0.5, None),
    ("stop -t 0", stop, 0.5, None),
    ("rm -f", remove_running, 0.5, None),
    ("load of a Debian tree", load_tree, 0.6, None),
    ("import of a Debian tree", import_tree, 0.7, None),
    ("save of a Debian tree", save_tree, 0.5, None),
    ("images, 200 images", list_images, 1.0, None),
    ("pull of 250 MB, gzip", lambda bench: bench_registry.pull(bench, "gzip"), 0.6, None),
    ("pull of 250 MB, zstd", lambda bench: bench_registry.pull(bench, "zstd"), 0.6, None),
    ("push of 250 MB", bench_registry.push, 0.8, None),
    ("cp of 2,000 files into a container", bench_files.tree_in, 0.7, None),
    ("cp of 2,000 files out of a container", bench_files.tree_out, 0.7, None),
    ("cp of 500 MB into a container", bench_files.file_in, 0.7, None),
    ("cp of 500 MB out of a container", bench_files.file_out, 0.7, None),
    ("tar -x of 2,000 files, on the root", bench_io.unpack_root, 1.0, None),
    ("tar -x of 2,000 files, on a volume", bench_io.unpack_volume, 1.0, None),
    ("4 kB random writes, on the root", bench_io.write_root, 1.0, None),
    ("4 kB random writes, on a volume", bench_io.write_volume, 1.0, None),
    ("50 starts from 10 shells", parallel_starts, 0.5, None),
    ("ps -a, 100 containers", list_hundred, 1.0, None),
    ("ps -a, 1,000 containers", list_thousand, 1.0, None),
    ("private memory of keeper and monitor", monitor_memory, None, 8 * MEGABYTE),
]


def line(name: str, own: float, peer: float, goal: float | None, limit: float | None) -> str:
    if limit is not None and limit < 1:
        shown = [f"{own * 1000:.2f} ms", f"{peer * 1000:.2f} ms", f"{own / peer:.2f}", f"≤ {limit * 1000:.0f} ms"]
        met = own <= limit
    elif limit is not None:
        shown = [f"{own / MEGABYTE:.1f} MB", f"{peer / MEGABYTE:.1f} MB", "", f"≤ {limit / MEGABYTE:.0f} MB"]
        met = own <= limit
    else:
        assert goal is not None
        shown = [f"{own * 1000:.0f} ms", f"{peer * 1000:.0f} ms", f"{own / peer:.2f}", f"≤ {goal}"]
        met = own / peer <= goal
    return f"| {' | '.join([name, *shown, 'yes' if met else '**no**'])} |"


def main(wanted: list[str]) -> int:
    bench = Bench(Path(tempfile.mkdtemp(prefix="rdock-bench-", dir="/var/tmp")))
    cores = len(os.sched_getaffinity(0))
    peer = bench.run(bench.podman, "--version")
    print(f"{time.strftime('%Y-%m-%d')}, {cores} cores, Linux {platform.release()}, beside {peer}:\n")
    print("| what | rdock | podman | ratio | goal | met |\n| --- | --- | --- | --- | --- | --- |", flush=True)
    problems = []
    for program in (bench.rdock, bench.podman):
        try:
            bench.run(program, "load", "-i", str(STARTER))
        except Failed as e:
            problems.append(str(e))
    for name, measure, goal, limit in ROWS:
        if wanted and not any(part in name for part in wanted):
            continue
        try:
            print(line(name, *measure(bench), goal, limit), flush=True)
        except Failed as e:
            problems.append(f"{name}: {e}")
            print(f"| {name} | FAILED | | | | **no** |", flush=True)
    for problem in problems:
        print(f"\nFAILED: {problem}")
    bench.end()
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
