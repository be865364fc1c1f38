"""Instructions for `commit --change` and `import --change`: a config that can be stored, or a refusal in one line."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from rdock.errors import InvalidParameter
from rdock.image.changes import apply_changes
from rdock.image.manifest import ImageConfig, encode
from tests.properties.documents import TEXT

WORDS = (
    "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
    "cmd", "Env", "RUN", "FROM", "", "İ",
)  # fmt: skip
# What a shell can pass: any characters but NUL, and bytes that are no UTF-8.
ARGUMENTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff"), max_size=20)
PIECES = st.sampled_from(
    ["[", "]", '["a", "b"]', '["/bin/sh", "-c", "["]', '["\\u0000"]', '["\\ud800"]', "A=b", "=", "'", '"', "\\", " ",
     "\t", "\n", "80", "80/tcp", "1-3/UDP", "0", "70000", "²", "٣", "--retries=", "--retries=²", "--interval=1h",
     "--timeout=", "9" * 400, "9" * 5000, "1.5s", "NONE", "CMD", "CMD true", "--", "-", "/", "..", "[" * 5000, "\0",
     "\udcff"]
)  # fmt: skip
GARBAGE = st.lists(PIECES | ARGUMENTS, max_size=5).map("".join) | st.lists(PIECES | ARGUMENTS, max_size=5).map(" ".join)
LINES = st.tuples(st.sampled_from(WORDS), GARBAGE).map(" ".join) | ARGUMENTS
BEFORE: dict[str, Any] = {"Env": ["PATH=/bin", "A=1"], "Labels": {"a": "b"}, "WorkingDir": "/w", "Volumes": None}


@given(st.lists(LINES, min_size=1, max_size=3))
@example(["HEALTHCHECK --retries=² CMD true"])
@example([f"HEALTHCHECK --interval={'9' * 400}h CMD true"])
@example([f"HEALTHCHECK --retries={'9' * 5000} CMD true"])
@example(['CMD ["\\ud800"]'])
@example(['VOLUME ["a\\u0000"]'])
def test_what_comes_out_can_be_stored(lines: list[str]) -> None:
    before = json.dumps(BEFORE)
    try:
        run = apply_changes(BEFORE, lines)
    except InvalidParameter as e:
        assert e.message
    else:
        found = ImageConfig.from_json(encode({"config": run}))
        assert list(found.env) == run.get("Env")
    assert json.dumps(BEFORE) == before


@given(st.dictionaries(st.from_regex(r"[A-Za-z_]\w*", fullmatch=True), TEXT.filter(str.strip), min_size=1, max_size=3))
def test_quoted_pairs_are_kept(pairs: dict[str, str]) -> None:
    quoted = " ".join(key + "='" + value.replace("'", "'\"'\"'") + "'" for key, value in pairs.items())
    run = apply_changes({"Env": ["PATH=/bin"]}, [f"ENV {quoted}", f"LABEL {quoted}"])
    assert run["Env"] == [f"{key}={value}" for key, value in ({"PATH": "/bin"} | pairs).items()]
    assert run["Labels"] == pairs


@given(st.sampled_from(["CMD", "ENTRYPOINT", "VOLUME"]), st.lists(TEXT, max_size=4))
def test_the_json_form_is_kept(word: str, arguments: list[str]) -> None:
    run = apply_changes({}, [f"{word} {json.dumps(arguments)}"])
    key = {"CMD": "Cmd", "ENTRYPOINT": "Entrypoint", "VOLUME": "Volumes"}[word]
    assert run[key] == (arguments if word != "VOLUME" else {path: {} for path in arguments})


@given(st.integers(-5, 70_000), st.integers(-5, 70_000), st.sampled_from(["", "/tcp", "/UDP", "/sctp", "/ip"]))
def test_ports(first: int, last: int, protocol: str) -> None:
    try:
        found = apply_changes({}, [f"EXPOSE {first}-{last}{protocol}"])["ExposedPorts"]
    except InvalidParameter:
        assert not 0 < first <= last < 1 << 16 or protocol == "/ip"
    else:
        name = protocol[1:].lower() or "tcp"
        assert list(found) == [f"{number}/{name}" for number in range(first, last + 1)]
