"""The JSON documents of images: valid ones are read as they are written, of all others there is one clear refusal."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from rdock import jsontext
from rdock.errors import DataLoss, NotFound
from rdock.image import manifest
from rdock.image.manifest import Descriptor, ImageConfig, Index, Manifest, Platform
from rdock.image.reference import is_digest
from tests.properties.documents import (
    CONFIGS,
    DIGESTS,
    HOSTILE_TEXTS,
    INDEXES,
    JUNK,
    MANIFESTS,
    PLATFORMS,
    SCALARS,
    damaged,
)

Document = dict[str, Any]


def text_of(document: Document) -> bytes:
    return json.dumps(document).encode()


def check_descriptor(found: Descriptor, given: Document) -> None:
    assert (found.media_type, found.digest, found.size) == (given["mediaType"], given["digest"], given["size"])
    assert found.annotations == given.get("annotations", {})
    if "platform" in given:
        platform = given["platform"]
        assert found.platform == Platform(platform["os"], platform["architecture"], platform.get("variant", ""))
    else:
        assert found.platform is None


@given(MANIFESTS)
def test_a_manifest_is_read_as_it_is_written(document: Document) -> None:
    found = Manifest.from_json(text_of(document))
    assert found.media_type == document.get("mediaType", manifest.OCI_MANIFEST)
    check_descriptor(found.config, document["config"])
    for layer, given_ in zip(found.layers, document["layers"], strict=True):
        check_descriptor(layer, given_)
    # What rdock writes of it is read as the same, but for platforms, which stand in an index alone.
    again = Manifest.from_json(manifest.encode(found.to_json()))
    assert again.to_json() == found.to_json()


@given(INDEXES, PLATFORMS)
def test_an_index_is_read_as_it_is_written(document: Document, wanted: Document) -> None:
    found = Index.from_json(text_of(document))
    for one, given_ in zip(found.manifests, document["manifests"], strict=True):
        check_descriptor(one, given_)
    for one in found.manifests:
        if one.platform is not None and one.platform.os and "vnd.docker.reference.type" not in one.annotations:
            chosen = found.choose(one.platform)
            assert chosen.platform is not None
            assert (chosen.platform.os, chosen.platform.architecture) == (one.platform.os, one.platform.architecture)
    try:
        assert found.choose(Platform(wanted["os"], wanted["architecture"])) in found.manifests
    except NotFound as e:
        assert "no matching manifest" in e.message


@given(CONFIGS)
def test_a_config_is_read_as_it_is_written(document: Document) -> None:
    text = text_of(document)
    found = ImageConfig.from_json(text)
    assert found.raw == text and found.id == manifest.digest_of(text)[7:]
    run = document.get("config", {})
    for ours, key in (("env", "Env"), ("entrypoint", "Entrypoint"), ("cmd", "Cmd"), ("shell", "Shell"),
                      ("on_build", "OnBuild"), ("exposed_ports", "ExposedPorts"), ("volumes", "Volumes")):  # fmt: skip
        assert list(getattr(found, ours)) == list(run.get(key) or ())
    for ours, key in (("working_dir", "WorkingDir"), ("user", "User"), ("stop_signal", "StopSignal")):
        assert getattr(found, ours) == run.get(key, "")
    for key in ("architecture", "os", "variant", "created", "author"):
        assert getattr(found, key) == document.get(key, "")
    assert found.labels == run.get("Labels", {}) and found.healthcheck == run.get("Healthcheck")
    assert list(found.history) == document.get("history", [])
    assert list(found.diff_ids) == document.get("rootfs", {}).get("diff_ids", [])


@given(st.lists(DIGESTS))
def test_chain_ids_depend_on_all_layers_below(diff_ids: list[str]) -> None:
    chains = manifest.chain_ids(diff_ids)
    assert len(chains) == len(diff_ids)
    assert all(manifest.chain_ids(diff_ids[:end]) == chains[:end] for end in range(len(diff_ids)))
    for above in range(1, len(diff_ids)):
        # Image spec: ChainID(L₀|…|Lₙ) = Digest(ChainID(L₀|…|Lₙ₋₁) + " " + DiffID(Lₙ)).
        assert chains[above] == manifest.digest_of(f"sha256:{chains[above - 1]} {diff_ids[above]}".encode())[7:]


def refused(text: bytes) -> list[str]:
    """What each kind of document says of a text; empty where it takes it."""
    found = []
    for kind in (Manifest, Index, ImageConfig):
        try:
            kind.from_json(text)
            found.append("")
        except DataLoss as e:
            assert e.message.startswith("invalid image ") and "\n" not in e.message and len(e.message) < 1000
            found.append(e.message)
    return found


@given(damaged(MANIFESTS) | damaged(INDEXES) | damaged(CONFIGS) | damaged(JUNK) | st.binary(max_size=40))
@example(b"[" * 100_000)
@example(b'{"schemaVersion":' + b"9" * 5000 + b"}")
@example(b'{"config":{"Env":["\\ud800"]}}')
def test_whatever_comes_is_taken_or_refused_in_one_line(text: bytes) -> None:
    as_manifest, as_index, _ = refused(text)
    # Nothing can be read as both: one digest has one meaning.
    assert as_manifest or as_index


@given(damaged(MANIFESTS))
def test_what_is_taken_of_a_damaged_manifest_is_sound(text: bytes) -> None:
    try:
        found = Manifest.from_json(text)
    except DataLoss:
        return
    for one in (found.config, *found.layers):
        assert is_digest(one.digest) and type(one.size) is int and 0 <= one.size < 1 << 63
        assert type(one.media_type) is str and "\0" not in one.media_type
        one.media_type.encode()


@given(JUNK)
def test_json_is_the_standard_librarys(value: Any) -> None:
    assert jsontext.parse(json.dumps(value)) == value
    assert jsontext.parse(jsontext.render(value)) == value


@given(st.text(max_size=30) | st.builds(lambda value, junk: json.dumps(value) + junk, SCALARS, st.text(max_size=3)))
@example("[" * 100_000)
@example("1" * 5000)
@example("NaN")
@example("-1e999")
def test_texts_are_json_for_both_or_for_none(text: str) -> None:
    def number(text: str) -> float:
        """None that is infinite, which could not be written again."""
        if text.startswith(("N", "I", "-I")) or abs(float(text)) == float("inf"):
            raise ValueError(text)
        return float(text)

    try:
        expected = json.loads(text, parse_constant=number, parse_float=number)
    except (ValueError, RecursionError):
        expected = ...
    try:
        found = jsontext.parse(text)
    except (ValueError, RecursionError):
        found = ...
    assert found == expected


@given(st.sampled_from(HOSTILE_TEXTS), st.sampled_from(HOSTILE_TEXTS))
def test_hostile_texts_joined(one: bytes, other: bytes) -> None:
    assert all(refused(one + other))
