import pytest

from squash_api.errors import NotFoundError
from squash_api.ingest.document import measured_of
from squash_api.ingest.stored_job import MAX_ID, document_of, find_job, load_job
from squash_api.record.jobs import add_measurement, bury_jobs
from squash_api.record.record import Record
from tests.support.builders import make_body, measured, store_job


@pytest.fixture
def record(record: Record) -> Record:
    """A record with the job 1, and the job 2, which is deleted."""
    store_job(record, body=make_body(measured(), visit=5))
    store_job(record, asked_ns=5)
    record.write(lambda connection: bury_jobs(connection, [2], user_id=1, deleted_ns=9))
    return record


def test_a_job_is_read_back(record: Record) -> None:
    with record.read() as connection:
        row, job = load_job(connection, 1)
    assert row.job_id == 1
    assert (job.measurements, job.meta) == ([measured_of(measured())], {"visit": 5})


def test_what_was_added_to_a_job_comes_last(record: Record) -> None:
    added = measured("p.b", 2.0)
    record.write(
        lambda connection: add_measurement(
            connection, job_id=1, document=added, user_id=1, created_ns=0
        )
    )
    with record.read() as connection:
        row, job = load_job(connection, 1)
    assert job.measurements == [measured_of(measured()), measured_of(added)]
    assert document_of(row, []).measurements == [measured_of(measured())]


@pytest.mark.parametrize("job_id", [2, 3, 0, -1, MAX_ID, MAX_ID + 1, 10**30])
def test_a_job_that_is_not_there_is_not_found(record: Record, job_id: int) -> None:
    with record.read() as connection:
        for find in (find_job, load_job):
            with pytest.raises(NotFoundError):
                find(connection, job_id)
