"""JSON documents of images as hypothesis makes them: valid ones, and what becomes of one in hostile hands."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from rdock.image.manifest import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
)

# Text that UTF-8 can hold; a NUL has no place in what becomes an argument or a path.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
DIGESTS = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")
SIZES = st.integers(0, (1 << 63) - 1)

# What a stranger puts where something else was expected.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        [10**30, -(10**30), 1 << 63, (1 << 63) - 1, -1, 1e308, 2.0, "", "\0", "sha256:", "../..", "\ud800"]
    )
    | TEXT
)
JUNK = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)
# What else may be in a valid document, and is passed over.
FOREIGN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object that has any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


PLATFORMS = st.fixed_dictionaries({"os": TEXT, "architecture": TEXT}, optional={"variant": TEXT, "os.version": TEXT})


def descriptors(*kinds: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"mediaType": st.sampled_from(kinds), "digest": DIGESTS, "size": SIZES},
        optional={
            "annotations": st.dictionaries(TEXT, TEXT, max_size=3),
            "platform": PLATFORMS,
            "urls": st.lists(TEXT, max_size=2),
            "data": TEXT,
        },
    )


MANIFESTS = st.fixed_dictionaries(
    {
        "schemaVersion": st.just(2),
        "config": descriptors(OCI_CONFIG, DOCKER_CONFIG, "application/vnd.example"),
        "layers": st.lists(descriptors(OCI_LAYER, OCI_LAYER + "+zstd"), max_size=4),
    },
    optional={
        "mediaType": st.sampled_from([OCI_MANIFEST, DOCKER_MANIFEST]),
        "annotations": FOREIGN,
        "subject": FOREIGN,
    },
)
INDEXES = st.fixed_dictionaries(
    {"schemaVersion": st.just(2), "manifests": st.lists(descriptors(OCI_MANIFEST, DOCKER_MANIFEST), max_size=4)},
    optional={"mediaType": st.sampled_from([OCI_INDEX, DOCKER_INDEX]), "annotations": FOREIGN},
)
CONFIGS = some(
    architecture=TEXT,
    os=TEXT,
    variant=TEXT,
    created=TEXT,
    author=TEXT,
    config=some(
        Env=st.lists(TEXT, max_size=3),
        Entrypoint=st.lists(TEXT, max_size=3),
        Cmd=st.none() | st.lists(TEXT, max_size=3),
        WorkingDir=TEXT,
        User=TEXT,
        ExposedPorts=st.dictionaries(TEXT, st.just({}), max_size=3),
        Volumes=st.none() | st.dictionaries(TEXT, st.just({}), max_size=3),
        Labels=st.dictionaries(TEXT, TEXT, max_size=3),
        StopSignal=TEXT,
        Shell=st.lists(TEXT, max_size=3),
        OnBuild=st.lists(TEXT, max_size=3),
        Healthcheck=some(Test=st.lists(TEXT, max_size=3), Interval=SIZES, Timeout=SIZES, Retries=SIZES),
    ),
    history=st.lists(some(created=TEXT, created_by=TEXT, author=TEXT, comment=TEXT, empty_layer=st.booleans())),
    rootfs=st.fixed_dictionaries({"type": st.just("layers"), "diff_ids": st.lists(DIGESTS, max_size=4)}),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in _places(item, (*path, key)))]


def _changed(value: Any, path: tuple[Any, ...], put: Any) -> Any:
    """The value with what is at one place taken out, if `put` is `...`, or replaced."""
    if not path:
        return None if put is ... else put
    key, rest = path[0], path[1:]
    items = dict(value) if isinstance(value, dict) else list(value)
    if rest or put is not ...:
        items[key] = _changed(items[key], rest, put)
    else:
        del items[key]
    return items


@st.composite
def damaged(draw: st.DrawFn, documents: st.SearchStrategy[Any]) -> bytes:
    """The text of a document in which other values, or none, are in some places; or with bytes changed."""
    value = draw(documents)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(_places(value)))
        value = _changed(value, place, draw(JUNK | st.just(...)))
    text = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(HOSTILE_TEXTS) | st.binary(max_size=2)) + text[at:]
    return text


HOSTILE_TEXTS = [
    b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"1e999", b"NaN", b"-Infinity", b"\xff\xfe", b"\\ud800", b"\0",
    b'"schemaVersion":1,', b'"manifests":[],', b'"layers":[],', b",", b"null", b'"', b"\\", b"-", b"1e-400",
    b"}", b"\xed\xa0\x80",
]  # fmt: skip
