from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import func, select

from squash_api.record.derived import (
    Derived,
    count_measurements,
    datasets,
    derived_through,
    forget_derived,
    jobs_of_run,
    jobs_to_rederive,
    load_package_set,
    mark_for_rederivation,
    replace_measurements,
    runs_of,
    store_derived,
)
from squash_api.record.jobs import add_measurement, bury_job
from squash_api.record.metrics import declare_metrics, meet_metrics, metric_ids
from squash_api.record.record import Record
from squash_api.record.tables import measurement, package_set
from tests.support.builders import store_job

AFW = {"name": "afw", "git_sha": "1", "git_url": None, "git_branch": None, "eups_version": None}


def derived(
    job_id: int, run: str | None = None, pipeline: str | None = "drp", **changes: Any
) -> Derived:
    fields: dict[str, Any] = {
        "env_name": "jenkins",
        "pipeline": pipeline,
        "run_id": run,
        "dataset": "cfht",
        "packages": [],
        "values": {},
    }
    return Derived(job_id, **(fields | changes))


def store(record: Record, *items: Derived) -> bool:
    """Store in one batch what was derived after the last one."""
    with record.read() as connection:
        after = derived_through(connection)
    through = max(item.job_id for item in items)
    return record.write(
        lambda connection: store_derived(connection, items, after=after, through=through)
    )


def previous(record: Record, *job_ids: int) -> list[int | None]:
    with record.read() as connection:
        runs = runs_of(connection, job_ids)
    return [runs[job_id].previous_job_id for job_id in job_ids]


def bury(record: Record, job_id: int) -> None:
    record.write(lambda connection: bury_job(connection, job_id=job_id, user_id=1, deleted_ns=9))


def add_to(record: Record, job_id: int) -> None:
    record.write(
        lambda connection: add_measurement(
            connection, job_id=job_id, document={"metric": "p.a"}, user_id=1, created_ns=0
        )
    )


def index(record: Record) -> dict[tuple[str, int], float | None]:
    with record.read() as connection:
        names = {number: name for name, number in metric_ids(connection, ["p.a", "p.b"]).items()}
        rows = connection.execute(select(measurement)).all()
    return {(names[row.metric_id], row.job_id): row.value for row in rows}


@pytest.fixture
def jobs(record: Record) -> Record:
    """A record with jobs 1 to 6, and the metrics p.a and p.b."""
    for _ in range(6):
        store_job(record)
    record.write(lambda connection: meet_metrics(connection, {"p.a": "mag", "p.b": None}))
    return record


# How far


def test_at_first_nothing_has_been_derived(record: Record) -> None:
    with record.read() as connection:
        assert derived_through(connection) == 0
        assert runs_of(connection, [1]) == {}


def test_what_is_stored_is_counted_through(jobs: Record) -> None:
    assert store(jobs, derived(1), derived(2))
    with jobs.read() as connection:
        assert derived_through(connection) == 2


def test_deleted_jobs_are_passed_over(jobs: Record) -> None:
    bury(jobs, 2)
    assert jobs.write(lambda connection: store_derived(connection, [], after=0, through=2))
    with jobs.read() as connection:
        assert derived_through(connection) == 2


def test_of_two_derivers_at_once_the_second_stores_nothing(jobs: Record) -> None:
    def store_first(run: str) -> bool:
        return jobs.write(
            lambda connection: store_derived(connection, [derived(1, run)], after=0, through=1)
        )

    assert store_first("A")
    assert not store_first("B")
    with jobs.read() as connection:
        assert runs_of(connection, [1])[1].run_id == "A"


def test_a_job_that_was_deleted_meanwhile_is_not_stored(jobs: Record) -> None:
    bury(jobs, 1)
    assert not store(jobs, derived(1), derived(2))
    with jobs.read() as connection:
        assert (derived_through(connection), runs_of(connection, [1, 2])) == (0, {})


def test_a_job_that_was_added_to_meanwhile_is_not_stored(jobs: Record) -> None:
    add_to(jobs, 1)
    assert not store(jobs, derived(1))
    assert store(jobs, derived(1, added=1))


def test_values_in_a_unit_that_is_no_more_are_not_stored(jobs: Record) -> None:
    old = derived(1, values={"p.a": 1.0}, units={"p.a": "mag"})
    jobs.write(lambda connection: declare_metrics(connection, {"p.a": "mmag"}))
    assert not store(jobs, old)
    assert store(jobs, derived(1, values={"p.a": 1000.0}, units={"p.a": "mmag"}))


# Runs


def test_a_run_is_found_as_it_was_stored(jobs: Record) -> None:
    store(jobs, derived(1, "R"))
    with jobs.read() as connection:
        row = runs_of(connection, [1])[1]
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
    items = [derived(number, run) for number, run in enumerate(runs, start=1)]
    for batch in [items] if is_one_batch else [[item] for item in items]:
        assert store(jobs, *batch)
    assert previous(jobs, *range(1, len(runs) + 1)) == before


@pytest.mark.parametrize("is_one_batch", [True, False])
def test_only_runs_of_the_same_pipeline_are_previous(jobs: Record, *, is_one_batch: bool) -> None:
    items = [
        derived(1, "5", "one"),
        derived(2, "5", "two"),
        derived(3, "6", "one"),
        derived(4, "6", "two"),
        derived(5, "7", None),
    ]
    for batch in [items] if is_one_batch else [[item] for item in items]:
        assert store(jobs, *batch)
    assert previous(jobs, 1, 2, 3, 4, 5) == [None, None, 1, 2, None]


def test_a_deleted_job_is_no_previous_run_of_later_ones(jobs: Record) -> None:
    store(jobs, derived(1, "A"), derived(2, "B"))
    bury(jobs, 2)
    store(jobs, derived(3, "C"))
    assert previous(jobs, 3) == [1]


def test_the_previous_run_is_kept_when_it_is_deleted_later(jobs: Record) -> None:
    store(jobs, derived(1, "A"), derived(2, "B"))
    bury(jobs, 1)
    assert previous(jobs, 2) == [1]


def test_the_jobs_of_a_run_come_in_order_of_arrival(jobs: Record) -> None:
    store(
        jobs,
        derived(1, "R"),
        derived(2, "S"),
        derived(3, "R", "other"),
        derived(4, "R", env_name="ldf"),
        derived(5, "R"),
    )
    bury(jobs, 5)
    with jobs.read() as connection:
        found = [
            [row.job_id for row in jobs_of_run(connection, "R", limit=9, **chosen)]
            for chosen in ({}, {"pipeline": "drp"}, {"env_name": "jenkins"}, {"pipeline": "x"})
        ]
        assert len(jobs_of_run(connection, "R")) == 1
    assert found == [[1, 3, 4], [1, 4], [1, 3], []]


def test_datasets_are_distinct_in_order_and_in_pages(jobs: Record) -> None:
    names = ["b", "a", "b", None, "c", "d"]
    store(jobs, *(derived(number, dataset=name) for number, name in enumerate(names, start=1)))
    bury(jobs, 6)
    with jobs.read() as connection:
        assert datasets(connection, after="", limit=9) == ["a", "b", "c"]
        assert datasets(connection, after="a", limit=1) == ["b"]


# Packages


def test_a_set_of_packages_is_stored_once(jobs: Record) -> None:
    other = {**AFW, "git_sha": "2"}
    store(jobs, derived(1, packages=[AFW]), derived(2, packages=[AFW]))
    store(jobs, derived(3, packages=[AFW]), derived(4, packages=[other]), derived(5))
    with jobs.read() as connection:
        sets = [row.package_set_id for row in runs_of(connection, range(1, 6)).values()]
        assert connection.execute(select(func.count()).select_from(package_set)).scalar_one() == 2
        assert load_package_set(connection, sets[3] or 0) == [other]
    assert sets[0] == sets[1] == sets[2] != sets[3]
    assert sets[4] is None


# Measurements


def test_measurements_are_indexed_absent_ones_too(jobs: Record) -> None:
    store(jobs, derived(1, values={"p.a": 1.5, "p.b": None}), derived(2, values={"p.a": -0.0}))
    assert index(jobs) == {("p.a", 1): 1.5, ("p.b", 1): None, ("p.a", 2): 0.0}


def test_measurements_are_counted_without_those_of_deleted_jobs(jobs: Record) -> None:
    store(jobs, derived(1, values={"p.a": 1.5, "p.b": None}), derived(2, values={"p.a": 1.0}))
    with jobs.read() as connection:
        assert count_measurements(connection) == 3
    bury(jobs, 1)
    with jobs.read() as connection:
        assert count_measurements(connection) == 1


def test_a_forgotten_job_is_out_of_the_index_alone(jobs: Record) -> None:
    store(jobs, derived(1, values={"p.a": 1.0, "p.b": 1.0}), derived(2, values={"p.a": 2.0}))
    jobs.write(lambda connection: mark_for_rederivation(connection, [1]))
    jobs.write(lambda connection: forget_derived(connection, job_id=1, metrics=["p.a", "p.b"]))
    assert index(jobs) == {("p.a", 2): 2.0}
    with jobs.read() as connection:
        assert jobs_to_rederive(connection, limit=9) == []


# Again


def replace_all(record: Record, *items: Derived) -> bool:
    return record.write(lambda connection: replace_measurements(connection, items))


def to_rederive(record: Record) -> list[int]:
    with record.read() as connection:
        return jobs_to_rederive(connection, limit=9)


def test_derived_jobs_can_be_asked_for_again_once(jobs: Record) -> None:
    store(jobs, derived(1), derived(2), derived(3))
    jobs.write(lambda connection: mark_for_rederivation(connection, [3, 1]))
    jobs.write(lambda connection: mark_for_rederivation(connection, [1]))
    assert to_rederive(jobs) == [1, 3]


def test_a_job_that_is_not_derived_yet_needs_no_asking(jobs: Record) -> None:
    store(jobs, derived(1))
    jobs.write(lambda connection: mark_for_rederivation(connection, [1, 2]))
    assert to_rederive(jobs) == [1]


def test_measurements_that_are_derived_again_replace_the_old_ones(jobs: Record) -> None:
    store(jobs, derived(1, values={"p.a": 1.0}), derived(2, values={"p.a": 2.0}))
    jobs.write(lambda connection: mark_for_rederivation(connection, [1, 2]))
    assert replace_all(jobs, derived(1, values={"p.a": 1000.0, "p.b": 5.0}))
    assert index(jobs) == {("p.a", 1): 1000.0, ("p.b", 1): 5.0, ("p.a", 2): 2.0}
    assert to_rederive(jobs) == [2]
    with jobs.read() as connection:
        assert count_measurements(connection) == 3


@pytest.mark.parametrize("change", ["delete", "add", "unit"])
def test_measurements_of_what_has_changed_meanwhile_replace_nothing(
    jobs: Record, change: str
) -> None:
    store(jobs, derived(1, values={"p.a": 1.0}, units={"p.a": "mag"}))
    jobs.write(lambda connection: mark_for_rederivation(connection, [1]))
    if change == "delete":
        bury(jobs, 1)
    elif change == "add":
        add_to(jobs, 1)
    else:
        jobs.write(lambda connection: declare_metrics(connection, {"p.a": "mmag"}))
    assert not replace_all(jobs, derived(1, values={"p.a": 2.0}, units={"p.a": "mag"}))
    assert index(jobs) == {("p.a", 1): 1.0}
    assert to_rederive(jobs) == ([] if change == "delete" else [1])


def test_any_number_of_measurements_can_be_derived_again(jobs: Record) -> None:
    values: Mapping[str, float] = {f"p.m{number}": 1.0 for number in range(20_001)}
    jobs.write(lambda connection: meet_metrics(connection, dict.fromkeys(values, "s")))
    store(jobs, derived(1, values=values))
    assert replace_all(jobs, derived(1, values=values))
    jobs.write(lambda connection: forget_derived(connection, job_id=1, metrics=values))
    with jobs.read() as connection:
        assert connection.execute(select(func.count()).select_from(measurement)).scalar_one() == 0
