from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.delivery.batches import PointMaker
from squash_api.index.deriver import Deriver
from squash_api.index.runs import runs_through
from squash_api.record.jobs import bury_job, ids_between
from squash_api.record.metrics import Vocabulary
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from tests.support.builders import add_test_user, make_body, measured, open_record, store_job


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    """A record with three jobs, of which the second is deleted."""
    record = open_record(tmp_path)
    add_test_user(record)
    for number in range(3):
        store_job(
            record,
            asked_ns=1_000 + number,
            body=make_body(measured("p.a", 1.5), measured("q.b", 2.0), ci_id=str(number)),
            new_units={} if number else {"p.a": "mmag", "q.b": "mmag"},
        )
    record.write(lambda connection: bury_job(connection, job_id=2, user_id=1, deleted_ns=9))
    yield record
    record.close()


@pytest.fixture
def deriver(record: Record) -> Deriver:
    return Deriver(record, Vocabulary(record, Schema()))


@pytest.fixture
def maker(record: Record, deriver: Deriver) -> PointMaker:
    vocabulary = Vocabulary(record, Schema())
    return PointMaker(record, vocabulary, deriver, squash_url="https://squash.example")


def made(maker: PointMaker, record: Record, *, after: int | None) -> list[tuple[int, str]]:
    with record.read() as connection:
        ids = ids_between(connection, after=after or 0, through=9, max_bytes=10**6, limit=9)
    batch = maker.make(ids, after=after)
    return [
        (owner, point.measurement) for owner, point in zip(batch.owners, batch.points, strict=True)
    ]


def derived(record: Record) -> int:
    with record.read() as connection:
        return runs_through(connection)


def test_every_package_of_every_job_has_a_point(maker: PointMaker, record: Record) -> None:
    assert made(maker, record, after=0) == [(1, "p"), (1, "q"), (3, "p"), (3, "q")]


def test_the_runs_are_derived_on_the_way(maker: PointMaker, record: Record) -> None:
    made(maker, record, after=0)
    assert derived(record) == 3


def test_runs_that_somebody_else_has_derived_stay(
    maker: PointMaker, deriver: Deriver, record: Record
) -> None:
    deriver.derive_runs_through(1)
    made(maker, record, after=0)
    assert derived(record) == 3


def test_runs_before_those_at_hand_are_derived_first(maker: PointMaker, record: Record) -> None:
    made(maker, record, after=1)
    assert derived(record) == 3


def test_jobs_that_are_sent_again_derive_nothing(maker: PointMaker, record: Record) -> None:
    made(maker, record, after=None)
    assert derived(record) == 0
