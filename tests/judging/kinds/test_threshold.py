import math
import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.judging.kinds.threshold import OPERATORS, Threshold
from squash_api.judging.wording import number_text, plain_number
from squash_api.verify.metrics import Fault

FINITE = st.floats(allow_nan=False, allow_infinity=False)
DOCUMENT: dict[str, Any] = {"value": 60, "unit": "second", "operator": "<"}


def threshold(operator: str = "<=", value: float = 5.0, unit: str = "mmag") -> Threshold:
    return Threshold(value, unit, operator)


def parsed(document: dict[str, Any]) -> tuple[Threshold | None, list[tuple[str | int, ...]]]:
    faults: list[Fault] = []
    return Threshold.parse(document, faults), [fault.loc for fault in faults]


def test_it_keeps_the_unit_that_it_is_written_in() -> None:
    assert parsed({"threshold": DOCUMENT}) == (Threshold(60.0, "s", "<"), [])


def test_its_value_may_be_written_as_text() -> None:
    found, _ = parsed({"threshold": {**DOCUMENT, "value": "1e-6"}})
    assert found == Threshold(1e-6, "s", "<")


@pytest.mark.parametrize("document", [{}, {"threshold": None}, {"threshold": "< 5"}])
def test_a_document_without_threshold_is_refused(document: dict[str, Any]) -> None:
    assert parsed(document) == (None, [("threshold",)])


@pytest.mark.parametrize("part", ["value", "unit", "operator"])
def test_each_part_is_needed(part: str) -> None:
    parts = {key: value for key, value in DOCUMENT.items() if key != part}
    assert parsed({"threshold": parts}) == (None, [("threshold", part)])
    faults: list[Fault] = []
    Threshold.check({"threshold": parts}, faults)
    assert faults == []


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("value", None),
        ("value", "many"),
        ("value", [5]),
        ("value", float("nan")),
        ("value", float("inf")),
        ("value", "5 kg"),
        ("unit", None),
        ("unit", "furlongs"),
        ("unit", True),
        ("unit", "mag(AB)"),
        ("operator", "=>"),
        ("operator", ["<"]),
        ("operator", None),
    ],
)
def test_a_bad_part_is_named(part: str, value: object) -> None:
    assert parsed({"threshold": {**DOCUMENT, part: value}}) == (None, [("threshold", part)])


def test_a_part_may_be_checked_alone() -> None:
    faults: list[Fault] = []
    Threshold.check({"threshold": {"operator": "=>"}}, faults)
    assert [fault.loc for fault in faults] == [("threshold", "operator")]
    Threshold.check({"threshold": "of another kind"}, faults)
    assert len(faults) == 1


@pytest.mark.parametrize("sign", OPERATORS)
@given(value=FINITE, number=FINITE)
def test_the_value_stands_left_of_the_operator(sign: str, value: float, number: float) -> None:
    named = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}[sign]
    expected = getattr(operator, named)(value, number)
    assert threshold(sign, number).holds(value) is expected


@pytest.mark.parametrize(
    ("sign", "holding"),
    [("<", "b"), ("<=", "be"), (">", "a"), (">=", "ae"), ("==", "e"), ("!=", "ba")],
)
def test_a_value_at_the_limit(sign: str, holding: str) -> None:
    holds = threshold(sign, 5.0).holds
    around = {"b": math.nextafter(5.0, -math.inf), "e": 5.0, "a": math.nextafter(5.0, math.inf)}
    assert {name for name, value in around.items() if holds(value)} == set(holding)


@pytest.mark.parametrize(
    ("sign", "value", "margin"),
    [
        ("<=", 4.0, 0.2),
        ("<", 6.0, -0.2),
        (">=", 6.0, 0.2),
        (">", 4.0, -0.2),
        ("==", 4.0, None),
        ("!=", 4.0, None),
    ],
)
def test_the_margin_is_positive_on_the_good_side(
    sign: str, value: float, margin: float | None
) -> None:
    assert threshold(sign).margin(value) == margin


def test_the_margin_of_a_negative_limit_is_relative_to_its_size() -> None:
    assert threshold("<=", -10.0).margin(-15.0) == 0.5


def test_a_limit_of_zero_has_no_margin() -> None:
    assert threshold("<=", 0.0).margin(-1.0) is None


@pytest.mark.parametrize("sign", OPERATORS)
@given(value=FINITE, number=FINITE)
def test_a_margin_is_always_finite(sign: str, value: float, number: float) -> None:
    margin = threshold(sign, number).margin(value)
    assert margin is None or math.isfinite(margin)


def test_it_converts_to_another_unit() -> None:
    assert threshold().in_unit("mag") == threshold(value=0.005, unit="mag")
    assert threshold(value=10.0, unit="%").in_unit("") == threshold(value=0.1, unit="")
    assert threshold().in_unit("s") is None


@pytest.mark.parametrize(
    ("sign", "words"),
    [
        ("<", "< 5"),
        ("<=", "\u2264 5"),
        (">", "> 5"),
        (">=", "\u2265 5"),
        ("==", "= 5"),
        ("!=", "\u2260 5"),
    ],
)
def test_people_read_the_sign_and_the_number(sign: str, words: str) -> None:
    assert threshold(sign).words(number_text) == words
    assert threshold(sign).words(plain_number, is_ascii=True) == f"{sign} 5"
    (bound,) = threshold(sign).bounds
    assert bound.words(number_text) == words


def test_a_value_that_is_close_is_told_apart() -> None:
    found = threshold("<=", 5.0)
    assert (found.value_text(5.0000001), found.words_against(5.0000001)) == (
        "5.0000001",
        "\u2264 5.0",
    )
    assert (found.value_text(4.0), found.words_against(None)) == ("4", "\u2264 5")


@pytest.mark.parametrize(
    ("sign", "tick", "go"),
    [
        ("<", '"PA1" >= 5.0', "ge $v 5.0"),
        ("<=", '"PA1" > 5.0', "gt $v 5.0"),
        (">", '"PA1" <= 5.0', "le $v 5.0"),
        (">=", '"PA1" < 5.0', "lt $v 5.0"),
        ("==", '"PA1" != 5.0', "ne $v 5.0"),
        ("!=", '"PA1" == 5.0', "eq $v 5.0"),
    ],
)
def test_kapacitor_is_told_the_opposite(sign: str, tick: str, go: str) -> None:
    assert threshold(sign).broken_in_tick('"PA1"') == tick
    assert threshold(sign).broken_in_go("$v") == go


@pytest.mark.parametrize("comparison", ["<", "<=", ">", ">="])
@pytest.mark.parametrize("limit", [5.0, -5.0, 1e300, 1e-5])
def test_a_value_at_the_limit_has_no_negative_margin(comparison: str, limit: float) -> None:
    margin = threshold(comparison, limit).margin(limit)
    assert str(margin) == "0.0"
