from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select, update

from squash_api.index.derived import jobs_to_rederive, requeue_metrics, store_derived
from squash_api.record.deliveries import (
    ensure_targets,
    mark_sent,
    pending_redeliveries,
    request_redelivery,
)
from squash_api.record.metrics import declare_metrics, metric_ids
from squash_api.record.record import Record
from squash_api.record.tables import job, measurement, redelivery, rederivation, target, user
from tests.support.builders import open_record


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    opened = open_record(tmp_path)
    opened.write(_add_users)
    yield opened
    opened.close()


def _add_users(connection: Connection) -> None:
    for name in ("ada", "bob"):
        connection.execute(
            insert(user).values(
                name=name, password_hash="-", role="user", epoch=1, is_disabled=False, created_ns=0
            )
        )


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
