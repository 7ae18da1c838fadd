import re

import pytest

from squash_api.pages.sparkline import HEIGHT, WIDTH, sparkline


def points(svg: str) -> list[tuple[float, float]]:
    found = re.search(r'spark-line" d="M([^"]*)"', svg)
    assert found is not None
    return [(float(x), float(y)) for x, y in (pair.split() for pair in found[1].split("L"))]


def test_without_values_there_is_nothing() -> None:
    assert sparkline([]) == ""


def test_larger_values_are_higher_and_time_goes_to_the_right() -> None:
    (x0, y0), (x1, y1), (x2, y2) = points(sparkline([1.0, 3.0, 2.0]))
    assert x0 < x1 < x2
    assert y1 < y2 < y0


@pytest.mark.parametrize(
    "values",
    [[1.0], [2.0, 2.0], [-1.7e308, 1.7e308], [5e-324, 0.0], [1e300, 1e300 * (1 + 1e-15)]],
)
def test_any_values_stay_inside(values: list[float]) -> None:
    for x, y in points(sparkline(values, limits=[1.7e308])):
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT


def test_a_near_limit_is_drawn_and_a_far_one_is_not() -> None:
    assert "spark-limit" in sparkline([1.0, 2.0], limits=[3.0])
    assert "spark-limit" not in sparkline([1.0, 2.0], limits=[300.0])
    assert "spark-limit" in sparkline([1.0], limits=[300.0])
    assert sparkline([1.0, 2.0], limits=[0.5, 3.0, 300.0]).count("spark-limit") == 2


def test_it_says_what_it_shows() -> None:
    label = 'aria-label="Trend of 3 values between 1 and 3, the last 2 mmag"'
    assert label in sparkline([1.0, 3.0, 2.0], unit="mmag")
    assert "one value, 4" in sparkline([4.0])


def test_a_unit_is_text() -> None:
    assert "<b>" not in sparkline([4.0], unit='"<b>')
