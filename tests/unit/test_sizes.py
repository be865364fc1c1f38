"""A module that outgrew one subject, or has none, is split while that is still easy."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "rdock"
CEILING = 450
NO_SUBJECT = {"utils", "util", "helpers", "helper", "common", "misc", "base"}


def test_no_module_is_longer_than_the_ceiling() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    long = {str(path.relative_to(PACKAGE)): length for path, length in lengths.items() if length > CEILING}
    assert not long, f"longer than {CEILING} lines: {long}"


def test_every_module_has_a_subject() -> None:
    vague = [
        str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if NO_SUBJECT & {path.stem, path.parent.name}
    ]
    assert not vague, f"named after no subject: {vague}"
