import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from squash_api.reports.proposing import Part, PastValue, Side, propose, rare_text, spread_of

NOISE = random.Random(1)
NORMAL = [NOISE.gauss(5.0, 1.0) for _ in range(400)]


def past(values: Sequence[float], **tags: str) -> list[PastValue]:
    place = tuple((name, tags[name]) for name in ("dataset", "filter") if name in tags)
    return [PastValue(number, value, f"R{number}", place) for number, value in enumerate(values)]


def only(values: Sequence[float], side: Side = "upper") -> Part:
    (part,) = propose(past(values), side=side)
    return part


def high(values: Sequence[float]) -> float:
    found = only(values).high
    assert found is not None
    return found


def test_a_limit_is_five_spreads_away() -> None:
    assert high(NORMAL) == pytest.approx(10.0, abs=0.7)


def test_outliers_do_not_move_it() -> None:
    assert high([*NORMAL, *[1e6] * 20]) == pytest.approx(high(NORMAL), abs=0.5)


def test_few_values_get_a_wider_limit() -> None:
    spread = spread_of(NORMAL[:20])
    assert high(NORMAL[:20]) - spread.centre > 6.2 * spread.above


def test_a_tail_on_one_side_widens_that_side_alone() -> None:
    skewed = [NOISE.expovariate(1.0) + 3 for _ in range(400)]
    spread = spread_of([value**3 for value in skewed])
    assert spread.above > 2 * spread.below
    assert spread_of(NORMAL).above == spread_of(NORMAL).below


def test_a_limit_is_rounded_away_from_the_values() -> None:
    spread = spread_of(NORMAL)
    limit = high(NORMAL)
    assert round(limit, 2) == limit
    assert 0 <= limit - (spread.centre + 5.0 * (1 + 1.17 / 20) * spread.above) < 0.01


def test_a_lower_limit_below_zero_is_left_out_if_no_value_is() -> None:
    part = only([abs(value - 4.0) for value in NORMAL], "both")
    assert part.low is None
    assert part.notes[0].startswith("no lower limit: it would be -")


def test_a_lower_limit_below_zero_is_kept_if_values_are() -> None:
    part = only([value - 5.0 for value in NORMAL], "lower")
    assert (part.high, part.notes) == (None, [])
    assert part.low == pytest.approx(-5.0, abs=0.7)


def test_what_is_alike_gets_one_limit() -> None:
    values = past(NORMAL[:200], filter="r") + past(NORMAL[200:], filter="g")
    assert [part.place for part in propose(values, side="upper")] == [()]


@pytest.mark.parametrize("change", [{"times": 3.0}, {"plus": 4.0}])
def test_filters_that_differ_are_parts(change: dict[str, float]) -> None:
    others = [(v - 5.0) * change.get("times", 1.0) + 5.0 + change.get("plus", 0.0) for v in NORMAL]
    values = past(NORMAL, filter="r", dataset="A") + past(others, filter="g", dataset="A")
    assert [part.name for part in propose(values, side="upper")] == ["filter g", "filter r"]


def test_datasets_that_differ_are_parts_and_their_filters_not() -> None:
    others = [value + 40.0 for value in NORMAL]
    values = [
        item
        for dataset, found in (("A", NORMAL), ("B", others))
        for name in "gr"
        for item in past(found, dataset=dataset, filter=name)
    ]
    assert [part.name for part in propose(values, side="upper")] == ["dataset A", "dataset B"]


def test_too_few_values_of_one_filter_are_with_the_others() -> None:
    values = past(NORMAL, filter="r") + past([900.0] * 5, filter="g")
    (part,) = propose(values, side="upper")
    assert (part.place, part.values) == ((), 405)


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (NORMAL[:19], "too few for a limit"),
        ([3.0] * 40, "no limit: all values are 3"),
        ([1e200] * 40, "too large numbers"),
        ([*NORMAL[:40], *[value + 9.0 for value in NORMAL[40:80]]], "the values have moved"),
    ],
)
def test_what_to_know_is_said(values: list[float], note: str) -> None:
    (said,) = only(values).notes
    assert said.startswith(note)


def test_names_of_specifications_have_only_letters_and_digits() -> None:
    part = replace(only(NORMAL), place=(("dataset", "HSC RC2/é"), ("filter", "r-2")))
    assert part.suffix == "HSC_RC2___r_2"


def test_how_rare_it_may_be_is_said() -> None:
    assert rare_text(2) == "with 2 runs, up to 1 in 1 may (95 % confidence)"
    assert rare_text(60) == "with 60 runs, up to 1 in 20 may (95 % confidence)"
