"""Instructions for `commit --change` and `import --change`, and what is no instruction."""

from __future__ import annotations

from typing import Any

import pytest

from rdock.errors import InvalidParameter
from rdock.image.changes import apply_changes


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("HEALTHCHECK --retries=² CMD true", "invalid number of retries: '²'"),
        ("HEALTHCHECK --retries= CMD true", "invalid number of retries: ''"),
        (f"HEALTHCHECK --retries={'9' * 5000} CMD true", "invalid number of retries"),
        (f"HEALTHCHECK --retries={1 << 31} CMD true", "invalid number of retries"),
        (f"HEALTHCHECK --interval={'9' * 400}h CMD true", "invalid duration"),
        ("HEALTHCHECK --interval=9999999h CMD true", "invalid duration: '9999999h'"),
        ("HEALTHCHECK --interval=٣s CMD true", "invalid duration"),
        ("EXPOSE ٣", "invalid containerPort: ٣"),
        ('VOLUME ["a\\u0000"]', "contains a NUL byte"),
        ('CMD ["a\\u0000"]', "contains a NUL byte"),
    ],
)
def test_refusals(line: str, problem: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        apply_changes({}, [line])
    assert problem in refusal.value.message


@pytest.mark.parametrize(
    ("line", "run"),
    [
        ("HEALTHCHECK --retries=3 --interval=1m30.5s CMD true",
         {"Healthcheck": {"Retries": 3, "Interval": 90_500_000_000, "Test": ["CMD-SHELL", "true"]}}),
        # What UTF-8 cannot hold becomes what Go makes of it.
        ("ENV A=\udcff", {"Env": ["A=\ufffd"]}),
        ('CMD ["\\ud800", "é"]', {"Cmd": ["\ufffd", "é"]}),
        # Words that look like a shell's line are words all the same.
        ('VOLUME ["/bin/sh", "-c", "["]', {"Volumes": {"/bin/sh": {}, "-c": {}, "[": {}}}),
    ],
)  # fmt: skip
def test_what_becomes_of_it(line: str, run: dict[str, Any]) -> None:
    assert apply_changes({}, [line]) == run
