"""ps, inspect: lists, templates, and what is said of containers in each state."""

from __future__ import annotations

import json
import re

from tests.cli.conftest import is_clear, wait_for
from tests.conftest import STARTER
from tests.program import Rdock


def started(rdock: Rdock, name: str, *command: str) -> str:
    return rdock.ok("run", "-d", "--network", "none", "--name", name, STARTER, *(command or ("sleep", "100")))


def test_ps(rdock: Rdock) -> None:
    up = started(rdock, "one", "sh", "-c", "sleep 100; echo a long command")
    gone = started(rdock, "two", "sh", "-c", "exit 3")
    rdock.ok("wait", "two")
    heading, line = rdock.ok("ps").splitlines()
    assert heading.split("  ")[0] == "CONTAINER ID"
    assert re.fullmatch(
        up[:12] + r' +rdock/starter +"sh -c \'sleep 100; e…" +(Less than a second|\d+ seconds?|About a minute) ago'
        r" +Up (Less than a second|\d+ seconds?|About a minute) +one|"
        + up[:12] + r' +rdock/starter +"sh -c sleep 100; ec…" +(Less than a second|\d+ seconds?) ago'
        r" +Up (Less than a second|\d+ seconds?) +one",
        line,
    ), line  # fmt: skip
    assert rdock.ok("ps", "-q") == up[:12]
    assert rdock.ok("ps", "-q", "--no-trunc") == up
    assert rdock.ok("ps", "-aq").split() == [gone[:12], up[:12]]
    assert rdock.ok("ps", "-lq") == gone[:12]
    assert rdock.ok("ps", "-n", "1", "-q") == gone[:12]
    assert rdock.ok("ps", "-n", "5", "-q").split() == [gone[:12], up[:12]]
    assert rdock.ok("ps", "-a", "--format", "{{.Names}} {{.State}} {{.ID}}").splitlines() == [
        f"two exited {gone[:12]}", f"one running {up[:12]}",
    ]  # fmt: skip
    found = [json.loads(line) for line in rdock.ok("ps", "-a", "--format", "json").splitlines()]
    assert [entry["Names"] for entry in found] == ["two", "one"]
    assert re.fullmatch(r"Exited \(3\) (Less than a second|\d+ seconds?) ago", found[0]["Status"])
    assert "sleep 100; echo a long command" in rdock.ok("ps", "--no-trunc")
    table = rdock.ok("ps", "--format", "table {{.Names}}\t{{.Image}}").splitlines()
    assert table[0].split() == ["NAMES", "IMAGE"] and table[1].split() == ["one", "rdock/starter"]
    assert rdock("ps", "--format", "{{.NoSuchField}}").code != 0


def test_ps_shows_the_id_of_an_image_that_has_lost_its_name(rdock: Rdock) -> None:
    """Docker's rule (moby daemon/list.go): the name only as long as it leads to the container's image."""
    rdock.ok("create", "--name", "base", STARTER)
    image = rdock.ok("commit", "base", "named")[7:]
    rdock.ok("create", "--name", "by-name", "named")
    rdock.ok("create", "--name", "by-id", image[:7])
    shown = ["ps", "-a", "--filter", "name=by-", "--format", "{{.Names}} {{.Image}}"]
    assert sorted(rdock.ok(*shown).splitlines()) == [f"by-id {image[:7]}", "by-name named"]
    rdock.ok("tag", STARTER, "named")
    assert sorted(rdock.ok(*shown).splitlines()) == [f"by-id {image[:7]}", f"by-name {image[:12]}"]
    rdock.ok("untag", STARTER, "named")
    assert sorted(rdock.ok(*shown).splitlines()) == [f"by-id {image[:7]}", f"by-name {image[:12]}"]
    rdock.ok("rm", "base", "by-name", "by-id")
    rdock.ok("rmi", image)


def test_ps_of_nothing(own_rdock: Rdock) -> None:
    assert own_rdock.ok("ps").startswith("CONTAINER ID")
    assert own_rdock.ok("ps", "-aq") == ""
    assert not own_rdock.home.data.exists(), "looking makes nothing"


def test_inspect(rdock: Rdock, runtime: str) -> None:
    container = rdock.ok(
        "run", "-d", "--network", "none", "--name", "seen", "-e", "A=b", "-v", "/etc:/host:ro", "-w", "/tmp",
        "--label", "x=y", STARTER, "sleep", "100",
    )  # fmt: skip
    (found,) = json.loads(rdock.ok("inspect", "seen"))
    assert found["Id"] == container and found["Name"] == "/seen"
    assert (found["Path"], found["Args"]) == ("sleep", ["100"])
    state = found["State"]
    assert (state["Status"], state["Running"], state["ExitCode"], state["Error"]) == ("running", True, 0, "")
    assert state["FinishedAt"] == "0001-01-01T00:00:00Z" and state["StartedAt"] > found["Created"]
    with open(f"/proc/{state['Pid']}/cmdline", "rb") as file:
        assert file.read() == b"sleep\x00100\x00"
    assert "A=b" in found["Config"]["Env"] and found["Config"]["WorkingDir"] == "/tmp"
    assert found["Config"]["Cmd"] == ["sleep", "100"] and found["Config"]["Labels"]["x"] == "y"
    assert found["HostConfig"]["Binds"] == ["/etc:/host:ro"] and found["HostConfig"]["NetworkMode"] == "none"
    assert found["HostConfig"]["Runtime"] == runtime
    (mount,) = found["Mounts"]
    assert (mount["Type"], mount["Source"], mount["Destination"], mount["RW"]) == ("bind", "/etc", "/host", False)
    assert found["Image"].startswith("sha256:") and len(found["Image"]) == 71
    rdock("kill", "seen")
    wait_for(lambda: rdock.ok("inspect", "-f", "{{.State.Status}}", "seen") == "exited")
    (found,) = json.loads(rdock.ok("inspect", container[:10]))
    state = found["State"]
    assert (state["ExitCode"], state["Running"], state["Pid"]) == (137, False, 0)
    assert state["FinishedAt"] >= state["StartedAt"]


def test_inspect_of_several_with_one_missing(rdock: Rdock) -> None:
    one, two = started(rdock, "one"), started(rdock, "two")
    result = rdock("inspect", "one", "nosuch", "two")
    assert result.code == 1
    assert [entry["Id"] for entry in json.loads(result.out)] == [one, two]
    assert result.err == "rdock: No such object: nosuch\n"
    result = rdock("inspect", "-f", "{{.Name}}", "one", "nosuch", "two")
    assert (result.code, result.out) == (1, "/one\n/two\n")


def test_inspect_types(rdock: Rdock) -> None:
    container = started(rdock, "one")
    assert json.loads(rdock.ok("inspect", "--type", "image", STARTER))[0]["RepoTags"] == ["rdock/starter:latest"]
    assert json.loads(rdock.ok("inspect", STARTER))[0]["Id"].startswith("sha256:")
    assert json.loads(rdock.ok("inspect", "--type", "container", "one"))[0]["Id"] == container
    result = rdock("inspect", "--type", "container", STARTER)
    assert result.code == 1 and "No such container" in result.err and json.loads(result.out) == []
    result = rdock("inspect", "--type", "image", "one")
    assert result.code == 1 and "No such image" in result.err
    result = rdock("inspect", "--type", "volcano", "one")
    assert result.code != 0 and is_clear(result.err)


def test_by_the_beginning_of_an_id(rdock: Rdock) -> None:
    containers = [started(rdock, f"box{n}", "true") for n in range(18)]
    firsts = [container[0] for container in containers]
    twice = next(first for first in firsts if firsts.count(first) > 1)
    result = rdock("inspect", "--type", "container", twice)
    assert result.code == 1 and "multiple IDs found with provided prefix" in result.err and is_clear(result.err)
    assert rdock.ok("inspect", "-f", "{{.Id}}", containers[0][:20]) == containers[0]
    for reference in ("", ".", "..", "a/b", ".names", "../containers"):
        assert rdock("inspect", "--type", "container", reference).code == 1
