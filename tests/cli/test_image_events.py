"""What happens to images is in the journal, as Docker tells it."""

from __future__ import annotations

from tests.conftest import STARTER
from tests.program import Rdock


def test_each_action_is_told(own_rdock: Rdock) -> None:
    rdock, archive = own_rdock, own_rdock.home.root / "saved.tar"
    rdock.ok("create", "--name", "box", "--network", "none", STARTER, "true")
    rdock.ok("tag", STARTER, "one:1")
    rdock.ok("save", "-o", str(archive), "one:1")
    rdock.ok("commit", "box", "two:1")
    rdock.ok("untag", "one:1", "one:1")
    rdock.ok("rmi", "two:1")
    rdock.ok("load", "-q", "-i", str(archive))
    shown = rdock.ok("events", "--since", "1h", "--until", "0s", "--filter", "type=image", "--format",
                     "{{.Action}} {{.Actor.Attributes.name}}").splitlines()  # fmt: skip
    deleted = shown.pop(5)
    assert deleted.startswith("delete sha256:")
    assert shown == [
        f"load {STARTER}:latest", "tag one:1", "save one:1", "untag one:1", "untag two:1", "load one:1",
    ]  # fmt: skip
    assert "commit" in rdock.ok("events", "--since", "1h", "--until", "0s", "--filter", "container=box", "--format",
                                "{{.Action}}").splitlines()  # fmt: skip
