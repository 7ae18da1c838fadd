"""The service tells InfluxDB what is late and how metrics stand, and Kapacitor tells people."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import atan, pi
from pathlib import Path
from typing import Any

import pytest

from squash_api.standings.watch import MINUTE_NS, Watch
from tests.support.alerting import alert_bench, bench_files
from tests.support.definitions import metric
from tests.support.influxd import Influxd
from tests.support.metrics_packages import write_package
from tests.support.observatory import HOUR_NS, FakeOutlet, Observatory, expecting, loaded_ago
from tests.support.records import in_record
from tests.support.service import Service
from tests.support.site import Site, job_document, wait_for

SPECIFICATIONS = """
    name: soon
    metric: latency
    threshold: {operator: "<=", unit: s, value: 60}
    tags: [minimum]
    alert: {per: [instrument]}
    expect: {every: 24h, grace: 6h}
    """
LOADED_AGO_S = 40 * 3600
POINT = {"instrument": "HSC", "specification": "demo.latency.soon"}


@dataclass
class Story:
    """What was in InfluxDB after each start of one service, the last point of each series."""

    at_first: list[dict[str, Any]] = field(default_factory=list)
    after_a_job: list[dict[str, Any]] = field(default_factory=list)
    after_a_restart: list[dict[str, Any]] = field(default_factory=list)
    job_url: str = ""


def said_after_a_start(site: Site, last: str) -> list[dict[str, Any]]:
    """Start the service, and return all that it says of itself, once it has said the last of it.

    It says it within a second or two, and again a minute later.
    """
    site.influxd.query(f'DROP DATABASE "{site.database}"')
    site.influxd.create_database(site.database)
    site.service.start()
    wait_for(lambda: site.influxd.points(site.database, last))
    newest: dict[str, dict[str, Any]] = {}
    for name in ("squash_heartbeat", "squash_freshness", "squash_standing"):
        for point in site.influxd.points(site.database, name):
            newest[f"{name} {sorted(point['tags'].items())}"] = point
    return list(newest.values())


def age_definitions(site: Site) -> None:
    earlier = f"created_ns - {LOADED_AGO_S * 10**9}"
    in_record(site.service.folder, f"UPDATE definition SET created_ns = {earlier}")


@pytest.fixture(scope="module")
def story(influxd: Influxd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder: Path = tmp_path_factory.mktemp("service")
    database = f"site_{uuid.uuid4().hex}"
    specs = write_package(folder / "specs", {"latency.yaml": SPECIFICATIONS})
    variables = {
        "SQUASH_INFLUX_URL": influxd.url,
        "SQUASH_INFLUX_DATABASE": database,
        "SQUASH_SPECS": str(specs),
    }
    story = Story()
    with Service(folder, **variables) as service, Site(service, influxd, database) as site:
        service.stop()
        age_definitions(site)
        story.at_first = said_after_a_start(site, "squash_freshness")
        document = job_document({"demo.latency": 90.0}, unit="s", instrument="HSC", run_id="R17")
        (job_id,) = site.deliver(document)
        story.job_url = f"{service.url}/job/{job_id}"
        # It is in the index by then.
        site.get("/stats")
        service.stop()
        story.after_a_job = said_after_a_start(site, "squash_standing")
        service.stop()
        story.after_a_restart = said_after_a_start(site, "squash_standing")
        yield story


def of(points: list[dict[str, Any]], measurement: str, **tags: str) -> dict[str, Any]:
    """Return the fields of the one point with exactly these tags."""
    (found,) = [
        item for item in points if item["measurement"] == measurement and item["tags"] == tags
    ]
    fields: dict[str, Any] = found["fields"]
    return fields


def test_the_heart_beats_at_whole_minutes(story: Story) -> None:
    (beat,) = [item for item in story.at_first if item["measurement"] == "squash_heartbeat"]
    assert (beat["fields"], beat["time"] % (60 * 10**9)) == ({"up": 1.0}, 0)


def test_what_never_came_is_late(story: Story) -> None:
    found = of(story.at_first, "squash_freshness", specification="demo.latency.soon")
    assert found["late_s"] == pytest.approx(10 * 3600, abs=120)
    assert found["age_s"] == pytest.approx(LOADED_AGO_S, abs=120)
    assert "squash_url" not in found


def test_a_job_makes_it_fresh(story: Story) -> None:
    whole = of(story.after_a_job, "squash_freshness", specification="demo.latency.soon")
    found = of(story.after_a_job, "squash_freshness", **POINT)
    for fields in (whole, found):
        assert fields["late_s"] == pytest.approx(-30 * 3600, abs=120)
        assert (fields["squash_url"], fields["run_id"]) == (story.job_url, "R17")


def test_a_restart_keeps_the_clock(story: Story) -> None:
    before = of(story.after_a_job, "squash_freshness", **POINT)
    after = of(story.after_a_restart, "squash_freshness", **POINT)
    assert after["since"] == before["since"]
    assert after["age_s"] > before["age_s"]


def test_what_is_broken_stands_so_after_a_restart_too(story: Story) -> None:
    tags = {"instrument": "HSC", "metric": "demo.latency"}
    found = of(story.after_a_job, "squash_standing", **tags)
    assert found == {
        "value": 90.0,
        "margin": -0.5,
        "limit": "demo.latency.soon",
        "severity": 3.0,
        "broken": "demo.latency.soon",
        "state": "CRITICAL",
        "rank": pytest.approx(0.5 + atan(-0.5) / pi),
        "level_margin": -0.5,
        "summary": "90 s, must be ≤ 60 (soon)",
        "run_id": "R17",
        "squash_url": story.job_url,
    }
    assert of(story.after_a_restart, "squash_standing", **tags) == found


# What the watch says makes real Kapacitor tell of late values, each once, and of their coming.


METRICS = "PA1: {description: Repeatability., unit: mmag}"
SPECS = """
name: PA1.minimum
threshold: {operator: "<", unit: mmag, value: 5}
tags: [minimum]
expect: {every: 24h, grace: 6h}
alert: {per: [instrument, tract]}
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What was told at each of three steps: nothing came, a job that is late, and one in time."""
    folder: Path = tmp_path_factory.mktemp("bench")
    files = bench_files(folder / "specs", metrics=METRICS, specs=SPECS)
    site = Observatory(folder, now_ns=time.time_ns())
    site.define_metrics(metric("validate.PA1"))
    site.define(expecting("validate.PA1.minimum", alert={"per": ["instrument", "tract"]}))
    loaded_ago(site.record, 48 * HOUR_NS, now_ns=site.now_ns)
    outlet = FakeOutlet()
    watch = Watch(
        site.standings, [outlet], squash_url="https://squash.example", clock=lambda: site.now_ns
    )
    with alert_bench(folder, files) as bench:
        seen = 0

        def tell(count: int) -> str:
            """Let two minutes pass, and return so many new messages, sorted."""
            nonlocal seen
            for _ in range(2):
                site.now_ns += MINUTE_NS
                watch.step()
                bench.kapacitord.write(outlet.take("squash_freshness"))
            wait_for(lambda: len(bench.slack.told) >= seen + count)
            texts = sorted(item.text for item in bench.slack.told[seen:])
            seen += len(texts)
            return "\n\n".join(texts)

        steps = [tell(1)]
        site.job(name="validate.PA1", tract="17", ago_ns=40 * HOUR_NS, run_id="R1")
        steps.append(tell(2))
        site.job(name="validate.PA1", tract="17", run_id="R2")
        steps.append(tell(1))
        yield steps
    site.close()


def test_what_never_came_is_told_once(told: list[str]) -> None:
    assert told[0].count("🔴 *CRITICAL* PA1 (validate) is late") == 1
    assert "none since " in told[0]
    assert told[0].count("*") == 2


def test_one_that_is_late_by_its_tags_is_told_in_place_of_it(told: list[str]) -> None:
    well, late = told[1].split("\n\n")
    assert late.startswith("🔴 *CRITICAL* PA1 (validate) is late")
    assert ": 10.0 h late" in late
    assert "tract 17" in late
    assert "run R1, <https://squash.example/job/1|job>" in late
    assert well.startswith("✅ *OK* PA1 (validate) is no longer late")
    assert "tract" not in well


def test_a_value_in_time_ends_it(told: list[str]) -> None:
    assert told[2].startswith("✅ *OK* PA1 (validate) is no longer late")
    assert "tract 17" in told[2]
    assert told[2].count("*") == 2
