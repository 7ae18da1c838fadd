"""At every limit of every specification, Kapacitor says what `GET /job/<id>/report` says."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from squash_api.judging.alert_plan import watched_metrics
from squash_api.metrics_packages.loading import MetricsPackage
from tests.support.alerting import Alerting, alerting
from tests.support.boundaries import (
    SCHEMA,
    Job,
    jobs_of_all,
    made_package,
    metas_of,
    worst_of,
)
from tests.support.metrics_packages import ROOT, shared
from tests.support.site import wait_for

# What Kapacitor does with points does not depend on where the record is.
pytestmark = pytest.mark.sqlite

Raised = dict[tuple[str, str], tuple[str, list[str]]]
"""By group and branch: the level, and the specifications listed."""

_LISTED = re.compile(r", must be .* \((\S+)\)")
_MORE = re.compile(r"and (\d+) more")


@dataclass(frozen=True)
class Proof:
    """What the reports say of all jobs, and what Kapacitor does."""

    reported: Raised
    alerted: Raised
    package: MetricsPackage
    tasks: list[dict[str, Any]]
    kapacitord_problems: list[str]
    statuses: set[str]


@pytest.fixture(scope="module", params=["own", "made", "sample"])
def proof(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proof]:
    folder: Path = tmp_path_factory.mktemp("alerts")
    if request.param == "made":
        made_package(folder / "made")
        directories = [folder / "made"]
    elif request.param == "own":
        directories = sorted((ROOT / "specs").iterdir())
    else:
        directories = [shared("verify_metrics_sample")]
    with alerting(folder, directories, persist=False) as servers:
        yield prove(servers)


def prove(servers: Alerting) -> Proof:
    """Dispatch all jobs, each as a group of its own, and gather what is said."""
    branches = branches_of(servers.package)
    statuses: set[str] = set()
    reported: Raised = {}
    jobs = [*jobs_of_all(servers.package), *worst_jobs(servers.package)]
    for number, job in enumerate(jobs):
        reply = dispatch(servers, job, group=f"g{number}")
        report = servers.site.get(f"/job/{reply['id']}/report")
        statuses |= {verdict["status"] for verdict in report}
        failed = [(v["specification"], v["level"]) for v in report if v["status"] == "failed"]
        reported |= {
            (f"g{number}", branch): found for branch, found in worst_of(failed, branches).items()
        }
    servers.site.wait_until_idle()
    wait_for(lambda: len(alerted(servers)) >= len(reported), timeout_s=30)
    return Proof(
        reported=reported,
        alerted=alerted(servers),
        package=servers.package,
        tasks=servers.kapacitord.tasks(),
        kapacitord_problems=servers.kapacitord.problems(),
        statuses=statuses,
    )


def dispatch(servers: Alerting, job: Job, *, group: str) -> dict[str, Any]:
    """Send a job over HTTP; what is absent goes as NaN."""
    units = {name: metric.unit for name, metric in servers.package.metrics.items()}
    measurements = [
        {"metric": name, "value": "NaN" if value is None else value, "unit": units.get(name, "")}
        for name, value in {**job.values, f"{next(iter(job.values))}_other": 1.0}.items()
    ]
    meta = {**job.meta, "tract": group, "camera_name": group}
    body = json.dumps({"measurements": measurements, "blobs": [], "meta": meta})
    reply = servers.site.calls(
        "POST",
        "/job",
        content=body.replace('"NaN"', "NaN"),
        headers={"Content-Type": "application/json"},
    )
    assert reply.status_code == 202, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def worst_jobs(package: MetricsPackage) -> list[Job]:
    """Return jobs that raise every branch; when their alerts are there, so are all before them."""
    queries = {
        json.dumps(item.metadata_query): item.metadata_query
        for item in package.specifications.values()
    }
    found = []
    far = (1e300, -1e300)
    for query in queries.values():
        metrics = {
            item.metric: next((value for value in far if not item.criterion.holds(value)), far[0])
            for item in package.specifications.values()
            if item.metadata_query == query
        }
        found.append(Job("worst", metas_of(query)[0], {**metrics}))
    return found


def branches_of(package: MetricsPackage) -> dict[str, str]:
    """Return the beginning of the alert's id by specification."""
    return {
        limit.name: f"{item.metric.name}/{branch.key}"
        for item in watched_metrics(package.specifications.values(), package.metrics, SCHEMA)
        for branch in item.branches
        for limit in branch.limits
    }


def alerted(servers: Alerting) -> Raised:
    """Return what Kapacitor says, of alerts on metrics."""
    found: Raised = {}
    for identity, state in servers.kapacitord.events().items():
        metric, _, rest = identity.partition("/")
        key, _, group = rest.partition("/")
        if metric not in servers.package.metrics:
            continue
        tags = dict(pair.split("=", 1) for pair in group.split(","))
        labels = [f"{metric}.{label}" for label in _LISTED.findall(state["message"])]
        more = _MORE.search(state["message"])
        labels += ["more"] * int(more[1] if more else 0)
        found[tags.get("tract") or tags["camera_name"], f"{metric}/{key}"] = (
            state["level"],
            labels,
        )
    return found


def test_every_task_is_executing(proof: Proof) -> None:
    metrics = {item.metric for item in proof.package.specifications.values()}
    assert {task["id"] for task in proof.tasks} >= metrics
    assert [task for task in proof.tasks if not task["executing"] or task["error"]] == []


def test_every_alert_is_in_a_report_and_every_violation_is_alerted(proof: Proof) -> None:
    assert {key: level for key, (level, _) in proof.alerted.items()} == {
        key: level for key, (level, _) in proof.reported.items()
    }


def test_a_message_lists_the_violations_of_its_level(proof: Proof) -> None:
    for key, (_, names) in proof.reported.items():
        listed = proof.alerted[key][1]
        assert listed[:3] == names[:3]
        assert len(listed) == len(names)


def test_every_specification_was_violated_once(proof: Proof) -> None:
    raised = {branch for _, branch in proof.alerted}
    assert raised == set(branches_of(proof.package).values())


def test_jobs_were_judged_in_every_way(proof: Proof) -> None:
    assert proof.statuses == {"passed", "failed", "not measured"}


def test_kapacitor_met_no_error(proof: Proof) -> None:
    assert proof.kapacitord_problems == []
