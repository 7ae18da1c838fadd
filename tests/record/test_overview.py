from squash_api.record.jobs import bury_job, last_job_received_ns, number_of_jobs
from squash_api.record.record import Record
from tests.support.builders import store_job


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
    record.write(lambda connection: bury_job(connection, job_id=last, user_id=1, deleted_ns=10))
    with record.read() as connection:
        assert (number_of_jobs(connection), last_job_received_ns(connection)) == (1, 5)
