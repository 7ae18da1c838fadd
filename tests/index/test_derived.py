from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, update

from squash_api.errors import SettingsError
from squash_api.index.contexts import Contexts, JobContext
from squash_api.index.derived import (
    Derived,
    check_tags,
    derived_through,
    forget_derived,
    jobs_to_rederive,
    mark_for_rederivation,
    oldest_unindexed_ns,
    put_tags,
    replace_measurements,
    requeue_metrics,
    schema_of,
    store_derived,
)
from squash_api.index.runs import Run, Runs, runs_through, store_runs
from squash_api.record.deliveries import (
    ensure_targets,
    mark_sent,
    mark_taken,
    pending_redeliveries,
    request_redelivery,
)
from squash_api.record.jobs import add_measurement, bury_jobs
from squash_api.record.metrics import declare_metrics, metric_ids, note_metrics
from squash_api.record.record import Record
from squash_api.record.tables import job, measurement, redelivery, rederivation, target
from squash_api.schema.names import Context, Schema
from tests.support.builders import add_test_user, open_record, store_job


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
    record.write(lambda connection: bury_jobs(connection, [job_id], user_id=1, deleted_ns=9))


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


def test_nothing_of_a_new_record_has_been_derived(record: Record) -> None:
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


def test_the_second_of_two_derivers_at_once_stores_nothing(jobs: Record) -> None:
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


def test_values_in_a_unit_that_has_changed_meanwhile_are_not_stored(jobs: Record) -> None:
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
    jobs.write(lambda connection: forget_derived(connection, {1: ["p.a", "p.b"]}))
    assert index(jobs) == {("p.a", 2): 2.0}
    with jobs.read() as connection:
        assert jobs_to_rederive(connection, limit=9) == []


def context_of(job_id: int) -> JobContext:
    return JobContext(job_id, job_id, job_id, Context({"instrument": "HSC"}))


def test_the_context_of_a_forgotten_job_is_gone(jobs: Record) -> None:
    store(jobs, derived(1, context=context_of(1)), derived(2, context=context_of(2)))
    jobs.write(lambda connection: forget_derived(connection, {1: []}))
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
    jobs.write(lambda connection: forget_derived(connection, {1: values}))
    with jobs.read() as connection:
        assert connection.execute(select(func.count()).select_from(measurement)).scalar_one() == 0


def _measure(
    record: Record, *metrics_of_jobs: list[str], indexed_through: int | None = None
) -> None:
    """Store a job, with a value of each of these metrics, per list; all of them have been sent.

    They are in the index up to one, or all.
    """
    last = len(metrics_of_jobs) if indexed_through is None else indexed_through

    def work(connection: Connection) -> None:
        ensure_targets(connection, ["summit", "base"])
        names = {name for metrics in metrics_of_jobs for name in metrics}
        declare_metrics(connection, dict.fromkeys(names, "mag"))
        ids = metric_ids(connection, names)
        for number, metrics in enumerate(metrics_of_jobs, start=1):
            connection.execute(
                insert(job).values(
                    id=number,
                    user_id=1,
                    received_ns=number,
                    asked_ns=number,
                    time_ns=number,
                    revision=0,
                    is_deliverable=True,
                    size=2,
                    body=b"{}",
                )
            )
            for name in metrics if number <= last else ():
                connection.execute(
                    insert(measurement).values(metric_id=ids[name], job_id=number, value=1.0)
                )
        connection.execute(update(target).values(sent_through=len(metrics_of_jobs)))
        store_derived(connection, [], after=0, through=last)

    record.write(work)


def _requests(record: Record) -> set[tuple[str, int, int]]:
    with record.read() as connection:
        rows = connection.execute(
            select(redelivery.c.target, redelivery.c.job_id, redelivery.c.request)
        )
        return {(row.target, row.job_id, row.request) for row in rows}


def _requeue(record: Record, *names: str, request: int) -> int:
    return record.write(lambda connection: requeue_metrics(connection, names, request=request))


def test_requeueing_a_metric_asks_every_target_for_its_jobs(record: Record) -> None:
    _measure(record, ["p.a"], ["p.b"], ["p.a", "p.b"])
    assert _requeue(record, "p.a", request=7) == 2
    assert _requests(record) == {
        (name, job_id, 7) for name in ("summit", "base") for job_id in (1, 3)
    }


def test_requeueing_a_metric_asks_for_its_jobs_to_be_derived_again(record: Record) -> None:
    _measure(record, ["p.a"], ["p.b"], ["p.a", "p.b"])
    _requeue(record, "p.a", request=7)
    with record.read() as connection:
        assert jobs_to_rederive(connection, limit=10) == [1, 3]


def test_a_job_with_two_of_the_metrics_counts_once(record: Record) -> None:
    _measure(record, ["p.a", "p.b"])
    assert _requeue(record, "p.a", "p.b", request=7) == 1


def test_requeueing_twice_raises_the_request(record: Record) -> None:
    _measure(record, ["p.a"])
    _requeue(record, "p.a", request=7)
    _requeue(record, "p.a", request=9)
    assert _requests(record) == {("summit", 1, 9), ("base", 1, 9)}
    with record.read() as connection:
        assert len(connection.execute(select(rederivation)).all()) == 1


def test_a_job_that_is_being_sent_again_meanwhile_is_sent_once_more(record: Record) -> None:
    _measure(record, ["p.a"])
    record.write(
        lambda connection: request_redelivery(connection, [1], targets=["base"], request=10**18)
    )
    with record.read() as connection:
        in_flight = pending_redeliveries(connection, "base", limit=10)
    _requeue(record, "p.a", request=7)
    record.write(
        lambda connection: mark_sent(
            connection, "base", through=None, redelivered=in_flight, quarantined=[], now_ns=0
        )
    )
    with record.read() as connection:
        assert [job_id for job_id, _ in pending_redeliveries(connection, "base", limit=10)] == [1]


def test_a_deleted_job_is_not_requeued(record: Record) -> None:
    _measure(record, ["p.a"], ["p.a"])
    record.write(
        lambda connection: (
            connection.execute(update(job).where(job.c.id == 1).values(deleted_ns=3)).rowcount
        )
    )
    assert _requeue(record, "p.a", request=7) == 1
    assert {job_id for _, job_id, _ in _requests(record)} == {2}


def test_a_job_that_was_sent_before_it_was_in_the_index_is_sent_again(record: Record) -> None:
    _measure(record, ["p.b"], ["p.a"], ["p.a"], indexed_through=2)
    assert _requeue(record, "p.a", request=7) == 2
    assert {job_id for _, job_id, _ in _requests(record)} == {2, 3}


def test_a_job_that_is_not_in_the_index_is_not_derived_again(record: Record) -> None:
    _measure(record, ["p.a"], ["p.a"], indexed_through=1)
    _requeue(record, "p.a", request=7)
    with record.read() as connection:
        assert jobs_to_rederive(connection, limit=10) == [1]


def test_a_deleted_job_that_is_not_in_the_index_is_not_requeued(record: Record) -> None:
    _measure(record, ["p.a"], indexed_through=0)
    record.write(lambda c: c.execute(update(job).values(deleted_ns=3)).rowcount)
    assert _requeue(record, "p.a", request=7) == 0
    assert _requests(record) == set()


def test_requeueing_a_metric_that_no_job_measures_does_nothing(record: Record) -> None:
    _measure(record, ["p.a"])
    assert _requeue(record, "p.other", request=7) == 0
    assert _requests(record) == set()


SITE = Schema(("site",))


@pytest.fixture
def tagged(tmp_path: Path) -> Iterator[Record]:
    """A record that was used with the tag `site`."""
    record = open_record(tmp_path)
    check_tags(record, SITE)
    record.write(lambda connection: ensure_targets(connection, ["base"]))
    yield record
    record.close()


def begin_sending(record: Record) -> None:
    record.write(lambda connection: mark_taken(connection, "base", after=0, through=1))


def test_the_same_tags_are_accepted_at_every_start(tagged: Record) -> None:
    begin_sending(tagged)
    check_tags(tagged, SITE)
    check_tags(tagged, SITE)


def test_the_order_of_the_tags_does_not_matter(tagged: Record) -> None:
    tagged.write(lambda connection: put_tags(connection, Schema(("a", "b"))))
    begin_sending(tagged)
    check_tags(tagged, Schema(("b", "a")))


@pytest.mark.parametrize("other", [Schema(), Schema(("telescope",)), Schema(("site", "telescope"))])
def test_other_tags_are_refused_once_points_may_have_been_written(
    tagged: Record, other: Schema
) -> None:
    begin_sending(tagged)
    with pytest.raises(SettingsError, match="squash replay --into-empty"):
        check_tags(tagged, other)
    check_tags(tagged, SITE)


def test_other_tags_are_taken_before_any_point_was_written(tagged: Record) -> None:
    check_tags(tagged, Schema())
    begin_sending(tagged)
    check_tags(tagged, Schema())
    with pytest.raises(SettingsError):
        check_tags(tagged, SITE)


def test_tags_that_were_put_are_in_force(tagged: Record) -> None:
    begin_sending(tagged)
    tagged.write(lambda connection: put_tags(connection, Schema()))
    check_tags(tagged, Schema())


def jobs_to_derive_again(record: Record) -> list[int]:
    with record.read() as connection:
        return jobs_to_rederive(connection, limit=9)


def test_with_other_tags_every_job_in_the_index_is_derived_again(tagged: Record) -> None:
    add_test_user(tagged)
    for _ in range(3):
        store_job(tagged)
    tagged.write(lambda connection: store_derived(connection, [], after=0, through=2))
    tagged.write(lambda connection: put_tags(connection, Schema(("site", "telescope"))))
    assert jobs_to_derive_again(tagged) == [1, 2]


def test_with_the_same_tags_no_job_is_derived_again(tagged: Record) -> None:
    add_test_user(tagged)
    store_job(tagged)
    tagged.write(lambda connection: store_derived(connection, [], after=0, through=1))
    tagged.write(lambda connection: put_tags(connection, SITE))
    assert jobs_to_derive_again(tagged) == []


def test_a_reader_takes_the_tags_of_the_record_and_changes_nothing(tagged: Record) -> None:
    assert schema_of(tagged, Schema()) == SITE
    check_tags(tagged, SITE)


def test_a_new_record_is_read_with_the_tags_of_the_settings(tmp_path: Path) -> None:
    new = open_record(tmp_path / "new")
    assert schema_of(new, SITE) == SITE
    new.close()
