"""From the log of a service one can follow one job, and one request, to everything about them."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.metrics_packages.loading import load_metrics_package
from tests.support.alerting import generated
from tests.support.calls import Calls, log_in
from tests.support.fake_influxdb import FakeInfluxDB
from tests.support.http_server import HttpServer
from tests.support.metrics_packages import write_metrics_package
from tests.support.service import READING, Service
from tests.support.site import job_document, wait_for
from tests.support.told_kapacitor import ToldKapacitor

# What is logged does not depend on the engine.
pytestmark = pytest.mark.sqlite

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
METRICS = "PA1: {description: Repeatability., unit: mmag}"
SPECS = 'name: PA1.minimum\nthreshold: {operator: "<", unit: mmag, value: 5}\ntags: [minimum]\n'


@dataclass
class Served:
    """A service behind a proxy, with an InfluxDB, a Kapacitor and a process that reads."""

    service: Service
    calls: Calls

    def lines(self, pattern: str = "") -> list[dict[str, Any]]:
        """Return the lines of the log that have a pattern, as `grep -E` finds them."""
        found = self.service.log().splitlines()
        return [json.loads(line) for line in found if re.search(pattern, line)]

    def about(self, job: int) -> list[dict[str, Any]]:
        """Return the lines about a job, as the docs say to find them."""
        (pattern,) = re.findall(r"^grep -E '(.*)' log\.txt$", OPERATIONS.read_text(), re.MULTILINE)
        return self.lines(str(pattern).replace("17", f"{job}"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("served")
    specs = write_metrics_package(folder / "specs", metrics=METRICS, specs=SPECS)
    told = ToldKapacitor(generated(load_metrics_package(specs)), now_ns=time.time_ns())
    with (
        HttpServer(FakeInfluxDB()) as influx,
        HttpServer(told) as kapacitor,
        Service(
            folder / "service",
            SQUASH_SPECS=str(specs),
            SQUASH_INFLUX_URL=influx.url,
            SQUASH_KAPACITOR_URL=kapacitor.url,
            SQUASH_TRUSTED_PROXIES="127.0.0.1",
            SQUASH_INSTANCE="one",
            **READING,
        ) as service,
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client,
    ):
        calls = log_in(client, "ada")
        wait_for(lambda: '"a process reads"' in service.log())
        yield Served(service, calls)


def test_a_job_is_followed_from_its_request_to_the_alerts(served: Served) -> None:
    jobs = [
        served.calls("POST", "/job", job_document({"validate.PA1": value}, unit="mmag"))
        for value in (3.0, 9.0)
    ]
    job = jobs[1].json()["id"]
    served.calls("GET", f"/job/{job}/report")
    wanted = {"request", "derived", "delivered", "told for alerts"}
    wait_for(lambda: {line["event"] for line in served.about(job)} >= wanted)
    # The first of each kind: whatever reads the job has lines, too.
    lines = {line["event"]: line for line in reversed(served.about(job))}
    assert lines["request"]["request"] == jobs[1].headers["x-request-id"]
    assert (lines["request"]["user"], lines["request"]["status"]) == ("ada", 202)
    assert lines["delivered"]["target"] == "default"
    assert lines["told for alerts"]["target"] == "kapacitor"
    assert all(job in (line.get("job"), *line.get("jobs", ())) for line in lines.values())


def test_every_line_says_what_when_how_bad_and_by_which_process(served: Served) -> None:
    lines = served.lines()
    assert all(line.keys() >= {"event", "level", "timestamp", "process"} for line in lines)
    assert any(line["event"].startswith("Uvicorn running on ") for line in lines)
    assert {line.get("instance") for line in served.lines('"request"')} == {"one"}


def test_a_request_has_the_id_of_its_reply_in_the_log(served: Served) -> None:
    replies = [served.calls("GET", "/job/987654") for _ in range(2)]
    ids = [reply.headers["x-request-id"] for reply in replies]
    assert len({*ids}) == 2
    wait_for(lambda: all(served.lines(request_id) for request_id in ids))
    for request_id in ids:
        assert re.fullmatch("[0-9a-f]{16}", request_id)
        (line,) = served.lines(request_id)
        assert (line["request"], line["job"], line["status"]) == (request_id, 987654, 404)


@pytest.mark.parametrize(
    "given",
    ["0123456789abcdef", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "Root=1-678-abc:9_x"],
)
def test_a_request_keeps_the_id_that_a_proxy_has_given_it(served: Served, given: str) -> None:
    reply = served.calls("GET", "/healthz", headers={"X-Request-ID": given})
    assert reply.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "short", "a" * 101, "with space", '"quote"xx', "-dash-dash"])
def test_an_id_that_is_not_well_formed_is_replaced(served: Served, given: str) -> None:
    reply = served.calls("GET", "/healthz", headers={"X-Request-ID": given})
    assert re.fullmatch("[0-9a-f]{16}", reply.headers["x-request-id"])


def test_the_docs_name_every_field_of_every_line(served: Served) -> None:
    text = OPERATIONS.read_text(encoding="utf-8").partition("\n## Logs\n")[2].partition("\n## ")[0]
    named = {
        name
        for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    of_jobs = ("request", "derived", "delivered", "told for alerts")
    found = {key for line in served.lines() if line["event"] in of_jobs for key in line}
    assert found <= named
