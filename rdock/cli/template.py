"""Go's templates (text/template), as `--format` has them, for every command that takes one.

Imported only when a template is given. template_words.py and template_parse.py read a template,
template_run.py executes it, template_functions.py and go_format.py hold the functions, Docker's among them.
"""

from __future__ import annotations

from rdock.cli import template_parse
from rdock.cli.go_values import Map
from rdock.cli.template_functions import FUNCTIONS, HEADING_FUNCTIONS
from rdock.cli.template_run import Run
from rdock.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Template:
    """A template that has been read. Raises InvalidParameter in Go's words, after `complaint`."""

    def __init__(self, text: str, complaint: str = "template parsing error: ") -> None:
        self.text = text
        try:
            self._body = template_parse.parse(text, FUNCTIONS)
        except InvalidParameter as e:
            raise InvalidParameter(complaint + e.message) from None

    def render(self, item: Any, *, complaint: str = "", strict: bool = False) -> str:
        """The text for an object, a dict or what go_values.py has. With `strict` a missing key is an error."""
        try:
            return Run(self.text, FUNCTIONS, strict=strict).whole(self._body, item)
        except InvalidParameter as e:
            raise InvalidParameter(complaint + e.message) from None

    def heading(self, titles: Mapping[str, str]) -> str:
        """The first line of a table: the headings of the fields. As far as Go gets, which reports nothing here."""
        run = Run(self.text, HEADING_FUNCTIONS, strict=False)
        try:
            return run.whole(self._body, Map.of("", dict(titles)))
        except InvalidParameter:
            return "".join(run.parts)


def render(text: str, item: Any) -> str:
    """A template applied to one object. Raises InvalidParameter in Docker's words."""
    return Template(text).render(item, complaint="template parsing error: ")
