from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.record.jobs import JobEvent, bury_job, events_between
from squash_api.record.record import Record
from tests.support.builders import add_test_user, open_record, store_job


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = open_record(tmp_path)
    add_test_user(record)
    for _ in range(5):
        store_job(record)
    yield record
    record.close()


def ids(record: Record, *, after: int = 0, through: int = 5, limit: int = 9) -> list[int]:
    with record.read() as connection:
        found = events_between(connection, after=after, through=through, limit=limit)
    return [item.job_id for item in found]


def test_jobs_between_two_ids_are_events(record: Record) -> None:
    assert ids(record, after=1, through=4) == [2, 3, 4]


def test_of_more_than_wanted_it_is_the_newest(record: Record) -> None:
    assert ids(record, limit=2) == [4, 5]


def test_a_deleted_job_is_no_event(record: Record) -> None:
    record.write(lambda connection: bury_job(connection, job_id=3, user_id=1, deleted_ns=1))
    assert ids(record) == [1, 2, 4, 5]


def test_a_job_whose_run_is_not_derived_measures_nothing_yet(record: Record) -> None:
    with record.read() as connection:
        assert events_between(connection, after=4, through=5, limit=1) == [JobEvent(5, 0)]
