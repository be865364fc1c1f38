"""References: how an image is named, after the grammar of Docker's distribution/reference.

`alpine` means docker.io/library/alpine:latest. The long form is what is stored and compared, the
familiar form is what is shown. A digest is only ever accepted as `sha256:` and 64 lower-case hex
digits, and is checked here before it becomes part of a path.
"""

from __future__ import annotations

from rdock.errors import InvalidParameter
from rdock.values import Value

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
MAX_NAME = 255

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_LETTERS = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WORD = _LETTERS | {"_"}
_HEX = frozenset("0123456789abcdef")


class Reference(Value):
    """A name with an optional tag and digest, in its long form."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The name as Docker shows it: without the default registry and its `library/`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        first, slash, rest = self.path.partition("/")
        if slash and _is_like_a_host(first):
            return self.name  # the short form would be a name in another registry
        return rest if first == "library" and rest and "/" not in rest else self.path

    @property
    def familiar(self) -> str:
        return self.familiar_name + self._suffix()

    def __str__(self) -> str:
        return self.name + self._suffix()

    def tagged(self) -> Reference:
        """With the tag `latest` unless there is a tag or a digest."""
        return self if self.tag or self.digest else self._replace(tag=DEFAULT_TAG)

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """The reference that a user typed. Raises InvalidParameter in Docker's words."""
    if is_hex(text, 64):
        raise InvalidParameter(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    name, at, digest = remainder.partition("@")
    path, colon, tag = name.partition(":")
    if path != path.lower():
        raise InvalidParameter(f"invalid reference format: repository name ({path}) must be lowercase")
    if not all(map(_is_path_part, path.split("/"))) or not is_domain(domain):
        raise InvalidParameter("invalid reference format")
    if (colon and not is_tag(tag)) or (at and not is_digest(digest)):
        raise InvalidParameter("invalid reference format")
    if len(domain) + 1 + len(path) > MAX_NAME:
        raise InvalidParameter(f"repository name must not be more than {MAX_NAME} characters")
    return Reference(domain, path, tag, digest)


# The grammar by hand: `re` alone would cost a container's start six milliseconds.


def _is_path_part(text: str) -> bool:
    """[a-z0-9]+ joined by `.`, `_`, `__` or any number of `-`."""
    separator = "."
    for character in text:
        if character in _LOWER:
            if separator not in ("", ".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
        elif character in "._-":
            separator += character
        else:
            return False
    # It must not begin with a separator, which the first one stands for, nor end with one.
    return bool(text) and text[0] in _LOWER and separator == ""


def is_domain(text: str) -> bool:
    """A host name, or an IPv6 address in brackets, with an optional port."""
    host, colon, port = text, "", ""
    if not text.endswith("]"):
        before, separator, after = text.rpartition(":")
        if separator:
            host, colon, port = before, separator, after
    if colon and not (port.isdecimal() and port.isascii()):
        return False
    if host.startswith("[") and host.endswith("]"):
        return len(host) > 2 and all(character in "0123456789abcdefABCDEF:" for character in host[1:-1])
    return all(part and set(part) - {"-"} <= _LETTERS and part[0] != "-" != part[-1] for part in host.split("."))


def is_tag(text: str) -> bool:
    """A word character, then up to 127 more of these, dots and dashes."""
    return 0 < len(text) <= 128 and text[0] in _WORD and all(c in _WORD or c in ".-" for c in text)


def _split_domain(text: str) -> tuple[str, str]:
    """The part before the first slash is a registry only if it looks like a host (moby: splitDockerDomain)."""
    first, slash, rest = text.partition("/")
    if slash and _is_like_a_host(first):
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == f"index.{DEFAULT_DOMAIN}":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = "library/" + remainder
    return domain, remainder


def _is_like_a_host(first: str) -> bool:
    return any(c in first for c in ".:") or first == "localhost" or first != first.lower()


# -- digests -------------------------------------------------------------------------------------


def is_hex(text: str, length: int) -> bool:
    return len(text) == length and _HEX.issuperset(text)


def is_digest(text: str) -> bool:
    return text.startswith("sha256:") and is_hex(text[7:], 64)


def digest_hex(digest: str) -> str:
    """The hex digits of a digest, fit to be a file name. Raises InvalidParameter."""
    if not is_digest(digest):
        raise InvalidParameter(f"invalid digest: {digest[:100]!r} (want sha256: and 64 hex digits)")
    return digest[7:]
