from collections.abc import Iterator
from typing import Any

import pytest

from squash_api.record.deliveries import Quarantined, mark_sent, mark_taken, request_redelivery
from squash_api.record.record import Record
from squash_api.settings import InfluxTarget
from tests.support.builders import open_record
from tests.support.calls import Calls, log_in
from tests.support.in_process import service

TARGETS = tuple(InfluxTarget(name=name, url="http://influx.invalid") for name in ("summit", "base"))
JOB = {"measurements": [{"metric": "p.a", "value": 1, "unit": "m"}]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def waiting(folder: Any) -> Iterator[Calls]:
    """A service that leaves the delivery to two targets to another process: to the test."""
    with service(folder, influx_targets=TARGETS, deliver="off") as client:
        yield log_in(client, "ada")


@pytest.fixture(scope="module")
def record(waiting: Calls, folder: Any) -> Iterator[Record]:
    """The record of that service, as the delivering process sees it."""
    assert waiting
    record = open_record(folder)
    yield record
    record.close()


def status(calls: Calls, job: int) -> dict[str, Any]:
    body: dict[str, Any] = calls("GET", f"/status/{job}").json()
    return body


def post(calls: Calls, document: Any = None) -> int:
    job: int = calls("POST", "/job", JOB if document is None else document).json()["id"]
    return job


def send(record: Record, job: int, *targets: str, reason: str | None = None) -> None:
    refused = [Quarantined(job, "p", "p v=1 1", reason)] if reason else []
    for name in targets:
        record.write(
            lambda connection, name=name: mark_taken(  # type: ignore[misc]
                connection, name, after=0, through=job
            )
        )
        record.write(
            lambda connection, name=name: mark_sent(  # type: ignore[misc]
                connection, name, through=job, redelivered=[], quarantined=refused, now_ns=1
            )
        )


def test_without_influxdb_a_job_is_done_at_once(shared_calls: Calls) -> None:
    body = status(shared_calls, post(shared_calls))
    assert (body["status"], body["status_code"], body["targets"]) == ("SUCCESS", 204, {})


def test_a_new_job_is_pending_then_started_then_done(waiting: Calls, record: Record) -> None:
    job = post(waiting)
    body = status(waiting, job)
    assert (body["status"], body["status_code"]) == ("PENDING", 202)
    assert body["targets"] == {"summit": "PENDING", "base": "PENDING"}
    record.write(lambda connection: mark_taken(connection, "base", after=0, through=job))
    assert status(waiting, job)["targets"] == {"summit": "PENDING", "base": "STARTED"}
    assert status(waiting, job)["status"] == "STARTED"
    send(record, job, "base")
    assert status(waiting, job)["targets"] == {"summit": "PENDING", "base": "SUCCESS"}
    assert status(waiting, job)["status"] == "STARTED"
    send(record, job, "summit")
    assert (status(waiting, job)["status"], status(waiting, job)["status_code"]) == ("SUCCESS", 204)


def test_a_refused_line_is_a_failure_with_the_words_of_influxdb(
    waiting: Calls, record: Record
) -> None:
    job = post(waiting)
    send(record, job, "summit", reason="partial write: field type conflict")
    reply = waiting("GET", f"/status/{job}")
    body = reply.json()
    assert (body["status"], body["status_code"]) == ("FAILURE", 400)
    assert "summit: partial write: field type conflict" in body["message"]
    assert body["targets"] == {"summit": "FAILURE", "base": "PENDING"}
    assert reply.links["help"]["url"].endswith("/docs/runbook#quarantine")


def test_what_is_to_be_sent_again_is_pending(waiting: Calls, record: Record) -> None:
    job = post(waiting)
    send(record, job, "summit", "base")
    record.write(lambda c: request_redelivery(c, [job], targets=["base"], request=1))
    assert status(waiting, job)["targets"] == {"summit": "SUCCESS", "base": "PENDING"}


@pytest.mark.parametrize(
    "document",
    [{}, {"measurements": [{"metric": "p.a", "value": None}, {"metric": "nodot", "value": 1}]}],
)
def test_a_job_with_nothing_to_deliver_is_done_at_once(waiting: Calls, document: Any) -> None:
    body = status(waiting, post(waiting, document))
    assert (body["status"], set(body["targets"].values())) == ("SUCCESS", {"SUCCESS"})


def test_an_added_value_makes_a_job_deliverable(waiting: Calls) -> None:
    job = post(waiting, {})
    document = {"metric": "p.a", "value": 1, "unit": "m"}
    assert waiting("POST", f"/measurement/{job}", document).status_code == 201
    assert status(waiting, job)["status"] == "PENDING"


def test_the_status_names_what_was_left_out_like_the_reply(shared_calls: Calls) -> None:
    values = [("l.a", None), ("l.b", "text"), ("l.c", 1)]
    document = {"measurements": [{"metric": name, "value": value} for name, value in values]}
    reply = shared_calls("POST", "/job", document).json()
    body = status(shared_calls, reply["id"])
    for key in ("absent", "skipped", "undeclared"):
        assert body[key] == reply[key]
    assert (body["absent"], body["skipped"][0]["metric"]) == (["l.a"], "l.b")


def test_the_status_names_what_was_cleaned(shared_calls: Calls) -> None:
    body = status(shared_calls, post(shared_calls, {"meta": {"instrument": "a\nb", "tract": ""}}))
    assert {item["key"] for item in body["cleaned"]} == {"instrument", "tract"}
