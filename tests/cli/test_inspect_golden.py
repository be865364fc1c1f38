"""inspect, ps and version on real containers: the whole shape of what they print, beside golden files.

golden/inspect.json is what docker 28.2 makes of such a container's object, with ids, times and paths masked.
"""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import STARTER
from tests.program import Rdock

GOLDEN = Path(__file__).parent / "golden"


def masked(text: str, rdock: Rdock) -> str:
    """Ids, times, process ids and the store's directories replaced by what they are."""
    text = text.replace(str(rdock.home.data), "DATA").replace(str(rdock.home.runtime), "RUN")
    text = re.sub(r"/tmp/rdock-\d+", "RUN/rdock", text)
    text = re.sub(r"[0-9a-f]{64}", "ID", text)
    text = re.sub(r'"(20\d\d-\d\d-\d\dT[0-9:.]+Z)"(?!,\n +"org)', '"TIME"', text)
    text = re.sub(r'"Hostname": "[0-9a-f]{12}"', '"Hostname": "ID"', text)
    text = re.sub(r'"Pid": [1-9]\d*', '"Pid": PID', text)
    text = re.sub(r'"IdMode": "\w+"', '"IdMode": "MODE"', text)
    return re.sub(r"/proc/\d+/ns/net", "/proc/PID/ns/net", text)


def test_the_whole_object(rdock: Rdock) -> None:
    command = [
        "--storage-driver", "copy", "run", "--network", "none", "--name", "seen", "-e", "A=b", "-v", "/etc:/host:ro",
        "--tmpfs", "/t:size=1m", "--label", "x=<y>&", "--cap-drop", "NET_RAW", "-w", "/tmp", "--stop-signal", "INT",
        "--init", "--security-opt", "no-new-privileges", STARTER, "sh", "-c", "exit 3",
    ]  # fmt: skip
    assert rdock(*command).code == 3
    shown = masked(rdock.ok("inspect", "seen") + "\n", rdock)
    assert shown == (GOLDEN / "inspect.json").read_text()
    # A template gets the same object, in one line.
    assert json.loads(rdock.ok("inspect", "-f", "{{json .}}", "seen")) == json.loads(rdock.ok("inspect", "seen"))[0]
    assert rdock.ok("inspect", "-f", "json", "seen").startswith('[{"Id":"')


def test_a_running_container(rdock: Rdock) -> None:
    rdock.ok("run", "-d", "--network", "none", "--name", "up", "--label", "a=1", STARTER, "sleep", "100")
    template = (
        "{{.State.Running}} {{.State.Health}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} "
        '{{index .Config.Labels "a"}}{{index .Config.Labels "b"}}{{.Config.Labels.b}} '
        "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}} {{.HostConfig.Init}} {{.ID}}"
    )
    container = rdock.ok("ps", "-q", "--no-trunc")
    assert rdock.ok("inspect", "-f", template, "up") == f"true <nil> none 1<no value> none <nil> {container}"
    key = rdock.ok("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "up")
    assert re.fullmatch(r"/proc/\d+/ns/net", key)
    assert rdock.ok(
        "ps", "--filter", f"ancestor={STARTER}", "--format", "{{.Names}}|{{.Status}}|{{.Ports}}"
    ).startswith("up|Up ")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Nope}}", 'template: :1:2: executing "" at <.Nope>: map has no entry for key "Nope"'),
        ("{{if", "template: :1: unclosed action"),
        ("{{nope .}}", 'template: :1: function "nope" not defined'),
        ("{{.State.Health.Status}}",
         'template: :1:8: executing "" at <.State.Health.Status>: map has no entry for key "Health"'),
    ],
)  # fmt: skip
def test_wrong_templates(rdock: Rdock, template: str, message: str) -> None:
    rdock("run", "--network", "none", "--name", "seen", STARTER, "true")
    result = rdock("inspect", "-f", template, "seen")
    assert (result.code, result.err) == (1, f"rdock: template parsing error: {message}\n")


def test_what_is_not_there(rdock: Rdock) -> None:
    result = rdock("inspect", "-f", "{{.Id}}", "nosuch")
    assert (result.code, result.out, result.err) == (1, "\n", "rdock: No such object: nosuch\n")
    for kind, says in (("network", "network nosuch not found"), ("volume", "No such volume: nosuch")):
        result = rdock("inspect", "--type", kind, "nosuch")
        assert (result.code, result.out, result.err) == (1, "[]\n", f"rdock: {says}\n")
    result = rdock("inspect", "--type", "volcano", "x")
    assert result.code == 1 and result.err.startswith('rdock: unknown type: "volcano": must be one of "config", ')


def test_sizes(rdock: Rdock, storage: str) -> None:
    script = "mkdir -m 700 /mine && chown 1000 /mine && echo hello >/mine/file && ln /mine/file /mine/again"
    rdock.ok("run", "--network", "none", "--name", "full", STARTER, "sh", "-c", script)
    found: dict[str, Any] = json.loads(rdock.ok("inspect", "--size", "full"))[0]
    assert list(found).index("SizeRootFs") == list(found).index("Mounts") - 1
    if storage == "copy":  # all of the root is the container's own
        assert found["SizeRw"] == found["SizeRootFs"] > 1_000_000
    else:
        assert found["SizeRw"] == 6
        assert rdock.ok("ps", "-as", "--format", "{{.Size}}").startswith("6B (virtual 2")
        assert rdock.ok("ps", "-as").splitlines()[0].endswith("NAMES     SIZE")
    # Without --size only a template that asks for sizes has them.
    assert rdock.ok("ps", "-a", "--format", "{{.Size}}") != "0B"
    assert rdock.ok("ps", "-a", "--size=false", "--format", "{{.Size}}") == "0B"
    assert json.loads(rdock.ok("ps", "-a", "--format", "json"))["Size"] == "0B"
    assert "SizeRw" not in json.loads(rdock.ok("inspect", "full"))[0]


def test_an_image_that_has_lost_its_name_is_shown_by_its_id(rdock: Rdock) -> None:
    rdock.ok("tag", STARTER, "other:1")
    rdock.ok("run", "--network", "none", "--name", "old", "other:1", "true")
    assert rdock.ok("ps", "-a", "--format", "{{.Image}}") == "other:1"
    rdock.ok("rmi", "-f", "other:1")
    archive = rdock.home.root / "other.tar"
    with tarfile.open(archive, "w"):
        pass
    rdock.ok("import", str(archive), "other:1")
    try:
        image = rdock.ok("inspect", "-f", "{{.Id}}", STARTER)
        assert rdock.ok("ps", "-a", "--format", "{{.Image}}") == image[7:19]
        assert rdock.ok("ps", "-a", "--no-trunc", "--format", "{{.Image}}") == image
    finally:
        rdock.ok("rmi", "-f", "other:1")


def test_version(rdock: Rdock) -> None:
    version = rdock.ok("--version").split()[-1]
    assert rdock.ok("version", "-f", "{{.Server.Version}} {{.Client.Version}}") == f"{version} {version}"
    found = json.loads(rdock.ok("version", "--format", "json"))
    assert found["Server"]["Components"][0]["Name"] == "Engine" and found["Client"]["Os"] == "linux"
    lines = rdock.ok("version").splitlines()
    assert lines[0] == "Client:" and f" Version:           {version}" in lines
    assert "Server: rdock" in lines and " Engine:" in lines and f"  Version:          {version}" in lines
    result = rdock("version", "-f", "{{.Nope}}")
    assert result.code == 1 and "can't evaluate field Nope" in result.err
