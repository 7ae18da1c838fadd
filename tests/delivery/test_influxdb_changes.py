"""Jobs that change, are deleted or asked for again, also while they are sent."""

import time
from collections.abc import Callable
from concurrent.futures import wait

import httpx
import pytest
from sqlalchemy import Connection

from squash_api.delivery import batches
from squash_api.delivery import outlet as outlets
from squash_api.delivery.influxdb import InfluxOutlet
from squash_api.index.derived import requeue_metrics
from squash_api.influx.client import InfluxError
from squash_api.record.deliveries import (
    Erasure,
    request_erasure,
    request_redelivery,
    request_rewriting,
)
from squash_api.record.jobs import add_measurement, bury_job
from squash_api.record.metrics import declare_metrics
from squash_api.record.record import Record
from tests.support.builders import make_body, measured, store_job
from tests.support.fake_influxdb import Answer, FakeInfluxDB, refusal
from tests.support.outlets import (
    CONFLICT,
    batches_of,
    drain,
    new_jobs,
    new_outlet,
    state,
    step,
    target,
    waiting,
)

# What happens while the next batch has been made already


def while_one_is_ahead(
    influxdb: FakeInfluxDB, outlet: InfluxOutlet, happens: Callable[[], object]
) -> None:
    """Do something while the first batch is written and the second one has been made."""

    def judge(_lines: list[str]) -> Answer | None:
        influxdb.judge = lambda _: None
        ahead = outlet._new._ahead
        assert ahead is not None
        wait([ahead])
        answer = happens()
        return answer if isinstance(answer, Exception) else None

    influxdb.judge = judge


def values_of(influxdb: FakeInfluxDB, time_ns: int) -> list[str]:
    """Return the values that were sent for a time, in order."""
    return [
        line.partition(" a=")[2].split(",")[0] or line.partition(",a=")[2].split(" ")[0]
        for line in influxdb.lines
        if line.endswith(f" {time_ns}")
    ]


def test_a_unit_that_changes_is_that_of_the_last_value_sent(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(1, monkeypatch)
    new_jobs(record, 4)

    def change() -> None:
        def work(connection: Connection) -> None:
            declare_metrics(connection, {"p.a": "mag"})
            requeue_metrics(connection, ["p.a"], request=7)

        record.write(work)

    while_one_is_ahead(influxdb, outlet, change)
    drain(outlet)
    assert waiting(record) == 0
    assert [values_of(influxdb, 1_000 + number)[-1] for number in range(4)] == ["0.0015"] * 4
    assert values_of(influxdb, 1_001)[:2] == ["1.5", "0.0015"]


def test_a_job_deleted_meanwhile_is_deleted_after_it_was_sent(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MOST_BYTES", 1)
    jobs = new_jobs(record, 4)
    written: list[int] = []

    def delete_second() -> None:
        delete(record, jobs[1], 1_001)
        influxdb.when_asked = lambda _: written.append(len(values_of(influxdb, 1_001)))

    while_one_is_ahead(influxdb, outlet, delete_second)
    drain(outlet)
    assert influxdb.statements == ['DELETE FROM "p" WHERE time = 1001']
    assert (written, len(values_of(influxdb, 1_001))) == ([1], 1)
    assert waiting(record) == 0


def test_what_was_made_before_a_failure_is_made_anew(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(1, monkeypatch)
    new_jobs(record, 3)

    def fail() -> Exception:
        record.write(lambda connection: declare_metrics(connection, {"p.a": "mag"}))
        return httpx.ConnectError("gone")

    while_one_is_ahead(influxdb, outlet, fail)
    assert step(outlet) > 0
    assert not outlet._new.is_ahead()
    drain(outlet)
    assert [values_of(influxdb, 1_000 + number) for number in range(3)] == [["0.0015"]] * 3


def test_what_was_made_before_the_lease_was_lost_is_not_sent(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(1, monkeypatch)
    new_jobs(record, 3)
    assert step(outlet) == 0.0
    assert outlet._new.is_ahead()
    standby = new_outlet(record, influxdb)
    later = time.time_ns() + 10**12
    monkeypatch.setattr(time, "time_ns", lambda: later)
    drain(standby)
    assert step(outlet) == outlets.STANDBY.longest_s
    assert not outlet._new.is_ahead()
    assert len(influxdb.lines) == 3


def test_while_something_waits_to_be_deleted_nothing_is_made_ahead(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(1, monkeypatch)
    jobs = new_jobs(record, 4)
    influxdb.query_answer = refusal(400, "DELETE is not supported")
    delete(record, jobs[3], 1_003)
    while step(outlet) == 0.0:
        assert not outlet._new.is_ahead()
    assert len(influxdb.lines) == 3


def test_what_is_asked_for_again_is_sent_again_and_leaves_quarantine(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    (job,) = new_jobs(record)
    influxdb.answers = [refusal(400, CONFLICT)]
    drain(outlet)
    assert state(record, job).state == "FAILURE"
    record.write(lambda c: request_redelivery(c, [job], targets=["default"], request=1))
    assert (state(record, job).state, waiting(record)) == ("PENDING", 1)
    drain(outlet)
    assert (state(record, job).state, waiting(record)) == ("SUCCESS", 0)
    assert len(influxdb.lines) == 1


def test_a_request_that_comes_while_its_job_is_sent_again_is_served_too(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    (job,) = new_jobs(record)
    drain(outlet)
    record.write(lambda c: request_redelivery(c, [job], targets=["default"], request=1))

    def ask_once_more(_: list[str]) -> None:
        influxdb.judge = lambda _: None
        record.write(lambda c: request_redelivery(c, [job], targets=["default"], request=2))

    influxdb.judge = ask_once_more
    drain(outlet)
    assert (len(influxdb.lines), waiting(record)) == (3, 0)


def delete(record: Record, job: int, time_ns: int) -> None:
    erasure = Erasure(job, time_ns, ("p",))
    record.write(lambda c: request_erasure(c, erasure, targets=["default"]))
    record.write(lambda c: bury_job(c, job_id=job, user_id=1, deleted_ns=9))


def test_the_points_of_a_deleted_job_are_deleted_by_their_time(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    jobs = new_jobs(record, 2)
    drain(outlet)
    delete(record, jobs[1], 1_001)
    drain(outlet)
    assert influxdb.statements == ['DELETE FROM "p" WHERE time = 1001']
    assert waiting(record) == 0


def withdraw(record: Record, job: int, time_ns: int) -> None:
    """Replace the value of a job by null, as `POST /measurement` does."""
    nothing: dict[str, object] = {"metric": "p.a", "value": None, "unit": None}

    def work(connection: Connection) -> None:
        add_measurement(connection, job_id=job, document=nothing, user_id=1, created_ns=1)
        request_rewriting(connection, [Erasure(job, time_ns, ("p",))])
        request_redelivery(connection, [job], targets=["default"], request=time.time_ns())

    record.write(work)


def test_a_point_that_has_lost_its_only_value_is_deleted(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    jobs = new_jobs(record, 2)
    drain(outlet)
    withdraw(record, jobs[1], 1_001)
    drain(outlet)
    assert influxdb.statements == ['DELETE FROM "p" WHERE time = 1001']
    assert (waiting(record), len(influxdb.lines)) == (0, 2)


def test_a_point_that_has_lost_a_value_is_deleted_and_written_again(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    job_id = store_job(record, asked_ns=5, body=make_body(measured("p.a"), measured("p.b")))
    drain(outlet)
    withdraw(record, job_id, 5)
    drain(outlet)
    (statement,) = influxdb.statements
    assert (statement, len(influxdb.lines)) == ('DELETE FROM "p" WHERE time = 5', 2)
    assert (",a=" in influxdb.lines[1], ",b=" in influxdb.lines[1]) == (False, True)


def test_a_point_deleted_but_not_written_again_is_deleted_and_written_after_a_failure(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    job_id = store_job(record, asked_ns=5, body=make_body(measured("p.a"), measured("p.b")))
    drain(outlet)
    withdraw(record, job_id, 5)
    influxdb.answers = [httpx.ConnectError("gone")]
    with pytest.raises(InfluxError):
        outlet.send_some()
    assert state(record, job_id).state == "PENDING"
    drain(outlet)
    assert (len(influxdb.statements), len(influxdb.lines)) == (2, 2)
    assert state(record, job_id).state == "SUCCESS"


def test_an_influxdb_that_cannot_delete_gets_what_is_left_of_a_job(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    job_id = store_job(record, asked_ns=5, body=make_body(measured("p.a"), measured("p.b")))
    drain(outlet)
    withdraw(record, job_id, 5)
    influxdb.query_answer = refusal(400, "DELETE is not supported")
    new_jobs(record)
    for _ in range(2):
        with pytest.raises(InfluxError, match="DELETE is not supported"):
            outlet.send_some()
    assert len(influxdb.lines) == 3
    assert state(record, job_id).state == "PENDING"


def test_a_job_deleted_before_it_was_sent_is_never_sent(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    jobs = new_jobs(record, 2)
    delete(record, jobs[0], 1_000)
    drain(outlet)
    assert [line.rpartition(" ")[2] for line in influxdb.lines] == ["1001"]


def test_a_deletion_waits_for_influxdb_and_trouble_ends_with_it(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    (job,) = new_jobs(record)
    drain(outlet)
    delete(record, job, 1_000)
    influxdb.is_up = False
    step(outlet)
    assert (waiting(record), target(record).trouble is None) == (1, False)
    influxdb.is_up = True
    drain(outlet)
    assert (waiting(record), target(record).trouble) == (0, None)


def test_an_influxdb_that_cannot_delete_gets_its_jobs_all_the_same(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    new_jobs(record, 1)
    drain(outlet)
    delete(record, 1, 1_000)
    influxdb.query_answer = refusal(400, "DELETE is not supported")
    store_job(record, asked_ns=5_000, body=make_body(measured("p.a", 2.5)))
    step(outlet)
    assert len(influxdb.lines) == 2
    assert "DELETE is not supported" in (target(record).trouble or "")
