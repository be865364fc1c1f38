"""The execution of a template's tree on an object, with the semantics of Go's text/template.

What it writes is bounded: a template has no calls of itself, loops run over what the object holds or over
a number, and the steps are counted.
"""

from __future__ import annotations

from rdock.cli.go_values import MISSING, NIL, Missing, Struct, text
from rdock.cli.template_functions import CallError, Function, go_type, is_true
from rdock.cli.template_parse import (
    Action,
    Bool,
    Branch,
    Call,
    Chain,
    Dot,
    Field,
    Jump,
    NilWord,
    Number,
    Pipe,
    String,
    Text,
    Variable,
)
from rdock.cli.template_parse import Function as FunctionWord
from rdock.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rdock.cli.template_parse import Body, Operand

MAX_STEPS = 1_000_000
MAX_OUTPUT = 64 << 20
_ABSENT = object()
"""No value from the command before in a pipeline."""


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Run:
    """One execution. Raises InvalidParameter in Go's words."""

    def __init__(self, source: str, functions: Mapping[str, Function], *, strict: bool) -> None:
        self.source = source
        self.functions = functions
        self.strict = strict
        """Whether a key that a map does not have is an error (Go's missingkey=error)."""
        self.parts: list[str] = []
        self.length = 0
        self.variables: list[tuple[str, Any]] = []
        self.steps = 0
        self.node: Any = None

    def whole(self, body: Body, item: Any) -> str:
        self.variables = [("$", item)]
        self.walk(body, item)
        return "".join(self.parts)

    def fail(self, message: str) -> InvalidParameter:
        before = self.source.encode("utf-8", "surrogateescape")[: self.node.at]
        column = len(before) - (before.rfind(b"\n") + 1)
        line = 1 + before.count(b"\n")
        return InvalidParameter(f'template: :{line}:{column}: executing "" at <{self.node}>: {message}')

    # -- nodes -------------------------------------------------------------------------------------

    def walk(self, body: Body, dot: Any) -> None:
        for node in body:
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise InvalidParameter("template: too many steps")
            if isinstance(node, Text):
                self.write(node.text)
            elif isinstance(node, Action):
                value = self.pipeline(dot, node.pipe)
                if not node.pipe.variables:
                    self.write(text(value))
            elif isinstance(node, Jump):
                raise _Break if node.kind == "break" else _Continue
            else:
                known = len(self.variables)
                self.branch(node, dot)
                del self.variables[known:]

    def write(self, found: str) -> None:
        self.parts.append(found)
        self.length += len(found)
        if self.length > MAX_OUTPUT:
            raise InvalidParameter("template: the output is too long")

    def branch(self, node: Branch, dot: Any) -> None:
        if node.kind == "range":
            self.range(node, dot)
            return
        value = self.pipeline(dot, node.pipe)
        if is_true(value):
            self.walk(node.body, value if node.kind == "with" else dot)
        else:
            self.walk(node.other, dot)

    def range(self, node: Branch, dot: Any) -> None:
        value = self.pipeline(dot, node.pipe)
        names = node.pipe.variables
        mark = len(self.variables)
        empty = True
        for key, item in self.items(value):
            empty = False
            if names and node.pipe.assigns:
                pair = (item,) if len(names) == 1 else (key, item)
                for name, one in zip(names, pair, strict=True):
                    self.assign(name, one)
            elif names:
                # One variable is the element; of two, the first is the key.
                self.variables[mark - len(names) : mark] = (
                    [(names[0], item)] if len(names) == 1 else [(names[0], key), (names[1], item)]
                )
            try:
                self.walk(node.body, item)
            except _Continue:
                continue
            except _Break:
                break
            finally:
                del self.variables[mark:]
        if empty:
            self.walk(node.other, dot)

    def items(self, value: Any) -> Iterable[tuple[Any, Any]]:
        if value is MISSING or value is None:
            return ()
        if isinstance(value, dict) and not isinstance(value, Struct):
            return [(key, value[key]) for key in sorted(value)]
        if isinstance(value, (list, tuple)):
            return enumerate(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return ((number, number) for number in range(value))
        raise self.fail(f"range can't iterate over {text(value)}")

    # -- variables ---------------------------------------------------------------------------------

    def variable(self, name: str) -> Any:
        for known, value in reversed(self.variables):
            if known == name:
                return value
        raise self.fail(f"undefined variable: {name}")

    def assign(self, name: str, value: Any) -> None:
        for index in range(len(self.variables) - 1, -1, -1):
            if self.variables[index][0] == name:
                self.variables[index] = (name, value)
                return
        raise self.fail(f"undefined variable: {name}")

    # -- pipelines ---------------------------------------------------------------------------------

    def pipeline(self, dot: Any, pipe: Pipe) -> Any:
        self.node = pipe
        value: Any = _ABSENT
        for call in pipe.calls:
            value = self.command(dot, call, value)
            if value is None:
                value = MISSING  # a nil interface
        for name in pipe.variables:
            if pipe.assigns:
                self.assign(name, value)
            else:
                self.variables.append((name, value))
        return value

    def command(self, dot: Any, call: Call, final: Any) -> Any:
        self.steps += 1
        first = call.words[0]
        rest = call.words[1:]
        if isinstance(first, Field):
            self.node = first
            return self.fields(dot, dot, first, first.names, rest, final)
        if isinstance(first, Chain):
            self.node = first
            return self.fields(dot, self.argument(dot, first.node), first, first.names, rest, final)
        if isinstance(first, Variable):
            self.node = first
            value = self.variable(first.name)
            if first.names:
                return self.fields(dot, value, first, first.names, rest, final)
            self.no_arguments(call, final)
            return value
        if isinstance(first, FunctionWord):
            self.node = first
            return self.function(dot, first.name, call, rest, final)
        self.node = first
        self.no_arguments(call, final)
        if isinstance(first, NilWord):
            raise self.fail("nil is not a command")
        return self.argument(dot, first)

    def no_arguments(self, call: Call, final: Any) -> None:
        if len(call.words) > 1 or final is not _ABSENT:
            raise self.fail(f"can't give argument to non-function {call.words[0]}")

    def argument(self, dot: Any, word: Operand) -> Any:
        """The value of an operand that stands as an argument."""
        self.node = word
        if isinstance(word, (Bool, Number, String)):
            return word.value
        if isinstance(word, Dot):
            return dot
        if isinstance(word, NilWord):
            return None
        if isinstance(word, Pipe):
            return self.pipeline(dot, word)
        return self.command(dot, Call(word.at, (word,)), _ABSENT)

    def function(self, dot: Any, name: str, call: Call, rest: tuple[Operand, ...], final: Any) -> Any:
        self.node = call
        function = self.functions[name]
        count = len(rest) + (final is not _ABSENT)
        if count < len(function.kinds) or (count > len(function.kinds) and not function.variadic):
            self.node = call.words[0]
            least = "at least " if function.variadic else ""
            raise self.fail(f"wrong number of args for {name}: want {least}{len(function.kinds)} got {count}")
        if name in ("and", "or"):
            return self.short_circuit(dot, name, rest, final)
        arguments = []
        for index, word in enumerate(rest):
            value = self.argument(dot, word)
            self.node = word
            arguments.append(self.fitting(value, function.kind(index), word))
        self.node = call
        if final is not _ABSENT:
            arguments.append(self.fitting(final, function.kind(len(rest)), None))
        try:
            return function.call(*arguments)
        except CallError as e:
            raise self.fail(f"error calling {name}: {e}") from None

    def short_circuit(self, dot: Any, name: str, rest: tuple[Operand, ...], final: Any) -> Any:
        value: Any = MISSING
        for word in rest:
            value = self.argument(dot, word)
            if is_true(value) == (name == "or"):
                return value
        return value if final is _ABSENT else final

    def fitting(self, value: Any, kind: str, word: Operand | None) -> Any:
        """An argument, if it has the type of its parameter."""
        if kind == "any":
            return value
        fits = {
            "string": lambda: isinstance(value, str),
            "int": lambda: isinstance(value, int) and not isinstance(value, bool),
            "[]string": lambda: isinstance(value, list) and all(isinstance(item, str) for item in value),
        }[kind]()
        if fits:
            return value
        wanted = {"string": "string", "int": "integer"}.get(kind, kind)
        if isinstance(word, NilWord):
            raise self.fail(f"cannot assign nil to {kind}")
        if isinstance(word, (Bool, Number, String)):
            if kind == "[]string":
                raise self.fail(f"can't handle {word} for arg of type {kind}")
            raise self.fail(f"expected {wanted}; found {word}")
        if value is MISSING or value is None:
            raise self.fail(f"invalid value; expected {kind}")
        raise self.fail(f"wrong type for value; expected {kind}; got {go_type(value)}")

    # -- fields ------------------------------------------------------------------------------------

    def fields(
        self, dot: Any, value: Any, node: Operand, names: tuple[str, ...], rest: tuple[Operand, ...], final: Any
    ) -> Any:
        for name in names[:-1]:
            value = self.field(value, name, [])
        arguments = [self.argument(dot, word) for word in rest] + ([] if final is _ABSENT else [final])
        self.node = node
        return self.field(value, names[-1], arguments)

    def field(self, value: Any, name: str, arguments: list[Any]) -> Any:
        if isinstance(value, Missing):
            if self.strict:
                raise self.fail(f'nil data; no entry for key "{name}"')
            return MISSING
        if value is None or value is NIL:
            kind = "interface {}" if value is None else "*struct"
            raise self.fail(f"nil pointer evaluating {kind}.{name}")
        if isinstance(value, Struct):
            return self.struct_field(value, name, arguments)
        if isinstance(value, dict):
            if arguments:
                raise self.fail(f"{name} is not a method but has arguments")
            if name not in value:
                if self.strict:
                    raise self.fail(f'map has no entry for key "{name}"')
                return MISSING
            return value[name]
        # In what comes from JSON everything is an interface.
        raise self.fail(f"can't evaluate field {name} in type {'interface {}' if self.strict else go_type(value)}")

    def struct_field(self, value: Struct, name: str, arguments: list[Any]) -> Any:
        try:
            found = value.method(name, arguments)
        except TypeError as e:
            raise self.fail(str(e)) from None
        if found is not MISSING:
            return found
        found = value.field(name)
        if found is MISSING:
            raise self.fail(f"can't evaluate field {name} in type {value.type_name}")
        if arguments:
            raise self.fail(f"{name} has arguments but cannot be invoked as function")
        return found
