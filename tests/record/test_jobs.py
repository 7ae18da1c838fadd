import pytest
from sqlalchemy import select

from squash_api.record.definitions import DefinitionRow, append_definitions
from squash_api.record.jobs import (
    JobEvent,
    add_measurement,
    added_measurements,
    bury_jobs,
    current_revision,
    events_between,
    get_job,
    job_ids,
    job_ids_in_time,
    jobs_between,
    jobs_by_id,
    last_job_id,
    last_job_received_ns,
    mark_deliverable,
    number_of_jobs,
)
from squash_api.record.record import Record
from squash_api.record.tables import job
from tests.support.builders import store_job


@pytest.fixture
def five(record: Record) -> Record:
    """Five jobs of 10 bytes at the times 10, 20 and so on; the third is deleted."""
    for number in range(1, 6):
        store_job(record, asked_ns=10 * number, body=b"x" * 10)
    bury(record, 3)
    return record


def bury(record: Record, job_id: int) -> None:
    record.write(lambda connection: bury_jobs(connection, [job_id], user_id=2, deleted_ns=99))


def between(
    record: Record, after: int, through: int, *, size: int = 99, limit: int = 9
) -> list[int]:
    with record.read() as connection:
        rows = jobs_between(connection, after=after, through=through, max_bytes=size, limit=limit)
    return [row.job_id for row in rows]


def by_id(record: Record, *wanted: int, size: int = 99) -> list[int]:
    with record.read() as connection:
        return [row.job_id for row in jobs_by_id(connection, wanted, max_bytes=size)]


def test_the_revision_is_that_of_the_newest_definition(record: Record) -> None:
    row = DefinitionRow(kind="metric", name="p.a", document={}, origin="api", created_ns=0)
    with record.read() as connection:
        assert current_revision(connection) == 0
    record.write(lambda connection: append_definitions(connection, [row, row]))
    with record.read() as connection:
        assert current_revision(connection) == 2


def test_an_unknown_job_is_none(record: Record) -> None:
    with record.read() as connection:
        assert get_job(connection, 1) is None
        assert last_job_id(connection) == 0


def test_the_last_job_counts_even_if_it_is_deleted(five: Record) -> None:
    bury(five, 5)
    with five.read() as connection:
        assert last_job_id(connection) == 5


# Several jobs


@pytest.mark.parametrize(
    ("after", "through", "found"),
    [(0, 5, [1, 2, 3, 4, 5]), (1, 4, [2, 3, 4]), (4, 9, [5]), (5, 9, []), (2, 2, [])],
)
def test_jobs_between_two_ids_come_in_order_deleted_ones_too(
    five: Record, after: int, through: int, found: list[int]
) -> None:
    assert between(five, after, through) == found


def test_no_more_jobs_come_than_asked_for(five: Record) -> None:
    assert between(five, 0, 5, limit=2) == [1, 2]


def test_no_more_bytes_come_than_asked_for(five: Record) -> None:
    assert between(five, 0, 5, size=20) == [1, 2, 3]
    assert by_id(five, 1, 4, 5, size=20) == [1, 4]


def test_one_job_comes_however_large_it_is(five: Record) -> None:
    assert between(five, 0, 5, size=1) == [1]
    assert by_id(five, 5, size=1) == [5]


@pytest.mark.parametrize("wanted", [(5, 1), (1, 99, 5), (5, 5, 1)])
def test_jobs_of_given_ids_come_in_order_and_once(five: Record, wanted: tuple[int, ...]) -> None:
    assert by_id(five, *wanted) == [1, 5]


def test_jobs_of_neighbouring_ids_come_without_any_other(five: Record) -> None:
    assert by_id(five, 1, 2, 4) == [1, 2, 4]


def test_no_ids_are_no_jobs(five: Record) -> None:
    assert by_id(five) == []


def test_ids_of_jobs_come_in_pages_without_deleted_ones(five: Record) -> None:
    with five.read() as connection:
        assert job_ids(connection, after=0, limit=3) == [1, 2, 4]
        assert job_ids(connection, after=4, limit=3) == [5]


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [
        (None, None, [1, 2, 4, 5]),
        (20, 40, [2, 4]),
        (21, None, [4, 5]),
        (None, 19, [1]),
        (30, 30, []),
    ],
)
def test_jobs_are_found_by_time_ends_included(
    five: Record, since: int | None, until: int | None, found: list[int]
) -> None:
    with five.read() as connection:
        assert job_ids_in_time(connection, since_ns=since, until_ns=until) == found


# Deleting


def test_a_deleted_job_leaves_its_tombstone_alone(record: Record) -> None:
    store_job(record, body=b"secret", identifiers_digest=b"2" * 16, asked_ns=7)
    bury(record, 1)
    with record.read() as connection:
        row = connection.execute(select(job)).one()
    assert (row.body, row.digest, row.identifiers_digest, row.size) == (None, None, None, 0)
    assert (row.deleted_ns, row.deleted_by, row.time_ns, row.user_id) == (99, 2, 7, 1)


def test_what_was_added_goes_with_a_deleted_job(record: Record) -> None:
    store_job(record)
    add(record, 1, "p.a")
    bury(record, 1)
    with record.read() as connection:
        assert added_measurements(connection, [1]) == {}


# Added measurements


def add(record: Record, job_id: int, metric: str) -> None:
    record.write(
        lambda connection: add_measurement(
            connection, job_id=job_id, document={"metric": metric}, user_id=1, created_ns=0
        )
    )


def test_added_measurements_come_by_job_in_order_of_arrival(five: Record) -> None:
    for job_id, name in ((2, "p.b"), (1, "p.z"), (2, "p.a"), (4, "p.c")):
        add(five, job_id, name)
    with five.read() as connection:
        assert added_measurements(connection, [1, 2, 5]) == {
            1: [{"metric": "p.z", "added_id": 2}],
            2: [{"metric": "p.b", "added_id": 1}, {"metric": "p.a", "added_id": 3}],
        }


def test_text_of_an_added_measurement_comes_back_as_it_was(record: Record) -> None:
    store_job(record)
    add(record, 1, "p.Ω\x00")
    with record.read() as connection:
        (added,) = added_measurements(connection, [1])[1]
    assert added["metric"] == "p.Ω\x00"


def test_a_job_can_become_deliverable(record: Record) -> None:
    store_job(record, is_deliverable=False)
    record.write(lambda connection: mark_deliverable(connection, 1))
    with record.read() as connection:
        row = get_job(connection, 1)
    assert row is not None
    assert row.is_deliverable


@pytest.fixture
def stored(record: Record) -> Record:
    for _ in range(5):
        store_job(record)
    return record


def events(record: Record, *, after: int = 0, through: int = 5, limit: int = 9) -> list[int]:
    with record.read() as connection:
        found = events_between(connection, after=after, through=through, limit=limit)
    return [item.job_id for item in found]


def test_jobs_between_two_ids_are_events(stored: Record) -> None:
    assert events(stored, after=1, through=4) == [2, 3, 4]


def test_the_newest_come_of_more_events_than_wanted(stored: Record) -> None:
    assert events(stored, limit=2) == [4, 5]


def test_a_deleted_job_is_no_event(stored: Record) -> None:
    stored.write(lambda connection: bury_jobs(connection, [3], user_id=1, deleted_ns=1))
    assert events(stored) == [1, 2, 4, 5]


def test_a_job_whose_run_is_not_derived_measures_nothing_yet(stored: Record) -> None:
    with stored.read() as connection:
        assert events_between(connection, after=4, through=5, limit=1) == [JobEvent(5, 0)]


def test_an_empty_record_has_no_jobs(record: Record) -> None:
    with record.read() as connection:
        assert (number_of_jobs(connection), last_job_received_ns(connection)) == (0, None)


def test_the_last_job_is_the_one_stored_last(record: Record) -> None:
    store_job(record, received_ns=9)
    store_job(record, received_ns=5)
    with record.read() as connection:
        assert (number_of_jobs(connection), last_job_received_ns(connection)) == (2, 5)


def test_deleted_jobs_do_not_count(record: Record) -> None:
    store_job(record, received_ns=5)
    last = store_job(record, received_ns=9)
    record.write(lambda connection: bury_jobs(connection, [last], user_id=1, deleted_ns=10))
    with record.read() as connection:
        assert (number_of_jobs(connection), last_job_received_ns(connection)) == (1, 5)
