import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.accounts.accounts import Account
from squash_api.errors import ForbiddenError, InvalidInputError, NotFoundError
from squash_api.index.jobs import (
    date_text,
    delete_job,
    find_blob,
    list_measurements,
    measurement_objects,
    post_measurement,
)
from squash_api.ingest.document import Job, decode_job
from squash_api.record.deliveries import (
    ensure_targets,
    mark_sent,
    mark_taken,
    pending_erasures,
    pending_redeliveries,
)
from squash_api.record.jobs import get_job
from squash_api.record.metrics import Vocabulary
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from tests.support.builders import add_test_user, make_body, measured, open_record, store_job

ADA = Account(1, "ada", "user", 1)
BOB = Account(2, "bob", "user", 1)
ROOT = Account(3, "root", "admin", 1)


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = open_record(tmp_path)
    for name in ("ada", "bob", "root"):
        add_test_user(record, name)
    record.write(lambda connection: ensure_targets(connection, ["summit", "base"]))
    yield record
    record.close()


@pytest.fixture
def vocabulary(record: Record) -> Vocabulary:
    return Vocabulary(record, Schema())


def new_job(record: Record, *measurements: dict[str, Any], **changes: Any) -> int:
    units = {item["metric"]: item["unit"] for item in measurements}
    return store_job(record, body=make_body(*measurements), new_units=units, **changes)


def add(
    record: Record,
    vocabulary: Vocabulary,
    job: int,
    document: dict[str, Any],
    account: Account = ADA,
) -> dict[str, Any]:
    return post_measurement(record, vocabulary, job_id=job, document=document, account=account)


def test_a_deleted_job_leaves_who_and_when(record: Record) -> None:
    job = new_job(record, measured())
    delete_job(record, job, account=ADA)
    with record.read() as connection:
        row = get_job(connection, job)
    assert row is not None
    assert (row.body, row.user_id) == (None, 1)
    assert row.deleted_ns is not None


def test_the_points_of_a_deleted_job_are_to_be_erased_by_time_at_every_target(
    record: Record,
) -> None:
    job = new_job(record, measured("p.a"), measured("p.b"), measured("q.a"), asked_ns=77)
    delete_job(record, job, account=ADA)
    for name in ("summit", "base"):
        with record.read() as connection:
            (erasure,) = pending_erasures(connection, name, limit=10)
        assert (erasure.job_id, erasure.time_ns, erasure.measurements) == (job, 77, ("p", "q"))


def test_influxdb_is_not_asked_to_erase_what_it_cannot_hold(record: Record) -> None:
    job = store_job(record, body=make_body(measured("a\nb.c"), measured("nodot"), measured("p.a")))
    delete_job(record, job, account=ADA)
    with record.read() as connection:
        (erasure,) = pending_erasures(connection, "base", limit=10)
    assert erasure.measurements == ("p",)


def test_an_admin_may_delete_what_is_somebody_elses(record: Record) -> None:
    jobs = [new_job(record, measured(), asked_ns=n) for n in (1, 2)]
    with pytest.raises(ForbiddenError, match="Only its owner and admins may delete job 1"):
        delete_job(record, jobs[0], account=BOB)
    delete_job(record, jobs[0], account=ROOT)
    with pytest.raises(NotFoundError):
        delete_job(record, jobs[0], account=ROOT)


def test_an_added_measurement_is_sent_to_targets_that_had_the_job(
    record: Record, vocabulary: Vocabulary
) -> None:
    job = new_job(record, measured())
    record.write(lambda c: mark_taken(c, "base", after=0, through=job))
    record.write(
        lambda c: mark_sent(c, "base", through=job, redelivered=[], quarantined=[], now_ns=1)
    )
    add(record, vocabulary, job, measured("p.b"))
    with record.read() as connection:
        assert [item[0] for item in pending_redeliveries(connection, "base", limit=10)] == [job]


def test_a_refused_measurement_changes_nothing(record: Record, vocabulary: Vocabulary) -> None:
    job = new_job(record, measured("p.a", 1.0, "mag"))
    with pytest.raises(InvalidInputError, match="unit 'm' does not convert"):
        add(record, vocabulary, job, measured("p.a", 1.0, "m"))
    with pytest.raises(ForbiddenError):
        add(record, vocabulary, job, measured("p.new"), BOB)
    vocabulary.refresh()
    assert set(vocabulary.metrics) == {"p.a"}


def test_a_measurement_is_judged_by_the_record_not_by_what_is_remembered(
    record: Record, vocabulary: Vocabulary
) -> None:
    job = new_job(record)
    behind = Vocabulary(record, Schema())
    add(record, vocabulary, job, measured("p.a", 1.0, "mag"))
    assert "p.a" not in behind.metrics
    with pytest.raises(InvalidInputError, match="does not convert"):
        add(record, behind, job, measured("p.a", 1.0, "m"))


def test_of_two_first_measurements_at_once_one_gives_the_unit(
    record: Record, vocabulary: Vocabulary
) -> None:
    job = new_job(record)
    outcomes: list[str] = []
    barrier = threading.Barrier(6)

    def run(unit: str) -> None:
        barrier.wait()
        try:
            add(record, vocabulary, job, measured("p.a", 1.0, unit))
            outcomes.append(unit)
        except InvalidInputError:
            outcomes.append("")

    threads = [threading.Thread(target=run, args=[unit]) for unit in ("mag", "m") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[:3] == ["", "", ""]
    assert len(set(outcomes)) == 2


def test_a_page_of_measurements_ends_where_it_is_full(
    record: Record, vocabulary: Vocabulary
) -> None:
    for number in range(3):
        new_job(record, measured("p.a"), measured("p.b"), asked_ns=number)
    vocabulary.refresh()
    cursor: tuple[int, int] | None = (0, 0)
    pages = []
    while cursor is not None:
        found, cursor = list_measurements(record, vocabulary, after=cursor, limit=4)
        pages.append([(item["job"], item["metric"]) for item in found])
    assert pages == [[(1, "p.a"), (1, "p.b"), (2, "p.a"), (2, "p.b")], [(3, "p.a"), (3, "p.b")]]


def test_added_measurements_are_listed_with_their_job(
    record: Record, vocabulary: Vocabulary
) -> None:
    job = new_job(record, measured("p.a"))
    new_job(record, measured("p.z"), asked_ns=2)
    add(record, vocabulary, job, measured("p.b"))
    found, _ = list_measurements(record, vocabulary, after=(0, 0), limit=10)
    assert [item["metric"] for item in found] == ["p.a", "p.b", "p.z"]


@pytest.mark.parametrize("identifier", [[1], {"a": 1}, 3, None, True])
def test_blobs_of_odd_identifiers_harm_no_measurement(
    vocabulary: Vocabulary, identifier: Any
) -> None:
    item = measured() | {"blob_refs": [identifier, "b"]}
    blobs = [{"identifier": identifier, "name": "odd"}, {"identifier": "b", "name": "B"}]
    job = decode_job(make_body(item, blobs=blobs))
    (shown,) = measurement_objects(1, job, vocabulary=vocabulary)
    assert shown["blobs"] == [{"identifier": "b", "name": "B", "s3_uri": None}]


def test_the_first_blob_of_an_identifier_is_found() -> None:
    job = Job(blobs=[{"identifier": "b", "name": "1"}, {"identifier": "b", "name": "2"}])
    assert find_blob(job, "b")["name"] == "1"
    with pytest.raises(NotFoundError):
        find_blob(job, "c")


def test_dates_are_whole_seconds_in_utc() -> None:
    assert date_text(1_532_975_152_999_999_999) == "2018-07-30T18:25:52Z"
    assert date_text(0) == "1970-01-01T00:00:00Z"
