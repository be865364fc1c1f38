"""Did you mean …? What somebody may have meant who wrote a word that nobody knows. Imported only then."""

from __future__ import annotations

import difflib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_LIKENESS = 0.7
_MOST = 3


def sentence(word: str, known: Iterable[str], before: str = "") -> str:
    """`Did you mean 'rdock run'?`, or nothing; `before` is what the words that are known stand behind."""
    names = sorted({name for name in known if len(name) > 1})
    found = difflib.get_close_matches(word, names, _MOST, _LIKENESS)
    found += [name for name in names if len(word) > 2 and name.startswith(word) and name not in found][
        : _MOST - len(found)
    ]
    if not found:
        return ""
    shown = [f"'{before}{name}'" for name in found]
    return f"Did you mean {', '.join(shown[:-1])}{' or ' if shown[1:] else ''}{shown[-1]}?"
