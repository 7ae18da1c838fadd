"""Every job that is accepted has every page, in every form."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from squash_api.app import create_app
from tests.support.builders import make_settings
from tests.support.calls import Calls, log_in
from tests.support.in_process import serving
from tests.support.json_documents import jobs
from tests.support.site import wait_for

JSON = {"Content-Type": "application/json"}

FAST = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def shared_calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    settings = make_settings(tmp_path_factory.mktemp("service"), influx_url="http://influx")
    # What it refuses, and how the service then goes on, is tested with a real one.
    influx = httpx.MockTransport(lambda _: httpx.Response(204))
    with serving(create_app(settings, influx_transport=influx)) as client:
        calls = log_in(client, "ada")
        declared = {"metrics": [{"name": "p.a", "unit": "mag", "description": "d"}]}
        limit = {"value": 1, "unit": "mmag", "operator": "<"}
        limits = {"specs": [{"name": "p.a.s", "threshold": limit, "tags": ["minimum"]}]}
        assert calls("POST", "/metrics", declared).status_code == 201
        assert calls("POST", "/specs", limits).status_code == 201
        yield calls


def post(calls: Calls, document: Any) -> Any:
    return calls("POST", "/job", content=json.dumps(document).encode(), headers=JSON)


HTML = "text/html"


def ways_to_read(calls: Calls, job: int) -> Iterator[tuple[str, str]]:
    """Yield every path that shows an accepted job or its values, with each form it has."""
    found = calls("GET", f"/job/{job}").json()
    for path in (
        f"/job/{job}",
        f"/job/{job}/report",
        f"/job/{job}?specs=now",
        "/",
        "/runs",
        "/report",
        "/search?q=a",
        *(f"/job/{job}?blob={number}" for number in range(3)),
        *(
            f"/metric/{quote(item['metric'], safe='')}"
            for item in found["measurements"]
            if "skipped" not in item and item["metric"]
        ),
    ):
        yield path, HTML
    for path in (
        f"/job/{job}",
        f"/status/{job}",
        f"/job/{job}/report",
        f"/job/{job}/report?specs=now",
        f"/job/{job}/blobs",
        f"/measurement/{job}",
        "/stats",
        "/datasets",
        "/packages",
        "/standings",
        "/runs",
        "/search?q=a",
        f"/measurements?after={job}.0",
        *(f"/measurements?format={name}" for name in ("csv", "json", "parquet")),
        *(f"/report?format={name}" for name in ("json", "html", "md", "xml")),
        "/prometheus",
    ):
        yield path, "application/json"
    for blob in calls("GET", f"/job/{job}/blobs").json()["blobs"]:
        if blob["url"] and blob["identifier"]:
            yield "/job/" + blob["url"].partition("/job/")[2], "application/json"
    for run in calls("GET", "/runs").json()["runs"]:
        if run["run_id"] is not None and run["pipeline"] is not None:
            path = f"/runs/{quote(run['pipeline'], safe='')}/{quote(run['run_id'], safe='')}"
            yield path, HTML
            yield path, "application/json"


@given(document=jobs)
@FAST
def test_an_accepted_job_can_be_read_in_every_way(
    shared_calls: Calls, document: dict[str, Any]
) -> None:
    reply = post(shared_calls, document)
    if reply.status_code == 422:
        return
    job = reply.json()["id"]
    wait_for(lambda: shared_calls("GET", f"/status/{job}").json()["status"] == "SUCCESS")
    for path, accept in ways_to_read(shared_calls, job):
        found = shared_calls("GET", path, headers={"Accept": accept})
        assert found.status_code == 200, (path, accept, found.text[:300])


@pytest.mark.parametrize("identifier", [[], {}, ["a"], {"a": 1}, 1, 1.5, None, True, "", "\ud800"])
def test_a_blob_may_have_any_identifier(shared_calls: Calls, identifier: Any) -> None:
    job = post(shared_calls, {"blobs": [{"identifier": identifier, "name": "b"}]}).json()["id"]
    for path in (f"/job/{job}", f"/job/{job}?blob=0"):
        assert shared_calls("GET", path, headers={"Accept": HTML}).status_code == 200
