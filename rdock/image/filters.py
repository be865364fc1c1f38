"""The filters of `images --filter` and its REPOSITORY[:TAG] argument."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from rdock.errors import InvalidParameter
from rdock.image import images, reference
from rdock.image.images import Image

_KEYS = ("before", "dangling", "label", "reference", "since", "until")


def select(found: Sequence[Image], filters: Iterable[str], name: str = "") -> list[Image]:
    """The images that match `name` and all filters (`KEY=VALUE`); of their tags those that match.

    Several references are alternatives, as Docker has it. Raises InvalidParameter in its words.
    """
    patterns = [name] if name else []
    wanted: list[tuple[str, str]] = []
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidParameter(f"invalid argument \"{text}\" for \"-f, --filter\" flag: bad format of filter "
                                   "(expected name=value)")  # fmt: skip
        if key not in _KEYS:
            raise InvalidParameter(f"invalid filter '{key}'")
        if key == "reference":
            patterns.append(value)
        else:
            wanted.append((key, value))
    kept = [image for image in found if all(_matches(image, key, value) for key, value in wanted)]
    if patterns:
        kept = [image._replace(references=names) for image in kept if (names := _matching_names(image, patterns))]
    return kept


def _matches(image: Image, key: str, value: str) -> bool:
    if key == "dangling":
        if value.lower() not in ("true", "1", "false", "0"):
            raise InvalidParameter(f"invalid filter 'dangling={value}'")
        return not image.tags if value.lower() in ("true", "1") else bool(image.references)
    if key == "until":
        from rdock.state import moment

        return image.created < moment.parse(value, "until") / 1e9
    if key == "label":
        name, equals, content = value.partition("=")
        return name in image.config.labels and (not equals or image.config.labels[name] == content)
    other = images.lookup(value)
    return image.created < other.created if key == "before" else image.created > other.created


def _matching_names(image: Image, patterns: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in image.references if any(_fits(name, pattern) for pattern in patterns))


def _fits(name: str, pattern: str) -> bool:
    """Whether a name, in short or long form, with or without its tag, has the shape of a pattern of path.Match."""
    parsed = reference.parse(name)
    forms = {parsed.familiar, parsed.familiar_name, str(parsed), parsed.name}
    return any(form.count("/") == pattern.count("/") and fnmatch.fnmatchcase(form, pattern) for form in forms)
