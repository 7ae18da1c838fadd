from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import func, select

from squash_api.index.contexts import Contexts, JobContext
from squash_api.index.derived import (
    Derived,
    derived_through,
    forget_derived,
    jobs_to_rederive,
    mark_for_rederivation,
    oldest_unindexed_ns,
    replace_measurements,
    store_derived,
)
from squash_api.index.runs import Run, Runs, runs_through, store_runs
from squash_api.record.jobs import add_measurement, bury_job
from squash_api.record.metrics import declare_metrics, metric_ids, note_metrics
from squash_api.record.record import Record
from squash_api.record.tables import measurement
from squash_api.schema.names import Context
from tests.support.builders import store_job


def derived(job_id: int, **changes: Any) -> Derived:
    return Derived(job_id, **({"values": {}} | changes))


def store_run(record: Record, job_id: int, *, measurement_count: int) -> None:
    with record.read() as connection:
        after = runs_through(connection)
    run = Run(job_id, "jenkins", "drp", "R", None, [], measurement_count)
    record.write(lambda connection: store_runs(connection, [run], after=after, through=job_id))


def count(record: Record) -> int:
    with record.read() as connection:
        return Runs(connection).count_measurements()


def store(record: Record, *items: Derived) -> bool:
    """Store in one batch what was derived after the last one."""
    with record.read() as connection:
        after = derived_through(connection)
    through = max(item.job_id for item in items)
    return record.write(
        lambda connection: store_derived(connection, items, after=after, through=through)
    )


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
    record.write(lambda connection: note_metrics(connection, {"p.a": "mag", "p.b": None}))
    return record


# How far


def test_at_first_nothing_has_been_derived(record: Record) -> None:
    with record.read() as connection:
        assert derived_through(connection) == 0


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
    def store_first(value: float) -> bool:
        item = derived(1, values={"p.a": value})
        return jobs.write(lambda connection: store_derived(connection, [item], after=0, through=1))

    assert store_first(1.0)
    assert not store_first(2.0)
    assert index(jobs) == {("p.a", 1): 1.0}


def test_the_index_goes_on_without_the_runs_having_moved(jobs: Record) -> None:
    store_run(jobs, 1, measurement_count=0)
    store_run(jobs, 2, measurement_count=0)
    store(jobs, derived(1))
    with jobs.read() as connection:
        assert (runs_through(connection), derived_through(connection)) == (2, 1)


def test_a_job_that_was_deleted_meanwhile_is_not_stored(jobs: Record) -> None:
    bury(jobs, 1)
    assert not store(jobs, derived(1), derived(2))
    with jobs.read() as connection:
        assert derived_through(connection) == 0


def test_a_job_that_was_added_to_meanwhile_is_not_stored(jobs: Record) -> None:
    add_to(jobs, 1)
    assert not store(jobs, derived(1))
    assert store(jobs, derived(1, added=1))


def test_values_in_a_unit_that_is_no_more_are_not_stored(jobs: Record) -> None:
    old = derived(1, values={"p.a": 1.0}, units={"p.a": "mag"})
    jobs.write(lambda connection: declare_metrics(connection, {"p.a": "mmag"}))
    assert not store(jobs, old)
    assert store(jobs, derived(1, values={"p.a": 1000.0}, units={"p.a": "mmag"}))


# Measurements


def test_measurements_are_indexed_absent_ones_too(jobs: Record) -> None:
    store(jobs, derived(1, values={"p.a": 1.5, "p.b": None}), derived(2, values={"p.a": -0.0}))
    assert index(jobs) == {("p.a", 1): 1.5, ("p.b", 1): None, ("p.a", 2): 0.0}


def test_what_is_added_between_the_run_and_the_index_is_counted(jobs: Record) -> None:
    store_run(jobs, 1, measurement_count=1)
    add_to(jobs, 1)
    jobs.write(lambda connection: mark_for_rederivation(connection, [1]))
    assert store(jobs, derived(1, values={"p.b": 1.0, "p.a": None}, added=1))
    assert count(jobs) == 2


def test_a_job_that_is_deleted_between_the_run_and_the_index_counts_nothing(jobs: Record) -> None:
    store_run(jobs, 1, measurement_count=1)
    store_run(jobs, 2, measurement_count=1)
    bury(jobs, 1)
    assert store(jobs, derived(2, values={"p.a": 1.0}))
    assert count(jobs) == 1


def test_a_forgotten_job_is_out_of_the_index_alone(jobs: Record) -> None:
    store(jobs, derived(1, values={"p.a": 1.0, "p.b": 1.0}), derived(2, values={"p.a": 2.0}))
    jobs.write(lambda connection: mark_for_rederivation(connection, [1]))
    jobs.write(lambda connection: forget_derived(connection, job_id=1, metrics=["p.a", "p.b"]))
    assert index(jobs) == {("p.a", 2): 2.0}
    with jobs.read() as connection:
        assert jobs_to_rederive(connection, limit=9) == []


def context_of(job_id: int) -> JobContext:
    return JobContext(job_id, job_id, job_id, Context({"instrument": "HSC"}))


def test_the_context_of_a_forgotten_job_is_gone(jobs: Record) -> None:
    store(jobs, derived(1, context=context_of(1)), derived(2, context=context_of(2)))
    jobs.write(lambda connection: forget_derived(connection, job_id=1, metrics=[]))
    with jobs.read() as connection:
        assert list(Contexts(connection).of([1, 2])) == [2]


def test_the_oldest_job_that_is_not_in_the_index_is_known(jobs: Record) -> None:
    with jobs.read() as connection:
        assert oldest_unindexed_ns(connection) == 2_000
    jobs.write(lambda connection: store_derived(connection, [], after=0, through=5))
    bury(jobs, 6)
    with jobs.read() as connection:
        assert oldest_unindexed_ns(connection) is None


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


def test_a_job_that_is_not_in_the_index_yet_needs_no_asking(jobs: Record) -> None:
    store(jobs, derived(1))
    jobs.write(lambda connection: mark_for_rederivation(connection, [1, 2]))
    assert to_rederive(jobs) == [1]


def test_measurements_that_are_derived_again_replace_the_old_ones(jobs: Record) -> None:
    store_run(jobs, 1, measurement_count=1)
    store_run(jobs, 2, measurement_count=1)
    store(jobs, derived(1, values={"p.a": 1.0}), derived(2, values={"p.a": 2.0}))
    jobs.write(lambda connection: mark_for_rederivation(connection, [1, 2]))
    assert replace_all(jobs, derived(1, values={"p.a": 1000.0, "p.b": 5.0}))
    assert index(jobs) == {("p.a", 1): 1000.0, ("p.b", 1): 5.0, ("p.a", 2): 2.0}
    assert to_rederive(jobs) == [2]
    assert count(jobs) == 3


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
    jobs.write(lambda connection: note_metrics(connection, dict.fromkeys(values, "s")))
    store(jobs, derived(1, values=values))
    assert replace_all(jobs, derived(1, values=values))
    jobs.write(lambda connection: forget_derived(connection, job_id=1, metrics=values))
    with jobs.read() as connection:
        assert connection.execute(select(func.count()).select_from(measurement)).scalar_one() == 0
