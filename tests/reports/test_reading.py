from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.index import contexts
from squash_api.index.derived import requeue_metrics
from squash_api.judging.specifications import specification_from_json
from squash_api.record.metrics import declare_metrics
from squash_api.reports import report
from squash_api.reports.report import read_results
from squash_api.reports.results import Limits, Result
from squash_api.schema.names import Schema
from squash_api.trends.question import Question
from tests.support.definitions import spec
from tests.support.measured_jobs import MeasuredJobs


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[MeasuredJobs]:
    with MeasuredJobs(tmp_path) as jobs:
        yield jobs


def read(
    jobs: MeasuredJobs, *documents: dict[str, Any], names: tuple[str, ...] = ("p.a",), **asked: Any
) -> list[Result]:
    jobs.deriver.catch_up()
    specifications = {"p.a": [specification_from_json(item) for item in documents]}
    limits = Limits(specifications, Schema())
    found = read_results(
        jobs.reader,
        names=names,
        limits=limits,
        question=Question(**asked),
    )
    assert found is not None
    return found.results()


def test_last_values_of_the_named_metrics_are_read(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1, "p.b": 1}, time_ns=1)
    jobs.add({"p.a": 2, "p.b": 2}, time_ns=2)
    (found,) = read(jobs)
    assert (found.metric, found.value, found.values, found.unit) == ("p.a", 2.0, 2, "mmag")


def test_absent_values_are_read_too(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": None})
    assert [item.state for item in read(jobs)] == ["not measured"]


def test_runs_releases_times_and_tags_narrow_it_down(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1}, time_ns=1, filter="r", run_id="1", version_tag="a")
    jobs.add({"p.a": 2}, time_ns=2, filter="g", run_id="2", version_tag="b")
    questions: list[dict[str, Any]] = [
        {"runs": ("2",)},
        {"version_tags": ("b",)},
        {"since_ns": 2},
        {"tags": {"filter": ("g", "i")}},
    ]
    assert [[item.value for item in read(jobs, **asked)] for asked in questions] == [[2.0]] * 4
    assert [item.value for item in read(jobs, until_ns=1)] == [1.0]


def test_deleted_jobs_are_not_read(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1}, time_ns=1)
    jobs.delete(jobs.add({"p.a": 2}, time_ns=2))
    assert [item.value for item in read(jobs)] == [1.0]


def test_other_metadata_is_read_for_limits_that_ask_for_it(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 9}, time_ns=1, visit=7)
    assert [item.state for item in read(jobs, spec(metadata_query={"visit": 7}))] == ["WARNING"]
    assert [item.state for item in read(jobs, spec(metadata_query={"visit": 8}))] == ["no limit"]


def test_many_windows_are_one_result(jobs: MeasuredJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_JOBS", 2)
    monkeypatch.setattr(contexts, "_MOST_REMEMBERED_SETS", 0)
    for number in range(1, 6):
        jobs.add({"p.a": number}, time_ns=number, status=number)
    (found,) = read(jobs)
    assert (found.value, found.values) == (5.0, 5)


def test_values_that_wait_for_another_unit_are_derived_first(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1}, unit="mmag")
    jobs.deriver.catch_up()

    def change(connection: Any) -> None:
        declare_metrics(connection, {"p.a": "mag"})
        requeue_metrics(connection, ["p.a"], request=1)

    jobs.record.write(change)
    jobs.metrics.refresh()
    (found,) = read(jobs)
    assert (found.value, found.unit) == (0.001, "mag")


def test_a_unit_that_changes_meanwhile_asks_for_another_reading(
    jobs: MeasuredJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.add({"p.a": 1})
    jobs.deriver.catch_up()
    settled = jobs.reader.settled

    def change_first(read: Any) -> Any:
        jobs.record.write(lambda connection: declare_metrics(connection, {"p.a": "mag"}))
        return settled(read)

    monkeypatch.setattr(jobs.reader, "settled", change_first)
    found = read_results(
        jobs.reader, names=("p.a",), limits=Limits({}, Schema()), question=Question()
    )
    assert found is None


def test_metrics_that_nobody_measured_give_nothing(jobs: MeasuredJobs) -> None:
    assert read(jobs) == []
    assert read(jobs, names=()) == []
