"""The living alerts are those of the newest values, after any history of jobs."""

import os
from collections import Counter
from pathlib import Path
from threading import Thread

import pytest

from squash_api.alerts.raising import Raising
from squash_api.judging.alerts import level_of
from tests.support.alert_world import World
from tests.support.raised import alerts_in, bring_up_to_date, events_in, make_engine
from tests.support.reliability import note

HISTORIES = int(os.environ.get("SQUASH_TEST_HISTORIES", "2"))
JOBS = 50


def living(world: World) -> dict[str, str]:
    """Return the living alerts by the ids that Kapacitor has for them, with their levels."""
    branches = {
        (item.metric.name, branch.key): branch for item in world.watched for branch in item.branches
    }
    rows = alerts_in(world.site)
    found: dict[str, str] = {}
    for row in rows:
        per = sorted(branches[row.metric, row.branch].per)
        group = ",".join(f"{name}={row.tags.get(name, '')}" for name in per)
        found[f"{row.metric}/{row.branch}/{group}"] = level_of(row.severity)
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_whatever_happens_the_alerts_are_those_that_kapacitor_raises(
    tmp_path: Path, seed: int
) -> None:
    world = World(tmp_path, seed=seed)
    engines = [make_engine(world.site, clock=lambda: world.now_ns) for _ in range(2)]
    for step in world.history(JOBS):
        if step == "the service restarts" or world.random.random() < 0.1:
            engines = [make_engine(world.site, clock=lambda: world.now_ns) for _ in range(2)]
        if world.random.random() < 0.3:
            continue
        follow(world, engines)
        assert living(world) == world.expected(), step
    follow(world, engines)
    assert living(world) == world.expected()
    # Of two that follow the same, one has stored it.
    kinds = Counter(item.kind for item in events_in(world.site))
    assert kinds["opened"] - kinds["resolved"] == len(living(world))
    assert kinds["opened"] > 10
    world.stop()
    note("histories", kapacitor="none: the alerts of the record")


def follow(world: World, engines: list[Raising]) -> None:
    """Let one of the engines bring the alerts up to date, or several at the same time."""
    first, *others = world.random.sample(engines, world.random.choice([1, 1, 2]))
    threads = [Thread(target=other.step) for other in others]
    for thread in threads:
        thread.start()
    bring_up_to_date(world.site, first)
    for thread in threads:
        thread.join()
