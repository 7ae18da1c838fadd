"""What the watch says makes real Kapacitor tell of late values, each once, and of their coming."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.standings.watch import MINUTE_NS, Watch
from tests.support.alert_bench import alert_bench, bench_files
from tests.support.definitions import metric
from tests.support.observatory import HOUR_NS, FakeOutlet, Observatory, expecting, loaded_ago
from tests.support.site import wait_for

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
    assert told[0].count("*CRITICAL* PA1 (validate) is late") == 1
    assert "none since " in told[0]
    assert told[0].count("*") == 2


def test_one_that_is_late_by_its_tags_is_told_in_place_of_it(told: list[str]) -> None:
    late, well = told[1].split("\n\n")
    assert late.startswith("*CRITICAL* PA1 (validate) is late")
    assert ": 10.0 h late" in late
    assert "tract 17" in late
    assert "run R1, <https://squash.example/job/1|job>" in late
    assert well.startswith("*OK* PA1 (validate) is no longer late")
    assert "tract" not in well


def test_a_value_in_time_ends_it(told: list[str]) -> None:
    assert told[2].startswith("*OK* PA1 (validate) is no longer late")
    assert "tract 17" in told[2]
    assert told[2].count("*") == 2
