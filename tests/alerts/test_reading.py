"""What is known of alerts that the engine has opened: why, since when, and what changed before."""

from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest

from tests.support.calls import Calls, log_in
from tests.support.in_process import HOST, service
from tests.support.metrics_packages import write_metrics_package
from tests.support.site import job_document, wait_for

pytestmark = pytest.mark.sqlite

METRIC = "validate.PA1"
SPECS = """
name: PA1.minimum
threshold: {value: 8, unit: mmag, operator: "<="}
tags: [minimum]
alert: {per: [detector]}
"""
DETECTORS, BROKEN = 5, 3


def post_run(calls: Calls, number: int, values: list[float]) -> list[int]:
    """Post a job for each detector of a run; the second run has another afw than the first."""
    ids = []
    for detector, value in enumerate(values):
        document = job_document(
            {METRIC: value}, unit="mmag", detector=detector, plot="https://plots.example/psf.png"
        )
        document["meta"]["env"] = {
            "env_name": "ci",
            "ci_name": "nightly",
            "ci_id": f"{number}",
        }
        url = "https://github.com/lsst/afw.git"
        afw = {"name": "afw", "git_sha": f"{number:040x}", "git_url": url}
        document["meta"]["packages"] = {"afw": afw}
        reply = calls("POST", "/job", document)
        assert reply.status_code == 202, reply.text
        ids.append(reply.json()["id"])
    return ids


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    folder = tmp_path_factory.mktemp("site")
    package = write_metrics_package(folder, specs=SPECS)
    with service(folder, specs=(package,), url=HOST) as client:
        yield log_in(client, "ada")


@pytest.fixture(scope="module")
def jobs(calls: Calls) -> tuple[list[int], list[int]]:
    """The jobs of a good run, and of one in which three of five detectors are bad."""
    good = post_run(calls, 1, [5.0] * DETECTORS)
    bad = post_run(calls, 2, [9.0] * BROKEN + [5.0] * (DETECTORS - BROKEN))
    wait_for(lambda: len(calls("GET", "/alerts").json()["alerts"]) == BROKEN)
    return good, bad


@pytest.fixture(scope="module")
def first(calls: Calls, jobs: tuple[list[int], list[int]]) -> dict[str, Any]:
    """All that is known of the alert of the first detector."""
    assert jobs
    (found,) = calls("GET", "/alerts?tag=detector=0").json()["alerts"]
    body: dict[str, Any] = calls("GET", f"/alert/{found['id']}").json()
    return body


def test_it_says_why_it_opened(first: dict[str, Any], jobs: tuple[list[int], list[int]]) -> None:
    good, bad = jobs
    assert (first["value"], first["broken"][0]["margin"]) == (9.0, -0.125)
    assert first["opened_by_job"] == f"{HOST}/job/{bad[0]}"
    runs = [(run["run_id"], run["value"], run["state"]) for run in first["runs"]]
    assert runs == [("1", 5.0, "passed"), ("2", 9.0, "CRITICAL")]
    assert first["last_good"]["job"] == f"{HOST}/job/{good[0]}"


def test_it_says_what_changed_in_the_code(first: dict[str, Any]) -> None:
    (afw,) = first["changes"]["packages"]
    assert (afw["name"], first["changes"]["since_run"]) == ("afw", "1")
    assert afw["compare"].startswith("https://github.com/lsst/afw/compare/")
    assert [item["url"] for item in first["artifacts"]] == ["https://plots.example/psf.png"]


def test_it_names_the_others(first: dict[str, Any]) -> None:
    found = {item["tags"]["detector"] for item in first["others"]}
    assert found == {"1", "2"}
    assert first["to_silence"] == {"metric": METRIC, "tags": {"detector": "0"}}


def test_the_page_counts_what_is_broken_among_what_was_measured(
    calls: Calls, first: dict[str, Any]
) -> None:
    html = {"Accept": "text/html"}
    for address in ("/alerts", f"/alerts?group={first['group']}", f"/alert/{first['id']}"):
        page = unescape(calls("GET", address, headers=html).text)
        assert "PA1: 3 of 5 detectors" in page, address
    assert "3 open" in page


def test_metric_run_and_job_lead_to_their_alerts(
    calls: Calls, first: dict[str, Any], jobs: tuple[list[int], list[int]]
) -> None:
    link = f'href="/alert/{first["id"]}"'
    for address in (f"/metric/{METRIC}", "/runs/nightly/2", f"/job/{jobs[1][0]}"):
        page = calls("GET", address, headers={"Accept": "text/html"}).text
        assert link in page, address
    assert link not in calls("GET", f"/job/{jobs[0][0]}", headers={"Accept": "text/html"}).text


def test_a_value_that_meets_the_limit_resolves_it_and_the_history_tells_all(
    calls: Calls, first: dict[str, Any]
) -> None:
    address = f"/alert/{first['id']}"
    seen = {"severity": "CRITICAL", "note": "I look"}
    assert calls("POST", f"{address}/ack", seen).status_code == 200
    post_run(calls, 3, [5.0])
    wait_for(lambda: calls("GET", address).json()["state"] == "resolved")
    found = calls("GET", address).json()
    kinds = [item["kind"] for item in found["history"] if item["kind"] != "complete"]
    assert kinds == ["opened", "acknowledged", "resolved"]
    assert [item["user"] for item in found["history"] if item["kind"] == "acknowledged"] == ["ada"]
    assert (found["severity"], found["worst"]) == (None, "CRITICAL")
