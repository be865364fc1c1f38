"""Who the user is to a registry."""

from __future__ import annotations

from rdock.values import Value


class Credentials(Value):
    """A user's name and secret; an identity token stands for both."""

    username: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, ...)"

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token)


def lookup(host: str) -> Credentials:
    """What is kept for a registry; empty if nothing is."""
    return Credentials()
