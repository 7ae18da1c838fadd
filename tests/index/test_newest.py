from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.index.newest import Newest, TagSets, newest_values
from squash_api.schema.names import Context
from tests.support.measured_jobs import MeasuredJobs

PER = ("instrument", "detector")


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[MeasuredJobs]:
    with MeasuredJobs(tmp_path) as jobs:
        yield jobs


def newest(
    jobs: MeasuredJobs,
    *combination: str,
    names: tuple[str, ...] = ("p.a",),
    after_ns: int = 0,
    visit: float | None = None,
) -> dict[str, Newest]:
    """Return the newest values of a combination, by metric."""

    def suits(context: Context) -> bool:
        return context.fields.get("meta.visit") == visit

    jobs.reader.catch_up()
    ids = dict(zip(jobs.ids(*names), names, strict=True))
    with jobs.reader.view() as view:
        sets = TagSets()
        sets.follow(view, {PER})
        found = newest_values(
            view,
            ids,
            sets.of(view, PER, combination),
            after_ns=after_ns,
            suits=None if visit is None else suits,
        )
    return {ids[metric_id]: item for metric_id, item in found.items()}


def test_the_newest_by_time_counts_whatever_came_last(jobs: MeasuredJobs) -> None:
    first = jobs.add({"p.a": 1.0}, time_ns=300, instrument="HSC")
    jobs.add({"p.a": 2.0}, time_ns=200, instrument="HSC")
    jobs.add({"p.a": 3.0}, time_ns=400, instrument="HSC", detector=1)
    assert newest(jobs, "HSC", "") == {"p.a": Newest(first, 300, 1.0)}


def test_other_tags_are_of_the_same_series(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1.0}, time_ns=100, instrument="HSC", env_name="one")
    last = jobs.add({"p.a": 2.0}, time_ns=200, instrument="HSC", env_name="other")
    assert newest(jobs, "HSC", "") == {"p.a": Newest(last, 200, 2.0)}


def test_absent_values_and_deleted_jobs_do_not_count(jobs: MeasuredJobs) -> None:
    first = jobs.add({"p.a": 1.0}, time_ns=100, instrument="HSC")
    jobs.add({"p.a": None, "p.b": 5.0}, time_ns=200, instrument="HSC")
    jobs.delete(jobs.add({"p.a": 3.0}, time_ns=300, instrument="HSC"))
    assert newest(jobs, "HSC", "")["p.a"].job_id == first


def test_the_search_ends_at_a_time(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1.0}, time_ns=100, instrument="HSC")
    assert newest(jobs, "HSC", "", after_ns=100) == {}
    assert len(newest(jobs, "HSC", "", after_ns=99)) == 1


@pytest.mark.parametrize("tags", [{}, {"env_name": "other"}])
def test_rare_metrics_are_found_behind_many_jobs(jobs: MeasuredJobs, tags: dict[str, str]) -> None:
    rare = jobs.add({"p.a": 1.0}, time_ns=100, instrument="HSC", **tags)
    for number in range(120):
        last = jobs.add({"p.b": 2.0}, time_ns=200 + number, instrument="HSC")
    found = newest(jobs, "HSC", "", names=("p.a", "p.b", "q.a"))
    assert found == {"p.a": Newest(rare, 100, 1.0), "p.b": Newest(last, 319, 2.0)}


def test_only_jobs_that_suit_count(jobs: MeasuredJobs) -> None:
    seven = jobs.add({"p.a": 1.0}, time_ns=100, instrument="HSC", visit=7)
    jobs.add({"p.a": 2.0}, time_ns=200, instrument="HSC", visit=8)
    assert newest(jobs, "HSC", "", visit=7) == {"p.a": Newest(seven, 100, 1.0)}
    assert newest(jobs, "HSC", "", visit=9) == {}


def test_sets_of_tags_are_learned_as_they_come(jobs: MeasuredJobs) -> None:
    sets = TagSets()
    for number, detector in enumerate((1, 2, 1)):
        jobs.add({"p.a": 1.0}, time_ns=100 + number, instrument="HSC", detector=detector)
        jobs.reader.catch_up()
        with jobs.reader.view() as view:
            sets.follow(view, {PER})
    assert {key: len(found) for key, found in sets.combinations(PER).items()} == {
        ("HSC", "1"): 1,
        ("HSC", "2"): 1,
    }
    with jobs.reader.view() as view:
        sets.follow(view, {("instrument",)})
        assert set(sets.combinations(("instrument",))) == {("HSC",)}
        assert sets.of(view, ("instrument",), ("HSC",), lambda tags: tags["detector"] == "2")
