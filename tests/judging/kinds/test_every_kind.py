import json

import pytest

from squash_api.judging.kinds.compound import Compound
from squash_api.judging.kinds.criterion import Criterion
from squash_api.judging.kinds.range import Range
from squash_api.judging.kinds.registry import KINDS, shown_criterion
from squash_api.judging.kinds.threshold import Threshold
from squash_api.judging.kinds.trend import Trend
from squash_api.judging.wording import number_text

EXAMPLES: list[Criterion] = [
    Threshold(5.0, "mmag", "<="),
    Range(1.0, 3.0, "mmag"),
    Range(None, 3.0, "mmag"),
    Range(1.0, None, "mmag"),
    Trend(30, 3, 5.0, 0.2, "mmag", 10, "both"),
    Trend(30, 0, 5.0, 0.2, "mmag", 10, "up"),
    Compound(2, ("demo.PA1.minimum", "demo.AM1.design", "demo.AF1.design"), "run"),
    Compound(1, ("demo.PA1.minimum", "demo.AM1.design")),
    Compound(2, ("demo.PA1.minimum", "demo.AM1.design")),
]


def test_every_kind_has_an_example() -> None:
    assert {example.TYPE for example in EXAMPLES} == {*KINDS}


@pytest.mark.parametrize("made", EXAMPLES, ids=str)
def test_every_kind_survives_what_it_writes(made: Criterion) -> None:
    kind = KINDS[made.TYPE]
    assert kind.parse(json.loads(json.dumps(made.to_json())), []) == made
    assert made.with_numbers(made.numbers, made.unit) == made
    assert made.to_json().keys() == kind.SCHEMA.keys()
    assert len(made.numbers) == len(made.number_paths) == made.pattern().count("{}")


@pytest.mark.parametrize("made", EXAMPLES, ids=str)
def test_what_every_kind_shows_is_worded_the_same(made: Criterion) -> None:
    shown = shown_criterion(json.loads(json.dumps(made.shown())), made.unit)
    assert shown is not None
    assert type(shown) is type(made)
    assert shown.words(number_text) == made.words(number_text).removesuffix(" in the run")


@pytest.mark.parametrize("made", EXAMPLES, ids=str)
def test_every_kind_has_words_in_ascii(made: Criterion) -> None:
    assert made.words(number_text, is_ascii=True).isascii()


def test_what_shows_no_limit_is_none() -> None:
    assert shown_criterion({"operator": None, "threshold": None}, "mmag") is None
