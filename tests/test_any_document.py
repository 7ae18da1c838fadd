"""Whatever is posted as a job: it is refused whole, in the one form, or nothing of it is lost."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bodies import LIMIT, Sent, assert_refusal, bodies
from tests.support.calls import Calls, log_in
from tests.support.fake_influxdb import KeepingInfluxDB
from tests.support.fuzzing import counted, examples
from tests.support.in_process import HOST, service
from tests.support.json_documents import jobs
from tests.support.records import in_record
from tests.support.site import wait_for

# A failing document may have some kilobytes.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

JSON = {"Content-Type": "application/json"}
AS_PAGE = {"Accept": "text/html"}
SKIPPED = "skipped"
# Both answer the same; only the first has the short way past the web framework.
WAYS = ("/job", "/job/")
OF_A_JOB = (
    "/job/{}",
    "/job/{}/report",
    "/job/{}/report?specs=now",
    "/measurement/{}",
    "/measurements?job={}",
    "/measurements?job={}&format=csv&fields=meta.visit",
    "/status/{}",
)
OF_ALL_JOBS = (
    *("/", "/stats", "/jobs?limit=1000", "/datasets", "/packages", "/runs", "/standings"),
    *("/report", "/report?format=md", "/report?format=xml", "/search?q=p", "/measurements"),
    *("/metrics", "/users", "/badge/p.svg", "/readyz", "/prometheus"),
)
PAGES = ("/", "/runs", "/specs", "/report", "/search?q=p")


class Posted:
    """A service that delivers to an InfluxDB, and what it has accepted."""

    def __init__(
        self, calls: Calls, influxdb: KeepingInfluxDB, folder: Path, counts: Counter[int]
    ) -> None:
        self.calls = calls
        self.influxdb = influxdb
        self._folder = folder
        self._counts = counts
        self._accepted: set[int] = set()

    def post(self, content: bytes, query: str = "", *, way: str = WAYS[0], **headers: str) -> Any:
        """Post a body; check that a refusal leaves nothing, and that a job is readable."""
        before = self._rows()
        reply = self.calls("POST", f"{way}{query}", content=content, headers={**JSON, **headers})
        self._counts[reply.status_code] += 1
        if reply.is_success:
            assert (self._rows()["job"] > before["job"]) == (reply.status_code == 202)
            self._read(reply.json())
        else:
            assert self._rows() == before
            assert_refusal(reply.status_code, reply.json())
        return reply

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Read something that must be there."""
        reply = self.calls("GET", path, headers=headers)
        self._counts[reply.status_code] += 1
        assert reply.status_code == 200, (path, reply.text)
        return reply

    def _rows(self) -> dict[str, int]:
        """Count the rows of the tables that posting a job adds to."""
        tables = ("job", "metric", "definition", "user_account", "quarantine")
        return {
            table: in_record(self._folder, f"SELECT count(*) FROM {table}")[0][0]
            for table in tables
        }

    def _read(self, told: Mapping[str, Any]) -> None:
        """Read an accepted job in every form."""
        job = told["id"]
        self._accepted.add(job)
        for path in OF_A_JOB:
            self.get(path.format(job))
        self.get(f"/job/{job}", **AS_PAGE)
        for blob in self.get(f"/job/{job}/blobs?limit=1000").json()["blobs"]:
            if blob["url"] is not None:
                found = self.get(urlsplit(blob["url"])._replace(scheme="", netloc="").geturl())
                assert found.json()["identifier"] == blob["identifier"]
        values = self.get(f"/measurements?job={job}").json()["measurements"]
        assert {item["metric"]: item["value"] for item in values} == self._kept(job)

    def _kept(self, job: int) -> dict[str, float]:
        return {item["metric"]: item["value"] for item in kept(self, job)}

    def check_all(self) -> None:
        """Check that all is delivered that was accepted, and that what shows it can be read."""
        wait_for(lambda: not self._target()["waiting"])
        assert self._target()["quarantined"] == 0
        for job in self._accepted:
            assert self.get(f"/status/{job}").json()["status"] == "SUCCESS"
            time_ns = self.get(f"/job/{job}").json()["time_ns"]
            fields, values = self.influxdb.values(time_ns), self._kept(job)
            assert {name: fields.get(name) for name in values} == values, job
        self._accepted.clear()
        for path in OF_ALL_JOBS:
            self.get(path)
        standings = self.get("/standings?limit=50").json()["standings"]
        for path in (*PAGES, *(f"/metric/{quote(item['metric'], safe='')}" for item in standings)):
            self.get(path, **AS_PAGE)

    def _target(self) -> dict[str, Any]:
        (state,) = self.get("/readyz").json()["targets"].values()
        assert state["status"] == "ok", state
        return dict(state)


@pytest.fixture(scope="module")
def posted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Posted]:
    folder = tmp_path_factory.mktemp("service")
    influxdb = KeepingInfluxDB()
    with (
        service(
            folder,
            influx_transport=httpx.MockTransport(influxdb),
            influx_url="http://influx.invalid",
            url=HOST,
            max_body_bytes=LIMIT,
        ) as client,
        counted("bodies of jobs") as counts,
    ):
        yield Posted(log_in(client, "ada"), influxdb, folder, counts)


def test_any_body_is_accepted_or_refused_whole(posted: Posted) -> None:
    @given(sent=bodies, way=st.sampled_from(WAYS))
    @examples(200)
    def check(sent: Sent, way: str) -> None:
        posted.post(sent.content, sent.query, way=way, **sent.headers)

    check()
    posted.check_all()


def kept(posted: Posted, job: int) -> list[dict[str, Any]]:
    """Return the measurements of a job whose values are kept."""
    shown = posted.get(f"/measurement/{job}").json()["measurements"]
    return [item for item in shown if item["value"] is not None and SKIPPED not in item]


def test_every_measurement_of_an_accepted_job_is_kept_absent_or_skipped(posted: Posted) -> None:
    @given(document=jobs)
    @examples(60)
    def check(document: dict[str, Any]) -> None:
        reply = posted.post(json.dumps(document).encode())
        if reply.is_success:
            told = reply.json()
            left_out = len(told["absent"]) + len(told["skipped"])
            measured = len(document.get("measurements", []))
            assert len(kept(posted, told["id"])) + left_out == measured

    check()
    posted.check_all()


@given(document=jobs)
@examples(60)
def test_strict_mode_refuses_exactly_what_would_be_skipped(
    posted: Posted, document: dict[str, Any]
) -> None:
    content = json.dumps(document).encode()
    strict = posted.post(content, "?strict=true")
    reply = posted.post(content)
    if not reply.is_success:
        assert strict.status_code == reply.status_code
        return
    skips = len(reply.json()["skipped"])
    assert (strict.status_code == 422) == bool(skips)
    if skips:
        assert (strict.json()["code"], len(strict.json()["detail"])) == (
            "skipped_in_strict_mode",
            skips,
        )


@pytest.mark.parametrize("depth", [249, 250, 251, 253, 400, 1023, 1024, 5000])
def test_a_deep_document_is_readable_again_or_refused(posted: Posted, depth: int) -> None:
    reply = posted.post(b'{"meta": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}")
    assert reply.status_code in {202, 422}
    if reply.status_code == 422:
        assert reply.json()["detail"][0]["type"] == "too_deep"
