import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.judging.specifications import Specification
from squash_api.judging.verdicts import applies, judge, judge_job, threshold_in
from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.schema.names import Schema
from squash_api.verify.units import UnitError
from tests.support.yaml_packages import ROOT, shared

SCHEMA = Schema()


def limit(operator: str = "<=", threshold: float = 5.0, **change: Any) -> Specification:
    known: dict[str, Any] = {"name": "demo.size.small", "metric": "demo.size", "unit": "mmag"}
    return Specification(operator=operator, threshold=threshold, **{**known, **change})


def matches(query: dict[str, Any], meta: dict[str, Any]) -> bool:
    return applies(limit(metadata_query=query), SCHEMA.context(meta), schema=SCHEMA)


@pytest.mark.parametrize(
    ("operator", "value", "status"),
    [
        ("<", 5.0, "failed"),
        ("<=", 5.0, "passed"),
        (">", 5.0, "failed"),
        (">=", 5.0, "passed"),
        ("==", 5.0, "passed"),
        ("!=", 5.0, "failed"),
        ("<", 4.0, "passed"),
        (">", 4.0, "failed"),
    ],
)
def test_a_value_stands_left_of_the_operator(operator: str, value: float, status: str) -> None:
    assert judge(limit(operator), value=value, unit="mmag").status == status


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_value_that_is_absent_is_not_measured(value: float | None) -> None:
    verdict = judge(limit(), value=value, unit="mmag")
    assert (verdict.status, verdict.value, verdict.margin) == ("not measured", None, None)


@pytest.mark.parametrize(
    ("operator", "value", "margin"),
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
    operator: str, value: float, margin: float | None
) -> None:
    assert judge(limit(operator), value=value, unit="mmag").margin == margin


def test_the_margin_of_a_negative_limit_is_relative_to_its_size() -> None:
    assert judge(limit("<=", -10.0), value=-15.0, unit="mmag").margin == 0.5


def test_a_limit_of_zero_has_no_margin() -> None:
    assert judge(limit("<=", 0.0), value=-1.0, unit="mmag").margin is None


@given(
    value=st.floats(allow_nan=False, allow_infinity=False),
    threshold=st.floats(allow_nan=False, allow_infinity=False),
    operator=st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
)
def test_a_verdict_is_always_json(value: float, threshold: float, operator: str) -> None:
    verdict = judge(limit(operator, threshold), value=value, unit="mmag")
    assert json.loads(json.dumps(verdict.to_json(), allow_nan=False)) == verdict.to_json()


def test_the_threshold_is_compared_in_the_metric_s_unit() -> None:
    verdict = judge(limit(), value=0.004, unit="mag")
    assert (verdict.status, verdict.threshold, verdict.unit) == ("passed", 0.005, "mag")


def test_a_percentage_limits_a_fraction() -> None:
    assert threshold_in(limit(unit="%", threshold=10.0), "") == 0.1


def test_a_unit_that_does_not_convert_cannot_be_judged() -> None:
    with pytest.raises(UnitError, match="does not convert"):
        judge(limit(), value=1.0, unit="s")


def test_a_verdict_carries_the_level() -> None:
    assert judge(limit(tags=("minimum",)), value=9.0, unit="mmag").level == "CRITICAL"


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


def test_a_job_is_judged_by_the_specifications_of_its_metrics_in_order_of_name() -> None:
    specifications = [
        limit(name="demo.size.z"),
        limit(name="demo.size.a"),
        limit(name="demo.other.a", metric="demo.other"),
        limit(name="demo.size.hsc", metadata_query={"instrument": "HSC"}),
    ]
    verdicts = judge_job(
        {"demo.size": 4.0}, {"demo.size": "mmag"}, specifications, SCHEMA.context({}), SCHEMA
    )
    assert [verdict.specification for verdict in verdicts] == ["demo.size.a", "demo.size.z"]


def test_a_specification_in_another_dimension_is_not_measured_in_its_own_unit() -> None:
    (verdict,) = judge_job(
        {"demo.size": 4.0}, {"demo.size": "s"}, [limit()], SCHEMA.context({}), SCHEMA
    )
    assert (verdict.status, verdict.value, verdict.unit) == ("not measured", None, "mmag")


def test_a_verdict_s_json_has_the_keys_of_a_report() -> None:
    verdict = judge(limit(), value=4.0, unit="mmag")
    assert verdict.to_json() == {
        "specification": "demo.size.small",
        "status": "passed",
        "metric": "demo.size",
        "value": 4.0,
        "unit": "mmag",
        "operator": "<=",
        "threshold": 5.0,
        "level": "WARNING",
        "margin": 0.2,
    }


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
    found = {verdict.specification: verdict.status for verdict in verdicts}
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
