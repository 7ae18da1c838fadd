"""The verdicts on a dispatched job are those that lsst.verify itself gives."""

import json
from typing import Any

import pytest

from tests.integration.conftest import MakeSite
from tests.support.metrics_packages import shared
from tests.support.site import AS_JSON, Site

SAMPLE = "verify_metrics_sample"


@pytest.fixture(scope="module")
def site(make_site: MakeSite) -> Site:
    return make_site(SQUASH_SPECS=str(shared(SAMPLE)))


@pytest.fixture(scope="module")
def report(site: Site) -> list[dict[str, Any]]:
    body = shared("jobs/ldf.payload.json").read_bytes()
    reply = site.calls("POST", "/job", content=body, headers=AS_JSON)
    assert reply.status_code == 202, reply.text
    verdicts: list[dict[str, Any]] = site.get(f"/job/{reply.json()['id']}/report")
    return verdicts


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    """What lsst.verify says, of those specifications that the sample has."""
    sample = json.loads(shared(f"{SAMPLE}.resolved.json").read_text())
    names = {entry["name"] for entry in sample}
    report: dict[str, str] = json.loads(shared("jobs/ldf.report.json").read_text())
    return {name: status for name, status in report.items() if name in names}


def test_all_verdicts_of_lsst_verify_are_there_and_equal(
    report: list[dict[str, Any]], expected: dict[str, str]
) -> None:
    found = {verdict["specification"]: verdict["status"] for verdict in report}
    assert len(expected) >= 20
    assert {name: found.get(name) for name in expected} == expected


def test_a_report_is_ordered_by_specification(report: list[dict[str, Any]]) -> None:
    names = [verdict["specification"] for verdict in report]
    assert names == sorted(names)


def test_a_verdict_has_the_keys_of_the_contract(report: list[dict[str, Any]]) -> None:
    names = {"specification", "status", "metric", "level", "margin"}
    numbers = {"value", "unit", "operator", "threshold"}
    assert all(names | numbers <= set(verdict) for verdict in report)
