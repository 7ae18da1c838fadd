"""A backtest's messages are those that real Kapacitor sends for the same jobs."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from squash_api.influx.points import job_to_points
from squash_api.judging.alert_history import WELL, AlertHistory, PastJob
from squash_api.judging.alert_plan import watched_metrics
from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.schema.names import Schema
from tests.support.alerting import LONG_AGO, Bench, alert_bench, bench_files
from tests.support.metrics_packages import write_metrics_package
from tests.support.site import wait_for
from tests.support.slack import Told

# What Kapacitor does with points does not depend on where the record is.
pytestmark = pytest.mark.sqlite

JOBS = 300
SCHEMA = Schema()
METRICS = """
three: {description: Three levels., unit: s}
split: {description: Two branches., unit: s}
quiet: {description: One of two is muted., unit: s}
young: {description: Only news., unit: s}
above: {description: The other way round., unit: s}
"""
SPECS = """
---
name: three.minimum
threshold: {operator: "<=", unit: s, value: 9}
tags: [minimum]
---
name: three.design
threshold: {operator: "<=", unit: ms, value: 6000}
tags: [design]
---
name: three.stretch
threshold: {operator: "<", unit: s, value: 3}
tags: [stretch]
---
name: split.r
threshold: {operator: "<", unit: s, value: 5}
metadata_query: {filter_name: r}
---
name: split.all
threshold: {operator: "<", unit: s, value: 8}
alert: {channel: "#night", per: [dataset], level: critical}
---
name: quiet.minimum
threshold: {operator: "<", unit: s, value: 5}
tags: [minimum]
alert: {mute: {until: 2999-12-31, why: known}}
---
name: quiet.design
threshold: {operator: "<", unit: s, value: 7}
tags: [design]
---
name: young.limit
threshold: {operator: "<", unit: s, value: 5}
alert: {max_age: 1h}
---
name: above.limit
threshold: {operator: ">=", unit: s, value: 5}
metadata_query: {visit: 7}
"""
NAMES = ("three", "split", "quiet", "young", "above")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("history")
    files = bench_files(folder, metrics=METRICS, specs=SPECS)
    with alert_bench(folder, files) as running:
        yield running


def _jobs() -> Iterator[PastJob]:
    """Yield jobs of few series, some old, some without some values; the last breaks all limits.

    They are in order of time: what comes late is not told at all.
    """
    random = Random(11)
    ages = sorted((random.choice([0, 0, 0, 7000, 700_000]) for _ in range(JOBS)), reverse=True)
    for number, age_s in enumerate(ages, start=1):
        meta: dict[str, Any] = {
            "dataset": random.choice("ab"),
            "filter_name": random.choice("rg"),
            "visit": random.choice([7, 8]),
        }
        values = {
            f"validate.{name}": float(random.randint(0, 10))
            for name in NAMES
            if random.random() < 0.8
        }
        if number == JOBS:
            meta = {"dataset": "last", "filter_name": "r", "visit": 7, "tract": 1}
            values = {f"validate.{name}": 99.0 for name in NAMES} | {"validate.above": 0.0}
        now_ns = time.time_ns()
        yield PastJob(number, now_ns, now_ns - age_s * 10**9, SCHEMA.context(meta), values)


def _send(bench: Bench, job: PastJob) -> None:
    points = job_to_points(
        job_id=job.job_id,
        squash_url=f"https://squash.example/job/{job.job_id}",
        time_ns=job.time_ns,
        values=job.values,
        context=job.context,
        code_changes=None,
    )
    bench.kapacitord.write(point.line for point in points)


def _read(told: Told) -> tuple[str, str, str, int]:
    """Return channel, level, metric and job of a message."""
    heading = re.match(r"\S+ \*(\w+)\* (\w+)", told.text)
    job = re.search(r"/job/(\d+)", told.text)
    assert heading, told.text
    assert job, told.text
    # The word for what is broken still, and muted: for Kapacitor all is well again.
    level = WELL if heading[1] == "MUTED" else heading[1]
    return told.channel, level, heading[2], int(job[1])


def test_kapacitor_sends_what_the_history_says(bench: Bench, tmp_path: Path) -> None:
    directory = write_metrics_package(tmp_path, metrics=METRICS, specs=SPECS)
    package = load_metrics_package(directory, today=LONG_AGO)
    history = AlertHistory(
        watched_metrics(package.specifications.values(), package.metrics, SCHEMA)
    )
    expected: Counter[tuple[str, str, str, int]] = Counter()
    for job in _jobs():
        _send(bench, job)
        for judged, change in history.play(job):
            if change is not None:
                metric = judged.metric.partition(".")[2]
                expected[change.channel or "#squash", change.level, metric, job.job_id] += 1
    last = {key for key in expected if key[3] == JOBS}
    assert len(last) == len(NAMES) + 1
    wait_for(lambda: last <= {_read(told) for told in bench.slack.told})
    assert Counter(map(_read, bench.slack.told)) == expected
    assert len(expected) > 150
    assert {key[1] for key in expected} == {WELL, "INFO", "WARNING", "CRITICAL"}
    assert {key[2] for key in expected} == set(NAMES)
