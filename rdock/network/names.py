"""Names and name servers that a user gives a container: `--add-host`, `--dns` and its like, checked as by Docker.

What is accepted here goes into files of the container line by line, so nothing in it may end a line.
"""

from __future__ import annotations

from rdock.errors import InvalidParameter

HOST_GATEWAY = "host-gateway"
"""In the place of an address: where the container reaches its host."""


def parse_extra_host(text: str) -> str:
    """`name=address` or `name:address`, an IPv6 one bare or in brackets → `name:address`. Raises InvalidParameter."""
    name, separator, address = text.partition("=")
    if not separator:
        name, separator, address = text.partition(":")
    if not separator or not name or ":" in name or not _is_word(name) or name.startswith("#"):
        raise InvalidParameter(f'bad format for add-host: "{text}"')
    if address == HOST_GATEWAY:
        return f"{name}:{address}"
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if not _is_address(address):
        raise InvalidParameter(f'invalid IP address in add-host: "{address}"')
    return f"{name}:{address}"


def parse_link(text: str) -> tuple[str, str]:
    """`CONTAINER[:ALIAS]`, or the form that `inspect` shows: the name and the alias. Raises InvalidParameter."""
    if not text:
        raise InvalidParameter("empty string specified for links")
    name, colon, alias = text.partition(":")
    if name.startswith("/"):
        name, alias = name.removeprefix("/"), alias.rpartition("/")[2]
    alias = alias if colon else name
    if not name or not _is_word(alias) or set(alias) & set(":/#"):
        raise InvalidParameter(f"bad format for links: {text}")
    return name, alias


def split_extra_host(entry: str) -> tuple[str, str]:
    """Name and address of what `parse_extra_host` gave."""
    name, _, address = entry.partition(":")
    return name, address


def parse_dns(text: str) -> str:
    """The address of a name server. Raises InvalidParameter."""
    if not _is_address(text.strip()):
        raise InvalidParameter(f"IP address is not correctly formatted: {text}")
    return text.strip()


def parse_dns_search(text: str) -> str:
    """A domain, or `.` for none at all. Raises InvalidParameter."""
    domain = text.strip().removesuffix(".") or text.strip()
    labels = domain.split(".")
    good = len(domain) <= 253 and all(
        0 < len(label) <= 63 and label.isascii() and label.replace("-", "").replace("_", "").isalnum()
        for label in labels
    )
    if domain != "." and not good:
        raise InvalidParameter(f"{text} is not a valid domain")
    return text.strip()


def parse_dns_option(text: str) -> str:
    """An option of resolv.conf(5). Raises InvalidParameter."""
    if not _is_word(text):
        raise InvalidParameter(f"{text!r} is not a resolver option")
    return text


def _is_word(text: str) -> bool:
    return bool(text) and text.isprintable() and not any(character.isspace() for character in text)


def _is_address(text: str) -> bool:
    import ipaddress  # 4 ms that only these options need

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text and text.isascii()
