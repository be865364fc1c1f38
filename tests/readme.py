"""The commands that a Markdown page shows, with what they are said to print."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BLOCK = re.compile(
    r"^(?:<!-- (?:not run: (?P<reason>[^\n]+)|(?P<how>slow|at a terminal)) -->\n)?"
    r"```(?P<kind>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A block marked `sh`."""

    line: int
    script: str
    prints: str | None
    """Text of the `text` block right below it; `…` in it stands for anything."""
    not_run: str
    """Why it is left out, or an empty string."""
    how: str
    """`slow`, `at a terminal`, or an empty string."""

    def matches(self, output: str) -> bool:
        if self.prints is None:
            return True
        pattern = ".*".join(re.escape(part) for part in self.prints.strip().split("…"))
        return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None


def blocks(page: str) -> list[Block]:
    """All blocks marked `sh`, in their order."""
    found = list(_BLOCK.finditer(page))
    result = []
    for match, following in zip(found, [*found[1:], None], strict=True):
        if match["kind"] != "sh":
            continue
        prints = None
        if following is not None and following["kind"] == "text" and not page[match.end() : following.start()].strip():
            prints = following["text"]
        line = page.count("\n", 0, match.start("text"))
        result.append(Block(line, match["text"], prints, match["reason"] or "", match["how"] or ""))
    return result
