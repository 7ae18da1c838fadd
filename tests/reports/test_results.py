from collections.abc import Sequence
from typing import Any

import pytest

from squash_api.errors import InvalidInputError
from squash_api.index.windows import MeasuredJob
from squash_api.judging.specifications import specification_from_json
from squash_api.record.metrics import MetricRow
from squash_api.reports import results as report_results
from squash_api.reports.results import Limits, Result, Results
from squash_api.schema.names import Schema
from tests.support.definitions import spec
from tests.support.reporting import result, unlimited, verdict

METRICS = {1: MetricRow("mmag", is_declared=True, metric_id=1, name="p.a", version=1)}
MINIMUM = spec("p.a.minimum", value=8.0, tags=["minimum"])
DESIGN = spec("p.a.design", value=5.0, tags=["design"])
TAGS: dict[int, dict[str, str]] = {
    1: {"filter": "r", "status": "0"},
    2: {"filter": "r", "status": "1"},
    3: {"filter": "g"},
}


def job(number: int, *, tag_set: int = 1, visit: float | None = None) -> MeasuredJob:
    fields: dict[str, str | float] = {} if visit is None else {"meta.visit": visit}
    return MeasuredJob(number, number, tag_set, f"run_{number}", None, None, fields, [])


def judged(
    values: Sequence[tuple[MeasuredJob, float | None]], *documents: dict[str, Any]
) -> list[Result]:
    limits = Limits({"p.a": [specification_from_json(item) for item in documents]}, Schema())
    results = Results(METRICS, limits)
    jobs = {item.job_id: item for item, _ in values}
    results.take(jobs, [(1, item.job_id, value) for item, value in values], TAGS)
    return results.results()


def test_the_last_value_by_time_counts_in_whatever_order_they_come() -> None:
    (found,) = judged([(job(2), 4.0), (job(3), 9.0), (job(1), 1.0)], DESIGN)
    assert (found.value, found.job_id, found.run_id, found.state) == (9.0, 3, "run_3", "WARNING")


def test_values_beyond_a_limit_are_counted_once() -> None:
    (found,) = judged([(job(1), 9.0), (job(2), 6.0), (job(3), 1.0)], MINIMUM, DESIGN)
    assert (found.values, found.failed, found.state) == (3, 2, "passed")


def test_absent_values_are_counted() -> None:
    (found,) = judged([(job(1), None), (job(2), 1.0)], DESIGN)
    assert (found.values, found.absent, found.failed) == (2, 1, 0)


def test_an_absent_last_value_is_not_measured() -> None:
    (found,) = judged([(job(1), 1.0), (job(2), None)], DESIGN)
    assert found.state == "not measured"


def test_sets_of_tags_that_alerts_do_not_tell_apart_are_one_result() -> None:
    (found,) = judged([(job(1, tag_set=1), 1.0), (job(2, tag_set=2), 2.0)], DESIGN)
    assert (found.tags, found.values) == ((("filter", "r"),), 2)


def test_filters_are_results_of_their_own() -> None:
    found = judged([(job(1), 1.0), (job(2, tag_set=3), 9.0)], DESIGN)
    assert [(item.tags, item.state) for item in found] == [
        ((("filter", "g"),), "WARNING"),
        ((("filter", "r"),), "passed"),
    ]


def test_terms_on_other_metadata_are_asked_of_each_job() -> None:
    limit = spec(value=5.0, metadata_query={"visit": 7})
    values = [(job(1, visit=7.0), 9.0), (job(2, visit=8.0), 9.0)]
    (found,) = judged(values, limit)
    assert (found.failed, found.state) == (1, "no limit")


def test_terms_on_the_run_need_no_other_metadata() -> None:
    limit = spec(value=5.0, metadata_query={"run_id": "run_2"})
    (found,) = judged([(job(1), 9.0)], limit)
    assert found.state == "no limit"
    (found,) = judged([(job(2), 9.0)], limit)
    assert found.state == "WARNING"


def test_jobs_that_were_not_asked_for_are_passed_over() -> None:
    results = Results(METRICS, Limits({}, Schema()))
    results.take({1: job(1)}, [(1, 1, 1.0), (1, 2, 5.0)], TAGS)
    assert (results.jobs, results.results()[0].value) == (1, 1.0)


def test_jobs_are_counted_once() -> None:
    results = Results(METRICS | {2: METRICS[1]}, Limits({}, Schema()))
    results.take({1: job(1)}, [(1, 1, 1.0), (2, 1, 5.0)], TAGS)
    assert results.jobs == 1


def test_too_many_combinations_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_results, "MOST_RESULTS", 1)
    with pytest.raises(InvalidInputError, match="ask for less"):
        judged([(job(1), 1.0), (job(2, tag_set=3), 1.0)])


def test_what_is_remembered_of_tags_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_results, "_MOST_SINKS", 1)
    values = [(job(1), 9.0), (job(2, tag_set=2), 9.0), (job(3), 9.0), (job(4, tag_set=3), 1.0)]
    found = judged(values, DESIGN)
    assert [(item.values, item.failed) for item in found] == [(1, 0), (3, 3)]


def test_the_worst_broken_limit_is_told_of() -> None:
    found = result(9.0, verdict(9.0), verdict(9.0, last="minimum", limit=8.0))
    assert [item.name for item in found.broken] == ["p.a.minimum", "p.a.design"]
    assert (found.state, found.nearest) == ("CRITICAL", found.broken[0])


def test_of_limits_that_hold_the_nearest_is_told_of() -> None:
    found = result(4.0, verdict(4.0, last="minimum", limit=8.0), verdict(4.0))
    assert found.nearest is not None
    assert (found.state, found.nearest.name) == ("passed", "p.a.design")


def test_without_limit_nothing_is_told_of() -> None:
    assert (unlimited().state, unlimited().nearest) == ("no limit", None)
