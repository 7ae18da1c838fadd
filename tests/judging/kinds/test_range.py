import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.judging.kinds.range import Range
from squash_api.judging.wording import number_text, plain_number
from squash_api.verify.metrics import Fault

FINITE = st.floats(allow_nan=False, allow_infinity=False)
BOTH, LOW, HIGH = Range(1.0, 3.0, "mmag"), Range(1.0, None, "mmag"), Range(None, 3.0, "mmag")
DOCUMENT: dict[str, Any] = {"low": 1, "high": 3, "unit": "mmag"}


def parsed(written: Any) -> tuple[Range | None, list[tuple[tuple[str | int, ...], str]]]:
    faults: list[Fault] = []
    return Range.parse({"range": written}, faults), [(fault.loc, fault.message) for fault in faults]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (DOCUMENT, BOTH),
        ({"low": 1, "unit": "mmag"}, LOW),
        ({"high": "3e0", "unit": "mmag"}, HIGH),
        ({"low": None, "high": 3, "unit": "mmag"}, HIGH),
        ({"low": 2, "high": 2, "unit": ""}, Range(2.0, 2.0, "")),
    ],
)
def test_either_end_may_be_absent(written: dict[str, Any], found: Range) -> None:
    assert parsed(written) == (found, [])


@pytest.mark.parametrize(
    ("written", "key", "words"),
    [
        ({"unit": "mmag"}, None, "neither low nor high"),
        ({"low": 3, "high": 1, "unit": "mmag"}, "low", "low: 3 is above high: 1"),
        ({"low": 1}, "unit", "has no unit"),
        ({"low": 1, "unit": None}, "unit", "the range's unit is null"),
        ({"low": 1, "unit": "furlongs"}, "unit", "furlongs"),
        ({"low": 1, "unit": "mag(AB)"}, "unit", "cannot compare"),
        ({"low": "few", "unit": "mmag"}, "low", "the range's low 'few' is not a number"),
        ({"high": math.nan, "unit": "mmag"}, "high", "not finite"),
        ({"high": [3], "unit": "mmag"}, "high", "not a number"),
        ("1 to 3", None, "the range is not a mapping"),
    ],
)
def test_what_is_wrong_is_named(written: Any, key: str | None, words: str) -> None:
    found, faults = parsed(written)
    loc = ("range",) if key is None else ("range", key)
    assert found is None
    assert any(fault[0] == loc and words in fault[1] for fault in faults)


def test_a_document_without_range_is_refused() -> None:
    faults: list[Fault] = []
    assert Range.parse({}, faults) is None
    assert faults[0].message.startswith("the range is missing: write range: {")


def test_a_part_may_be_checked_alone() -> None:
    faults: list[Fault] = []
    Range.check({"range": {"high": 1}}, faults)
    Range.check({"threshold": {}}, faults)
    assert faults == []
    Range.check({"range": {"high": 1, "low": 2}}, faults)
    assert [fault.loc for fault in faults] == [("range", "low")]


@given(value=FINITE, ends=st.tuples(FINITE, FINITE).map(sorted))
def test_both_ends_are_in_the_range(value: float, ends: list[float]) -> None:
    low, high = ends
    assert Range(low, high, "").holds(value) is (not (value < low or value > high))
    assert Range(low, high, "").holds(low)
    assert Range(low, high, "").holds(high)
    assert Range(low, None, "").holds(value) is (value >= low)
    assert Range(None, high, "").holds(value) is (value <= high)


@pytest.mark.parametrize("made", [BOTH, LOW, HIGH])
def test_a_value_just_outside_is_not(made: Range) -> None:
    for bound in made.bounds:
        outside = math.nextafter(bound.number, math.inf if bound.is_upper else -math.inf)
        assert not made.holds(outside)


@pytest.mark.parametrize(
    ("made", "value", "margin"),
    [
        (BOTH, 2.0, 0.5),
        (BOTH, 2.5, 0.25),
        (BOTH, 4.0, -0.5),
        (BOTH, 0.0, -0.5),
        (BOTH, 3.0, 0.0),
        (LOW, 1.5, 0.5),
        (HIGH, 6.0, -1.0),
        (Range(2.0, 2.0, ""), 2.0, None),
        (Range(0.0, None, ""), 2.0, None),
        (Range(-1e308, 1e308, ""), 0.0, None),
    ],
)
def test_the_margin_is_to_the_nearer_end(made: Range, value: float, margin: float | None) -> None:
    assert made.margin(value) == margin


def test_it_converts_to_another_unit() -> None:
    assert BOTH.in_unit("mag") == Range(0.001, 0.003, "mag")
    assert HIGH.in_unit("mag") == Range(None, 0.003, "mag")
    assert BOTH.in_unit("s") is None
    assert BOTH.in_unit("dex") is None


def test_people_read_both_ends() -> None:
    assert BOTH.words(number_text) == "\u2265 1 and \u2264 3"
    assert BOTH.words(plain_number, is_ascii=True) == ">= 1 and <= 3"
    assert HIGH.words(number_text) == "\u2264 3"


@pytest.mark.parametrize(
    ("made", "tick", "go"),
    [
        (BOTH, '("PA1" < 1.0 OR "PA1" > 3.0)', "or (lt $v 1.0) (gt $v 3.0)"),
        (LOW, '"PA1" < 1.0', "lt $v 1.0"),
        (HIGH, '"PA1" > 3.0', "gt $v 3.0"),
    ],
)
def test_kapacitor_is_told_what_is_outside(made: Range, tick: str, go: str) -> None:
    assert made.broken_in_tick('"PA1"') == tick
    assert made.broken_in_go("$v") == go
