"""The rows of the table that are about networks: what a start costs there, and what goes through."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

IMAGE = "rdock/starter"
# The machine's iperf3, inside the starter image.
PROGRAMS = [word for path in ("/usr", "/lib", "/lib64") for word in ("-v", f"{path}:{path}:ro")]
SECONDS = 3
ROUNDS = 4


def run_bridge(bench: Any) -> tuple[float, float]:
    return bench.times("run", "--rm", "--network", "bridge", IMAGE, "true", rounds=3, runs=8)  # type: ignore[no-any-return]


def to_host(bench: Any) -> tuple[float, float]:
    """Seconds for a gigabyte from a container to the host, each on its default network."""
    port = _free_port()
    server = subprocess.Popen(["/usr/bin/iperf3", "-s", "-p", str(port)], stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        return _turns(bench, lambda program: _measure(bench, program, _address(), port))
    finally:
        server.kill()
        server.wait()


def published(bench: Any) -> tuple[float, float]:
    """Seconds for a gigabyte from the host to a published port, each on its default network."""
    port = {bench.rdock: _free_port(), bench.podman: _free_port()}
    for program in (bench.rdock, bench.podman):
        bench.run(program, "run", "-d", "--name", "iperf", "-p", f"{port[program]}:5201", *PROGRAMS, IMAGE,
                  "/usr/bin/iperf3", "-s")  # fmt: skip
    try:
        return _turns(bench, lambda program: _seconds(bench.run(*_client("127.0.0.1", port[program]))))
    finally:
        _remove(bench)


def between(bench: Any) -> tuple[float, float]:
    """Seconds for a gigabyte from container to container, on the bridge."""
    address = {}
    for program in (bench.rdock, bench.podman):
        bench.run(program, "run", "-d", "--name", "iperf", "--network", "bridge", *PROGRAMS, IMAGE,
                  "/usr/bin/iperf3", "-s")  # fmt: skip
        template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address[program] = bench.run(program, "inspect", "-f", template, "iperf")
    try:
        return _turns(bench, lambda program: _measure(bench, program, address[program], 5201, "--network", "bridge"))
    finally:
        _remove(bench)


_LOOK_UP = """
import socket, statistics, struct, time
server = [line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver")][0]
times = []
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
    asking.settimeout(5)
    asking.connect((server, 53))
    for number in range(1000):
        question = struct.pack("!6H", number, 0x100, 1, 0, 0, 0) + b"\\5named\\0\\0\\1\\0\\1"
        began = time.perf_counter()
        asking.send(question)
        answer = asking.recv(512)
        times.append(time.perf_counter() - began)
        assert answer[:2] == question[:2] and answer[7] == 1, answer
print(statistics.median(times))
"""


def look_up(bench: Any) -> tuple[float, float]:
    """Median seconds until a container knows the address of another, whose name it asks for."""
    for program in (bench.rdock, bench.podman):
        bench.run(program, "network", "create", "names")
        bench.run(program, "run", "-d", "--name", "named", "--network", "names", IMAGE, "sleep", "600")
    ask = ("run", "--rm", "--network", "names", *PROGRAMS, IMAGE, "/usr/bin/python3", "-c", _LOOK_UP)
    try:
        return _turns(bench, lambda program: float(bench.run(program, *ask)))
    finally:
        bench.remove(("named", "named"))
        for program in (bench.rdock, bench.podman):
            bench.run(program, "network", "rm", "names")


def _turns(bench: Any, measure: Callable[[str], float]) -> tuple[float, float]:
    """The median of each, by turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for program, collected in zip((bench.rdock, bench.podman), times, strict=True):
            collected.append(measure(program))
    return statistics.median(times[0]), statistics.median(times[1])


def _measure(bench: Any, program: str, host: str, port: int, *options: str) -> float:
    """What a container needs for a gigabyte to a server of iperf3."""
    return _seconds(bench.run(program, "run", "--rm", *options, *PROGRAMS, IMAGE, *_client(host, port)))


def _client(host: str, port: int) -> list[str]:
    return ["/usr/bin/iperf3", "-c", host, "-p", str(port), "-t", str(SECONDS), "-O", "1", "-J"]


def _seconds(report: str) -> float:
    """For a gigabyte, from what iperf3 reports."""
    return 8e9 / float(json.loads(report)["end"]["sum_received"]["bits_per_second"])


def _address() -> str:
    """An address of this machine that is not loopback. No packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def _remove(bench: Any) -> None:
    bench.remove(("iperf", "iperf"))
