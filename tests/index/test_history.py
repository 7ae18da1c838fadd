from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from squash_api.index import history
from squash_api.index.history import Entry, history_of
from squash_api.index.newest import TagSets
from squash_api.schema.names import Context
from tests.support.measured_jobs import MeasuredJobs

PER = ("detector",)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[MeasuredJobs]:
    with MeasuredJobs(tmp_path) as jobs:
        yield jobs


def entries(
    jobs: MeasuredJobs,
    detector: str = "1",
    *,
    through_ns: int = 10**9,
    visit: float | None = None,
    limit: int | None = None,
) -> list[Entry]:
    """Return the entries of `p.a` on a detector."""

    def suits(context: Context) -> bool:
        return context.fields.get("meta.visit") == visit

    jobs.reader.catch_up()
    (metric_id,) = jobs.ids("p.a")
    with jobs.reader.view() as view:
        sets = TagSets()
        sets.follow(view, {PER})
        found = history_of(
            view,
            metric_id,
            sets.of(view, PER, (detector,)),
            through_ns=through_ns,
            suits=None if visit is None else suits,
        )
        return list(islice(found, limit))


def test_entries_are_in_the_order_of_their_times_whatever_came_last(jobs: MeasuredJobs) -> None:
    for time_ns in (300, 100, 400, 200):
        jobs.add({"p.a": time_ns / 100}, time_ns=time_ns, detector=1)
    assert [item.value for item in entries(jobs)] == [4.0, 3.0, 2.0, 1.0]


def test_an_absent_value_is_an_entry_and_a_job_without_the_metric_is_none(
    jobs: MeasuredJobs,
) -> None:
    jobs.add({"p.a": 1.0}, time_ns=100, detector=1)
    jobs.add({"p.a": None}, time_ns=200, detector=1)
    jobs.add({"p.b": 2.0}, time_ns=300, detector=1)
    jobs.delete(jobs.add({"p.a": 4.0}, time_ns=400, detector=1))
    assert [item.value for item in entries(jobs)] == [None, 1.0]


def test_other_series_and_later_times_are_left_out(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1.0}, time_ns=100, detector=1)
    jobs.add({"p.a": 2.0}, time_ns=200, detector=2)
    jobs.add({"p.a": 3.0}, time_ns=300, detector=1)
    assert [item.value for item in entries(jobs, through_ns=299)] == [1.0]
    assert [item.value for item in entries(jobs, through_ns=300)] == [3.0, 1.0]


@pytest.mark.parametrize("sets", [1, 3, history._MOST_APART + 1])
def test_the_jobs_of_a_series_may_have_any_number_of_sets_of_tags(
    jobs: MeasuredJobs, sets: int
) -> None:
    count = 2 * history._FIRST_PAGE + 1
    for number in range(count):
        jobs.add({"p.a": float(number)}, time_ns=100 + number, detector=1, env_name=number % sets)
    assert [item.value for item in entries(jobs)] == [*map(float, reversed(range(count)))]
    assert [item.value for item in entries(jobs, limit=2)] == [count - 1.0, count - 2.0]


def test_only_jobs_that_suit_are_entries(jobs: MeasuredJobs) -> None:
    for number in range(20):
        jobs.add({"p.a": float(number)}, time_ns=100 + number, detector=1, visit=number % 2)
    assert [item.value for item in entries(jobs, visit=1, limit=3)] == [19.0, 17.0, 15.0]


def test_entries_of_a_run_have_it_in_common_and_a_job_without_one_is_by_itself(
    jobs: MeasuredJobs,
) -> None:
    for number, (pipeline, run_id) in enumerate([("a", "1"), ("a", "1"), ("b", "1")]):
        meta = {"pipeline": pipeline, "run_id": run_id}
        jobs.add({"p.a": 1.0}, time_ns=100 + number, detector=1, **meta)
    jobs.add({"p.a": 1.0}, time_ns=200, detector=1, pipeline="a")
    jobs.add({"p.a": 1.0}, time_ns=300, detector=1, pipeline="a")
    runs = [item.run for item in reversed(entries(jobs))]
    assert runs[0] == runs[1]
    assert len(set(runs)) == 4


def test_a_metric_that_few_of_many_jobs_name_has_the_same_entries(
    jobs: MeasuredJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        name = "p.a" if number % 2 else "p.b"
        jobs.add({name: float(number)}, time_ns=100 + number, detector=1, run_id=str(number))
    jobs.add({"p.a": 9.0}, time_ns=300, detector=2)
    jobs.delete(jobs.add({"p.a": 9.0}, time_ns=200, detector=1))
    found = entries(jobs, through_ns=103)
    assert [item.value for item in found] == [3.0, 1.0]
    monkeypatch.setattr(history, "_MANY_JOBS", 3)
    assert entries(jobs, through_ns=103) == found
