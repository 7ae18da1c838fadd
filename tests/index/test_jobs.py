import threading
from typing import Any

import pytest

from squash_api.accounts.accounts import Account
from squash_api.errors import ForbiddenError, InvalidInputError, NotFoundError
from squash_api.index.jobs import delete_job, post_measurement
from squash_api.record.deliveries import (
    ensure_targets,
    mark_sent,
    mark_taken,
    pending_erasures,
    pending_redeliveries,
)
from squash_api.record.jobs import get_job
from squash_api.record.metrics import Metrics
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from tests.support.builders import add_test_user, make_body, measured, store_job

ADA = Account(1, "ada", "user", 1)
BOB = Account(2, "bob", "user", 1)
ROOT = Account(3, "root", "admin", 1)


@pytest.fixture
def record(record: Record) -> Record:
    add_test_user(record, "root")
    record.write(lambda connection: ensure_targets(connection, ["summit", "base"]))
    return record


@pytest.fixture
def metrics(record: Record) -> Metrics:
    return Metrics(record, Schema())


def new_job(record: Record, *measurements: dict[str, Any], **changes: Any) -> int:
    units = {item["metric"]: item["unit"] for item in measurements}
    return store_job(record, body=make_body(*measurements), new_units=units, **changes)


def add(
    record: Record,
    metrics: Metrics,
    job: int,
    document: dict[str, Any],
    account: Account = ADA,
) -> None:
    post_measurement(record, metrics, job_id=job, document=document, account=account)


def test_a_deleted_job_leaves_who_and_when(record: Record) -> None:
    job = new_job(record, measured())
    delete_job(record, job, account=ADA)
    with record.read() as connection:
        row = get_job(connection, job)
    assert row is not None
    assert (row.body, row.user_id) == (None, 1)
    assert row.deleted_ns is not None


def test_the_points_of_a_deleted_job_are_to_be_erased_by_time_at_every_target(
    record: Record,
) -> None:
    job = new_job(record, measured("p.a"), measured("p.b"), measured("q.a"), asked_ns=77)
    delete_job(record, job, account=ADA)
    for name in ("summit", "base"):
        with record.read() as connection:
            (erasure,) = pending_erasures(connection, name, limit=10)
        assert (erasure.job_id, erasure.time_ns, erasure.measurements) == (job, 77, ("p", "q"))


def test_influxdb_is_not_asked_to_erase_what_it_cannot_hold(record: Record) -> None:
    job = store_job(record, body=make_body(measured("a\nb.c"), measured("nodot"), measured("p.a")))
    delete_job(record, job, account=ADA)
    with record.read() as connection:
        (erasure,) = pending_erasures(connection, "base", limit=10)
    assert erasure.measurements == ("p",)


def test_an_admin_may_delete_what_is_somebody_elses(record: Record) -> None:
    jobs = [new_job(record, measured(), asked_ns=n) for n in (1, 2)]
    with pytest.raises(ForbiddenError, match="Only its owner and admins may delete job 1"):
        delete_job(record, jobs[0], account=BOB)
    delete_job(record, jobs[0], account=ROOT)
    with pytest.raises(NotFoundError):
        delete_job(record, jobs[0], account=ROOT)


def test_an_added_measurement_is_sent_to_targets_that_had_the_job(
    record: Record, metrics: Metrics
) -> None:
    job = new_job(record, measured())
    record.write(lambda c: mark_taken(c, "base", after=0, through=job))
    record.write(
        lambda c: mark_sent(c, "base", through=job, redelivered=[], quarantined=[], now_ns=1)
    )
    add(record, metrics, job, measured("p.b"))
    with record.read() as connection:
        assert [item[0] for item in pending_redeliveries(connection, "base", limit=10)] == [job]


def test_a_refused_measurement_changes_nothing(record: Record, metrics: Metrics) -> None:
    job = new_job(record, measured("p.a", 1.0, "mag"))
    with pytest.raises(InvalidInputError, match="unit 'm' does not convert"):
        add(record, metrics, job, measured("p.a", 1.0, "m"))
    with pytest.raises(ForbiddenError):
        add(record, metrics, job, measured("p.new"), BOB)
    metrics.refresh()
    assert set(metrics.now.by_name) == {"p.a"}


def test_a_measurement_is_judged_by_the_record_not_by_what_is_remembered(
    record: Record, metrics: Metrics
) -> None:
    job = new_job(record)
    behind = Metrics(record, Schema())
    add(record, metrics, job, measured("p.a", 1.0, "mag"))
    assert "p.a" not in behind.now.by_name
    with pytest.raises(InvalidInputError, match="does not convert"):
        add(record, behind, job, measured("p.a", 1.0, "m"))


def test_one_of_two_first_measurements_at_once_gives_the_unit(
    record: Record, metrics: Metrics
) -> None:
    job = new_job(record)
    outcomes: list[str] = []
    barrier = threading.Barrier(6)

    def run(unit: str) -> None:
        barrier.wait()
        try:
            add(record, metrics, job, measured("p.a", 1.0, unit))
            outcomes.append(unit)
        except InvalidInputError:
            outcomes.append("")

    threads = [threading.Thread(target=run, args=[unit]) for unit in ("mag", "m") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[:3] == ["", "", ""]
    assert len(set(outcomes)) == 2
