from typing import Any

import pytest

from squash_api.judging.limits import LimitJudge, limits_of
from squash_api.judging.specifications import Specification
from squash_api.schema.names import Context, Schema


def specification(name: str = "p.a.design", **changes: Any) -> Specification:
    return Specification(
        **{
            "name": name,
            "metric": "p.a",
            "operator": "<=",
            "threshold": 5.0,
            "unit": "mmag",
            **changes,
        }
    )


def judge_of(*specifications: Specification, unit: str | None = "mmag") -> LimitJudge:
    return LimitJudge(limits_of(specifications, unit=unit, schema=Schema()))


def test_a_limit_is_in_the_unit_of_the_metric() -> None:
    (limit,) = limits_of([specification()], unit="mag", schema=Schema())
    assert limit.threshold == pytest.approx(0.005)


def test_a_limit_of_a_metric_without_unit_is_in_its_own() -> None:
    (limit,) = limits_of([specification()], unit=None, schema=Schema())
    assert limit.threshold == 5.0


def test_what_does_not_convert_is_no_limit() -> None:
    assert limits_of([specification()], unit="s", schema=Schema()) == []


def test_the_worst_limit_comes_first() -> None:
    limits = limits_of(
        [specification("p.a.design"), specification("p.a.minimum", tags=("minimum",))],
        unit="mmag",
        schema=Schema(),
    )
    assert [(limit.label, limit.severity) for limit in limits] == [("minimum", 3), ("design", 2)]


def test_a_value_beyond_a_limit_breaks_it() -> None:
    judge = judge_of(specification())
    is_limited, broken = judge.judge(5.1, Context())
    assert is_limited
    assert [limit.label for limit in broken] == ["design"]


def test_a_value_at_the_limit_holds_it() -> None:
    assert judge_of(specification()).judge(5.0, Context()) == (True, [])


def test_a_limit_of_other_jobs_does_not_apply() -> None:
    judge = judge_of(specification(metadata_query={"filter": "r"}))
    assert judge.judge(9.0, Context(tags={"filter": "g"})) == (False, [])
    assert judge.applied() == []


def test_a_limit_of_some_jobs_is_not_general() -> None:
    judge = judge_of(specification(metadata_query={"filter": "r"}))
    judge.judge(9.0, Context(tags={"filter": "g"}))
    judge.judge(9.0, Context(tags={"filter": "r"}))
    assert [limit.is_general for limit in judge.applied()] == [False]


def test_a_limit_of_all_jobs_is_general() -> None:
    judge = judge_of(specification())
    judge.judge(1.0, Context())
    assert [limit.is_general for limit in judge.applied()] == [True]


def test_badness_is_that_of_the_worst_limit_whatever_it_applies_to() -> None:
    judge = judge_of(
        specification(),
        specification("p.a.minimum", tags=("minimum",), threshold=9.0, metadata_query={"x": 1}),
    )
    assert [judge.badness(value) for value in (1.0, 6.0, 10.0)] == [0, 2, 3]
