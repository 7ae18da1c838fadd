"""The state that Kapacitor holds is that of the newest values, after any history of jobs."""

import os
from collections import Counter
from pathlib import Path

import httpx
import pytest

from squash_api.judging.alerts import level_of, severity_of
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
def test_whatever_happens_the_state_is_that_of_the_newest_values(tmp_path: Path, seed: int) -> None:
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
        world.drain()
        if not fake.takes_in:
            fake.restart(starts_tasks=world.random.random() < 0.5)
            world.drain()
        if not fake.is_up:
            fake.is_up = world.random.random() < 0.5
            continue
        expected = world.expected()
        assert fake.raised() == expected, step
        changed = {
            name
            for name in before.keys() | expected.keys()
            if before.get(name) != expected.get(name)
        }
        assert fake.changes == Counter(changed), step
        fake.changes.clear()
        before = expected
    fake.is_up = True
    world.drain()
    assert fake.raised() == world.expected()
    check_standings(world, fake.raised())
    assert level_of(3) in fake.raised().values() or len(fake.told) > 20
    world.stop()
    note("histories", kapacitor="stand-in")
