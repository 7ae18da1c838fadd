import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from squash_api.judging.kinds.range import Range
from squash_api.judging.kinds.trend import SIGMA, Trend, scatter
from squash_api.judging.wording import number_text
from squash_api.verify.metrics import Fault

WHOLE: dict[str, Any] = {
    "n": 5,
    "offset": 2,
    "k": 3,
    "floor": 0.5,
    "unit": "mmag",
    "min_history": 4,
    "direction": "both",
}
MADE = Trend(5, 2, 3.0, 0.5, "mmag", 4, "both")


def parsed(written: Any) -> tuple[Trend | None, list[tuple[tuple[str | int, ...], str]]]:
    faults: list[Fault] = []
    return Trend.parse({"trend": written}, faults), [(fault.loc, fault.message) for fault in faults]


def test_only_floor_and_unit_must_be_written() -> None:
    assert parsed(WHOLE) == (MADE, [])
    assert parsed({"floor": 0, "unit": ""}) == (Trend(30, 0, 5.0, 0.0, "", 10, "both"), [])
    assert parsed({"floor": 0, "unit": "", "n": 4}) == (Trend(4, 0, 5.0, 0.0, "", 4, "both"), [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 2}, "n is 2: write a whole number from 3 to 1000"),
        ({"n": 10.5}, "whole number"),
        ({"n": True}, "whole number"),
        ({"offset": -1}, "from 0 to 1000"),
        ({"min_history": 6}, "there would never be a verdict"),
        ({"k": 0}, "how many standard deviations"),
        ({"k": math.inf}, "not finite"),
        ({"floor": -1}, "write 0"),
        ({"floor": "wide"}, "the trend's floor 'wide' is not a number"),
        ({"direction": "sideways"}, "write both or up or down"),
        ({"unit": "furlongs"}, "furlongs"),
    ],
)
def test_a_bad_part_is_named(change: dict[str, Any], words: str) -> None:
    found, faults = parsed({**WHOLE, **change})
    assert found is None
    (key,) = change
    assert [fault[0] for fault in faults] == [("trend", key)]
    assert words in faults[0][1]


@pytest.mark.parametrize("key", ["floor", "unit"])
def test_what_must_be_written_is_named(key: str) -> None:
    found, faults = parsed({name: part for name, part in WHOLE.items() if name != key})
    assert (found, [fault[0] for fault in faults]) == (None, [("trend", key)])


def test_a_part_may_be_checked_alone() -> None:
    faults: list[Fault] = []
    Trend.check({"trend": {"k": 4}}, faults)
    assert faults == []
    Trend.check({"trend": {"k": -4}}, faults)
    assert [fault.loc for fault in faults] == [("trend", "k")]


def random_series(count: int) -> Iterator[list[float]]:
    seeded = random.Random(20261128)
    draws = (
        lambda: seeded.gauss(5, 2),
        lambda: seeded.lognormvariate(0, 3),
        lambda: float(seeded.randint(-3, 3)),
        lambda: seeded.uniform(-1e300, 1e300),
    )
    for number in range(count):
        yield [draws[number % len(draws)]() for _ in range(seeded.randint(1, 60))]


def test_median_and_deviation_are_those_of_numpy() -> None:
    for values in random_series(10_000):
        middle = float(np.median(values))
        deviations = np.abs(np.array(values) - middle)
        assert scatter(values) == (middle, float(np.median(deviations)))


def test_median_and_deviation_are_those_of_scipy() -> None:
    # Not among our requirements: it is there if an extra needs it.
    stats = pytest.importorskip("scipy.stats")
    for values in random_series(10_000):
        assert scatter(values)[1] == stats.median_abs_deviation(values)
        sigma = stats.median_abs_deviation(values, scale=1 / SIGMA)
        assert SIGMA * scatter(values)[1] == pytest.approx(sigma, rel=1e-15)


def test_the_newest_values_are_left_out() -> None:
    past = [100.0, 100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 1000.0]
    assert MADE.history == 7
    width = 3 * SIGMA * 1.0
    assert MADE.settled(past) == Range(3 - width, 3 + width, "mmag")


@pytest.mark.parametrize(("known", "is_judged"), [(0, False), (5, False), (6, True), (7, True)])
def test_it_is_silent_until_there_is_enough_to_compare_with(known: int, *, is_judged: bool) -> None:
    assert (MADE.settled([1.0] * known) is not None) is is_judged


def test_what_never_varied_may_vary_by_the_floor() -> None:
    assert MADE.settled([2.0] * 7) == Range(1.5, 2.5, "mmag")


@pytest.mark.parametrize(
    ("direction", "found"),
    [("up", Range(None, 2.5, "mmag")), ("down", Range(1.5, None, "mmag"))],
)
def test_only_one_direction_may_be_watched(direction: str, found: Range) -> None:
    assert Trend(5, 2, 3.0, 0.5, "mmag", 4, direction).settled([2.0] * 7) == found


def test_a_range_beyond_all_floats_is_none() -> None:
    assert Trend(3, 0, 3.0, 1e308, "", 3, "both").settled([1e308] * 3) is None


def test_only_the_floor_is_in_its_unit() -> None:
    assert MADE.in_unit("mag") == Trend(5, 2, 3.0, 0.0005, "mag", 4, "both")
    assert MADE.in_unit("s") is None


def test_where_another_unit_falls_a_direction_would_turn() -> None:
    assert Trend(5, 2, 3.0, 0.5, "mag", 4, "up").in_unit("dex") is None
    both = Trend(5, 2, 3.0, 0.5, "mag", 4, "both").in_unit("dex")
    assert both is not None
    assert both.floor == pytest.approx(0.2)


def test_by_itself_nothing_breaks_it() -> None:
    assert MADE.holds(1e300)
    assert (MADE.bounds, MADE.margin(1.0)) == ((), None)


@pytest.mark.parametrize(
    ("direction", "words", "plain"),
    [
        (
            "both",
            "within median of 5 \u00b1 3 \u03c3 or \u00b1 0.5",
            "within median of 5 +- 3 sigma or +- 0.5",
        ),
        (
            "up",
            "\u2264 median of 5 + 3 \u03c3 or + 0.5",
            "<= median of 5 + 3 sigma or + 0.5",
        ),
        (
            "down",
            "\u2265 median of 5 \u2212 3 \u03c3 or \u2212 0.5",
            ">= median of 5 - 3 sigma or - 0.5",
        ),
    ],
)
def test_people_read_what_is_normal(direction: str, words: str, plain: str) -> None:
    made = Trend(5, 2, 3.0, 0.5, "mmag", 4, direction)
    assert made.words(number_text) == words
    assert made.words(number_text, is_ascii=True) == plain
