import json
import math
import operator
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.judging.kinds.threshold import OPERATORS
from squash_api.judging.limits import (
    LimitJudge,
    Verdict,
    judge,
    judge_job,
    limits_of,
)
from squash_api.judging.metadata_query import applies
from squash_api.judging.specifications import Specification
from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.schema.names import Context, Schema
from squash_api.verify.units import astropy_units, converter
from tests.support.limits import limit, specification
from tests.support.metrics_packages import ROOT, shared

SCHEMA = Schema()


# Limits


def test_a_limit_is_in_the_unit_of_the_metric() -> None:
    (found,) = limits_of([specification()], unit="mag", schema=SCHEMA)
    assert found.criterion.numbers == pytest.approx((0.005,))
    assert (found.unit, found.problem) == ("mag", "")


def test_a_limit_of_a_metric_without_unit_is_in_its_own() -> None:
    (found,) = limits_of([specification()], unit=None, schema=SCHEMA)
    assert (found.criterion.numbers, found.unit) == ((5.0,), "mmag")


def test_a_dimensionless_metric_has_a_unit() -> None:
    (found,) = limits_of([specification(value=10.0, unit="%")], unit="", schema=SCHEMA)
    assert (found.criterion.numbers, found.unit) == ((0.1,), "")


def test_what_does_not_convert_says_so_and_stays_in_its_unit() -> None:
    (found,) = limits_of([specification()], unit="s", schema=SCHEMA)
    assert found.problem == "'mmag', the unit of p.a.design, does not convert to 's'"
    assert (found.criterion.numbers, found.unit) == ((5.0,), "mmag")


def test_what_no_job_can_match_is_no_limit() -> None:
    # One that was stored before such a query was refused.
    impossible = specification(metadata_query={"filter_name": ""})
    assert limits_of([impossible], unit="mmag", schema=SCHEMA) == []


def test_the_worst_limit_comes_first() -> None:
    limits = limits_of(
        [specification(), specification(name="p.a.minimum", tags=("minimum",))],
        unit="mmag",
        schema=SCHEMA,
    )
    assert [(item.label, item.severity) for item in limits] == [("minimum", 3), ("design", 2)]


# Units, of which lsst.verify takes that of the measurement

UNITS = (
    "mag",
    "mmag",
    "dex",
    "dB",
    "mag(AB)",
    "mag(ST)",
    "mag(nJy)",
    "dex(nJy)",
    "dex(cm / s2)",
    "dB(mW)",
    "nJy",
    "Jy",
    "erg / (Angstrom s cm2)",
    "cm / s2",
    "mW",
    "",
    "%",
    "1e-06",
    "deg_C",
    "K",
    "s",
    "min",
    "1 / s",
    "Hz",
    "arcsec",
    "deg",
    "rad",
    "ct",
    "pix",
)


def as_lsst_verify_does(value: float, unit: str, found: Specification) -> bool:
    """Compare as `ThresholdSpecification.check` does."""
    units = astropy_units()
    (number,) = found.criterion.numbers
    compare = getattr(operator, NAMES[found.criterion.bounds[0].operator])
    measured = units.Quantity(value, unit, subok=True)
    return bool(compare(measured, units.Quantity(number, found.criterion.unit, subok=True)))


NAMES = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}


@pytest.mark.parametrize("unit", UNITS)
def test_a_limit_in_any_unit_is_judged_as_by_lsst_verify_or_not_at_all(unit: str) -> None:
    for written in UNITS:
        check_pair(unit, written)


def check_pair(unit: str, written: str) -> None:
    there, back = converter(written, unit), converter(unit, written)
    for comparison in OPERATORS:
        found = specification(comparison, 20.0, unit=written)
        (limit,) = limits_of([found], unit=unit, schema=SCHEMA)
        if there is None or back is None:
            assert "does not convert" in limit.problem
            continue
        if limit.problem:
            assert comparison not in ("==", "!=") or "has no number" in limit.problem
            # Its answer does depend on the unit, or lsst.verify has no number either.
            assert there(21.0) < there(19.0) or not math.isfinite(there(20.0))
            continue
        for value in (1.0, 19.0, 21.0, 40.0):
            here = there(value)
            status = "passed" if as_lsst_verify_does(value, written, found) else "failed"
            assert judge(limit, here).status == status
            assert as_lsst_verify_does(here, unit, found) == (status == "passed")


def test_a_limit_that_would_turn_round_judges_nothing_and_says_why() -> None:
    (found,) = limits_of([specification(unit="mag")], unit="dex", schema=SCHEMA)
    assert found.problem == ("'mag', the unit of p.a.design, falls where values rise in 'dex'")
    assert judge(found, 1.0).status == "not measured"


def test_a_limit_that_is_no_number_in_the_metric_s_unit_says_so() -> None:
    (found,) = limits_of([specification("==", 0.0, unit="nJy")], unit="mag(AB)", schema=SCHEMA)
    assert found.problem == ("'nJy', the unit of p.a.design, has no number for 0 in 'mag(AB)'")


# Verdicts


@pytest.mark.parametrize(("value", "status"), [(4.0, "passed"), (5.0, "passed"), (6.0, "failed")])
def test_a_value_is_compared_with_the_limit(value: float, status: str) -> None:
    assert judge(limit(), value).status == status


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_value_that_is_absent_is_not_measured(value: float | None) -> None:
    assert judge(limit(), value) == Verdict(limit(), "not measured", None, None)


def test_nothing_is_measured_by_a_limit_whose_unit_does_not_convert() -> None:
    verdict = judge(limit(in_unit="s"), 1.0)
    assert (verdict.status, verdict.value, verdict.unit) == ("not measured", None, "mmag")


def test_a_verdict_carries_the_margin_and_the_level() -> None:
    verdict = judge(limit(tags=("minimum",)), 6.0)
    assert (verdict.margin, verdict.level, verdict.word) == (-0.2, "CRITICAL", "CRITICAL")
    assert judge(limit(), 4.0).word == "passed"


def test_verdicts_have_an_order_the_worst_first() -> None:
    worst = judge(limit(tags=("minimum",)), 9.0)
    further = judge(limit(value=3.0, name="p.a.b"), 9.0)
    nearer = judge(limit(name="p.a.a"), 9.0)
    unknown = judge(limit(), None)
    near, far = judge(limit(), 4.0), judge(limit(value=50.0), 4.0)
    unmeasurable = judge(limit(">", 0.0), 4.0)
    ordered = [worst, further, nearer, unknown, near, far, unmeasurable]
    mixed = ordered[3:] + ordered[:3]
    assert sorted(mixed, key=lambda verdict: verdict.order) == ordered


@given(
    value=st.floats(allow_nan=False, allow_infinity=False),
    number=st.floats(allow_nan=False, allow_infinity=False),
    operator=st.sampled_from(OPERATORS),
)
def test_a_verdict_is_always_json(value: float, number: float, operator: str) -> None:
    verdict = judge(limit(operator, number), value)
    assert json.loads(json.dumps(verdict.to_json(), allow_nan=False)) == verdict.to_json()


def test_a_verdict_s_json_has_the_keys_of_a_report_in_their_order() -> None:
    assert list(judge(limit(), 4.0).to_json().items()) == [
        ("specification", "p.a.design"),
        ("status", "passed"),
        ("metric", "p.a"),
        ("value", 4.0),
        ("unit", "mmag"),
        ("operator", "<="),
        ("threshold", 5.0),
        ("level", "WARNING"),
        ("margin", 0.2),
    ]


# Where a specification applies


def matches(query: dict[str, Any], meta: dict[str, Any]) -> bool:
    limits = limits_of([specification(metadata_query=query)], unit="mmag", schema=SCHEMA)
    return any(applies(item.terms, SCHEMA.context(meta)) for item in limits)


def test_an_empty_query_always_applies() -> None:
    assert matches({}, {"instrument": "HSC"})


def test_every_term_of_a_query_must_hold() -> None:
    meta = {"instrument": "HSC", "filter_name": "HSC-R", "ccds": [16, 22]}
    assert matches({"instrument": "HSC", "filter_name": "HSC-R", "ccds": [16, 22]}, meta)
    assert not matches({"instrument": "HSC", "ccds": [22, 16]}, meta)


def test_a_query_finds_a_key_inside_env_and_under_an_alias() -> None:
    assert matches({"dataset": "RC2"}, {"env": {"ci_dataset": "RC2"}})


def test_numbers_match_by_value() -> None:
    assert matches({"tract": 9813.0, "visit": 12}, {"tract": 9813, "visit": 12.0})


def test_a_term_that_nothing_matches_never_applies() -> None:
    assert not matches({"instrument": None}, {"instrument": None})


# A job


def of_size(**changes: Any) -> Specification:
    return specification(**{"name": "demo.size.small", **changes})


def test_a_job_is_judged_by_the_specifications_of_its_metrics_in_order_of_name() -> None:
    specifications = [
        of_size(name="demo.size.z"),
        of_size(name="demo.size.a"),
        of_size(name="demo.other.a"),
        of_size(name="demo.size.hsc", metadata_query={"instrument": "HSC"}),
    ]
    verdicts = judge_job(
        {"demo.size": 4.0}, {"demo.size": "mmag"}, specifications, SCHEMA.context({}), SCHEMA
    )
    assert [verdict.name for verdict in verdicts] == ["demo.size.a", "demo.size.z"]


def test_a_specification_in_another_dimension_is_not_measured_in_its_own_unit() -> None:
    (verdict,) = judge_job(
        {"demo.size": 4.0}, {"demo.size": "s"}, [of_size()], SCHEMA.context({}), SCHEMA
    )
    assert (verdict.status, verdict.value, verdict.unit) == ("not measured", None, "mmag")


def test_lsst_verify_s_own_report_of_a_job_is_reproduced() -> None:
    package = load_metrics_package(shared("verify_metrics_sample"))
    job = json.loads(shared("jobs/ldf.payload.json").read_text())
    expected = json.loads(shared("jobs/ldf.report.json").read_text())
    verdicts = judge_job(
        {measurement["metric"]: measurement["value"] for measurement in job["measurements"]},
        {name: metric.unit for name, metric in package.metrics.items()},
        package.specifications.values(),
        SCHEMA.context(job["meta"]),
        SCHEMA,
    )
    found = {verdict.name: verdict.status for verdict in verdicts}
    assert found == {name: expected[name] for name in expected if name in package.specifications}


def test_the_srd_judges_the_shared_cfht_job() -> None:
    package = load_metrics_package(ROOT / "specs" / "srd")
    job = json.loads(shared("jobs/cfht_r.verify.json").read_text())
    verdicts = judge_job(
        {measurement["metric"]: measurement["value"] for measurement in job["measurements"]},
        {name: metric.unit for name, metric in package.metrics.items()},
        package.specifications.values(),
        SCHEMA.context(job["meta"]),
        SCHEMA,
    )
    assert Counter(verdict.status for verdict in verdicts) == {
        "passed": 9,
        "failed": 24,
        "not measured": 9,
    }


# Many values of a metric


def judge_of(*specifications: Specification, unit: str | None = "mmag") -> LimitJudge:
    return LimitJudge(limits_of(specifications, unit=unit, schema=SCHEMA))


def test_a_value_beyond_a_limit_breaks_it() -> None:
    many = judge_of(specification())
    is_limited, broken = many.judge(5.1, Context())
    assert is_limited
    assert [item.label for item in broken] == ["design"]


def test_a_value_at_the_limit_holds_it() -> None:
    assert judge_of(specification()).judge(5.0, Context()) == (True, [])


def test_a_limit_whose_unit_does_not_convert_does_not_apply() -> None:
    assert judge_of(specification(), unit="s").judge(9.0, Context()) == (False, [])


def test_a_limit_of_other_jobs_does_not_apply() -> None:
    many = judge_of(specification(metadata_query={"filter": "r"}))
    assert many.judge(9.0, Context(tags={"filter": "g"})) == (False, [])
    assert many.applied() == []


def test_a_limit_of_some_jobs_is_not_general() -> None:
    many = judge_of(specification(metadata_query={"filter": "r"}))
    many.judge(9.0, Context(tags={"filter": "g"}))
    many.judge(9.0, Context(tags={"filter": "r"}))
    assert [is_general for _, is_general in many.applied()] == [False]


def test_a_limit_of_all_jobs_is_general() -> None:
    many = judge_of(specification())
    many.judge(1.0, Context())
    assert [is_general for _, is_general in many.applied()] == [True]


def test_badness_is_that_of_the_worst_limit_whatever_it_applies_to() -> None:
    many = judge_of(
        specification(),
        specification(value=9.0, name="p.a.minimum", tags=("minimum",), metadata_query={"x": 1}),
    )
    assert [many.badness(value) for value in (1.0, 6.0, 10.0)] == [0, 2, 3]


@pytest.mark.parametrize(
    ("value", "summary"),
    [
        (8.3149, "8.3149 mmag, must be ≤ 8 (design)"),
        (8.000000001, "8.000000001 mmag, must be ≤ 8 (design)"),
        (2.5e-7, "0.00000025 mmag, must be ≤ 8 (design)"),
        (None, "no value, must be ≤ 8 (design)"),
    ],
)
def test_a_summary_has_the_value_next_to_the_limit_without_exponent(
    value: float | None, summary: str
) -> None:
    found = limit("<=", 8.0, name="drp.PA1.design")
    assert judge(found, value).summary == summary
