from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from squash_api.record.deliveries import (
    Backlog,
    Erasure,
    JobDelivery,
    Quarantined,
    backlogs,
    ensure_targets,
    job_deliveries,
    mark_sent,
    mark_taken,
    mark_trouble,
    request_erasure,
    request_redelivery,
)
from squash_api.record.jobs import get_job
from squash_api.record.record import Record
from tests.support.builders import store_job

TARGETS = ["base", "summit"]


@pytest.fixture
def connection(record: Record) -> Iterator[Connection]:
    """A transaction on a record with jobs 1 to 3, the last with nothing to deliver."""
    for number in (1, 2, 3):
        store_job(record, received_ns=10 * number, is_deliverable=number < 3)
    with record._engine.connect() as connection:
        ensure_targets(connection, TARGETS)
        yield connection


def send(connection: Connection, through: int, *, refused: tuple[int, ...] = ()) -> None:
    mark_taken(connection, "base", after=0, through=through)
    mark_sent(
        connection,
        "base",
        through=through,
        redelivered=[],
        quarantined=[
            Quarantined(job_id, "p", "line", f"no {number}")
            for number, job_id in enumerate(refused)
        ],
        now_ns=0,
    )


def deliveries(connection: Connection, job_id: int) -> list[JobDelivery]:
    row = get_job(connection, job_id)
    assert row is not None
    return job_deliveries(connection, row, targets=TARGETS)


def state(connection: Connection, job_id: int) -> str:
    return deliveries(connection, job_id)[0].state


def backlog(connection: Connection) -> Backlog:
    return backlogs(connection, targets=["base"])[0]


# One job


def test_a_new_job_is_pending_at_every_target(connection: Connection) -> None:
    assert deliveries(connection, 1) == [
        JobDelivery("base", "PENDING", ()),
        JobDelivery("summit", "PENDING", ()),
    ]


def test_a_job_in_hand_is_started(connection: Connection) -> None:
    mark_taken(connection, "base", after=0, through=1)
    assert (state(connection, 1), state(connection, 2)) == ("STARTED", "PENDING")


def test_a_sent_job_is_a_success_at_that_target(connection: Connection) -> None:
    send(connection, 1)
    assert [item.state for item in deliveries(connection, 1)] == ["SUCCESS", "PENDING"]


def test_a_job_without_anything_to_deliver_is_a_success_at_once(connection: Connection) -> None:
    assert [item.state for item in deliveries(connection, 3)] == ["SUCCESS", "SUCCESS"]


def test_without_targets_there_is_nothing_to_say(connection: Connection) -> None:
    row = get_job(connection, 1)
    assert row is not None
    assert job_deliveries(connection, row, targets=[]) == []


def test_a_refused_job_is_a_failure_with_influxdbs_words(connection: Connection) -> None:
    send(connection, 2, refused=(2, 2))
    assert deliveries(connection, 2)[0] == JobDelivery("base", "FAILURE", ("no 0", "no 1"))
    assert state(connection, 1) == "SUCCESS"


def test_a_job_that_is_to_be_sent_again_is_pending(connection: Connection) -> None:
    send(connection, 2, refused=(2,))
    request_redelivery(connection, [1, 2], targets=["base"], request=1)
    assert (state(connection, 1), state(connection, 2)) == ("PENDING", "PENDING")


# A target


def test_a_target_waits_for_every_job_it_has_not_had(connection: Connection) -> None:
    assert backlog(connection) == Backlog("base", 3, 10, 0, None, None)
    send(connection, 2)
    assert backlog(connection) == Backlog("base", 1, 30, 0, None, None)


def test_a_target_that_has_everything_waits_for_nothing(connection: Connection) -> None:
    send(connection, 3)
    assert backlog(connection) == Backlog("base", 0, None, 0, None, None)


def test_what_is_to_be_sent_again_and_erased_waits_too(connection: Connection) -> None:
    send(connection, 3)
    request_redelivery(connection, [1, 2], targets=["base"], request=1)
    request_erasure(connection, Erasure(3, 5, ("p",)), targets=["base"])
    assert backlog(connection).waiting == 3


def test_a_job_waits_once_even_if_it_is_asked_for_before_its_turn(connection: Connection) -> None:
    request_redelivery(connection, [1, 2, 3], targets=["base"], request=1)
    assert backlog(connection).waiting == 3


def test_a_target_shows_its_quarantine_and_its_trouble(connection: Connection) -> None:
    send(connection, 3, refused=(1, 1, 2))
    mark_trouble(connection, "base", trouble="timed out", now_ns=5)
    assert backlog(connection) == Backlog("base", 0, None, 3, "timed out", 5)
    assert backlogs(connection, targets=["summit"])[0].trouble is None
