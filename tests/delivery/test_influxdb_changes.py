"""Jobs that change, are deleted or asked for again, also while they are sent."""

import time
from collections.abc import Callable
from concurrent.futures import wait

import httpx
import pytest
from sqlalchemy import Connection, select, update
from structlog.testing import capture_logs

from squash_api.delivery import batches
from squash_api.delivery import influxdb as influxdb_outlet
from squash_api.delivery import outlet as outlets
from squash_api.delivery.influxdb import InfluxOutlet
from squash_api.index.derived import requeue_metrics
from squash_api.influx.client import InfluxError
from squash_api.record.deliveries import (
    Backlog,
    Erasure,
    JobDelivery,
    backlogs,
    request_erasures,
    request_redelivery,
    request_rewriting,
)
from squash_api.record.jobs import add_measurement, bury_jobs
from squash_api.record.metrics import declare_metrics
from squash_api.record.record import Record
from squash_api.record.tables import erasure
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

POLICY = {"columns": ["name", "duration", "default"], "values": [["autogen", "0s", True]]}

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
    record.write(lambda c: request_erasures(c, [erasure], targets=["default"]))
    record.write(lambda c: bury_jobs(c, [job], user_id=1, deleted_ns=9))


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
    drain(outlet)
    assert len(influxdb.lines) == 3
    assert state(record, job_id) == JobDelivery("default", "FAILURE", ("DELETE is not supported",))


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
    drain(outlet)
    assert len(influxdb.lines) == 2
    (found,) = backlog(record)
    assert (found.waiting, found.quarantined, found.trouble) == (0, 1, None)
    assert (found.undeleted, found.undeleted_reason) == (1, "DELETE is not supported")


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refused_deletion_is_tried_again_later_and_holds_up_nobody(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, status: int
) -> None:
    jobs = new_jobs(record, 3)
    drain(outlet)
    influxdb.query_answer = refusal(status, "read-only")
    for job_id in jobs[:2]:
        delete(record, job_id, 999 + job_id)
    drain(outlet)
    asked = len(influxdb.statements)
    drain(outlet)
    assert (len(influxdb.statements), outlet.is_well) == (asked, True)
    waits = [due(record, jobs[0])]
    for _ in range(10):
        drain(outlet)
        waits.append(due(record, jobs[0]))
    assert [wait / 10**9 for wait in waits[:3]] == pytest.approx([30, 60, 120], abs=10)
    assert waits[-1] / 10**9 == pytest.approx(3600, abs=10)
    influxdb.query_answer = None
    for job_id in jobs[:2]:
        due(record, job_id)
    drain(outlet)
    (found,) = backlog(record)
    assert (found.waiting, found.quarantined, found.undeleted) == (0, 0, 0)


def due(record: Record, job_id: int) -> int:
    """Return in how many ns the deletion of a job is tried again, and let it be now."""
    with record._writing.begin() as connection:
        is_row = erasure.c.job_id == job_id
        found = connection.execute(select(erasure.c.again_ns).where(is_row)).scalar_one()
        connection.execute(update(erasure).where(is_row).values(again_ns=1))
    return int(found - time.time_ns())


def backlog(record: Record) -> list[Backlog]:
    with record.read() as connection:
        return backlogs(connection, targets=["default"])


# The database loses its points


def test_a_database_that_was_dropped_is_filled_again_and_said_to_be(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    jobs = new_jobs(record, 3)
    drain(outlet)
    influxdb.batches.clear()
    influxdb.answers = [refusal(404, 'database not found: "squash"')]
    new = store_job(record, asked_ns=5_000, body=make_body(measured("p.a", 2.5)))
    step(outlet)
    assert [state(record, job_id).state for job_id in jobs] == ["PENDING"] * 3
    (found,) = backlog(record)
    assert (found.waiting, found.refill_since_ns is None) == (4, False)
    drain(outlet)
    times = [line.rpartition(" ")[2] for line in influxdb.lines]
    assert sorted(set(times)) == ["1000", "1001", "1002", "5000"]
    assert [state(record, job_id).state for job_id in [*jobs, new]] == ["SUCCESS"] * 4
    assert backlog(record)[0].refill_since_ns is None


@pytest.mark.parametrize("is_filling", [False, True])
def test_a_database_that_is_empty_without_having_been_missing_is_noticed(
    record: Record,
    influxdb: FakeInfluxDB,
    outlet: InfluxOutlet,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_filling: bool,
) -> None:
    monkeypatch.setattr(influxdb_outlet, "_LONGEST_SILENCE_S", 0.0)
    new_jobs(record, 3)
    drain(outlet)
    influxdb.batches.clear()
    influxdb.series = [POLICY]
    if is_filling:
        store_job(record, asked_ns=5_000, body=make_body(measured("p.a", 2.5)))
    drain(outlet)
    times = {line.rpartition(" ")[2] for line in influxdb.lines}
    assert times == {"1000", "1001", "1002", *(["5000"] if is_filling else [])}


def test_a_database_that_is_emptied_after_its_last_job_was_deleted_is_filled_again(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = new_jobs(record, 3)
    drain(outlet)
    delete(record, jobs[-1], 1_000)
    drain(outlet)
    monkeypatch.setattr(influxdb_outlet, "_LONGEST_SILENCE_S", 0.0)
    influxdb.batches.clear()
    influxdb.series = [POLICY]
    drain(outlet)
    assert {line.rpartition(" ")[2] for line in influxdb.lines} == {"1000", "1001"}


def test_a_new_database_is_made_without_a_word(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    influxdb.answers = [refusal(404, 'database not found: "squash"')]
    new_jobs(record)
    step(outlet)
    assert backlog(record)[0].refill_since_ns is None
    assert len(influxdb.lines) == 1


def test_the_watch_does_not_make_a_lost_database_in_silence(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    jobs = new_jobs(record)
    drain(outlet)
    influxdb.batches.clear()
    influxdb.answers = [refusal(404, 'database not found: "squash"')]
    outlet.write_extra(["squash_heartbeat up=1 5"])
    assert state(record, jobs[0]).state == "PENDING"
    drain(outlet)
    assert len(influxdb.lines) == 2


def test_a_part_that_is_lost_is_said_with_advice_and_not_taken_for_the_whole(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(influxdb_outlet, "_LONGEST_SILENCE_S", 0.0)
    jobs = new_jobs(record, 3)
    drain(outlet)
    influxdb.batches[0].pop()
    influxdb.series = [POLICY]
    with capture_logs() as log:
        drain(outlet)
    assert [entry["event"].rpartition(": ")[2] for entry in log] == ["run squash reconcile"]
    assert state(record, jobs[0]).state == "SUCCESS"
    assert len(influxdb.lines) == 2


@pytest.mark.parametrize("what", ["deleted", "without values", "too old"])
def test_a_database_that_is_rightly_empty_is_left_alone(
    record: Record,
    influxdb: FakeInfluxDB,
    outlet: InfluxOutlet,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(influxdb_outlet, "_LONGEST_SILENCE_S", 0.0)
    jobs = new_jobs(record, 1, value=None if what == "without values" else 1.0)
    drain(outlet)
    if what == "deleted":
        delete(record, jobs[0], 1_000)
    drain(outlet)
    influxdb.batches.clear()
    influxdb.series = [{**POLICY, "values": [["short", "168h0m0s", True]]}]
    drain(outlet)
    assert influxdb.lines == []
