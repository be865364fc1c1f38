"""Go's template language (text/template) as a tree: the words of a template, and how they belong together.

Errors are Go's: `template: :LINE: what`. `define`, `template` and `block` are not known: one template that
calls itself could go on for ever, and nobody needs it for a line of output.
"""

from __future__ import annotations

from rdock.cli.template_words import ACTION_WORDS, Token, words
from rdock.errors import InvalidParameter
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import TypeAlias

Body: TypeAlias = "tuple[Node, ...]"

MAX_DEPTH = 100


class Text(Value):
    text: str


class Dot(Value):
    at: int

    def __str__(self) -> str:
        return "."


class NilWord(Value):
    at: int

    def __str__(self) -> str:
        return "nil"


class Bool(Value):
    at: int
    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


class Number(Value):
    at: int
    text: str
    value: int | float

    def __str__(self) -> str:
        return self.text


class String(Value):
    at: int
    quoted: str
    value: str

    def __str__(self) -> str:
        return self.quoted


class Field(Value):
    """`.A.B`"""

    at: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


class Variable(Value):
    """`$x.A.B`"""

    at: int
    name: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join((self.name, *self.names))


class Chain(Value):
    """`(pipeline).A.B`"""

    at: int
    node: Operand
    names: tuple[str, ...]

    def __str__(self) -> str:
        node = f"({self.node})" if isinstance(self.node, Pipe) else str(self.node)
        return ".".join((node, *self.names))


class Function(Value):
    at: int
    name: str

    def __str__(self) -> str:
        return self.name


class Call(Value):
    """One command of a pipeline: an operand, and the arguments if it is a function or method."""

    at: int
    words: tuple[Operand, ...]

    def __str__(self) -> str:
        return " ".join(f"({word})" if isinstance(word, Pipe) else str(word) for word in self.words)


class Pipe(Value):
    at: int
    variables: tuple[str, ...]
    assigns: bool
    """`=` to variables that exist, instead of `:=`."""
    calls: tuple[Call, ...]

    def __str__(self) -> str:
        head = f"{', '.join(self.variables)} {'=' if self.assigns else ':='} " if self.variables else ""
        return head + " | ".join(map(str, self.calls))


class Action(Value):
    pipe: Pipe


class Branch(Value):
    """if, with, range."""

    kind: str
    pipe: Pipe
    body: Body
    other: Body


class Jump(Value):
    """break, continue."""

    kind: str


Operand: TypeAlias = "Dot | NilWord | Bool | Number | String | Field | Variable | Chain | Function | Pipe"
Node: TypeAlias = "Text | Action | Branch | Jump"


def parse(text: str, functions: Collection[str]) -> Body:
    """The nodes of a template. Raises InvalidParameter in Go's words."""
    return _Parser(words(text), functions).whole()


class _Parser:
    def __init__(self, tokens: list[Token], functions: Collection[str]) -> None:
        self.tokens = tokens
        self.functions = functions
        self.next = 0
        self.variables = ["$"]
        self.loops = 0
        self.depth = 0

    # -- tokens ------------------------------------------------------------------------------------

    @property
    def token(self) -> Token:
        return self.tokens[self.next]

    def take(self) -> Token:
        token = self.tokens[self.next]
        if token.kind != "EOF":
            self.next += 1
        return token

    def fail(self, message: str, token: Token | None = None) -> InvalidParameter:
        return InvalidParameter(f"template: :{(token or self.token).line}: {message}")

    def unexpected(self, token: Token, where: str) -> InvalidParameter:
        if token.kind == "error":
            return self.fail(token.text, token)
        return self.fail(f"unexpected {token.shown()} in {where}", token)

    # -- nodes -------------------------------------------------------------------------------------

    def whole(self) -> Body:
        nodes, end = self.body()
        if end is not None:
            if self.token.kind != "}}" and end == "end":
                raise self.unexpected(self.token, end)
            raise self.fail(f"unexpected {{{{{end}}}}}")
        return nodes

    def body(self) -> tuple[Body, str | None]:
        """Nodes up to `else` or `end`, which is consumed and told, or up to the end of the template."""
        nodes: list[Node] = []
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail("exceeded maximum parse depth")
        while True:
            token = self.take()
            if token.kind == "EOF":
                self.depth -= 1
                return tuple(nodes), None
            if token.kind == "text":
                nodes.append(Text(token.text))
            elif token.kind == "{{":
                if self.token.kind == "word" and self.token.text in ("else", "end"):
                    self.depth -= 1
                    return tuple(nodes), self.take().text
                nodes.append(self.action())
            else:
                raise self.unexpected(token, "input")

    def action(self) -> Node:
        token = self.token
        if token.kind == "word" and token.text in ACTION_WORDS:
            self.take()
            if token.text in ("break", "continue"):
                if self.token.kind != "}}":
                    raise self.unexpected(self.token, f"{{{{{token.text}}}}}")
                if not self.loops:
                    raise self.fail(f"{{{{{token.text}}}}} outside {{{{range}}}}")
                self.take()
                return Jump(token.text)
            if token.text in ("if", "with", "range"):
                return self.branch(token.text)
            raise self.unexpected(token, "command")
        return Action(self.pipe("command", "}}"))

    def branch(self, kind: str) -> Branch:
        known = len(self.variables)
        pipe = self.pipe(kind, "}}")
        self.loops += kind == "range"
        body, end = self.body()
        self.loops -= kind == "range"
        other: Body = ()
        if end == "else":
            follows = self.token
            if follows.kind == "word" and follows.text == kind and kind != "range":
                # `else if` has no end of its own.
                self.take()
                self.depth += 1
                other, end = (self.branch(kind),), "ended"
                self.depth -= 1
            else:
                if self.take().kind != "}}":
                    raise self.unexpected(follows, "else")
                other, end = self.body()
                if end == "else":
                    raise self.fail("expected end; found {{else}}")
        if end is None:
            raise self.fail("unexpected EOF")
        if end == "end" and self.token.kind != "}}":
            raise self.unexpected(self.token, "end")
        if end == "end":
            self.take()
        del self.variables[known:]
        return Branch(kind, pipe, body, other)

    def pipe(self, where: str, end: str) -> Pipe:
        """A pipeline and the `}}` or `)` behind it."""
        at = self.token.at
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail("exceeded maximum parse depth")
        names, assigns = self.declaration(where)
        calls: list[Call] = []
        while True:
            token = self.token
            if token.kind == end:
                self.take()
                break
            if token.kind in ("}}", ")", "|"):
                raise self.unexpected(token, where)
            calls.append(self.call(where, end))
        if not calls:
            raise self.fail(f"missing value for {where}", self.tokens[self.next - 1])
        for number, call in enumerate(calls[1:], 2):
            if isinstance(call.words[0], (Bool, Dot, NilWord, Number, String)):
                raise self.fail(f"non executable command in pipeline stage {number}", self.tokens[self.next - 1])
        self.variables += [] if assigns else names
        self.depth -= 1
        return Pipe(at, tuple(names), assigns, tuple(calls))

    def declaration(self, where: str) -> tuple[list[str], bool]:
        """`$x :=`, `$x =`, or in range `$k, $v :=`."""
        names: list[str] = []
        start = self.next
        while self.token.kind == "variable":
            names.append(self.take().text)
            token = self.token
            if token.kind in (":=", "="):
                self.take()
                return names, token.kind == "="
            if token.kind != ",":
                break
            if where != "range" or len(names) > 1:
                raise self.fail(f"too many declarations in {where}")
            self.take()
        self.next = start
        return [], False

    def known(self, name: str, token: Token) -> None:
        if name not in self.variables:
            raise self.fail(f'undefined variable "{name}"', token)

    def call(self, where: str, end: str) -> Call:
        found: list[Operand] = []
        at = self.token.at
        while True:
            token = self.token
            operand = self.operand()
            if operand is None:
                if token.kind not in ("}}", ")", "|"):
                    raise self.unexpected(token, "operand" if found else where)
            else:
                found.append(operand)
            token = self.token
            if token.kind == "|":
                self.take()
                break
            if token.kind in ("}}", ")"):
                break
            if operand is not None and not token.spaced:
                raise self.unexpected(token, "operand")
        if not found:
            raise self.fail("empty command")
        return Call(at, tuple(found))

    def operand(self) -> Operand | None:
        node = self.term()
        if node is None or self.token.kind != "field" or self.token.spaced:
            return node
        at = self.token.at
        names: list[str] = []
        while self.token.kind == "field" and not self.token.spaced:
            names.append(self.take().text[1:])
        if isinstance(node, Field):
            return Field(at, (*node.names, *names))
        if isinstance(node, Variable):
            return Variable(at, node.name, (*node.names, *names))
        if isinstance(node, (Bool, String, Number, NilWord, Dot)):
            shown = str(node).replace("\\", "\\\\").replace('"', '\\"')
            raise self.fail(f'unexpected . after term "{shown}"')
        return Chain(at, node, tuple(names))

    def term(self) -> Operand | None:
        token = self.token
        if token.kind == "(":
            self.take()
            return self.pipe("parenthesized pipeline", ")")
        if token.kind == "word":
            if token.text in ("true", "false"):
                self.take()
                return Bool(token.at, token.text == "true")
            if token.text == "nil":
                self.take()
                return NilWord(token.at)
            if token.text in ACTION_WORDS:
                return None
            if token.text not in self.functions:
                raise self.fail(f'function "{token.text}" not defined')
            self.take()
            return Function(token.at, token.text)
        if token.kind in (".", "field", "variable", "number", "string"):
            self.take()
        if token.kind == ".":
            return Dot(token.at)
        if token.kind == "field":
            return Field(token.at, (token.text[1:],))
        if token.kind == "variable":
            self.known(token.text, token)
            return Variable(token.at, token.text, ())
        if token.kind == "number":
            if not isinstance(token.value, (int, float)):
                raise self.fail(f'illegal number syntax: "{token.text}"', token)
            return Number(token.at, token.text, token.value)
        if token.kind == "string":
            assert isinstance(token.value, str)
            return String(token.at, token.text, token.value)
        return None
