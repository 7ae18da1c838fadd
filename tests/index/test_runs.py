from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from squash_api.index import runs as runs_module
from squash_api.index.derived import derived_through
from squash_api.index.runs import NEWEST_NS, Run, Runs, runs_through, store_runs
from squash_api.record.deliveries import ensure_targets
from squash_api.record.jobs import bury_jobs
from squash_api.record.record import Record
from squash_api.record.tables import package_set, redelivery
from tests.support.builders import add_test_user, open_record, store_job
from tests.support.observatory import HOUR_NS, Observatory
from tests.support.records import passing_folder

AFW = {"name": "afw", "git_sha": "1", "git_url": None, "git_branch": None, "eups_version": None}


def run(
    job_id: int, run_id: str | None = None, pipeline: str | None = "drp", **changes: Any
) -> Run:
    fields: dict[str, Any] = {"env_name": "jenkins", "dataset": "cfht", "packages": []}
    return Run(job_id, pipeline=pipeline, run_id=run_id, **(fields | changes))


def store(record: Record, *runs: Run) -> bool:
    """Store in one batch the runs that follow the last one."""
    with record.read() as connection:
        after = runs_through(connection)
    through = max(item.job_id for item in runs)
    return record.write(
        lambda connection: store_runs(connection, runs, after=after, through=through)
    )


def previous(record: Record, *job_ids: int) -> list[int | None]:
    with record.read() as connection:
        runs = Runs(connection).of_jobs(job_ids)
    return [runs[job_id].previous_job_id for job_id in job_ids]


def bury(record: Record, job_id: int) -> None:
    record.write(lambda connection: bury_jobs(connection, [job_id], user_id=1, deleted_ns=9))


@pytest.fixture
def jobs(record: Record) -> Record:
    """A record with jobs 1 to 6."""
    for _ in range(6):
        store_job(record)
    return record


# How far


def test_a_new_record_knows_no_run(record: Record) -> None:
    with record.read() as connection:
        assert runs_through(connection) == 0
        assert Runs(connection).of_jobs([1]) == {}


def test_runs_that_are_stored_are_counted_through(jobs: Record) -> None:
    assert store(jobs, run(1), run(2))
    with jobs.read() as connection:
        assert runs_through(connection) == 2


def test_runs_go_ahead_of_the_index(jobs: Record) -> None:
    store(jobs, run(1), run(2))
    with jobs.read() as connection:
        assert derived_through(connection) == 0


def test_deleted_jobs_are_passed_over(jobs: Record) -> None:
    bury(jobs, 2)
    assert jobs.write(lambda connection: store_runs(connection, [], after=0, through=2))
    with jobs.read() as connection:
        assert runs_through(connection) == 2


def test_the_second_of_two_derivers_at_once_stores_nothing(jobs: Record) -> None:
    def store_first(run_id: str) -> bool:
        return jobs.write(
            lambda connection: store_runs(connection, [run(1, run_id)], after=0, through=1)
        )

    assert store_first("A")
    assert not store_first("B")
    with jobs.read() as connection:
        assert Runs(connection).of_jobs([1])[1].run_id == "A"


def test_a_job_that_was_deleted_meanwhile_is_in_no_list_of_jobs(jobs: Record) -> None:
    bury(jobs, 1)
    assert store(jobs, run(1, "R", measurement_count=3), run(2, "R", measurement_count=4))
    with jobs.read() as connection:
        assert [row.job_id for row in Runs(connection).first_jobs("R", limit=9)] == [2]
        assert Runs(connection).count_measurements() == 4


# Runs


def test_a_run_is_found_as_it_was_stored(jobs: Record) -> None:
    store(jobs, run(1, "R"))
    with jobs.read() as connection:
        row = Runs(connection).of_jobs([1])[1]
    assert (row.env_name, row.pipeline, row.run_id, row.dataset) == ("jenkins", "drp", "R", "cfht")
    assert (row.package_set_id, row.previous_job_id) == (None, None)


@pytest.mark.parametrize("is_one_batch", [True, False])
@pytest.mark.parametrize(
    ("runs", "before"),
    [
        (["A", "B", "C"], [None, 1, 2]),
        (["A", "A", "A"], [None, None, None]),
        (["A", "B", "B", "B"], [None, 1, 1, 1]),
        (["A", "B", "A", "B", "C"], [None, 1, None, 1, 4]),
        (["A", "A", "B", "A", "C"], [None, None, 2, None, 4]),
        (["A", None, "B"], [None, None, 1]),
        ([None, None, "B"], [None, None, None]),
    ],
)
def test_the_previous_run_is_the_latest_received_before_the_run_began(
    jobs: Record, runs: Sequence[str | None], before: Sequence[int | None], *, is_one_batch: bool
) -> None:
    items = [run(number, run_id) for number, run_id in enumerate(runs, start=1)]
    for batch in [items] if is_one_batch else [[item] for item in items]:
        assert store(jobs, *batch)
    assert previous(jobs, *range(1, len(runs) + 1)) == before


@pytest.mark.parametrize("is_one_batch", [True, False])
def test_only_runs_of_the_same_pipeline_are_previous(jobs: Record, *, is_one_batch: bool) -> None:
    items = [
        run(1, "5", "one"),
        run(2, "5", "two"),
        run(3, "6", "one"),
        run(4, "6", "two"),
        run(5, "7", None),
    ]
    for batch in [items] if is_one_batch else [[item] for item in items]:
        assert store(jobs, *batch)
    assert previous(jobs, 1, 2, 3, 4, 5) == [None, None, 1, 2, None]


def test_a_deleted_job_is_the_previous_run_of_no_later_one(jobs: Record) -> None:
    store(jobs, run(1, "A"), run(2, "B"))
    bury(jobs, 2)
    store(jobs, run(3, "C"))
    assert previous(jobs, 3) == [1]


def test_the_previous_run_is_kept_when_it_is_deleted_later(jobs: Record) -> None:
    store(jobs, run(1, "A"), run(2, "B"))
    bury(jobs, 1)
    assert previous(jobs, 2) == [1]


def test_the_jobs_of_a_run_come_in_order_of_arrival(jobs: Record) -> None:
    store(
        jobs,
        run(1, "R"),
        run(2, "S"),
        run(3, "R", "other"),
        run(4, "R", env_name="ldf"),
        run(5, "R"),
    )
    bury(jobs, 5)
    with jobs.read() as connection:
        found = [
            [row.job_id for row in Runs(connection).first_jobs("R", limit=9, **chosen)]
            for chosen in ({}, {"pipeline": "drp"}, {"env_name": "jenkins"}, {"pipeline": "x"})
        ]
        assert len(Runs(connection).first_jobs("R")) == 1
    assert found == [[1, 3, 4], [1, 4], [1, 3], []]


def test_datasets_are_distinct_in_order_and_in_pages(jobs: Record) -> None:
    names = ["b", "a", "b", None, "c", "d"]
    store(jobs, *(run(number, dataset=name) for number, name in enumerate(names, start=1)))
    bury(jobs, 6)
    with jobs.read() as connection:
        assert Runs(connection).datasets(after="", limit=9) == ["a", "b", "c"]
        assert Runs(connection).datasets(after="a", limit=1) == ["b"]


# Packages


def test_a_set_of_packages_is_stored_once(jobs: Record) -> None:
    other = {**AFW, "git_sha": "2"}
    store(jobs, run(1, packages=[AFW]), run(2, packages=[AFW]))
    store(jobs, run(3, packages=[AFW]), run(4, packages=[other]), run(5))
    with jobs.read() as connection:
        sets = [row.package_set_id for row in Runs(connection).of_jobs(range(1, 6)).values()]
        assert connection.execute(select(func.count()).select_from(package_set)).scalar_one() == 2
        first, second = sets[0] or 0, sets[3] or 0
        found = Runs(connection).package_sets([first, second, 99])
    assert found == {first: [AFW], second: [other]}
    assert sets[0] == sets[1] == sets[2] != sets[3]
    assert sets[4] is None


# Measurements


def test_measurements_are_counted_without_those_of_deleted_jobs(jobs: Record) -> None:
    store(jobs, run(1, measurement_count=2), run(2, measurement_count=1))
    with jobs.read() as connection:
        assert Runs(connection).count_measurements() == 3
    bury(jobs, 1)
    with jobs.read() as connection:
        assert Runs(connection).count_measurements() == 1


def test_a_record_without_jobs_holds_no_measurements(record: Record) -> None:
    with record.read() as connection:
        assert Runs(connection).count_measurements() == 0


def back(site: Observatory, *, jobs: int) -> list[list[int]]:
    """Return the ids of all jobs, window by window."""
    windows, before_ns = [], NEWEST_NS
    while True:
        with site.record.read() as connection:
            found, next_ns = Runs(connection).back(before_ns=before_ns, jobs=jobs)
        windows.append([item.job_id for item in found])
        if next_ns is None:
            return windows
        before_ns = next_ns


def test_jobs_come_by_their_time_newest_first_and_each_once(site: Observatory) -> None:
    hours = [3, 1, 5, 0, 2]
    jobs = [site.job(ago_ns=hour * HOUR_NS) for hour in hours]
    order = [jobs[hours.index(hour)] for hour in sorted(hours)]
    assert back(site, jobs=2) == [order[:2], order[2:4], order[4:]]
    assert back(site, jobs=9) == [order]


def test_deleted_jobs_are_left_out(site: Observatory) -> None:
    kept, gone = site.job(run_id="1"), site.job(run_id="1")
    site.delete(gone)
    assert back(site, jobs=9) == [[kept]]
    with site.record.read() as connection:
        assert Runs(connection).count_jobs(None, "1") == 1
        assert [item.job_id for item in Runs(connection).newest_jobs(None, "1", limit=9)] == [kept]


def test_a_job_tells_of_its_run(site: Observatory) -> None:
    site.job(run_id="7", ci_name="drp", run_url="https://ci/7", version_tag="w_1")
    with site.record.read() as connection:
        (job,), _ = Runs(connection).back(before_ns=NEWEST_NS, jobs=9)
    assert (job.pipeline, job.run_id, job.measurement_count) == ("drp", "7", 1)
    assert (job.run_url, job.version_tag) == ("https://ci/7", "w_1")


def test_runs_of_the_same_name_are_told_apart_by_their_pipeline(site: Observatory) -> None:
    drp, none = site.job(run_id="1", ci_name="drp"), site.job(run_id="1")
    with site.record.read() as connection:
        for pipeline, job in (("drp", drp), (None, none)):
            found = Runs(connection).newest_jobs(pipeline, "1", limit=9)
            assert [item.job_id for item in found] == [job]


def test_a_run_is_read_page_by_page_in_order_of_arrival(site: Observatory) -> None:
    jobs = [site.job(run_id="1", ago_ns=number) for number in range(3)]
    with site.record.read() as connection:
        first = Runs(connection).page(None, "1", after=0, limit=2)
        rest = Runs(connection).page(None, "1", after=first[-1].job_id, limit=2)
        newest = Runs(connection).newest_jobs(None, "1", limit=1)
    assert [item.job_id for item in (*first, *rest)] == jobs
    assert [item.job_id for item in newest] == [jobs[0]]


def test_only_runs_that_have_jobs_are_known(site: Observatory) -> None:
    site.job(run_id="c", ci_name="a/b")
    site.job(run_id="d")
    with site.record.read() as connection:
        found = Runs(connection).with_job([("a", "b/c"), ("a/b", "c"), (None, "d"), (None, "c")])
    assert found == [("a/b", "c"), (None, "d")]


# The order of dates


class Arrivals:
    """A record to which jobs of runs arrive, each with a date."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.jobs: dict[int, tuple[int, str]] = {}

    def arrive(self, *jobs: tuple[int, str]) -> None:
        """Store jobs, each of a date (ns) and a run, in one batch."""
        items = []
        for date_ns, run_id in jobs:
            job_id = store_job(self.record, asked_ns=date_ns)
            self.jobs[job_id] = (date_ns, run_id)
            items.append(run(job_id, run_id))
        assert store(self.record, *items)

    def before(self) -> dict[str, str | None]:
        """Return the run before each run, which all its jobs must agree on."""
        found = previous(self.record, *self.jobs)
        runs: dict[str, set[str | None]] = {}
        for job_id, other in zip(self.jobs, found, strict=True):
            name = None if other is None else self.jobs[other][1]
            runs.setdefault(self.jobs[job_id][1], set()).add(name)
        return {name: others.pop() for name, others in runs.items() if len(others) == 1}


@settings(max_examples=25)
@given(st.data())
def test_the_run_before_is_that_before_it_in_time_whatever_arrives_when(
    data: st.DataObject,
) -> None:
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=6))
    names = [f"R{number}" for number in range(len(sizes))]
    jobs = [name for name, size in zip(names, sizes, strict=True) for _ in range(size)]
    dated = [(10 * place, name) for place, name in enumerate(jobs)]
    shuffled = data.draw(st.permutations(dated))
    batch = data.draw(st.integers(1, len(shuffled)))
    with passing_folder() as folder, closing(open_record(folder)) as record:
        add_test_user(record)
        arrivals = Arrivals(record)
        for start in range(0, len(shuffled), batch):
            arrivals.arrive(*shuffled[start : start + batch])
        assert arrivals.before() == dict(zip(names, [None, *names], strict=False))


def test_a_run_that_arrives_late_is_the_one_before_the_next_whose_points_are_sent_again(
    record: Record,
) -> None:
    record.write(lambda connection: ensure_targets(connection, ["default"]))
    arrivals = Arrivals(record)
    arrivals.arrive((10, "A"))
    arrivals.arrive((30, "C"), (31, "C"))
    assert arrivals.before() == {"A": None, "C": "A"}
    arrivals.arrive((20, "B"))
    assert arrivals.before() == {"A": None, "B": "A", "C": "B"}
    with record.read() as connection:
        again = set(connection.execute(select(redelivery.c.job_id)).scalars())
    assert again == {2, 3}


@pytest.mark.parametrize("most", [0, 1000])
def test_however_many_jobs_are_later_the_run_before_is_found(
    record: Record, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(runs_module, "_MOST_LATER", most)
    arrivals = Arrivals(record)
    for number in (5, 1, 4, 2, 3):
        arrivals.arrive((10 * number, f"R{number}"))
    assert arrivals.before() == {"R1": None, **{f"R{n}": f"R{n - 1}" for n in range(2, 6)}}


def test_a_deleted_job_is_not_the_one_before(record: Record) -> None:
    arrivals = Arrivals(record)
    for number in (1, 2, 4):
        arrivals.arrive((10 * number, f"R{number}"))
    bury(record, 2)
    arrivals.arrive((30, "R3"))
    assert arrivals.before()["R3"] == "R1"
