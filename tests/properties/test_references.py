"""Names of images against the grammar of distribution/reference, written down a second time as regular expressions."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from rdock.errors import InvalidParameter
from rdock.image import reference

# https://github.com/distribution/reference, reference.go, of digests the one algorithm that rdock takes.
_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_COMPONENT}(?:\.{_COMPONENT})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_WORD = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = rf"{_WORD}(?:/{_WORD})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_REMAINDER = re.compile(rf"({_PATH})(?::({_TAG}))?(?:@({_DIGEST}))?", re.ASCII)


def model(text: str) -> tuple[str, str, str, str] | None:
    """Domain, path, tag and digest as ParseNormalizedNamed has them; None for what it refuses."""
    if re.fullmatch(r"[a-f0-9]{64}", text):
        return None
    domain, remainder = "docker.io", text
    first, slash, rest = text.partition("/")
    if slash and (re.search(r"[.:]", first) or first == "localhost" or first.lower() != first):
        domain, remainder = first, rest
    domain = "docker.io" if domain == "index.docker.io" else domain
    if domain == "docker.io" and "/" not in remainder:
        remainder = "library/" + remainder
    found = _REMAINDER.fullmatch(remainder)
    if not found or not re.fullmatch(_DOMAIN, domain, re.ASCII) or len(f"{domain}/{found[1]}") > 255:
        return None
    return domain, found[1], found[2] or "", found[3] or ""


def text_of(pattern: str) -> st.SearchStrategy[str]:
    return st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True)


_DOMAINS = st.sampled_from(["", "docker.io/", "index.docker.io/", "localhost/", "library/"]) | text_of(_DOMAIN + "/")
_TAGS = st.just("") | text_of(":" + _TAG)
_DIGESTS = st.just("") | st.binary(min_size=32, max_size=32).map(lambda raw: f"@sha256:{raw.hex()}")
VALID = st.tuples(_DOMAINS, text_of(_PATH), _TAGS, _DIGESTS).map("".join)
_LETTERS = st.sampled_from([*"aZ09.:/@-_[]% ", "__", "..", "//", "sha256:", "\0", "\n", "é", "ß", "İ", "٣", "\udcff"])


@st.composite
def nearly_valid(draw: st.DrawFn) -> str:
    """A valid name with some letters taken away, put in, or replaced."""
    text = draw(VALID)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(_LETTERS | st.just("")) + text[at + draw(st.integers(0, 2)) :]
    return text


def parsed(text: str) -> tuple[str, str, str, str] | None:
    try:
        found = reference.parse(text)
    except InvalidParameter as e:
        assert e.message
        return None
    return found.domain, found.path, found.tag, found.digest


@given(VALID | nearly_valid() | st.text(st.sampled_from("aZ0.:/@-_[]"), max_size=12))
@example("a" * 64)
@example("a/" * 126 + "aaaa")
@example("[::1]/a")
@example("a:b/c:d@sha256:" + "0" * 64)
def test_the_grammar_is_distributions(text: str) -> None:
    assert parsed(text) == model(text)


@given(VALID)
def test_both_forms_of_a_name_lead_back_to_it(text: str) -> None:
    if parsed(text) is None:
        return
    found = reference.parse(text)
    assert reference.parse(str(found)) == found
    assert reference.parse(found.familiar) == found
    tagged = found.tagged()
    assert tagged.tag or tagged.digest
    assert tagged.tagged() == tagged == reference.parse(str(tagged))


@given(st.text())
def test_any_text_is_a_name_or_refused(text: str) -> None:
    assert parsed(text) == model(text)


@given(st.text() | text_of(r"sha256:[0-9a-fA-F]{63,65}") | text_of(_DIGEST) | text_of(r"(?s)sha256:.{64}"))
def test_a_digest_is_that_or_refused(text: str) -> None:
    if re.fullmatch(_DIGEST, text):
        assert "sha256:" + reference.digest_hex(text) == text
    else:
        try:
            reference.digest_hex(text)
        except InvalidParameter as e:
            assert e.message.isprintable()
        else:
            raise AssertionError("it was taken")
