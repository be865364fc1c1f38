"""rdock.scope is contextlib.contextmanager: each test is made with both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rdock.scope import scope

both = pytest.mark.parametrize("make", [scope, contextlib.contextmanager])


@both
def test_enters_gives_and_leaves(make: Callable[..., Any]) -> None:
    seen: list[object] = []

    @make
    def place(name: str, *, number: int = 1) -> Iterator[str]:
        seen.append((name, number))
        yield name
        seen.append("left")

    with place("a", number=2) as given:
        assert given == "a"
    assert seen == [("a", 2), "left"]


@both
@pytest.mark.parametrize("error", [ValueError("v"), KeyboardInterrupt(), StopIteration("s")])
def test_an_error_passes_through_the_generator(make: Callable[..., Any], error: BaseException) -> None:
    seen: list[object] = []

    @make
    def place() -> Iterator[None]:
        try:
            yield
        finally:
            seen.append("cleaned")

    with pytest.raises(type(error)) as caught, place():
        raise error
    assert caught.value is error and seen == ["cleaned"]


@both
def test_an_error_may_be_handled_or_replaced(make: Callable[..., Any]) -> None:
    @make
    def handles() -> Iterator[None]:
        try:
            yield
        except ValueError:
            pass

    @make
    def replaces() -> Iterator[None]:
        try:
            yield
        except ValueError as e:
            raise KeyError("other") from e

    with handles():
        raise ValueError
    with pytest.raises(KeyError), replaces():
        raise ValueError


@both
def test_an_error_before_the_yield_is_the_callers(make: Callable[..., Any]) -> None:
    @make
    def place() -> Iterator[None]:
        raise OSError("no")
        yield

    with pytest.raises(OSError, match="no"), place():
        raise AssertionError("must not come here")


@both
def test_a_generator_yields_once(make: Callable[..., Any]) -> None:
    @make
    def place() -> Iterator[int]:
        yield 1
        yield 2

    with pytest.raises(RuntimeError), place():
        pass
