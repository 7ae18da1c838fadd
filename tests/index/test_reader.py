from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from squash_api.errors import RecordUnavailableError
from squash_api.index import contexts
from squash_api.index.derived import (
    mark_for_rederivation,
    requeue_metrics,
    waiting_for_rederivation,
)
from squash_api.index.reader import View
from squash_api.record.jobs import job_ids, last_job_id
from squash_api.record.metrics import declare_metrics
from tests.support.measured_jobs import MeasuredJobs


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[MeasuredJobs]:
    jobs = MeasuredJobs(tmp_path)
    yield jobs
    jobs.record.close()


def redeclare(jobs: MeasuredJobs, unit: str) -> None:
    def work(connection: Any) -> None:
        declare_metrics(connection, {"p.a": unit})
        requeue_metrics(connection, ["p.a"], request=1)

    jobs.record.write(work)


def test_any_query_of_the_record_can_be_asked(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1})
    with jobs.reader.view() as view:
        assert view.ask(last_job_id) == 1
        assert view.ask(job_ids, after=0, limit=9) == [1]


def test_a_view_stays_as_it_is_while_the_record_changes(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1}, unit="mmag")
    jobs.reader.catch_up()
    (metric,) = jobs.ids("p.a")
    with jobs.reader.view() as view:
        assert view.values.of_metric(metric, [1]) == {1: 1.0}
        redeclare(jobs, "mag")
        jobs.deriver.rederive([1])
        jobs.metrics.refresh()
        assert view.values.of_metric(metric, [1]) == {1: 1.0}
        assert view.metrics.by_id[metric].unit == "mmag"
    with jobs.reader.view() as view:
        assert view.values.of_metric(metric, [1]) == {1: 0.001}
        assert view.metrics.by_id[metric].unit == "mag"


def test_metrics_are_those_of_the_view_although_nobody_has_refreshed(jobs: MeasuredJobs) -> None:
    assert "p.new" not in jobs.metrics.now.by_name
    jobs.record.write(lambda connection: declare_metrics(connection, {"p.new": "s"}))
    assert "p.new" not in jobs.metrics.now.by_name
    with jobs.reader.view() as view:
        assert view.metrics.by_name["p.new"].unit == "s"
    assert "p.new" in jobs.metrics.now.by_name


def test_what_is_read_is_in_the_units_of_now(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1500.0}, unit="mmag")
    jobs.reader.catch_up()
    redeclare(jobs, "mag")
    (metric,) = jobs.ids("p.a")
    calls = []

    def read(view: View) -> dict[int, float]:
        calls.append(1)
        view.require_settled([1])
        return view.values.of_metric(metric, [1])

    assert jobs.reader.settled(read) == {1: 1.5}
    assert len(calls) == 2
    assert jobs.reader.settled(read) == {1: 1.5}
    assert len(calls) == 3


def test_jobs_that_nobody_looks_at_are_not_derived_again(jobs: MeasuredJobs) -> None:
    for _ in range(2):
        jobs.add({"p.a": 1.0})
    jobs.reader.catch_up()
    jobs.record.write(lambda connection: mark_for_rederivation(connection, [2]))
    jobs.reader.settled(lambda view: view.require_settled([1]))
    with jobs.reader.view() as view:
        assert view.ask(waiting_for_rederivation, [1, 2]) == {2}


def test_metrics_that_go_on_changing_are_told_of(
    jobs: MeasuredJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.add({"p.a": 1.0})
    jobs.reader.catch_up()
    jobs.record.write(lambda connection: mark_for_rederivation(connection, [1]))
    monkeypatch.setattr(jobs.deriver, "rederive", lambda _: None)
    with pytest.raises(RecordUnavailableError, match="Try again"):
        jobs.reader.settled(lambda view: view.require_settled([1]))


def test_tags_are_remembered_within_bounds(
    jobs: MeasuredJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "_MOST_REMEMBERED_SETS", 2)
    for name in "griz":
        jobs.add({"p.a": 1}, filter=name)
    jobs.reader.catch_up()
    for _ in range(2):
        with jobs.reader.view() as view:
            sets = view.contexts.tag_sets_of([1, 2, 3, 4])
            found = [tags["filter"] for tags in view.contexts.tags(sets).values()]
            assert sorted(found) == sorted("griz")
            assert [view.contexts.tags([number])[number] for number in sorted(sets)] == [
                {"filter": name} for name in "griz"
            ]


def test_the_values_of_the_tags_of_runs_are_read_once(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1}, ci_name="drp", filter="r", ccdnum=1)
    jobs.reader.catch_up()
    assert jobs.reader.run_tags() == {"pipeline": ["drp"], "dataset": [], "filter": ["r"]}
    jobs.add({"p.a": 1}, ci_name="ap", filter="g")
    jobs.reader.catch_up()
    assert jobs.reader.run_tags() == {
        "pipeline": ["ap", "drp"],
        "dataset": [],
        "filter": ["g", "r"],
    }
    queries: list[Any] = []
    with jobs.record.read() as connection:
        event.listen(connection, "after_execute", lambda *args: queries.append(args))
        values = contexts.TagValues(("filter",))
        assert values.read(connection) == values.read(connection) == {"filter": ["g", "r"]}
    assert [item[3]["after"] for item in queries] == [0, 2]
