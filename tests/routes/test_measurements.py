import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from squash_api.accounts.accounts import Account
from squash_api.app import create_app
from squash_api.errors import NotFoundError
from squash_api.index.jobs import post_measurement
from squash_api.index.reader import Reader
from squash_api.ingest.document import Job, decode_job
from squash_api.judging.wording import date_text
from squash_api.record.jobs import JobRow
from squash_api.record.metrics import Metrics
from squash_api.record.record import Record
from squash_api.routes.blobs import find_blob
from squash_api.routes.jobs import measurement_objects
from squash_api.routes.measurements import list_measurements
from squash_api.site import Site
from squash_api.verify import units
from tests.support.builders import add_test_user, make_body, make_settings, measured, store_job
from tests.support.calls import Calls, follow, log_in
from tests.support.in_process import service, serving


def new_job(calls: Calls, *measurements: dict[str, Any]) -> int:
    reply = calls("POST", "/job", {"measurements": list(measurements)})
    assert reply.status_code == 202, reply.text
    job: int = reply.json()["id"]
    return job


def in_mag(metric: str, value: Any, unit: Any = "mag", **more: Any) -> dict[str, Any]:
    return {"metric": metric, "value": value, "unit": unit, **more}


def of_job(calls: Calls, job: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = calls("GET", f"/measurement/{job}").json()["measurements"]
    return found


def test_a_measurement_has_the_keys_of_old_and_says_whose_it_is(shared_calls: Calls) -> None:
    job = new_job(shared_calls, in_mag("p.a", 1, identifier="i1"))
    assert of_job(shared_calls, job) == [
        {"metric": "p.a", "value": 1.0, "unit": "mag", "identifier": "i1", "job": job, "blobs": []}
    ]


def test_an_absent_value_is_null_in_the_metrics_unit(shared_calls: Calls) -> None:
    job = new_job(shared_calls, in_mag("p.a", 1))
    job = new_job(shared_calls, in_mag("p.a", None, None))
    (shown,) = of_job(shared_calls, job)
    assert (shown["value"], shown["unit"]) == (None, "mag")


def test_a_skipped_value_is_shown_as_posted_with_the_reason(shared_calls: Calls) -> None:
    job = new_job(shared_calls, in_mag("s.a", "seven", "furlong"))
    (shown,) = of_job(shared_calls, job)
    assert (shown["value"], shown["unit"]) == ("seven", "furlong")
    assert shown["skipped"] == "the value is text, not a number"


def test_an_added_measurement_is_201_and_there(shared_calls: Calls) -> None:
    job = new_job(shared_calls, in_mag("p.a", 1))
    reply = shared_calls("POST", f"/measurement/{job}", in_mag("p.b", 2, "m", identifier="i"))
    expected = in_mag("p.b", 2.0, "m", identifier="i", job=job, blobs=[])
    assert (reply.status_code, reply.json()) == (201, expected)
    assert of_job(shared_calls, job)[1] == expected
    assert shared_calls("GET", f"/job/{job}").json()["measurements"][1] == expected


def test_an_added_measurement_replaces_the_one_of_its_metric(shared_calls: Calls) -> None:
    job = new_job(shared_calls, in_mag("p.a", 1))
    shared_calls("POST", f"/measurement/{job}", in_mag("p.a", 2500, "mmag"))
    assert [(item["value"], item["unit"]) for item in of_job(shared_calls, job)] == [(2.5, "mag")]


@pytest.mark.parametrize("value", [None, 0, -1.5, 2**70])
def test_numbers_and_null_are_accepted(shared_calls: Calls, value: Any) -> None:
    job = new_job(shared_calls)
    reply = shared_calls("POST", f"/measurement/{job}", in_mag("n.a", value, None))
    assert reply.status_code == 201
    assert of_job(shared_calls, job)[0]["value"] == (None if value is None else float(value))


@pytest.mark.parametrize(
    ("document", "key"),
    [
        (in_mag("p.a", "1"), "value"),
        (in_mag("p.a", value=True), "value"),
        (in_mag("p.a", [1]), "value"),
        (in_mag("p.a", 1, 3), "unit"),
        (in_mag("p.a", 1, identifier=3), "identifier"),
        (in_mag("p.a", 1, identifier=[{}]), "identifier"),
        ({"metric": None, "value": 1, "unit": "m"}, "metric"),
        ({"metric": 3, "value": 1, "unit": "m"}, "metric"),
    ],
)
def test_wrong_types_are_422_and_named(
    shared_calls: Calls, document: dict[str, Any], key: str
) -> None:
    job = new_job(shared_calls)
    reply = shared_calls("POST", f"/measurement/{job}", document)
    assert (reply.status_code, reply.json()["detail"][0]["loc"]) == (422, ["body", key])
    assert of_job(shared_calls, job) == []


@pytest.mark.parametrize(
    ("metric", "unit"),
    [("p.a", "m"), ("p.a", "no unit"), ("nodot", "m"), ("p.run_id", "m"), ("a\0.b", "m")],
)
def test_what_a_job_would_have_skipped_is_422(shared_calls: Calls, metric: str, unit: str) -> None:
    job = new_job(shared_calls, in_mag("p.a", 1))
    reply = shared_calls("POST", f"/measurement/{job}", in_mag(metric, 1, unit))
    assert (reply.status_code, reply.json()["detail"][0]["type"]) == (422, "skipped")
    assert len(of_job(shared_calls, job)) == 1


def test_the_first_value_gives_a_metric_its_unit(shared_calls: Calls) -> None:
    job = new_job(shared_calls)
    shared_calls("POST", f"/measurement/{job}", in_mag("first.a", 1, "mag"))
    assert shared_calls("POST", f"/measurement/{job}", in_mag("first.a", 1, "m")).status_code == 422
    posted = new_job(shared_calls, in_mag("first.a", 1000, "mmag"))
    assert of_job(shared_calls, posted)[0]["value"] == 1.0


def test_adding_to_an_unknown_or_deleted_job_is_404(shared_calls: Calls) -> None:
    job = new_job(shared_calls)
    shared_calls("DELETE", f"/job/{job}")
    for number in (job, 10**9):
        reply = shared_calls("POST", f"/measurement/{number}", in_mag("p.a", 1))
        assert reply.status_code == 404


def test_adding_needs_a_token(shared_calls: Calls) -> None:
    reply = shared_calls.client.post("/measurement/1", json=in_mag("p.a", 1))
    assert reply.status_code == 401


def test_the_list_has_the_measurements_of_all_jobs_but_deleted_ones(calls: Calls) -> None:
    jobs = [new_job(calls, in_mag("p.a", n), in_mag("p.b", n)) for n in range(4)]
    calls("DELETE", f"/job/{jobs[1]}")
    body = calls("GET", "/measurements").json()
    assert [(item["job"], item["metric"]) for item in body["measurements"]] == [
        (job, metric) for job in (jobs[0], jobs[2], jobs[3]) for metric in ("p.a", "p.b")
    ]


def test_a_page_may_begin_inside_a_deleted_job(calls: Calls) -> None:
    jobs = [new_job(calls, in_mag("p.a", n), in_mag("p.b", n)) for n in range(2)]
    link = calls("GET", "/measurements?limit=1").json()["next"]
    calls("DELETE", f"/job/{jobs[0]}")
    found = calls("GET", link.removeprefix("http://127.0.0.1:8000")).json()["measurements"]
    assert [(item["job"], item["metric"]) for item in found] == [(jobs[1], "p.a")]


# Finding measurements


def found(calls: Calls, query: str) -> list[dict[str, Any]]:
    pages = follow(calls, f"/measurements?{query}", "measurements")
    return [item for page in pages for item in page]


def test_what_is_found_has_the_keys_of_a_list_and_what_the_job_said(calls: Calls) -> None:
    document = {
        "measurements": [in_mag("p.a", 0.1, "mag")],
        "meta": {
            "filter_name": "r",
            "airmass": 1.25,
            "env": {"ci_id": "904", "date": "2026-01-01"},
        },
    }
    assert calls("POST", "/job", document).status_code == 202
    assert found(calls, "metric=p.a&fields=meta.airmass") == [
        {
            "metric": "p.a",
            "value": 0.1,
            "unit": "mag",
            "job": 1,
            "time": "2026-01-01T00:00:00.000000000Z",
            "time_ns": 1767225600000000000,
            "run_id": "904",
            "run_url": None,
            "version_tag": None,
            "tags": {"filter": "r"},
            "fields": {"meta.airmass": 1.25},
        }
    ]


def test_a_job_is_found_as_soon_as_it_is_accepted(calls: Calls) -> None:
    for number in range(3):
        new_job(calls, in_mag("p.a", number))
        assert [item["value"] for item in found(calls, "metric=p.a")][-1] == number


def test_pages_of_what_is_found_go_to_the_end(calls: Calls) -> None:
    for number in range(3):
        new_job(calls, in_mag("p.a", number), in_mag("p.b", number))
    pages = follow(calls, "/measurements?package=p&limit=4", "measurements")
    assert [[item["value"] for item in page] for page in pages] == [[0, 0, 1, 1], [2, 2]]


def test_values_come_in_the_unit_that_is_asked_for(calls: Calls) -> None:
    new_job(calls, in_mag("p.a", 1500.0, "mmag"))
    assert found(calls, "metric=p.a&unit=mag")[0]["value"] == 1.5


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("metrc=p.a", "metrc"),
        ("metric=p.z", "metric"),
        ("package=z", "package"),
        ("metric=p.a&unit=m", "unit"),
        ("metric=p.a&unit=furlong", "unit"),
        ("format=xml", "format"),
        ("metric=p.a&limit=1001", "limit"),
        ("metric=%00", "metric"),
    ],
)
def test_what_cannot_be_answered_is_422_and_named(calls: Calls, query: str, name: str) -> None:
    new_job(calls, in_mag("p.a", 1))
    reply = calls("GET", f"/measurements?{query}")
    assert (reply.status_code, reply.json()["detail"][0]["loc"]) == (422, ["query", name])


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("since=9999-12-31", 0),
        ("until=0001-01-01", 0),
        ("since=0001-01-01&until=9999-12-31", 1),
        ("after=9223372036854775807.9223372036854775807&format=json", 0),
        ("after=0.0&format=json", 1),
        ("job=999999999999999999&job=99999999999999999999", 0),
        ("filter=%00&filter=" + "x" * 3000, 0),
        ("&".join(f"run={number}" for number in range(3000)), 0),
        ("&".join(f"filter={number}" for number in range(3000)), 0),
        ("meta.a=1..2..3&meta.b=..&meta.c=1e999..", 0),
        ("fields=" + ",".join(f"meta.k{number}" for number in range(3000)), 1),
    ],
)
def test_odd_questions_are_answered(calls: Calls, query: str, count: int) -> None:
    new_job(calls, in_mag("p.a", 1))
    reply = calls("GET", f"/measurements?{query}")
    assert (reply.status_code, len(reply.json()["measurements"])) == (200, count)


def test_a_table_comes_as_a_file(calls: Calls) -> None:
    new_job(calls, in_mag("p.a", 0.1))
    reply = calls("GET", "/measurements?format=csv")
    assert reply.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert reply.headers["Content-Disposition"] == 'attachment; filename="measurements.csv"'
    head, row = reply.text.splitlines()
    assert head.startswith("time,job,metric,value,unit,run_id,")
    assert row.split(",")[1:5] == ["1", "p.a", "0.1", "mag"]


def test_parquet_comes_as_a_file(calls: Calls) -> None:
    new_job(calls, in_mag("p.a", 0.1))
    reply = calls("GET", "/measurements?format=parquet")
    assert reply.headers["Content-Type"] == "application/vnd.apache.parquet"
    assert (reply.content[:4], reply.content[-4:]) == (b"PAR1", b"PAR1")


def test_without_pyarrow_parquet_is_501(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    reply = calls("GET", "/measurements?format=parquet")
    assert (reply.status_code, reply.json()["code"]) == (501, "not_available")


def test_few_points_come_at_once(calls: Calls) -> None:
    for number in range(6):
        new_job(calls, in_mag("p.a", number))
    body = calls("GET", "/measurements?metric=p.a&points=2").json()
    assert [item["value"] for item in body["measurements"]] == [0, 5]
    assert body["next"] is None


def test_the_list_of_runs_counts_a_measurement_as_soon_as_it_is_added(shared_calls: Calls) -> None:
    document = {"measurements": [measured("p.a", 1)], "meta": {"env": {"ci_id": "counted"}}}
    job = shared_calls("POST", "/job", document).json()["id"]

    def count() -> int:
        (run,) = (
            run
            for run in shared_calls("GET", "/runs?limit=100").json()["runs"]
            if run["run_id"] == "counted"
        )
        found: int = run["measurements"]
        return found

    assert count() == 1
    for _ in range(2):
        shared_calls("POST", f"/measurement/{job}", measured("p.b", 2, "m"))
        assert count() == 2


def test_an_added_measurement_is_found_before_anything_runs_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(make_settings(tmp_path))
    monkeypatch.setattr(app.state.site.deriver, "rederive_some", lambda: False)
    with serving(app) as client:
        calls = log_in(client, "ada")
        job = new_job(calls, in_mag("p.a", None))
        assert calls("GET", "/measurements?package=p").json()["measurements"] == []
        assert calls("POST", f"/measurement/{job}", in_mag("p.b", 2)).status_code == 201
        (found,) = calls("GET", "/measurements?package=p").json()["measurements"]
        assert (found["metric"], found["value"]) == ("p.b", 2)


def test_a_value_that_is_withdrawn_is_absent_at_once(shared_calls: Calls) -> None:
    job = new_job(shared_calls, measured("w.a", 1), measured("w.b", 1))
    query = "/measurements?metric=w.a&absent=true"
    assert [item["value"] for item in shared_calls("GET", query).json()["measurements"]] == [1.0]
    shared_calls("POST", f"/measurement/{job}", measured("w.a", None, None))
    assert [item["value"] for item in shared_calls("GET", query).json()["measurements"]] == [None]


def test_a_wrong_unit_is_compared_with_the_metrics_asked_for_alone(calls: Calls) -> None:
    metrics = [
        {"name": f"many.m{number}", "unit": f"{number + 2} mag", "description": ""}
        for number in range(20)
    ]
    assert calls("POST", "/metrics", {"metrics": metrics}).status_code == 201
    with patch.object(units, "_parse", wraps=units._parse) as parses:
        reply = calls("GET", "/measurements?unit=furlong&metric=many.m1")
    assert reply.status_code == 422
    assert parses.call_count <= 2


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


def store(record: Record, *measurements: dict[str, Any], **changes: Any) -> int:
    units = {item["metric"]: item["unit"] for item in measurements}
    return store_job(record, body=make_body(*measurements), new_units=units, **changes)


def test_a_page_of_measurements_ends_where_it_is_full(record: Record, reader: Reader) -> None:
    for number in range(3):
        store(record, measured("p.a"), measured("p.b"), asked_ns=number)
    reader.metrics.refresh()
    cursor: tuple[int, int] | None = (0, 0)
    pages = []
    while cursor is not None:
        found, cursor = list_measurements(reader, after=cursor, limit=4)
        pages.append([(item["job"], item["metric"]) for item in found])
    assert pages == [[(1, "p.a"), (1, "p.b"), (2, "p.a"), (2, "p.b")], [(3, "p.a"), (3, "p.b")]]


def test_added_measurements_are_listed_with_their_job(record: Record, reader: Reader) -> None:
    job = store(record, measured("p.a"))
    store(record, measured("p.z"), asked_ns=2)
    post_measurement(record, reader.metrics, job_id=job, document=measured("p.b"), account=ADA)
    found, _ = list_measurements(reader, after=(0, 0), limit=10)
    assert [item["metric"] for item in found] == ["p.a", "p.b", "p.z"]


@pytest.mark.parametrize("identifier", [[1], {"a": 1}, 3, None, True])
def test_blobs_of_odd_identifiers_harm_no_measurement(metrics: Metrics, identifier: Any) -> None:
    item = measured() | {"blob_refs": [identifier, "b"]}
    blobs = [{"identifier": identifier, "name": "odd"}, {"identifier": "b", "name": "B"}]
    job = decode_job(make_body(item, blobs=blobs))
    row = JobRow(1, 1, 0, 0, 0, is_deliverable=True, body=b"", deleted_ns=None)
    (shown,) = measurement_objects(row, job, metrics=metrics)
    assert shown["blobs"] == [{"identifier": "b", "name": "B", "s3_uri": None}]


def test_the_first_blob_of_an_identifier_is_found() -> None:
    job = Job(blobs=[{"identifier": "b", "name": "1"}, {"identifier": "b", "name": "2"}])
    assert find_blob(job, "b")["name"] == "1"
    with pytest.raises(NotFoundError):
        find_blob(job, "c")


def test_dates_are_whole_seconds_in_utc() -> None:
    assert date_text(1_532_975_152_999_999_999) == "2018-07-30T18:25:52Z"
    assert date_text(0) == "1970-01-01T00:00:00Z"


PLACE = ("spectrograph", "ccd", "fiber")


@pytest.mark.sqlite
def test_a_fiber_is_a_series_with_limits_filters_and_a_standing_of_its_own(tmp_path: Path) -> None:
    with service(tmp_path, tags=PLACE) as client:
        calls = log_in(client, "ada")
        calls("POST", "/metric/q.snr", {"description": "Of a fiber.", "unit": ""})
        limit = {"threshold": {"value": 7, "unit": "", "operator": ">="}, "tags": ["minimum"]}
        calls("POST", "/spec/q.snr.minimum", {**limit, "metadata_query": {"ccd": "b1"}})
        for fiber, value in ((17, 2.5), (18, 9.0)):
            place = {"spectrograph": 1, "ccd": "b1", "fiber": fiber}
            measurements = [{"metric": "q.snr", "value": value, "unit": ""}]
            calls("POST", "/job", {"measurements": measurements, "meta": place})
        found = calls("GET", "/measurements?metric=q.snr&fiber=17").json()
        assert [row["value"] for row in found["measurements"]] == [2.5]
        (standing,) = calls("GET", "/standings").json()["standings"]
        assert {(row["tags"]["fiber"], row["state"]) for row in standing["series"]} == {
            ("17", "CRITICAL"),
            ("18", "passed"),
        }
        page = calls("GET", "/metric/q.snr", headers={"Accept": "text/html"}).text
        assert {"fiber 17", "fiber 18"} <= set(re.findall(r"fiber 1\d", page))
