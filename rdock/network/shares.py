"""Places of which there are few, given out so that nobody can have all of them."""

from __future__ import annotations

# One of so many is for those who have none.
_KEPT = 8


class Shares:
    """Who takes a place, or several: containers, each of which comes by the link of one of its networks.

    Besides what is taken there must be left as many places as the bridge has, for another bridge, and as many as the
    container has, for another container on the same one. So no bridge has more than half of all. An eighth is for
    those who have none yet, so that they need not wait for what others have taken early.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken = 0
        self._of: dict[tuple[str, str], int] = {}

    def take(self, container: str, link: str, most: int) -> bool:
        """Whether there is one more, `most` being what the container may have; it has it then."""
        own, near = (self._of.get(key, 0) for key in _keys(container, link))
        kept = self.most // _KEPT if own else 0
        if own >= most or self._taken + near + own + kept >= self.most:
            return False
        self._add(container, link, 1)
        return True

    def give_back(self, container: str, link: str) -> None:
        """One that `take` has given."""
        self._add(container, link, -1)

    def _add(self, container: str, link: str, count: int) -> None:
        self._taken += count
        for key in _keys(container, link):
            self._of[key] = self._of.get(key, 0) + count
            if not self._of[key]:
                del self._of[key]


def _keys(container: str, link: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("container", container), ("link", link)
