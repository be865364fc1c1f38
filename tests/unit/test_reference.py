"""Names of images: what Docker makes of them, and what it refuses in which words."""

from __future__ import annotations

import pytest

from rdock.errors import InvalidParameter
from rdock.image import reference

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("typed", "long", "familiar"),
    [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3.19", "docker.io/library/alpine:3.19", "alpine:3.19"),
        ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("index.docker.io/user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
        ("host:5000/a/b:v1", "host:5000/a/b:v1", "host:5000/a/b:v1"),
        ("example.org/app", "example.org/app:latest", "example.org/app:latest"),
        ("Example/app", "Example/app:latest", "Example/app:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        (f"app@sha256:{HEX}", f"docker.io/library/app@sha256:{HEX}", f"app@sha256:{HEX}"),
        (f"app:v1@sha256:{HEX}", f"docker.io/library/app:v1@sha256:{HEX}", f"app:v1@sha256:{HEX}"),
        # Without its registry it would be a name in another one.
        ("docker.io/example.org/app", "docker.io/example.org/app:latest", "docker.io/example.org/app:latest"),
        ("docker.io/localhost/app", "docker.io/localhost/app:latest", "docker.io/localhost/app:latest"),
        ("a__b/c.d-e--f", "docker.io/a__b/c.d-e--f:latest", "a__b/c.d-e--f:latest"),
        ("app:" + "t" * 128, "docker.io/library/app:" + "t" * 128, "app:" + "t" * 128),
    ],
)
def test_names_and_their_two_forms(typed: str, long: str, familiar: str) -> None:
    parsed = reference.parse(typed).tagged()
    assert (str(parsed), parsed.familiar) == (long, familiar)
    assert reference.parse(long).tagged() == parsed
    assert reference.parse(familiar).tagged() == parsed


@pytest.mark.parametrize(
    "typed",
    ["", " ", "a b", "-a", "a-", "_a", "a/", "/a", "a//b", "a:", "a:b:c", "a@", "a@sha256:12", "a:" + "t" * 129,
     "../a", "a/../b", "a\0", "a\n", "a:v\n", f"a@sha256:{HEX.upper()}", f"a@sha512:{HEX}", "a___b", "a..b", "é",
     "host:port/a", "a:.b", f"a@sha256:{HEX}@sha256:{HEX}"],
)  # fmt: skip
def test_malformed_names_are_refused(typed: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid reference format$"):
        reference.parse(typed)


def test_refusals_that_say_more() -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid reference format: repository name \(library/Foo\) must be"):
        reference.parse("Foo")
    with pytest.raises(InvalidParameter, match="cannot specify 64-byte hexadecimal strings"):
        reference.parse(HEX)
    with pytest.raises(InvalidParameter, match="must not be more than 255 characters"):
        reference.parse("a/" * 130 + "a")


@pytest.mark.parametrize(
    "digest",
    ["", "sha256:", f"sha256:{HEX[:-1]}", f"sha256:{HEX}0", f"sha256:{HEX.upper()}", HEX, f"md5:{HEX}",
     f"sha256:../../../{HEX[9:]}", f"sha256:{HEX[:-1]}\n", f"sha256:{HEX[:-1]}/", f"SHA256:{HEX}",
     f"sha256:{HEX[:-1]}٣"],
)  # fmt: skip
def test_a_digest_is_exactly_that(digest: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid digest"):
        reference.digest_hex(digest)
    assert reference.digest_hex(f"sha256:{HEX}") == HEX
