import threading
from collections.abc import Iterator, Sequence

import pytest

from squash_api.delivery import batches
from squash_api.delivery.batches import Batch, NewBatch, PointMaker, ReadAhead
from squash_api.index.deriver import Deriver
from squash_api.index.runs import runs_through
from squash_api.record.deliveries import ensure_targets, get_target, mark_sent, reset_target
from squash_api.record.jobs import bury_jobs, ids_between
from squash_api.record.metrics import Metrics
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from tests.support.builders import make_body, measured, store_job


@pytest.fixture
def record(record: Record) -> Record:
    record.write(lambda connection: ensure_targets(connection, ["default"]))
    return record


@pytest.fixture
def points(record: Record) -> PointMaker:
    metrics = Metrics(record, Schema())
    deriver = Deriver(record, metrics)
    return PointMaker(record, metrics, deriver, squash_url="https://squash.example")


@pytest.fixture
def ahead(
    record: Record, points: PointMaker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ReadAhead]:
    """Batches of two jobs."""
    monkeypatch.setattr(batches, "MOST_JOBS", 2)
    ahead = ReadAhead("default", record, points)
    yield ahead
    ahead.close()


def new_jobs(record: Record, count: int) -> None:
    for number in range(count):
        store_job(
            record,
            asked_ns=1_000 + number,
            body=make_body(measured("p.a", 1.5)),
            new_units={} if number else {"p.a": "mmag"},
        )


# Points


@pytest.fixture
def three_jobs(record: Record) -> Record:
    """A record with three jobs, of which the second is deleted."""
    for number in range(3):
        store_job(
            record,
            asked_ns=1_000 + number,
            body=make_body(measured("p.a", 1.5), measured("q.b", 2.0), ci_id=str(number)),
            new_units={} if number else {"p.a": "mmag", "q.b": "mmag"},
        )
    record.write(lambda connection: bury_jobs(connection, [2], user_id=1, deleted_ns=9))
    return record


def made(points: PointMaker, record: Record, *, after: int | None) -> list[tuple[int, str]]:
    with record.read() as connection:
        ids = ids_between(connection, after=after or 0, through=9, max_bytes=10**6, limit=9)
    batch = points.make(ids, after=after)
    return [
        (owner, point.measurement) for owner, point in zip(batch.owners, batch.points, strict=True)
    ]


def derived(record: Record) -> int:
    with record.read() as connection:
        return runs_through(connection)


def test_every_package_of_every_job_has_a_point(points: PointMaker, three_jobs: Record) -> None:
    assert made(points, three_jobs, after=0) == [(1, "p"), (1, "q"), (3, "p"), (3, "q")]


def test_the_runs_are_derived_on_the_way(points: PointMaker, three_jobs: Record) -> None:
    made(points, three_jobs, after=0)
    assert derived(three_jobs) == 3


def test_runs_that_somebody_else_has_derived_stay(points: PointMaker, three_jobs: Record) -> None:
    Deriver(three_jobs, Metrics(three_jobs, Schema())).derive_runs_through(1)
    made(points, three_jobs, after=0)
    assert derived(three_jobs) == 3


def test_runs_before_those_at_hand_are_derived_first(
    points: PointMaker, three_jobs: Record
) -> None:
    made(points, three_jobs, after=1)
    assert derived(three_jobs) == 3


def test_jobs_that_are_sent_again_derive_nothing(points: PointMaker, three_jobs: Record) -> None:
    made(points, three_jobs, after=None)
    assert derived(three_jobs) == 0


# The next batch is made while one is sent


def take(ahead: ReadAhead) -> NewBatch:
    batch = ahead.take()
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


def test_batches_come_in_the_order_of_the_jobs(record: Record, ahead: ReadAhead) -> None:
    new_jobs(record, 3)
    first = take(ahead)
    assert (first.points.owners, first.jobs, first.through, first.has_more) == ([1, 2], 2, 2, True)
    ahead.go_ahead(first)
    second = take(ahead)
    assert (second.points.owners, second.jobs, second.through) == ([3], 1, 3)
    assert not second.has_more


def test_without_going_ahead_the_first_that_was_not_sent_is_next(
    record: Record, ahead: ReadAhead
) -> None:
    new_jobs(record, 3)
    assert take(ahead).through == take(ahead).through == 2
    send(record, take(ahead))
    assert take(ahead).through == 3


def test_with_nothing_to_send_there_is_no_batch(record: Record, ahead: ReadAhead) -> None:
    assert ahead.take() is None
    new_jobs(record, 2)
    last = take(ahead)
    ahead.go_ahead(last)
    assert ahead.is_ahead()
    assert ahead.take() is None
    assert not ahead.is_ahead()


def test_the_next_batch_is_made_while_this_one_is_in_hand(
    record: Record, ahead: ReadAhead, points: PointMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_jobs(record, 3)
    first = take(ahead)
    made = threading.Event()
    make = points.make

    def make_and_tell(job_ids: Sequence[int], *, after: int | None) -> Batch:
        batch = make(job_ids, after=after)
        made.set()
        return batch

    monkeypatch.setattr(points, "make", make_and_tell)
    ahead.go_ahead(first)
    assert made.wait(60)
    assert ahead.is_ahead()


def test_what_is_forgotten_is_made_anew(record: Record, ahead: ReadAhead) -> None:
    new_jobs(record, 3)
    ahead.go_ahead(take(ahead))
    ahead.forget()
    assert not ahead.is_ahead()
    assert take(ahead).through == 2


def test_a_failure_to_make_a_batch_is_told_once(
    record: Record, ahead: ReadAhead, points: PointMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_jobs(record, 3)
    first = take(ahead)

    def fail(*_: object, **__: object) -> None:
        raise ValueError("no luck")

    with monkeypatch.context() as patch:
        patch.setattr(points, "make", fail)
        ahead.go_ahead(first)
        with pytest.raises(ValueError, match="no luck"):
            ahead.take()
    assert take(ahead).through == 2


def test_a_target_that_is_reset_before_the_next_batch_is_made_begins_anew(
    record: Record, ahead: ReadAhead
) -> None:
    new_jobs(record, 5)
    first = take(ahead)
    reset(record)
    ahead.go_ahead(first)
    assert ahead.take() is None
    send(record, first)
    assert sent_through(record) == 0
    assert take(ahead).through == 2


def test_a_target_that_is_reset_after_the_next_batch_was_made_begins_anew(
    record: Record, ahead: ReadAhead
) -> None:
    new_jobs(record, 5)
    first = take(ahead)
    ahead.go_ahead(first)
    second = take(ahead)
    reset(record)
    send(record, first)
    send(record, second)
    assert sent_through(record) == 0
    assert take(ahead).through == 2


def test_after_closing_no_thread_is_left(record: Record, points: PointMaker) -> None:
    new_jobs(record, 3)
    ahead = ReadAhead("gone", record, points)
    record.write(lambda connection: ensure_targets(connection, ["gone"]))
    ahead.go_ahead(take(ahead))
    ahead.close()
    assert not [item for item in threading.enumerate() if item.name.startswith("points-gone")]
