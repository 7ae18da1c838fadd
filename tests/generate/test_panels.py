import pytest

from squash_api.generate.panels import (
    FINE,
    LEVEL_COLORS,
    PLAIN,
    Cell,
    Note,
    Steps,
    limit_steps,
    stacked,
)
from squash_api.judging.alerts import LEVELS, Alert
from tests.support.limits import limit

EMPTY = Note("")


def half(height: int = 3) -> list[Cell]:
    return [Cell(EMPTY, 0, 0, 2, height), Cell(EMPTY, 2, 0, 4, height)]


def whole(height: int = 4) -> list[Cell]:
    return [Cell(EMPTY, 0, 0, 6, height), Cell(EMPTY, 6, 0, 6, height)]


def places(found: list[Cell]) -> list[tuple[int, int, int, int]]:
    return [(cell.x, cell.y, cell.w, cell.h) for cell in found]


def test_two_halves_share_a_row() -> None:
    found = places(stacked([half(), half()], top=4))
    assert found == [(0, 4, 2, 3), (2, 4, 4, 3), (6, 4, 2, 3), (8, 4, 4, 3)]


def test_a_whole_block_passes_a_half_that_waits_for_another() -> None:
    found = places(stacked([half(), whole(), half()], top=0))
    assert [place[1] for place in found] == [0, 0, 4, 4, 4, 4]


def test_the_last_half_stands_alone_at_the_end() -> None:
    found = places(stacked([half(), whole()], top=0))
    assert found[-2:] == [(0, 4, 2, 3), (2, 4, 4, 3)]


def color_of(steps: Steps, value: float) -> str:
    return [color for start, color in steps if value >= start][-1]


@pytest.mark.parametrize(
    ("operator", "good", "bad"),
    [("<=", 8.0, 8.000001), ("<", 7.9, 8.0), (">=", 8.0, 7.9), (">", 8.1, 8.0), ("==", 8.0, 8.1)],
)
def test_a_broken_limit_has_the_colour_of_its_level(operator: str, good: float, bad: float) -> None:
    steps = limit_steps([limit(operator, 8.0, alert=Alert(level="CRITICAL"))])
    assert color_of(steps, good) == FINE
    assert color_of(steps, bad) == LEVEL_COLORS["CRITICAL"]


def test_every_level_has_a_colour_of_its_own() -> None:
    assert set(LEVEL_COLORS) == set(LEVELS)
    assert len({*LEVEL_COLORS.values(), FINE}) == len(LEVELS) + 1


def test_a_value_without_limits_is_neither_good_nor_bad() -> None:
    assert limit_steps([]) == PLAIN
