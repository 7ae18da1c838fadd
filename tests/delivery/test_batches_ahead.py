import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from squash_api.delivery import batches as batches_ahead
from squash_api.delivery.batches import Batch, BatchesAhead, NewBatch, PointMaker
from squash_api.index.deriver import Deriver
from squash_api.record.deliveries import ensure_targets, get_target, mark_sent, reset_target
from squash_api.record.metrics import Vocabulary
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from tests.support.builders import add_test_user, make_body, measured, open_record, store_job


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = open_record(tmp_path)
    add_test_user(record)
    record.write(lambda connection: ensure_targets(connection, ["default"]))
    yield record
    record.close()


@pytest.fixture
def points(record: Record) -> PointMaker:
    vocabulary = Vocabulary(record, Schema())
    deriver = Deriver(record, vocabulary)
    return PointMaker(record, vocabulary, deriver, squash_url="https://squash.example")


@pytest.fixture
def batches(
    record: Record, points: PointMaker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BatchesAhead]:
    """Batches of two jobs."""
    monkeypatch.setattr(batches_ahead, "MOST_JOBS", 2)
    batches = BatchesAhead("default", record, points)
    yield batches
    batches.close()


def new_jobs(record: Record, count: int) -> None:
    for number in range(count):
        store_job(
            record,
            asked_ns=1_000 + number,
            body=make_body(measured("p.a", 1.5)),
            new_units={} if number else {"p.a": "mmag"},
        )


def take(batches: BatchesAhead) -> NewBatch:
    batch = batches.take()
    assert batch is not None
    return batch


def send(record: Record, batch: NewBatch) -> None:
    record.write(
        lambda connection: mark_sent(
            connection,
            "default",
            through=batch.through,
            redelivered=[],
            quarantined=[],
            now_ns=1,
        )
    )


def sent_through(record: Record) -> int:
    with record.read() as connection:
        return get_target(connection, "default").sent_through


def reset(record: Record) -> None:
    record.write(lambda connection: reset_target(connection, "default"))


def test_batches_come_in_the_order_of_the_jobs(record: Record, batches: BatchesAhead) -> None:
    new_jobs(record, 3)
    first = take(batches)
    assert (first.points.owners, first.jobs, first.through, first.has_more) == ([1, 2], 2, 2, True)
    batches.go_ahead(first)
    second = take(batches)
    assert (second.points.owners, second.jobs, second.through) == ([3], 1, 3)
    assert not second.has_more


def test_without_going_ahead_the_first_that_was_not_sent_is_next(
    record: Record, batches: BatchesAhead
) -> None:
    new_jobs(record, 3)
    assert take(batches).through == take(batches).through == 2
    send(record, take(batches))
    assert take(batches).through == 3


def test_with_nothing_to_send_there_is_no_batch(record: Record, batches: BatchesAhead) -> None:
    assert batches.take() is None
    new_jobs(record, 2)
    last = take(batches)
    batches.go_ahead(last)
    assert batches.is_ahead()
    assert batches.take() is None
    assert not batches.is_ahead()


def test_the_next_batch_is_made_while_this_one_is_in_hand(
    record: Record, batches: BatchesAhead, points: PointMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_jobs(record, 3)
    first = take(batches)
    made = threading.Event()
    make = points.make

    def make_and_tell(job_ids: Sequence[int], *, after: int | None) -> Batch:
        batch = make(job_ids, after=after)
        made.set()
        return batch

    monkeypatch.setattr(points, "make", make_and_tell)
    batches.go_ahead(first)
    assert made.wait(10)
    assert batches.is_ahead()


def test_what_is_forgotten_is_made_anew(record: Record, batches: BatchesAhead) -> None:
    new_jobs(record, 3)
    batches.go_ahead(take(batches))
    batches.forget()
    assert not batches.is_ahead()
    assert take(batches).through == 2


def test_a_failure_to_make_a_batch_is_told_once(
    record: Record, batches: BatchesAhead, points: PointMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_jobs(record, 3)
    first = take(batches)

    def fail(*_: object, **__: object) -> None:
        raise ValueError("no luck")

    with monkeypatch.context() as patch:
        patch.setattr(points, "make", fail)
        batches.go_ahead(first)
        with pytest.raises(ValueError, match="no luck"):
            batches.take()
    assert take(batches).through == 2


def test_a_target_that_is_reset_before_the_next_batch_is_made_begins_anew(
    record: Record, batches: BatchesAhead
) -> None:
    new_jobs(record, 5)
    first = take(batches)
    reset(record)
    batches.go_ahead(first)
    assert batches.take() is None
    send(record, first)
    assert sent_through(record) == 0
    assert take(batches).through == 2


def test_a_target_that_is_reset_after_the_next_batch_was_made_begins_anew(
    record: Record, batches: BatchesAhead
) -> None:
    new_jobs(record, 5)
    first = take(batches)
    batches.go_ahead(first)
    second = take(batches)
    reset(record)
    send(record, first)
    send(record, second)
    assert sent_through(record) == 0
    assert take(batches).through == 2


def test_after_closing_no_thread_is_left(record: Record, points: PointMaker) -> None:
    new_jobs(record, 3)
    batches = BatchesAhead("gone", record, points)
    record.write(lambda connection: ensure_targets(connection, ["gone"]))
    batches.go_ahead(take(batches))
    batches.close()
    assert not [item for item in threading.enumerate() if item.name.startswith("points-gone")]
