"""A backtest says of past jobs what the service's own reports say, before a change and after it."""

import json
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import httpx
import pytest

from tests.support.calls import log_in
from tests.support.metrics_packages import SPECS, write_metrics_package
from tests.support.service import Service
from tests.support.site import AS_JSON, job_document

# The record's part of this is tried with both engines elsewhere.
pytestmark = pytest.mark.sqlite

JOBS = 60
PROPOSED = (
    SPECS.replace("{value: 10}", "{value: 8}")
    .replace("metadata_query: {filter_name: r}", "metadata_query: {filter_name: g}")
    .replace("name: stretch", "name: goal")
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with jobs of thirty runs in two filters, one of which was deleted."""
    folder = tmp_path_factory.mktemp("service")
    write_metrics_package(folder, name="in_force", specs=SPECS)
    write_metrics_package(folder, name="proposed", specs=PROPOSED)
    with Service(folder, SQUASH_SPECS="in_force") as running:
        _fill(running)
        yield running


def _fill(service: Service) -> None:
    random = Random(7)
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        calls = log_in(client, "ada")
        for number in range(JOBS):
            values: dict[str, Any] = {"validate.AM1": random.uniform(0, 25)}
            if number % 3:
                values["validate.PA1"] = None if number % 7 == 0 else random.uniform(0, 10)
            document = job_document(
                values, unit=None, filter_name="gr"[number % 2], run_id=f"R{number // 2}"
            )
            reply = calls("POST", "/job", content=json.dumps(document), headers=AS_JSON)
            assert reply.status_code == 202, reply.text
        assert calls("DELETE", f"/job/{JOBS}").is_success


def _backtest(service: Service, *arguments: str) -> Any:
    reply = service.run("specs", "backtest", "proposed", "--json", *arguments)
    assert reply.returncode == 0, reply.stderr
    return json.loads(reply.stdout)


def _reported(service: Service, count: int) -> dict[str, set[str]]:
    """Return the runs that each specification of today flags, by the service's reports."""
    found: dict[str, set[str]] = {}
    for job_id in range(1, count + 1):
        verdicts = httpx.get(
            f"{service.url}/job/{job_id}/report",
            params={"specs": "now"},
            trust_env=False,
            timeout=60,
        ).json()
        for verdict in verdicts:
            if verdict["status"] == "failed":
                run_id = f"R{(job_id - 1) // 2}"
                found.setdefault(verdict["specification"], set()).add(run_id)
    return found


def test_both_sets_flag_what_the_reports_say(service: Service) -> None:
    document = _backtest(service)
    before = _reported(service, JOBS - 1)
    service.stop()
    service.environment["SQUASH_SPECS"] = "proposed"
    service.start()
    try:
        after = _reported(service, JOBS - 1)
    finally:
        service.stop()
        service.environment["SQUASH_SPECS"] = "in_force"
        service.start()
    rows = document["specifications"]
    assert {row["name"]: row["old_flagged"] for row in rows if row["old_flagged"]} == {
        name: len(runs) for name, runs in before.items()
    }
    assert {row["name"]: row["new_flagged"] for row in rows if row["new_flagged"]} == {
        name: len(runs) for name, runs in after.items()
    }
    assert len(before) >= 4
    assert document["jobs"] == JOBS - 1


def test_differences_are_counted_once_each(service: Service) -> None:
    document = _backtest(service)
    kept = Counter(item["specification"] for item in document["differences"])
    assert kept == document["differing"]
    changes = {row["name"]: row["change"] for row in document["specifications"]}
    assert changes == {
        "validate.AM1.design": "changed",
        "validate.AM1.goal": "new",
        "validate.AM1.minimum": "same",
        "validate.AM1.stretch": "removed",
        "validate.PA1.design_r": "changed",
    }


def test_a_set_beside_itself_differs_in_nothing(service: Service) -> None:
    document = _backtest(service, "--old", "proposed")
    assert document["differences"] == []
    assert document["messages"]["old"] == document["messages"]["new"]
    assert document["messages"]["new"]["changes"]


def test_markdown_goes_to_a_file_without_a_progress_bar(service: Service) -> None:
    reply = service.run("specs", "backtest", "proposed", "--markdown")
    assert reply.stdout.startswith("### Backtest\n")
    assert reply.stderr == ""
