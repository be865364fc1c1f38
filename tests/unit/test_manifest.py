"""Documents of images: strict reading, and that no document whatever makes more than one line of refusal."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import pytest

from rdock.errors import DataLoss, NotFound, RdockError
from rdock.image import manifest
from rdock.image.manifest import OCI_CONFIG, OCI_LAYER, ImageConfig, Index, Manifest, Platform

DIGEST = "sha256:" + "ab" * 32
DESCRIPTOR = {"mediaType": OCI_LAYER, "digest": DIGEST, "size": 10}
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2, "config": {"mediaType": OCI_CONFIG, "digest": DIGEST, "size": 2}, "layers": [DESCRIPTOR]
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
    "config": {"Env": ["A=b"], "Cmd": ["sh"], "Entrypoint": None, "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b"},
               "Volumes": {"/data": {}}, "WorkingDir": "/w", "User": "u", "StopSignal": "SIGINT", "Shell": ["/bin/sh"],
               "Healthcheck": {"Test": ["NONE"], "Interval": 5}},
    "history": [{"created_by": "x", "empty_layer": True}],
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
}  # fmt: skip


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def test_an_image_config_is_read_and_keeps_its_bytes() -> None:
    text = json.dumps(CONFIG, indent=3).encode()
    config = ImageConfig.from_json(text)
    assert config.raw == text and config.id == hashlib.sha256(text).hexdigest()
    assert (config.env, config.cmd, config.entrypoint) == (("A=b",), ("sh",), ())
    assert (config.exposed_ports, config.volumes, config.labels) == (("80/tcp",), ("/data",), {"a": "b"})
    assert (config.working_dir, config.user, config.stop_signal, config.shell) == ("/w", "u", "SIGINT", ("/bin/sh",))
    assert config.healthcheck == {"Test": ["NONE"], "Interval": 5}
    assert config.diff_ids == (DIGEST,)


def test_nothing_in_a_config_is_compulsory() -> None:
    config = ImageConfig.from_json(b"{}")
    assert (config.os, config.env, config.diff_ids, config.healthcheck) == ("", (), (), None)


@pytest.mark.parametrize(
    ("key", "value"),
    [("Env", "A=b"), ("Env", [1]), ("Env", ["A=\0"]), ("Cmd", {}), ("User", 7), ("Labels", {"a": 1}), ("Labels", []),
     ("Volumes", ["/a"]), ("ExposedPorts", "80"), ("Healthcheck", []), ("Healthcheck", {"Interval": "5s"}),
     ("Healthcheck", {"Retries": True}), ("WorkingDir", "/\0"), ("Entrypoint", "sh"), ("Volumes", {"/\0": {}})],
)  # fmt: skip
def test_wrong_types_are_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(DataLoss, match=r"^invalid image config: config"):
        ImageConfig.from_json(encoded({**CONFIG, "config": {key: value}}))


@pytest.mark.parametrize(
    "diff_ids", [["sha256:12"], [DIGEST.upper()], ["sha256:../../etc/passwd"], "x", [None], {"a": 1}, [DIGEST + "\n"]]
)
def test_malformed_diff_ids_are_refused(diff_ids: Any) -> None:
    with pytest.raises(DataLoss, match="diff_ids"):
        ImageConfig.from_json(encoded({"rootfs": {"diff_ids": diff_ids}}))


@pytest.mark.parametrize(
    "change",
    [{"manifests": []}, {"schemaVersion": 1}, {"schemaVersion": "2"}, {"layers": {}}, {"layers": [{}]}, {"config": 1},
     {"config": None}, {"layers": [{**DESCRIPTOR, "digest": "sha256:zz"}]}, {"layers": [{**DESCRIPTOR, "size": -1}]},
     {"layers": [{**DESCRIPTOR, "size": 1.5}]}, {"layers": [{**DESCRIPTOR, "size": True}]},
     {"layers": [{**DESCRIPTOR, "size": 1 << 64}]}, {"layers": [DESCRIPTOR] * 501}, {"mediaType": "text/html"},
     {"mediaType": 5}, {"layers": [{**DESCRIPTOR, "annotations": {"a": 1}}]}],
)  # fmt: skip
def test_manifests_that_are_none(change: dict[str, Any]) -> None:
    assert Manifest.from_json(encoded(MANIFEST)).layers[0].digest == DIGEST
    with pytest.raises(DataLoss, match=r"^invalid image manifest"):
        Manifest.from_json(encoded({**MANIFEST, **change}))


def test_a_document_with_two_meanings_is_refused() -> None:
    both = {**MANIFEST, "manifests": [DESCRIPTOR]}
    for read in (Manifest.from_json, Index.from_json):
        with pytest.raises(DataLoss, match="not allowed"):
            read(encoded(both))


@pytest.mark.parametrize(
    "text",
    [b"", b"[", b"null", b"[]", b"1", b'"x"', b"{" * 100_000, b"[" * 100_000, b'{"a":' * 100_000, b"\xff",
     b"\xef\xbb\xbf{}", "{}".encode("utf-16"),
     b'{"a":' + b"9" * 10_000 + b"}", b'{"a":"\\ud800"}', b'{"\\udfff":1}', b"{}x", b" " * (5 << 20)],
)  # fmt: skip
def test_texts_that_are_no_documents(text: bytes) -> None:
    for read in (Manifest.from_json, Index.from_json, ImageConfig.from_json):
        with pytest.raises(DataLoss) as caught:
            read(text)
        assert "\n" not in caught.value.message and len(caught.value.message) < 400


def _damaged(value: Any, chance: random.Random) -> Any:
    """A copy of a document with one place changed into something else."""
    other = [None, True, -1, 1 << 70, 1.5, "", "x\0", "\ud800", [], {}, [[]], {"a": {}}, DIGEST, [DIGEST] * 3]
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(sorted(value))
        return {**value, key: _damaged(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        index = chance.randrange(len(value))
        return [*value[:index], _damaged(value[index], chance), *value[index + 1 :]]
    return chance.choice(other)


def test_a_damaged_document_is_read_or_refused_but_never_crashes() -> None:
    chance = random.Random(20240101)
    index = {"schemaVersion": 2, "manifests": [{**DESCRIPTOR, "platform": {"os": "linux", "architecture": "amd64"}}]}
    refused = 0
    for read, good in ((Manifest.from_json, MANIFEST), (Index.from_json, index), (ImageConfig.from_json, CONFIG)):
        for _ in range(7000):
            document = good
            for _ in range(chance.randrange(1, 4)):
                document = _damaged(document, chance)
            text = encoded(document)
            if chance.random() < 0.3:
                place = chance.randrange(len(text))
                text = text[:place] + bytes([chance.randrange(256)]) + text[place + 1 :]
            try:
                read(text)
            except RdockError as e:
                refused += 1
                assert "\n" not in e.message
    assert refused > 5000


def test_chain_ids_are_those_of_the_specification() -> None:
    a, b, c = (f"sha256:{digit * 64}" for digit in "abc")
    second = hashlib.sha256(f"{a} {b}".encode()).hexdigest()
    third = hashlib.sha256(f"sha256:{second} {c}".encode()).hexdigest()
    assert manifest.chain_ids([a, b, c]) == ["a" * 64, second, third]
    assert manifest.chain_ids([]) == []


def test_the_manifest_for_a_platform() -> None:
    def entry(digit: str, **platform: str) -> dict[str, Any]:
        return {"mediaType": "m", "digest": f"sha256:{digit * 64}", "size": 1, "platform": platform}

    attestation = {**entry("f", os="unknown", architecture="unknown")}
    attestation["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
    found = Index.from_json(encoded({"schemaVersion": 2, "manifests": [
        attestation,
        entry("a", os="linux", architecture="amd64"),
        entry("b", os="linux", architecture="arm64", variant="v8"),
        entry("c", os="linux", architecture="arm", variant="v7"),
        entry("d", os="linux", architecture="arm", variant="v6"),
    ]}))  # fmt: skip
    for platform, digit in [
        (Platform("linux", "amd64"), "a"), (Platform("linux", "arm64"), "b"), (Platform("linux", "arm", "v7"), "c"),
        (Platform("linux", "arm", "v6"), "d"),
    ]:  # fmt: skip
        assert found.choose(platform).digest[7] == digit
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x in the manifest list entries"):
        found.choose(Platform("linux", "s390x"))
