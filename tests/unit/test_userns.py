"""--userns without a kernel: how ids are given out, and cut to fit a parent's map."""

from __future__ import annotations

import pytest

from rdock.container import userns
from rdock.errors import InvalidParameter
from rdock.linux.idmap import NOBODY, Mapping, Maps, split

HERE = (Mapping(0, 1000, 1), Mapping(1, 100000, 100), Mapping(101, 500000, 50))


@pytest.mark.parametrize(
    ("mapping", "pieces"),
    [
        (Mapping(0, 0, 151), [(0, 0, 1), (1, 1, 100), (101, 101, 50)]),
        (Mapping(5, 0, 1), [(5, 0, 1)]),
        (Mapping(0, 1, 120), [(0, 1, 100), (100, 101, 20)]),
        (Mapping(40, 100, 2), [(40, 100, 1), (41, 101, 1)]),
        (Mapping(0, 140, 20), [(0, 140, 11)]),
        (Mapping(0, 151, 5), []),
    ],
)
def test_split(mapping: Mapping, pieces: list[tuple[int, int, int]]) -> None:
    """A line of a map lies in one line of the parent's; ids that the parent lacks are left out."""
    assert [(m.inside, m.outside, m.size) for m in split([mapping], HERE)] == pieces


def test_owners() -> None:
    maps = Maps((Mapping(0, 1, 33), Mapping(33, 0, 1), Mapping(34, 34, 10)), (Mapping(0, 0, 44),))
    assert maps.owner_outside(0, 0) == (1, 0) and maps.owner_outside(33, 5) == (0, 5)
    assert maps.owner_inside(0, 43) == (33, 43) and maps.owner_inside(40, 44) == (40, NOBODY)
    assert maps.owner_outside(44, 44) == (0, 0) and not maps.is_one_to_one
    assert maps.to_json()["Gids"] == [[0, 0, 44]] and Maps((), maps.gids).is_one_to_one


@pytest.mark.parametrize(
    ("size", "taken", "first"),
    [
        (10, [], 91),
        (100, [], 1),
        (10, [(91, 100)], 81),
        (10, [(81, 90)], 91),
        (11, [(81, 90)], 70),
        (5, [(91, 100), (81, 85)], 86),
        (6, [(91, 100), (91, 100), (81, 85)], 75),
        (80, [(81, 100)], 1),
        (10, [(95, 200)], 85),
        (1, [(2, 100)], 1),
    ],
)
def test_free(size: int, taken: list[tuple[int, int]], first: int) -> None:
    assert userns._free(size, 101, taken) == first


@pytest.mark.parametrize(("size", "taken"), [(101, []), (81, [(81, 100)]), (1, [(1, 100)]), (2, [(2, 99)])])
def test_none_free(size: int, taken: list[tuple[int, int]]) -> None:
    with pytest.raises(InvalidParameter, match="could not find enough available IDs"):
        userns._free(size, 101, taken)


def test_nobody_is_nobody() -> None:
    assert userns._free(10, 70000, []) == NOBODY - 10
