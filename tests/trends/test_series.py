from typing import Any

import pytest

from squash_api.errors import InvalidInputError, RecordUnavailableError
from squash_api.index.derived import mark_for_rederivation, requeue_metrics
from squash_api.record.metrics import declare_metrics
from squash_api.trends.question import Cursor
from squash_api.trends.series import Series, values_of
from tests.support.measured_jobs import MeasuredJobs


def pages(series: Series, limit: int) -> list[list[tuple[str, int]]]:
    found: list[list[tuple[str, int]]] = []
    cursor: Cursor | None = None
    while True:
        values, cursor = series.page(after=cursor, limit=limit)
        found.append([(item.metric, item.job_id) for item in values])
        if cursor is None:
            return found


def test_a_value_has_what_its_job_said(jobs: MeasuredJobs) -> None:
    env = {"ci_id": "904", "ci_url": "https://ci.example/904"}
    jobs.add({"p.a": 0.1}, time_ns=77, filter="r", airmass=1.5, version_tag="w_1", env=env)
    (value,) = jobs.values(fields=("*",))
    assert (value.metric, value.value, value.unit) == ("p.a", 0.1, "mmag")
    assert (value.time_ns, value.job_id, value.run_id) == (77, 1, "904")
    assert (value.run_url, value.version_tag) == ("https://ci.example/904", "w_1")
    assert (value.tags, value.fields) == ({"filter": "r"}, {"meta.airmass": 1.5})


def test_values_come_by_time_and_then_by_the_names_of_metrics(jobs: MeasuredJobs) -> None:
    jobs.add({"q.a": 1, "p.b": 2, "p.a": 3}, time_ns=20)
    jobs.add({"p.b": 4}, time_ns=10)
    assert jobs.found() == [("p.b", 4.0, 2), ("p.a", 3.0, 1), ("p.b", 2.0, 1), ("q.a", 1.0, 1)]


def test_a_metric_is_selected_by_its_name_or_its_package(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1, "p.b": 2, "q.a": 3})
    assert jobs.found(metrics=("p.b",)) == [("p.b", 2.0, 1)]
    assert jobs.found(packages=("q",)) == [("q.a", 3.0, 1)]
    assert jobs.found(packages=("q",), metrics=("p.a",)) == [("p.a", 1.0, 1), ("q.a", 3.0, 1)]


def test_all_that_is_asked_for_must_hold(jobs: MeasuredJobs) -> None:
    for name in "ri":
        for visit in (1, 2):
            jobs.add({"p.a": 1}, filter=name, visit=visit, ci_id="7")
    conditions = (lambda fields: fields["meta.visit"] == 2,)
    found = jobs.found(tags={"filter": ("r",)}, runs=("7",), conditions=conditions)
    assert found == [("p.a", 1.0, 2)]


def test_what_cannot_be_is_refused_at_once(jobs: MeasuredJobs) -> None:
    with pytest.raises(InvalidInputError, match=r"There is no metric `p\.z`"):
        jobs.series(metrics=("p.z",))


def test_values_come_in_the_unit_that_is_asked_for(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1500.0})
    (value,) = jobs.values(metrics=("p.a",), unit="mag")
    assert (value.value, value.unit) == (1.5, "mag")


def test_the_metrics_own_unit_changes_no_bit(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 0.1 + 0.2})
    assert jobs.values(metrics=("p.a",), unit="mmag")[0].value == 0.1 + 0.2


def test_a_value_without_equivalent_is_absent(jobs: MeasuredJobs) -> None:
    jobs.record.write(lambda connection: declare_metrics(connection, {"f.a": "Jy"}))
    jobs.metrics.refresh()
    jobs.add({"f.a": -1.0})
    assert [item.value for item in jobs.values(metrics=("f.a",), unit="mag(AB)")] == [None]


def test_absent_values_are_left_out_unless_they_are_asked_for(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": None, "p.b": 1})
    assert jobs.found() == [("p.b", 1.0, 1)]
    assert jobs.found(has_absent=True) == [("p.a", None, 1), ("p.b", 1.0, 1)]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_together_are_all_values(jobs: MeasuredJobs, limit: int) -> None:
    for number in range(5):
        jobs.add({"p.a": number, "p.b": number}, time_ns=100 - number)
    expected = [(item.metric, item.job_id) for item in jobs.values()]
    found = pages(jobs.series(), limit)
    assert [value for page in found for value in page] == expected
    assert {len(page) for page in found[:-1]} <= {limit}


def test_the_last_page_that_is_full_has_no_next_one(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1, "p.b": 2})
    assert jobs.series().page(after=None, limit=2)[1] is None


def test_a_page_goes_on_behind_a_deleted_job(jobs: MeasuredJobs) -> None:
    for number in range(3):
        jobs.add({"p.a": number, "p.b": number}, time_ns=10 + number)
    _, cursor = jobs.series().page(after=None, limit=1)
    jobs.delete(1)
    values, _ = jobs.series().page(after=cursor, limit=2)
    assert [(item.metric, item.job_id) for item in values] == [("p.a", 2), ("p.b", 2)]


def test_jobs_that_come_while_values_are_read_are_left_out(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1})
    series = jobs.series()
    jobs.add({"p.a": 2})
    jobs.deriver.catch_up()
    assert [item.job_id for item in values_of(series.jobs())] == [1]
    assert [item.job_id for item in jobs.values()] == [1, 2]


def test_after_a_change_of_unit_no_value_is_in_the_old_one(jobs: MeasuredJobs) -> None:
    for number in range(3):
        jobs.add({"p.a": 1500.0}, unit="mmag", time_ns=number)
    series = jobs.series(metrics=("p.a",))

    def redeclare(connection: Any) -> None:
        declare_metrics(connection, {"p.a": "mag"})
        requeue_metrics(connection, ["p.a"], request=1)

    jobs.record.write(redeclare)
    assert [(item.value, item.unit) for item in values_of(series.jobs())] == [(1.5, "mag")] * 3


def test_metrics_that_never_come_to_rest_are_told_of(
    jobs: MeasuredJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.add({"p.a": 1})
    series = jobs.series()
    jobs.record.write(lambda connection: mark_for_rederivation(connection, [1]))
    monkeypatch.setattr(jobs.deriver, "rederive", lambda _: None)
    with pytest.raises(RecordUnavailableError, match="Try again"):
        list(values_of(series.jobs()))


def test_progress_goes_from_nothing_to_all(
    jobs: MeasuredJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.trends.series.MOST_JOBS", 1)
    for number in range(5):
        jobs.add({"p.a": 1}, time_ns=100 + number)
    series = jobs.series(since_ns=100)
    steps = [series.progress(), *(series.progress() for _ in series.jobs())]
    assert (steps[:5], steps[-1]) == ([0.0, 0.0, 0.25, 0.5, 0.75], 1.0)


def test_few_points_have_the_extremes_of_each_metric_and_set_of_tags(jobs: MeasuredJobs) -> None:
    for number in range(20):
        value = {5: 99.0, 14: -99.0}.get(number, float(number % 3))
        jobs.add({"p.a": value, "p.b": -value}, time_ns=100 + number, filter="r")
    jobs.add({"p.a": 7.0}, time_ns=500, filter="i", airmass=2.0)
    found = list(values_of(jobs.series(fields=("*",)).downsampled_jobs(4)))
    series = {
        (metric, name): [v.value for v in found if (v.metric, v.tags["filter"]) == (metric, name)]
        for metric in ("p.a", "p.b")
        for name in "ri"
    }
    assert {-99.0, 99.0} <= set(series["p.a", "r"])
    assert {-99.0, 99.0} <= set(series["p.b", "r"])
    assert all(len(values) <= 4 for values in series.values())
    assert (series["p.a", "i"], found[-1].fields) == ([7.0], {"meta.airmass": 2.0})
    assert [item.time_ns for item in found] == sorted(item.time_ns for item in found)


def test_points_are_those_of_the_selected_jobs_alone(jobs: MeasuredJobs) -> None:
    for number in range(6):
        jobs.add({"p.a": number}, ci_id=str(number % 2), time_ns=number)
    found = values_of(jobs.series(runs=("1",), since_ns=2).downsampled_jobs(10))
    assert [item.job_id for item in found] == [4, 6]
