"""ps beside Docker's client: what that printed of the same three containers, in many formats.

golden/ps.json was made with docker 28.2 and an API that showed it these containers.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rdock.state import timestamp
from tests.cli.conftest import write_settings
from tests.program import Home, Rdock

GOLDEN = Path(__file__).parent / "golden"
DAY = 86400
IMAGE = "fe" * 32
NAMES = [
    ("docker.io/rdock/starter", "latest"),
    ("docker.io/team/app", "1.0"),
    ("registry.example.org:5000/team/app", "1.0"),
]


def record(name: str, age: float, *, image: str, command: list[str], host: dict[str, Any], **config: Any) -> Any:
    """A container.json of a container that was created `age` seconds ago."""
    return {
        "format": 1, "Name": name, "Created": timestamp.from_ns(int((time.time() - age) * 1e9)), "Image": IMAGE,
        "ImageName": image, "Driver": "overlay", "IdMode": "auto", "Config": {"Cmd": command, **config},
        "HostConfig": host,
    }  # fmt: skip


def ended(code: int, ago: float) -> Any:
    moment = timestamp.from_ns(int((time.time() - ago) * 1e9))
    return {"StartedAt": moment, "FinishedAt": moment, "ExitCode": code, "Finished": True}


@pytest.fixture(scope="module")
def shelf() -> Iterator[Rdock]:
    """A store with the records of three containers, none of which runs, and nothing else."""
    program = Rdock(Home(), variables={"TZ": "UTC"})
    write_settings(program, '{"holder-linger": 0}')
    containers = {
        "a1": (
            record("web", 3 * DAY + 5, image="rdock/starter", command=["sh", "-c", 'sleep 100; echo "done"'],
                   Labels={"b": "2", "a": "<x>&", "com.example.the_role-name": "front"},
                   host={"Binds": ["/a/very/long/source/path:/d", "/x:/y:ro"], "NetworkMode": "none"}),
            ended(0, 2 * 3600 + 5),
        ),
        "b2": (
            record("db", 65, image="team/app:1.0", command=["a b", "c"], host={"NetworkMode": "host"},
                   Entrypoint=["/bin/entry point"]),
            None,
        ),
        "c3": (
            record("a-job-with-a-long-name", 22 * DAY, image="registry.example.org:5000/team/app:1.0",
                   command=["true"], host={}),
            ended(137, 21 * DAY + 5),
        ),
    }  # fmt: skip
    names = {f"{registry}:{tag}": IMAGE for registry, tag in NAMES}
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": f"sha256:{IMAGE}", "size": 1,
        "annotations": {"rdock.image.id": f"sha256:{IMAGE}", "rdock.image.added": timestamp.now()},
    }  # fmt: skip
    images = program.home.data / "images"
    images.mkdir(mode=0o700, parents=True)
    (images / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (images / "repositories.json").write_text(json.dumps({"format": 1, "references": names}))
    for start, (found, state) in containers.items():
        directory = program.home.data / "containers" / (start * 32)
        directory.mkdir(mode=0o700, parents=True)
        (directory / "container.json").write_text(json.dumps({**found, "Id": start * 32}))
        if state:
            (directory / "state.json").write_text(json.dumps({"format": 1, **state}))
        names = program.home.data / "containers" / ".names"
        names.mkdir(mode=0o700, exist_ok=True)
        (names / found["Name"]).symlink_to(start * 32)
    for path in (program.home.data, program.home.data / "containers"):
        path.chmod(0o700)
    yield program
    program.home.remove()


CASES = json.loads((GOLDEN / "ps.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case["arguments"]))
def test_ps_prints_what_docker_prints(shelf: Rdock, case: dict[str, Any]) -> None:
    result = shelf("ps", *case["arguments"])
    shown = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "YYYY-MM-DD hh:mm:ss", result.out)
    assert shown == case["out"]
    assert result.err.split("\n")[0].removeprefix("rdock: ") == case["err"].removeprefix("docker: ").replace(
        "docker ps", "rdock ps"
    )
    assert result.code == case["code"]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["id=a1a1"], "web"),
        (["id=a1"], "web"),
        (["id=1a"], ""),
        (["name=we"], "web"),
        (["name=^/web$"], "web"),
        (["name=^web$"], "web"),
        (["name=^e"], ""),
        (["name=d"], "db"),
        (["name=web|db"], "db web"),
        (["name=web", "name=db"], "db web"),
        (["name=("], ""),
        (["name="], "a-job-with-a-long-name db web"),
        (["label=a"], "web"),
        (["label=a=<x>&"], "web"),
        (["label=a=x"], ""),
        (["label=a", "label=b=2"], "web"),
        (["label=a", "label=c"], ""),
        (["exited=0"], "web"),
        (["exited=137"], "a-job-with-a-long-name"),
        (["exited=0", "exited=137"], "a-job-with-a-long-name web"),
        (["exited=1"], ""),
        (["status=created"], "db"),
        (["status=created", "status=exited"], "a-job-with-a-long-name db web"),
        (["status=running"], ""),
        (["status=exited", "name=web"], "web"),
        (["status=exited", "name=db"], ""),
        (["before=web"], "a-job-with-a-long-name"),
        (["before=a1a1"], "a-job-with-a-long-name"),
        (["since=web"], "db"),
        (["since=a-job-with-a-long-name", "before=db"], "web"),
        (["volume=/d"], "web"),
        (["volume=/x"], "web"),
        (["volume=/y", "volume=/nope"], "web"),
        (["volume=/"], ""),
        (["network=host"], "db"),
        (["network=bridge", "network=none"], "a-job-with-a-long-name web"),
        (["publish=80"], ""),
        (["expose=1-65535/tcp"], ""),
        (["health=none"], "a-job-with-a-long-name db web"),
        (["health=healthy"], ""),
        (["isolation=default"], "a-job-with-a-long-name db web"),
        (["is-task=true"], ""),
        (["is-task=false"], "a-job-with-a-long-name db web"),
        (["ancestor=nosuch"], ""),
        (["ancestor=!"], ""),
        ([""], "a-job-with-a-long-name db web"),
    ],
)
def test_filters(shelf: Rdock, filters: list[str], names: str) -> None:
    options = [word for text in filters for word in ("--filter", text)]
    shown = shelf.ok("ps", "-a", "--format", "{{.Names}}", *options).split()
    assert " ".join(sorted(shown)) == names


def test_only_a_status_asks_for_containers_that_do_not_run(shelf: Rdock) -> None:
    assert shelf.ok("ps", "-q", "-f", "name=web") == ""
    assert shelf.ok("ps", "-q", "-f", "exited=0") == ""
    assert shelf.ok("ps", "-q", "-f", "status=exited", "-f", "name=web") == "a1" * 6


def test_the_last_ones_are_counted_after_the_filters(shelf: Rdock) -> None:
    assert shelf.ok("ps", "-l", "--format", "{{.Names}}", "-f", "status=exited") == "web"
    assert shelf.ok("ps", "-n", "1", "--format", "{{.Names}}") == "db"


@pytest.mark.parametrize(
    ("text", "message", "code"),
    [
        ("foo=bar", "invalid filter 'foo'", 1),
        ("status=nope", "invalid filter 'status=nope'", 1),
        ("exited=x", "invalid filter 'exited=x'", 1),
        ("health=x", "invalid filter 'health=x'", 1),
        ("is-task=x", "invalid filter 'is-task=x'", 1),
        ("before=nosuch", "No such container: nosuch", 1),
        ("since=nosuch", "No such container: nosuch", 1),
        ("publish=0.0.0.0:80", "filter for 'publish' should not contain ':': 0.0.0.0:80", 1),
        ("expose=x", "error while looking up for expose x: invalid start port 'x'", 1),
        ("publish=9-8", "error while looking up for publish 9-8: invalid range specified", 1),
    ],
)
def test_wrong_filters_are_refused(shelf: Rdock, text: str, message: str, code: int) -> None:
    result = shelf("ps", "-a", "--filter", text)
    assert (result.code, result.out, result.err) == (code, "", f"rdock: {message}\n")


def test_a_damaged_record_is_told_and_the_others_are_shown(shelf: Rdock) -> None:
    directory = shelf.home.data / "containers" / ("d4" * 32)
    directory.mkdir()
    try:
        (directory / "container.json").write_text("{")
        result = shelf("ps", "-aq")
        assert result.code == 1 and len(result.out.split()) == 3
        assert "cannot read" in result.err and "rdock rm -f d4d4d4d4d4d4" in result.err
        (directory / "container.json").unlink()  # as one that is being removed
        assert len(shelf.ok("ps", "-aq").split()) == 3
    finally:
        (directory / "container.json").unlink(missing_ok=True)
        directory.rmdir()
