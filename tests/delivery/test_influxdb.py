import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Connection

from squash_api.delivery import batches
from squash_api.delivery import influxdb as influxdb_outlet
from squash_api.delivery import outlet as outlets
from squash_api.delivery.batches import PointMaker
from squash_api.delivery.influxdb import InfluxOutlet
from squash_api.delivery.outlet import GATHER
from squash_api.delivery.reader import NO_WAIT
from squash_api.errors import RecordUnavailableError
from squash_api.index.derived import derived_through, requeue_metrics
from squash_api.index.deriver import Deriver
from squash_api.index.runs import runs_through
from squash_api.influx.client import InfluxError
from squash_api.record.deliveries import (
    Erasure,
    JobDelivery,
    TargetRow,
    backlogs,
    ensure_targets,
    get_target,
    job_deliveries,
    request_erasure,
    request_redelivery,
)
from squash_api.record.jobs import bury_job, get_job
from squash_api.record.metrics import Metrics, declare_metrics
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from squash_api.settings import InfluxTarget
from tests.support.builders import make_body, measured, store_job
from tests.support.fake_influxdb import Answer, FakeInfluxDB, refusal
from tests.support.site import wait_for

CONFLICT = 'partial write: field type conflict: input field "a" dropped=1'


@pytest.fixture
def influxdb() -> FakeInfluxDB:
    return FakeInfluxDB()


@pytest.fixture
def outlet(record: Record, influxdb: FakeInfluxDB) -> InfluxOutlet:
    return new_outlet(record, influxdb)


def new_outlet(record: Record, influxdb: FakeInfluxDB, name: str = "default") -> InfluxOutlet:
    metrics = Metrics(record, Schema())
    deriver = Deriver(record, metrics)
    return InfluxOutlet(
        InfluxTarget(name=name, url="http://influx.invalid", token=SecretStr("t0k")),
        record,
        PointMaker(record, metrics, deriver, squash_url="https://squash.example/api"),
        transport=httpx.MockTransport(influxdb),
    )


def new_jobs(record: Record, count: int = 1, *, value: float | None = 1.5) -> list[int]:
    return [
        store_job(
            record,
            asked_ns=1_000 + number,
            body=make_body(measured("p.a", value), instrument="HSC"),
            is_deliverable=value is not None,
            new_units={"p.a": "mmag"} if number == 0 else {},
        )
        for number in range(count)
    ]


def step(outlet: InfluxOutlet) -> float:
    """Do one round; return the longest wait before the next, in s."""
    return outlet.round().longest_s


def drain(outlet: InfluxOutlet) -> None:
    """Do rounds until there is nothing to do."""
    while outlet.round() in (NO_WAIT, GATHER):
        pass


def target(record: Record, name: str = "default") -> TargetRow:
    with record.read() as connection:
        return get_target(connection, name)


def waiting(record: Record, name: str = "default") -> int:
    with record.read() as connection:
        (found,) = backlogs(connection, targets=[name])
    return found.waiting


def state(record: Record, job: int, name: str = "default") -> JobDelivery:
    with record.read() as connection:
        row = get_job(connection, job)
        assert row is not None
        (found,) = job_deliveries(connection, row, targets=[name])
    return found


def test_jobs_waiting_go_out_in_one_request_in_their_order(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    jobs = new_jobs(record, 3)
    drain(outlet)
    ((first, *rest),) = influxdb.batches
    assert [line.rpartition(" ")[2] for line in (first, *rest)] == ["1000", "1001", "1002"]
    assert [state(record, job).state for job in jobs] == ["SUCCESS"] * 3


def test_a_point_says_what_the_record_says(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    new_jobs(record)
    drain(outlet)
    (line,) = influxdb.lines
    assert line.startswith("p,instrument=HSC ")
    for part in ("a=1.5", "squash_id=1", 'squash_url="https://squash.example/api/job/1"'):
        assert part in line


def test_credentials_go_with_every_write(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    new_jobs(record)
    drain(outlet)
    assert [headers["Authorization"] for headers in influxdb.headers] == ["Token t0k"]


def test_with_nothing_to_do_influxdb_is_left_alone_and_the_round_waits(
    influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    assert step(outlet) > 0
    assert influxdb.batches == []


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError("connection refused"),
        httpx.ReadTimeout("timed out"),
        httpx.RemoteProtocolError("closed"),
        refusal(500, "timeout"),
        refusal(503, "engine: cache-max-memory-size exceeded"),
        refusal(429, "too many requests"),
        httpx.Response(502, text="<html>Bad Gateway</html>"),
        httpx.Response(200, text="hello from a captive portal"),
    ],
)
def test_what_may_pass_is_tried_again_and_nothing_is_lost_or_quarantined(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, answer: Answer
) -> None:
    (job,) = new_jobs(record)
    influxdb.answers = [answer]
    assert 0 < step(outlet) <= 0.25
    assert state(record, job).state == "STARTED"
    assert target(record).trouble is not None
    drain(outlet)
    assert state(record, job).state == "SUCCESS"
    assert (len(influxdb.lines), target(record).trouble) == (1, None)


def test_the_wait_grows_with_jitter_to_a_bound_and_ends_with_success(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    new_jobs(record)
    influxdb.is_up = False
    waits = [step(outlet) for _ in range(12)]
    for number, wait_s in enumerate(waits):
        longest = min(outlets.LONGEST_WAIT_S, outlets.FIRST_WAIT_S * 2**number)
        assert longest / 2 <= wait_s <= longest
    assert len(set(waits)) == len(waits)
    influxdb.is_up = True
    drain(outlet)
    influxdb.is_up = False
    new = store_job(record, asked_ns=5, body=make_body(measured()))
    assert step(outlet) <= 0.25
    assert state(record, new).state in {"PENDING", "STARTED"}


def test_trouble_says_since_when(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    new_jobs(record)
    influxdb.is_up = False
    before = time.time_ns()
    step(outlet)
    first = target(record)
    step(outlet)
    again = target(record)
    assert first.trouble is not None
    assert "connection refused" in first.trouble
    assert first.trouble_since_ns is not None
    assert first.trouble_since_ns >= before
    assert again.trouble_since_ns == first.trouble_since_ns


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_pause_and_show(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, status: int
) -> None:
    (job,) = new_jobs(record)
    influxdb.answers = [refusal(status, "authorization failed")]
    assert step(outlet) == outlets.REFUSED.longest_s
    assert "authorization failed" in (target(record).trouble or "")
    assert state(record, job).state == "STARTED"
    drain(outlet)
    assert state(record, job).state == "SUCCESS"


def test_a_bad_line_is_quarantined_with_its_words_and_the_others_arrive(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    jobs = new_jobs(record, 7)
    influxdb.judge = lambda lines: (
        refusal(400, CONFLICT) if any(line.endswith(" 1004") for line in lines) else None
    )
    drain(outlet)
    assert {line.rpartition(" ")[2] for line in influxdb.lines} == {
        str(1000 + number) for number in range(7) if number != 4
    }
    assert [state(record, job).state for job in jobs].count("SUCCESS") == 6
    refused = state(record, jobs[4])
    assert (refused.state, refused.reasons) == ("FAILURE", (CONFLICT,))
    assert waiting(record) == 0


def test_a_quarantined_line_does_not_hold_up_later_jobs(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    (bad,) = new_jobs(record)
    influxdb.answers = [refusal(400, CONFLICT)]
    drain(outlet)
    good = store_job(record, asked_ns=5, body=make_body(measured()))
    drain(outlet)
    assert (state(record, bad).state, state(record, good).state) == ("FAILURE", "SUCCESS")


def test_a_batch_that_is_too_large_is_split(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    new_jobs(record, 5)
    influxdb.judge = lambda lines: refusal(413, "too large") if len(lines) > 2 else None
    drain(outlet)
    assert len(influxdb.lines) == 5
    assert max(map(len, influxdb.batches)) <= 2


def test_a_missing_database_is_created(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    new_jobs(record)
    influxdb.answers = [refusal(404, 'database not found: "squash"')]
    drain(outlet)
    assert influxdb.statements == ['CREATE DATABASE "squash"']
    assert len(influxdb.lines) == 1


def test_a_job_without_values_is_passed_over(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    new_jobs(record, 2, value=None)
    drain(outlet)
    assert (influxdb.batches, target(record).sent_through) == ([], 2)


def test_a_batch_has_a_bound(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(2, monkeypatch)
    new_jobs(record, 5)
    drain(outlet)
    assert [len(batch) for batch in influxdb.batches] == [2, 2, 1]
    assert target(record).sent_through == 5


def batches_of(jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batches, influxdb_outlet):
        monkeypatch.setattr(module, "MOST_JOBS", jobs)


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
    assert values_of(influxdb, 1_001) == ["1.5", "0.0015"]


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


def test_a_target_that_is_down_holds_up_no_other(record: Record) -> None:
    up, down = FakeInfluxDB(), FakeInfluxDB()
    down.is_up = False
    both = [new_outlet(record, up, "up"), new_outlet(record, down, "down")]
    (job,) = new_jobs(record)
    for outlet in both:
        drain(outlet)
    assert state(record, job, "up").state == "SUCCESS"
    assert state(record, job, "down").state in {"PENDING", "STARTED"}


# What is written beside the jobs


def test_who_delivers_is_known_once_influxdb_has_answered(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    assert not outlet.is_delivering()
    step(outlet)
    standby = new_outlet(record, influxdb)
    step(standby)
    assert (outlet.is_delivering(), standby.is_delivering()) == (True, False)
    outlet.stop()
    assert not outlet.is_delivering()


def test_who_has_trouble_does_not_deliver(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    step(outlet)
    new_jobs(record)
    influxdb.is_up = False
    step(outlet)
    assert not outlet.is_delivering()


def test_a_failure_to_write_extra_is_no_trouble_of_delivery(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    step(outlet)
    influxdb.answers = [refusal(503, "busy")]
    with pytest.raises(InfluxError):
        outlet.write_extra(["squash_heartbeat up=1 60"])
    assert (outlet.is_delivering(), target(record).trouble) == (True, None)
    assert outlet.write_extra(["squash_heartbeat up=1 60"]) == []
    assert influxdb.lines == ["squash_heartbeat up=1 60"]


# The lease


def test_a_standby_waits_while_another_holds_the_lease(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    standby = new_outlet(record, influxdb)
    new_jobs(record)
    drain(outlet)
    store_job(record, asked_ns=5, body=make_body(measured()))
    assert step(standby) >= 1
    assert len(influxdb.lines) == 1


def test_a_standby_takes_an_expired_lease(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    standby = new_outlet(record, influxdb)
    drain(outlet)
    later = time.time_ns() + 10**12
    monkeypatch.setattr(time, "time_ns", lambda: later)
    new_jobs(record)
    drain(standby)
    assert len(influxdb.lines) == 1
    assert not outlet._lease.is_held()


def test_an_outlet_that_lost_its_lease_sends_nothing_more(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    standby = new_outlet(record, influxdb)
    drain(outlet)
    later = time.time_ns() + 10**12
    monkeypatch.setattr(time, "time_ns", lambda: later)
    drain(standby)
    (job,) = new_jobs(record)
    assert step(outlet) == outlets.STANDBY.longest_s
    assert (influxdb.lines, state(record, job).state) == ([], "PENDING")


def test_what_is_sent_need_not_be_in_the_index(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet
) -> None:
    new_jobs(record, 3)
    drain(outlet)
    with record.read() as connection:
        assert (runs_through(connection), derived_through(connection)) == (3, 0)
    assert len(influxdb.lines) == 3


@pytest.mark.parametrize("is_known", [True, False])
def test_a_point_has_code_changes_where_both_runs_named_their_packages(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, *, is_known: bool
) -> None:
    for number in range(2):
        env = {"ci_name": "drp", "ci_id": str(number)}
        packages = {"afw": {"git_sha": "a1"}} if is_known or number == 0 else {}
        body = make_body(measured(), env=env, packages=packages)
        store_job(record, asked_ns=number, body=body, new_units={"p.a": "mmag"})
    drain(outlet)
    assert [("code_changes" in line) for line in influxdb.lines] == [False, is_known]


# The thread


@pytest.fixture
def running(outlet: InfluxOutlet) -> Iterator[InfluxOutlet]:
    thread = threading.Thread(target=outlet.run)
    thread.start()
    yield outlet
    outlet.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_jobs_are_sent_while_it_runs(
    record: Record, influxdb: FakeInfluxDB, running: InfluxOutlet
) -> None:
    new_jobs(record)
    running.wake()
    wait_for(lambda: influxdb.lines)


def test_the_lease_is_given_back_at_the_end(record: Record, outlet: InfluxOutlet) -> None:
    thread = threading.Thread(target=outlet.run)
    thread.start()
    wait_for(lambda: target(record).lease_owner)
    outlet.stop()
    thread.join(10)
    assert target(record).lease_owner is None


def test_a_record_that_fails_in_the_middle_of_trouble_ends_nothing(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_jobs(record)
    influxdb.is_up = False

    def fail(*_: Any, **__: Any) -> None:
        raise RecordUnavailableError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(outlets, "mark_trouble", fail)
        assert step(outlet) > 0
    influxdb.is_up = True
    drain(outlet)
    assert len(influxdb.lines) == 1


def test_an_error_of_its_own_ends_nothing(
    record: Record, influxdb: FakeInfluxDB, outlet: InfluxOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_jobs(record)

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(batches, "job_to_points", fail)
        assert step(outlet) > 0
    drain(outlet)
    assert len(influxdb.lines) == 1


def test_a_new_target_begins_with_the_first_job(record: Record, influxdb: FakeInfluxDB) -> None:
    record.write(lambda connection: ensure_targets(connection, ["old"]))
    new_jobs(record, 3)
    drain(new_outlet(record, influxdb, "new"))
    assert len(influxdb.lines) == 3
