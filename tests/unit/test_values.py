"""Frozen values."""

from __future__ import annotations

import pytest

from rdock.values import Value


class Point(Value):
    x: int
    y: int = 2
    tags: tuple[str, ...] = ()

    @property
    def sum(self) -> int:
        return self.x + self.y


class Other(Value):
    x: int
    y: int = 2
    tags: tuple[str, ...] = ()


def test_fields_defaults_and_equality() -> None:
    point = Point(1)
    assert (point.x, point.y, point.tags, point.sum) == (1, 2, (), 3)
    assert point == Point(x=1, y=2) != Point(1, 3)
    assert point != Other(1)
    assert hash(point) == hash(Point(1))
    assert repr(point) == "Point(x=1, y=2, tags=())"
    assert point._asdict() == {"x": 1, "y": 2, "tags": ()}


def test_replace_makes_another() -> None:
    point = Point(1)
    assert point._replace(y=5) == Point(1, 5)
    assert point == Point(1)
    with pytest.raises(TypeError):
        point._replace(z=1)


def test_frozen() -> None:
    with pytest.raises(AttributeError):
        Point(1).x = 2  # type: ignore[misc]


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, (), 4), {}), ((1,), {"x": 1}), ((1,), {"z": 1})])
def test_wrong_fields(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    with pytest.raises(TypeError):
        Point(*args, **kwargs)  # type: ignore[arg-type]
