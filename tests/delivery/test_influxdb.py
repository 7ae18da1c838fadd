import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from squash_api.delivery import batches
from squash_api.delivery import outlet as outlets
from squash_api.delivery.influxdb import InfluxOutlet
from squash_api.errors import RecordUnavailableError
from squash_api.index.derived import derived_through
from squash_api.index.runs import runs_through
from squash_api.influx.client import InfluxError
from squash_api.record.deliveries import ensure_targets
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
from tests.support.site import wait_for


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
