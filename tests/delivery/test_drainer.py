import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Connection

from squash_api.delivery import batches as batch_points
from squash_api.delivery import batches as batches_ahead
from squash_api.delivery import drainer as delivery
from squash_api.delivery.drainer import Drainer
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
from squash_api.record.metrics import Vocabulary, declare_metrics
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from squash_api.settings import InfluxTarget
from tests.support.builders import add_test_user, make_body, measured, open_record, store_job
from tests.support.fake_influxdb import Answer, FakeInfluxDB, refusal

CONFLICT = 'partial write: field type conflict: input field "a" dropped=1'


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = open_record(tmp_path)
    add_test_user(record)
    yield record
    record.close()


@pytest.fixture
def influxdb() -> FakeInfluxDB:
    return FakeInfluxDB()


@pytest.fixture
def drainer(record: Record, influxdb: FakeInfluxDB) -> Drainer:
    return new_drainer(record, influxdb)


def new_drainer(record: Record, influxdb: FakeInfluxDB, name: str = "default") -> Drainer:
    vocabulary = Vocabulary(record, Schema())
    return Drainer(
        InfluxTarget(name=name, url="http://influx.invalid", token=SecretStr("t0k")),
        record=record,
        vocabulary=vocabulary,
        deriver=Deriver(record, vocabulary),
        squash_url="https://squash.example/api",
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


def step(drainer: Drainer) -> float:
    return drainer._step_or_wait()


def drain(drainer: Drainer) -> None:
    """Do rounds until there is nothing to do."""
    while step(drainer) == 0.0:
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
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    jobs = new_jobs(record, 3)
    drain(drainer)
    ((first, *rest),) = influxdb.batches
    assert [line.rpartition(" ")[2] for line in (first, *rest)] == ["1000", "1001", "1002"]
    assert [state(record, job).state for job in jobs] == ["SUCCESS"] * 3


def test_a_point_says_what_the_record_says(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    new_jobs(record)
    drain(drainer)
    (line,) = influxdb.lines
    assert line.startswith("p,instrument=HSC ")
    for part in ("a=1.5", "squash_id=1", 'squash_url="https://squash.example/api/job/1"'):
        assert part in line


def test_credentials_go_with_every_write(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    new_jobs(record)
    drain(drainer)
    assert [headers["Authorization"] for headers in influxdb.headers] == ["Token t0k"]


def test_with_nothing_to_do_influxdb_is_left_alone_and_the_round_waits(
    influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    assert step(drainer) > 0
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
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer, answer: Answer
) -> None:
    (job,) = new_jobs(record)
    influxdb.answers = [answer]
    assert 0 < step(drainer) <= 0.25
    assert state(record, job).state == "STARTED"
    assert target(record).trouble is not None
    drain(drainer)
    assert state(record, job).state == "SUCCESS"
    assert (len(influxdb.lines), target(record).trouble) == (1, None)


def test_the_wait_grows_with_jitter_to_a_bound_and_ends_with_success(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    new_jobs(record)
    influxdb.is_up = False
    waits = [step(drainer) for _ in range(12)]
    for number, wait_s in enumerate(waits):
        longest = min(delivery._LONGEST_WAIT_S, delivery._FIRST_WAIT_S * 2**number)
        assert longest / 2 <= wait_s <= longest
    assert len(set(waits)) == len(waits)
    influxdb.is_up = True
    drain(drainer)
    influxdb.is_up = False
    new = store_job(record, asked_ns=5, body=make_body(measured()))
    assert step(drainer) <= 0.25
    assert state(record, new).state in {"PENDING", "STARTED"}


def test_trouble_says_since_when(record: Record, influxdb: FakeInfluxDB, drainer: Drainer) -> None:
    new_jobs(record)
    influxdb.is_up = False
    before = time.time_ns()
    step(drainer)
    first = target(record)
    step(drainer)
    again = target(record)
    assert first.trouble is not None
    assert "connection refused" in first.trouble
    assert first.trouble_since_ns is not None
    assert first.trouble_since_ns >= before
    assert again.trouble_since_ns == first.trouble_since_ns


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_pause_and_show(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer, status: int
) -> None:
    (job,) = new_jobs(record)
    influxdb.answers = [refusal(status, "authorization failed")]
    assert step(drainer) == delivery._REFUSED_WAIT_S
    assert "authorization failed" in (target(record).trouble or "")
    assert state(record, job).state == "STARTED"
    drain(drainer)
    assert state(record, job).state == "SUCCESS"


def test_a_bad_line_is_quarantined_with_its_words_and_the_others_arrive(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    jobs = new_jobs(record, 7)
    influxdb.judge = lambda lines: (
        refusal(400, CONFLICT) if any(line.endswith(" 1004") for line in lines) else None
    )
    drain(drainer)
    assert {line.rpartition(" ")[2] for line in influxdb.lines} == {
        str(1000 + number) for number in range(7) if number != 4
    }
    assert [state(record, job).state for job in jobs].count("SUCCESS") == 6
    refused = state(record, jobs[4])
    assert (refused.state, refused.reasons) == ("FAILURE", (CONFLICT,))
    assert waiting(record) == 0


def test_a_quarantined_line_does_not_hold_up_later_jobs(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    (bad,) = new_jobs(record)
    influxdb.answers = [refusal(400, CONFLICT)]
    drain(drainer)
    good = store_job(record, asked_ns=5, body=make_body(measured()))
    drain(drainer)
    assert (state(record, bad).state, state(record, good).state) == ("FAILURE", "SUCCESS")


def test_a_batch_that_is_too_large_is_split(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    new_jobs(record, 5)
    influxdb.judge = lambda lines: refusal(413, "too large") if len(lines) > 2 else None
    drain(drainer)
    assert len(influxdb.lines) == 5
    assert max(map(len, influxdb.batches)) <= 2


def test_a_missing_database_is_created(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    new_jobs(record)
    influxdb.answers = [refusal(404, 'database not found: "squash"')]
    drain(drainer)
    assert influxdb.statements == ['CREATE DATABASE "squash"']
    assert len(influxdb.lines) == 1


def test_a_job_without_values_is_passed_over(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    new_jobs(record, 2, value=None)
    drain(drainer)
    assert (influxdb.batches, target(record).sent_through) == ([], 2)


def test_a_batch_has_a_bound(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(2, monkeypatch)
    new_jobs(record, 5)
    drain(drainer)
    assert [len(batch) for batch in influxdb.batches] == [2, 2, 1]
    assert target(record).sent_through == 5


def batches_of(jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batches_ahead, delivery):
        monkeypatch.setattr(module, "MOST_JOBS", jobs)


# What happens while the next batch has been made already


def while_one_is_ahead(
    influxdb: FakeInfluxDB, drainer: Drainer, happens: Callable[[], object]
) -> None:
    """Do something while the first batch is written and the second one has been made."""

    def judge(_lines: list[str]) -> Answer | None:
        influxdb.judge = lambda _: None
        ahead = drainer._new._ahead
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
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(1, monkeypatch)
    new_jobs(record, 4)

    def change() -> None:
        def work(connection: Connection) -> None:
            declare_metrics(connection, {"p.a": "mag"})
            requeue_metrics(connection, ["p.a"], request=7)

        record.write(work)

    while_one_is_ahead(influxdb, drainer, change)
    drain(drainer)
    assert waiting(record) == 0
    assert [values_of(influxdb, 1_000 + number)[-1] for number in range(4)] == ["0.0015"] * 4
    assert values_of(influxdb, 1_001) == ["1.5", "0.0015"]


def test_a_job_deleted_meanwhile_is_deleted_after_it_was_sent(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches_ahead, "MOST_BYTES", 1)
    jobs = new_jobs(record, 4)
    written: list[int] = []

    def delete_second() -> None:
        delete(record, jobs[1], 1_001)
        influxdb.when_asked = lambda _: written.append(len(values_of(influxdb, 1_001)))

    while_one_is_ahead(influxdb, drainer, delete_second)
    drain(drainer)
    assert influxdb.statements == ['DELETE FROM "p" WHERE time = 1001']
    assert (written, len(values_of(influxdb, 1_001))) == ([1], 1)
    assert waiting(record) == 0


def test_what_was_made_before_a_failure_is_made_anew(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(1, monkeypatch)
    new_jobs(record, 3)

    def fail() -> Exception:
        record.write(lambda connection: declare_metrics(connection, {"p.a": "mag"}))
        return httpx.ConnectError("gone")

    while_one_is_ahead(influxdb, drainer, fail)
    assert step(drainer) > 0
    assert not drainer._new.is_ahead()
    drain(drainer)
    assert [values_of(influxdb, 1_000 + number) for number in range(3)] == [["0.0015"]] * 3


def test_what_was_made_before_the_lease_was_lost_is_not_sent(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(1, monkeypatch)
    new_jobs(record, 3)
    assert step(drainer) == 0.0
    assert drainer._new.is_ahead()
    standby = new_drainer(record, influxdb)
    later = time.time_ns() + 10**12
    monkeypatch.setattr(time, "time_ns", lambda: later)
    drain(standby)
    assert step(drainer) == delivery._STANDBY_S
    assert not drainer._new.is_ahead()
    assert len(influxdb.lines) == 3


def test_while_something_waits_to_be_deleted_nothing_is_made_ahead(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(1, monkeypatch)
    jobs = new_jobs(record, 4)
    influxdb.query_answer = refusal(400, "DELETE is not supported")
    delete(record, jobs[3], 1_003)
    while step(drainer) == 0.0:
        assert not drainer._new.is_ahead()
    assert len(influxdb.lines) == 3


def test_what_is_asked_for_again_is_sent_again_and_leaves_quarantine(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    (job,) = new_jobs(record)
    influxdb.answers = [refusal(400, CONFLICT)]
    drain(drainer)
    assert state(record, job).state == "FAILURE"
    record.write(lambda c: request_redelivery(c, [job], targets=["default"], request=1))
    assert (state(record, job).state, waiting(record)) == ("PENDING", 1)
    drain(drainer)
    assert (state(record, job).state, waiting(record)) == ("SUCCESS", 0)
    assert len(influxdb.lines) == 1


def test_a_request_that_comes_while_its_job_is_sent_again_is_served_too(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    (job,) = new_jobs(record)
    drain(drainer)
    record.write(lambda c: request_redelivery(c, [job], targets=["default"], request=1))

    def ask_once_more(_: list[str]) -> None:
        influxdb.judge = lambda _: None
        record.write(lambda c: request_redelivery(c, [job], targets=["default"], request=2))

    influxdb.judge = ask_once_more
    drain(drainer)
    assert (len(influxdb.lines), waiting(record)) == (3, 0)


def delete(record: Record, job: int, time_ns: int) -> None:
    erasure = Erasure(job, time_ns, ("p",))
    record.write(lambda c: request_erasure(c, erasure, targets=["default"]))
    record.write(lambda c: bury_job(c, job_id=job, user_id=1, deleted_ns=9))


def test_the_points_of_a_deleted_job_are_deleted_by_their_time(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    jobs = new_jobs(record, 2)
    drain(drainer)
    delete(record, jobs[1], 1_001)
    drain(drainer)
    assert influxdb.statements == ['DELETE FROM "p" WHERE time = 1001']
    assert waiting(record) == 0


def test_a_job_deleted_before_it_was_sent_is_never_sent(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    jobs = new_jobs(record, 2)
    delete(record, jobs[0], 1_000)
    drain(drainer)
    assert [line.rpartition(" ")[2] for line in influxdb.lines] == ["1001"]


def test_a_deletion_waits_for_influxdb_and_trouble_ends_with_it(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    (job,) = new_jobs(record)
    drain(drainer)
    delete(record, job, 1_000)
    influxdb.is_up = False
    step(drainer)
    assert (waiting(record), target(record).trouble is None) == (1, False)
    influxdb.is_up = True
    drain(drainer)
    assert (waiting(record), target(record).trouble) == (0, None)


def test_an_influxdb_that_cannot_delete_gets_its_jobs_all_the_same(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    new_jobs(record, 1)
    drain(drainer)
    delete(record, 1, 1_000)
    influxdb.query_answer = refusal(400, "DELETE is not supported")
    store_job(record, asked_ns=5_000, body=make_body(measured("p.a", 2.5)))
    step(drainer)
    assert len(influxdb.lines) == 2
    assert "DELETE is not supported" in (target(record).trouble or "")


def test_a_target_that_is_down_holds_up_no_other(record: Record) -> None:
    up, down = FakeInfluxDB(), FakeInfluxDB()
    down.is_up = False
    drainers = [new_drainer(record, up, "up"), new_drainer(record, down, "down")]
    (job,) = new_jobs(record)
    for drainer in drainers:
        drain(drainer)
    assert state(record, job, "up").state == "SUCCESS"
    assert state(record, job, "down").state in {"PENDING", "STARTED"}


# What is written beside the jobs


def test_who_delivers_is_known_once_influxdb_has_answered(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    assert not drainer.is_delivering()
    step(drainer)
    standby = new_drainer(record, influxdb)
    step(standby)
    assert (drainer.is_delivering(), standby.is_delivering()) == (True, False)
    drainer.stop()
    assert not drainer.is_delivering()


def test_who_has_trouble_does_not_deliver(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    step(drainer)
    new_jobs(record)
    influxdb.is_up = False
    step(drainer)
    assert not drainer.is_delivering()


def test_a_failure_to_write_beside_is_no_trouble_of_delivery(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    step(drainer)
    influxdb.answers = [refusal(503, "busy")]
    with pytest.raises(InfluxError):
        drainer.write_beside(["squash_heartbeat up=1 60"])
    assert (drainer.is_delivering(), target(record).trouble) == (True, None)
    assert drainer.write_beside(["squash_heartbeat up=1 60"]) == []
    assert influxdb.lines == ["squash_heartbeat up=1 60"]


# The lease


def test_a_standby_waits_while_another_holds_the_lease(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    standby = new_drainer(record, influxdb)
    new_jobs(record)
    drain(drainer)
    store_job(record, asked_ns=5, body=make_body(measured()))
    assert step(standby) >= 1
    assert len(influxdb.lines) == 1


def test_a_standby_takes_an_expired_lease(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    standby = new_drainer(record, influxdb)
    drain(drainer)
    later = time.time_ns() + 10**12
    monkeypatch.setattr(time, "time_ns", lambda: later)
    new_jobs(record)
    drain(standby)
    assert len(influxdb.lines) == 1
    assert not drainer._lease.is_held()


def test_a_drainer_that_lost_its_lease_sends_nothing_more(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    standby = new_drainer(record, influxdb)
    drain(drainer)
    later = time.time_ns() + 10**12
    monkeypatch.setattr(time, "time_ns", lambda: later)
    drain(standby)
    (job,) = new_jobs(record)
    assert step(drainer) == delivery._STANDBY_S
    assert (influxdb.lines, state(record, job).state) == ([], "PENDING")


def test_what_is_sent_need_not_be_in_the_index(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer
) -> None:
    new_jobs(record, 3)
    drain(drainer)
    with record.read() as connection:
        assert (runs_through(connection), derived_through(connection)) == (3, 0)
    assert len(influxdb.lines) == 3


@pytest.mark.parametrize("is_known", [True, False])
def test_a_point_has_code_changes_where_both_runs_named_their_packages(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer, *, is_known: bool
) -> None:
    for number in range(2):
        env = {"ci_name": "drp", "ci_id": str(number)}
        packages = {"afw": {"git_sha": "a1"}} if is_known or number == 0 else {}
        body = make_body(measured(), env=env, packages=packages)
        store_job(record, asked_ns=number, body=body, new_units={"p.a": "mmag"})
    drain(drainer)
    assert [("code_changes" in line) for line in influxdb.lines] == [False, is_known]


# The thread


@pytest.fixture
def running(drainer: Drainer) -> Iterator[Drainer]:
    thread = threading.Thread(target=drainer.run)
    thread.start()
    yield drainer
    drainer.stop()
    thread.join(10)
    assert not thread.is_alive()


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_jobs_are_sent_while_it_runs(
    record: Record, influxdb: FakeInfluxDB, running: Drainer
) -> None:
    new_jobs(record)
    running.wake()
    wait_until(lambda: influxdb.lines)


def test_the_lease_is_given_back_at_the_end(record: Record, drainer: Drainer) -> None:
    thread = threading.Thread(target=drainer.run)
    thread.start()
    wait_until(lambda: target(record).lease_owner)
    drainer.stop()
    thread.join(10)
    assert target(record).lease_owner is None


def test_a_record_that_fails_in_the_middle_of_trouble_ends_nothing(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_jobs(record)
    influxdb.is_up = False

    def fail(*_: Any, **__: Any) -> None:
        raise RecordUnavailableError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "mark_trouble", fail)
        assert step(drainer) > 0
    influxdb.is_up = True
    drain(drainer)
    assert len(influxdb.lines) == 1


def test_an_error_of_its_own_ends_nothing(
    record: Record, influxdb: FakeInfluxDB, drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_jobs(record)

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(batch_points, "job_to_points", fail)
        assert step(drainer) > 0
    drain(drainer)
    assert len(influxdb.lines) == 1


def test_a_new_target_begins_with_the_first_job(record: Record, influxdb: FakeInfluxDB) -> None:
    record.write(lambda connection: ensure_targets(connection, ["old"]))
    new_jobs(record, 3)
    drain(new_drainer(record, influxdb, "new"))
    assert len(influxdb.lines) == 3
