"""The state that Kapacitor holds is that of the record, after any history of jobs."""

import os
from collections import Counter
from pathlib import Path

import httpx
import pytest

from squash_api.generate.kapacitor.verdicts import is_verdict_id
from squash_api.judging.alerts import severity_of
from squash_api.schema.names import SERIES_TAGS
from tests.support.alert_world import World
from tests.support.reliability import note
from tests.support.told_kapacitor import ToldKapacitor

HISTORIES = int(os.environ.get("SQUASH_TEST_HISTORIES", "5"))
JOBS = 50


def make_world(folder: Path, seed: int) -> tuple[World, ToldKapacitor]:
    fake = ToldKapacitor({}, now_ns=0)
    world = World(folder, transport=httpx.MockTransport(fake), seed=seed)
    fake.now_ns = world.now_ns
    fake.load(world.files())
    return world, fake


def split(raised: dict[str, str]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return the alerts of single series by id, and the metrics and levels of the groups."""
    alone = {name: level for name, level in raised.items() if not is_verdict_id(name)}
    groups = [
        (name.partition("/")[0], level) for name, level in raised.items() if is_verdict_id(name)
    ]
    return alone, sorted(groups)


def check_standings(world: World, raised: dict[str, str]) -> None:
    """Compare the worst level of each series with what the standings say."""
    for (metric, tags), severity in world.severities().items():
        values = dict(tags)
        if "detector" in values:
            # It is told with others.
            continue
        group = ",".join(f"{name}={values.get(name, '')}" for name in sorted(SERIES_TAGS))
        levels = [
            level
            for alert, level in raised.items()
            if alert.startswith(f"{metric}/") and alert.endswith(f"/{group}")
        ]
        assert max(map(severity_of, levels), default=0) == severity, (metric, group)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_whatever_happens_the_state_is_that_of_the_record(tmp_path: Path, seed: int) -> None:
    """Of series alone that of the newest values, of groups that of their living alerts."""
    world, fake = make_world(tmp_path, seed)
    before: dict[str, str] = {}
    world.drain()
    for step in world.history(JOBS):
        # Some things happen together, before the outlet has its turn; Kapacitor may be away.
        chance = world.random.random()
        if chance < 0.03:
            fake.restart(starts_tasks=world.random.random() < 0.5)
        elif chance < 0.06:
            # What it has taken is lost.
            fake.takes_in = False
        elif chance < 0.1:
            fake.is_up = False
        if world.random.random() < 0.3:
            continue
        if world.random.random() < 0.6:
            world.raise_alerts()
        world.drain()
        if not fake.takes_in:
            fake.restart(starts_tasks=world.random.random() < 0.5)
            world.drain()
        if not fake.is_up:
            fake.is_up = world.random.random() < 0.5
            continue
        alone, groups = split(fake.raised())
        expected = world.expected(are_alone=True)
        assert alone == expected, step
        assert groups == world.raised_groups(), step
        changed = {
            name
            for name in before.keys() | expected.keys()
            if before.get(name) != expected.get(name)
        }
        changes = {name: n for name, n in fake.changes.items() if not is_verdict_id(name)}
        assert changes == Counter(changed), step
        fake.changes.clear()
        before = expected
    fake.is_up = True
    if not fake.takes_in:
        fake.restart()
    world.raise_alerts()
    world.drain()
    alone, groups = split(fake.raised())
    assert alone == world.expected(are_alone=True)
    assert groups == world.raised_groups()
    assert groups or len(fake.told) > 20
    check_standings(world, alone)
    world.stop()
    note("histories", kapacitor="stand-in")
