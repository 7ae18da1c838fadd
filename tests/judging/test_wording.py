import math
import random
import struct

import pytest

from squash_api.judging.wording import (
    NOTHING,
    beside,
    exact_number,
    number_text,
    percent_text,
    plain_number,
    precisions,
    ranges_text,
)

HARD = [0.0, 8.0, 22.5, -5.0, 3e-5, 0.1 + 0.2, 1e22, 1e300, 5e-324, 1e-323, -1.7976931348623157e308]


def any_floats(count: int) -> list[float]:
    bits = random.Random(1)
    found = [struct.unpack("<d", bits.randbytes(8))[0] for _ in range(count)]
    return [value for value in found if math.isfinite(value)]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, NOTHING), (8.3125, "8.3125"), (1 / 3, "0.333333"), (3e-7, "3e-07"), (0.0, "0")],
)
def test_numbers_have_six_digits_at_most(value: float | None, text: str) -> None:
    assert number_text(value) == text


def test_numbers_that_are_close_can_be_told_apart() -> None:
    assert number_text(5.0000001, 5.0) == "5.0000001"
    assert number_text(5.0, 5.0) == "5"
    assert number_text(5.0000001, None, 1.0, 5.0) == "5.0000001"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, NOTHING), (0.125, "+12.5 %"), (-2, "-200 %"), (-0.0, "0 %"), (0.0, "0 %")],
)
def test_margins_are_per_cent_with_their_sign(value: float | None, text: str) -> None:
    assert percent_text(value) == text


@pytest.mark.parametrize("value", [*HARD, *any_floats(200)])
def test_a_number_is_exact_and_without_exponent(value: float) -> None:
    text = exact_number(value)
    assert float(text) == value
    assert set(text) <= set("-0123456789.")
    assert text.count(".") == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(8.0, "8"), (22.5, "22.5"), (3e-5, "0.00003"), (-0.0, "0"), (100.0, "100"), (-5.0, "-5")],
)
def test_people_see_no_idle_zeros(value: float, text: str) -> None:
    assert plain_number(value) == text


@pytest.mark.parametrize("value", [*HARD, *any_floats(200)])
def test_what_people_see_is_the_limit_exactly(value: float) -> None:
    assert float(plain_number(value)) == value


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["12", "40", "41"], "12, 40-41"),
        (["0", "1", "2", "3"], "0-3"),
        (["08", "09", "10", "11"], "08-11"),
        (["8", "09"], "8, 09"),
        (["r", "g", "1", "2"], "r, g, 1-2"),
        (["5", "4"], "5, 4"),
        ([], ""),
    ],
)
def test_whole_numbers_that_follow_each_other_are_written_as_a_range(
    values: list[str], text: str
) -> None:
    assert ranges_text(values) == text


def test_of_many_ranges_some_are_counted() -> None:
    assert ranges_text(map(str, range(0, 50, 2)), most=3) == "0, 2, 4 and 22 more"


@pytest.mark.parametrize(("limit", "first"), [(8.0, 2), (22.5, 3), (3e-7, 9), (1e22, 0)])
def test_a_value_has_two_decimals_more_than_its_limit(limit: float, first: int) -> None:
    assert precisions((limit,))[0] == first


@pytest.mark.parametrize("limit", [*HARD, *any_floats(200)])
def test_with_the_last_precision_neighbours_look_different(limit: float) -> None:
    decimals = precisions((limit,))
    assert decimals == sorted(set(decimals))
    near = [math.nextafter(limit, -math.inf), math.nextafter(limit, math.inf)]
    for value in near:
        if math.isfinite(value):
            assert f"{value:.{decimals[-1]}f}" != f"{limit:.{decimals[-1]}f}"


@pytest.mark.parametrize(
    ("value", "limits", "text"),
    [
        (8.3149, (8.0,), "8.31"),
        (8.001, (8.0,), "8.00100000"),
        (8.0, (8.0,), "8.00"),
        (-8.001, (8.0,), "-8.00100000"),
        (1e300, (5.0,), "1.000e+300"),
        (9e14, (5.0,), "900000000000000.00"),
        (1e300, (2e300,), f"{1e300:.0f}"),
        (3.24e-7, (3e-7,), "0.000000324"),
        (1 / 3, (), "0.333333"),
    ],
)
def test_a_value_beside_its_limits_looks_like_none_of_them(
    value: float, limits: tuple[float, ...], text: str
) -> None:
    assert beside(value, limits) == text
