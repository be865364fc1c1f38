"""What pull and push tell while they work: which layer is how far. The doors show it."""

from __future__ import annotations


class Report:
    """Says nothing; a door overrides what it shows. Called from several threads."""

    def layer(self, digest: str, status: str, done: int = 0, total: int = 0) -> None:
        """A layer has come so far, in Docker's words; `done` of `total` bytes where there is something to count."""

    def line(self, text: str) -> None:
        """A line of its own."""

    def warn(self, text: str) -> None:
        """Something that the user should know, though it is no failure."""
