from typing import Any

import pytest

from squash_api.judging.kinds.compound import Compound
from squash_api.judging.wording import number_text
from squash_api.verify.metrics import Fault

THREE = ["PA1.minimum", "AM1.design", "AF1.design"]


def parsed(written: Any) -> tuple[Compound | None, list[tuple[tuple[str | int, ...], str]]]:
    faults: list[Fault] = []
    found = Compound.parse({"compound": written}, faults)
    return found, [(fault.loc, fault.message) for fault in faults]


@pytest.mark.parametrize(
    ("written", "at_least"),
    [
        ({"any": THREE}, 1),
        ({"all": THREE}, 3),
        ({"at_least": 2, "of": THREE}, 2),
    ],
)
def test_it_says_how_many_must_be_broken(written: dict[str, Any], at_least: int) -> None:
    assert parsed(written) == (Compound(at_least, tuple(THREE)), [])
    assert parsed({**written, "over": "run"}) == (Compound(at_least, tuple(THREE), "run"), [])


@pytest.mark.parametrize(
    ("written", "loc", "words"),
    [
        (None, ("compound",), "not a mapping"),
        ({}, ("compound",), "no list of specifications"),
        ({"any": THREE, "all": THREE}, ("compound",), "both any and all"),
        ({"any": "PA1.minimum"}, ("compound", "any"), "not a list"),
        ({"any": [1, 2]}, ("compound", "any"), "not a list"),
        ({"any": ["PA1.minimum"]}, ("compound", "any"), "has 1 specifications"),
        ({"all": [*THREE, THREE[0]]}, ("compound", "all"), "'PA1.minimum' is in the list twice"),
        ({"of": THREE}, ("compound", "at_least"), "has no at_least"),
        ({"of": THREE, "at_least": 4}, ("compound", "at_least"), "from 1 to 3"),
        ({"of": THREE, "at_least": 0}, ("compound", "at_least"), "from 1 to 3"),
        ({"any": THREE, "at_least": 2}, ("compound", "at_least"), "has no effect beside any"),
        ({"any": THREE, "over": "night"}, ("compound", "over"), "'night' is not job or run"),
    ],
)
def test_what_is_wrong_is_named(written: Any, loc: tuple[str, ...], words: str) -> None:
    found, faults = parsed(written)
    assert found is None
    assert any(fault[0] == loc and words in fault[1] for fault in faults)


def test_short_names_are_of_its_package_or_its_metric() -> None:
    names = ("design", "AM1.design", "other.AF1.design")
    assert Compound(1, names).placed("demo.PA1.both").members == (
        "demo.PA1.design",
        "demo.AM1.design",
        "other.AF1.design",
    )


@pytest.mark.parametrize(
    ("broken", "unknown", "is_met"),
    [
        (0, 0, True),
        (1, 0, True),
        (2, 0, False),
        (3, 0, False),
        (1, 1, None),
        (0, 1, True),
        (0, 2, None),
        (2, 1, False),
    ],
)
def test_it_is_broken_when_enough_are(broken: int, unknown: int, *, is_met: bool | None) -> None:
    assert Compound(2, tuple(THREE)).is_met(broken, unknown) is is_met


def test_it_has_no_unit() -> None:
    made = Compound(2, tuple(THREE))
    assert (made.in_unit("mmag"), made.misfit("mmag")) == (made, None)
    assert made.holds(1e300)
    assert (made.bounds, made.margin(1.0)) == ((), None)


def test_people_read_how_many_may_not_be_broken() -> None:
    assert Compound(2, tuple(THREE)).words(number_text) == "fewer than 2 of 3 broken"
    assert Compound(1, tuple(THREE), "run").words(number_text) == "none of 3 broken in the run"
    assert Compound(2, tuple(THREE)).value_text(2.0) == "2 of 3"
