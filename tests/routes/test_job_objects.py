from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.accounts.accounts import Account
from squash_api.errors import NotFoundError
from squash_api.index.jobs import post_measurement
from squash_api.index.reader import Reader
from squash_api.ingest.document import Job, decode_job
from squash_api.record.metrics import Metrics
from squash_api.record.record import Record
from squash_api.routes.jobs import find_blob, measurement_objects
from squash_api.routes.measurements import list_measurements
from squash_api.routes.replies import date_text
from squash_api.site import Site
from tests.support.builders import (
    add_test_user,
    make_body,
    make_settings,
    measured,
    store_job,
)

ADA = Account(1, "ada", "user", 1)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(make_settings(tmp_path), is_made=True) as site:
        add_test_user(site.record)
        yield site


@pytest.fixture
def record(site: Site) -> Record:
    return site.record


@pytest.fixture
def reader(site: Site) -> Reader:
    return site.reader


@pytest.fixture
def metrics(reader: Reader) -> Metrics:
    return reader.metrics


def new_job(record: Record, *measurements: dict[str, Any], **changes: Any) -> int:
    units = {item["metric"]: item["unit"] for item in measurements}
    return store_job(record, body=make_body(*measurements), new_units=units, **changes)


def test_a_page_of_measurements_ends_where_it_is_full(record: Record, reader: Reader) -> None:
    for number in range(3):
        new_job(record, measured("p.a"), measured("p.b"), asked_ns=number)
    reader.metrics.refresh()
    cursor: tuple[int, int] | None = (0, 0)
    pages = []
    while cursor is not None:
        found, cursor = list_measurements(reader, after=cursor, limit=4)
        pages.append([(item["job"], item["metric"]) for item in found])
    assert pages == [[(1, "p.a"), (1, "p.b"), (2, "p.a"), (2, "p.b")], [(3, "p.a"), (3, "p.b")]]


def test_added_measurements_are_listed_with_their_job(record: Record, reader: Reader) -> None:
    job = new_job(record, measured("p.a"))
    new_job(record, measured("p.z"), asked_ns=2)
    post_measurement(record, reader.metrics, job_id=job, document=measured("p.b"), account=ADA)
    found, _ = list_measurements(reader, after=(0, 0), limit=10)
    assert [item["metric"] for item in found] == ["p.a", "p.b", "p.z"]


@pytest.mark.parametrize("identifier", [[1], {"a": 1}, 3, None, True])
def test_blobs_of_odd_identifiers_harm_no_measurement(metrics: Metrics, identifier: Any) -> None:
    item = measured() | {"blob_refs": [identifier, "b"]}
    blobs = [{"identifier": identifier, "name": "odd"}, {"identifier": "b", "name": "B"}]
    job = decode_job(make_body(item, blobs=blobs))
    (shown,) = measurement_objects(1, job, metrics=metrics)
    assert shown["blobs"] == [{"identifier": "b", "name": "B", "s3_uri": None}]


def test_the_first_blob_of_an_identifier_is_found() -> None:
    job = Job(blobs=[{"identifier": "b", "name": "1"}, {"identifier": "b", "name": "2"}])
    assert find_blob(job, "b")["name"] == "1"
    with pytest.raises(NotFoundError):
        find_blob(job, "c")


def test_dates_are_whole_seconds_in_utc() -> None:
    assert date_text(1_532_975_152_999_999_999) == "2018-07-30T18:25:52Z"
    assert date_text(0) == "1970-01-01T00:00:00Z"
