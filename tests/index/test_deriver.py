import threading
from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy import delete, select, update

from squash_api.index import deriver as derivation
from squash_api.index.contexts import Contexts
from squash_api.index.derived import check_reading, derived_through, mark_for_rederivation
from squash_api.index.deriver import Deriver
from squash_api.index.runs import Runs, runs_through
from squash_api.ingest.document import Job
from squash_api.ingest.stored_job import document_of
from squash_api.record.deliveries import ensure_targets
from squash_api.record.jobs import add_measurement, bury_jobs
from squash_api.record.metrics import Metrics, declare_metrics, metric_ids, note_metrics
from squash_api.record.record import Record
from squash_api.record.tables import job, measurement, metric, redelivery, state
from squash_api.schema.names import Schema
from tests.support.builders import make_body, measured, store_job

ENV = {"env_name": "jenkins", "ci_id": "904", "ci_name": "drp", "ci_dataset": "HSC RC2"}


@pytest.fixture
def record(record: Record) -> Record:
    record.write(lambda connection: note_metrics(connection, {"p.a": "mmag", "p.b": None}))
    return record


@pytest.fixture
def deriver(record: Record) -> Deriver:
    return Deriver(record, Metrics(record, Schema()))


def index(record: Record) -> dict[tuple[str, int], float | None]:
    with record.read() as connection:
        names = {number: name for name, number in metric_ids(connection, ["p.a", "p.b"]).items()}
        rows = connection.execute(select(measurement)).all()
    return {(names[row.metric_id], row.job_id): row.value for row in rows}


def through(record: Record) -> int:
    with record.read() as connection:
        return derived_through(connection)


def runs_known(record: Record) -> int:
    with record.read() as connection:
        return runs_through(connection)


def count(record: Record) -> int:
    with record.read() as connection:
        return Runs(connection).count_measurements()


def add_to(record: Record, job_id: int, document: dict[str, Any]) -> None:
    record.write(
        lambda connection: add_measurement(
            connection, job_id=job_id, document=document, user_id=1, created_ns=0
        )
    )


def test_an_empty_record_has_nothing_to_derive(record: Record, deriver: Deriver) -> None:
    deriver.catch_up()
    assert through(record) == 0


def test_the_run_of_a_job_is_derived(record: Record, deriver: Deriver) -> None:
    store_job(record, body=make_body(env=ENV))
    deriver.catch_up()
    with record.read() as connection:
        row = Runs(connection).of_jobs([1])[1]
    assert (row.env_name, row.pipeline, row.run_id) == ("jenkins", "drp", "904")
    assert row.dataset == "HSC RC2"


def test_measurements_are_derived_in_the_metrics_unit(record: Record, deriver: Deriver) -> None:
    items = [measured("p.a", 0.5, "mag"), measured("p.b", None)]
    store_job(record, body=make_body(*items))
    deriver.catch_up()
    assert index(record) == {("p.a", 1): 500.0, ("p.b", 1): None}


def test_the_context_of_a_job_is_derived_as_its_points_carry_it(
    record: Record, deriver: Deriver
) -> None:
    store_job(
        record, received_ns=7, asked_ns=5, body=make_body(filter_name="HSC R", airmass=1.5, env=ENV)
    )
    deriver.catch_up()
    with record.read() as connection:
        found = Contexts(connection).of([1])[1]
    assert (found.time_ns, found.received_ns) == (5, 7)
    assert found.context.tags["filter"] == "HSC_R"
    assert found.context.fields == {"run_id": "904", "meta.airmass": 1.5}


def test_a_job_that_is_derived_again_has_a_new_context(record: Record, deriver: Deriver) -> None:
    store_job(record)
    deriver.catch_up()
    record.write(lambda connection: mark_for_rederivation(connection, [1]))
    with record.read() as connection:
        before = Contexts(connection).newest_version()
    deriver.rederive_some()
    with record.read() as connection:
        assert [item.job_id for item in Contexts(connection).changed(after=before, limit=9)] == [1]


def test_what_was_added_is_derived_with_the_job(record: Record, deriver: Deriver) -> None:
    store_job(record, body=make_body(measured("p.a", 1.0)))
    add_to(record, 1, measured("p.a", 2.0))
    deriver.catch_up()
    assert index(record) == {("p.a", 1): 2.0}


def test_a_measurement_whose_name_cannot_be_stored_is_not_derived(
    record: Record, deriver: Deriver
) -> None:
    items = [measured("p.\x00"), measured("p.instrument"), measured("p.a")]
    store_job(record, body=make_body(*items))
    deriver.catch_up()
    assert index(record) == {("p.a", 1): 1.0}


def test_runs_are_derived_as_far_as_is_asked_and_the_index_not_at_all(
    record: Record, deriver: Deriver
) -> None:
    for _ in range(3):
        store_job(record)
    deriver.derive_runs_through(2)
    assert (runs_known(record), through(record)) == (2, 0)


def test_runs_are_derived_no_further_than_the_last_job(record: Record, deriver: Deriver) -> None:
    store_job(record)
    deriver.derive_runs_through(10**9)
    store_job(record)
    deriver.catch_up()
    assert (runs_known(record), through(record)) == (2, 2)


def test_the_runs_do_not_wait_for_the_index(record: Record, deriver: Deriver) -> None:
    store_job(record)
    with deriver._index_lock:
        thread = threading.Thread(target=deriver.derive_runs_through, args=(1,))
        thread.start()
        thread.join(20)
        assert (runs_known(record), through(record)) == (1, 0)


def test_some_is_a_batch_of_runs_and_of_the_index(record: Record, deriver: Deriver) -> None:
    for _ in range(derivation._BATCH + 1):
        store_job(record)
    progress = []
    while deriver.derive_some():
        progress.append((runs_known(record), through(record)))
    first, last = derivation._BATCH, derivation._BATCH + 1
    assert progress == [(first, first), (last, last)]


def test_the_index_never_overtakes_the_runs(record: Record, deriver: Deriver) -> None:
    for _ in range(derivation._BATCH + 1):
        store_job(record)
    batches: list[tuple[int, int]] = []
    with patch("squash_api.index.deriver.store_runs", return_value=False):
        batches += [
            (runs_known(record), through(record)) for _ in range(2) if deriver.derive_some()
        ]
    assert batches == [(0, 0), (0, 0)]


def test_any_number_of_jobs_is_derived_in_batches(record: Record, deriver: Deriver) -> None:
    for _ in range(derivation._BATCH + 3):
        store_job(record, body=make_body(measured()))
    deriver.catch_up()
    assert len(index(record)) == through(record) == derivation._BATCH + 3


def test_a_deleted_job_is_passed_over(record: Record, deriver: Deriver) -> None:
    store_job(record, body=make_body(measured()))
    store_job(record, body=make_body(measured()))
    record.write(lambda connection: bury_jobs(connection, [1], user_id=1, deleted_ns=9))
    deriver.catch_up()
    assert index(record) == {("p.a", 2): 1.0}


def test_metrics_that_are_new_since_the_last_time_are_known(
    record: Record, deriver: Deriver
) -> None:
    record.write(lambda connection: declare_metrics(connection, {"p.a": "mag"}))
    store_job(record, body=make_body(measured("p.a", 500.0, "mmag")))
    deriver.catch_up()
    assert index(record) == {("p.a", 1): 0.5}


def test_what_changes_while_it_is_derived_is_derived_anew(record: Record, deriver: Deriver) -> None:
    store_job(record, body=make_body(measured("p.a", 1.0)))
    original = document_of
    interruptions = [lambda: add_to(record, 1, measured("p.a", 2.0))]

    def interrupted(*arguments: Any) -> Job:
        while interruptions:
            interruptions.pop()()
        return original(*arguments)

    deriver.derive_runs_through(1)
    with patch("squash_api.index.deriver.document_of", interrupted):
        deriver.catch_up()
    assert index(record) == {("p.a", 1): 2.0}


def test_a_job_that_is_deleted_after_its_run_was_derived_is_not_in_the_index(
    record: Record, deriver: Deriver
) -> None:
    for _ in range(2):
        store_job(record, body=make_body(measured()))
    deriver.derive_runs_through(2)
    record.write(lambda connection: bury_jobs(connection, [1], user_id=1, deleted_ns=9))
    deriver.catch_up()
    assert (index(record), count(record)) == ({("p.a", 2): 1.0}, 1)


@pytest.mark.parametrize("is_in_the_index", [False, True])
def test_what_is_added_after_the_run_was_derived_is_counted(
    record: Record, deriver: Deriver, *, is_in_the_index: bool
) -> None:
    store_job(record, body=make_body(measured("p.a")))
    if is_in_the_index:
        deriver.catch_up()
    else:
        deriver.derive_runs_through(1)
    assert count(record) == 1
    add_to(record, 1, measured("p.b"))
    record.write(lambda connection: mark_for_rederivation(connection, [1]))
    while deriver.derive_some():
        pass
    assert index(record) == {("p.a", 1): 1.0, ("p.b", 1): 1.0}
    assert count(record) == 2


def test_two_derivers_at_once_derive_every_job_once(record: Record) -> None:
    for _ in range(80):
        store_job(record, body=make_body(measured()))
    derivers = [Deriver(record, Metrics(record, Schema())) for _ in range(2)]
    threads = [threading.Thread(target=deriver.catch_up) for deriver in derivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert index(record) == {("p.a", number): 1.0 for number in range(1, 81)}
    assert (runs_known(record), count(record)) == (80, 80)


# Again


def test_nothing_is_derived_again_unasked(record: Record, deriver: Deriver) -> None:
    store_job(record)
    deriver.catch_up()
    assert not deriver.rederive_some()


def test_jobs_are_derived_again_in_the_new_unit(record: Record, deriver: Deriver) -> None:
    store_job(record, body=make_body(measured("p.a", 500.0)))
    deriver.catch_up()
    record.write(lambda connection: declare_metrics(connection, {"p.a": "mag"}))
    record.write(lambda connection: mark_for_rederivation(connection, [1]))
    assert deriver.rederive_some()
    assert index(record) == {("p.a", 1): 0.5}
    assert not deriver.rederive_some()


def test_jobs_that_keep_coming_do_not_hold_up_what_is_derived_again(
    record: Record, deriver: Deriver
) -> None:
    store_job(record, body=make_body(measured("p.a", 500.0)))
    deriver.catch_up()
    record.write(lambda connection: declare_metrics(connection, {"p.a": "mag"}))
    record.write(lambda connection: mark_for_rederivation(connection, [1]))
    store_job(record)
    assert deriver.derive_some()
    assert index(record) == {("p.a", 1): 0.5}


def test_a_job_that_is_deleted_while_it_is_derived_again_leaves_the_others(
    record: Record, deriver: Deriver
) -> None:
    for _ in range(2):
        store_job(record, body=make_body(measured()))
    deriver.catch_up()
    record.write(lambda connection: mark_for_rederivation(connection, [1, 2]))
    record.write(lambda connection: bury_jobs(connection, [1], user_id=1, deleted_ns=9))
    rounds = 0
    while deriver.rederive_some():
        rounds += 1
        assert rounds < 5


def as_skipped(record: Record, *, job_id: int) -> None:
    """Put what a release has derived that did not understand the units of a job."""

    def work(connection: Any) -> None:
        connection.execute(delete(state).where(state.c.key == "reading"))
        connection.execute(
            update(measurement).where(measurement.c.job_id == job_id).values(value=None)
        )
        connection.execute(update(job).where(job.c.id == job_id).values(is_deliverable=False))

    record.write(work)


def derive_all(deriver: Deriver) -> None:
    while deriver.derive_some():
        pass


def resent(record: Record) -> list[int]:
    """Return the jobs that have values to send, and are sent again."""
    with record.read() as connection:
        rows = select(redelivery.c.job_id).join(job, job.c.id == redelivery.c.job_id)
        return sorted(connection.execute(rows.where(job.c.is_deliverable)).scalars())


@pytest.fixture
def upgraded(record: Record, deriver: Deriver) -> Record:
    """A record in which a release before this one skipped the value of the second of three jobs."""
    record.write(lambda connection: ensure_targets(connection, ["base"]))
    for unit in ("mmag", "millimag", "nonsense"):
        store_job(record, body=make_body(measured("p.a", 2.5, unit)))
    derive_all(deriver)
    as_skipped(record, job_id=2)
    return record


def test_what_an_older_release_could_not_read_is_read_after_an_upgrade(
    upgraded: Record, deriver: Deriver
) -> None:
    check_reading(upgraded)
    derive_all(deriver)
    assert index(upgraded) == {("p.a", 1): 2.5, ("p.a", 2): 2.5, ("p.a", 3): None}
    assert resent(upgraded) == [2]


def test_jobs_are_looked_through_once(upgraded: Record, deriver: Deriver) -> None:
    check_reading(upgraded)
    derive_all(deriver)
    upgraded.write(lambda connection: connection.execute(delete(redelivery)))
    check_reading(upgraded)
    assert deriver.derive_some() is False
    assert resent(upgraded) == []


def test_a_job_that_was_sent_before_it_was_derived_is_sent_again_after_an_upgrade(
    upgraded: Record, deriver: Deriver
) -> None:
    store_job(upgraded, body=make_body(measured("p.a", 1.5, "millimag")), is_deliverable=False)
    check_reading(upgraded)
    derive_all(deriver)
    assert resent(upgraded) == [2, 4]


def test_a_measurement_that_was_added_is_looked_at_too(record: Record, deriver: Deriver) -> None:
    record.write(lambda connection: ensure_targets(connection, ["base"]))
    store_job(record)
    add_to(record, 1, measured("p.a", 2.5, "millimag"))
    derive_all(deriver)
    as_skipped(record, job_id=1)
    check_reading(record)
    derive_all(deriver)
    assert index(record) == {("p.a", 1): 2.5}


def test_a_metric_gets_the_first_unit_that_is_read_after_an_upgrade(
    record: Record, deriver: Deriver
) -> None:
    for unit in ("counts", "millimag", "counts"):
        store_job(record, body=make_body(measured("p.b", 2.5, unit)))
    derive_all(deriver)
    for job_id in (1, 2, 3):
        as_skipped(record, job_id=job_id)
    record.write(lambda connection: connection.execute(update(metric).values(unit=None)))
    check_reading(record)
    derive_all(deriver)
    known = Metrics(record, Schema()).now.by_name["p.b"]
    # As if the jobs had just been received: who sent them may have another unit of their own.
    assert (known.unit, known.unit_by) == ("ct", 1)
    assert index(record)["p.b", 3] == 2.5
